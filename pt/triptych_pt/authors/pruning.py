"""Layers with a part of their units, for models of others that prune heads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from triptych.errors import ArgumentError
from triptych_pt.make import Conv1D


def find_pruneable_heads_and_indices(
    heads: Iterable[int], n_heads: int, head_size: int, already_pruned_heads: Iterable[int]
) -> tuple[set[int], torch.Tensor]:
    """Return those of `heads` that are not pruned yet, and which of a layer's `n_heads * head_size` rows stay.

    Heads are numbered as they were before any was pruned.

    Raises:
        ArgumentError: there is no such head.
    """
    gone = set(already_pruned_heads)
    new = set(heads) - gone
    if unknown := new - set(range(n_heads + len(gone))):
        raise ArgumentError(
            "There are no such heads.", expected=f"numbers from 0 to {n_heads + len(gone) - 1}", received=f"{unknown}"
        )
    keep = torch.ones(n_heads, head_size, dtype=torch.bool)
    for head in new:
        keep[head - sum(1 for one in gone if one < head)] = False
    return new, keep.flatten().nonzero().squeeze(-1)


def prune_linear_layer(layer: nn.Linear, index: torch.Tensor, dim: int = 0) -> nn.Linear:
    """Return a layer with the outputs (`dim` 0) or inputs (`dim` 1) `index` alone, of the same dtype and device.

    Raises:
        ArgumentError: the layer has no matrix [out, in], or no such units.
    """
    weight, bias = _pruned(layer, index, dim, outputs=0, other=Conv1D)
    return _filled(nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta"), weight, bias)


def prune_conv1d_layer(layer: Conv1D, index: torch.Tensor, dim: int = 1) -> Conv1D:
    """Return a layer with the inputs (`dim` 0) or outputs (`dim` 1) `index` alone, of the same dtype and device.

    Raises:
        ArgumentError: the layer has no matrix [in, out], or no such units.
    """
    weight, bias = _pruned(layer, index, dim, outputs=1, other=nn.Linear)
    return _filled(Conv1D(weight.shape[1], weight.shape[0]), weight, bias)


def prune_layer(layer: Any, index: torch.Tensor, dim: int | None = None) -> Any:
    """Return a linear layer or a `Conv1D` with the units `index` alone; `dim` is that of the outputs by default.

    Raises:
        ArgumentError: another kind of layer, or no such units.
    """
    if isinstance(layer, nn.Linear):
        return prune_linear_layer(layer, index, 0 if dim is None else dim)
    if isinstance(layer, Conv1D):
        return prune_conv1d_layer(layer, index, 1 if dim is None else dim)
    raise ArgumentError("Layers of this kind are not pruned.", expected="Linear or Conv1D", received=str(type(layer)))


def _pruned(layer: Any, index: Any, dim: int, outputs: int, other: type) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the units `index` of a weight, and the bias that belongs to them; `outputs` is their axis.

    An author's own layer is taken by its matrix, but none of the class `other`, whose matrix is the transposed one.
    """
    weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
    if isinstance(layer, other) or not isinstance(weight, torch.Tensor) or weight.dim() != 2:
        expected = "a layer like Conv1D" if outputs else "a layer like nn.Linear"
        raise ArgumentError("Layers of this kind are not pruned so.", expected=expected, received=str(type(layer)))
    if dim not in (0, 1):
        raise ArgumentError("A matrix has two axes.", expected="dim 0 or 1", received=str(dim))
    units, count = torch.as_tensor(index, device=weight.device), weight.shape[dim]
    if units.dtype not in (torch.int32, torch.int64) or bool(((units < 0) | (units >= count)).any()):
        raise ArgumentError("There are no such units.", expected=f"numbers from 0 to {count - 1}", received=f"{index}")
    kept = bias.index_select(0, units) if bias is not None and dim == outputs else bias
    return weight.index_select(dim, units).detach(), kept


def _filled(layer: Any, weight: torch.Tensor, bias: torch.Tensor | None) -> Any:
    layer.weight = nn.Parameter(weight.contiguous())
    layer.bias = None if bias is None else nn.Parameter(bias.detach().clone().contiguous())
    return layer
