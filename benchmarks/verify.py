"""Time the check of a checkpoint against its manifest, beside `sha256sum` of the same files in the same run.

    python benchmarks/verify.py --size 500MB --rounds 3

Prints, for one file and for shards, the best of the rounds in seconds of `triptych verify`'s check of every file, of
reading every tensor with its check on two threads as a load does, and of `sha256sum` of all files of the folder.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from triptych.checkpoints.holding import hold
from triptych.checkpoints.saving import save_checkpoint
from triptych.checkpoints.sharding import parse_size
from triptych.checkpoints.verifying import Wanted
from triptych.tensors.ref import TensorRef
from triptych.tools.verifying import verify_folder

TENSOR = 2**24


def prepare(folder: Path, size: int, shard: int | str) -> None:
    count = max(1, size // TENSOR)
    array = np.random.default_rng(0).standard_normal(TENSOR // 4, np.float32)
    refs = [TensorRef.of(f"layer.{number}.weight", array) for number in range(count)]
    save_checkpoint(folder, refs, json.dumps({"model_type": "none"}), max_shard_size=shard, manifest=True)


def read_checked(folder: Path) -> None:
    """Read every tensor once, with its check, on as many threads as a load has."""
    held = hold(folder, wanted=Wanted())
    with ThreadPoolExecutor(2) as pool:
        for _ in pool.map(lambda name: held.checkpoint[name].read().nbytes, held.checkpoint):
            pass


def verify(folder: Path) -> None:
    assert not verify_folder(folder, Wanted())[1]


def sha256sum(folder: Path) -> None:
    files = [str(file) for file in folder.iterdir()]
    subprocess.run(["sha256sum", *files], check=True, stdout=subprocess.DEVNULL)


def best(work: Mapping[str, Callable[[Path], None]], folder: Path, rounds: int) -> dict[str, float]:
    """Return the shortest time of each, which take turns."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, run in work.items():
            start = time.perf_counter()
            run(folder)
            times[name].append(time.perf_counter() - start)
    return {name: min(found) for name, found in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="500MB")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    size = parse_size(arguments.size, "--size")
    work = {"triptych verify": verify, "checked reads": read_checked, "sha256sum": sha256sum}
    for title, shard in (("one file", 10 * size), ("five shards", size // 5)):
        with tempfile.TemporaryDirectory() as scratch:
            prepare(Path(scratch), size, shard)
            found = best(work, Path(scratch), arguments.rounds)
        for name, seconds in found.items():
            rate, ratio = size / seconds / 1e6, seconds / found["sha256sum"]
            print(f"{title:12} {name:16} {seconds:6.2f} s {rate:7.0f} MB/s  {ratio:5.2f} of sha256sum")


if __name__ == "__main__":
    main()
