"""Caches that grow from call to call: PyTorch's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from triptych.nn import functional as fn
from triptych.nn.fitting import of_another_model, require_fitting

Pair = tuple[Any, Any]
_FEWEST = 64
"""Tokens for which a buffer has room besides those that are written into it at first."""


class _Room:
    """Buffers [B, N, room, D] for keys and values of one layer, which branches of a text share.

    No place is written twice: the branch that is the first to go on from the end writes there, and any other copies.
    """

    def __init__(self, ops: Any, held: Pair, size: int, rows: Any = None) -> None:
        """Copy keys and values [B, N, K, D] into new buffers for `size` tokens; of the batch the `rows` [R]."""
        self._ops = ops
        self._buffers = tuple(ops.buffer(x, size, x if rows is None else rows) for x in held)
        end = held[0].shape[2]
        for buffer, x in zip(self._buffers, held, strict=True):
            ops.write_into(buffer, x, 0) if rows is None else ops.write_rows_into(buffer, x, rows)
        self._free = {end: True}  # a dict, of which two threads cannot take the same place

    @property
    def size(self) -> int:
        return int(self._buffers[0].shape[2])

    def claim(self, held: Pair, more: int) -> bool:
        """Return whether `more` tokens may be written behind `held`, views of the buffers: nobody else did before."""
        start = held[0].shape[2]
        fits = start + more <= self.size and self._ops.begins(self._buffers, held)
        return fits and self._free.pop(start, False)

    def written(self, new: Pair, start: int) -> Pair:
        """Write keys and values behind the first `start`, which were claimed, and return all there are."""
        end = start + new[0].shape[2]
        for buffer, x in zip(self._buffers, new, strict=True):
            self._ops.write_into(buffer, x, start)
        self._free[end] = True
        return self.first(end)

    def first(self, count: int) -> Pair:
        """Return the first `count` keys and values."""
        keys, values = (buffer[:, :, :count] for buffer in self._buffers)
        return keys, values


class GrowingCache:
    """Keys and values [B, N, K, D] of each decoder layer, of `position` tokens; reads as a sequence of layers.

    Where nothing records what is computed, new ones are written into buffers that have room for more, so that a text of
    K tokens takes K writes, and not K copies of all that was before.
    """

    fixed = False

    def __init__(self, ops: Any, asked: bool = True, room: int | None = None, as_tuples: bool = False) -> None:
        """`asked` says whether the call asks for the cache, and not the config; `room` how many tokens will come;
        `as_tuples` whether the call returns a tuple for each layer, which is what `torch.jit` can trace."""
        self._ops, self.asked, self._expected, self._as_tuples = ops, asked, room, as_tuples
        self.keys: dict[int, Any] = {}
        self.values: dict[int, Any] = {}
        self.position = 0
        self._memory: dict[int, Pair] = {}
        self._rooms: dict[int, _Room] = {}
        self._grows = True

    def stay_empty(self) -> bool:
        """Keep nothing of the call that begins, and return True; False if something is held already."""
        self._grows = bool(self.keys or self._memory or self.position)
        return not self._grows

    @classmethod
    def of(cls, ops: Any, layers: Sequence[Sequence[Any]], as_tuples: bool = False) -> GrowingCache:
        """Return the cache of a tuple for each layer, as transformers 4 has them: key and value [B, N, K, D], and
        perhaps those of the encoder's output.

        Raises:
            ArgumentError: some of them hold more tokens.
        """
        made = cls(ops, as_tuples=as_tuples)
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
            raise of_another_model("as many tokens in each layer", ", ".join(str(*length) for length in lengths))

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, layer: int) -> tuple[Any, ...]:
        """Return key and value of a layer, and those of the encoder's output if it has attended to that."""
        number = range(len(self))[layer]
        return (self.keys[number], self.values[number], *self._memory.get(number, ()))

    def __deepcopy__(self, memo: Any) -> GrowingCache:
        return self.branch()  # tensors are never changed

    def branch(self) -> GrowingCache:
        """Return a cache of the same tensors, to which a call appends without changing this one."""
        made = GrowingCache(self._ops, self.asked, self._expected, self._as_tuples)
        made.keys, made.values, made.position = dict(self.keys), dict(self.values), self.position
        made._memory, made._rooms = dict(self._memory), dict(self._rooms)
        return made

    def of_rows(self, rows: Any) -> GrowingCache:
        """Return a cache of the `rows` [R] of the batch, integers, in this order."""
        made, ops = self.branch(), self._ops
        for layer in self.keys:
            held = self.keys[layer], self.values[layer]
            room = self._rooms.get(layer)
            if room is not None and ops.may_write(*held):
                made._rooms[layer] = room = _Room(ops, held, max(room.size, held[0].shape[2]), rows)
                made.keys[layer], made.values[layer] = room.first(held[0].shape[2])
            else:
                made.keys[layer], made.values[layer] = (ops.rows_of(x, rows) for x in held)
        made._memory = {
            layer: rows_of_memory(ops, pair, rows, self.keys.get(layer)) for layer, pair in self._memory.items()
        }
        return made

    def first_tokens(self, count: int) -> GrowingCache:
        """Return a cache of the first `count` tokens."""
        made = self.branch()
        made.keys = {layer: key[:, :, :count] for layer, key in self.keys.items()}
        made.values = {layer: value[:, :, :count] for layer, value in self.values.items()}
        made.position = min(self.position, count)
        return made

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the number of tokens held, under the name that transformers gives it."""
        return self.position

    def span(self, new: Any, window: int | None = None) -> tuple[int, Any]:
        """Return where in the text the first of the keys is that a query sees once `new` tokens are appended, and how
        many they are; of a layer in which it sees `window` tokens back."""
        return 0, self.position + new

    def extend(self, layer: int, key: Any, value: Any) -> Pair:
        """Append to layer `layer` and return all its keys and values.

        Raises:
            ArgumentError: the cache is of another model or batch.
        """
        if not self._grows:
            return key, value
        if layer in self.keys or self.position:
            require_fitting(self.keys.get(layer), self.values.get(layer), key, layer)
            key, value = self._joined(layer, (self.keys[layer], self.values[layer]), (key, value))
        self.keys[layer], self.values[layer] = key, value
        return key, value

    def _joined(self, layer: int, held: Pair, new: Pair) -> Pair:
        """Return the keys and values `held` of a layer with `new` ones behind them."""
        ops, start, more = self._ops, held[0].shape[2], new[0].shape[2]
        if not ops.may_write(*held, *new):
            return ops.concat([held[0], new[0]], 2), ops.concat([held[1], new[1]], 2)
        room = self._rooms.get(layer)
        if room is None or not room.claim(held, more):
            room = self._rooms[layer] = _Room(ops, held, self._size(start + more))
            room.claim(room.first(start), more)
        return room.written(new, start)

    def _size(self, tokens: int) -> int:
        """Return for how many tokens to make a buffer, into which `tokens` go now."""
        wanted = max(tokens + tokens // 2, tokens + _FEWEST)
        return wanted if self._expected is None else max(tokens, min(wanted, self._expected))

    def memory(self, layer: int, make: Callable[[], Pair]) -> Pair:
        """Return keys and values of the encoder's output, which `make` computes once."""
        if not self._grows:
            return make()
        if layer not in self._memory:
            self._memory[layer] = make()
        return self._memory[layer]

    def after(self, new: Any) -> Any:
        """Return what the model returns as `past_key_values`, once all layers are extended.

        Raises:
            ArgumentError: a layer was not extended, as the cache is of a model that has more of them.
        """
        if not self._grows:
            return None
        self._require_even()
        self.position += new
        return self.to_legacy_cache() if self._as_tuples else self

    def __bool__(self) -> bool:
        return True

    def to_legacy_cache(self) -> tuple[tuple[Any, ...], ...]:
        """Return a tuple for each layer."""
        return tuple(self[layer] for layer in range(len(self)))


