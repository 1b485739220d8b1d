"""Random numbers for draws of tokens, the same in every framework: see `triptych.nn.threefry`.

A number is a function of the seed and of its place (step, row, column).
"""

from __future__ import annotations

from typing import Any

from triptych.nn.threefry import Pair, key_of, threefry

__all__ = ["Pair", "gumbel", "key_of"]


def gumbel(ops: Any, key: Pair, step: Any, rows: int, columns: int, like: Any) -> Any:
    """Return float32 [rows, columns] of the standard Gumbel distribution, for step number `step` under `key`.

    The greatest of `log(p) + noise` is a draw from the distribution `p`, and the k greatest are k draws without
    replacement (Kool, van Hoof and Welling, 2019, https://arxiv.org/abs/1903.06059).
    """
    of_step = threefry(ops, key, (ops.cast(step, ops.WORD), ops.word(0)))
    half = (columns + 1) // 2
    places = ops.arange(rows * half, like)
    row, column = (ops.cast(place, ops.WORD) for place in (places // half, places % half))
    words = [ops.reshape(word, (rows, half)) for word in threefry(ops, of_step, (row, column))]
    bits = ops.concat(words, 1)[:, :columns]
    # 23 bits, so that the middle of every interval is a number of float32, and none is 0 or 1.
    uniform = (ops.cast(ops.shift(bits, -9), "float32") + 0.5) * 2.0**-23
    return -ops.log(-ops.log(uniform))
