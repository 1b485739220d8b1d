"""Where a canonical weight lives inside a live Keras or Flax model, and which axes change place.

One table per framework. The canonical layout is PyTorch's, so its table is the identity. Every permutation here is its
own inverse, which `conformance/test_schema.py` checks together with the round trip of every name.
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
    },
    "flax": {
        Layout.LINEAR: "kernel",
        Layout.CONV1D: "weight",
        Layout.EMBEDDING: "embedding",
        Layout.NORM: "scale",
    },
}
_PERMUTATIONS: dict[str, dict[Layout, tuple[int, ...]]] = {
    "pt": {},
    "tf": {Layout.LINEAR: (1, 0)},
    "flax": {Layout.LINEAR: (1, 0)},
}


def native_path(weight: Weight, framework: str) -> tuple[str, ...]:
    """Return the path of `weight` in a live model of `framework` ("pt", "tf" or "flax")."""
    *scopes, leaf = weight.name.split(".")
    return (*scopes, _LEAVES[framework].get(weight.layout, leaf))


def permutation(layout: Layout, framework: str) -> tuple[int, ...] | None:
    """Return the axes order between canonical and native, or None where both are the same."""
    return _PERMUTATIONS[framework].get(layout)


def canonical_leaf(path: tuple[str, ...], siblings: frozenset[str], rank: int, framework: str) -> tuple[str, Layout]:
    """Return canonical name and layout of a native path whose layer's other leaves are `siblings`.

    Used to derive a schema from a live Keras or Flax model, whose leaf names tell the layer type.
    """
    *scopes, leaf = path
    layout = _derived_layout(leaf, siblings, rank, framework)
    names = dict.fromkeys((Layout.LINEAR, Layout.CONV1D, Layout.EMBEDDING, Layout.NORM), "weight")
    names |= {Layout.NORM_BIAS: "bias", Layout.BIAS: "bias"}
    return ".".join((*scopes, names.get(layout, leaf))), layout


def _derived_layout(leaf: str, siblings: frozenset[str], rank: int, framework: str) -> Layout:
    for layout, name in _LEAVES[framework].items():
        if name == leaf and (rank == 2 or layout not in (Layout.LINEAR, Layout.CONV1D)):
            return layout
    if leaf == "bias":
        return Layout.NORM_BIAS if "scale" in siblings else Layout.BIAS
    return Layout.PARAMETER
