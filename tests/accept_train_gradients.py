"""Gradients of every head of every family, and of their variants, in the three frameworks: longer than a test.

    python tests/accept_train_gradients.py [PART-OF-A-NAME ...]   # "bert" for all whose variant or class has it

Prints for each class, without and with gradient checkpointing, the largest difference of a parameter's gradient as a
part of the largest gradient in the model, and whose it is; 1e-5 is allowed. Exits with status 1 if one is larger.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch  # noqa: F401  # before TensorFlow: the other order crashes some builds

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / one) for one in ("conformance", "conformance/support")]

from small_models import CLASSES, config_of, labelled_inputs, random_folder  # noqa: E402
from triptych_conformance import BACKENDS, Parity, gradient_parity, gradients_of, without_dropout  # noqa: E402
from triptych_conformance.tolerance import FLOAT32  # noqa: E402

PROBLEMS = {
    "regression": {"num_labels": 1},
    "multi_label_classification": {"problem_type": "multi_label_classification"},
}
CASES = [(variant, stem, {}) for variant, stem in CLASSES]
CASES += [("bert", "BertForSequenceClassification", changes) for changes in PROBLEMS.values()]


def measured(variant: str, stem: str, changes: dict[str, object], checkpointing: bool) -> tuple[Parity, int, int]:
    """Return the comparison, how many parameters there are, and how many of them get a gradient."""
    config = without_dropout(config_of(variant, stem, **changes))
    with tempfile.TemporaryDirectory() as scratch:
        folder = random_folder(Path(scratch), config, stem)
        inputs = labelled_inputs(stem, config)
        found = {
            backend.name: gradients_of(backend, backend.load(stem, folder), inputs, checkpointing)
            for backend in BACKENDS
        }
    trained = sum(bool(np.abs(gradient).any()) for gradient in found[BACKENDS[0].name].values())
    return gradient_parity(found), len(found[BACKENDS[0].name]), trained


def main(chosen: list[str]) -> int:
    wrong = 0
    for variant, stem, changes in CASES:
        if chosen and not any(part in f"{variant} {stem}" for part in chosen):
            continue
        for checkpointing in (False, True):
            parity, count, trained = measured(variant, stem, changes, checkpointing)
            (name, pair), worst = max(parity.comparisons.items(), key=lambda one: one[1].fraction)
            wrong += worst.fraction > 1
            how = "anew" if checkpointing else "kept"
            print(f"{worst.fraction * FLOAT32:.1e}  {stem} ({variant}{changes or ''}), {how}: {pair} {name}; "
                  f"{trained} of {count} parameters get a gradient", flush=True)  # fmt: skip
    print(f"{wrong} differ by more than {FLOAT32}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
