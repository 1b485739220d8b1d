"""What a reader takes of a file at most, of whichever format: a file says how much memory is asked for."""

from __future__ import annotations

from pathlib import Path

from triptych.errors import LimitError

MAX_HEADER_BYTES = 100_000_000
MAX_TENSORS = 2**18
"""In one file. A model may have as many weights (`weights.schema`)."""
MAX_RANK = 32
MAX_ELEMENTS = 2**48
GROWTH = 16
"""All tensors of a file that compresses or shares them may be this many times larger than it, ..."""
FREE_GROWTH = 2**28
"""... or have this many bytes."""
MAX_NAME = 4096


def check_growth(total: int, size: int, path: Path) -> None:
    """Raise `LimitError` if the tensors of a file of `size` bytes have far more, `total`: files must not unfold."""
    if total > max(FREE_GROWTH, GROWTH * size):
        raise LimitError(
            f"{path} unfolds into far more than its size.",
            expected=f"at most {GROWTH} times {size} bytes, or {FREE_GROWTH}",
            received=f"{total} bytes",
            remedy="save it again, with contiguous tensors and without compression",
        )
