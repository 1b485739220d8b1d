"""Draws of tokens by a seed that means the same in every framework: see `triptych.generation.random`."""

from __future__ import annotations

from typing import Any

from triptych.generation.random import Pair, gumbel


class Seeded:
    """Draws under a key. `step` is the length of the text so far."""

    def __init__(self, ops: Any, key: Pair) -> None:
        self.ops, self.key = ops, key

    def one(self, scores: Any, step: Any) -> Any:
        """Return a token [R] for each row of `scores` [R, V], which are logarithms but for a constant."""
        return self.ops.argmax(self._noisy(scores, step))

    def several(self, scores: Any, count: int, step: Any) -> Any:
        """Return `count` different places [R, count] of each row of `scores` [R, N]."""
        return self.ops.topk(self._noisy(scores, step), count)[1]

    def _noisy(self, scores: Any, step: Any) -> Any:
        rows, columns = scores.shape
        ops = self.ops
        return scores + gumbel(ops, self.key, ops.constant(step, scores), rows, columns, scores)
