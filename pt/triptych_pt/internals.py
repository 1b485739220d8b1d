"""What triptych relies on inside PyTorch: modules that are built without values, outputs as trees of tensors."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree


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


class _NoParameterFills(TorchFunctionMode):
    """Skips what would fill parameters with values."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        target = args[0] if args else kwargs.get("tensor")
        fills = getattr(func, "__name__", "") in _NoFills.fills or getattr(func, "__module__", "") == "torch.nn.init"
        return target if fills and isinstance(target, nn.Parameter) else func(*args, **kwargs)


@contextmanager
def without_fills() -> Iterator[None]:
    """Leave the parameters that this thread makes as their memory is."""
    with _NoParameterFills():
        yield


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


def make_known(kind: Any) -> None:
    """Let PyTorch look into an output, for `torch.export` and `torch.func`."""

    def rebuild(values: Any, names: Any) -> Any:
        output = kind()
        for name, value in zip(names, values, strict=True):
            output[name] = value  # not by the constructor, which leaves out None
        return output

    name = f"{kind.__module__}.{kind.__qualname__}"
    pytree.register_pytree_node(
        kind, lambda output: ([*output.values()], [*output]), rebuild, serialized_type_name=name
    )


def wrapped(model: nn.Module) -> Any:
    """Return the module that `torch.compile` or a wrapper for parallel training has within it, or None."""
    return getattr(model, "_orig_mod", None) or getattr(model, "module", None)
