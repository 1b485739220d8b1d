"""Trees: of parameters, of their shapes, and the model outputs, which JAX learns to see as trees here."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.core import FrozenDict, unfreeze
from flax.traverse_util import flatten_dict, unflatten_dict

from triptych.errors import ArgumentError
from triptych.modeling.derived import declared_ties, derived_schema
from triptych.nn import functional as fn
from triptych.nn.outputs import on_each_class
from triptych.weights import layouts
from triptych.weights.schema import Layout, Schema
from triptych_flax import ops

Path = tuple[str, ...]


def flat(tree: Any) -> dict[Path, Any]:
    """Return path -> leaf."""
    return flatten_dict(unfreeze(tree) if isinstance(tree, FrozenDict) else tree)


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
        order = layouts.permutation(weight.layout, "flax") or range(len(weight.shape))
        shape = tuple(weight.shape[axis] for axis in order)
        shapes[layouts.native_path(weight, "flax")] = jax.ShapeDtypeStruct(shape, jnp.float32)
    return unflatten_dict(shapes)


def derive_schema(model: Any, shapes: Mapping[Path, Any]) -> Schema:
    """Return the schema of `model`, whose traced parameters have these `shapes`; a tied weight is not among them."""
    vocab_paths = _vocab_paths(model, shapes)
    entries, vocab = {}, []
    for path, leaf in shapes.items():
        siblings = frozenset(p[-1] for p in shapes if p[:-1] == path[:-1])
        name, layout = layouts.canonical_leaf(path, siblings, len(leaf.shape), "flax")
        order = layouts.permutation(layout, "flax") or range(len(leaf.shape))
        entries[name] = (tuple(leaf.shape[axis] for axis in order), layout)
        if path in vocab_paths:
            vocab.append(name)
    declared = model.declared_schema
    tied = {} if declared is None else {w.name: w for w in declared.values() if w.tied_to}
    ties = {name: w.tied_to for name, w in tied.items()} or declared_ties(type(model), model.config)
    for name, source in ties.items():
        shape, layout = entries[source]
        head = tied[name].layout if name in tied else Layout.LINEAR if layout is Layout.EMBEDDING else layout
        entries[name] = (shape, head)
    listed = [(name, shape, layout) for name, (shape, layout) in entries.items()]
    return derived_schema(listed, cls=type(model), config=model.config, ties=ties, vocab=vocab)


def _vocab_paths(model: Any, shapes: Mapping[Path, Any]) -> set[Path]:
    """Return the paths of what `get_input_embeddings` and `get_output_embeddings` give, and of the latter's bias.

    They are asked on a tree of arrays without memory of their own, recognised by their address even when transposed.
    """
    points = {path: np.zeros((), np.float32) for path in shapes}
    stand_in = copy.copy(model)
    stand_in._do_init = True
    stand_in._params = unflatten_dict({p: np.broadcast_to(points[p], leaf.shape) for p, leaf in shapes.items()})
    paths = {points[path].ctypes.data: path for path in shapes}
    found = set()
    for ask in (stand_in.get_input_embeddings, stand_in.get_output_embeddings):
        try:
            path = paths.get(getattr(getattr(ask(), "ctypes", None), "data", -1))
        except NotImplementedError:
            continue
        if path is not None:
            found |= {path, (*path[:-1], "bias")}
    return found & set(shapes)


def _make_known(kind: Any) -> None:
    """Let JAX look into an output, for jit and grad."""

    def parts(output: Any) -> Any:
        return [(jax.tree_util.DictKey(key), output[key]) for key in output], tuple(output)

    def rebuild(keys: Any, values: Any) -> Any:
        output = kind()
        for key, value in zip(keys, values, strict=True):
            output[key] = value  # not by the constructor, which leaves out None: JAX puts placeholders into trees
        return output

    jax.tree_util.register_pytree_with_keys(kind, parts, rebuild)


on_each_class(_make_known)


def declared_call(function: Any) -> Any:
    """Return a model's `__call__` with the arguments of `function`, which its module computes, and Flax's own."""

    def call(self: Any, *inputs: Any, params: Any = None, dropout_rng: Any = None, train: bool = False,
             **options: Any) -> Any:  # fmt: skip
        return self.run_module(*inputs, params=params, dropout_rng=dropout_rng, train=train, **options)

    signature = inspect.signature(call)
    own = [p for p in signature.parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY]
    parameters = [*inspect.signature(function).parameters.values(), *own]
    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    call.__name__, call.__doc__ = "__call__", function.__doc__
    return call


class FlaxBlock(nn.Module):
    """A part of a built-in model. Subclasses declare their layers in `setup`."""

    config: Any
    dtype: Any = jnp.float32
    index: int = 0
    ops = ops


class FlaxConv1D(nn.Module):
    """GPT-2's projection, whose weight is stored as [in, out]."""

    width: int
    units: int
    initializer: Any
    dtype: Any

    @nn.compact
    def __call__(self, x: Any) -> Any:
        weight = self.param("weight", self.initializer, (self.width, self.units))
        bias = self.param("bias", nn.initializers.zeros, (self.units,))
        return jnp.asarray(x, self.dtype) @ jnp.asarray(weight, self.dtype) + jnp.asarray(bias, self.dtype)


