"""Trees: of parameters, of their shapes, and the model outputs, which JAX learns to see as trees here."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import FrozenDict, unfreeze
from flax.traverse_util import flatten_dict, unflatten_dict

from triptych.errors import ArgumentError
from triptych.nn.outputs import on_first_use
from triptych.weights import layouts
from triptych.weights.schema import Schema, Weight
from triptych_flax import internals
from triptych_flax.make import (  # noqa: F401  # families that write their classes out find them here
    FlaxBlock,
    block,
    conv1d,
    declared_call,
    dense,
    dropout,
    embedding,
    layer_norm,
    listed,
    numbers,
    rms_norm,
    stacked,
    vector,
    vocab_head,
    vocab_projector,
)

Path = tuple[str, ...]


def flat(tree: Any) -> dict[Path, Any]:
    """Return path -> leaf."""
    return flatten_dict(unfreeze(tree) if isinstance(tree, FrozenDict) else tree)


def leaf(tree: Any, weight: Weight) -> Any:
    """Return the leaf of `weight` in a tree of parameters.

    Raises:
        ArgumentError: there is none.
    """
    for key in layouts.native_path(weight, "flax"):
        if not isinstance(tree, Mapping) or key not in tree:
            raise ArgumentError("The parameters lack a weight of the model.", received=f"no {weight.name}")
        tree = tree[key]
    return tree


def on_device(value: Any) -> Any:
    """Return arrays of numpy, and lists, as JAX arrays, and anything else as it is."""
    return jnp.asarray(value) if isinstance(value, (np.ndarray, list)) else value


def cast(params: Any, dtype: Any, mask: Any) -> dict[str, Any]:
    """Return `params` with the floating leaves that `mask` chooses (None: all) as `dtype`.

    Raises:
        ArgumentError: the mask has other paths.
    """
    leaves = flat(params)
    chosen = dict.fromkeys(leaves, True) if mask is None else flat(mask)
    if set(chosen) != set(leaves):
        names = ", ".join(sorted("/".join(path) for path in set(chosen) ^ set(leaves)))
        raise ArgumentError("The mask is not of the tree's structure.", expected="the same keys", received=names)
    wanted = {path for path, leaf in leaves.items() if chosen[path] and jnp.issubdtype(leaf.dtype, jnp.floating)}
    return unflatten_dict({path: leaf.astype(dtype) if path in wanted else leaf for path, leaf in leaves.items()})


def declared_shapes(schema: Schema) -> dict[str, Any]:
    """Return the tree of float32 shapes that a model of `schema` has."""
    shapes = {}
    for weight in schema.stored():
        shape = layouts.native_shape(weight, "flax")
        shapes[layouts.native_path(weight, "flax")] = jax.ShapeDtypeStruct(shape, jnp.float32)
    return unflatten_dict(shapes)


def vocab_paths(model: Any, shapes: Mapping[Path, Any]) -> set[Path]:
    """Return the paths of what `get_input_embeddings` and `get_output_embeddings` give, and of the latter's bias.

    They are asked on a tree of arrays without memory of their own, recognised by their address even when transposed.
    """
    points = {path: np.zeros((), np.float32) for path in shapes}
    stand_in = copy.copy(model)
    stand_in._do_init = True
    stand_in._params = unflatten_dict({p: np.broadcast_to(points[p], leaf.shape) for p, leaf in shapes.items()})
    paths = {points[path].ctypes.data: path for path in shapes}
    found = set()
    for part in stand_in._vocab_parts():
        path = paths.get(part.ctypes.data) if isinstance(part, np.ndarray) else None
        if path is not None:
            found |= {path, (*path[:-1], "bias")}
    return found & set(shapes)


def _make_known(kind: Any) -> None:
    """Let JAX look into an output, for jit and grad, unless flax has seen to it."""
    if internals.is_struct(kind):
        return

    def parts(output: Any) -> Any:
        return [(jax.tree_util.DictKey(key), output[key]) for key in output], tuple(output)

    def rebuild(keys: Any, values: Any) -> Any:
        output = kind()
        for key, value in zip(keys, values, strict=True):
            output[key] = value  # not by the constructor, which leaves out None: JAX puts placeholders into trees
        return output

    jax.tree_util.register_pytree_with_keys(kind, parts, rebuild)


on_first_use(_make_known)
