"""Feeds the readers of files with wrong ones, for as long as you like: `make fuzz`.

    python tests/fuzz.py [--reader safetensors] [--inputs 100000] [--seed 0] [--workers 2] [--keep FOLDER]
    python tests/fuzz.py --guided --reader hdf5 --inputs 100000   # by coverage: needs atheris

Exit status 1 if there was a finding; the files are kept in FOLDER, to become tests.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "support"))
PART = 500


def fuzz(task: tuple[str, int, int, Path]) -> tuple[str, Counter[str]]:
    """Examine some wrong files of one reader, and return how many came to what."""
    from fuzzing import READERS, Finding

    name, seed, count, keep = task
    reader, rng, outcomes = READERS[name], random.Random(f"{name} {seed}"), Counter[str]()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        for _ in range(count):
            data = reader.mutate(rng)
            try:
                outcomes[reader.examine(data, Path(folder))] += 1
            except Finding as finding:
                outcomes["FINDING"] += 1
                (keep / f"{name}-{seed}-{sum(outcomes.values())}").write_bytes(data)
                print(finding, flush=True)
    return name, outcomes


def guided(name: str, count: int, seed: int, keep: Path) -> None:
    """Let atheris choose the files by the code of triptych that they reach. Does not return."""
    import atheris

    with atheris.instrument_imports(include=["triptych"]):
        from fuzzing import READERS
    reader, folder = READERS[name], Path(tempfile.mkdtemp())
    corpus = folder / "corpus"
    corpus.mkdir()
    (corpus / "right").write_bytes(reader.right)

    def change(data: bytes, most: int, number: int) -> bytes:
        rng = random.Random(number)
        try:
            return (reader.meaning or (lambda d, r: atheris.Mutate(d, most)))(data, rng)[:most]
        except Exception:  # what is no file of this format any more has no meaning to change
            return bytes(atheris.Mutate(data, most))

    (folder / "reads").mkdir()
    options = [f"-runs={count}", f"-seed={seed + 1}", f"-artifact_prefix={keep}/{name}-", "-max_len=65536",
               "-timeout=30", "-rss_limit_mb=8192", str(corpus)]  # fmt: skip
    atheris.Setup([sys.argv[0], *options], lambda data: reader.examine(data, folder / "reads") and None,
                  custom_mutator=change)  # fmt: skip
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--reader", help="one reader; default: all, one after the other")
    parser.add_argument("--inputs", type=int, default=20_000, help="wrong files for each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--guided", action="store_true", help="by coverage, in one process; needs atheris, and --reader"
    )
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    options = parser.parse_args()
    options.keep.mkdir(exist_ok=True)
    if options.guided:
        guided(options.reader, options.inputs, options.seed, options.keep)
    from fuzzing import READERS

    failed = False
    for name in [options.reader] if options.reader else READERS:
        start, outcomes = time.perf_counter(), Counter[str]()
        parts = [(name, options.seed * 10**6 + number, min(PART, options.inputs - number * PART), options.keep)
                 for number in range(-(-options.inputs // PART))]  # fmt: skip
        with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
            for _, some in pool.imap_unordered(fuzz, parts):
                outcomes += some
        failed |= bool(outcomes["FINDING"])
        counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
        print(f"{name}: {outcomes.total()} files in {time.perf_counter() - start:.0f} s: {counts}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
