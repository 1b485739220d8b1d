"""Trees: of parameters, of their shapes, and the model outputs, which JAX learns to see as trees here."""

from __future__ import annotations

import copy
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.core import FrozenDict, unfreeze
from flax.traverse_util import flatten_dict, unflatten_dict

from triptych.errors import ArgumentError
from triptych.modeling.derived import LiveWeight, live_weights
from triptych.nn.outputs import on_first_use
from triptych.weights import layouts
from triptych.weights.schema import Layout, Schema
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
    nested,
    numbers,
    rms_norm,
    stacked,
    vector,
    vocab_head,
    vocab_projector,
)

Path = tuple[str, ...]
PARAMETERS = "params"
"""The collection of what is trained."""
PASSING = ("cache", "intermediates", "perturbations")
"""Collections that belong to a call and not to a model."""


def flat(tree: Any) -> dict[Path, Any]:
    """Return path -> leaf.

    Raises:
        ArgumentError: it is no tree of nested dicts, or a key of it is no text.
    """
    leaves: dict[Path, Any] = flatten_dict(_checked(unfrozen(tree)))
    strange = [key for path in leaves for key in path if not isinstance(key, str)]
    if strange:
        raise ArgumentError(_NO_TREE, expected="names as keys", received=repr(strange[0])[:80])
    return leaves


def of_arrays(tree: Any) -> dict[str, Any]:
    """Return a tree as nested dicts.

    Raises:
        ArgumentError: it is no such tree, or a leaf of it is no array.
    """
    for path, one in flat(tree).items():
        _refuse_other_than_array(one, "/".join(path))
    return unfrozen(tree)  # type: ignore[no-any-return]


def _checked(tree: Any) -> Any:
    if not isinstance(tree, (dict, FrozenDict)):
        raise ArgumentError(_NO_TREE, expected="nested dicts of arrays", received=type(tree).__name__)
    return tree


def _refuse_other_than_array(one: Any, name: str) -> None:
    if not hasattr(one, "dtype"):  # numbers of JAX, which have one but no shape, are arrays to it
        raise ArgumentError("A parameter is no array.", expected=f"an array for {name}", received=type(one).__name__)


_NO_TREE = "This is no tree of parameters."


def leaf(tree: Any, path: Path, name: str) -> Any:
    """Return the leaf at `path` of a tree, where the weight `name` is.

    Raises:
        ArgumentError: there is none, or it is no array.
    """
    for key in path:
        if not isinstance(tree, Mapping) or key not in tree:
            raise ArgumentError("The parameters lack a weight of the model.", received=f"no {name}")
        tree = tree[key]
    _refuse_other_than_array(tree, name)
    return tree


def has_collections(tree: Mapping[str, Any]) -> bool:
    """Return whether `tree` holds collections of variables, one of them the parameters, and not parameters alone."""
    return isinstance(tree.get(PARAMETERS), Mapping)


def collections(tree: Any) -> dict[str, Any]:
    """Return the collections of a tree, as a module takes them; a tree without is that of the parameters.

    Raises:
        ArgumentError: it is no tree.
    """
    tree = _checked(unfrozen(tree))
    return dict(tree) if has_collections(tree) else {PARAMETERS: tree}


