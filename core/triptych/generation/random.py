"""Random numbers that are the same in every framework: Threefry-2x32 with 20 rounds, a counter-based generator.

Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). A number is a function of the
seed and of its place (step, row, column), so that no state is carried, and no order of computation changes it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from triptych.errors import ArgumentError

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
_MASK = 0xFFFFFFFF
Pair = tuple[Any, Any]


def threefry(ops: Any, key: Pair, counter: Pair) -> Pair:
    """Return two random words of 32 bits for each pair of words of `counter`, arrays of one shape, under `key`.

    Words are integers from 0 to 2^32 - 1 in arrays of `ops.WORD`.
    """
    mask = ops.word(_MASK)
    keys = (key[0], key[1], key[0] ^ key[1] ^ ops.word(_PARITY))
    x, y = (counter[0] + keys[0]) & mask, (counter[1] + keys[1]) & mask
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x = (x + y) & mask
            left, right = ops.word(1 << rotation), ops.word(1 << (32 - rotation))
            y = (((y * left) & mask) + y // right) ^ x
        x = (x + keys[(group + 1) % 3]) & mask
        y = (y + keys[(group + 2) % 3] + ops.word(group + 1)) & mask
    return x, y


def key_of(ops: Any, seed: Any) -> Pair:
    """Return the key that `seed` is: an integer from 0 to 2^64 - 1, or a pair of words.

    Raises:
        ArgumentError: it is neither.
    """
    if isinstance(seed, tuple) and len(seed) == 2 and all(hasattr(word, "shape") for word in seed):
        return tuple(ops.cast(word, ops.WORD) for word in seed)  # type: ignore[return-value]
    whole = isinstance(seed, (int, np.integer)) and not isinstance(seed, bool)
    if not whole or not 0 <= int(seed) < 1 << 64:
        raise ArgumentError("seed is impossible.", expected="an integer from 0 to 2^64 - 1", received=repr(seed)[:80])
    seed = int(seed)
    return ops.word(seed & _MASK), ops.word(seed >> 32)


def gumbel(ops: Any, key: Pair, step: Any, rows: int, columns: int, like: Any) -> Any:
    """Return float32 [rows, columns] of the standard Gumbel distribution, for step number `step` under `key`.

    The greatest of `log(p) + noise` is a draw from the distribution `p`, and the k greatest are k draws without
    replacement (Kool, van Hoof and Welling, 2019, https://arxiv.org/abs/1903.06059).
    """
    zero = ops.cast(step, ops.WORD) * ops.word(0)
    of_step = threefry(ops, key, (ops.cast(step, ops.WORD), zero))
    half = (columns + 1) // 2
    places = ops.cast(ops.arange(rows * half, like), ops.WORD)
    row, column = places // ops.word(half), places % ops.word(half)
    words = [ops.reshape(word, (rows, half)) for word in threefry(ops, of_step, (row, column))]
    bits = ops.concat(words, 1)[:, :columns]
    # 23 bits, so that the middle of every interval is a number of float32, and none is 0 or 1.
    uniform = (ops.cast(bits // ops.word(512), "float32") + 0.5) * 2.0**-23
    return -ops.log(-ops.log(uniform))
