"""The live module and its schema: derived from the module where the class declares none, else held against it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from triptych.errors import ArgumentError
from triptych.modeling.key_names import stated
from triptych.weights import layouts
from triptych.weights.schema import Axis, Layout, PackedPart, Schema, Weight, vocab_weight
from triptych.weights.surgery import HEADS, KV_HEADS, VOCAB


@dataclass(frozen=True)
class LiveWeight:
    """A parameter or a persistent buffer of a live module, in canonical layout, under one of its canonical names.

    A parameter that the module holds at several places is there once for each, with the same `key`.
    """

    name: str
    shape: tuple[int, ...]
    layout: Layout
    key: Any
    buffer: bool = False
    collection: str = ""
    packed: PackedPart | None = None


Path = tuple[str, ...]


def live_weights(
    shapes: Mapping[Path, tuple[int, ...]],
    framework: str,
    buffers: Collection[Path] = (),
    known: Mapping[Path, Layout] | None = None,
    collection: str = "",
) -> list[LiveWeight]:
    """Return the weights of a module of Keras ("tf") or Flax, from native path -> native shape.

    Args:
        buffers: those that are not trained.
        known: layouts that the leaf does not tell, but the layer.
        collection: of Flax, if it is not that of the parameters; all of it are buffers then.
    """
    siblings: dict[Path, set[str]] = {}
    for path in shapes:
        siblings.setdefault(path[:-1], set()).add(path[-1])
    found = []
    for path, shape in shapes.items():
        buffer = bool(collection) or path in buffers
        told = (known or {}).get(path)
        name, layout = layouts.canonical_leaf(path, frozenset(siblings[path[:-1]]), len(shape), framework, told)
        if layout in (Layout.MEAN, Layout.VARIANCE) and not _is_statistic(framework, buffer, collection):
            name, layout = ".".join(path), Layout.PARAMETER
        order = layouts.to_canonical(layout, len(shape), framework) or range(len(shape))
        found.append(LiveWeight(name, tuple(shape[axis] for axis in order), layout, path, buffer, collection))
    return found


def _is_statistic(framework: str, buffer: bool, collection: str) -> bool:
    return collection == layouts.BATCH_STATISTICS if framework == "flax" else buffer


def derived_schema(model: Any) -> Schema:
    """Return the schema that the live module of `model` shows, a `ModelBase`.

    What the models of triptych within it know of their weights is taken over: axes, aliases, names to ignore.
    """
    live = {weight.name: weight for weight in model._live_weights()}
    ties = _shared(live.values(), model._tied_names())
    for name, (source, layout) in declared_ties(model, model.declared_schema).items():
        if name not in live and source in live:
            ties[name], shared = source, live[source]
            computed = Layout.LINEAR if shared.layout is Layout.EMBEDDING else shared.layout
            live[name] = replace(shared, name=name, layout=layout or computed)
    vocab, prefix = set(model._live_vocab()), model.base_model_prefix
    is_base = not any(name.startswith(f"{prefix}.") for name in live)
    weights = {}
    for name, weight in live.items():
        tied_to = ties.get(name)
        first_axis = VOCAB if {name, tied_to} & vocab else "axis0"
        axes = tuple(Axis(first_axis if i == 0 else f"axis{i}", length) for i, length in enumerate(weight.shape))
        flag = None if tied_to is None else "tie_word_embeddings"
        backbone = is_base or not prefix or name.startswith(f"{prefix}.")
        weights[name] = Weight(name, axes, weight.layout, tied_to, flag, tuple(_older_names(weight)), backbone,
                               weight.buffer, weight.collection, weight.packed)  # fmt: skip
    if getattr(model.config, "tie_word_embeddings", True):
        _let_embeddings_stand_in(weights)
    ignorable: set[str] = set()
    for path, inner in model._nested_models().items():
        told = inner.schema
        ignorable |= {f"{path}.{name}" for name in told.ignorable}
        _take_over(weights, told, path, vocab, heads=path == prefix or len(model._nested_models()) == 1)
    return Schema(weights, prefix, is_base, frozenset(ignorable))


def _let_embeddings_stand_in(weights: dict[str, Weight]) -> None:
    """Let the matrix that maps to the vocabulary, where it is not the embeddings', be filled with these by a file that
    lacks it: in PyTorch the config ties the two."""
    table, head = (vocab_weight(weights, layout) for layout in (Layout.EMBEDDING, Layout.LINEAR))
    if table is not None and head is not None and not head.tied_to and table.shape == head.shape:
        weights[head.name] = replace(head, aliases=(*head.aliases, table.name))


_OF_TENSORFLOW_1 = {Layout.NORM: "gamma", Layout.NORM_BIAS: "beta"}
"""What files converted from TensorFlow 1 call the weights of a norm."""
_WEIGHT_NORM = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
"""What PyTorch called the two parts of a weight-normed matrix before they were parametrizations."""


def _older_names(weight: LiveWeight) -> Iterator[str]:
    """Yield other names under which files may hold `weight`."""
    if weight.layout in _OF_TENSORFLOW_1:
        scope, dot, _ = weight.name.rpartition(".")
        yield scope + dot + _OF_TENSORFLOW_1[weight.layout]
    for new, old in _WEIGHT_NORM.items():
        if weight.name.endswith(f".{new}"):
            yield weight.name.removesuffix(new) + old


def _shared(live: Iterable[LiveWeight], tied: Iterable[str]) -> dict[str, str]:
    """Return name -> the name under which its array is stored, for each other place of an array; the first place that
    matches no pattern in `tied` stores it."""
    places: dict[object, list[str]] = {}
    for weight in live:
        places.setdefault(weight.key, []).append(weight.name)
    patterns = [re.compile(pattern) for pattern in tied]
    ties: dict[str, str] = {}
    for names in places.values():
        source = next((name for name in names if not any(p.search(name) for p in patterns)), names[0])
        ties |= {name: source for name in names if name != source}
    return ties


def _take_over(weights: dict[str, Weight], told: Schema, path: str, vocab: Collection[str], heads: bool) -> None:
    """Let `weights` below `path` be as `told` says, of the model there: its vocabulary if it is that of the whole
    model, its heads if `heads`."""
    of_whole = any(f"{path}.{weight.name}" in vocab for weight in told.values())
    for name, inner in told.items():
        full = f"{path}.{name}"
        source = inner.tied_to and f"{path}.{inner.tied_to}"
        here = weights.get(full)
        if here is None and source in weights:
            here = replace(weights[source], name=full, tied_to=weights[source].tied_to or source)
        if here is None or here.shape != inner.shape:
            continue
        axes = tuple(_axis_outside(axis, number, of_whole, heads) for number, axis in enumerate(inner.axes))
        weights[full] = replace(
            inner, name=full, axes=axes, tied_to=here.tied_to, untie_flag=here.untie_flag or inner.untie_flag,
            aliases=tuple(f"{path}.{alias}" for alias in inner.aliases), backbone=here.backbone and inner.backbone,
        )  # fmt: skip


def _axis_outside(axis: Axis, number: int, of_whole: bool, heads: bool) -> Axis:
    kept = of_whole if axis.name == VOCAB else heads if axis.name in (HEADS, KV_HEADS) else True
    return axis if kept else Axis(f"axis{number}", axis.length)


def held_schema(model: Any, declared: Schema) -> Schema:
    """Return the schema of a live module that is made of a declared part, or derives from one that is.

    A weight that both know is as declared. One beside the declaration, or of another shape, is as the module shows it,
    and new where a checkpoint lacks it; one that the module lacks is gone.
    """
    live = model._live_weights()
    names = {weight.name: weight.shape for weight in live}
    stored = {weight.name: weight.shape for weight in declared.stored()}
    known = {weight.key for weight in live if weight.name in stored}
    if stored.items() <= names.items() and all(weight.key in known for weight in live):
        return declared
    weights = {}
    for name, weight in derived_schema(model).items():
        told = declared.get(name)
        if told is None:
            weights[name] = replace(weight, backbone=False)
        else:
            same = told.shape == weight.shape
            weights[name] = replace(told, axes=told.axes if same else weight.axes, tied_to=weight.tied_to)
    return Schema(weights, declared.base_prefix, declared.is_base, declared.ignorable, declared.inner)


def declared_ties(model: Any, declared: Schema | None = None) -> dict[str, tuple[str, Layout | None]]:
    """Return tied name -> (the weight that it shares, the layout that `declared`, its schema, has for it).

    They are the schema's or, where the class declares none and the config ties, those of `_tied_weights_keys`; a list
    there names no sources and gives none.

    Raises:
        ArgumentError: `_tied_weights_keys` is neither a list of regular expressions nor a dict of names.
    """
    if declared is not None:
        return {w.name: (w.tied_to, w.layout) for w in declared.values() if w.tied_to}
    keys = model._tied_weights_keys
    stated(model, "_tied_weights_keys", patterns=True)
    if isinstance(keys, Mapping) and not all(isinstance(source, str) for source in keys.values()):
        raise ArgumentError(
            "_tied_weights_keys is no dict of names.", expected="name -> the weight it shares", received=repr(keys)[:80]
        )
    ties = isinstance(keys, Mapping) and getattr(model.config, "tie_word_embeddings", True)
    return {name: (source, None) for name, source in keys.items()} if ties else {}


def refuse_disagreement(cls: type, schema: Schema, live: Iterable[LiveWeight]) -> None:
    """Raise unless a module of `cls`, with the parameters `live`, holds just the weights that `schema` stores.

    Raises:
        ArgumentError: it names every parameter that is not declared, and every weight that the module lacks.
    """
    places: dict[object, list[str]] = {}
    for weight in live:
        places.setdefault(weight.key, []).append(weight.name)
    stored = {weight.name for weight in schema.stored()}
    undeclared = sorted(names[0] for names in places.values() if stored.isdisjoint(names))
    held = {name for names in places.values() for name in names}
    lacking = sorted(stored - held)
    if undeclared:
        raise ArgumentError(
            f"{cls.__name__} has parameters that its schema does not declare.",
            expected="a weight in declare_schema for every parameter",
            received=", ".join(undeclared) + (f"; and no parameter for {', '.join(lacking)}" if lacking else ""),
            remedy="declare them, or remove declare_schema and the schema is derived from the module",
        )
    if lacking:
        raise ArgumentError(
            f"{cls.__name__} has no parameters for weights that its schema declares.",
            expected="a parameter for every weight in declare_schema",
            received=f"none for {', '.join(lacking)}",
            remedy="add the layers that hold them, or remove declare_schema and the schema is derived from the module",
        )
