"""Measure conversions of files against `cp` plus fsync of as many bytes, and their anonymous memory.

    python benchmarks/convert.py [--runs 3] [--layers 22] [--folder FOLDER]

A random Llama-shaped checkpoint in bfloat16 (2.2 GB with 22 layers) is resharded, cast to float32, written as msgpack,
and read from `.bin`. Each conversion runs in a process of its own, beside a copy of as many bytes; the figure is the
ratio of the two times, the smallest of the runs. The limits: 1.5 times the copy, and 256 MB of anonymous memory plus
twice the largest tensor. Exits with status 1 if one is broken.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ml_dtypes
import numpy as np

from triptych.checkpoints.saving import save_checkpoint
from triptych.files.json import json_text
from triptych.formats.kinds import BIN
from triptych.tensors.ref import TensorRef
from triptych.tools.editing import open_draft, write
from triptych.tools.source import class_schema

MAX_RATIO = 1.5
FREE_BYTES = 256 * 10**6
TASKS = {
    "reshard": ("source", ["reshard", "--max-shard-size", "1GB"]),
    "cast to float32": ("source", ["cast", "--dtype", "float32"]),
    "pt to msgpack": ("source", ["convert", "--format", "msgpack"]),
    ".bin to safetensors": ("bin", ["convert", "--max-shard-size", "500MB"]),
}


def config_of(layers: int) -> dict[str, object]:
    return {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 32000, "hidden_size": 2048,
        "intermediate_size": 5632, "num_hidden_layers": layers, "num_attention_heads": 32, "num_key_value_heads": 4,
        "tie_word_embeddings": False, "dtype": "bfloat16",
    }  # fmt: skip


def make_source(folder: Path, layers: int) -> None:
    config = config_of(layers)
    schema = class_schema(config)
    assert schema is not None
    noise = np.random.default_rng(0).standard_normal(2**22, np.float32).astype(ml_dtypes.bfloat16)

    def ref(name: str, shape: tuple[int, ...]) -> TensorRef:
        return TensorRef(name, noise.dtype, shape, lambda: np.resize(noise, shape))

    refs = [ref(weight.name, weight.shape) for weight in schema.stored()]
    save_checkpoint(folder, refs, json_text(config), max_shard_size="500MB")


def weight_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def run(command: list[str]) -> tuple[float, int]:
    """Return the seconds that `command` takes and the most anonymous memory, in bytes, that it held."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, anonymous(process.pid))
        time.sleep(0.01)
    if process.returncode:
        raise SystemExit(f"{command} failed with status {process.returncode}")
    return time.perf_counter() - start, peak


def anonymous(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it has just ended
        return 0
    lines = [line for line in status.splitlines() if line.startswith("RssAnon:")]
    return int(lines[0].split()[1]) * 1024 if lines else 0


def copy_seconds(source: Path, target: Path, nbytes: int) -> float:
    """Return the seconds of `cp` plus fsync of `nbytes`, as files of the source's bytes, over and over."""
    target.mkdir()
    files = sorted(file for file in source.iterdir() if file.stat().st_size > 10**6)
    seconds, number = 0.0, 0
    while nbytes > 0:
        file = files[number % len(files)]
        copy = target / str(number)
        size = min(file.stat().st_size, nbytes)
        start = time.perf_counter()
        if size == file.stat().st_size:
            subprocess.run(["cp", str(file), str(copy)], check=True)
        else:
            subprocess.run(["head", "-c", str(size), str(file)], check=True, stdout=copy.open("wb"))
        with copy.open("rb") as stream:
            os.fsync(stream.fileno())
        seconds += time.perf_counter() - start
        nbytes, number = nbytes - size, number + 1
    shutil.rmtree(target)
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--layers", type=int, default=22)
    parser.add_argument("--folder", type=Path, help="where to work; ten times the checkpoint must fit")
    arguments = parser.parse_args()
    broken = False
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        root = Path(scratch)
        make_source(root / "source", arguments.layers)
        write(open_draft(root / "source"), root / "bin", BIN, max_shard_size="500MB")
        draft = open_draft(root / "source")
        largest = max(ref.nbytes for ref in draft.tensors.values())
        print(f"{draft.nbytes / 1e9:.2f} GB, largest tensor {largest / 1e6:.0f} MB")
        for name, (source, (verb, *options)) in TASKS.items():
            ratios, peaks = [], []
            for _ in range(arguments.runs):
                out = root / "out"
                seconds, peak = run([sys.executable, "-m", "triptych", verb, str(root / source), str(out), *options])
                copied = copy_seconds(root / source, root / "copy", weight_bytes(out))
                shutil.rmtree(out)
                ratios.append(seconds / copied)
                peaks.append(peak)
            allowed = FREE_BYTES + 2 * largest
            good = min(ratios) <= MAX_RATIO and max(peaks) <= allowed
            broken |= not good
            result = {"ratios": [round(r, 2) for r in ratios], "anonymous MB": round(max(peaks) / 1e6),
                      "allowed MB": round(allowed / 1e6), "good": good}  # fmt: skip
            print(f"{name}: {json.dumps(result)}", flush=True)
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
