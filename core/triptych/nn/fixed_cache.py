"""Caches of a fixed size, of which a call returns another: TensorFlow's and JAX's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from triptych.nn.fitting import full, require_fitting
from triptych.nn.growing_cache import rows_of_memory

FIELDS = ("keys", "values", "memory", "position")


class FixedCache:
    """The same over a dict: `keys` and `values`, tuples of [B, N, max_length, D]; `position`, an int32 scalar; and
    `memory`, keys and values of the encoder's output by layer, empty before the first call.

    Raises:
        ArgumentError: the tokens do not fit. In a compiled call, where that is unknown, the outputs become NaN.
    """

    fixed = True

    def __init__(self, ops: Any, state: Mapping[str, Any]) -> None:
        self._ops = ops
        self._keys, self._values = list(state["keys"]), list(state["values"])
        self._memory = dict(state["memory"])
        self.position = state["position"]

    def span(self, new: Any, window: int | None = None) -> tuple[int, Any]:
        return 0, self._keys[0].shape[2]

    def extend(self, layer: int, key: Any, value: Any) -> tuple[Any, Any]:
        there = layer < len(self._keys)
        require_fitting(self._keys[layer] if there else None, self._values[layer] if there else None, key, layer)
        ops, room = self._ops, self._keys[layer].shape[2]
        length = ops.shape(key)[2]
        known = ops.known(self.position)
        if known is not None and isinstance(length, int) and known + length > room:
            raise full(room, known + length, "make a larger one: init_cache(batch_size, max_length)")
        fits = self.position + length <= room
        for held, new in ((self._keys, key), (self._values, value)):
            # What does not fit is written over the last places, as NaN: so a compiler may write into the buffer, which
            # a choice between the whole buffer and NaN would copy.
            poisoned = ops.where(fits, new, ops.cast(ops.constant(float("nan"), new), new.dtype))
            held[layer] = ops.write(held[layer], ops.cast(poisoned, held[layer].dtype), self.position)
        return ops.cast(self._keys[layer], key.dtype), ops.cast(self._values[layer], value.dtype)

    def memory(self, layer: int, make: Callable[[], tuple[Any, Any]]) -> tuple[Any, Any]:
        if str(layer) not in self._memory:
            self._memory[str(layer)] = make()
        return self._memory[str(layer)]

    def after(self, new: Any) -> dict[str, Any]:
        return {
            "keys": tuple(self._keys),
            "values": tuple(self._values),
            "memory": self._memory,
            "position": self.position + new,
        }


def is_state(cache: Any) -> bool:
    """Return whether this is what a `FixedCache` is made of."""
    return isinstance(cache, Mapping) and set(FIELDS) <= set(cache)


def rows_of_state(ops: Any, state: Mapping[str, Any], rows: Any) -> dict[str, Any]:
    """Return the `rows` of the batch of a cache."""
    keys = state["keys"][0] if state["keys"] else None
    return {
        "keys": tuple(ops.rows_of(x, rows) for x in state["keys"]),
        "values": tuple(ops.rows_of(x, rows) for x in state["values"]),
        "memory": {layer: rows_of_memory(ops, pair, rows, keys) for layer, pair in state["memory"].items()},
        "position": state["position"],
    }
