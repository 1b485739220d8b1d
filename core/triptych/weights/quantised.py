"""Quantised weights, as their files show them: codes that are no floating numbers, with scales beside them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from triptych.tensors.dtypes import FLOATING
from triptych.tensors.ref import TensorRef

REMEDY = "load the checkpoint that it was made of, or dequantise it with the library that quantised it"


def with_scales(names: Iterable[str], tensors: Mapping[str, TensorRef], known: Collection[str]) -> list[str]:
    """Return those weights that are stored with tensors beside them, such as scales, that are no weights themselves.

    Args:
        known: the names in `tensors` that are weights.
    """
    layers = {_layer(name) for name in tensors if name not in known}
    return [name for name in names if _layer(name) in layers]


def _layer(name: str) -> str:
    """Return the layer of a tensor: "q" for q.weight, q.weight_scale and q.weight.quant_state.nf4."""
    before, inner, _ = name.partition(".weight.")
    return before if inner else name.rpartition(".")[0]


def stored_quantised(tensors: Mapping[str, TensorRef], known: Collection[str]) -> list[str]:
    """Return the weights, of those `known`, that are no floating numbers and have scales beside them."""
    coded = [name for name in known if name in tensors and tensors[name].dtype not in FLOATING]
    return with_scales(coded, tensors, known)
