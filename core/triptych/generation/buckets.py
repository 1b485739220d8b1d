"""Sizes of compiled searches: prompts of similar lengths share one, so that one compilation serves them.

The prompt stands at the beginning of its bucket. What is behind it does not change any number before it: a decoder does
not look ahead, and an encoder's mask hides it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_SIZE = 64
_SHORT = (16, 32)
"""Buckets of short prompts: what is behind a prompt is computed, if for nothing."""
_PADDING: Mapping[str, int] = {"attention_mask": 1, "decoder_attention_mask": 1, "token_type_ids": 0, "position_ids": 0}


def bucket(length: int, most: int | None = None, short: bool = False) -> int:
    """Return the size of the bucket for `length` tokens: a multiple of 64, or if `short` 16 or 32 where that is enough;
    but at most `most` if they fit that."""
    size = next((one for one in _SHORT if short and length <= one), -(-length // _SIZE) * _SIZE)
    return size if most is None or size <= most else max(length, most)


def widened(ops: Any, x: Any, columns: int, value: Any) -> Any:
    """Return `x` [B, P, ...] with `columns` of the second axis, the further ones of `value`."""
    shape = list(x.shape)
    if shape[1] >= columns:
        return x
    more = ops.cast(ops.zeros((shape[0], columns - shape[1], *shape[2:]), "int32", x), x.dtype) + value
    return ops.concat([x, more], 1)


def in_buckets(
    ops: Any, inputs: Mapping[str, Any], width: int, encoded: bool, size: Callable[[int], int]
) -> dict[str, Any]:
    """Return inputs of the first call, widened: a decoder's to `width`, an encoder's to a bucket of their own."""
    found = dict(inputs)
    if not encoded:
        return {name: widened(ops, x, width, _PADDING[name]) if name in _PADDING else x for name, x in found.items()}
    name = next((name for name in ("input_ids", "inputs_embeds") if found.get(name) is not None), None)
    if name is None:
        return found
    rows, length = found[name].shape[:2]
    mask = found.get("attention_mask")
    mask = ops.zeros((rows, length), "int32", found[name]) + 1 if mask is None else mask
    found["attention_mask"] = widened(ops, mask, size(length), 0)
    found[name] = widened(ops, found[name], size(length), 0)
    return found
