"""Dropout by a seed that means the same in every framework: see `triptych.modeling.seeding`.

Whether a value is dropped is a function of seed, step, the path of the layer and the place of the value in its tensor,
by Threefry-2x32 with 13 rounds (see `triptych.nn.threefry`). Nothing is carried from call to call, so that what is
computed anew for the gradient drops the same values.
"""

from __future__ import annotations

import copy
import math
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from triptych.errors import ArgumentError
from triptych.nn.threefry import OnHost, Pair, threefry, words_of

_LEVELS = 1 << 16
"""A rate is a multiple of one part in so many, since each value takes 16 bits."""
_PER_COUNTER = 4
_ROUNDS = 13
_MASK = 0xFFFFFFFF
_GOLDEN = 0x9E3779B9  # an odd number; any


class Stream:
    """What the dropout layers of a model draw from in one step.

    Args:
        seed: an integer from 0 to 2^64 - 1.
        step: an integer from 0 to 2^32 - 1; or an integer array without axes, which may be of a trace.
        shard: which of the equal parts of the batch, along the first axis, a call has.

    Raises:
        ArgumentError: one of them is none of that.
    """

    def __init__(self, ops: Any, seed: Any, step: Any, shard: Any = 0) -> None:
        self.words, self.shard = words_of(seed), _whole(ops, "shard", shard)
        self.is_traced = ops.compiles()
        self.move_to(ops, _whole(ops, "step", step))

    def move_to(self, ops: Any, step: Any) -> None:
        """Draw for another step."""
        self.key = _key(ops, self.words, step)

    def check(self, ops: Any) -> None:
        """Raise `ArgumentError` if a function is being traced that would keep the step of this moment for ever."""
        if ops.compiles() and not self.is_traced:
            raise ArgumentError(
                "A function that is traced would keep this step of seeded_dropout for ever.",
                expected="the context within the function, and the step as its argument",
                received="a context around it",
                remedy="open `with model.seeded_dropout(seed, step):` in the function that is compiled",
            )


def _key(ops: Any, seed: tuple[int, int], step: Any) -> Pair:
    if isinstance(step, int):
        words = [OnHost.word(word) for word in seed]
        low, high = threefry(OnHost, (words[0], words[1]), (OnHost.word(step), OnHost.word(0)))
        return ops.word(int(low[0])), ops.word(int(high[0]))
    return threefry(ops, (ops.word(seed[0]), ops.word(seed[1])), (ops.cast(step, ops.WORD), ops.word(0)))


def _whole(ops: Any, name: str, value: Any) -> Any:
    """Return an integer, or an array of one."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and 0 <= int(value) < 1 << 32:
        return int(value)
    if hasattr(value, "shape") and tuple(value.shape) == () and ops.is_integer(value):
        return value
    raise ArgumentError(f"{name} is impossible.", expected="an integer from 0 to 2^32 - 1, or an integer array without "
                        "axes", received=repr(value)[:80])  # fmt: skip


def place_of(path: str) -> int:
    """Return the number of 32 bits that stands for the layer at a dotted path."""
    return zlib.crc32(path.encode())


def again(dropout: Any, x: Any) -> Any:
    """Return what a dropout layer makes of `x` where its part calls it a second time: other values are dropped."""
    return dropout.again(x) if hasattr(dropout, "again") else dropout(x)  # another's layer may have been put there


def dropped(ops: Any, x: Any, rate: float, stream: Stream, place: int, use: int = 0) -> Any:
    """Return `x` with some values 0, and the others divided by the share of those that are kept, so that means stay.

    The values of the last axis are four parts, each of which takes 16 of the 64 bits of a counter: no part of a batch
    needs what another has, be it on another device. `use` tells apart several calls of a layer in its part.
    """
    limit = round(rate * _LEVELS)
    if not 0 < limit < _LEVELS:
        return x * (0.0 if limit else 1.0)
    *rows, width = ops.shape(x)
    quarter = (width + _PER_COUNTER - 1) // _PER_COUNTER
    count = math.prod(rows) * quarter
    first = ops.word(0) if _is_first(stream.shard) else _times(ops, x, stream.shard, count)
    # The words of a layer's own are the second half of the counter, and the bound is the least of what is kept.
    place = (place + use * _GOLDEN) & _MASK
    words = (*stream.key, ops.word(place), first, ops.signed(ops.word((limit << 16) ^ 1 << 31)))
    parts = [ops.reshape(part, (*rows, quarter)) for part in ops.counted(_kept, count, x, *words)]
    kept = ops.concat(parts, -1)[..., :width]
    return ops.masked(x, kept, _LEVELS / (_LEVELS - limit))


def _is_first(shard: Any) -> bool:
    return isinstance(shard, int) and shard == 0


def _times(ops: Any, x: Any, *numbers: Any) -> Any:
    """Return the product of two numbers as a word, beside `x`."""
    one, other = (ops.cast(ops.constant(number, x), ops.WORD) for number in numbers)
    return one * other


def _kept(ops: Any, counter: Any, low: Any, high: Any, place: Any, first: Any, bound: Any) -> tuple[Any, ...]:
    """Return for each word of `counter` which of four values are kept."""
    # As numbers with a sign, which every framework compares: their order is that of words whose highest bit is flipped.
    words = threefry(ops, (low, high), (counter + first, place), _ROUNDS)
    return tuple(ops.signed(ops.shift(word, bits) if bits else word) >= bound for word in words for bits in (0, 16))


def is_seeded(layer: Any) -> bool:
    """Return whether a dropout layer draws from a `Stream`."""
    return getattr(layer, "stream", None) is not None


def draw_from(layers: Iterable[tuple[str, Any]], stream: Stream | None) -> None:
    """Let these dropout layers, with the path of each, draw from `stream`; with None, as their framework does."""
    for path, layer in layers:
        vars(layer).update(stream=stream, place=place_of(path))


def replaying(layers: Iterable[Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function`, which calls these layers, so that those of dropout always draw from what they do now."""
    held = [(vars(layer), copy.copy(layer.stream)) for layer in layers if is_seeded(layer)]
    if not held:
        return function

    def run(*args: Any, **kwargs: Any) -> Any:
        before = [(own, own.get("stream")) for own, _ in held]
        for own, stream in held:
            own["stream"] = stream
        try:
            return function(*args, **kwargs)
        finally:
            for own, stream in before:
                own["stream"] = stream

    return run
