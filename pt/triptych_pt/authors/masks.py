"""Attention masks [B, 1, Q, K] that are added to scores: 0 where a query sees a key, else the dtype's lowest number.

B batch, Q queries, K keys: those of the queries, and before them those of a cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from triptych.errors import ArgumentError


class AttentionMaskConverter:
    """Makes masks of one kind.

    Args:
        is_causal: no query sees a later key.
        sliding_window: nor one that is this many keys before it; of causal masks alone.

    Raises:
        ArgumentError: the window is not positive.
    """

    def __init__(self, is_causal: bool, sliding_window: int | None = None) -> None:
        if sliding_window is not None and sliding_window <= 0:
            raise ArgumentError("sliding_window is not positive.", received=str(sliding_window))
        self.is_causal, self.sliding_window = is_causal, sliding_window

    def to_causal_4d(
        self,
        batch_size: int,
        query_length: int,
        key_value_length: int,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
    ) -> torch.Tensor | None:
        """Return the causal mask, or None if one query sees all keys.

        Raises:
            ArgumentError: the converter is not of causal masks.
        """
        if not self.is_causal:
            raise ArgumentError("This converter makes no causal masks.", expected="is_causal=True")
        if query_length == 1 and self.sliding_window is None:
            return None
        past = key_value_length - query_length
        return self._make_causal_mask((batch_size, query_length), dtype, device, past, self.sliding_window)

    def to_4d(
        self,
        attention_mask_2d: torch.Tensor,
        query_length: int,
        dtype: torch.dtype,
        key_value_length: int | None = None,
    ) -> torch.Tensor:
        """Return the mask in which no query sees the keys at which `attention_mask_2d` [B, K] is 0.

        Raises:
            ArgumentError: a causal mask without `key_value_length`, or a window that is not causal.
        """
        expanded = self._expand_mask(attention_mask_2d, dtype, query_length)
        if not self.is_causal and self.sliding_window is not None:
            raise ArgumentError("sliding_window is of causal masks alone.", expected="is_causal=True")
        if not self.is_causal or (query_length == 1 and self.sliding_window is None):
            return expanded
        if key_value_length is None:
            raise ArgumentError("How many keys are there?", expected="key_value_length")
        if not _is_traced(attention_mask_2d) and key_value_length != attention_mask_2d.shape[-1]:
            raise ArgumentError(
                "attention_mask has a wrong length.", expected=f"[B, {key_value_length}], as there are so many keys",
                received=str(tuple(attention_mask_2d.shape)),
            )  # fmt: skip
        causal = self.to_causal_4d(len(attention_mask_2d), query_length, key_value_length, dtype, expanded.device)
        assert causal is not None
        return causal.masked_fill(expanded < 0, torch.finfo(dtype).min)

    @staticmethod
    def _make_causal_mask(
        input_ids_shape: Sequence[int],
        dtype: torch.dtype,
        device: torch.device | str,
        past_key_values_length: int = 0,
        sliding_window: int | None = None,
    ) -> torch.Tensor:
        _refuse_integers(dtype)
        batch, queries = input_ids_shape
        keys = torch.arange(past_key_values_length + queries, device=device)
        distance = keys[past_key_values_length:, None] - keys[None, :]
        hidden = distance < 0
        if sliding_window is not None:
            hidden = hidden | (distance > sliding_window)
        mask = torch.zeros(hidden.shape, dtype=dtype, device=device).masked_fill(hidden, torch.finfo(dtype).min)
        return mask[None, None].expand(batch, 1, *hidden.shape)

    @staticmethod
    def _expand_mask(mask: torch.Tensor, dtype: torch.dtype, tgt_len: int | None = None) -> torch.Tensor:
        _refuse_integers(dtype)
        if not _is_traced(mask) and mask.dim() != 2:
            raise ArgumentError("The mask has a wrong shape.", expected="[B, K]", received=str(tuple(mask.shape)))
        batch, keys = mask.shape
        inverted = 1.0 - mask[:, None, None, :].expand(batch, 1, keys if tgt_len is None else tgt_len, keys).to(dtype)
        return inverted.masked_fill(inverted.bool(), torch.finfo(dtype).min)

    @staticmethod
    def _unmask_unattended(expanded_mask: torch.Tensor, min_dtype: float) -> torch.Tensor:
        """Let a query that sees no key see all, for kernels that would divide by zero.

        Raises:
            ArgumentError: a mask of booleans.
        """
        if expanded_mask.dtype is torch.bool:
            raise ArgumentError("The mask is of booleans.", expected="a mask that is added to scores")
        blind = (expanded_mask == min_dtype).all(dim=-1, keepdim=True)
        return expanded_mask.mul(~blind)

    @staticmethod
    def _ignore_causal_mask_sdpa(
        attention_mask: torch.Tensor | None,
        inputs_embeds: torch.Tensor,
        past_key_values_length: int,
        sliding_window: int | None = None,
        is_training: bool = False,
    ) -> bool:
        """Return whether `scaled_dot_product_attention` needs no mask: nothing is hidden but what `is_causal` hides."""
        queries = inputs_embeds.shape[1]
        keys = queries + past_key_values_length
        if _is_traced(inputs_embeds) or (sliding_window is not None and keys >= sliding_window):
            return False
        nothing_hidden = attention_mask is None or (attention_mask.dim() == 2 and bool((attention_mask == 1).all()))
        return nothing_hidden and (queries == 1 or keys == queries)


def prepare_4d_causal_attention_mask(
    attention_mask: torch.Tensor | None,
    input_shape: Sequence[int],
    inputs_embeds: torch.Tensor,
    past_key_values_length: int,
    sliding_window: int | None = None,
) -> torch.Tensor | None:
    """Return the causal mask [B, 1, Q, K], which hides too what `attention_mask` ([B, K] or [B, 1, Q, K]) hides.

    Args:
        input_shape: (B, Q).
        inputs_embeds: whose dtype and device the mask has.

    Raises:
        ArgumentError: `attention_mask` has another shape.
    """
    converter = AttentionMaskConverter(True, sliding_window)
    batch, queries = input_shape
    keys, dtype = queries + past_key_values_length, inputs_embeds.dtype
    if attention_mask is None:
        return converter.to_causal_4d(batch, queries, keys, dtype, inputs_embeds.device)
    if attention_mask.dim() == 2:
        return converter.to_4d(attention_mask, queries, dtype, keys)
    if tuple(attention_mask.shape) != (batch, 1, queries, keys):
        raise ArgumentError(
            "attention_mask has a wrong shape.", expected=f"{(batch, 1, queries, keys)} or [B, K]",
            received=str(tuple(attention_mask.shape)),
        )  # fmt: skip
    inverted = 1.0 - attention_mask.to(dtype)
    return inverted.masked_fill(inverted.bool(), torch.finfo(dtype).min)


def prepare_4d_causal_attention_mask_for_sdpa(
    attention_mask: torch.Tensor | None,
    input_shape: Sequence[int],
    inputs_embeds: torch.Tensor,
    past_key_values_length: int,
    sliding_window: int | None = None,
) -> torch.Tensor | None:
    """As `prepare_4d_causal_attention_mask`; None where `is_causal` of `scaled_dot_product_attention` does it all.

    An `attention_mask` of four axes is one that is added to scores already, and is returned as it is.
    """
    if attention_mask is not None and attention_mask.dim() == 4:
        return attention_mask
    arguments = (attention_mask, inputs_embeds, past_key_values_length, sliding_window)
    if AttentionMaskConverter._ignore_causal_mask_sdpa(*arguments):
        return None
    mask = prepare_4d_causal_attention_mask(
        attention_mask, input_shape, inputs_embeds, past_key_values_length, sliding_window
    )
    if mask is None or attention_mask is None or mask.device.type != "cuda" or _is_traced(inputs_embeds):
        return mask
    return AttentionMaskConverter._unmask_unattended(mask, torch.finfo(mask.dtype).min)


def prepare_4d_attention_mask(mask: torch.Tensor, dtype: torch.dtype, tgt_len: int | None = None) -> torch.Tensor:
    """Return [B, 1, Q, K] of a mask [B, K]; `tgt_len` is Q, K by default."""
    return AttentionMaskConverter._expand_mask(mask, dtype, tgt_len)


def prepare_4d_attention_mask_for_sdpa(
    mask: torch.Tensor, dtype: torch.dtype, tgt_len: int | None = None
) -> torch.Tensor | None:
    """As `prepare_4d_attention_mask`; None where nothing is hidden."""
    if not _is_traced(mask) and bool((mask == 1).all()):
        return None
    return AttentionMaskConverter._expand_mask(mask, dtype, tgt_len)


def create_4d_causal_attention_mask(
    input_shape: Sequence[int],
    dtype: torch.dtype,
    device: torch.device,
    past_key_values_length: int = 0,
    sliding_window: int | None = None,
) -> torch.Tensor | None:
    """Return the causal mask of `input_shape` (B, Q), or None if one query sees all keys."""
    keys = input_shape[-1] + past_key_values_length
    return AttentionMaskConverter(True, sliding_window).to_causal_4d(
        input_shape[0], input_shape[-1], keys, dtype, device
    )


def _refuse_integers(dtype: Any) -> None:
    if isinstance(dtype, str) or (isinstance(dtype, torch.dtype) and not dtype.is_floating_point):
        raise ArgumentError(
            "Scores are of a floating dtype.", expected="a torch.dtype such as torch.float32", received=str(dtype)
        )


def _is_traced(tensor: Any) -> bool:
    return torch.jit.is_tracing() or torch.compiler.is_compiling() or isinstance(tensor, torch.fx.Proxy)
