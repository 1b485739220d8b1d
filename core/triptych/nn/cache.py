"""Keys and values of the tokens already seen, so that decoding computes each token once.

Each framework has its own way. PyTorch: an object that grows. TensorFlow and JAX: a dict of arrays of a fixed size, so
that a call is compiled once for all steps. A call never changes the cache that it is given, it returns another: so one
text can be continued in several ways.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from triptych.errors import ArgumentError
from triptych.nn import functional as fn


class GrowingCache:
    """Keys and values [B, N, K, D] of each decoder layer, of `position` tokens; reads as a sequence of layers."""

    def __init__(self, ops: Any, asked: bool = True) -> None:
        """`asked` says whether the call asks for the cache, and not the config."""
        self._ops, self.asked = ops, asked
        self.keys: dict[int, Any] = {}
        self.values: dict[int, Any] = {}
        self.position = 0
        self._memory: dict[int, tuple[Any, Any]] = {}
        self._grows = True

    def stay_empty(self) -> bool:
        """Keep nothing of the call that begins, and return True; False if something is held already."""
        self._grows = bool(self.keys or self._memory or self.position)
        return not self._grows

    @classmethod
    def of(cls, ops: Any, layers: Sequence[Sequence[Any]]) -> GrowingCache:
        """Return the cache of a tuple for each layer, as transformers 4 has them: key and value [B, N, K, D], and
        perhaps those of the encoder's output.

        Raises:
            ArgumentError: some of them hold more tokens.
        """
        made = cls(ops)
        for number, (key, value, *memory) in enumerate(layers):
            made.keys[number], made.values[number] = key, value
            made.position = ops.shape(key)[2]
            if memory:
                made._memory[number] = (memory[0], memory[1])
        made._require_even()
        return made

    def _require_even(self) -> None:
        """Raise unless each layer holds as many tokens."""
        lengths = [key.shape[2:3] for key in self.keys.values()]
        if any(fn.differ(length, lengths[0]) for length in lengths):
            raise _of_another_model("as many tokens in each layer", ", ".join(str(*length) for length in lengths))

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, layer: int) -> tuple[Any, ...]:
        """Return key and value of a layer, and those of the encoder's output if it has attended to that."""
        number = range(len(self))[layer]
        return (self.keys[number], self.values[number], *self._memory.get(number, ()))

    def branch(self) -> GrowingCache:
        """Return a cache of the same tensors, to which a call appends without changing this one."""
        made = GrowingCache(self._ops, self.asked)
        made.keys, made.values, made.position = dict(self.keys), dict(self.values), self.position
        made._memory = dict(self._memory)
        return made

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the number of tokens held, under the name that transformers gives it."""
        return self.position

    def keys_after(self, new: Any) -> Any:
        """Return how many keys a query sees once `new` tokens are appended."""
        return self.position + new

    def extend(self, layer: int, key: Any, value: Any) -> tuple[Any, Any]:
        """Append to layer `layer` and return all its keys and values.

        Raises:
            ArgumentError: the cache is of another model or batch.
        """
        if not self._grows:
            return key, value
        if layer in self.keys or self.position:
            _require_fitting(self.keys.get(layer), self.values.get(layer), key, layer)
            key = self._ops.concat([self.keys[layer], key], 2)
            value = self._ops.concat([self.values[layer], value], 2)
        self.keys[layer], self.values[layer] = key, value
        return key, value

    def memory(self, layer: int, make: Callable[[], tuple[Any, Any]]) -> tuple[Any, Any]:
        """Return keys and values of the encoder's output, which `make` computes once."""
        if not self._grows:
            return make()
        if layer not in self._memory:
            self._memory[layer] = make()
        return self._memory[layer]

    def after(self, new: Any) -> GrowingCache | None:
        """Return what the model returns as `past_key_values`, once all layers are extended.

        Raises:
            ArgumentError: a layer was not extended, as the cache is of a model that has more of them.
        """
        if not self._grows:
            return None
        self._require_even()
        self.position += new
        return self

    def __bool__(self) -> bool:
        return True

    def to_legacy_cache(self) -> tuple[tuple[Any, ...], ...]:
        """Return a tuple for each layer."""
        return tuple(self[layer] for layer in range(len(self)))


class HeldCache(GrowingCache):
    """A cache of transformers' kind (`DynamicCache`, `EncoderDecoderCache`), which a call changes, and returns."""

    def __init__(self, ops: Any, held: Any) -> None:
        super().__init__(ops)
        self.held, self._own = held, getattr(held, "self_attention_cache", held)
        self._others = getattr(held, "cross_attention_cache", None)
        self.position = int(self._own.get_seq_length())

    def branch(self) -> GrowingCache:
        return self

    def extend(self, layer: int, key: Any, value: Any) -> tuple[Any, Any]:
        if not self._grows:
            return key, value
        return self._own.update(key, value, layer, {})  # type: ignore[no-any-return]

    def memory(self, layer: int, make: Callable[[], tuple[Any, Any]]) -> tuple[Any, Any]:
        if self._others is None or not self._grows:
            return super().memory(layer, make)
        if not self.held.is_updated.get(layer):
            self._others.update(*make(), layer, {})
            self.held.is_updated[layer] = True
        return self._others.key_cache[layer], self._others.value_cache[layer]

    def after(self, new: Any) -> Any:
        return self.held if self._grows else None


def _may_grow(cache: Any) -> bool:
    """Return whether this is a cache of transformers' kind without a fixed size."""
    own = getattr(cache, "self_attention_cache", cache)
    return hasattr(own, "update") and hasattr(own, "key_cache") and own.get_max_cache_shape() is None


