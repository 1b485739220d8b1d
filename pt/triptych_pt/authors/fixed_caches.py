"""Caches of keys and values with a fixed size, which `update` writes into; [B, N, room, D] for each layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from triptych.errors import ArgumentError
from triptych.nn.fitting import full
from triptych_pt.authors.caches import Cache, Pair

_LARGER = "make it larger: max_cache_len"
_SEES_ALL = "use a HybridCache or a StaticCache: some layers of this model see all tokens"


class FixedCache(Cache):
    """What caches of a fixed size have in common. Where a layer slides, it keeps the last tokens."""

    is_compileable = True
    lets_go = False

    def __init__(
        self,
        config: Any,
        rows: int | None,
        sizes: Sequence[int],
        device: Any,
        dtype: torch.dtype,
        layer_device_map: Mapping[int, Any] | None,
    ) -> None:
        if rows is None:
            raise ArgumentError("How many rows?", expected="max_batch_size")
        self.max_batch_size, self.dtype = rows, dtype
        self.head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        heads = heads_of(config)
        self.num_key_value_heads = heads[0] if heads else 0
        places = layer_device_map or {}
        shapes = [(rows, count, size, self.head_dim) for count, size in zip(heads, sizes, strict=True)]

        def empty() -> list[torch.Tensor]:
            return [torch.zeros(shape, dtype=dtype, device=places.get(n, device)) for n, shape in enumerate(shapes)]

        self.key_cache, self.value_cache = empty(), empty()
        self._ends: list[Any] = [0] * len(shapes)  # of each layer the tokens that it was given, or their places [Q]

    @property
    def batch_size(self) -> int:
        """As `max_batch_size`."""
        return self.max_batch_size

    def __len__(self) -> int:
        return len(self.key_cache)

    def slides(self, layer_idx: int) -> bool:
        """Return whether a layer, once it is full, lets go of the first tokens."""
        return self.lets_go

    def room(self, window: int | None) -> int:
        """Return for how many tokens there is room in a layer in which a query sees `window` tokens back."""
        raise NotImplementedError

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, cache_kwargs: Any = None
    ) -> Pair:
        """Write keys and values [B, N, Q, D], and return all places [B, N, room, D]; or where several tokens come and a
        layer slides, those that it held and the new ones.

        Args:
            cache_kwargs: `cache_position` [Q], the places of the new ones in the text, which are those after what is
                held if there is none; and their first as an integer, `first_position`, for which no device has to be
                waited for.

        Raises:
            ArgumentError: the cache is full.
        """
        held = self.key_cache[layer_idx], self.value_cache[layer_idx]
        new = key_states.to(held[0].dtype), value_states.to(held[1].dtype)
        where = self._where(layer_idx, cache_kwargs or {})
        found = self._put(held, new, where, layer_idx)
        self._note(layer_idx, where, key_states.shape[2])
        return found

    def _where(self, layer_idx: int, given: Mapping[str, Any]) -> Any:
        """Return where to write: the first place, or the places [Q]."""
        places, start = given.get("cache_position"), given.get("first_position")
        if start is None and places is None:
            start = self.get_seq_length(layer_idx)
        elif start is None and self.slides(layer_idx):
            start = int(given["cache_position"][0])
        return places if start is None else start

    def _note(self, layer_idx: int, where: Any, count: int) -> None:
        """Take note that `count` tokens were written."""
        self._ends[layer_idx] = where if isinstance(where, torch.Tensor) else where + count

    def _put(self, held: Pair, new: Pair, where: Any, layer_idx: int) -> Pair:
        """Write new keys and values into those that a layer holds, and return what a query sees."""
        if isinstance(where, torch.Tensor):
            for tensor, states in zip(held, new, strict=True):
                tensor.index_copy_(2, where, states)
            return held
        end, size = where + new[0].shape[2], held[0].shape[2]
        if end <= size:
            for tensor, states in zip(held, new, strict=True):
                tensor[:, :, where:end] = states
            return held
        if not self.slides(layer_idx):
            raise full(size, end, _LARGER)
        joined = tuple(torch.cat([x[:, :, : min(where, size)], y], 2) for x, y in zip(held, new, strict=True))
        for tensor, states in zip(held, joined, strict=True):
            tensor.copy_(states[:, :, -size:])
        return held if new[0].shape[2] == 1 else (joined[0], joined[1])

    def span(self, new: int, window: int | None = None) -> tuple[int, int]:
        """Return where in the text the first of the keys is that `update` returns for `new` tokens, and how many it
        returns; of a layer in which a query sees `window` tokens back.

        Raises:
            ArgumentError: the cache is full, or would let go of what is seen.
        """
        held, size = self.get_seq_length(), self.room(window)
        end = held + new
        if end > size and not (self.lets_go and window is not None and window <= size):
            raise full(size, end, _SEES_ALL if self.lets_go and window is None else _LARGER)
        if end <= size or new == 1:
            return max(end - size, 0), size
        kept = min(held, size)
        return held - kept, kept + new

    def hold(self, tokens: int) -> None:
        """Take note that every layer was given so many tokens."""
        self._ends = [tokens] * len(self._ends)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the number of tokens that `update` was given; of a layer that slides also those it let go of."""
        end = self._ends[layer_idx]
        return int(end[-1]) + 1 if isinstance(end, torch.Tensor) else end

    def reset(self) -> None:
        """Write zeros everywhere, in place."""
        for tensor in (*self.key_cache, *self.value_cache):
            tensor.zero_()
        self.hold(0)

    def _each(self, change: Any) -> None:
        for tensors in (self.key_cache, self.value_cache):
            tensors[:] = [change(tensor) for tensor in tensors]
        self.max_batch_size = self.key_cache[0].shape[0] if self.key_cache else self.max_batch_size


