"""How far two results may lie apart: the one rule that every comparison of floats follows.

    float32               max|found - reference| <= 1e-5 * max(1, max|reference|)
    bfloat16 and float16  rms(found - exact) <= 3 * rms(theirs - exact)

By its size, since the rounding of a sum grows with it: logits of 22 have steps of 1.9e-6 in float32. In low precision
no such bound is of use, so the yardstick is what the reference framework itself computes in that precision (`theirs`),
measured by the float32 result of the same weights (`exact`); and as the root of the mean square, since the largest of
few values is up to 1.9 times that of the yardstick by chance alone, where this is up to 1.5 times.

Where TRIPTYCH_TOLERANCES names a file, each comparison that is asserted appends a line to it: the test, what was
compared, the difference, the tolerance and the fraction of it. `python -m triptych_conformance FILE` shows the largest.

This module imports numpy alone, so that it can be used without any framework.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

FLOAT32 = 1e-5
LOW_PRECISION = 3.0


@dataclass(frozen=True)
class Comparison:
    """How far two results lie apart, and how far they may."""

    difference: float
    tolerance: float

    @property
    def fraction(self) -> float:
        """The difference as a fraction of the tolerance: up to 1 is close."""
        if not self.difference:
            return 0.0
        return self.difference / self.tolerance if self.tolerance else float("inf")

    def record(self, what: str) -> None:
        """Append a line of JSON to the file that TRIPTYCH_TOLERANCES names, if it names one."""
        path = os.environ.get("TRIPTYCH_TOLERANCES")
        if path:
            test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
            numbers = {"difference": self.difference, "tolerance": self.tolerance, "fraction": self.fraction}
            with open(path, "a") as file:
                file.write(json.dumps({"test": test, "what": what, **numbers}) + "\n")

    def __str__(self) -> str:
        return f"{self.difference:.2e} apart where {self.tolerance:.2e} is allowed"


def compare(found: Any, reference: Any, mask: Any = None) -> Comparison:
    """Return how far `found` is from `reference`, and the rule's tolerance for it: see the module.

    Args:
        found, reference: arrays of one shape, or numbers; shapes that differ are infinitely far apart, and so is any
            value that counts and is NaN or infinite, in either.
        mask: [B, Q], says which positions of results [B, Q, ...] and queries of attention [B, N, Q, K] count, in the
            difference and in the size. Where nothing counts nothing is shown, so that is infinitely far apart too.
    """
    expected = counted(reference, mask)
    if not expected.size or not np.isfinite(expected).all():
        return Comparison(float("inf"), FLOAT32)
    size = float(np.abs(expected).max(initial=1.0))
    return Comparison(largest_difference(found, reference, mask), FLOAT32 * size)


def compare_low_precision(found: Any, exact: Any, theirs: Any, mask: Any = None) -> Comparison:
    """Return how far `found`, of low precision, is from the float32 result, and how far it may be: see the module.

    Args:
        found: the result in bfloat16 or float16.
        exact: the float32 result of the same weights and inputs.
        theirs: what the reference framework computes in the precision of `found`.
        mask: as in `compare`; the other conditions of `compare` hold as well.
    """
    ours, allowed = (root_mean_square(array, exact, mask) for array in (found, theirs))
    return Comparison(ours, LOW_PRECISION * allowed if np.isfinite(allowed) else 0.0)


def compare_all_in_low_precision(found: Mapping[str, Any], exact: Mapping[str, Any], theirs: Mapping[str, Any],
                                 mask: Any = None) -> Comparison:  # fmt: skip
    """Return the same of several results as one, each by the size of its float32 values.

    Of a result of few values the root of the mean square is a matter of chance: two logits may lie at three times the
    distance of two others that are rounded alike.
    """

    def distance(results: Mapping[str, Any]) -> float:
        sizes = {name: np.sqrt(np.square(counted(array, mask)).mean()) for name, array in exact.items()}
        parts = [root_mean_square(results[name], exact[name], mask) / max(sizes[name], 1e-30) for name in exact]
        return float(np.sqrt(np.square(parts).mean()))

    ours, allowed = distance(found), distance(theirs)
    return Comparison(ours, LOW_PRECISION * allowed if np.isfinite(allowed) else 0.0)


def assert_close(found: Any, reference: Any, mask: Any = None, what: str = "") -> None:
    """Raise AssertionError unless `found` is as close to `reference` as float32 allows: see `compare`."""
    _assert_holds(compare(found, reference, mask), what, found, reference)


def assert_close_in_low_precision(found: Any, exact: Any, theirs: Any, mask: Any = None, what: str = "") -> None:
    """Raise AssertionError unless `found` is about as close to `exact` as `theirs` is: see `compare_low_precision`."""
    _assert_holds(compare_low_precision(found, exact, theirs, mask), what, found, exact)


def largest_difference(one: Any, other: Any, mask: Any = None) -> float:
    """Return the largest absolute difference, at positions [B, Q] whose mask is 1 where the shape has them.

    Attention probabilities [B, N, Q, K] are compared at the queries that count. Shapes that differ, and values that are
    not finite, count as infinitely far apart.
    """
    return float(_differences(one, other, mask).max(initial=0.0))


def root_mean_square(one: Any, other: Any, mask: Any = None) -> float:
    """Return the root of the mean square of the differences: as `largest_difference` otherwise."""
    differences = _differences(one, other, mask)
    return float(np.sqrt(np.square(differences).mean())) if differences.size else float("inf")


def _differences(one: Any, other: Any, mask: Any) -> np.ndarray:
    if np.shape(one) != np.shape(other):
        return np.array([np.inf])
    with np.errstate(invalid="ignore"):
        differences = np.abs(counted(one, mask) - counted(other, mask))
    return np.where(np.isnan(differences), np.inf, differences)


def counted(array: Any, mask: Any) -> np.ndarray:
    """Return the values of `array` that count, float64: see `compare` for `mask`."""
    array = np.asarray(array).astype(np.float64)
    if mask is None or array.ndim < 2:
        return array
    where = np.asarray(mask).astype(bool)
    if array.shape[:2] == where.shape:
        return array[where]
    if array.ndim == 4 and (array.shape[0], array.shape[2]) == where.shape:
        return array.transpose(0, 2, 1, 3)[where]
    return array


def _assert_holds(comparison: Comparison, what: str, found: Any, reference: Any) -> None:
    comparison.record(what)
    if not comparison.fraction <= 1:
        shapes = {str(np.shape(found)), str(np.shape(reference))}
        raise AssertionError(f"{what or 'result'} {' and '.join(sorted(shapes))}: {comparison}")
