"""Resizing the vocabulary and pruning heads, as plans over a schema and as array operations.

The plan says which axes of which weights change; `Edit.apply` computes the new array in numpy. A live model and a file
are changed by the same edits, so the numbers are the same everywhere.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from triptych.checks import number_of_layer
from triptych.errors import ArgumentError
from triptych.files.regular import memory_of_the_machine
from triptych.weights.schema import Axis, Layout, Schema, Weight

if TYPE_CHECKING:
    from triptych.config import PretrainedConfig

VOCAB = "vocab"
HEADS = "heads"
KV_HEADS = "kv_heads"
_BLOCK = 2**20
"""So many random numbers are drawn at a time, or half as many as the table has."""


@dataclass(frozen=True)
class Keep:
    """Keep these positions of one axis, in this order."""

    weight: str
    axis: int
    positions: tuple[int, ...]

    def apply(self, array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.take(array, self.positions, axis=self.axis))


@dataclass(frozen=True)
class Grow:
    """Append `count` rows along `axis`.

    `fill` is "mean" (rows from a normal distribution around the mean of the old rows, with 1e-9 times their
    covariance), "normal" (zero mean, standard deviation `std`) or "zeros". `seed` and the weight's name decide the
    numbers.
    """

    weight: str
    axis: int
    count: int
    fill: str
    std: float
    seed: int

    def apply(self, array: np.ndarray) -> np.ndarray:
        shape = list(array.shape)
        shape[self.axis] += self.count
        result = np.empty(shape, array.dtype)
        old, rows = np.moveaxis(array, self.axis, 0), np.moveaxis(result, self.axis, 0)
        rows[: len(old)] = old
        start = len(old)
        for new in _new_rows(old, self):
            rows[start : start + len(new)] = new
            start += len(new)
        return result


Edit = Keep | Grow


@dataclass(frozen=True)
class Surgery:
    """Edits by weight, and the config fields that change with them."""

    edits: tuple[Edit, ...]
    config_changes: Mapping[str, object]

    @property
    def growing(self) -> list[Grow]:
        """The edits that append rows."""
        return [edit for edit in self.edits if isinstance(edit, Grow)]


def with_zeros(surgery: Surgery) -> Surgery:
    """Return the same surgery with zeros as new rows: for what goes with a weight, and has no such numbers."""
    edits = (replace(edit, fill="zeros") if isinstance(edit, Grow) else edit for edit in surgery.edits)
    return replace(surgery, edits=tuple(edits))


def _new_rows(old: np.ndarray, grow: Grow) -> Iterator[np.ndarray]:
    """Yield float32 rows of the shape of `old`'s rows, some at a time, in memory of about three times `old` as float32.

    The numbers are drawn row after row, so they are the same however many come at a time.
    """
    shape, count = old.shape[1:], len(old)
    width = math.prod(shape)
    rng = np.random.default_rng([grow.seed, zlib.crc32(grow.weight.encode())])
    if grow.fill == "zeros":
        yield from (np.zeros((size, *shape), np.float32) for size in _parts(grow.count, _BLOCK // width))
        return
    if grow.fill == "normal":
        for size in _parts(grow.count, _BLOCK // width):
            yield (rng.standard_normal((size, *shape)) * grow.std).astype(np.float32)
        return
    rows = old.astype(np.float32, copy=False).reshape(count, -1)
    mean = rows.mean(axis=0, dtype=np.float64)
    rows = rows.astype(np.float64)
    for size in _parts(grow.count, max(_BLOCK // count, width // 2)):
        yield (mean + np.sqrt(1e-9) * _noise(rng, rows, mean, size)).astype(np.float32).reshape(size, *shape)


def _noise(rng: np.random.Generator, rows: np.ndarray, mean: np.ndarray, size: int) -> np.ndarray:
    """Return `size` random rows around zero, with the covariance of `rows`; without a factorisation, which can fail."""
    z = rng.standard_normal((size, len(rows)))
    return (z @ rows - z.sum(axis=1, keepdims=True) * mean) / np.sqrt(len(rows))


def _parts(total: int, most: int) -> list[int]:
    """Return nearly equal sizes of at most `most`, or 1, that add up to `total`."""
    count = -(-total // max(most, 1))
    return [total // count + (number < total % count) for number in range(count)]


def target_vocab_size(current: int, new_num_tokens: int | None, pad_to_multiple_of: int | None) -> int:
    """Return the number of rows after a resize: `new_num_tokens` (or `current`), rounded up.

    Raises:
        ArgumentError: no positive integer, or beyond 2^31.
    """
    for name, value in (("new_num_tokens", new_num_tokens), ("pad_to_multiple_of", pad_to_multiple_of)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1):
            raise ArgumentError(f"{name} is impossible.", expected="a positive integer", received=repr(value))
    size = int(new_num_tokens or current)
    if pad_to_multiple_of:
        size = -(-size // int(pad_to_multiple_of)) * int(pad_to_multiple_of)
    if size >= 2**31:
        raise ArgumentError("The vocabulary would be too large.", expected="below 2^31", received=str(size))
    return size


def vocab_size(schema: Schema) -> int:
    """Return the length of the `vocab` axes, which must agree.

    Raises:
        ArgumentError: no weight has one, or they differ.
    """
    sizes = {axis.length for w in schema.values() for axis in w.axes if axis.name == VOCAB}
    if len(sizes) != 1:
        raise ArgumentError(
            "The model has no one vocabulary to resize.", expected="`vocab` axes of one length", received=f"{sizes}"
        )
    return sizes.pop()


def plan_resize(
    schema: Schema,
    config: PretrainedConfig,
    new_num_tokens: int | None,
    pad_to_multiple_of: int | None = None,
    mean_resizing: bool = True,
    seed: int = 0,
) -> Surgery:
    """Plan a new vocabulary size: every weight with a `vocab` axis changes, and `config.vocab_size` with it.

    New embedding rows, and rows of an untied head and its bias, follow `mean_resizing`; the bias of a tied head gets
    zeros.

    Raises:
        ArgumentError: see `target_vocab_size` and `vocab_size`; `seed` is negative or no integer; or a weight would be
            larger than this machine's memory.
    """
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or seed < 0:
        raise ArgumentError("seed is impossible.", expected="an integer from 0", received=repr(seed)[:80])
    old = vocab_size(schema)
    new = target_vocab_size(old, new_num_tokens, pad_to_multiple_of)
    std = float(getattr(config, "initializer_range", None) or 0.02)
    head_is_tied = any(w.tied_to and w.axis_index(VOCAB) is not None for w in schema.values())
    edits: list[Edit] = []
    for weight in schema.stored():
        axis = weight.axis_index(VOCAB)
        if axis is None or new == old:
            continue
        if new < old:
            edits.append(Keep(weight.name, axis, tuple(range(new))))
            continue
        zeros = weight.layout is Layout.BIAS and (head_is_tied or not mean_resizing)
        fill = "zeros" if zeros else "mean" if mean_resizing else "normal"
        edits.append(Grow(weight.name, axis, new - old, fill, std, seed))
    surgery = Surgery(tuple(edits), {"vocab_size": new})
    _refuse_larger_than_memory(schema, surgery)
    return surgery


def _refuse_larger_than_memory(schema: Schema, surgery: Surgery) -> None:
    memory = memory_of_the_machine()
    for edit in surgery.edits:
        shape = shape_after(schema[edit.weight], surgery)
        least = 2 * math.prod(shape)  # no floating type that a model is in has less than 2 bytes
        if memory is not None and least > memory:
            raise ArgumentError(
                "The vocabulary would be larger than the memory of this machine.",
                expected=f"weights of at most {memory / 1e9:.1f} GB",
                received=f"{edit.weight} {list(shape)}, at least {least / 1e9:.1f} GB",
            )


def plan_prune(schema: Schema, config: PretrainedConfig, heads_to_prune: Mapping[int, Iterable[int]]) -> Surgery:
    """Plan the removal of heads, by layer and original head number; heads already gone are no matter.

    Negative layers are counted from the end, as in transformers.

    Raises:
        ArgumentError: an unknown layer or head, or every head of a layer.
    """
    axes = _head_axes(schema)
    wanted = _by_layer(heads_by_layer(heads_to_prune), config.attention_count() or 1 + max(axes, default=-1))
    for layer, heads in wanted.items():
        if layer not in axes:
            raise ArgumentError(
                f"Layer {layer} has no heads to prune.",
                expected=f"one of {sorted(axes)}",
                received=str(layer),
                remedy="" if axes else "declare the heads of your class: override declare_schema, with `heads` axes",
            )
        removed = set(config.pruned_heads.get(layer, ()))
        known = set(axes[layer].unit_ids) | removed
        unknown = heads - known
        if unknown or not known - removed - heads:
            raise ArgumentError(
                f"These heads of layer {layer} cannot be pruned.",
                expected=f"some of {sorted(known)}, leaving at least one",
                received=f"{sorted(heads)}",
            )
    gone = {(HEADS, layer): heads for layer, heads in wanted.items()}
    gone |= {(KV_HEADS, layer): _unused_groups(schema, axes[layer], heads) for layer, heads in wanted.items()}
    edits = [
        Keep(weight.name, index, _kept_positions(axis, gone[axis.name, axis.layer]))
        for weight in schema.stored()
        for index, axis in enumerate(weight.axes)
        if axis.layer is not None and set(axis.unit_ids) & gone.get((axis.name, axis.layer), set())
    ]
    pruned = {layer: set(heads) for layer, heads in config.pruned_heads.items()}
    for layer, heads in wanted.items():
        pruned[layer] = pruned.get(layer, set()) | heads
    return Surgery(tuple(edits), {"pruned_heads": {layer: sorted(h) for layer, h in sorted(pruned.items()) if h}})


def _unused_groups(schema: Schema, heads: Axis, removed: set[int]) -> set[int]:
    """Return the key and value heads that no query head of the layer uses once `removed` are gone.

    Raises:
        ArgumentError: the others would be used by different numbers of query heads.
    """
    kv_heads = next((a for w in schema.values() for a in w.axes if a.name == KV_HEADS and a.layer == heads.layer), None)
    if kv_heads is None:
        return set()
    left = [head // kv_heads.group for head in heads.unit_ids if head not in removed]
    counts = {group: left.count(group) for group in kv_heads.unit_ids}
    if len(set(counts.values()) - {0}) > 1:
        groups = {g: [h for h in heads.unit_ids if h // kv_heads.group == g] for g in kv_heads.unit_ids}
        raise ArgumentError(
            f"These heads of layer {heads.layer} cannot be pruned: groups of different sizes would be left.",
            expected="whole groups, or the same number of heads from every group",
            received=f"{sorted(removed)} of the groups {list(groups.values())}",
            remedy="prune heads that share a key and value head together",
        )
    return {group for group, count in counts.items() if not count}


def _head_axes(schema: Schema) -> dict[int, Axis]:
    return {a.layer: a for w in schema.values() for a in w.axes if a.name == HEADS and a.layer is not None}


def _by_layer(heads_to_prune: Iterable[tuple[int, set[int]]], count: int) -> dict[int, set[int]]:
    """Return the heads of each of `count` layers under its number from 0; unknown layers stay as they are."""
    result: dict[int, set[int]] = {}
    for layer, heads in heads_to_prune:
        number = number_of_layer(layer, count)
        result.setdefault(layer if number is None else number, set()).update(heads)
    return result


def heads_by_layer(heads_to_prune: Mapping[int, Iterable[int]]) -> list[tuple[int, set[int]]]:
    """Return the layers and heads to prune.

    Raises:
        ArgumentError: they are no such numbers.
    """
    try:
        wanted = {layer: set(heads) for layer, heads in heads_to_prune.items()}
        numbers = [n for layer, heads in wanted.items() for n in (layer, *heads)]
        if all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in numbers):
            return [(int(layer), {int(head) for head in heads}) for layer, heads in wanted.items()]
    except (AttributeError, TypeError):
        pass
    raise ArgumentError(
        "heads_to_prune is impossible.", expected="{layer: [head, ...]}", received=repr(heads_to_prune)[:80]
    )


def _kept_positions(axis: Axis, removed: set[int]) -> tuple[int, ...]:
    """Return the elements of the axis that stay: all `block` elements of each kept unit, in each repetition."""
    kept = [position for position, number in enumerate(axis.unit_ids) if number not in removed]
    return tuple(
        (r * axis.units + unit) * axis.block + element
        for r in range(axis.repeat)
        for unit in kept
        for element in range(axis.block)
    )


def shape_after(weight: Weight, surgery: Surgery) -> tuple[int, ...]:
    """Return the canonical shape of `weight` after all its edits."""
    shape = list(weight.shape)
    for edit in surgery.edits:
        if edit.weight == weight.name:
            shape[edit.axis] = len(edit.positions) if isinstance(edit, Keep) else shape[edit.axis] + edit.count
    return tuple(shape)


def apply_to(weight: Weight, array: np.ndarray, surgery: Surgery) -> np.ndarray:
    """Return `array`, in canonical layout, after all edits of `weight`."""
    for edit in surgery.edits:
        if edit.weight == weight.name:
            array = edit.apply(array)
    return array
