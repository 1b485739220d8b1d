"""Random words that are the same in every framework: Threefry-2x32, a counter-based generator.

Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). A word is a function of a key
and of a counter, so that no state is carried, and no order of computation changes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from triptych.errors import ArgumentError

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
_MASK = 0xFFFFFFFF
Pair = tuple[Any, Any]


def threefry(ops: Any, key: Pair, counter: Pair, rounds: int = 20) -> Pair:
    """Return two random words of 32 bits for each pair of words of `counter`, under `key`.

    Words are arrays of `ops.WORD`, integers of 32 bits whose sums wrap around. With 20 `rounds` there is a margin of
    safety; its authors know of no statistical flaw with 13 or more.
    """
    keys = (key[0], key[1], key[0] ^ key[1] ^ ops.word(_PARITY))
    x, y = counter[0] + keys[0], counter[1] + keys[1] + counter[0] * ops.word(0)
    whole, left = divmod(rounds, 4)
    state = (x, y, keys[1:] + keys[:1], ops.word(1), _ROTATIONS)
    x, y, *_ = ops.repeated(_group, whole, state)
    for rotation in _ROTATIONS[whole % 2][:left]:
        x, y = _round(ops, x, y, rotation)
    return x, y


def _group(ops: Any, state: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the words after four rounds, and what the next four take: keys, the group's number, rotations."""
    x, y, keys, number, rotations = state
    for rotation in rotations[0]:
        x, y = _round(ops, x, y, rotation)
    return x + keys[0], y + (keys[1] + number), keys[1:] + keys[:1], number + ops.word(1), rotations[::-1]


def _round(ops: Any, x: Any, y: Any, rotation: Any) -> Pair:
    x = x + y
    return x, ops.rotated(y, rotation) ^ x


def key_of(ops: Any, seed: Any) -> Pair:
    """Return the key that `seed` is: an integer from 0 to 2^64 - 1, or a pair of words.

    Raises:
        ArgumentError: it is neither.
    """
    if isinstance(seed, tuple) and len(seed) == 2 and all(hasattr(word, "shape") for word in seed):
        return tuple(ops.cast(word, ops.WORD) for word in seed)  # type: ignore[return-value]
    low, high = words_of(seed)
    return ops.word(low), ops.word(high)


def words_of(seed: Any) -> tuple[int, int]:
    """Return the lower and the upper 32 bits of a seed.

    Raises:
        ArgumentError: it is no integer from 0 to 2^64 - 1.
    """
    whole = isinstance(seed, (int, np.integer)) and not isinstance(seed, bool)
    if not whole or not 0 <= int(seed) < 1 << 64:
        raise ArgumentError("seed is impossible.", expected="an integer from 0 to 2^64 - 1", received=repr(seed)[:80])
    return int(seed) & _MASK, int(seed) >> 32


def unrolled(ops: Any, function: Callable[..., Any], times: int, state: Any) -> Any:
    """Return `state` as `function(ops, state)` makes it anew so many times, one after another."""
    for _ in range(times):
        state = function(ops, state)
    return state


class OnHost:
    """The functions that `threefry` needs, on arrays of numpy."""

    @staticmethod
    def word(value: int) -> Any:
        return np.array([value], np.uint32)  # of numbers without axes numpy would say that they wrap around

    @staticmethod
    def rotated(x: Any, bits: int) -> Any:
        return x << np.uint32(bits) | x >> np.uint32(32 - bits)

    @staticmethod
    def repeated(function: Any, times: int, state: Any) -> Any:
        return unrolled(OnHost, function, times, state)
