"""What gradient checkpointing keeps less, and costs; and what fused attention saves. Prints a table.

    python benchmarks/checkpointing.py pt tf flax

Bytes are those of the arrays that are kept between the forward and the backward pass: PyTorch, what autograd saves;
JAX, the residuals of `jax.vjp`; TensorFlow, by how much the process grows in
a step, gradients included. Times are of a training step.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np

from triptych import BertConfig

BATCH, LENGTH, REPEATS = 4, 128, 5
CONFIG: dict[str, Any] = dict(
    vocab_size=1000, hidden_size=128, num_hidden_layers=8, num_attention_heads=4, intermediate_size=512
)


def ids() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 1000, (BATCH, LENGTH))


def seconds(step: Callable[[], Any]) -> float:
    """Return the median time of `step`, after one to warm up."""
    step()
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        step()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def pytorch() -> None:
    import torch

    from triptych_pt import BertForMaskedLM

    inputs = torch.tensor(ids())
    model = BertForMaskedLM(BertConfig(**CONFIG, attn_implementation="eager")).train()

    def step() -> None:
        model.zero_grad()
        model(input_ids=inputs, labels=inputs).loss.backward()

    def kept() -> int:
        found: dict[int, int] = {}
        parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}

        def note(tensor: Any) -> Any:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in parameters:
                found[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            loss = model(input_ids=inputs, labels=inputs).loss
        del loss
        return sum(found.values())

    for name in ("eager", "sdpa"):
        model.set_attn_implementation(name)
        for checkpointed in (False, True):
            model.gradient_checkpointing_enable() if checkpointed else model.gradient_checkpointing_disable()
            report(f"PyTorch, {name}", checkpointed, kept(), seconds(step))
    model.gradient_checkpointing_disable()
    model.eval()
    for name in ("eager", "sdpa"):
        model.set_attn_implementation(name)
        with torch.no_grad():
            print(f"PyTorch, {name}, inference: {1000 * seconds(lambda: model(input_ids=inputs)):.0f} ms")


def tensorflow() -> None:
    for checkpointed in (False, True):
        with get_context("spawn").Pool(1) as fresh:
            report("TensorFlow", checkpointed, *fresh.apply(tensorflow_step, (checkpointed,)))


def tensorflow_step(checkpointed: bool) -> tuple[int, float]:
    """Return by how much the first training step raises the peak of a fresh process, and the time of later ones."""
    import tensorflow as tf

    from triptych_tf import TFBertForMaskedLM

    inputs, model = ids(), TFBertForMaskedLM(BertConfig(**CONFIG))
    if checkpointed:
        model.gradient_checkpointing_enable()

    def step(inputs: np.ndarray = inputs) -> None:
        with tf.GradientTape() as tape:
            loss = model(input_ids=inputs, labels=inputs, training=True).loss
        tape.gradient(loss, [v.value for v in model.trainable_variables])

    step(inputs[:1, :8])  # what TensorFlow loads once
    before = peak()
    step()
    return peak() - before, seconds(step)


def peak() -> int:
    """Return the bytes of memory that the process had at most."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def flax() -> None:
    import jax

    from triptych_flax import FlaxBertForMaskedLM

    inputs = ids()

    def step(gradient: Any, params: Any) -> Any:
        return jax.block_until_ready(gradient(params))

    for checkpointed in (False, True):
        model = FlaxBertForMaskedLM(BertConfig(**CONFIG), gradient_checkpointing=checkpointed)

        def loss(params: Any, model: Any = model) -> Any:
            key = jax.random.PRNGKey(0)
            return model(input_ids=inputs, labels=inputs, params=params, train=True, dropout_rng=key).loss

        _, back = jax.jit(lambda params, loss=loss: jax.vjp(loss, params))(model.params)
        kept = sum(leaf.nbytes for leaf in jax.tree.leaves(back))
        gradient = jax.jit(jax.grad(loss))
        report("JAX", checkpointed, kept, seconds(partial(step, gradient, model.params)))


def report(what: str, checkpointed: bool, kept: int, taken: float) -> None:
    how = "checkpointed" if checkpointed else "plain"
    print(f"{what}, {how}: {kept / 2**20:.1f} MiB kept, {1000 * taken:.0f} ms a step")


if __name__ == "__main__":
    for framework in sys.argv[1:] or ["pt"]:
        {"pt": pytorch, "tf": tensorflow, "flax": flax}[framework]()
