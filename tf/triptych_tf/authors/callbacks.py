"""Callbacks of `fit` that transformers 4 had: pushes to the Hub while a model is trained, metrics of whole datasets."""

from __future__ import annotations

import inspect
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from triptych.errors import ArgumentError, HubError
from triptych.hub.pushing import Push, files_of, make_repo, push_files
from triptych_tf.authors.checks import expect, expect_model, expect_whole, path_of
from triptych_tf.authors.datasets import Datasets

logger = logging.getLogger("triptych")
CHECKPOINT = "checkpoint"
_PADDING = -100
"""Stands where rows of one batch are shorter than those of another; a label that losses leave out."""


class PushToHubCallback(keras.callbacks.Callback):
    """Saves the model that is trained, and pushes it to the Hub: as often as is asked for, and when training ends.

    A push runs beside the training; while one does, no other is begun. One that fails is a warning, but the last, for
    which `fit` waits, raises. Each push is one commit, with a model card that tells the losses and metrics so far.

    Args:
        output_dir: the folder to save into; its name is that of the repository by default.
        save_strategy: "epoch", "steps" (each `save_steps` batches of an epoch) or "no": at the end only.
        tokenizer: saved beside the model; has `save_pretrained`.
        hub_model_id, hub_token: the repository, made if need be, and a token that may write.
        checkpoint: with "epoch", also save what a training goes on from, and push it: `checkpoint/` has
            `training.weights.h5`, of `save_weights`, with the optimiser's state, and `epoch.json`, the last epoch. A
            compiled model goes on from there after `optimizer.build(model.trainable_variables)` and `load_weights`.
        model_card_args: arguments of `create_model_card`.

    Raises:
        ArgumentError: an argument is none of these; or the model has no `save_pretrained` of triptych. HubError: the
            repository cannot be made, or the last push failed: what was saved stays in `output_dir`.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        save_strategy: str = "epoch",
        save_steps: int | None = None,
        tokenizer: Any = None,
        hub_model_id: str | None = None,
        hub_token: str | bool | None = None,
        checkpoint: bool = False,
        **model_card_args: Any,
    ) -> None:
        super().__init__()
        save_strategy = str(getattr(save_strategy, "value", save_strategy)).lower()  # it may be an enum of transformers
        expect(save_strategy in ("epoch", "steps", "no"), "save_strategy", "'epoch', 'steps' or 'no'", save_strategy)
        if save_strategy == "steps":
            expect_whole("save_steps", save_steps, 1)
        expect(not checkpoint or save_strategy == "epoch", "checkpoint", "False, unless save_strategy is 'epoch'", True)
        expect(tokenizer is None or hasattr(tokenizer, "save_pretrained"), "tokenizer",
               "an object with `save_pretrained`", tokenizer)  # fmt: skip
        known = [*inspect.signature(Datasets.create_model_card).parameters][3:]
        if unknown := sorted(set(model_card_args) - set(known)):
            raise ArgumentError("PushToHubCallback does not know these arguments.", expected=", ".join(known),
                                received=", ".join(unknown))  # fmt: skip
        self.output_dir = path_of("output_dir", output_dir)
        self.save_strategy, self.save_steps, self.tokenizer, self.checkpoint = (
            save_strategy, save_steps, tokenizer, checkpoint)  # fmt: skip
        self.model_card_args = model_card_args
        push = Push(hub_model_id or self.output_dir.absolute().name, token=hub_token)
        self._push = replace(push, repo_id=make_repo(push))
        self.hub_model_id = self._push.repo_id
        self.training_history: dict[str, list[float]] = {}
        self.last_job: Future[Any] | None = None
        self._of_tokenizer: list[str] = []

    def set_model(self, model: Any) -> None:
        expect_model("the model that PushToHubCallback saves", model, "tf")
        super().set_model(model)

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self.training_history = {}

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self.save_strategy == "steps" and (batch + 1) % int(self.save_steps or 1) == 0 and self._is_free():
            self._begin(f"Training in progress steps {batch}")

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        for name, value in (logs or {}).items():
            self.training_history.setdefault(name, []).append(float(value))
        if self.save_strategy == "epoch" and self._is_free():
            if self.checkpoint:
                self._save_training(epoch)
            self._begin(f"Training in progress epoch {epoch}")

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        if self.last_job is not None:
            logger.info("Waiting for what is pushed to %s", self.hub_model_id)
            self._say_failure(self.last_job)
        self._begin("End of training").result()

    def _is_free(self) -> bool:
        """Return whether no push is going on."""
        if self.last_job is None or self.last_job.done():
            if self.last_job is not None:
                self._say_failure(self.last_job)
            return True
        return False

    def _say_failure(self, job: Future[Any]) -> None:
        """Wait for a push, and warn if it failed."""
        if isinstance(error := job.exception(), HubError):
            logger.warning("A push to %s failed; what it was to push is in %s. %s", self.hub_model_id,
                           self.output_dir, error)  # fmt: skip
        elif error is not None:
            raise error

    def _begin(self, message: str) -> Future[Any]:
        """Save, and begin to push what was saved."""
        self.model.save_pretrained(self.output_dir)
        self.model._write_card(self.output_dir, self.hub_model_id, self.training_history, self.model_card_args)
        if self.tokenizer is not None:
            written = self.tokenizer.save_pretrained(self.output_dir)
            self._of_tokenizer = [os.path.relpath(file, self.output_dir) for file in written or ()]
        files = files_of(self.output_dir)
        beside = [*self._of_tokenizer, *(f"{CHECKPOINT}/{name}" for name in _TRAINING)]
        files |= {name: self.output_dir / name for name in beside if (self.output_dir / name).is_file()}
        push = replace(self._push, commit_message=message)
        self.last_job = _in_a_thread(lambda: push_files(push, files, replace_card=True))
        return self.last_job

    def _save_training(self, epoch: int) -> None:
        """Save weights, the optimiser's state and the number of the epoch."""
        folder = self.output_dir / CHECKPOINT
        folder.mkdir(parents=True, exist_ok=True)
        weights, note = (folder / name for name in _TRAINING)
        self.model.save_weights(folder / f"new.{weights.name}", overwrite=True)
        os.replace(folder / f"new.{weights.name}", weights)
        note.write_text(json.dumps({"epoch": epoch}) + "\n", encoding="utf-8")