class HeldCache(GrowingCache):
    """A cache of transformers' kind (`DynamicCache`, `EncoderDecoderCache`), which a call changes, and returns.

    Those of a fixed size are triptych's own: they say by `span` which keys they return.
    """

    def __init__(self, ops: Any, held: Any) -> None:
        super().__init__(ops)
        self.held, self._own = held, getattr(held, "self_attention_cache", held)
        self._others = getattr(held, "cross_attention_cache", None)
        self.fixed = hasattr(self._own, "span")
        self.position = int(self._own.get_seq_length())

    @staticmethod
    def takes(cache: Any) -> bool:
        """Return whether this is a cache of transformers' kind that grows, or one of triptych's of a fixed size."""
        own = getattr(cache, "self_attention_cache", cache)
        kind = hasattr(own, "update") and hasattr(own, "key_cache")
        return kind and (hasattr(own, "span") or own.get_max_cache_shape() is None)

    def stay_empty(self) -> bool:
        return False if self.fixed else super().stay_empty()

    def branch(self) -> GrowingCache:
        return self

    def span(self, new: Any, window: int | None = None) -> tuple[int, Any]:
        return self._own.span(new, window) if self.fixed else super().span(new, window)

    def extend(self, layer: int, key: Any, value: Any) -> Pair:
        if not self._grows:
            return key, value
        if not self.fixed:
            return self._own.update(key, value, layer, {})  # type: ignore[no-any-return]
        if layer >= len(self._own.key_cache):
            raise of_another_model(f"one with layer {layer}", f"one of {len(self._own.key_cache)} layers")
        batch, heads, length, width = key.shape
        held = fn.shape_of(self._own.key_cache[layer])
        if fn.differ(held, (batch, heads, None, width)):
            raise of_another_model(f"[{batch}, {heads}, room, {width}] in layer {layer}", str(held))
        places = self._ops.arange(length, key) + self.position
        keys, values = self._own.update(key, value, layer, {"cache_position": places, "first_position": self.position})
        return self._ops.cast(keys, key.dtype), self._ops.cast(values, value.dtype)

    def memory(self, layer: int, make: Callable[[], Pair]) -> Pair:
        if self._others is None or not self._grows:
            return super().memory(layer, make)
        if not self.held.is_updated.get(layer):
            made = make()
            room = self._others.get_max_cache_shape()
            if room is not None and room != made[0].shape[2]:
                raise of_another_model(f"a cross_attention_cache for {made[0].shape[2]} tokens", f"one for {room}")
            self._others.update(*made, layer, {})
            self.held.is_updated[layer] = True
        if hasattr(self._others, "__getitem__"):
            return self._others[layer]  # type: ignore[no-any-return]
        return self._others.key_cache[layer], self._others.value_cache[layer]

    def after(self, new: Any) -> Any:
        if self._grows and self.fixed:
            self._own.hold(self.position + new)
        return self.held if self._grows else None


def rows_of_memory(ops: Any, pair: Pair, rows: Any, keys: Any) -> Pair:
    """Return the `rows` of keys and values of the encoder's output; all of them, if they are not of as many texts as
    the decoder's own `keys`, but of one that stands for all."""
    if keys is not None and fn.differ(pair[0].shape[:1], keys.shape[:1]):
        return pair
    return ops.rows_of(pair[0], rows), ops.rows_of(pair[1], rows)
