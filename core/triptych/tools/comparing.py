"""Comparing two checkpoints tensor by tensor, and checking that one is whole. One tensor of each is in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from triptych.checkpoints.manifest import Entry
from triptych.modeling.quantised import quantised_by
from triptych.tensors.ref import TensorRef, raw_bytes
from triptych.tools.editing import Draft
from triptych.tools.source import class_schema
from triptych.weights.plan import LoadPlan, Policy, plan_load

_BLOCK = 2**20
"""Elements compared at a time."""


@dataclass(frozen=True)
class Compared:
    """One tensor of two checkpoints.

    - `kind`: "equal", "only in the first", "only in the second", "dtype", "shape" or "values".
    - `hashes`: SHA-256 of the canonical bytes, in each; None where it is not there.
    - `differing`, `largest`: for "values", how many elements differ and by how much at most (NaN: not a number in one).
    """

    name: str
    kind: str
    hashes: tuple[str | None, str | None]
    first: str = ""
    second: str = ""
    differing: int = 0
    largest: float = 0.0


def digest(ref: TensorRef) -> str:
    """Return the SHA-256, in hexadecimal, of the elements in C order and little-endian bytes."""
    return hashlib.sha256(raw_bytes(ref)).hexdigest()


def digests(draft: Draft, advance: Callable[[int], None] = lambda nbytes: None) -> dict[str, str]:
    """Return the hash of each tensor by canonical name; reads all of them, one at a time."""
    result = {}
    for name, ref in draft.tensors.items():
        result[name] = digest(ref)
        advance(ref.nbytes)
    return result


def recorded(draft: Draft, entry: Entry) -> dict[str, str]:
    """Return what `digests` would, as the manifest of the files records it; nothing where the tensors have other names
    or layouts in them."""
    if entry.flavour != "pt" or not draft.tensors.keys() <= entry.tensors.keys():
        return {}
    return {name: entry.tensors[name].sha256 for name in draft.tensors}


def combined(draft: Draft, hashes: dict[str, str]) -> str:
    """Return one hash of names, dtypes, shapes and `hashes`: equal checkpoints have equal ones, in any format."""
    refs = sorted(draft.tensors.items())
    lines = [f"{name} {ref.dtype.name} {list(ref.shape)} {hashes[name]}\n" for name, ref in refs]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def check_whole(draft: Draft) -> LoadPlan | None:
    """Plan the load of the class that the config names; None where nothing is known of the weights: for an unknown
    architecture, or if they are quantised.

    Raises:
        CheckpointError: a backbone weight is missing. ShapeMismatchError. InconsistentCheckpointError.
    """
    if draft.config is None or quantised_by(draft.config):
        return None
    schema = class_schema(draft.config, draft.tensors)
    if schema is None:
        return None
    return plan_load(schema, draft.tensors, None, Policy(), str(draft.source))


def compare(first: Draft, second: Draft, advance: Callable[[int], None] = lambda nbytes: None) -> Iterator[Compared]:
    """Yield every tensor of two checkpoints, by canonical name. Buffers that no model needs are left aside.

    Args:
        advance: called with the bytes of both after each tensor.
    """
    ignorable = set().union(*(draft.schema.ignorable for draft in (first, second) if draft.schema is not None))
    for name in dict.fromkeys([*first.tensors, *second.tensors]):
        if name in ignorable:
            continue
        one, other = first.tensors.get(name), second.tensors.get(name)
        yield _compared(name, one, other)
        advance(sum(ref.nbytes for ref in (one, other) if ref is not None))


def _compared(name: str, one: TensorRef | None, other: TensorRef | None) -> Compared:
    first, second = ("" if ref is None else f"{ref.dtype.name} {list(ref.shape)}" for ref in (one, other))
    hashes = (None if one is None else digest(one), None if other is None else digest(other))
    kind, differing, largest = "equal", 0, 0.0
    if one is None or other is None:
        kind = "only in the second" if one is None else "only in the first"
    elif one.shape != other.shape:
        kind = "shape"
    elif one.dtype != other.dtype:
        kind = "dtype"
    elif hashes[0] != hashes[1]:
        kind = "values"
        differing, largest = _distance(one.read(), other.read())
    return Compared(name, kind, hashes, first, second, differing, largest)


def _distance(one: np.ndarray, other: np.ndarray) -> tuple[int, float]:
    """Return how many elements differ in their bits, and the largest difference of their values."""
    flat, itemsize = (one.reshape(-1), other.reshape(-1)), one.dtype.itemsize
    differing, largest = 0, 0.0
    for start in range(0, one.size, _BLOCK):
        a, b = (np.ascontiguousarray(array[start : start + _BLOCK]) for array in flat)
        unlike = (a.view(np.uint8).reshape(-1, itemsize) != b.view(np.uint8).reshape(-1, itemsize)).any(axis=1)
        differing += int(unlike.sum())
        kind = np.complex128 if one.dtype.kind == "c" else np.float64
        with np.errstate(all="ignore"):
            gap = np.abs(a[unlike].astype(kind) - b[unlike].astype(kind))
        largest = max([largest, *gap.tolist()], key=lambda value: (value != value, value))
    return differing, largest


def config_changes(first: Draft, second: Draft) -> dict[str, tuple[Any, Any]]:
    """Return the fields of config.json that differ, with both values; None stands for a field that is not there."""
    one, other = first.config or {}, second.config or {}
    return {key: (one.get(key), other.get(key)) for key in sorted({*one, *other}) if one.get(key) != other.get(key)}
