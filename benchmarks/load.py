"""Time and memory of loading a random BERT-base, as ratios to `safetensors.numpy.load_file` of the same file.

    python benchmarks/load.py [--runs 5]

Each load runs in a fresh process, after the imports; the runs of all contestants are interleaved, and the ratios are of
the medians. Memory is the largest growth of anonymous memory during the load, over the size of the file.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import numpy as np

from triptych import BertConfig, TensorRef, save_checkpoint
from triptych.families import declared_schema

_LOADS = {
    "numpy": ("from safetensors.numpy import load_file", "load_file(folder + '/model.safetensors')"),
    "pt": ("from triptych import BertModel", "BertModel.from_pretrained(folder)"),
    "flax": (
        "from triptych import FlaxBertModel; import jax; jax.devices()",
        "jax.block_until_ready(FlaxBertModel.from_pretrained(folder).params)",
    ),
    "tf": ("from triptych import TFBertModel", "TFBertModel.from_pretrained(folder)"),
}
_TARGETS = {"pt": 0.5, "flax": 1.5, "tf": 3.0}
_MEMORY_TARGET = 1.15

_CHILD = """
import json, os, sys, threading, time
folder = sys.argv[1]
{imports}

def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))

peak, stop = [0], threading.Event()

def watch():
    while not stop.is_set():
        peak[0] = max(peak[0], anonymous())
        time.sleep(0.002)

before = anonymous()
if sys.argv[2] == "memory":
    thread = threading.Thread(target=watch)
    thread.start()
start = time.perf_counter()
result = {load}
seconds = time.perf_counter() - start
if sys.argv[2] == "memory":
    stop.set()
    thread.join()
print(json.dumps({{"seconds": seconds, "memory": max(peak[0], anonymous()) - before}}))
"""


def make_checkpoint(folder: Path) -> int:
    """Write a random BERT-base (float32); return the size of its file in bytes."""
    config = BertConfig()
    rng = np.random.default_rng(0)
    schema = declared_schema(config, "BertModel")
    assert schema is not None
    refs = [TensorRef.of(w.name, rng.standard_normal(w.shape, dtype=np.float32)) for w in schema.stored()]
    save_checkpoint(folder, refs, config.to_json_string())
    return (folder / "model.safetensors").stat().st_size


def run(name: str, folder: Path, kind: str) -> float:
    imports, load = _LOADS[name]
    code = textwrap.dedent(_CHILD).format(imports=imports, load=load)
    command = [sys.executable, "-c", code, str(folder), kind]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout.strip().splitlines()[-1])
    return result["memory" if kind == "memory" else "seconds"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=["pt", "flax", "tf"], choices=["pt", "flax", "tf"])
    arguments = parser.parse_args()
    names = ["numpy", *arguments.only]
    with tempfile.TemporaryDirectory() as scratch:
        size = make_checkpoint(Path(scratch))
        run("numpy", Path(scratch), "time")  # the file is in the page cache from here on
        times: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(arguments.runs):
            for name in names:
                times[name].append(run(name, Path(scratch), "time"))
        memory = {name: run(name, Path(scratch), "memory") / size for name in names}
    base = statistics.median(times["numpy"])
    good = True
    print(f"BERT-base, {size / 1e6:.0f} MB, {arguments.runs} runs each; safetensors.numpy.load_file: {base:.3f} s")
    for name in names:
        ratio = statistics.median(times[name]) / base
        spread = f"{min(times[name]) / base:.2f}-{max(times[name]) / base:.2f}"
        target = _TARGETS.get(name)
        fits = target is None or (ratio <= target and memory[name] <= _MEMORY_TARGET)
        good &= fits
        aim = "" if target is None else f"  (asked: {target}, {_MEMORY_TARGET})  {'ok' if fits else 'MISSED'}"
        print(f"{name:6} time x {ratio:5.2f} [{spread}]  anonymous memory x {memory[name]:.2f}{aim}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