class FixedCache:
    """The same over a dict: `keys` and `values`, tuples of [B, N, max_length, D]; `position`, an int32 scalar; and
    `memory`, keys and values of the encoder's output by layer, empty before the first call.

    Raises:
        ArgumentError: the tokens do not fit. In a compiled call, where that is unknown, the outputs become NaN.
    """

    def __init__(self, ops: Any, state: Mapping[str, Any]) -> None:
        self._ops = ops
        self._keys, self._values = list(state["keys"]), list(state["values"])
        self._memory = dict(state["memory"])
        self.position = state["position"]

    def keys_after(self, new: Any) -> Any:
        return self._keys[0].shape[2]

    def extend(self, layer: int, key: Any, value: Any) -> tuple[Any, Any]:
        there = layer < len(self._keys)
        _require_fitting(self._keys[layer] if there else None, self._values[layer] if there else None, key, layer)
        ops, room = self._ops, self._keys[layer].shape[2]
        length = ops.shape(key)[2]
        known = ops.known(self.position)
        if known is not None and isinstance(length, int) and known + length > room:
            raise ArgumentError(
                "The cache is full.",
                expected=f"at most {room} tokens",
                received=str(known + length),
                remedy="make a larger one: init_cache(batch_size, max_length)",
            )
        fits = self.position + length <= room
        for held, new in ((self._keys, key), (self._values, value)):
            written = ops.write(held[layer], ops.cast(new, held[layer].dtype), self.position)
            held[layer] = ops.where(fits, written, ops.cast(ops.constant(float("nan"), key), written.dtype))
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


def _require_fitting(keys: Any, values: Any, new: Any, layer: int) -> None:
    """Raise unless the keys and values that a cache holds of a layer fit new ones, [B, N, K, D]."""
    batch, heads, _, width = new.shape
    length = None if keys is None else keys.shape[2]
    for held in (keys, values):
        if fn.differ(fn.shape_of(held), (batch, heads, length, width)):
            expected = f"[{batch}, {heads}, past, {width}] in layer {layer}"
            raise _of_another_model(expected, "nothing" if held is None else fn.described(held))


def _of_another_model(expected: str, received: str) -> ArgumentError:
    return ArgumentError(
        "past_key_values is of another model or batch.", expected=expected, received=received,
        remedy="pass what this model returned for the tokens before",
    )  # fmt: skip


def extended(cache: Any, layer: int, key: Any, value: Any) -> tuple[Any, Any]:
    """Append to a cache of this module, or to one with the method `update` of transformers' caches."""
    if hasattr(cache, "extend"):
        return cache.extend(layer, key, value)  # type: ignore[no-any-return]
    return cache.update(key, value, layer, {})  # type: ignore[no-any-return]


def new_cache(ops: Any, heads: Sequence[int], head_dim: int, batch_size: int, max_length: int, dtype: Any) -> Any:
    """Return an empty cache of the framework's kind.

    Args:
        heads: number of key and value heads of each decoder layer.
        max_length: tokens for which there is room; a growing cache needs none.
    """
    for name, value in (("batch_size", batch_size), ("max_length", max_length)):
        if type(value) is not int or value < 1:
            raise ArgumentError(f"{name} is impossible.", expected="a positive integer", received=repr(value))
    if ops.GROWING_CACHE:
        return GrowingCache(ops)

    def empty() -> tuple[Any, ...]:
        return tuple(ops.zeros((batch_size, count, max_length, head_dim), dtype) for count in heads)

    return {"keys": empty(), "values": empty(), "memory": {}, "position": ops.zeros((), "int32")}


def opened(ops: Any, past_key_values: Any, use_cache: bool | None, config: Any = None) -> Any:
    """Return the cache of a call, or None: there is one if it was given, or asked for where caches grow. There it may
    be one of transformers 4: a tuple of keys and values for each layer, or a `DynamicCache`, which the call changes;
    and there `use_cache=None` is what the `config` of a decoder says.

    Raises:
        ArgumentError: another kind of cache; `use_cache=True` without one where its size must be known first.
    """
    if isinstance(past_key_values, GrowingCache):
        return past_key_values.branch()
    if isinstance(past_key_values, FixedCache):  # of this very call: a model hands it to its decoder
        return past_key_values
    if isinstance(past_key_values, Mapping) and {"keys", "values", "memory", "position"} <= set(past_key_values):
        return FixedCache(ops, past_key_values)
    if ops.GROWING_CACHE and _is_tuples(past_key_values):
        return GrowingCache.of(ops, past_key_values)
    if ops.GROWING_CACHE and _may_grow(past_key_values):
        return HeldCache(ops, past_key_values)
    if past_key_values is not None:
        raise ArgumentError(
            "past_key_values is no cache of triptych.",
            expected="what init_cache or an earlier call returned; where caches grow, also tuples or a DynamicCache",
            received=type(past_key_values).__name__,
        )
    if use_cache and not ops.GROWING_CACHE:
        raise ArgumentError(
            "A cache of fixed size must be made first.",
            expected="past_key_values with use_cache=True",
            remedy="pass past_key_values=model.init_cache(batch_size, max_length)",
        )
    usual = ops.GROWING_CACHE and bool(getattr(config, "use_cache", False))
    wanted = usual if use_cache is None else use_cache
    return GrowingCache(ops, asked=use_cache is not None) if wanted else None


def _is_tuples(past_key_values: Any) -> bool:
    """Return whether this is a sequence of a tuple for each layer, of two or four arrays of four axes."""
    rows = past_key_values if isinstance(past_key_values, (tuple, list)) else ()
    kinds = [isinstance(row, (tuple, list)) and len(row) in (2, 4) for row in rows]
    if not kinds or not all(kinds):
        return False
    return all(len(fn.shape_of(array) or ()) == 4 for row in rows for array in row)
