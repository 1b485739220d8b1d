"""The numbers of one comparison: differences, absolute and relative, cosine; of scores also KL divergence and top-1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from triptych_conformance.tolerance import Comparison, compare, counted

SCORES = ("logits", "start_logits", "end_logits", "prediction_logits", "seq_relationship_logits", "mc_logits")
"""Outputs that are scores of classes or words, along the last axis."""


@dataclass(frozen=True)
class Measures:
    """How far an array is from its reference, at the positions that count.

    `largest` and `mean` are of the absolute differences; `relative_largest` and `relative_mean` are these by the
    largest and the mean of the reference; `cosine` is of both as one vector. `divergence` is the mean of KL(reference
    || found) in nats and `agreement` the part of rows whose largest score is the same one: of scores alone, else None.
    """

    largest: float
    mean: float
    relative_largest: float
    relative_mean: float
    cosine: float
    allowed: float
    fraction: float
    divergence: float | None = None
    agreement: float | None = None

    @property
    def close(self) -> bool:
        """Whether the arrays are as close as the one rule of tolerance asks."""
        return self.fraction <= 1

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers for JSON; what is not finite as text."""
        values = vars(self).items()
        return {name: value if value is None or np.isfinite(value) else str(value) for name, value in values}


def measure(found: Any, reference: Any, mask: Any = None, *, scores: bool = False,
            comparison: Comparison | None = None) -> Measures:  # fmt: skip
    """Return the measures of `found`, and by `comparison` (default: that of float32) whether it is close.

    Args:
        found, reference: arrays of one shape; of two, everything is infinitely far apart.
        mask: [B, Q], as for `compare`.
        scores: the last axis holds scores, of which the rows are compared as distributions.
    """
    comparison = comparison or compare(found, reference, mask)
    infinite = float("inf")
    if np.shape(found) != np.shape(reference):
        return Measures(infinite, infinite, infinite, infinite, float("nan"), comparison.tolerance, infinite)
    ours, theirs = counted(found, mask), counted(reference, mask)
    with np.errstate(all="ignore"):
        apart = np.abs(ours - theirs)
        norms = np.linalg.norm(ours) * np.linalg.norm(theirs)
        numbers = (
            float(apart.max(initial=0.0)),
            float(apart.mean()) if apart.size else 0.0,
            float(apart.max(initial=0.0) / max(np.abs(theirs).max(initial=0.0), 1e-30)),
            float(apart.sum() / max(np.abs(theirs).sum(), 1e-30)),
            float((ours * theirs).sum() / norms) if norms else 1.0,
        )
    extra = _of_scores(ours, theirs) if scores and ours.ndim else (None, None)
    return Measures(*numbers, comparison.tolerance, comparison.fraction, *extra)


def _of_scores(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    with np.errstate(all="ignore"):
        p, q = _log_softmax(theirs), _log_softmax(ours)
        divergence = float((np.exp(p) * (p - q)).sum(-1).mean())
    return max(divergence, 0.0), float((ours.argmax(-1) == theirs.argmax(-1)).mean())


def _log_softmax(scores: np.ndarray) -> np.ndarray:
    shifted = scores - scores.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
