"""Modules whose matrices are packed: the bytes are arrays in the tree of parameters, decoded where they are used.

Which codec an array has is no array. The model says it for a call (`holding`): path of a module -> its packed weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from triptych.nn import packed as px
from triptych.weights.packing import Packed
from triptych_flax import ops

Path = tuple[str, ...]
_held: ContextVar[Mapping[Path, Packed] | None] = ContextVar("held", default=None)


@contextmanager
def holding(packed: Mapping[Path, Packed]) -> Iterator[None]:
    """Let modules that are called in this context, those at these paths, compute with packed matrices."""
    if not packed:
        yield
        return
    token = _held.set(packed)
    try:
        with nn.intercept_methods(_as_packed):
            yield
    finally:
        _held.reset(token)


@contextmanager
def noting_dense() -> Iterator[set[Path]]:
    """Yield the paths of the modules called in this context that can hold their matrix packed: linen's `Dense`, and not
    what derives from it, which may compute otherwise."""
    found: set[Path] = set()

    def note(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if (
            context.method_name == "__call__"
            and type(context.module) is nn.Dense
            and not _multiplies_otherwise(context.module)
        ):
            found.add(context.module.path)
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        yield found


def _multiplies_otherwise(module: nn.Dense) -> bool:
    return module.dot_general is not None or module.dot_general_cls is not None


def of(module: nn.Module) -> Packed | None:
    """Return the packed weight that a module holds, or None."""
    held = _held.get()
    return held.get(module.path) if held else None


def parts(module: nn.Module, packed: Packed) -> list[Any]:
    """Return the arrays of a module's packed matrix."""
    return [module.get_variable("params", part.name.rpartition(".")[2]) for part in packed.parts]


def project(module: nn.Module, packed: Packed, x: Any) -> Any:
    """Return the products of `x` [..., columns] and each row of the matrix."""
    return px.project(ops, _matrix(packed), parts(module, packed), x)


def vectors(module: nn.Module, packed: Packed, ids: Any, dtype: Any) -> Any:
    """Return the rows `ids` of the matrix."""
    return px.vectors(ops, _matrix(packed), parts(module, packed), ids, dtype)


def _matrix(packed: Packed) -> px.Matrix:
    return px.Matrix(packed.codec, packed.rows, packed.columns)


def _as_packed(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
    """Compute a call of `nn.Dense` whose matrix is packed; make any other."""
    module = context.module
    if context.method_name != "__call__" or type(module) is not nn.Dense or (packed := of(module)) is None:
        return call(*args, **kwargs)
    return _dense(module, packed, *args, **kwargs)


def _dense(module: nn.Dense, packed: Packed, inputs: Any) -> Any:
    x = jnp.asarray(inputs)
    made = project(module, packed, x if module.dtype is None else x.astype(module.dtype))
    if not module.use_bias:
        return made
    return made + jnp.asarray(module.get_variable("params", "bias"), made.dtype)
