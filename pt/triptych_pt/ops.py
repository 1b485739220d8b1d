"""The functions that `triptych.nn.functional` needs, in PyTorch. Dtypes may be given by name."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from triptych_pt import internals

FUSED_ATTENTION = True
"""Whether there is a function for the whole of attention: `fused_attention`."""
GROWING_CACHE = True
"""Whether a cache of keys and values grows from call to call, or has a fixed size."""


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
    if not is_few(x, 5, 32):
        return F.linear(x, rows)
    flat = x.reshape(-1, x.shape[-1])
    return (rows @ flat.t()).t().reshape(*x.shape[:-1], rows.shape[0])


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


def concat(parts: Sequence[Any], axis: int) -> Any:
    return torch.cat(list(parts), dim=axis)


def gather(x: Any, indices: Any) -> Any:
    return x[indices]


def pick(x: Any, indices: Any) -> Any:
    return x[torch.arange(x.shape[0], device=x.device), indices]


def constant(value: Any, like: Any) -> Any:
    return torch.as_tensor(value, device=like.device)


def zeros(shape: Sequence[Any], dtype: Any) -> Any:
    return torch.zeros(tuple(shape), dtype=_dtype(dtype))


def write(buffer: Any, values: Any, start: Any) -> Any:
    result = buffer.clone()
    result[:, :, start : start + values.shape[2]] = values
    return result


def known(x: Any) -> int | None:
    return None if torch.compiler.is_compiling() else int(x)


def table(embedding: Any) -> Any:
    return embedding.weight


def makes_parameters(module: Any) -> bool:
    """Return whether a module makes its parameters in this call; here it never does."""
    return False


def fused_attention(query: Any, key: Any, value: Any, bias: Any, scale: float, dropout: Any) -> Any:
    """Return context [B, N, Q, D]; see `triptych.nn.attention.attend`."""
    groups, shape = query.shape[1] // key.shape[1], query.shape
    if groups > 1 and shape[2] == 1 and (bias is None or bias.shape[1:3] == (1, 1)):
        # A head with several queries, instead of several heads with one: no key is copied.
        query = query.reshape(shape[0], key.shape[1], groups, shape[3])
    elif groups > 1:
        key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    rate = dropout.p if dropout.training else 0.0
    bias = None if bias is None else bias.to(query.dtype)
    return F.scaled_dot_product_attention(query, key, value, bias, rate, scale=scale).reshape(*shape[:3], -1)


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
    run, inputs = internals.flattened(layer, *args, **kwargs)
    if torch.is_grad_enabled() and not any(isinstance(x, torch.Tensor) and x.requires_grad for x in inputs):
        # A reentrant checkpoint gives the layer's parameters no gradient unless one of its inputs gets one too.
        inputs[0] = inputs[0].detach().requires_grad_()
    return function(run, *inputs)
