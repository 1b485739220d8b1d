"""The functions that `triptych.nn.functional` needs, in PyTorch. Dtypes may be given by name."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from triptych.nn import seeding
from triptych.nn.threefry import unrolled
from triptych_pt import internals
from triptych_pt.authors import named_caches

CAUSAL_KERNEL = True
"""Whether `fused_attention` can be told that it is causal, and then needs no bias."""
GROWING_CACHE = True
"""Whether a cache of keys and values grows from call to call, or has a fixed size."""
CALLS_WITH_LENGTH = False
"""Whether processors of users are called with the number of tokens: `(input_ids, scores, cur_len)`."""


def _dtype(dtype: Any) -> torch.dtype:
    return getattr(torch, dtype) if isinstance(dtype, str) else dtype


def shape(x: Any) -> Any:
    return x.shape


def reshape(x: Any, shape: Sequence[Any]) -> Any:
    return x.reshape(tuple(shape))


def transpose(x: Any, axes: Sequence[int]) -> Any:
    return x.permute(*axes)


def matmul(x: Any, y: Any) -> Any:
    return torch.matmul(x, y)


def project(x: Any, rows: Any) -> Any:
    """Return the products of `x` [..., H] and each of `rows` [V, H], [..., V], for which no matrix is transposed."""
    if not is_few(x, 4, 32):
        return F.linear(x, rows)
    flat = x.reshape(-1, x.shape[-1])
    made = None if torch.is_grad_enabled() else internals.onednn_linear(flat, rows)
    made = (rows @ flat.t()).t() if made is None else made
    return made.reshape(*x.shape[:-1], rows.shape[0])


def is_few(x: Any, least: int, most: int) -> bool:
    """Return whether `x` [..., H] has so few rows that the usual product with a matrix is slow, on a CPU."""
    if x.device.type != "cpu" or x.dtype != torch.float32 or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    return least <= x.numel() // (x.shape[-1] or 1) <= most


def softmax(x: Any, dtype: Any) -> Any:
    return torch.softmax(x, dim=-1, dtype=_dtype(dtype)).to(x.dtype)


def cast(x: Any, dtype: Any) -> Any:
    return x.to(_dtype(dtype))


def lowest(dtype: Any) -> float:
    return torch.finfo(_dtype(dtype)).min


def is_integer(x: Any) -> bool:
    return not x.is_floating_point()


def is_half(x: Any) -> bool:
    return x.dtype in (torch.bfloat16, torch.float16)


def take(x: Any, indices: Sequence[int], axis: int) -> Any:
    return torch.index_select(x, axis, torch.tensor(indices, device=x.device))


def arange(length: Any, like: Any) -> Any:
    return torch.arange(length, device=like.device)


def where(condition: Any, x: Any, y: Any) -> Any:
    return torch.where(condition, x, y)


def without_gradient(vectors: Any, ids: Any, padding: int) -> Any:
    """Return `vectors` [..., H] of `ids` [...], which those of `padding` get no gradient by: here tables see to it."""
    return vectors


def zeros_like(x: Any) -> Any:
    return torch.zeros_like(x)


def sum(x: Any) -> Any:
    return torch.sum(x)


def mean(x: Any) -> Any:
    return torch.mean(x)


def gelu(x: Any, approximate: bool) -> Any:
    return F.gelu(x, approximate="tanh" if approximate else "none")


def relu(x: Any) -> Any:
    return torch.relu(x)


def sigmoid(x: Any) -> Any:
    return torch.sigmoid(x)


def tanh(x: Any) -> Any:
    return torch.tanh(x)


def softplus(x: Any) -> Any:
    return F.softplus(x)


def cross_entropy(logits: Any, labels: Any) -> Any:
    return F.cross_entropy(logits, labels.long(), reduction="none")


def mean_last(x: Any) -> Any:
    return torch.mean(x, dim=-1, keepdim=True)


def rsqrt(x: Any) -> Any:
    return torch.rsqrt(x)


def cos(x: Any) -> Any:
    return torch.cos(x)


def sin(x: Any) -> Any:
    return torch.sin(x)


def max(x: Any) -> Any:
    return torch.max(x)


def argmax(x: Any) -> Any:
    return torch.argmax(x, dim=-1)


def maximum(x: Any, y: Any) -> Any:
    return torch.clamp(x, min=y) if isinstance(y, (int, float)) else torch.maximum(x, y)


def minimum(x: Any, y: Any) -> Any:
    return torch.clamp(x, max=y) if isinstance(y, (int, float)) else torch.minimum(x, y)


def cumsum(x: Any) -> Any:
    return torch.cumsum(x, dim=-1, dtype=x.dtype)


def sum_last(x: Any) -> Any:
    return torch.sum(x, dim=-1, keepdim=True)


def max_last(x: Any) -> Any:
    return torch.amax(x, dim=-1, keepdim=True)


def argsort(x: Any, descending: bool) -> Any:
    """Return where the sorted values of the last axis are; equal ones stay in their order."""
    return torch.argsort(x, dim=-1, descending=descending, stable=True)


def put_along(x: Any, indices: Any) -> Any:
    """Return what has x[row, place] at [row, indices[row, place]]: the inverse of `take_along` of a permutation."""
    return torch.empty_like(x).scatter(-1, indices, x)


def column(x: Any, position: Any) -> Any:
    """Return x[:, position] as [rows, 1]; a position outside is the nearest one, where it is traced."""
    return x[:, position][:, None]


def counts(indices: Any, counted: Any, size: int) -> Any:
    """Return int32 [rows, size]: how often each number is in its row of indices [rows, places], where `counted`."""
    counted = counted.expand_as(indices)
    found = torch.zeros((indices.shape[0], size), dtype=torch.int32, device=indices.device)
    return found.scatter_add(1, torch.where(counted, indices, 0).long(), counted.int())


def add_at(x: Any, columns: Any, values: Any) -> Any:
    """Return x [rows, size] with values [rows, n] added in these columns [n], none of them twice."""
    return x.index_add(-1, columns, values.expand(x.shape[0], -1))


def concat(parts: Sequence[Any], axis: int) -> Any:
    return torch.cat(list(parts), dim=axis)


def gather(x: Any, indices: Any) -> Any:
    return x[indices]


def rows_of(x: Any, rows: Any) -> Any:
    return x.index_select(0, rows.to(x.device))


def pick(x: Any, indices: Any) -> Any:
    return x[torch.arange(x.shape[0], device=x.device), indices]


def constant(value: Any, like: Any) -> Any:
    return torch.as_tensor(value, device=like.device)


def zeros(shape: Sequence[Any], dtype: Any, like: Any = None) -> Any:
    return torch.zeros(tuple(shape), dtype=_dtype(dtype), device=None if like is None else like.device)


def write(buffer: Any, values: Any, start: Any) -> Any:
    result = buffer.clone()
    result[:, :, start : start + values.shape[2]] = values
    return result


WORD = "int32"
"""The integers in which `triptych.nn.threefry` computes words of 32 bits; PyTorch adds no unsigned ones."""
_BLOCK = 1 << 15  # words that stay in a core's cache, on a CPU


def word(value: int) -> Any:
    """Return a word of 32 bits as an array without axes."""
    return torch.tensor(value - (value >> 31 << 32), dtype=torch.int32)


def shift(x: Any, bits: int) -> Any:
    """Return words shifted by `bits` to the left, or to the right where it is negative; zeros come in."""
    return x << bits if bits > 0 else (x >> -bits) & ((1 << (32 + bits)) - 1)


def rotated(x: Any, bits: int) -> Any:
    """Return words rotated by `bits` to the left."""
    return shift(x, bits) + shift(x, bits - 32)


def repeated(function: Any, times: int, state: Any) -> Any:
    """Return `state` as `function(ops, state)` makes it anew so many times."""
    return unrolled(sys.modules[__name__], function, times, state)


def signed(x: Any) -> Any:
    """Return the integers with a sign that have the bits of words."""
    return x


def counted(function: Any, count: Any, like: Any, *words: Any) -> tuple[Any, ...]:
    """Return what `function(ops, counter, *words)` does for the words 0 to `count` - 1, one by one."""
    ops = sys.modules[__name__]
    whole = like.device.type != "cpu" or torch.compiler.is_compiling()
    starts = range(0, 1 if whole else count, _BLOCK) or [0]
    ends = [count] if whole else [min(start + _BLOCK, count) for start in starts]
    spans = zip(starts, ends, strict=True)
    found = [function(ops, torch.arange(*one, dtype=torch.int32, device=like.device), *words) for one in spans]
    return tuple(parts[0] if len(parts) == 1 else torch.cat(parts) for parts in zip(*found, strict=True))


def masked(x: Any, kept: Any, scale: float) -> Any:
    """Return `x` times `scale` where it is `kept`, and 0 elsewhere."""
    return x * (kept.to(x.dtype) * scale)  # `where` takes twenty times as long on a CPU


def fuses(dropout: Any) -> bool:
    """Return whether `fused_attention` drops what this layer does: not what is drawn by a seed."""
    return not (dropout.training and dropout.p and seeding.is_seeded(dropout))


def put(buffer: Any, column: Any, position: Any) -> Any:
    """Return `buffer` [R, L, ...] with `column` [R, ...] at `position` of the second axis."""
    result = buffer.clone()
    result[:, position] = column
    return result


def take_along(x: Any, indices: Any) -> Any:
    return torch.take_along_dim(x, indices.long(), dim=-1)


def topk(x: Any, k: int) -> tuple[Any, Any]:
    values, indices = torch.topk(x, k, dim=-1)
    return values, indices


def log_softmax(x: Any) -> Any:
    return torch.log_softmax(x, dim=-1)


def exp(x: Any) -> Any:
    return torch.exp(x)


def log(x: Any) -> Any:
    return torch.log(x)


def all(x: Any) -> Any:
    return torch.all(x)


def any(x: Any, axis: int | None = None) -> Any:
    return torch.any(x) if axis is None else torch.any(x, dim=axis)


def invert(x: Any) -> Any:
    return torch.logical_not(x)


def minimum_of(x: Any) -> Any:
    """Return the least along the last axis, which stays with length 1."""
    return torch.amin(x, dim=-1, keepdim=True)


def repeat(x: Any, times: int) -> Any:
    return x.repeat_interleave(times, dim=0)


def bits(x: Any, shift: int, mask: int) -> Any:
    """Return the bits of the bytes `x` above `shift` that are in `mask`."""
    return (x >> shift if shift else x) & mask


def bitcast(x: Any, dtype: Any) -> Any:
    """Return the bytes `x` [..., N] as numbers of `dtype`: [..., N] of one byte each, or [...] of N."""
    new = x.contiguous().view(_dtype(dtype))
    return new if new.element_size() == 1 else new[..., 0]


def while_loop(condition: Any, body: Any, state: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return `state` as `body` makes it anew while `condition` holds; both take its parts."""
    while condition(*state):
        state = body(*state)
    return state


