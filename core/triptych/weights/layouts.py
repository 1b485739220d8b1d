"""Where a canonical weight lives inside a live Keras or Flax model, and which axes change place.

One table per framework. The canonical layout is PyTorch's, so its table is the identity. `conformance/test_schema.py`
checks the round trip of every name and of every axis.
"""

from __future__ import annotations

from triptych.weights.schema import Layout, Weight

_LEAVES: dict[str, dict[Layout, str]] = {
    "pt": {},
    "tf": {
        Layout.LINEAR: "kernel",
        Layout.CONV1D: "weight",
        Layout.EMBEDDING: "embeddings",
        Layout.NORM: "gamma",
        Layout.NORM_BIAS: "beta",
        Layout.CONV: "kernel",
        Layout.DEPTHWISE: "kernel",
        Layout.MEAN: "moving_mean",
        Layout.VARIANCE: "moving_variance",
    },
    "flax": {
        Layout.LINEAR: "kernel",
        Layout.CONV1D: "weight",
        Layout.EMBEDDING: "embedding",
        Layout.NORM: "scale",
        Layout.CONV: "kernel",
        Layout.MEAN: "mean",
        Layout.VARIANCE: "var",
    },
}
_CANONICAL = {
    **dict.fromkeys((Layout.LINEAR, Layout.CONV1D, Layout.EMBEDDING, Layout.NORM, Layout.CONV), "weight"),
    **dict.fromkeys((Layout.NORM_BIAS, Layout.BIAS), "bias"),
    Layout.DEPTHWISE: "weight",
    Layout.MEAN: "running_mean",
    Layout.VARIANCE: "running_var",
}
_RANKS = {Layout.LINEAR: (2,), Layout.CONV1D: (2,), Layout.CONV: (3, 4, 5), Layout.DEPTHWISE: ()}
"""How many axes the layout of a leaf has, where the leaf alone does not tell."""
BATCH_STATISTICS = "batch_stats"
"""Where Flax keeps the statistics of a BatchNorm."""


def native_path(weight: Weight, framework: str) -> tuple[str, ...]:
    """Return the path of `weight` in a live model of `framework` ("pt", "tf" or "flax")."""
    return path_of(weight.name, weight.layout, framework)


def path_of(name: str, layout: Layout, framework: str) -> tuple[str, ...]:
    """Return the path of the weight `name` of `layout` in a live model of `framework`."""
    *scopes, leaf = name.split(".")
    return (*scopes, _LEAVES[framework].get(layout, leaf))


def to_native(layout: Layout, rank: int, framework: str) -> tuple[int, ...] | None:
    """Return the canonical axis that each native axis is, of an array of `rank` axes; None where the order is one."""
    if framework == "pt":
        return None
    if layout is Layout.LINEAR:
        return (1, 0)
    kernel = tuple(range(2, rank))
    if layout is Layout.CONV:
        return (*kernel, 1, 0)
    return (*kernel, 0, 1) if layout is Layout.DEPTHWISE else None


def to_canonical(layout: Layout, rank: int, framework: str) -> tuple[int, ...] | None:
    """Return the native axis that each canonical axis is: the inverse of `to_native`."""
    order = to_native(layout, rank, framework)
    return order and tuple(order.index(axis) for axis in range(rank))


def native_shape(weight: Weight, framework: str) -> tuple[int, ...]:
    """Return the shape of `weight` in a live model."""
    order = to_native(weight.layout, len(weight.axes), framework)
    return weight.shape if order is None else tuple(weight.shape[axis] for axis in order)


def canonical_leaf(
    path: tuple[str, ...], siblings: frozenset[str], rank: int, framework: str, known: Layout | None = None
) -> tuple[str, Layout]:
    """Return canonical name and layout of a native path whose layer's other leaves are `siblings`.

    Used to derive a schema from a live Keras or Flax model, whose leaf names tell the layer type, but for a `known`
    layout.
    """
    *scopes, leaf = path
    layout = _derived_layout(leaf, siblings, rank, framework) if known is None else known
    return ".".join((*scopes, _CANONICAL.get(layout, leaf))), layout


def _derived_layout(leaf: str, siblings: frozenset[str], rank: int, framework: str) -> Layout:
    for layout, name in _LEAVES[framework].items():
        if name == leaf and rank in _RANKS.get(layout, (rank,)):
            return layout
    if leaf == "bias":
        return Layout.NORM_BIAS if "scale" in siblings else Layout.BIAS
    return Layout.PARAMETER