class FlaxRMSNorm(nn.Module):
    """See `triptych.nn.functional.rms_norm`."""

    width: int
    epsilon: float

    @nn.compact
    def __call__(self, x: Any) -> Any:
        return fn.rms_norm(ops, x, self.param("scale", nn.initializers.ones, (self.width,)), self.epsilon)


class FlaxDropout(nn.Module):
    """Drops values wherever the call brought random numbers for it."""

    rate: float

    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.Dropout(self.rate, deterministic=not self.has_rng("dropout"))(x)


class FlaxSequence(nn.Module):
    """Modules called "0", "1", ...: pairs of a class and its fields."""

    parts: tuple[Any, ...]

    def setup(self) -> None:
        for number, (cls, fields) in enumerate(self.parts):
            setattr(self, str(number), cls(**dict(fields)))

    def __iter__(self) -> Any:
        return iter([getattr(self, str(number)) for number in range(len(self.parts))])


def _normal(owner: Any, std: float | None) -> Any:
    return nn.initializers.normal(owner.config.initializer_range if std is None else std)


def dense(owner: Any, width: int, units: int, bias: bool = True, std: float | None = None) -> Any:
    """Return a projection from `width` to `units`."""
    return nn.Dense(units, use_bias=bias, dtype=owner.dtype, kernel_init=_normal(owner, std))


def conv1d(owner: Any, width: int, units: int, std: float | None = None) -> Any:
    """Return GPT-2's projection from `width` to `units`."""
    return FlaxConv1D(width, units, _normal(owner, std), owner.dtype)


def embedding(owner: Any, rows: int, width: int, std: float | None = None, padding: int | None = None) -> Any:
    """Return a table of `rows` vectors; Flax has no `padding`."""
    return nn.Embed(rows, width, dtype=owner.dtype, embedding_init=_normal(owner, std))


def layer_norm(owner: Any, width: int, epsilon: float) -> Any:
    """Return a layer norm over the last axis."""
    return nn.LayerNorm(epsilon, dtype=owner.dtype, use_fast_variance=False)


def rms_norm(owner: Any, width: int, epsilon: float) -> Any:
    """Return a norm without shift over the last axis."""
    return FlaxRMSNorm(width, epsilon)


def dropout(owner: Any, rate: float) -> Any:
    """Return a layer that drops values while training."""
    return FlaxDropout(rate)


def vector(owner: Any, name: str, length: int) -> Any:
    """Return a parameter `name` of zeros."""
    return owner.param(name, nn.initializers.zeros, (length,))


def vocab_head(owner: Any, width: int, units: int, bias: bool = False, std: float | None = None) -> Any:
    """Return the projection to the vocabulary; None if it is tied, and computed with the embeddings' matrix."""
    return None if owner.config.tie_word_embeddings else dense(owner, width, units, bias, std)


class FlaxVocabProjector(FlaxBlock):
    """A projection to the vocabulary with a bias, called with the embeddings, whose matrix it uses if it is tied."""

    width: int = 0
    units: int = 0

    def setup(self) -> None:
        self.bias = vector(self, "bias", self.units)
        if not self.config.tie_word_embeddings:
            self.kernel = self.param("kernel", _normal(self, None), (self.width, self.units))

    def __call__(self, hidden: Any, embeddings: Any) -> Any:
        bias = jnp.asarray(self.bias, self.dtype)
        if self.config.tie_word_embeddings:
            return fn.scores_of_vocabulary(ops, None, embeddings, hidden) + bias
        return hidden @ jnp.asarray(self.kernel, self.dtype) + bias


def vocab_projector(owner: Any, width: int, units: int) -> Any:
    """Return a projection to the vocabulary with a bias of its own."""
    return block(owner, FlaxVocabProjector, width=width, units=units)


def block(owner: Any, cls: Any, **fields: Any) -> Any:
    """Return a block of the owner's config; a backbone may be one too."""
    return cls(owner.config, owner.dtype, **fields)


def stacked(owner: Any, cls: Any, count: int, **fields: Any) -> Any:
    """Return `count` blocks of one class, numbered by `index`."""
    common = {"config": owner.config, "dtype": owner.dtype, **fields}
    return FlaxSequence(tuple((cls, tuple({**common, "index": index}.items())) for index in range(count)))


def listed(owner: Any, classes: Any, **fields: Any) -> Any:
    """Return a list of blocks of several classes."""
    common = {"config": owner.config, "dtype": owner.dtype, **fields}
    return FlaxSequence(tuple((cls, tuple(common.items())) for cls in classes))
