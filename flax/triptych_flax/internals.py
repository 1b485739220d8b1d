"""What triptych relies on inside JAX and flax, beyond their documented use: tracing, and evaluation of a part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax.jax_utils import partial_eval_by_shape


def is_traced(x: Any) -> bool:
    """Return whether `x` is a value of a trace, which nobody knows yet."""
    return isinstance(x, jax.core.Tracer)


def is_deleted(x: Any) -> bool:
    """Return whether a compiled function was given the memory of an array, as `donate_argnums` says."""
    return isinstance(x, jax.Array) and not is_traced(x) and x.is_deleted()


def is_key(x: Any) -> bool:
    """Return whether `x` is a random key, of either kind that JAX has."""
    dtype = getattr(x, "dtype", None)
    return dtype is not None and (jnp.issubdtype(dtype, jax.dtypes.prng_key) or dtype == jnp.uint32)


def evaluated(function: Callable[[Any], dict[Any, Any]], input_shape: tuple[int, ...], dtype: Any) -> dict[Any, Any]:
    """Return `function(inputs)` for inputs of a shape and dtype, computing only what does not depend on them.

    So the parameters of a module are made without a forward pass, unless their values depend on one.
    """
    found = partial_eval_by_shape(function, [(input_shape, dtype)])
    if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in found.values()):
        return function(jnp.zeros(input_shape, dtype))
    return found


def is_struct(kind: type) -> bool:
    """Return whether a class is a `flax.struct.dataclass`, which is a tree already."""
    return "_flax_dataclass" in vars(kind)
