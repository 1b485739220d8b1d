"""Dropout by a seed, for more classes and sizes than the suite has time for: every class of every family drops the same
values in the three frameworks, one gradient of each family is equal; and what it costs.

    python tests/accept_train_seed.py classes | gradients | costs [pt|tf|flax]
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from small_models import LABELLED, config_of, inputs_of, labels_for, random_folder
from triptych import BertConfig
from triptych_conformance import Backend, assert_close

Arrays = dict[str, np.ndarray]
FRAMEWORKS = ("pt", "tf", "flax")
SEED, STEP = 7, 3


def raised(config: Any) -> Any:
    """Return a config with dropout at every place that has it, at several rates."""
    rates = iter([0.1, 0.2, 0.3, 0.15, 0.25, 0.35] * 3)
    for name, value in config.to_dict().items():
        if ("dropout" in name or name.endswith("pdrop")) and (value is None or isinstance(value, (int, float))):
            if not isinstance(value, bool):
                setattr(config, name, next(rates))
    return config


def runs(name: str, model: Any, inputs: Arrays) -> tuple[Callable[[int], float], Callable[[], Arrays]]:
    """Return what computes the loss at a step, and what computes the gradient by each weight's canonical name."""
    from triptych.weights import layouts

    if name == "pt":
        import torch

        given = {key: torch.tensor(value) for key, value in inputs.items()}
        model.train()

        def loss(step: int) -> Any:
            with model.seeded_dropout(SEED, step):
                return model(**given).loss

        def gradients() -> Arrays:
            model.zero_grad()
            loss(STEP).backward()
            return {n: p.grad.numpy() for n, p in model.named_parameters() if p.grad is not None}

    elif name == "tf":
        import tensorflow as tf

        def loss(step: int) -> Any:
            with model.seeded_dropout(SEED, step):
                return model(**inputs, training=True).loss

        def gradients() -> Arrays:
            with tf.GradientTape() as tape:
                found = loss(STEP)
            held = {w: model._weights()[layouts.native_path(w, "tf")][0] for w in model.schema.stored()}
            made = tape.gradient(found, [v.value for v in held.values()])
            values = {w: tf.convert_to_tensor(g).numpy() for w, g in zip(held, made, strict=True) if g is not None}
            return {w.name: _canonical(g, w.layout, "tf") for w, g in values.items()}

    else:
        import jax

        def loss(step: int) -> Any:
            with model.seeded_dropout(SEED, step):
                return model(**inputs, train=True).loss

        def gradients() -> Arrays:
            def run(params: Any) -> Any:
                with model.seeded_dropout(SEED, STEP):
                    return model(**inputs, params=params, train=True).loss

            found = jax.jit(jax.grad(run))(model.params)
            from triptych_flax import layers

            return {
                w.name: _canonical(np.asarray(layers.leaf(found, model._path(w), w.name)), w.layout, "flax")
                for w in model.schema.stored()
            }

    return lambda step: float(loss(step)), gradients


def _canonical(array: np.ndarray, layout: Any, framework: str) -> np.ndarray:
    from triptych.tensors.arrays import permuted
    from triptych.weights import layouts

    return np.asarray(permuted(array, layouts.to_canonical(layout, array.ndim, framework)))


def made(kind: str, stem: str, folder: Path) -> tuple[dict[str, Any], Arrays]:
    config = raised(config_of(kind, stem))
    inputs = inputs_of(stem, config)
    inputs |= labels_for(stem, inputs)
    random_folder(folder, config, stem)
    return {name: Backend(name).load(stem, folder) for name in FRAMEWORKS}, inputs


def classes() -> None:
    """Compare the losses of every class that has one."""
    for kind, stem in LABELLED:
        with tempfile.TemporaryDirectory() as folder:
            models, inputs = made(kind, stem, Path(folder))
        found = {name: runs(name, model, inputs)[0] for name, model in models.items()}
        losses = {name: (loss(STEP), loss(STEP + 1)) for name, loss in found.items()}
        for name in FRAMEWORKS[1:]:
            assert_close(losses[name], losses["pt"], what=f"{stem} of {name}")
        acts = losses["pt"][0] != losses["pt"][1]
        print(f"{stem}: {losses['pt'][0]:.6f} at step {STEP}, {losses['pt'][1]:.6f} at the next{'' if acts else ' !'}")