class StaticCache(FixedCache):
    """A cache with room for `max_cache_len` tokens.

    Args:
        config: with `num_hidden_layers`, `num_attention_heads`, and some of `num_key_value_heads`, `head_dim`,
            `hidden_size` and `max_position_embeddings`.
        batch_size: as `max_batch_size`.
        max_cache_len: tokens; `config.max_position_embeddings` by default.
        layer_device_map: where the layers are, by their numbers, if not all on `device`.

    Raises:
        ArgumentError: no batch size.
    """

    def __init__(
        self,
        config: Any,
        batch_size: int | None = None,
        max_cache_len: int | None = None,
        device: Any = None,
        dtype: torch.dtype = torch.float32,
        max_batch_size: int | None = None,
        layer_device_map: Mapping[int, Any] | None = None,
    ) -> None:
        self.max_cache_len = config.max_position_embeddings if max_cache_len is None else max_cache_len
        rows = batch_size if batch_size is not None else max_batch_size
        sizes = [self.max_cache_len] * len(heads_of(config))
        super().__init__(config, rows, sizes, device, dtype, layer_device_map)

    def room(self, window: int | None) -> int:
        return self.max_cache_len

    def get_max_cache_shape(self) -> int | None:
        return self.max_cache_len


class SlidingWindowCache(StaticCache):
    """A cache of the last `config.sliding_window` tokens, or `max_cache_len` if they are fewer, for models whose layers
    see no more; see `StaticCache`.

    Raises:
        ArgumentError: no batch size; the config has no window.
    """

    is_sliding = lets_go = True

    def __init__(
        self,
        config: Any,
        batch_size: int | None = None,
        max_cache_len: int | None = None,
        device: Any = None,
        dtype: torch.dtype = torch.float32,
        max_batch_size: int | None = None,
        layer_device_map: Mapping[int, Any] | None = None,
    ) -> None:
        window = _window_of(config)
        length = window if max_cache_len is None else min(window, max_cache_len)
        super().__init__(config, batch_size, length, device, dtype, max_batch_size, layer_device_map)


class HybridCache(FixedCache):
    """A cache in which layers with a window slide, and the others have room for `max_cache_len` tokens; see
    `StaticCache`. Which they are is said by the config's `window(layer)`, else by `sliding_window_pattern`: of so many
    layers, by default two, all but the last have one. `is_sliding` [layers] says it.

    Raises:
        ArgumentError: no batch size; the config has no window.
    """

    lets_go = True

    def __init__(
        self,
        config: Any,
        batch_size: int | None = None,
        max_cache_len: int | None = None,
        device: Any = "cpu",
        dtype: torch.dtype = torch.float32,
        max_batch_size: int | None = None,
        layer_device_map: Mapping[int, Any] | None = None,
    ) -> None:
        widest, layers = _window_of(config), range(len(heads_of(config)))
        length = config.max_position_embeddings if max_cache_len is None else max_cache_len
        if hasattr(config, "window"):
            windows = [config.window(layer) for layer in layers]
        else:
            pattern = getattr(config, "sliding_window_pattern", 2)
            windows = [widest if (layer + 1) % pattern else None for layer in layers]
        self.max_cache_len = length
        self.is_sliding = torch.tensor([window is not None for window in windows], device=device)
        self._slide = [window is not None for window in windows]
        rows = batch_size if batch_size is not None else max_batch_size
        sizes = [self.room(window) for window in windows]
        super().__init__(config, rows, sizes, device, dtype, layer_device_map)

    def slides(self, layer_idx: int) -> bool:
        return self._slide[layer_idx]

    def room(self, window: int | None) -> int:
        return self.max_cache_len if window is None else min(window, self.max_cache_len)

    def get_max_cache_shape(self) -> int | None:
        return self.max_cache_len


def heads_of(config: Any) -> tuple[int, ...]:
    """Return the number of heads of keys and values of each layer."""
    heads = getattr(config, "cached_heads", None)
    if heads is not None:
        return tuple(heads)
    return (getattr(config, "num_key_value_heads", None) or config.num_attention_heads,) * config.num_hidden_layers


def _window_of(config: Any) -> int:
    window = getattr(config, "sliding_window", None)
    if window is None:
        raise ArgumentError(
            "This model has no sliding window.", expected="config.sliding_window", received="None",
            remedy="use a StaticCache, or cache_implementation='static'",
        )  # fmt: skip
    return int(window)
