"""What torch modules lack for triptych: building without values, the layout of a parameter, sizes that stay true; and
the layers of which the built-in models are made."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from triptych.config import PretrainedConfig
from triptych.nn import functional as fn
from triptych.weights.schema import Layout
from triptych_pt import ops

_LAYOUTS: dict[type, dict[str, Layout]] = {
    nn.Linear: {"weight": Layout.LINEAR, "bias": Layout.BIAS},
    nn.Embedding: {"weight": Layout.EMBEDDING},
    nn.LayerNorm: {"weight": Layout.NORM, "bias": Layout.NORM_BIAS},
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


class Conv1D(nn.Module):
    """GPT-2's projection, whose weight is stored as [in, out]."""

    def __init__(self, width: int, units: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, units))
        self.bias = nn.Parameter(torch.zeros(units))

    def forward(self, x: Any) -> Any:
        return x @ self.weight + self.bias


class RMSNorm(nn.Module):
    """See `triptych.nn.functional.rms_norm`."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Any) -> Any:
        return fn.rms_norm(ops, x, self.weight, self.epsilon)


_LAYOUTS |= {
    Conv1D: {"weight": Layout.CONV1D, "bias": Layout.BIAS},
    RMSNorm: {"weight": Layout.NORM},
}


class Block(nn.Module):
    """A part of a built-in model. Subclasses declare their layers in `setup`; `fields` become attributes."""

    ops = ops

    def __init__(self, config: PretrainedConfig, index: int = 0, **fields: Any) -> None:
        super().__init__()
        self.config, self.index = config, index
        for name, value in fields.items():
            setattr(self, name, value)
        self.setup()

    def setup(self) -> None:
        """Declare the layers."""


def dense(owner: Any, width: int, units: int, bias: bool = True, std: float | None = None) -> Any:
    """Return a projection from `width` to `units`."""
    return _initialised(nn.Linear(width, units, bias=bias), std)


def conv1d(owner: Any, width: int, units: int, std: float | None = None) -> Any:
    """Return GPT-2's projection from `width` to `units`."""
    return _initialised(Conv1D(width, units), std)


def embedding(owner: Any, rows: int, width: int, std: float | None = None, padding: int | None = None) -> Any:
    """Return a table of `rows` vectors; that of `padding` starts as zeros and gets no gradient."""
    return _initialised(nn.Embedding(rows, width, padding_idx=padding), std)


def layer_norm(owner: Any, width: int, epsilon: float) -> Any:
    """Return a layer norm over the last axis."""
    return nn.LayerNorm(width, eps=epsilon)


def rms_norm(owner: Any, width: int, epsilon: float) -> Any:
    """Return a norm without shift over the last axis."""
    return RMSNorm(width, epsilon)


def dropout(owner: Any, rate: float) -> Any:
    """Return a layer that drops values while training."""
    return nn.Dropout(rate)


def vector(owner: Any, name: str, length: int) -> Any:
    """Return a parameter `name` of zeros."""
    return nn.Parameter(torch.zeros(length))


def vocab_head(owner: Any, width: int, units: int, bias: bool = False, std: float | None = None) -> Any:
    """Return the projection to the vocabulary; `tie_weights` makes it share the embeddings' matrix."""
    return dense(owner, width, units, bias, std)


class VocabProjector(nn.Linear):
    """A projection to the vocabulary with a bias, called with the embeddings, whose matrix it may share."""

    def forward(self, hidden: Any, embeddings: Any) -> Any:
        return super().forward(hidden)


def vocab_projector(owner: Any, width: int, units: int) -> Any:
    """Return a projection to the vocabulary with a bias of its own."""
    return VocabProjector(width, units)


def block(owner: Any, cls: Any, **fields: Any) -> Any:
    """Return a block of the owner's config; a backbone may be one too."""
    return cls(owner.config, **fields)


def stacked(owner: Any, cls: Any, count: int, **fields: Any) -> Any:
    """Return `count` blocks of one class, numbered by `index`."""
    return nn.ModuleList(cls(owner.config, index=index, **fields) for index in range(count))


def listed(owner: Any, classes: Any, **fields: Any) -> Any:
    """Return a list of blocks of several classes."""
    return nn.ModuleList(cls(owner.config, **fields) for cls in classes)


def _initialised(layer: Any, std: float | None) -> Any:
    layer.initial_std = std
    return layer
