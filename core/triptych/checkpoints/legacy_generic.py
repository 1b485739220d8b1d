"""TensorFlow and Flax names of transformers 4 for an architecture without a schema: the rules of its layers alone.

The leaf of a name tells the kind of layer, and this the canonical leaf and axis order:

    layer               PyTorch                     TensorFlow                      Flax
    dense               weight [out, in]            kernel [in, out]                kernel [in, out]
    1-d convolution     weight [out, in, k]         kernel [k, in, out]             kernel [k, in, out]
    2-d convolution     weight [out, in, kh, kw]    kernel [kh, kw, in, out]        kernel [kh, kw, in, out]
    embedding           weight                      embeddings                      embedding
    norm                weight, bias                gamma, beta                     scale, bias
    batch statistics    running_mean, running_var   moving_mean, moving_variance    batch_stats/.../mean, var
    GPT-2's Conv1D      bias [n]                    bias [1, n] beside a `weight`   bias [n]

Every other leaf keeps its name and order. Kernels of other ranks, separable and recurrent kernels have no rule, and are
refused rather than guessed. What these rules say is marked `LegacyWeight.generic`, since a model may have its own:
names of layers are taken to be the same in all frameworks, apart from TensorFlow's lists and `x___y`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from triptych.checkpoints.legacy import LegacyWeight, require_flavour, tf_levels
from triptych.errors import ArgumentError, CorruptCheckpointError, UnsupportedFormatError
from triptych.tensors.ref import TensorRef

KERNEL = "kernel"
_STATISTICS = "batch_stats"
_PARAMETERS = "params"
_LEAVES = {
    "tf": {
        KERNEL: "weight",
        "embeddings": "weight",
        "gamma": "weight",
        "beta": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
    },
    "flax": {KERNEL: "weight", "embedding": "weight", "scale": "weight"},
}
_FLAX_STATISTICS = {"mean": "running_mean", "var": "running_var"}
_REFUSED = frozenset({"depthwise_kernel", "pointwise_kernel", "recurrent_kernel"})
_KERNEL_ORDERS = {2: (1, 0), 3: (2, 1, 0), 4: (3, 2, 0, 1)}
"""Rank -> the axes of a stored kernel in canonical order."""
_SUFFIX = ":0"


def generic_canonical(name: str, shape: tuple[int, ...], siblings: Collection[str], flavour: str) -> LegacyWeight:
    """Return what the tensor `name` of a file is called and how it lies in PyTorch, by the rules of layers alone.

    Args:
        name: TensorFlow: without the model's scope. Flax: joined with "/", or with dots.
        shape: as stored.
        siblings: the leaves (the last part of the name, without `:0`) of the tensors of the same layer.

    Raises:
        ArgumentError: an unknown flavour. CorruptCheckpointError: no name.
        UnsupportedFormatError: a layer without a rule, or one in which two tensors would get one name.
    """
    require_flavour(flavour)
    *scope, leaf = _tf_path(name) if flavour == "tf" else _flax_path(name)
    if not leaf:
        raise CorruptCheckpointError("A tensor has no name.", received=repr(name))
    statistics = flavour == "flax" and scope[:1] == [_STATISTICS]
    if flavour == "flax" and scope[:1] in ([_STATISTICS], [_PARAMETERS]):
        scope = scope[1:]
    leaves = _FLAX_STATISTICS if statistics else _LEAVES[flavour]
    new = leaves.get(leaf, leaf)
    same = [other for other, canonical in leaves.items() if canonical == new] + [new] * (new not in leaves)
    twins = [other for other in same if other != leaf and other in siblings]
    if twins:
        raise _no_rule(name, f"{leaf} and {twins[0]} in one layer, which are both {new} in PyTorch")
    return _described(name, ".".join([*scope, new]), shape, leaf, siblings, flavour)


def _described(
    name: str, canonical: str, stored: tuple[int, ...], leaf: str, siblings: Collection[str], flavour: str
) -> LegacyWeight:
    order = _kernel_order(name, leaf, len(stored))
    row = flavour == "tf" and leaf == "bias" and len(stored) == 2 and stored[0] == 1 and "weight" in siblings
    shape = stored[1:] if row else tuple(stored[axis] for axis in order) if order else stored
    return LegacyWeight(canonical, name, shape, order, row, generic=True)


def _kernel_order(name: str, leaf: str, rank: int) -> tuple[int, ...] | None:
    if leaf in _REFUSED or (leaf == KERNEL and rank not in _KERNEL_ORDERS):
        raise _no_rule(name, f"a {leaf} of {rank} axes")
    return _KERNEL_ORDERS[rank] if leaf == KERNEL else None


def _tf_path(name: str) -> list[str]:
    """Return the levels of a name: `x___y` stands for y, and `x_._0` for two levels."""
    *scope, leaf = name.removesuffix(_SUFFIX).split("/")
    levels = [part for level in scope for part in level.rpartition("___")[2].split("_._")]
    return [*filter(None, levels), leaf]


def _flax_path(name: str) -> list[str]:
    return name.split("/") if "/" in name else name.split(".")


def _no_rule(name: str, received: str) -> UnsupportedFormatError:
    return UnsupportedFormatError(
        f"How {name!r} lies in PyTorch is not known from its layer alone.",
        expected="a layer of the rules: dense, embedding, norm, convolution in one or two dimensions",
        received=received,
        remedy="register the family of the model with its schema, or convert it with the framework that wrote it",
    )


def generic_weights(shapes: Mapping[str, tuple[int, ...]], flavour: str) -> dict[str, LegacyWeight]:
    """Return `generic_canonical` of every name of one file, given stored shapes.

    Raises:
        As `generic_canonical`. UnsupportedFormatError: also if two names would become one.
    """
    layers: dict[str, set[str]] = {}
    split = {name: _layer_and_leaf(name, flavour) for name in shapes}
    for layer, leaf in split.values():
        layers.setdefault(layer, set()).add(leaf)
    result: dict[str, LegacyWeight] = {}
    taken: dict[str, str] = {}
    for name, shape in shapes.items():
        weight = generic_canonical(name, shape, layers[split[name][0]], flavour)
        if weight.canonical in taken:
            raise _no_rule(name, f"{taken[weight.canonical]!r} beside it, which is {weight.canonical} as well")
        result[name], taken[weight.canonical] = weight, name
    return result


def _layer_and_leaf(name: str, flavour: str) -> tuple[str, str]:
    separator = "/" if flavour == "tf" or "/" in name else "."
    layer, _, leaf = name.rpartition(separator)
    return layer, leaf.removesuffix(_SUFFIX) if flavour == "tf" else leaf


def generic_refs(raw: Mapping[str, TensorRef], flavour: str) -> dict[str, TensorRef]:
    """Return the tensors of a file under the names of `generic_weights`; reading one converts it.

    Raises:
        As `generic_weights`.
    """
    weights = generic_weights({name: ref.shape for name, ref in raw.items()}, flavour)
    return {weight.canonical: weight.canonical_ref(raw[name]) for name, weight in weights.items()}


def generic_legacy(
    canonical: str, shape: tuple[int, ...], leaf: str, flavour: str, is_row: bool = False
) -> LegacyWeight:
    """Return how a file of `flavour` stores a canonical tensor, the inverse of `generic_canonical`.

    A canonical name does not tell the layer, so the caller does: `leaf` is what the flavour calls the tensor in its
    layer, such as "kernel" or "gamma". The item of a list becomes `layer_._0` in TensorFlow (`layers.0` in a list
    called layers); an `x___y` and a leading `params` are lost in the canonical name and are not brought back.

    Args:
        shape: the canonical shape.
        is_row: the bias of GPT-2's Conv1D in TensorFlow.

    Raises:
        ArgumentError: an unknown flavour, or a leaf that has another canonical name.
        UnsupportedFormatError: a layer without a rule.
    """
    require_flavour(flavour)
    scope, _, last = canonical.rpartition(".")
    statistics = flavour == "flax" and leaf in _FLAX_STATISTICS and last == _FLAX_STATISTICS[leaf]
    expected = last if statistics else _LEAVES[flavour].get(leaf, leaf)
    if last != expected or (is_row and (flavour != "tf" or leaf != "bias")):
        raise ArgumentError(
            f"{canonical!r} is no {leaf} of {flavour}.", expected=f"a name that ends in {expected}", received=last
        )
    if flavour == "tf":
        name = "/".join([*tf_levels(scope), leaf]) + _SUFFIX
    else:
        name = "/".join([*([_STATISTICS] if statistics else []), *filter(None, scope.split(".")), leaf])
    order = _kernel_order(canonical, leaf, len(shape))
    return LegacyWeight(canonical, name, shape, order, is_row, generic=True)
