"""What triptych relies on inside PyTorch: modules that are built without values, outputs as trees of tensors."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from triptych.errors import ArgumentError

BATCH_NORMS = (_NormBase,)
"""PyTorch's norms with statistics, of a batch or an instance."""


def is_dropout(module: nn.Module) -> bool:
    """Return whether `module` is one of PyTorch's layers that drop values."""
    return isinstance(module, _DropoutNd)


def is_replica(module: nn.Module) -> bool:
    """Return whether `module` is a copy that `nn.DataParallel` made for one device."""
    return bool(getattr(module, "_is_replica", False))


class _Building(threading.local):
    """How many models without values this thread is building, one inside the other."""

    depth = 0
    initialising = True


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
    if not building_empty() or parameter is None or is_lazy(parameter) or parameter.is_meta:
        return None  # as it is
    with torch._C.DisableTorchFunction():  # _NoFills has no say here, and each call of it takes time
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


@contextmanager
def with_values() -> Iterator[None]:
    """Let modules have values again, within a model that is being built without: one that is loaded meanwhile."""
    before, _building.depth = _building.depth, 0
    try:
        yield
    finally:
        _building.depth = before


def initialising() -> bool:
    """Return whether new modules of this thread get values from `_init_weights`: not within `no_init_weights`."""
    return _building.initialising


@contextmanager
def no_init_weights(_enable: bool = True) -> Iterator[None]:
    """Leave new modules as their constructors make them."""
    before = _building.initialising
    _building.initialising = before and not _enable
    try:
        yield
    finally:
        _building.initialising = before


def device_of_values() -> torch.device:
    """Return the default device of this thread.

    Raises:
        ArgumentError: it is meta, where new tensors have no values: a load could give none either.
    """
    device = torch.get_default_device()
    if device.type == "meta":
        raise ArgumentError(
            "A model cannot be loaded on the meta device.",
            expected="a device whose tensors have values",
            received="torch.device('meta'), as the default or in a context",
            remedy="leave the context; a load makes no values that it does not keep",
        )
    return device


def reset(module: nn.Module) -> None:
    """Give the weights of one module the values that PyTorch starts it with, if it says how."""
    for name in ("reset_parameters", "_reset_parameters"):
        if callable(method := getattr(module, name, None)):
            method()
            return


