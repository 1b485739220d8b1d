"""Time and memory of loading 2.2 GB of bfloat16 in each framework, as ratios to plain reads and writes.

    python benchmarks/load16.py [--runs 7] [--layers 22] [--only pt tf flax] [--folder FOLDER]

A random Llama-shaped checkpoint is written, and is in the page cache from then on. In one process for each framework
some things take turns, each into fresh memory that is given back afterwards. Just before each, as much memory is taken
and given back, so that none of them is the first to touch it, which in a virtual machine takes many times as long.

- `read`: `readinto` of every weight file, into a new array of its size;
- `auto`: `from_pretrained(param_dtype="auto")`, which transposes; asked: 1.5 times `read`;
- `write`: a new float32 array of the shape of every weight, filled with one number;
- `cast`: `from_pretrained()`, which casts to float32 and transposes; asked: 1.5 times `write`.

In PyTorch `auto` maps the files, so it is compared with the same load of transformers 5; asked: no more than that. How
transformers 5 casts, beside `write`, is printed as `peer`.

A ratio is of a load and of what it is compared with, just before it; printed are the median, the smallest and the
largest. Memory is the largest growth of anonymous memory during a load, over the size of the parameters. Exits with
status 1 if one is more than was asked.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from convert import anonymous, make_source

import triptych
from triptych.checkpoints.opening import open_checkpoint

MAX_MEMORY = 1.1
MAX_RATIO = {"pt auto": 1.0, "pt cast": 1.5, "tf auto": 1.5, "tf cast": 1.5, "flax auto": 1.5, "flax cast": 1.5}
CLASSES = {"pt": "LlamaForCausalLM", "tf": "TFLlamaForCausalLM", "flax": "FlaxLlamaForCausalLM"}


def read(folder: Path) -> Any:
    arrays = []
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb", buffering=0) as file:
            array = np.empty(path.stat().st_size, np.uint8)
            if file.readinto(array.data) != array.size:
                raise SystemExit(f"{path} was not read in one piece")
        arrays.append(array)
    return arrays


def write(folder: Path) -> Any:
    shapes = [ref.shape for ref in open_checkpoint(folder).values()]
    return [np.full(shape, 1.0, np.float32) for shape in shapes]


def loader(framework: str, folder: Path, **options: Any) -> Callable[[], Any]:
    cls = getattr(triptych, CLASSES[framework])

    def load() -> Any:
        model = cls.from_pretrained(folder, **options)
        if framework == "flax":
            import jax

            jax.block_until_ready(model.params)
        return model

    return load


def peer(folder: Path, dtype: Any) -> Callable[[], Any]:
    """Return the load of transformers 5."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    return lambda: transformers.LlamaForCausalLM.from_pretrained(folder, dtype=dtype)


def seconds(action: Callable[[], Any], nbytes: int) -> float:
    touched = np.empty(nbytes * 5 // 4, np.uint8)
    touched[::4096] = 1
    del touched
    start = time.perf_counter()
    result = action()
    taken = time.perf_counter() - start
    del result
    gc.collect()
    return taken


def growth(action: Callable[[], Any]) -> int:
    """Return by how many bytes anonymous memory grew at most during `action`."""
    peak, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.002):
            peak[0] = max(peak[0], anonymous(os.getpid()))

    before = anonymous(os.getpid())
    thread = threading.Thread(target=watch)
    thread.start()
    result = action()
    stop.set()
    thread.join()
    grown = max(peak[0], anonymous(os.getpid())) - before
    del result
    gc.collect()
    return grown


def measure(framework: str, folder: Path, runs: int) -> dict[str, dict[str, Any]]:
    auto, cast = loader(framework, folder, param_dtype="auto"), loader(framework, folder)
    pairs: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "auto": (lambda: read(folder), auto),
        "cast": (lambda: write(folder), cast),
    }
    if framework == "pt":
        pairs |= {"auto": (peer(folder, "auto"), auto), "peer": (lambda: write(folder), peer(folder, "float32"))}
    count = sum(int(np.prod(ref.shape)) for ref in open_checkpoint(folder).values())
    size = {"auto": count * 2, "cast": count * 4, "peer": count * 4}
    result: dict[str, dict[str, Any]] = {
        name: {"plain": [], "load": [], "memory": growth(load) / size[name]} for name, (_, load) in pairs.items()
    }
    for _ in range(runs):
        for name, (plain, load) in pairs.items():
            result[name]["plain"].append(seconds(plain, size[name]))
            result[name]["load"].append(seconds(load, size[name]))
    return result


def report(framework: str, name: str, figures: dict[str, Any]) -> bool:
    ratios = [load / plain for load, plain in zip(figures["load"], figures["plain"], strict=True)]
    ratio, base = statistics.median(ratios), statistics.median(figures["plain"])
    most = MAX_RATIO.get(f"{framework} {name}")
    good = most is None or (ratio <= most and figures["memory"] <= MAX_MEMORY)
    spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
    memory = f"anonymous memory x {figures['memory']:.2f}"
    asked = "" if most is None else f"(asked: {most}, {MAX_MEMORY})"
    verdict = "" if most is None else "ok" if good else "MISSED"
    print(
        f"{framework:5}{name:5} time x {ratio:.2f} [{spread}] of {base:.3f} s  {memory}  {asked}  {verdict}", flush=True
    )
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--layers", type=int, default=22)
    parser.add_argument("--only", nargs="*", default=list(CLASSES), choices=list(CLASSES))
    parser.add_argument("--folder", type=Path, help="where to write the checkpoint")
    parser.add_argument("--source", type=Path, help="a checkpoint that is there already")
    parser.add_argument("--child", choices=list(CLASSES), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(arguments.child, arguments.source, arguments.runs)))
        return 0
    good = True
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        source = arguments.source or Path(scratch)
        if arguments.source is None:
            make_source(source, arguments.layers)
        # Without this, malloc would keep the memory of one run for the next, which would then not be fresh.
        environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**22)}
        for framework in arguments.only:
            command = [sys.executable, __file__, "--child", framework, "--source", str(source)]
            done = subprocess.run(
                [*command, "--runs", str(arguments.runs)],
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            for name, figures in json.loads(done.stdout.splitlines()[-1]).items():
                good &= report(framework, name, figures)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