_TRAINING = ("training.weights.h5", "epoch.json")


def _in_a_thread(call: Callable[[], Any]) -> Future[Any]:
    """Return the future of `call`, made in a thread of its own that a process waits for when it ends."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="triptych-push")
    job = pool.submit(call)
    pool.shutdown(wait=False)
    return job


class KerasMetricCallback(keras.callbacks.Callback):
    """Computes metrics of the whole of a dataset after each epoch, by a function of arrays.

    What the function returns is among the `logs` of the epoch, so callbacks behind this one see it, and the history.

    Args:
        metric_fn: takes (predictions, labels) and returns a dict of numbers by name. Predictions are the outputs of the
            model but its loss, all batches of one after the other: a dict by name, or an array where there is one;
            labels likewise. Where batches differ in their second axis, rows are padded with -100.
        eval_dataset: a `tf.data.Dataset` of batches; or arrays of it, with `batch_size`.
        output_cols: which outputs the function gets.
        label_cols: which inputs are the labels; by default the second part of a batch, or else the labels among the
            inputs.
        predict_with_generate: the predictions are what `generate` writes, with `generate_kwargs`.
        use_xla_generation: compile that.

    Raises:
        ArgumentError: no batch size; no labels; the function returns no dict.
    """

    def __init__(
        self,
        metric_fn: Callable[[tuple[Any, Any]], Mapping[str, Any]],
        eval_dataset: Any,
        output_cols: Sequence[str] | None = None,
        label_cols: Sequence[str] | None = None,
        batch_size: int | None = None,
        predict_with_generate: bool = False,
        use_xla_generation: bool = False,
        generate_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        expect(callable(metric_fn), "metric_fn", "a function", metric_fn)
        if not isinstance(eval_dataset, tf.data.Dataset):
            expect_whole("batch_size", batch_size, 1)
            eval_dataset = tf.data.Dataset.from_tensor_slices(eval_dataset).batch(batch_size)
        self.metric_fn, self.eval_dataset, self.batch_size = metric_fn, eval_dataset, batch_size
        self.output_cols, self.predict_with_generate = output_cols, predict_with_generate
        self.generate_kwargs = {**(generate_kwargs or {}), **({"jit_compile": True} if use_xla_generation else {})}
        self.label_cols = label_cols
        self._labels_in(eval_dataset.element_spec)  # so that it fails now, and not after an epoch

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        predictions, labels = [], []
        for batch in self.eval_dataset:
            inputs = batch[0] if isinstance(batch, tuple) else batch
            predictions.append(self._generated(inputs) if self.predict_with_generate else self._predicted(inputs))
            labels.append(_by_name(self._labels_in(batch)))
        found = self.metric_fn((_joined(predictions), _joined(labels)))
        expect(isinstance(found, Mapping), "what metric_fn returns", "a dict of numbers by name", found)
        if logs is not None:
            logs.update(found)

    def _labels_in(self, batch: Any) -> Any:
        """Return the labels of a batch, or their specs of its spec."""
        inputs, labels = (batch[0], batch[1]) if isinstance(batch, tuple) and len(batch) > 1 else (batch, None)
        if self.label_cols is None and labels is not None:
            return labels
        named = inputs if isinstance(inputs, Mapping) else {}
        usual = (("labels",), ("start_positions", "end_positions"))
        wanted = self.label_cols or next((names for names in usual if set(names) <= set(named)), ())
        if not wanted or not set(wanted) <= set(named):
            raise ArgumentError("Which inputs are the labels?", expected="label_cols, names of inputs",
                                received=f"{self.label_cols}, of {', '.join(named) or 'no names'}")  # fmt: skip
        return {name: named[name] for name in wanted}

    def _predicted(self, inputs: Any) -> dict[Any, np.ndarray]:
        output = self.model.predict_on_batch(inputs)
        if not isinstance(output, Mapping):
            return _by_name(output)
        config = getattr(self.model, "config", None)
        left_out = {"loss", *(getattr(config, "keys_to_ignore_at_inference", None) or ())}
        wanted = self.output_cols or [name for name in output if name not in left_out]
        return _by_name({name: output[name] for name in wanted})

    def _generated(self, inputs: Any) -> dict[Any, np.ndarray]:
        if not isinstance(inputs, Mapping):
            return _by_name(self.model.generate(inputs, **self.generate_kwargs))
        name = getattr(self.model, "main_input_name", "input_ids")
        mask = {key: inputs[key] for key in ("attention_mask",) if key in inputs}
        return _by_name(self.model.generate(inputs[name], **mask, **self.generate_kwargs))


def _by_name(value: Any) -> dict[Any, np.ndarray]:
    """Return arrays by name, those of a tuple by number, an only one under None."""
    if not isinstance(value, Mapping):
        value = dict(enumerate(value)) if isinstance(value, (tuple, list)) else {None: value}
    return {name: np.asarray(one) for name, one in value.items()}


def _joined(batches: list[dict[Any, np.ndarray]]) -> Any:
    """Return all batches as one: a dict, or an array where there is one."""
    whole = {name: _stacked([batch[name] for batch in batches]) for name in batches[0]}
    return next(iter(whole.values())) if len(whole) == 1 else whole


def _stacked(parts: list[np.ndarray]) -> np.ndarray:
    if parts[0].ndim > 1:
        longest = max(part.shape[1] for part in parts)
        parts = [np.pad(part, [(0, 0), (0, longest - part.shape[1]), *[(0, 0)] * (part.ndim - 2)],
                        constant_values=_PADDING) for part in parts]  # fmt: skip
    return np.concatenate(parts)