def blank(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Return a tensor that shows, if it is of a floating type, which of its values nobody has set."""
    is_floating = dtype.is_floating_point or dtype.is_complex
    return torch.full(shape, torch.nan if is_floating else 0, dtype=dtype)


def has_blanks(tensor: torch.Tensor) -> bool:
    """Return whether values of a tensor that was blank were not set; of one that cannot show it, True."""
    return not (tensor.is_floating_point() or tensor.is_complex()) or bool(tensor.isnan().any())


def is_blank(tensor: torch.Tensor) -> bool:
    """Return whether no value of a tensor that was blank was set; of one that cannot show it, False."""
    return (tensor.is_floating_point() or tensor.is_complex()) and bool(tensor.isnan().all())


def modules_of(model: nn.Module) -> list[nn.Module]:
    """Return what `model.modules()` does, in its order: without names, it takes a quarter of the time."""
    found: dict[nn.Module, None] = {}
    waiting = [model]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found[module] = None
            waiting.extend(child for child in reversed(module._modules.values()) if child is not None)
    return list(found)


def own_tensor(module: nn.Module, leaf: str) -> Any:
    """Return the parameter or buffer `leaf` of `module` itself."""
    return module._parameters[leaf] if leaf in module._parameters else module._buffers[leaf]


def share(module: nn.Module, leaf: str, tensor: torch.Tensor) -> None:
    """Let `module` have this very parameter or buffer."""
    (module._buffers if leaf in module._buffers else module._parameters)[leaf] = tensor  # type: ignore[assignment]


def lend(module: nn.Module, leaf: str, tensor: torch.Tensor) -> None:
    """Let `module` compute with a tensor in the place of a parameter or buffer; it need not be a parameter."""
    share(module, leaf, tensor)
    if isinstance(module, nn.RNNBase):
        module._flat_weights = [module._parameters.get(name) for name in module._flat_weights_names]


def running_device(layer: nn.Module) -> torch.device:
    """Return the device on which a layer with weights runs: theirs, or that of a hook of accelerate's."""
    hooked = getattr(getattr(layer, "_hf_hook", None), "execution_device", None)
    return own_tensors(layer)[0][1].device if hooked is None else torch.device(hooked)


def weights_elsewhere(module: nn.Module) -> Any:
    """Return the mapping in which a hook of accelerate keeps the weights of a module, or None."""
    hook = getattr(module, "_hf_hook", None)
    maps = (getattr(one, "weights_map", None) for one in getattr(hook, "hooks", [hook]))
    return next((found for found in maps if found is not None), None)


def own_tensors(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Return the parameters and buffers of `module` itself."""
    held = (*module._parameters.items(), *module._buffers.items())
    return [(name, tensor) for name, tensor in held if tensor is not None]


def all_tensors(module: nn.Module) -> list[torch.Tensor]:
    """Return the parameters of `module` and the modules in it, then the buffers. A replica that `nn.DataParallel` made
    has no parameters, but tensors in their places."""
    found: list[torch.Tensor] = [*module.parameters()]
    if not found:
        found = [one for part in module.modules() for one in getattr(part, "_former_parameters", {}).values()]
    return [*found, *module.buffers()]


def unwrapped_class(cls: type) -> type:
    """Return the class that a module had before `fully_shard` or `replicate` gave it one of their own."""
    bases = cls.__bases__
    made = len(bases) > 1 and bases[0].__module__.startswith("torch.distributed.")
    return bases[1] if made else cls


def is_split(tensor: torch.Tensor) -> bool:
    """Return whether a tensor is part of one that is split over processes, as FSDP2 splits them."""
    return hasattr(tensor, "full_tensor") and hasattr(tensor, "placements")  # DTensor, whose import takes a second


def persistent_buffers(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Return the buffers of `module` itself that are saved."""
    names = module._non_persistent_buffers_set
    return [(name, one) for name, one in module._buffers.items() if one is not None and name not in names]


def put(module: nn.Module, leaf: str, tensor: torch.Tensor) -> None:
    """Put `tensor` into the place of a parameter, with its `requires_grad`, or of a buffer."""
    if leaf in module._buffers:
        module._buffers[leaf] = tensor
    else:
        old = module._parameters[leaf]
        trained = (old is None or old.requires_grad) and (tensor.is_floating_point() or tensor.is_complex())
        module.register_parameter(leaf, nn.Parameter(tensor, requires_grad=trained))


def loads_its_own_way(model: nn.Module) -> bool:
    """Return whether a module of `model` has a hook, or a method of its own, for loading a state."""
    modules = modules_of(model)
    return (
        type(model).load_state_dict is not nn.Module.load_state_dict
        or any(module._load_state_dict_pre_hooks or module._load_state_dict_post_hooks for module in modules)
        or any(_is_own(cls, "_load_from_state_dict") for cls in set(map(type, modules)))
    )


def saves_its_own_way(model: nn.Module) -> bool:
    """Return whether a module of `model` has a hook, or a method of its own, for its state."""
    modules = modules_of(model)
    methods = ("state_dict", "_save_to_state_dict", "get_extra_state")
    return any(module._state_dict_hooks or module._state_dict_pre_hooks for module in modules) or any(
        _is_own(cls, name) for cls in set(map(type, modules)) for name in methods
    )


def _is_own(kind: type[nn.Module], method: str) -> bool:
    """Return whether someone else than PyTorch wrote `method` of a class of modules."""
    owner = next(cls for cls in kind.__mro__ if method in vars(cls))
    return not owner.__module__.startswith("torch.")


def transforms_are_active() -> bool:
    """Return whether a transform of `torch.func` wraps tensors, of which a buffer of plain ones takes none."""
    return bool(torch._C._are_functorch_transforms_active())


def as_recorded(length: Any) -> Any:
    """Return a length that is the same in each call, as the number that it has while `torch.jit` traces."""
    if not isinstance(length, torch.Tensor):
        return length
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # that it is the same is what is said here
        return length.item()


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


def flattened(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Callable[..., Any], list[Any]]:
    """Return `function` as one of plain arguments, without tuples and names, and these."""
    inputs, structure = pytree.tree_flatten((args, kwargs))

    def run(*inputs: Any) -> Any:
        args, kwargs = pytree.tree_unflatten(list(inputs), structure)
        return function(*args, **kwargs)

    return run, inputs


@contextmanager
def default_dtype(dtype: torch.dtype | None) -> Iterator[None]:
    """Make new floating tensors of `dtype`, unless it is None, while the context lasts."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(before if dtype is None else dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def onednn_linear(x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor | None:
    """Return the products of `x` [R, H] and each of `rows` [V, H], [R, V], by oneDNN, which no gradient passes through;
    None where this PyTorch lacks it. For matrices of few rows it is faster than what `F.linear` uses on a CPU."""
    plain = {type(x), type(rows)} <= {torch.Tensor, nn.Parameter} and not transforms_are_active()
    if not plain or not torch.backends.mkldnn.is_available():
        return None
    product = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    return None if product is None else product(x, rows, None, "none", [], "")