GRADIENTS = ("BertForMaskedLM", "DistilBertForMaskedLM", "ElectraForMaskedLM", "GPT2LMHeadModel", "LlamaForCausalLM",
             "MistralForCausalLM", "OPTForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM",
             "RobertaForSequenceClassification", "T5ForConditionalGeneration")  # fmt: skip


def gradients() -> None:
    """Compare a gradient of each family, with what was computed kept and computed anew."""
    for kind, stem in LABELLED:
        if stem not in GRADIENTS:
            continue
        with tempfile.TemporaryDirectory() as folder:
            models, inputs = made(kind, stem, Path(folder))
        kept = {name: runs(name, model, inputs)[1]() for name, model in models.items()}
        largest = max(np.abs(value).max() for value in kept["pt"].values())
        kept["pt"] = {name: value.copy() for name, value in kept["pt"].items()}
        worst = {}
        for name, model in models.items():
            model.gradient_checkpointing_enable() if name != "flax" else model.enable_gradient_checkpointing()
            anew = runs(name, model, inputs)[1]()
            for what, found in (("kept", kept[name]), ("anew", anew)):
                assert found.keys() >= kept["pt"].keys()
                differ = {weight: np.abs(found[weight] - value).max() for weight, value in kept["pt"].items()}
                worst[f"{name} {what}"] = max(differ.values()) / largest
        assert max(worst.values()) < 1e-5, worst
        print(f"{stem}: of the largest part of the gradient the frameworks differ by {max(worst.values()):.1e}")


def costs(name: str, rounds: str = "7") -> None:
    """Print the time of a training step of a BERT of four layers of BERT-base's width, by a seed over natively."""
    config = BertConfig(num_hidden_layers=4, vocab_size=2000)
    ids = np.random.default_rng(0).integers(3, 2000, (4, 128))
    model = Backend(name).cls("BertForMaskedLM")(config)
    step = _STEPS[name](model, {"input_ids": ids, "labels": ids})
    times: dict[bool, list[float]] = {True: [], False: []}
    for number in range(int(rounds)):
        for seeded, kept in times.items():
            start = time.process_time()
            step(number, seeded)
            kept.append(time.process_time() - start)
    native, ours = (float(np.median(times[seeded][1:])) for seeded in (False, True))
    print(f"{name}: {ours / native:.2f} of a step with native dropout, which takes {native:.2f} s of a CPU")


def _step_pt(model: Any, batch: Arrays) -> Any:
    import torch

    given = {name: torch.tensor(value) for name, value in batch.items()}
    model.train()

    def step(number: int, seeded: bool) -> None:
        model.zero_grad()
        with model.seeded_dropout(SEED, number) if seeded else nullcontext():
            model(**given).loss.backward()

    return step


def _step_tf(model: Any, batch: Arrays) -> Any:
    import tensorflow as tf

    @tf.function(autograph=False)
    def run(number: Any, seeded: bool) -> Any:
        with model.seeded_dropout(SEED, number) if seeded else nullcontext(), tf.GradientTape() as tape:
            loss = model(**batch, training=True).loss
        return tape.gradient(loss, [v.value for v in model.trainable_variables])

    return lambda number, seeded: run(tf.constant(number), seeded)


def _step_flax(model: Any, batch: Arrays) -> Any:
    import jax

    def seeded(params: Any, number: Any) -> Any:
        with model.seeded_dropout(SEED, number):
            return model(**batch, params=params, train=True).loss

    def native(params: Any, number: Any) -> Any:
        key = jax.random.fold_in(jax.random.PRNGKey(SEED), number)
        return model(**batch, params=params, train=True, dropout_rng=key).loss

    runs = {True: jax.jit(jax.grad(seeded)), False: jax.jit(jax.grad(native))}
    return lambda number, seeded: jax.block_until_ready(runs[seeded](model.params, number))


_STEPS: dict[str, Callable[[Any, Arrays], Any]] = {"pt": _step_pt, "tf": _step_tf, "flax": _step_flax}


if __name__ == "__main__":
    {"classes": classes, "gradients": gradients, "costs": costs}[sys.argv[1]](*sys.argv[2:])
