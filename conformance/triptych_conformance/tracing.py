"""What each part of a model read and gave in one call, in any of the three frameworks.

A part is a module or layer that holds weights of its own; it is called as its weights are, canonically, so that parts
of different frameworks meet: `bert.encoder.layer.0.attention.self.query`. Other modules of a call have no name that
the frameworks share. Their work shows between parts: what one part gave and what the next one read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from triptych.weights import layouts


@dataclass(frozen=True)
class Part:
    """One call of one part: its canonical name, with `#2`, `#3` where it is called again, and arrays."""

    name: str
    read: np.ndarray
    gave: np.ndarray


class Trace:
    """The parts that are called, in their order."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self._calls: dict[str, int] = {}
        self._open: set[str] = set()

    def call(self, name: str, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Return what `function` gives, and remember the call; not one within another of the same part, of a layer
        that is made of a layer."""
        if name in self._open:
            return function(*args, **kwargs)
        self._open.add(name)
        try:
            output = function(*args, **kwargs)
        finally:
            self._open.remove(name)
        self.add(name, args, kwargs, output)
        return output

    def add(self, name: str, args: Any, kwargs: Any, output: Any) -> None:
        """Remember a call; one that reads or gives no array is left out."""
        first = args[0] if args else next(iter(kwargs.values()), None)
        read, gave = _array(first), _array(output)
        if read is None or gave is None:
            return
        self._calls[name] = number = self._calls.get(name, 0) + 1
        self.parts.append(Part(name if number == 1 else f"{name}#{number}", read, gave))


def _array(value: Any) -> np.ndarray | None:
    """Return a tensor, or the first of several, as float32 or, if it is of integers, int64."""
    if isinstance(value, (tuple, list)) and value:
        return _array(value[0])
    if type(value).__module__.startswith("torch"):
        value = value.detach()
        value = (value.float() if value.is_floating_point() else value.long()).cpu().numpy()
    try:
        array = np.asarray(value)
    except TypeError:
        return None
    if array.dtype.kind in "iu":
        return array.astype(np.int64)
    return None if array.dtype.kind in "OUSb" else array.astype(np.float32)


@contextmanager
def tracing_pt(model: Any) -> Iterator[Trace]:
    """Trace the calls of a `torch.nn.Module`, of triptych or not."""
    trace, hooks = Trace(), []

    def remember(name: str) -> Callable[..., None]:
        return lambda module, args, kwargs, output: trace.add(name, args, kwargs, output)

    for name, module in model.named_modules():
        if next(iter(module.parameters(recurse=False)), None) is not None:
            hooks.append(module.register_forward_hook(remember(name), with_kwargs=True))
    try:
        yield trace
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def tracing_tf(model: Any) -> Iterator[Trace]:
    """Trace the eager calls of a `TFPreTrainedModel`."""
    import keras

    owners = {path: owner for path, (_, owner) in model._weights().items()}
    names = {id(owners[layouts.native_path(weight, "tf")]): _owner(weight.name) for weight in model.schema.stored()}
    trace, call = Trace(), keras.layers.Layer.__call__

    def traced(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if id(layer) not in names:
            return call(layer, *args, **kwargs)
        return trace.call(names[id(layer)], lambda *a, **k: call(layer, *a, **k), args, kwargs)

    keras.layers.Layer.__call__ = traced
    try:
        yield trace
    finally:
        keras.layers.Layer.__call__ = call


@contextmanager
def tracing_flax(model: Any) -> Iterator[Trace]:
    """Trace the calls of a `FlaxPreTrainedModel` outside of jit."""
    from flax import linen

    weights = model.schema.stored()
    names = {layouts.native_path(weight, "flax")[:-1]: _owner(weight.name) for weight in weights}
    trace = Trace()

    def traced(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        name = names.get(tuple(context.module.path))
        if name is None or context.method_name != "__call__":
            return call(*args, **kwargs)
        return trace.call(name, call, args, kwargs)

    with linen.intercept_methods(traced):
        yield trace


TRACING = {"pt": tracing_pt, "tf": tracing_tf, "flax": tracing_flax}


def _owner(weight: str) -> str:
    return weight.rpartition(".")[0]
