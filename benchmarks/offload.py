"""Running a 2.2 GB Llama-shaped bfloat16 model from the disk, beside transformers 5 with accelerate.

    python benchmarks/offload.py [--runs 3] [--layers 22] [--tokens 16] [--new 4] [--folder FOLDER]

A random checkpoint is written, and is in the page cache from then on. A process for each library, in turns, loads it
with every matrix on the disk, calls the model on a text twice, and generates. Printed are seconds, the smallest of the
runs, and the most anonymous memory that the process held, imports included. The limits: 0.3 GB plus the largest layer,
and less time than transformers. Exits with status 1 if one is broken, or the scores of the two are far apart.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from convert import anonymous, make_source

from triptych.tools.placing import plan

DEVICE_MAP = {"model.embed_tokens": "disk", "model.layers": "disk", "model.norm": "cpu", "lm_head": "disk"}
STEPS = ("import", "load", "first call", "second call", "generate")
FREE_BYTES = 300 * 10**6


def child(library: str, folder: str, tokens: int, new: int) -> None:
    """Print the seconds of each step, and some scores, as JSON."""
    times = [time.perf_counter()]
    import torch

    importlib.import_module("accelerate.hooks")  # which both need
    options: dict[str, Any] = {"device_map": DEVICE_MAP, "dtype": "auto"}
    library_of: Any = importlib.import_module(library)
    cls = library_of.LlamaForCausalLM
    if library == "transformers":
        options["device_map"] = DEVICE_MAP | {"model.rotary_emb": "cpu"}
    times.append(time.perf_counter())
    model = cls.from_pretrained(folder, **options)
    times.append(time.perf_counter())
    ids = torch.arange(1, tokens + 1)[None]
    with torch.no_grad():
        for _ in range(2):
            scores = model(ids).logits[0, -1].float()
            times.append(time.perf_counter())
    model.generate(ids, max_new_tokens=new, min_new_tokens=new, do_sample=False)
    times.append(time.perf_counter())
    print(json.dumps({
        "seconds": dict(zip(STEPS, [b - a for a, b in zip(times, times[1:], strict=False)], strict=True)),
        "scores": scores[:1000].tolist(),
    }))  # fmt: skip


def run(library: str, folder: str, tokens: int, new: int) -> dict[str, Any]:
    """Return what the child printed, and the most anonymous memory that it held."""
    command = [sys.executable, __file__, "--child", library, "--folder", folder, "--tokens", str(tokens)]
    process = subprocess.Popen([*command, "--new", str(new)], stdout=subprocess.PIPE, text=True)
    peak = 0
    while process.poll() is None:
        peak = max(peak, anonymous(process.pid))
        time.sleep(0.005)
    text = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise SystemExit(f"{library} failed with status {process.returncode}")
    return {**json.loads(text.splitlines()[-1]), "peak": peak}


def measure(folder: str, arguments: argparse.Namespace) -> bool:
    found: dict[str, list[dict[str, Any]]] = {"triptych": [], "transformers": []}
    for _ in range(arguments.runs):
        for library, results in found.items():
            results.append(run(library, folder, arguments.tokens, arguments.new))
    outline = plan(folder).outline
    largest = max(outline.running_size(unit) for unit in outline.units())
    limit, totals, peaks = FREE_BYTES + largest, {}, {}
    print(f"{'':14}" + "".join(f"{step:>13}" for step in STEPS) + f"{'sum of 2-5':>13}{'anonymous MB':>14}")
    for library, results in found.items():
        best = {step: min(result["seconds"][step] for result in results) for step in STEPS}
        totals[library] = sum(best[step] for step in STEPS[1:])
        peaks[library] = max(result["peak"] for result in results)
        print(f"{library:14}" + "".join(f"{best[step]:13.2f}" for step in STEPS)
              + f"{totals[library]:13.2f}{peaks[library] / 1e6:14.0f}")  # fmt: skip
    ours, theirs = (found[library][0]["scores"] for library in found)
    apart = max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) / max(map(abs, theirs))
    print(f"limit {limit / 1e6:.0f} MB; {totals['triptych'] / totals['transformers']:.2f} of the time; "
          f"scores differ by {apart:.4f} of the largest")  # fmt: skip
    return peaks["triptych"] <= limit and totals["triptych"] < totals["transformers"] and apart < 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--layers", type=int, default=22)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--new", type=int, default=4)
    parser.add_argument("--folder", help="where the checkpoint is, or is to be; a temporary folder by default")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.folder, arguments.tokens, arguments.new)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments.folder or temporary)
        if not (folder / "config.json").exists():
            make_source(folder, arguments.layers)
        for file in folder.glob("*.safetensors"):
            file.read_bytes()
        sys.exit(0 if measure(str(folder), arguments) else 1)


if __name__ == "__main__":
    main()
