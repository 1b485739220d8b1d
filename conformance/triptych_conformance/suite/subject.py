"""The model under test: its classes, one random checkpoint, and what each framework makes of it, computed once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from triptych.checkpoints.saving import save_checkpoint
from triptych.config.base import PretrainedConfig
from triptych.errors import ArgumentError
from triptych.names import BACKENDS as PACKAGES
from triptych.tensors.ref import TensorRef
from triptych_conformance.gradients import gradients_of, without_dropout
from triptych_conformance.parity import BACKENDS, Backend, flat
from triptych_conformance.running import Run
from triptych_conformance.sides import object_at
from triptych_conformance.suite.base import Inputs, SubjectTests
from triptych_conformance.tracing import TRACING, Part, tracing_pt

T = TypeVar("T")


def named(reference: Any) -> Any:
    """Return the class that "module:Class" names; a class itself is returned as it is. Raises as `object_at`."""
    return object_at(reference) if isinstance(reference, str) else reference


def backends_of(tests: type[SubjectTests]) -> list[Backend]:
    """Return the frameworks that a class of tests is for, of those asked for; the first is the reference.

    Raises:
        ArgumentError: `models` is empty, or has a framework that is unknown.
    """
    if not tests.models or not tests.models.keys() <= PACKAGES.keys():
        raise ArgumentError(
            f"{tests.__name__} does not say which classes it tests.",
            expected=f"models = {{...}} by framework: {', '.join(PACKAGES)}", received=repr(dict(tests.models)),
        )  # fmt: skip
    return [backend for backend in BACKENDS if backend.name in tests.models]


class Subject:
    """One model of a class of tests, in every framework.

    What is asked of it is made on first use, and kept while the tests of the class run: tests that change a model take
    `fresh` ones.
    """

    def __init__(self, tests: type[SubjectTests], folder: Path) -> None:
        self._tests, self._folder = tests, folder
        self.backends = backends_of(tests)
        self._models: dict[str, Any] = {}
        self._runs: dict[str, tuple[dict[str, np.ndarray], list[Part]]] = {}
        self._kept: dict[tuple[str, str], Any] = {}
        self._stem = ""

    # -- what it is -----------------------------------------------------------------------------------------------

    @property
    def reference(self) -> Backend:
        """The framework that the others are compared with."""
        return self.backends[0]

    @property
    def config(self) -> PretrainedConfig:
        """A copy of the config."""
        if not isinstance(self._tests.config, PretrainedConfig):
            raise ArgumentError(f"{self._tests.__name__} has no config.", expected="config = a PretrainedConfig",
                                received=repr(self._tests.config))  # fmt: skip
        return copy.deepcopy(self._tests.config)

    @property
    def stem(self) -> str:
        """The name of the class as it is in PyTorch."""
        if not self._stem:
            kind = self.cls(self.reference)
            self._stem = kind.__name__.removeprefix(PACKAGES[self.reference.name][1])
        return self._stem

    def cls(self, backend: Backend) -> Any:
        return named(self._tests.models[backend.name])

    @property
    def inputs(self) -> Inputs:
        return self._tests().make_inputs(self.config, self.stem)

    @property
    def labelled(self) -> Inputs:
        """`inputs` with labels."""
        inputs = self.inputs
        return inputs | self._tests().make_labels(self.config, self.stem, inputs)

    @property
    def training_inputs(self) -> Inputs:
        """`labelled`, or without a loss `inputs`, where no token but the last of a text is hidden, and one is padding.

        A query that sees no key, such as one of padding with a sliding window, has no gradient to compare: see
        `triptych_conformance.gradients`.
        """
        inputs = self.inputs if "loss" in self._tests.lacks else self.labelled
        pad = getattr(self.config, "pad_token_id", None)
        if "attention_mask" in inputs:
            mask = np.ones_like(inputs["attention_mask"])
            mask[..., -1] = inputs["attention_mask"][..., -1]
            inputs["attention_mask"] = mask
        if pad is not None and "input_ids" in inputs and inputs["input_ids"].shape[-1] > 3:
            inputs["input_ids"] = inputs["input_ids"].copy()
            inputs["input_ids"][..., 3] = pad
        return inputs

    @property
    def heads(self) -> dict[int, list[int]]:
        """The heads that tests prune, by layer."""
        return self._tests().make_heads(self.config, self.stem)

    @property
    def head_masks(self) -> Inputs:
        """Arguments of a call that mask these heads."""
        return self._tests().make_head_masks(self.config, self.stem, self.heads)

    @property
    def no_gradient(self) -> Sequence[str]:
        return self._tests.no_gradient

    @property
    def prompts(self) -> Inputs:
        """What texts are written after."""
        return self._tests().make_prompts(self.config, self.stem, self.inputs)

    @property
    def mask(self) -> np.ndarray | None:
        """The attention mask with a row for each text, [B, Q]; None if the model reads none."""
        mask = self.inputs.get("attention_mask")
        return None if mask is None else mask.reshape(-1, mask.shape[-1])

    # -- its checkpoint -------------------------------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        """A checkpoint with all values random, also of biases and norms, so that none can be left out unnoticed."""
        if not (self._folder / "config.json").exists():
            model = self.new(self.reference)
            config = self.config
            config.architectures = [self.stem]
            refs = [TensorRef.of(ref.name, _random(np.array(ref.read()), number))
                    for number, ref in enumerate(model._tensor_refs())]  # fmt: skip
            save_checkpoint(self._folder, refs, config.to_json_string())
        return self._folder

    @property
    def shard_size(self) -> int:
        """The bytes of a shard of which the checkpoint takes some three."""
        return max(1, sum(file.stat().st_size for file in self.folder.glob("*.safetensors")) // 3)

    def saved(self, backend: Backend, shards: bool = False) -> Path:
        """Return a folder into which the shared model was saved, in one file or in shards: not to be changed."""
        folder = self._folder.with_name(f"{self._folder.name}-{backend.name}-{'shards' if shards else 'file'}")
        if not (folder / "config.json").exists():
            size = self.shard_size if shards else "5GB"
            self.model(backend).save_pretrained(folder, max_shard_size=size)
        return folder

    def new(self, backend: Backend) -> Any:
        """Return a new model with initial values, for inference."""
        model = self.cls(backend).from_config(self.config)
        return model.eval() if backend.name == "pt" else model

    def fresh(self, backend: Backend, folder: Path | None = None, **options: Any) -> Any:
        """Return the checkpoint loaded, or another folder, as a model that the caller may change."""
        return self.cls(backend).from_pretrained(folder or self.folder, **options)

    def model(self, backend: Backend) -> Any:
        """Return the checkpoint loaded, as one model that all tests share: not to be changed."""
        if backend.name not in self._models:
            self._models[backend.name] = self.fresh(backend)
        return self._models[backend.name]

    # -- what it computes -----------------------------------------------------------------------------------------

    def outputs(self, backend: Backend) -> dict[str, np.ndarray]:
        """Return what the shared model gives for `inputs`, with hidden states and attentions where it can."""
        return self._run(backend)[0]

    def parts(self, backend: Backend) -> list[Part]:
        """Return what each part of the shared model read and gave meanwhile."""
        return self._run(backend)[1]

    def _run(self, backend: Backend) -> tuple[dict[str, np.ndarray], list[Part]]:
        if backend.name not in self._runs:
            model = self.model(backend)
            with TRACING[backend.name](model) as trace:
                outputs = backend.run(model, self.inputs, **self.everything(backend, model))
            self._runs[backend.name] = outputs, trace.parts
        return self._runs[backend.name]

    def everything(self, backend: Backend, model: Any) -> dict[str, bool]:
        """Return the arguments that ask for all outputs which `model` can give."""
        asked = ("output_hidden_states", "output_attentions")
        return {name: True for name in asked if backend.takes(model, name)}

    def trained_outputs(self, backend: Backend) -> dict[str, np.ndarray]:
        """Return what a model gives for `inputs` while it is trained."""
        return self.once("trained", backend, lambda: _run_training(backend, self.fresh(backend), self.inputs))

    def seeded_outputs(self, backend: Backend, seed: int) -> dict[str, np.ndarray]:
        """Return what a model gives for `inputs` while it is trained with dropout that is drawn by `seed`."""
        model = self.fresh(backend)
        with model.seeded_dropout(seed, 3):
            return _run_training(backend, model, self.inputs)

    def low(self, backend: Backend, dtype: str) -> dict[str, np.ndarray]:
        """Return what the model gives for `inputs` in "bfloat16" or "float16"."""

        def compute() -> dict[str, np.ndarray]:
            model = self.fresh(backend, dtype=dtype)
            return backend.run(model, self.inputs, **self.everything(backend, model))

        return self.once(dtype, backend, compute)

    def losses(self, backend: Backend) -> dict[str, np.ndarray]:
        """Return what the shared model gives for `labelled`, losses among it."""
        return self.once("losses", backend, lambda: backend.run(self.model(backend), self.labelled))

    def gradients(self, backend: Backend, checkpointing: bool = False) -> dict[str, np.ndarray]:
        """Return the gradient of each parameter for `training_inputs` without dropout: see `gradients_of`."""
        what = "gradients of layers computed anew" if checkpointing else "gradients"
        return self.once(
            what, backend, lambda: gradients_of(backend, self.still(backend), self.training_inputs, checkpointing)
        )

    def still(self, backend: Backend) -> Any:
        """Return the checkpoint loaded without dropout, as one model that all tests share: not to be changed."""
        return self.once("still", backend, lambda: self.fresh(backend, config=without_dropout(self.config)))

    def once(self, what: str, backend: Backend, compute: Callable[[], T]) -> T:
        """Return what `compute` returned when it was first called for `what` in this framework."""
        key = what, backend.name
        if key not in self._kept:
            self._kept[key] = compute()
        kept: T = self._kept[key]
        return kept

    def weights(self, backend: Backend, model: Any = None) -> dict[str, np.ndarray]:
        """Return the weights of a model, by default of the shared one, by canonical name in canonical layout."""
        return backend.weights(self.model(backend) if model is None else model)


class Origin:
    """What the model that a subject is a port of computes, in PyTorch, from the subject's checkpoint."""

    def __init__(self, subject: Subject, reference: str) -> None:
        self._subject, self._class = subject, named(reference)
        self._model = self._class.from_pretrained(subject.folder, attn_implementation="eager").eval()

    @cached_property
    def run(self) -> Run:
        """Its outputs for `inputs`, and what each of its parts read and gave meanwhile."""
        with tracing_pt(self._model) as trace:
            outputs = self._outputs(self._model)
        return Run("origin", outputs, tuple(trace.parts))

    def _outputs(self, model: Any) -> dict[str, np.ndarray]:
        subject = self._subject
        asked = subject.everything(subject.reference, subject.model(subject.reference))
        return Backend("pt").run(model, subject.inputs, **asked)

    def loading(self, folder: Path) -> dict[str, np.ndarray]:
        """Return what it computes from `folder`, all of whose weights it takes.

        Raises:
            AssertionError: it misses weights there, or finds others.
        """
        model, info = self._class.from_pretrained(folder, attn_implementation="eager", output_loading_info=True)
        assert not any(info.values()), f"the origin says of what was saved: {info}"
        return self._outputs(model.eval())

    @cached_property
    def saved(self) -> Path:
        """A folder that it was saved into: not to be changed."""
        folder = self._subject.folder.with_name(f"{self._subject.folder.name}-origin")
        self._model.save_pretrained(folder)
        return folder

    @cached_property
    def losses(self) -> dict[str, np.ndarray]:
        outputs = Backend("pt").run(self._model, self._subject.labelled)
        return {name: value for name, value in outputs.items() if name.endswith("loss")}

    def written(self, **options: Any) -> np.ndarray:
        """Return the texts [R, L] that it writes after `prompts`, which no end token cuts short; without a cache, as
        its classes may share one among models that cannot have it."""
        import torch

        prompts = {name: torch.tensor(value) for name, value in self._subject.prompts.items()}
        return np.asarray(self._model.generate(**prompts, **options, eos_token_id=-1, use_cache=False))


def _random(array: np.ndarray, number: int) -> np.ndarray:
    """Return values around the mean of `array`, which is that of norms and of variances; integers stay."""
    if array.dtype.kind in "iub":
        return array
    around = round(float(array.astype(np.float64).mean())) if array.size else 0
    noise = np.random.default_rng(number).uniform(-0.5, 0.5, array.shape)
    return (around + noise).astype(np.float32)


def _run_training(backend: Backend, model: Any, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    if backend.name == "pt":
        return backend.run(model.train(), inputs)
    if backend.name == "tf":
        return flat(model(**inputs, training=True))
    import jax

    output = model(**inputs, train=True, dropout_rng=jax.random.PRNGKey(1))
    return flat(output[0] if type(output) is tuple else output)  # beside it: what changed of other collections