def compiles() -> bool:
    """Return whether what is computed now is recorded, to run later and with other values."""
    return bool(torch.compiler.is_compiling())


def buffer(x: Any, size: int, rows: Any) -> Any:
    """Return room for `size` tokens like those of `x` [B, N, K, D], of as many texts as there are `rows`."""
    return x.new_empty((rows.shape[0], x.shape[1], size, x.shape[3]))


def may_write(*arrays: Any) -> bool:
    """Return whether nothing records what is computed of these, for a gradient or a graph: so that a cache may write
    them into a buffer, where they would be concatenated."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    kinds = {(type(x), x.dtype, x.device) for x in arrays}
    return len(kinds) == 1 and type(arrays[0]) is torch.Tensor and not internals.transforms_are_active()


def begins(buffers: Any, views: Any) -> bool:
    """Return whether `views` are the first tokens of `buffers`, which may be written into here."""
    if buffers[0].is_inference() and not torch.is_inference_mode_enabled():
        return False
    pairs = zip(buffers, views, strict=True)
    return False not in [x.data_ptr() == view.data_ptr() and x.stride() == view.stride() for x, view in pairs]


def write_into(buffer: Any, values: Any, start: int) -> None:
    buffer.data[:, :, start : start + values.shape[2]] = values  # of `data`: no view of what is before is changed


def write_rows_into(buffer: Any, x: Any, rows: Any) -> None:
    torch.index_select(x, 0, rows.to(x.device), out=buffer.data[:, :, : x.shape[2]])


def named_cache(name: str, config: Any, batch_size: int, max_length: int, dtype: Any, device: Any) -> Any:
    return named_caches.named(name, config, batch_size, max_length, _dtype(dtype), device)


def known(x: Any) -> int | None:
    return None if torch.compiler.is_compiling() else int(x)


def table(embedding: Any) -> Any:
    return embedding.weight


def makes_parameters(module: Any) -> bool:
    """Return whether a module makes its parameters in this call; here it never does."""
    return False


def fused_attention(
    query: Any, key: Any, value: Any, bias: Any, scale: float, dropout: Any, causal: bool = False
) -> Any:
    """Return context [B, N, Q, D], and keep no probabilities; see `triptych.nn.attention.attend`."""
    rate = dropout.p if dropout.training else 0.0
    bias = None if bias is None else bias.to(query.dtype)
    groups, shape = internals.as_recorded(query.shape[1] // key.shape[1]), query.shape
    causal = bool(internals.as_recorded(causal))
    if groups > 1 and shape[2] == 1 and (bias is None or bias.shape[1:3] == (1, 1)):
        # A head with several queries, instead of several heads with one: no key is copied.
        query, groups = query.reshape(shape[0], key.shape[1], groups, shape[3]), 1
    context = F.scaled_dot_product_attention(query, key, value, bias, rate, causal, scale=scale, enable_gqa=groups > 1)
    return context.reshape(*shape[:3], -1)


def is_training(layer: Any) -> bool:
    """Return whether `layer` is trained, in the call that is made."""
    return bool(layer.training)


def checkpointing(options: Any = None) -> Any:
    """Return `torch.utils.checkpoint.checkpoint` with these options, by name."""
    return functools.partial(checkpoint, **(options or {"use_reentrant": True}))


def recomputed(stack: Any, layer: Any, *args: Any, **kwargs: Any) -> Any:
    """Call `layer` by the checkpointing function of `stack`, so that only inputs and outputs are kept.

    The layer returns a tensor, or a tuple of tensors and None.
    """
    function = getattr(stack, "_gradient_checkpointing_func", None) or checkpointing()
    if not torch.compiler.is_compiling():  # which computes the masks anew from what the graph keeps
        layer = seeding.replaying(internals.modules_of(layer), layer)
    run, inputs = internals.flattened(layer, *args, **kwargs)
    if torch.is_grad_enabled() and True not in [isinstance(x, torch.Tensor) and x.requires_grad for x in inputs]:
        # A reentrant checkpoint gives the layer's parameters no gradient unless one of its inputs gets one too.
        inputs[0] = inputs[0].detach().requires_grad_()
    return function(run, *inputs)
