"""Keys and values of the tokens already seen, as the models of others keep them; [B, N, K, D] for each layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from triptych.errors import ArgumentError

Pair = tuple[torch.Tensor, torch.Tensor]


class Cache:
    """Base class of caches."""

    is_compileable = False

    @property
    def seen_tokens(self) -> int | None:
        """The number of tokens that the first layer was given, where that is counted."""
        return getattr(self, "_seen_tokens", None)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, cache_kwargs: Any = None
    ) -> Pair:
        """Put new keys and values [B, N, Q, D] into layer `layer_idx`, and return all that it has, [B, N, K, D].

        Args:
            cache_kwargs: a dict; of a cache of a fixed size `cache_position` [Q], the places of the new ones.
        """
        raise NotImplementedError

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the number of tokens that a layer has."""
        raise NotImplementedError

    def get_max_cache_shape(self) -> int | None:
        """Return the number of tokens that there is room for; None: it grows."""
        raise NotImplementedError

    def get_max_length(self) -> int | None:
        """As `get_max_cache_shape`."""
        return self.get_max_cache_shape()

    def get_usable_length(self, new_seq_length: int, layer_idx: int = 0) -> int:
        """Return the number of tokens that stay when `new_seq_length` more come."""
        room, held = self.get_max_cache_shape(), self.get_seq_length(layer_idx)
        return room - new_seq_length if room is not None and held + new_seq_length > room else held

    def _each(self, change: Any) -> None:
        """Replace the tensors of every layer by `change(tensor)`."""
        raise NotImplementedError

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Let each row be the one that `beam_idx` [B] names."""
        self._each(lambda tensor: tensor.index_select(0, beam_idx.to(tensor.device)))


class DynamicCache(Cache):
    """A cache that grows: `key_cache` and `value_cache` are lists of tensors, one for each layer."""

    def __init__(
        self, _distributed_cache_data: Iterable[Pair] | int | None = None, num_hidden_layers: int | None = None
    ) -> None:
        """A number of layers says nothing: layers come as they are updated."""
        self._seen_tokens = 0
        self.key_cache: list[Any] = []
        self.value_cache: list[Any] = []
        data = None if isinstance(_distributed_cache_data, int) else _distributed_cache_data
        for layer, (key, value, *_) in enumerate(_pairs(data)):
            self.update(key, value, layer)

    def __len__(self) -> int:
        return len(self.key_cache)

    def __getitem__(self, layer_idx: int) -> Pair:
        if not -len(self) <= layer_idx < len(self):
            raise KeyError(f"the cache has {len(self)} layers, and no layer {layer_idx}")
        return self.key_cache[layer_idx], self.value_cache[layer_idx]

    def __iter__(self) -> Iterator[Pair]:
        return iter(zip(self.key_cache, self.value_cache, strict=True))

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, cache_kwargs: Any = None
    ) -> Pair:
        if layer_idx < 0:
            raise ArgumentError("Layers are counted from 0.", expected="layer_idx >= 0", received=str(layer_idx))
        if layer_idx == 0:
            self._seen_tokens += key_states.shape[-2]
        while len(self) <= layer_idx:  # layers may be skipped
            self.key_cache.append([])
            self.value_cache.append([])
        if len(self.key_cache[layer_idx]):
            key_states = torch.cat([self.key_cache[layer_idx], key_states], dim=-2)
            value_states = torch.cat([self.value_cache[layer_idx], value_states], dim=-2)
        self.key_cache[layer_idx], self.value_cache[layer_idx] = key_states, value_states
        return key_states, value_states

    def get_seq_length(self, layer_idx: int = 0) -> int:
        there = -len(self) <= layer_idx < len(self) and len(self.key_cache[layer_idx])
        return self.key_cache[layer_idx].shape[-2] if there else 0

    def get_max_cache_shape(self) -> int | None:
        return None

    def to_legacy_cache(self) -> tuple[Pair, ...]:
        """Return a pair of tensors for each layer."""
        return tuple(self)

    @classmethod
    def from_legacy_cache(
        cls, past_key_values: Iterable[Pair] | None = None, num_hidden_layers: int | None = None
    ) -> DynamicCache:
        """Return a cache of pairs of tensors.

        Raises:
            ArgumentError: of something else.
        """
        return cls(_pairs(past_key_values))

    def crop(self, max_length: int) -> None:
        """Keep the first `max_length` tokens; of a negative number, all but so many."""
        length = max_length if max_length >= 0 else self.get_seq_length() + max_length
        if self.get_seq_length() > length:
            self._seen_tokens = length
            self._each(lambda tensor: tensor[..., :length, :])

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each row."""
        self._each(lambda tensor: tensor.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep the rows that `indices` name."""
        self._each(lambda tensor: tensor[indices, ...])

    def batch_split(
        self, full_batch_size: int, split_size: int, num_hidden_layers: int | None = None
    ) -> list[DynamicCache]:
        """Return a cache for each `split_size` of the rows, in order."""
        return [self._slice(start, start + split_size) for start in range(0, full_batch_size, split_size)]

    def _slice(self, start: int, stop: int) -> DynamicCache:
        made = DynamicCache()
        made._seen_tokens = self._seen_tokens
        made.key_cache, made.value_cache = list(self.key_cache), list(self.value_cache)
        made._each(lambda tensor: tensor[start:stop])
        return made

    @classmethod
    def from_batch_splits(cls, splits: Sequence[DynamicCache], num_hidden_layers: int | None = None) -> DynamicCache:
        """Return the cache of all rows of `splits`, one after the other."""
        made = cls()
        for layer in range(len(splits[0])):
            parts = [split[layer] for split in splits if len(split.key_cache[layer])]
            if parts:
                made.update(torch.cat([key for key, _ in parts]), torch.cat([value for _, value in parts]), layer)
        return made

    def _each(self, change: Any) -> None:
        for tensors in (self.key_cache, self.value_cache):
            tensors[:] = [change(tensor) if len(tensor) else tensor for tensor in tensors]


class EncoderDecoderCache(Cache):
    """A cache of the decoder's own tokens, and one of the encoder's; `is_updated` says which layers have the second."""

    def __init__(self, self_attention_cache: Any, cross_attention_cache: Any) -> None:
        self.self_attention_cache, self.cross_attention_cache = self_attention_cache, cross_attention_cache
        layers = range(len(cross_attention_cache.key_cache))
        self.is_updated: dict[int, bool] = {layer: cross_attention_cache.get_seq_length(layer) > 0 for layer in layers}

    def __len__(self) -> int:
        return len(self.self_attention_cache)

    def __getitem__(self, layer_idx: int) -> tuple[torch.Tensor, ...]:
        own = self.self_attention_cache[layer_idx]
        has = layer_idx < len(self.cross_attention_cache.key_cache)
        return (*own, *self.cross_attention_cache[layer_idx]) if has else own

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        return iter(self[layer] for layer in range(len(self)))

    def to_legacy_cache(self) -> tuple[tuple[torch.Tensor, ...], ...]:
        """Return for each layer its own keys and values, and those of the encoder."""
        return tuple(self)

    @classmethod
    def from_legacy_cache(cls, past_key_values: Iterable[tuple[Any, ...]] | None = None) -> EncoderDecoderCache:
        """Return a cache of tuples of two or four tensors."""
        layers = _pairs(past_key_values)
        return cls(
            DynamicCache.from_legacy_cache(layer[:2] for layer in layers),
            DynamicCache.from_legacy_cache(layer[2:4] for layer in layers if len(layer) > 2),
        )

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.self_attention_cache.get_seq_length(layer_idx)

    def get_max_cache_shape(self) -> int | None:
        return self.self_attention_cache.get_max_cache_shape()

    def reset(self) -> None:
        """Write zeros everywhere, in caches of a fixed size.

        Raises:
            ArgumentError: they grow.
        """
        for cache in self._both("reset"):
            cache.reset()
        self.is_updated = dict.fromkeys(self.is_updated, False)

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        self.self_attention_cache.reorder_cache(beam_idx)
        self.cross_attention_cache.reorder_cache(beam_idx)

    def crop(self, maximum_length: int) -> None:
        """Keep the first tokens of the decoder.

        Raises:
            ArgumentError: a cache is of a fixed size.
        """
        self._both("crop")[0].crop(maximum_length)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each row.

        Raises:
            ArgumentError: a cache is of a fixed size.
        """
        for cache in self._both("batch_repeat_interleave"):
            cache.batch_repeat_interleave(repeats)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep the rows that `indices` name.

        Raises:
            ArgumentError: a cache is of a fixed size.
        """
        for cache in self._both("batch_select_indices"):
            cache.batch_select_indices(indices)

    def batch_split(
        self, full_batch_size: int, split_size: int, num_hidden_layers: int | None = None
    ) -> list[EncoderDecoderCache]:
        """Return a cache for each `split_size` of the rows, in order.

        Raises:
            ArgumentError: a cache is of a fixed size.
        """
        own, others = (cache.batch_split(full_batch_size, split_size) for cache in self._both("batch_split"))
        return [EncoderDecoderCache(*pair) for pair in zip(own, others, strict=True)]

    @classmethod
    def from_batch_splits(
        cls, splits: Sequence[EncoderDecoderCache], num_hidden_layers: int | None = None
    ) -> EncoderDecoderCache:
        """Return the cache of all rows of `splits`, one after the other."""
        return cls(
            DynamicCache.from_batch_splits([split.self_attention_cache for split in splits]),
            DynamicCache.from_batch_splits([split.cross_attention_cache for split in splits]),
        )

    def check_dynamic_cache(self, method: str) -> None:
        """Raise unless both caches grow.

        Raises:
            ArgumentError: one does not.
        """
        self._both("crop")

    def _both(self, method: str) -> tuple[Any, Any]:
        """Return the two caches, which have this method."""
        both = self.self_attention_cache, self.cross_attention_cache
        if not all(hasattr(cache, method) for cache in both):
            received = " and ".join(type(cache).__name__ for cache in both)
            raise ArgumentError("Not caches of this kind.", expected=f"two that have {method}", received=received)
        return both


def _pairs(layers: Any) -> list[tuple[Any, ...]]:
    """Return the tensors of each layer, keys and values first.

    Raises:
        ArgumentError: they are no such tuples.
    """
    found = list(layers) if isinstance(layers, Iterable) else [layers] * (layers is not None)
    strange = [one for one in found if not isinstance(one, (tuple, list)) or len(one) < 2]
    if strange:
        raise ArgumentError(
            "This is no cache.", expected="a tuple of keys and values for each layer", received=str(type(strange[0]))
        )
    return found
