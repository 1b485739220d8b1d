"""Memory and time of a training step of BERT-base, with and without gradient checkpointing, beside transformers.

    python benchmarks/train.py [--only pt tf flax] [--rounds 5] [--batch 8] [--length 128] [--peers .peers]

A random `BertForSequenceClassification` of BERT's base size is trained by plain SGD, with its dropout, in float32. Each
contestant is a process of its own; they take turns, so that all see the same state of the machine. The peers are
transformers 5 in PyTorch, and 4.48.3 in TensorFlow (Keras 2) and Flax, whose environment `make bench-peers` makes.
PyTorch runs as it is, TensorFlow by `train_on_batch`, compiled and with `run_eagerly`, JAX as one function under `jit`,
to which the parameters are donated.

Printed are the peak of the process in a step after the first, over what it was before the model was made: weights,
gradients and all that is kept between; for JAX also what XLA says that the step needs beside its arguments; the seconds
of a step, the median, and the ratio to the peer without checkpointing: the median of those of single rounds, the least
and the largest. The peers of TensorFlow cannot checkpoint. Exits with status 1 if one is slower than its own peer by
more than `--slack`.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Step = Callable[[], Any]
CONTESTANTS = {
    "pt": ["pt_peer", "pt", "pt_peer checkpointed", "pt checkpointed"],
    "tf": ["tf_peer", "tf", "tf checkpointed"],
    "tf eager": ["tf_eager_peer", "tf_eager", "tf_eager checkpointed"],
    "flax": ["flax_peer", "flax", "flax_peer checkpointed", "flax checkpointed"],
}
"""Framework -> who takes part: first the one to which ratios are, the peer without checkpointing."""
NAME = "BertForSequenceClassification"
RATE = 1e-3


def data(batch: int, length: int) -> dict[str, np.ndarray]:
    """Return ids without padding, a mask, and labels of two classes."""
    ids = np.random.default_rng(0).integers(1000, 30000, (batch, length)).astype(np.int32)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "labels": np.arange(batch, dtype=np.int32) % 2}


def pt(checkpointed: bool, inputs: dict[str, np.ndarray], package: str = "triptych") -> Step:
    import torch

    library: Any = __import__(package)
    model = getattr(library, NAME)(library.BertConfig()).train()
    if checkpointed:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    optimizer = torch.optim.SGD(model.parameters(), RATE)
    tensors = {name: torch.tensor(value, dtype=torch.int64) for name, value in inputs.items()}

    def step() -> float:
        optimizer.zero_grad()
        loss = model(**tensors).loss
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def pt_peer(checkpointed: bool, inputs: dict[str, np.ndarray]) -> Step:
    return pt(checkpointed, inputs, "transformers")


def tf(checkpointed: bool, inputs: dict[str, np.ndarray], eagerly: bool = False) -> Step:
    import keras

    import triptych

    model = getattr(triptych, f"TF{NAME}")(triptych.BertConfig())
    if checkpointed:
        model.gradient_checkpointing_enable()
    model.compile(keras.optimizers.SGD(RATE), run_eagerly=eagerly, jit_compile=False)
    return lambda: model.train_on_batch(inputs)


def tf_eager(checkpointed: bool, inputs: dict[str, np.ndarray]) -> Step:
    return tf(checkpointed, inputs, eagerly=True)


def tf_peer(checkpointed: bool, inputs: dict[str, np.ndarray], eagerly: bool = False) -> Step:
    import tf_keras
    import transformers

    model = getattr(transformers, f"TF{NAME}")(transformers.BertConfig())
    model.compile(tf_keras.optimizers.SGD(RATE), run_eagerly=eagerly)
    return lambda: model.train_on_batch(inputs)


def tf_eager_peer(checkpointed: bool, inputs: dict[str, np.ndarray]) -> Step:
    return tf_peer(checkpointed, inputs, eagerly=True)


def flax(checkpointed: bool, inputs: dict[str, np.ndarray], package: str = "triptych") -> Step:
    import jax
    import jax.numpy as jnp

    library: Any = __import__(package)
    model = getattr(library, f"Flax{NAME}")(library.BertConfig())
    if checkpointed:
        model.enable_gradient_checkpointing()
    arrays = {name: jnp.asarray(value) for name, value in inputs.items()}
    labels = arrays.pop("labels")

    def loss_of(params: Any, key: Any) -> Any:
        logits = model(**arrays, params=params, dropout_rng=key, train=True).logits
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=-1))

    def update(params: Any, key: Any) -> Any:
        loss, gradients = jax.value_and_grad(loss_of)(params, key)
        return jax.tree.map(lambda old, gradient: old - RATE * gradient, params, gradients), loss

    state = {"params": model.params, "key": jax.random.PRNGKey(0)}
    compiled = jax.jit(update, donate_argnums=0).lower(state["params"], state["key"]).compile()

    def step() -> float:
        state["key"], key = jax.random.split(state["key"])
        state["params"], loss = compiled(state["params"], key)
        return float(loss)

    analysis: Any = compiled.memory_analysis()
    step.needed = analysis.temp_size_in_bytes  # type: ignore[attr-defined]
    return step


def flax_peer(checkpointed: bool, inputs: dict[str, np.ndarray]) -> Step:
    return flax(checkpointed, inputs, "transformers")


MAKERS = {maker.__name__: maker for maker in (pt, pt_peer, tf, tf_peer, tf_eager, tf_eager_peer, flax, flax_peer)}


def status(field: str) -> int:
    """Return a size of this process in bytes, such as VmRSS or VmHWM, the most that it has been."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def imported(name: str) -> None:
    """Import the framework of a contestant, whose size is none of the model's."""
    modules = {"pt": ["torch"], "tf": ["tensorflow"], "fl": ["jax", "flax"]}[name[:2]]
    for module in [*modules, "transformers" if "peer" in name else "triptych"]:
        __import__(module)


