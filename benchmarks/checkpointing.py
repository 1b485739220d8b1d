"""What gradient checkpointing keeps less, and costs; and what fused attention saves. Prints a table.

    python benchmarks/checkpointing.py pt tf flax

Bytes are those of the arrays that are kept between the forward and the backward pass: PyTorch, what autograd saves;
JAX, the residuals of `jax.vjp`; TensorFlow, what the process grows by in the forward pass. Times are of a training step.
"""

from __future__ import annotations

import gc
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from triptych import BertConfig

BATCH, LENGTH, REPEATS = 4, 128, 5
CONFIG = dict(vocab_size=1000, hidden_size=128, num_hidden_layers=8, num_attention_heads=4, intermediate_size=512)


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


def resident() -> int:
    """Return the bytes of memory that the process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def pytorch() -> None:
    import torch

    from triptych import BertForMaskedLM

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
    import tensorflow as tf

    from triptych import TFBertForMaskedLM

    inputs, model = ids(), TFBertForMaskedLM(BertConfig(**CONFIG))

    def loss_and_tape() -> Any:
        with tf.GradientTape() as tape:
            loss = model(input_ids=inputs, labels=inputs, training=True).loss
        return loss, tape

    def kept() -> int:
        """Return by how much the process grew in the forward pass, the tape still held: a tape shows nothing else."""
        loss_and_tape()
        gc.collect()
        before = resident()
        held = loss_and_tape()
        grown = resident() - before
        del held
        return grown

    def step() -> None:
        loss, tape = loss_and_tape()
        tape.gradient(loss, [v.value for v in model.trainable_variables])

    for checkpointed in (True, False):  # what was freed once may not go back to the system
        model.gradient_checkpointing_enable() if checkpointed else model.gradient_checkpointing_disable()
        report("TensorFlow", checkpointed, kept(), seconds(step))


def flax() -> None:
    import jax

    from triptych import FlaxBertForMaskedLM

    inputs = ids()
    for checkpointed in (False, True):
        model = FlaxBertForMaskedLM(BertConfig(**CONFIG), gradient_checkpointing=checkpointed)

        def loss(params: Any, model: Any = model) -> Any:
            key = jax.random.PRNGKey(0)
            return model(input_ids=inputs, labels=inputs, params=params, train=True, dropout_rng=key).loss

        _, back = jax.jit(lambda params, loss=loss: jax.vjp(loss, params))(model.params)
        kept = sum(leaf.nbytes for leaf in jax.tree.leaves(back))
        gradient = jax.jit(jax.grad(loss))
        report("JAX", checkpointed, kept, seconds(lambda g=gradient, m=model: jax.block_until_ready(g(m.params))))


def report(what: str, checkpointed: bool, kept: int, taken: float) -> None:
    how = "checkpointed" if checkpointed else "plain"
    print(f"{what}, {how}: {kept / 2**20:.1f} MiB kept, {1000 * taken:.0f} ms a step")


if __name__ == "__main__":
    for framework in sys.argv[1:] or ["pt"]:
        {"pt": pytorch, "tf": tensorflow, "flax": flax}[framework]()
