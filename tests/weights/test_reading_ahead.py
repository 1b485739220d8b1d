"""Tensors read ahead: the largest first, and threads that take quick turns meanwhile."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from triptych import TensorRef
from triptych.weights.plan import Assignment
from triptych.weights.reading_ahead import ReadAhead
from triptych.weights.schema import Axis, Layout, Weight

FLOAT32 = np.dtype(np.float32)


def weight(name: str, *lengths: int) -> Weight:
    return Weight(name, tuple(Axis("rows", length) for length in lengths), Layout.LINEAR)


def test_reading_ahead_begins_with_the_largest() -> None:
    order: list[int] = []

    def ref(rows: int) -> TensorRef:
        def read() -> np.ndarray:
            order.append(rows)
            return np.full((rows, 2), rows, np.float32)

        return TensorRef(str(rows), FLOAT32, (rows, 2), read)

    assignments = [Assignment(weight(str(rows), rows, 2), ref(rows), FLOAT32) for rows in (1, 2, 50, 3)]
    with ReadAhead(assignments, "tf") as ahead:
        results = [ahead.read(assignment) for assignment in assignments]
    assert order[0] == 50
    assert [result.shape for result in results] == [(2, 1), (2, 2), (2, 50), (2, 3)]


def test_threads_take_quick_turns_while_a_load_reads_and_not_after(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = sys.getswitchinterval()
    with ReadAhead([], "tf"):
        assert sys.getswitchinterval() < usual
        with pytest.raises(ValueError), ReadAhead([], "flax"):
            raise ValueError
        assert sys.getswitchinterval() < usual, "another load is not done yet"
    assert sys.getswitchinterval() == usual