def work(name: str, batch: int, length: int) -> None:
    """Answer each line of standard input by the seconds of a step; first by memory."""
    answers, sys.stdout = sys.stdout, sys.stderr
    kind, _, how = name.partition(" ")
    imported(kind)
    before = status("VmRSS")
    step = MAKERS[kind](bool(how), data(batch, length))
    step()
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what is there now
    step()
    found = {"peak": status("VmHWM") - before, "needed": getattr(step, "needed", None)}
    print(json.dumps(found), file=answers, flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        loss = np.ravel(step())[0]
        taken = time.perf_counter() - start
        if not np.isfinite(loss):
            raise SystemExit(f"{name}: the loss is {loss}")
        print(json.dumps(taken), file=answers, flush=True)


class Contestant:
    """One of `CONTESTANTS`, in its process."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        old = name.startswith(("tf_peer", "tf_eager_peer", "flax_peer"))
        python = str(options.peers / "bin" / "python") if old else sys.executable
        size = [str(options.batch), str(options.length)]
        environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"} | {"TF_USE_LEGACY_KERAS": "1"}
        if not old:
            del environment["TF_USE_LEGACY_KERAS"]
        self.name = name
        self.process = subprocess.Popen(
            [python, __file__, "--one", name, *size], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=None if options.verbose else subprocess.DEVNULL, text=True, env=environment,
        )  # fmt: skip
        self.memory = self.answer()
        self.seconds: list[float] = []

    def answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended; pass --verbose to see why")
        return json.loads(line)

    def step(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.seconds.append(self.answer())

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def report(contestants: list[Contestant], slack: float) -> bool:
    """Print a table; return whether no one is slower than its own peer."""
    good, first = True, contestants[0]
    by_name = {one.name: one for one in contestants}
    for one in contestants:
        ratios = [ours / theirs for ours, theirs in zip(one.seconds, first.seconds, strict=True)]
        line = f"{one.name:24}{one.memory['peak'] / 2**20:7.0f} MiB"
        line += f" ({one.memory['needed'] / 2**20:6.0f})" if one.memory["needed"] else " " * 9
        line += f"  {statistics.median(one.seconds):6.2f} s  x {statistics.median(ratios):.2f}"
        line += f" [{min(ratios):.2f}-{max(ratios):.2f}]"
        kind, _, how = one.name.partition(" ")
        peer = by_name.get(f"{kind}_peer {how}".strip())
        if peer is not None:
            pairs = [ours / theirs for ours, theirs in zip(one.seconds, peer.seconds, strict=True)]
            good &= (fits := statistics.median(pairs) <= 1 + slack)
            line += f"  to its peer x {statistics.median(pairs):.2f}  {'ok' if fits else 'SLOWER'}"
        print(line, flush=True)
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(CONTESTANTS), choices=list(CONTESTANTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--slack", type=float, default=0.03, help="how much slower a step may be, as a part of it")
    parser.add_argument("--peers", type=Path, default=Path(".peers"), help="the environment of transformers 4")
    parser.add_argument("--without", nargs="*", default=[], help="contestants that take no part, but not the first")
    parser.add_argument("--verbose", action="store_true", help="show what the contestants say")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        work(options.one[0], *map(int, options.one[1:]))
        return 0
    good = True
    for framework in options.only:
        print(f"{framework}, batch {options.batch} of {options.length} tokens", flush=True)
        contestants = [Contestant(n, options) for n in CONTESTANTS[framework] if n not in options.without]
        for _ in range(options.rounds):
            for one in contestants:
                one.step()
        good &= report(contestants, options.slack)
        for one in contestants:
            one.close()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
