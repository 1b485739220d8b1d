"""Time and memory of a forward pass with eager and with fused attention, beside transformers 5. Prints a table.

    python benchmarks/forward.py [--models gpt2 llama] [--length 2048] [--runs 3]

A random GPT-2 of the small size, and four layers like Llama's with grouped heads, without their heads; one text, no
padding, no cache. Each contestant runs in a fresh process on one thread, PyTorch as it is, Flax under `jax.jit` and
TensorFlow in a `tf.function`; runs are interleaved. Memory is by how much the first pass, its compilation left out,
raises the peak of the process. Time is the processor's, since a busy machine shows less in it: the median of the passes
after the first. Ratios are to transformers 5, "sdpa".
"""

from __future__ import annotations

import argparse
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

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2", dict(vocab_size=5000, n_embd=768, n_layer=12, n_head=12, use_cache=False)),
    "llama": ("Llama", dict(vocab_size=5000, hidden_size=1024, num_hidden_layers=4, num_attention_heads=16,
                            num_key_value_heads=4, intermediate_size=2816, use_cache=False)),
}  # fmt: skip
POSITIONS = {"gpt2": "n_positions", "llama": "max_position_embeddings"}
CONTESTANTS = [(who, how) for who in ("transformers", "pt", "tf", "flax") for how in ("eager", "sdpa")]
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1")


def ids(length: int) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 5000, (1, length))


def config_for(name: str, length: int) -> tuple[str, dict[str, Any]]:
    stem, fields = MODELS[name]
    return stem, {**fields, POSITIONS[name]: length}


def transformers(name: str, length: int, how: str) -> Callable[[], Any]:
    import transformers as library

    stem, fields = config_for(name, length)
    config = getattr(library, f"{stem}Config")(**fields)
    return _torch(library.AutoModel.from_config(config, attn_implementation=how), length)


def pt(name: str, length: int, how: str) -> Callable[[], Any]:
    import triptych

    stem, fields = config_for(name, length)
    config = getattr(triptych, f"{stem}Config")(**fields, attn_implementation=how)
    return _torch(getattr(triptych, f"{stem}Model")(config), length)


def _torch(model: Any, length: int) -> Callable[[], Any]:
    import torch

    torch.set_num_threads(1)
    inputs = torch.tensor(ids(length))
    model.eval()

    def call(inputs: Any = inputs) -> Any:
        with torch.inference_mode():
            return model(inputs).last_hidden_state

    call(inputs[:, :8])
    return call


def tf(name: str, length: int, how: str) -> Callable[[], Any]:
    import tensorflow

    import triptych

    stem, fields = config_for(name, length)
    model = getattr(triptych, f"TF{stem}Model")(getattr(triptych, f"{stem}Config")(**fields, attn_implementation=how))
    inputs = tensorflow.constant(ids(length), "int32")
    graph = tensorflow.function(lambda x: model(x, training=False).last_hidden_state).get_concrete_function(inputs)
    return lambda: graph(inputs).numpy()


def flax(name: str, length: int, how: str) -> Callable[[], Any]:
    import jax

    import triptych

    stem, fields = config_for(name, length)
    model = getattr(triptych, f"Flax{stem}Model")(getattr(triptych, f"{stem}Config")(**fields, attn_implementation=how))
    inputs = jax.numpy.asarray(ids(length))
    made = jax.jit(lambda params, x: model(x, params=params).last_hidden_state).lower(model.params, inputs).compile()
    return lambda: jax.block_until_ready(made(model.params, inputs))


def status(field: str) -> int:
    """Return a size of this process in bytes, such as VmRSS or VmHWM, the most that it has been."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def measure(name: str, length: int, who: str, how: str, runs: int) -> dict[str, float]:
    """Return memory in bytes, and seconds of the processor for a pass."""
    made = {"transformers": transformers, "pt": pt, "tf": tf, "flax": flax}[who](name, length, how)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what is there now
    before = status("VmRSS")
    made()
    memory, taken = status("VmHWM") - before, []
    for _ in range(runs):
        start = time.process_time()
        made()
        taken.append(time.process_time() - start)
    return {"memory": memory, "seconds": statistics.median(taken)}


def in_fresh_process(name: str, length: int, who: str, how: str, runs: int) -> dict[str, float]:
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
    command = [sys.executable, __file__, "--one", json.dumps([name, length, who, how, runs])]
    environment = {**os.environ, **THREADS, "XLA_FLAGS": flags}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(name: str, length: int, runs: int) -> None:
    found: dict[tuple[str, str], list[dict[str, float]]] = {one: [] for one in CONTESTANTS}
    for _ in range(runs):
        for who, how in CONTESTANTS:
            found[who, how].append(in_fresh_process(name, length, who, how, runs))
    medians = {
        one: {what: statistics.median(run[what] for run in all_runs) for what in ("memory", "seconds")}
        for one, all_runs in found.items()
    }
    yardstick = medians["transformers", "sdpa"]
    print(f"{name}, {length} tokens\n{'':22}{'MiB':>8}{'ratio':>8}{'ms':>8}{'ratio':>8}")
    for (who, how), one in medians.items():
        ratios = {what: one[what] / yardstick[what] for what in one}
        print(f"{f'{who}, {how}':22}{one['memory'] / 2**20:8.0f}{ratios['memory']:8.2f}"
              f"{1000 * one['seconds']:8.0f}{ratios['seconds']:8.2f}", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(*json.loads(given.one))))
        return
    for name in given.models:
        table(name, given.length, given.runs)


if __name__ == "__main__":
    main()
