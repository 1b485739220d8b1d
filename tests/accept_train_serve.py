"""Models are served by three frameworks: what each exports of one checkpoint gives equal outputs without triptych.

    python tests/accept_train_serve.py

Of the real MiniLM and of small models of BERT, GPT-2, Llama and T5, PyTorch writes a file of `torch.export`,
TensorFlow a SavedModel and JAX a file of `jax.export`; a process of each, which cannot import triptych, loads them and
runs them on texts of two sizes. Prints how far their outputs are from those of the model in PyTorch, as a fraction of
what the rule of `triptych_conformance` allows, with the sizes of the files and the seconds that were taken; exits with
status 1 if any is above 1.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch  # noqa: F401  (before TensorFlow: the other order crashes some builds)

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / folder) for folder in ("conformance/support", "conformance", "examples")]

from demo import minilm  # noqa: E402

import run_served  # noqa: E402
from small_models import config_of, random_folder  # noqa: E402
from triptych_conformance import BACKENDS, Backend, compare  # noqa: E402

STEMS = {
    "minilm": "BertModel",
    "bert": "BertForMaskedLM",
    "gpt2": "GPT2LMHeadModel",
    "llama": "LlamaForCausalLM",
    "t5": "T5ForConditionalGeneration",
}
SIZES = ((3, 12), (1, 1))


def texts(kind: str, batch: int, length: int) -> dict[str, np.ndarray]:
    """Return inputs of these sizes, the first text of which is padded."""
    random = np.random.default_rng(batch)
    mask = np.ones((batch, length), np.int64)
    mask[0, length - length // 3 :] = 0
    inputs = {"input_ids": random.integers(3, 30, (batch, length)), "attention_mask": mask}
    if kind in ("minilm", "bert", "gpt2"):
        inputs["token_type_ids"] = np.zeros_like(mask)
    if kind == "t5":
        ids = random.integers(3, 30, (batch, length + 2))
        inputs |= {"decoder_input_ids": ids, "decoder_attention_mask": np.ones_like(ids)}
    return inputs


def prepare(folder: Path) -> dict[str, Path]:
    """Write inputs into `folder`, and return the checkpoint of each kind."""
    found = {"minilm": minilm()}
    for kind, stem in STEMS.items():
        if kind != "minilm":
            found[kind] = random_folder(folder / kind, config_of(kind, stem), stem)
        for number, sizes in enumerate(SIZES):
            np.savez(folder / f"{kind}.{number}.inputs.npz", **texts(kind, *sizes))  # type: ignore[arg-type]
    return found


def run_without_triptych(framework: str, folder: Path) -> float:
    """Let a process run the exported models; return the seconds that it took."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    began = time.perf_counter()
    subprocess.run([sys.executable, "-W", "ignore", run_served.__file__, framework, str(folder)], env=environment,
                   check=True)  # fmt: skip
    return time.perf_counter() - began


def arrays(file: Path) -> dict[str, np.ndarray]:
    with np.load(file) as opened:
        return dict(opened)


def fractions(kind: str, framework: str, source: Path, folder: Path) -> Iterator[float]:
    """Yield how far each output is from that of the model in PyTorch."""
    backend = Backend("pt")
    model = backend.load(STEMS[kind], source)
    for number in range(len(SIZES)):
        reference = backend.run(model, arrays(folder / f"{kind}.{number}.inputs.npz"))
        found = arrays(folder / f"{kind}.{number}.{framework}.npz")
        assert sorted(found) == sorted(reference), (kind, framework, sorted(found), sorted(reference))
        yield from (compare(found[name], reference[name]).fraction for name in reference)


def size_of(path: Path) -> int:
    return (
        sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else path.stat().st_size
    )


def main() -> int:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        sources, worst = prepare(folder), 0.0
        print(f"{'model':<8}{'framework':>10}{'of the rule':>13}{'MB':>8}{'export, s':>11}")
        for backend in BACKENDS:
            taken = {}
            for kind, source in sources.items():
                model, file = backend.load(STEMS[kind], source), run_served.file_of(folder, kind, backend.name)
                began = time.perf_counter()
                if backend.name == "tf":
                    model.export(file, verbose=False)
                else:
                    model.export(file)
                taken[kind] = time.perf_counter() - began
            seconds = run_without_triptych(backend.name, folder)
            for kind, source in sources.items():
                largest = max(fractions(kind, backend.name, source, folder))
                megabytes = size_of(run_served.file_of(folder, kind, backend.name)) / 1e6
                print(f"{kind:<8}{backend.name:>10}{largest:>13.3f}{megabytes:>8.1f}{taken[kind]:>11.1f}", flush=True)
                worst = max(worst, largest)
            print(f"{'':<8}{backend.name:>10}  a process without triptych ran them all in {seconds:.1f} s", flush=True)
    print("equal" if worst <= 1 else "NOT EQUAL")
    return int(worst > 1)


if __name__ == "__main__":
    sys.exit(main())
