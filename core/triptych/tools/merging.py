"""Merging an adapter into the files of its model, tensor by tensor, without building the model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from triptych.adapters.config import LoraConfig
from triptych.adapters.folder import open_adapter
from triptych.adapters.numbers import changed
from triptych.adapters.state import AdapterState, fitted, parsed
from triptych.adapters.targets import Target, target
from triptych.errors import ArgumentError, CheckpointError, ShapeMismatchError
from triptych.tensors.arrays import converted
from triptych.tensors.ref import TensorRef
from triptych.tools.editing import Draft, refuse_quantised
from triptych.tools.source import class_schema
from triptych.weights.schema import Axis, Layout, Weight


def merge(draft: Draft, adapter: Path) -> Draft:
    """Return `draft` with the changes of the adapter in the folder `adapter`: the numbers of `merge_adapter` of the
    live model, bit for bit.

    What was trained as a whole, such as a head, takes the place of what is there, or is added. Of an unknown
    architecture, matrices are taken for [out, in], or [in, out] where the adapter's config says `fan_in_fan_out`.

    Raises:
        CheckpointError, ShapeMismatchError: the adapter is of another model. ArgumentError: a matrix is tied.
        UnsupportedFormatError: the model is quantised, or the adapter of a kind that is not built in. As
        `open_adapter`.
    """
    config, tensors = open_adapter(adapter, "", {})
    source, schema = str(adapter), draft.schema
    names = {**dict.fromkeys(draft.tensors), **dict.fromkeys(schema or ())}
    given = parsed(tensors, source)
    state = fitted(given, names if schema is not None else [*names, *given.whole], _prefix(draft), source)
    changing = [f"{module}.weight" for module in state.factors]
    if lacking := [name for name in changing if name not in draft.tensors]:
        raise CheckpointError(f"{draft.source} lacks weights that the adapter changes.",
                              expected=", ".join(lacking[:4]), received="none of them")  # fmt: skip
    refuse_quantised(draft, state.names(), "merged")
    _refuse_tied(draft, state.names())
    edited: dict[str, TensorRef] = {}
    for module, (a, b) in state.factors.items():
        ref = draft.tensors[f"{module}.weight"]
        one = target(_weight(draft, ref, state, config), config)
        _refuse_shapes(source, [(a, one.shapes[0]), (b, one.shapes[1])])
        edited[ref.name] = _merged(ref, one, a, b)
    known = {name: ref for name, ref in state.whole.items() if name in draft.tensors}
    _refuse_shapes(source, [(ref, draft.tensors[name].shape) for name, ref in known.items()])
    new = [name for name in state.whole if name not in draft.tensors]
    for name, ref in state.whole.items():
        edited[name] = _as(ref, name, draft.tensors[name].dtype if name in known else ref.dtype)
    notes = draft.notes + ((f"added, which the model lacks: {', '.join(new)}",) if new else ())
    return dataclasses.replace(draft, tensors={**draft.tensors, **edited}, notes=notes)


def _prefix(draft: Draft) -> str:
    """Return the attribute that holds the backbone in classes of the model's family."""
    schema = draft.schema and (class_schema(draft.config or {}, draft.tensors) or draft.schema)
    return schema.base_prefix if schema else ""


def _weight(draft: Draft, ref: TensorRef, state: AdapterState, config: LoraConfig) -> Weight:
    """Return what the matrix `ref` is: as the schema says or, without one, as the adapter does."""
    if draft.schema is not None and ref.name in draft.schema:
        return dataclasses.replace(draft.schema[ref.name], tied_to=None)
    if len(ref.shape) != 2:
        raise ShapeMismatchError(f"{ref.name} is no matrix.", expected="two axes", received=str(ref.shape))
    layout = Layout.CONV1D if config.fan_in_fan_out else Layout.LINEAR
    if ref.name.removesuffix(".weight") in state.embeddings:
        layout = Layout.EMBEDDING
    return Weight(ref.name, tuple(Axis(f"axis{n}", length) for n, length in enumerate(ref.shape)), layout)


def _refuse_tied(draft: Draft, names: list[str]) -> None:
    schema = class_schema(draft.config or {}, draft.tensors) if draft.config else None
    sources = {weight.tied_to for weight in (schema or {}).values()}
    if tied := [name for name in names if name in sources]:
        raise ArgumentError(
            "The matrix is tied, and the adapter is of one of the two layers.",
            expected="a matrix of its own",
            received=", ".join(tied),
            remedy="save the model with tie_word_embeddings=False, with both matrices, and merge into that",
        )


def _refuse_shapes(source: str, pairs: list[tuple[TensorRef, tuple[int, ...]]]) -> None:
    if wrong := [(ref, shape) for ref, shape in pairs if ref.shape != shape]:
        raise ShapeMismatchError(
            f"{source} does not fit the model.",
            expected=", ".join(f"{ref.name} {shape}" for ref, shape in wrong),
            received=", ".join(f"{ref.name} {ref.shape}" for ref, _ in wrong),
            remedy="merge it into the model that it was trained with",
        )


def _merged(ref: TensorRef, one: Target, a: TensorRef, b: TensorRef) -> TensorRef:
    def read() -> np.ndarray:
        return changed(one, ref.read(), a.read(), b.read())

    return TensorRef(ref.name, ref.dtype, ref.shape, read)


def _as(ref: TensorRef, name: str, dtype: np.dtype) -> TensorRef:
    return TensorRef(name, dtype, ref.shape, lambda: converted(ref.read(), dtype))
