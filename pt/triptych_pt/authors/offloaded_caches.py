"""Caches whose layers are kept on the CPU while they are not used; [B, N, K, D] for each layer.

On a GPU a second stream fetches the next layer while one is computed with. On the CPU nothing is moved.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from triptych.errors import ArgumentError
from triptych_pt.authors.caches import DynamicCache, Pair
from triptych_pt.authors.fixed_caches import StaticCache, heads_of


class OffloadedCache(DynamicCache):
    """A cache that grows, of which two layers at a time are where they are computed with."""

    def __init__(
        self, _distributed_cache_data: Iterable[Pair] | int | None = None, num_hidden_layers: int | None = None
    ) -> None:
        self.original_device: list[torch.device] = []
        self.prefetch_stream = torch.cuda.Stream() if torch.cuda.is_available() else None
        self._rows: dict[int, torch.Tensor] = {}
        super().__init__(_distributed_cache_data)

    def __getitem__(self, layer_idx: int) -> Pair:
        """Return keys and values of a layer, on its device; the one before goes to the CPU, the next one is fetched."""
        if not 0 <= layer_idx < len(self):
            return super().__getitem__(layer_idx)
        self.evict_previous_layer(layer_idx)
        self._bring(layer_idx)
        self.prefetch_layer((layer_idx + 1) % len(self))
        return self.key_cache[layer_idx], self.value_cache[layer_idx]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, cache_kwargs: Any = None
    ) -> Pair:
        """Put new keys and values into layer `layer_idx`: see `Cache`.

        Raises:
            ArgumentError: a layer was left out.
        """
        if layer_idx > len(self):
            raise ArgumentError(
                "An offloaded cache takes every layer.", expected=f"layer {len(self)}", received=str(layer_idx),
                remedy="use a DynamicCache",
            )  # fmt: skip
        if layer_idx == len(self):
            self.original_device.append(key_states.device)
            found = super().update(key_states, value_states, layer_idx)
            self.evict_previous_layer(layer_idx)
            return found
        self[layer_idx]
        return super().update(key_states, value_states, layer_idx)

    def _bring(self, layer_idx: int) -> None:
        """See to it that a layer is on its device, and its rows in order."""
        device, rows = self.original_device[layer_idx], self._rows.pop(layer_idx, None)
        if self.prefetch_stream is not None and device.type == "cuda":
            torch.cuda.current_stream(device).wait_stream(self.prefetch_stream)
        for tensors in (self.key_cache, self.value_cache):
            found = tensors[layer_idx].to(device, non_blocking=True)
            tensors[layer_idx] = found if rows is None else found.index_select(0, rows.to(device))

    def prefetch_layer(self, layer_idx: int) -> None:
        """Begin to fetch a layer, beside what is computed."""
        if self.prefetch_stream is None or layer_idx >= len(self) or self.original_device[layer_idx].type != "cuda":
            return
        device = self.original_device[layer_idx]
        current = torch.cuda.current_stream(device)
        self.prefetch_stream.wait_stream(current)  # by which the layer went to the CPU
        with torch.cuda.stream(self.prefetch_stream):
            for tensors in (self.key_cache, self.value_cache):
                tensors[layer_idx] = tensors[layer_idx].to(device, non_blocking=True)
                tensors[layer_idx].record_stream(current)

    def evict_previous_layer(self, layer_idx: int) -> None:
        """Move the layer before to the CPU, after what is computed with it."""
        if len(self) > 2:
            before = (layer_idx - 1) % len(self)
            for tensors in (self.key_cache, self.value_cache):
                tensors[before] = tensors[before].to("cpu", non_blocking=True)

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Let each row be the one that `beam_idx` [B] names: of a layer on the CPU once it is on its device."""
        for layer, device in enumerate(self.original_device):
            waiting = self._rows.get(layer)
            self._rows[layer] = beam_idx if waiting is None else waiting.index_select(0, beam_idx.to(waiting.device))
            if self.key_cache[layer].device == device:
                self._bring(layer)

    def _each(self, change: Any) -> None:
        for layer in list(self._rows):
            self._bring(layer)
        super()._each(change)


class OffloadedStaticCache(StaticCache):
    """A cache of a fixed size, of which the first layer is on `device`, the others on `offload_device`; see
    `StaticCache`."""

    def __init__(
        self,
        config: Any,
        max_batch_size: int,
        max_cache_len: int | None,
        device: Any,
        dtype: torch.dtype | None = None,
        offload_device: Any = "cpu",
        layer_device_map: Mapping[int, Any] | None = None,
    ) -> None:
        self.device = torch.device(device if layer_device_map is None else layer_device_map[0])
        self.offload_device = torch.device(offload_device)
        places = dict.fromkeys(range(len(heads_of(config))), self.offload_device) | {0: self.device}
        super().__init__(config, None, max_cache_len, None, dtype or torch.float32, max_batch_size, places)
        self._stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        self._near: dict[int, Pair] = {}
        if self._stream is not None and self.offload_device.type == "cpu":
            for tensors in (self.key_cache, self.value_cache):  # from which a copy need not be waited for
                tensors[1:] = [tensor.pin_memory() for tensor in tensors[1:]]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, cache_kwargs: Any = None
    ) -> Pair:
        kept = self.key_cache[layer_idx], self.value_cache[layer_idx]
        near = self._fetched(layer_idx)
        self._fetch(layer_idx + 1)
        new = key_states.to(kept[0].dtype), value_states.to(kept[1].dtype)
        where = self._where(layer_idx, cache_kwargs or {})
        found = self._put(near, new, where, layer_idx)
        if near[0] is not kept[0]:
            there = where.to(self.offload_device) if isinstance(where, torch.Tensor) else where
            self._put(kept, (new[0].to(self.offload_device), new[1].to(self.offload_device)), there, layer_idx)
        self._note(layer_idx, where, key_states.shape[2])
        return found

    def _fetched(self, layer_idx: int) -> Pair:
        """Return the keys and values of a layer on the device."""
        if layer_idx not in self._near:
            self._fetch(layer_idx)
        if self._stream is not None:
            torch.cuda.current_stream(self.device).wait_stream(self._stream)
        return self._near.pop(layer_idx)

    def _fetch(self, layer_idx: int) -> None:
        """Begin to copy a layer, if there is one, to the device, beside what is computed."""
        if layer_idx >= len(self):
            return
        pair = self.key_cache[layer_idx], self.value_cache[layer_idx]
        if self._stream is None:
            self._near[layer_idx] = pair[0].to(self.device), pair[1].to(self.device)
            return
        current = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            near = pair[0].to(self.device, non_blocking=True), pair[1].to(self.device, non_blocking=True)
        for tensor in near:
            tensor.record_stream(current)
        self._near[layer_idx] = near

    def reset(self) -> None:
        super().reset()
        self._near.clear()

    def _each(self, change: Any) -> None:
        super()._each(change)
        self._near.clear()

    @property
    def seen_tokens(self) -> int:
        """The number of tokens that the first layer was given."""
        return self.get_seq_length()