def without_empty(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tree of what a module holds: its collections or, where there are none beside them, its parameters."""
    held = {name: unfrozen(tree) for name, tree in variables.items() if tree or name == PARAMETERS}
    return held if set(held) != {PARAMETERS} else held[PARAMETERS]


def unfrozen(tree: Any) -> Any:
    """Return a tree as nested dicts; a module of nnx, or a state of one, as that of its variables."""
    nnx = sys.modules.get("flax.nnx")
    if nnx is not None and isinstance(tree, (nnx.Module, nnx.State)):
        from triptych_flax.authors.nnx_modules import variables_of

        return without_empty(variables_of(tree))
    return unfreeze(tree) if isinstance(tree, FrozenDict) else tree


class Noted:
    """What was seen of the kernels of modules that were called: layouts, and how many axes each module's own has."""

    def __init__(self) -> None:
        self.found: dict[Path, Layout] = {}
        self.ranks: dict[Path, int] = {}

    def layouts(self, tree: Any) -> dict[Path, Layout]:
        """Return path -> layout where the leaf of the tree does not tell it: of what is no matrix and no convolution of
        PyTorch's, and of those that `nn.scan` or `nn.vmap` stacks."""
        leaves = flat(collections(tree)[PARAMETERS])
        several = [path for path, rank in self.ranks.items() if path in leaves and leaves[path].ndim != rank]
        return self.found | dict.fromkeys(several, Layout.PARAMETER)


@contextmanager
def noting_layouts() -> Iterator[Noted]:
    """Note the kernels of the modules that are called in this context."""
    noted = Noted()

    def note(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        result = call(*args, **kwargs)
        module = context.module
        if context.method_name == "__call__":
            wide = isinstance(module, nn.DenseGeneral) and isinstance(module.features, Sequence)
            turned = isinstance(module, nn.ConvTranspose) and not module.transpose_kernel
            inner = isinstance(module, nn.DenseGeneral) and isinstance(module.axis, Sequence)
            path = (*module.path, "kernel")
            if wide or inner or turned:
                noted.found[path] = Layout.PARAMETER
            elif module.has_variable(PARAMETERS, "kernel"):
                noted.ranks[path] = jnp.ndim(nn.unbox(module.get_variable(PARAMETERS, "kernel")))
        return result

    with nn.intercept_methods(note):
        yield noted


def live(
    tree: Mapping[str, Any], known: Mapping[Path, Layout], shared: Mapping[Path, Path] | None = None
) -> list[LiveWeight]:
    """Return the weights of a tree of arrays or shapes; the key of each is its path in the tree.

    `known` are layouts of parameters that their leaves do not tell; `shared` says of other places of a variable its
    path in the tree, both without collection.

    Leaves of one scope that would share a canonical name (a `kernel` and a `scale` are both a `weight`) keep their own.

    Raises:
        ArgumentError: two collections have a leaf of one name in one scope, or a name has a dot in it.
    """
    found: list[LiveWeight] = []
    places: dict[Path, LiveWeight] = {}
    for collection, inside in collections(tree).items():
        shapes = {path: tuple(one.shape) for path, one in flat(inside).items()}
        own = live_weights(shapes, "flax", (), known, "" if collection == PARAMETERS else collection)
        top = (collection,) if has_collections(tree) else ()
        names = Counter(weight.name for weight in own)
        own = [w if names[w.name] == 1 else _as_it_is(w, shapes[w.key]) for w in own]
        keyed = {weight.key: replace(weight, key=(*top, *weight.key)) for weight in own if _is_name(weight)}
        found, places = [*found, *keyed.values()], {**places, **keyed}
    names = Counter(weight.name for weight in found)
    if twice := [weight for weight in found if names[weight.name] > 1]:
        raise ArgumentError(
            "Variables of the module have one name in a checkpoint, and one of them would be lost.",
            expected="other names within a module, whatever their collection",
            received=", ".join("/".join(weight.key) for weight in twice),
        )
    return found + [_elsewhere(places[path], other) for other, path in (shared or {}).items() if other[-1] == path[-1]]


def _elsewhere(weight: LiveWeight, path: Path) -> LiveWeight:
    """Return `weight` under the name that it has at another place of the module."""
    return replace(weight, name=".".join((*path[:-1], weight.name.rpartition(".")[2])))


def _as_it_is(weight: LiveWeight, shape: tuple[int, ...]) -> LiveWeight:
    return replace(weight, name=".".join(weight.key), shape=shape, layout=Layout.PARAMETER)


def _is_name(weight: LiveWeight) -> bool:
    if any("." in part for part in weight.key):
        raise ArgumentError("A dot separates modules in the names of a checkpoint.",
                            expected="names without dots", received="/".join(weight.key))  # fmt: skip
    return True


def is_nnx(kind: Any) -> bool:
    """Return whether `kind` is a class of modules of nnx, which is imported where there is one."""
    nnx = sys.modules.get("flax.nnx")
    return nnx is not None and isinstance(kind, type) and issubclass(kind, nnx.Module)


def is_module(value: Any) -> bool:
    """Return whether `value` is a module, of linen or of nnx."""
    return isinstance(value, nn.Module) or is_nnx(type(value))


def on_device(value: Any) -> Any:
    """Return arrays of numpy, and lists, as JAX arrays, and anything else as it is."""
    return jnp.asarray(value) if isinstance(value, (np.ndarray, list)) else value


def cast(params: Any, dtype: Any, mask: Any) -> dict[str, Any]:
    """Return `params` with the floating leaves that `mask` chooses (None: all) as `dtype`.

    Raises:
        ArgumentError: `params` is no tree of arrays, or the mask has other paths.
    """
    leaves = flat(of_arrays(params))
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
        dtype = jnp.float32 if weight.packed is None else weight.packed.dtype
        shapes[layouts.native_path(weight, "flax")] = jax.ShapeDtypeStruct(shape, dtype)
    return unflatten_dict(shapes)


def vocab_paths(model: Any, shapes: Mapping[Path, Any]) -> set[Path]:
    """Return the paths of what `get_input_embeddings` and `get_output_embeddings` give, and of the latter's bias.

    They are asked on a tree of arrays without memory of their own, recognised by their address even when transposed.
    """
    points = {path: np.zeros((), np.float32) for path in shapes}
    stand_in = copy.copy(model)
    stand_in._is_initialized = True
    stand_in._params = unflatten_dict({p: np.broadcast_to(points[p], leaf.shape) for p, leaf in shapes.items()})
    paths = {points[path].ctypes.data: path for path in shapes}
    found = set()
    for accessor in (stand_in.get_input_embeddings, stand_in.get_output_embeddings):
        part = _answer(accessor)
        path = paths.get(part.ctypes.data) if isinstance(part, np.ndarray) else None
        if path is not None:
            found |= {path, (*path[:-1], "bias")}
    return found & set(shapes)


def _answer(accessor: Callable[[], Any]) -> Any:
    """Return what an accessor gives; None where the model has no such weight, whose class may have inherited it."""
    try:
        return accessor()
    except (NotImplementedError, LookupError, AttributeError, ArgumentError):
        return None


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
