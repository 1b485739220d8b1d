"""Sizes of compiled searches."""

from __future__ import annotations

import pytest

from triptych.generation.buckets import bucket


@pytest.mark.parametrize(
    ("length", "most", "short", "size"),
    [(1, None, False, 64), (64, None, False, 64), (65, None, False, 128), (5, 20, False, 20), (30, 20, False, 30),
     (1, None, True, 16), (16, None, True, 16), (17, None, True, 32), (33, None, True, 64), (65, None, True, 128),
     (9, 12, True, 12)],
)  # fmt: skip
def test_lengths_share_buckets(length: int, most: int | None, short: bool, size: int) -> None:
    assert bucket(length, most, short) == size
