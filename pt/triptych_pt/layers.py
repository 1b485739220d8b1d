"""What torch modules lack for triptych: building without values, the layout of a parameter, sizes that stay true."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from triptych.weights.schema import Layout
from triptych_pt.make import (  # noqa: F401  # families that write their classes out find them here
    Block,
    Conv1D,
    RMSNorm,
    block,
    conv1d,
    dense,
    dropout,
    embedding,
    layer_norm,
    listed,
    rms_norm,
    stacked,
    vector,
    vocab_head,
    vocab_projector,
)

_LAYOUTS: dict[type, dict[str, Layout]] = {
    nn.Linear: {"weight": Layout.LINEAR, "bias": Layout.BIAS},
    nn.Embedding: {"weight": Layout.EMBEDDING},
    nn.LayerNorm: {"weight": Layout.NORM, "bias": Layout.NORM_BIAS},
    Conv1D: {"weight": Layout.CONV1D, "bias": Layout.BIAS},
    RMSNorm: {"weight": Layout.NORM},
}


class _Building(threading.local):
    """How many models without values this thread is building, one inside the other."""

    depth = 0


_building = _Building()


class _NoFills(TorchFunctionMode):
    """Skips filling meta tensors: it has no effect, and torch would import its compiler (2 s) to trace it."""

    fills = frozenset(("normal_", "uniform_", "fill_", "zero_", "erfinv_", "mul_", "add_", "clamp_", "copy_"))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        target = args[0] if args else kwargs.get("tensor")  # torch.nn.init passes it by name
        fills = getattr(func, "__name__", "") in self.fills or getattr(func, "__module__", "") == "torch.nn.init"
        if fills and isinstance(target, torch.Tensor) and target.is_meta:
            return target
        return func(*args, **kwargs)


def _to_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
    if not building_empty() or parameter is None or parameter.is_meta:
        return None  # as it is
    return nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)


# Torch has one list of hooks for all threads, and reads it without a lock: so it is changed once, and for all time.
register_module_parameter_registration_hook(_to_meta)  # type: ignore[arg-type]


@contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Build modules whose parameters take no memory and no time, in this thread; buffers are made as usual."""
    _building.depth += 1
    try:
        with _NoFills():
            yield
    finally:
        _building.depth -= 1


def building_empty() -> bool:
    """Return whether this thread is building a model whose weights come from a checkpoint."""
    return _building.depth > 0


def layout_of(module: nn.Module, leaf: str) -> Layout:
    """Return the layout of parameter `leaf`, by the type of its module."""
    return next((names[leaf] for kind, names in _LAYOUTS.items() if isinstance(module, kind) and leaf in names),
                Layout.BIAS if leaf == "bias" else Layout.PARAMETER)  # fmt: skip


def describe(module: nn.Module) -> None:
    """Make a layer's own account of its sizes true again after its weight changed."""
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    if isinstance(module, nn.Embedding):
        module.num_embeddings = module.weight.shape[0]
        if module.padding_idx is not None and module.padding_idx >= module.num_embeddings:
            module.padding_idx = None
