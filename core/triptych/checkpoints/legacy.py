"""What the TensorFlow and Flax files of transformers 4 call each weight of a schema, and how they store it.

Canonical are the names and layouts of the PyTorch files. The map is exact in both directions: every name is the whole
name, and an axis order is that of the weight's layout. Facts are those of files written by transformers 4.48:

- TensorFlow (`tf_model.h5`, safetensors of format "tf"): `bert/encoder/layer_._0/output/dense/kernel:0`. A backbone's
  own class has the base prefix too, as each backbone is a layer of its model. Full variable names, which the datasets
  of a single HDF5 file and the index of a sharded one use, have the model's scope before it; see `variable_name`.
- Flax (`flax_model.msgpack`): `bert/encoder/layer/0/output/dense/kernel`; in safetensors of format "flax" with dots. A
  backbone's own class has no base prefix.

`legacy_generic` does what can be done for a model without a schema.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from triptych.errors import ArgumentError, InconsistentCheckpointError, ShapeMismatchError
from triptych.tensors import arrays
from triptych.tensors.ref import TensorRef
from triptych.weights import layouts
from triptych.weights.schema import Layout, Schema, Weight

FLAVOURS = ("tf", "flax")

_TF_LEAVES = {
    Layout.LINEAR: "kernel",
    Layout.CONV1D: "weight",
    Layout.EMBEDDING: "embeddings",
    Layout.NORM_BIAS: "beta",
    Layout.CONV: "kernel",
    Layout.DEPTHWISE: "depthwise_kernel",
    Layout.MEAN: "moving_mean",
    Layout.VARIANCE: "moving_variance",
}
_TF_OTHER_LEAVES = {Layout.DEPTHWISE: "kernel", Layout.NORM: "gamma"}
"""Other names of these: what Keras 3 calls a depthwise kernel, and any Keras the scale of a norm without a shift."""
_FLAX_LEAVES = {
    Layout.LINEAR: "kernel",
    Layout.CONV1D: "kernel",
    Layout.EMBEDDING: "embedding",
    Layout.CONV: "kernel",
    Layout.DEPTHWISE: "kernel",
    Layout.MEAN: "mean",
    Layout.VARIANCE: "var",
}
FLAX_PARAMETERS = "params"
"""What Flax calls the collection of the parameters. Files have its name only where there is another one beside it."""
MLM_HEAD = "mlm___cls"
"""What TensorFlow calls the layer of BERT's language modelling head."""
_TF_HEADS = {"cls.predictions": f"{MLM_HEAD}.predictions"}
"""Heads that TensorFlow keeps in a layer of another name: the scope as it starts, and what it becomes."""
_TF_WEIGHT_EMBEDDINGS = (["word_embeddings"], ["decoder", "embed_tokens"])
"""Embeddings whose leaf TensorFlow calls `weight` (BERT and its relatives; OPT), and not `embeddings`."""
_TF_DOTTED_LIST = "layers"
"""The list whose items TensorFlow calls `layers.0` (Mistral, OPT), and not `layers_._0`."""
SHARED = "shared"
"""The layer that stands in a variable scope of its own name and not in the model's (T5's embedding)."""


@dataclass(frozen=True)
class LegacyWeight:
    """One weight as a TensorFlow or Flax file of transformers 4 stores it.

    - `canonical`: the name in PyTorch files.
    - `name`: the name in the file. TensorFlow: without the model's scope, with `:0`. Flax: joined with "/".
    - `shape`: of the canonical array.
    - `permutation`: canonical axis i is axis `permutation[i]` of the stored array; None where the order is the same.
    - `is_row`: a vector [n] is stored as [1, n], as the bias of TensorFlow's Conv1D is.
    - `aliases`: other exact names by which other releases store the same array.
    - `generic`: known from the rules of layers alone, and not from the schema of the architecture.
    """

    canonical: str
    name: str
    shape: tuple[int, ...]
    permutation: tuple[int, ...] | None = None
    is_row: bool = False
    aliases: tuple[str, ...] = ()
    generic: bool = False

    @property
    def dotted_name(self) -> str:
        """The name in safetensors of format "flax"."""
        return self.name.replace("/", ".")

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """The shape in the file."""
        if self.is_row:
            return (1, *self.shape)
        return self.shape if self.permutation is None else _reordered(self.shape, _inverse(self.permutation))

    def canonical_shape(self, stored: tuple[int, ...]) -> tuple[int, ...]:
        """Return the canonical shape of an array of shape `stored`, whose sizes need not be those of the schema.

        Raises:
            ShapeMismatchError: another number of axes.
        """
        if self.is_row and len(stored) == 1:  # of a layer of an author that has a matrix and a bias, as this one has
            return stored
        if len(stored) != len(self.stored_shape) or (self.is_row and stored[0] != 1):
            raise self._mismatch(self.name, self.stored_shape, stored)
        if self.is_row:
            return stored[1:]
        return stored if self.permutation is None else _reordered(stored, self.permutation)

    def to_canonical(self, array: np.ndarray) -> np.ndarray:
        """Return a stored array in the canonical layout, C-contiguous; itself where both are the same.

        Raises:
            ShapeMismatchError: another number of axes.
        """
        shape = self.canonical_shape(tuple(array.shape))
        return array.reshape(shape) if self.is_row else arrays.permuted(array, self.permutation)

    def from_canonical(self, array: np.ndarray) -> np.ndarray:
        """Return a canonical array as the file stores it; the inverse of `to_canonical`.

        Raises:
            ShapeMismatchError: another number of axes.
        """
        if array.ndim != len(self.shape):
            raise self._mismatch(self.canonical, self.shape, tuple(array.shape))
        if self.is_row:
            return array[np.newaxis]
        return arrays.permuted(array, self.permutation and _inverse(self.permutation))

    def canonical_ref(self, ref: TensorRef) -> TensorRef:
        """Return `ref`, a tensor of the file, under its canonical name; reading it converts it.

        Raises:
            ShapeMismatchError: another number of axes.
        """
        shape = self.canonical_shape(ref.shape)
        if shape == ref.shape and self.permutation is None:
            return TensorRef(self.canonical, ref.dtype, shape, ref.read)
        return TensorRef(self.canonical, ref.dtype, shape, lambda: self.to_canonical(ref.read()))

    def stored_ref(self, ref: TensorRef) -> TensorRef:
        """Return `ref`, a canonical tensor, under the name and in the layout of the file; reading it converts it.

        Raises:
            ShapeMismatchError: another number of axes.
        """
        if len(ref.shape) != len(self.shape):
            raise self._mismatch(self.canonical, self.shape, ref.shape)
        shape = dataclasses.replace(self, shape=ref.shape).stored_shape
        return TensorRef(self.name, ref.dtype, shape, lambda: self.from_canonical(ref.read()))

    @staticmethod
    def _mismatch(name: str, expected: tuple[int, ...], received: tuple[int, ...]) -> ShapeMismatchError:
        return ShapeMismatchError(
            f"{name!r} has a shape that its layer cannot have.",
            expected=f"{len(expected)} axes, as in {expected}",
            received=str(received),
            remedy="load it as the architecture that saved it",
        )


def _reordered(shape: tuple[int, ...], order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(shape[axis] for axis in order)


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(order.index(axis) for axis in range(len(order)))


def require_flavour(flavour: str) -> None:
    """Raise `ArgumentError` unless `flavour` is one of `FLAVOURS`."""
    if flavour not in FLAVOURS:
        raise ArgumentError("The flavour is unknown.", expected=" or ".join(FLAVOURS), received=repr(flavour))


def legacy_weights(schema: Schema, flavour: str) -> dict[str, LegacyWeight]:
    """Return canonical name -> how the files of `flavour` ("tf" or "flax") store that weight.

    Tied weights are there too, for files that hold copies; transformers wrote none. A `Layout.PARAMETER` keeps its
    name and layout.

    Raises:
        ArgumentError: an unknown flavour.
    """
    require_flavour(flavour)
    if flavour == "tf":
        return {weight.name: _in_tf(schema, weight) for weight in schema.values()}
    found = {weight.name: _in_flax(schema, weight) for weight in schema.values()}
    collections = {name: flax_collection(weight) for name, weight in schema.items()}
    if set(collections.values()) <= {FLAX_PARAMETERS}:
        return found
    return {name: replace(one, name=f"{collections[name]}/{one.name}") for name, one in found.items()}


def _in_tf(schema: Schema, weight: Weight) -> LegacyWeight:
    for path, inner in schema.inner.items():
        if weight.name.startswith(f"{path}."):
            return _within_tf(path, _in_tf(inner, inner[weight.name.removeprefix(f"{path}.")]))
    scope, _, leaf = weight.name.rpartition(".")
    inside = schema.base_prefix if schema.is_base else ""
    levels = [inside] if inside else []
    levels += tf_levels(_tf_head(scope))
    leaf = _TF_LEAVES.get(weight.layout, leaf)
    if weight.layout is Layout.NORM and _is_layer_norm(schema, scope):
        leaf = "gamma"
    other = _TF_OTHER_LEAVES.get(weight.layout, leaf)
    if weight.layout is Layout.EMBEDDING:
        is_weight = any(levels[-len(end) :] == end for end in _TF_WEIGHT_EMBEDDINGS)
        leaf, other = ("weight", leaf) if is_weight else (leaf, "weight")
    name, *aliases = dict.fromkeys(_variable([*levels, one]) for one in (leaf, other))
    row = weight.layout is Layout.BIAS and _has(schema, f"{scope}.weight", Layout.CONV1D)
    order = layouts.to_canonical(weight.layout, len(weight.axes), "tf")
    return LegacyWeight(weight.name, name, weight.shape, order, row, tuple(aliases))


def _within_tf(path: str, found: LegacyWeight) -> LegacyWeight:
    """Return how TensorFlow stores a weight of the model at `path`, from how that model's own files store it."""
    levels = "/".join(tf_levels(path))
    aliases = tuple(f"{levels}/{alias}" for alias in found.aliases)
    return replace(found, canonical=f"{path}.{found.canonical}", name=f"{levels}/{found.name}", aliases=aliases)


def _in_flax(schema: Schema, weight: Weight) -> LegacyWeight:
    """Return how files of Flax hold a weight, its collection left out."""
    scope, _, leaf = weight.name.rpartition(".")
    leaf = _FLAX_LEAVES.get(weight.layout, leaf)
    if weight.layout is Layout.NORM and _is_layer_norm(schema, scope):
        leaf = "scale"
    order = (1, 0) if weight.layout is Layout.CONV1D else _flax_order(weight)
    return LegacyWeight(weight.name, "/".join([*filter(None, scope.split(".")), leaf]), weight.shape, order)


def _in_live_flax(weight: Weight) -> LegacyWeight:
    """Return how a live model holds a weight in Flax, and so files of a class that no family has rules for."""
    return LegacyWeight(weight.name, "/".join(layouts.native_path(weight, "flax")), weight.shape, _flax_order(weight))


def _flax_order(weight: Weight) -> tuple[int, ...] | None:
    layout = Layout.CONV if weight.layout is Layout.DEPTHWISE else weight.layout
    return layouts.to_canonical(layout, len(weight.axes), "flax")


def flax_collection(weight: Weight) -> str:
    """Return the collection of variables in which Flax keeps `weight`."""
    return weight.collection or (layouts.BATCH_STATISTICS if weight.is_statistic else FLAX_PARAMETERS)


def _has(schema: Schema, name: str, layout: Layout) -> bool:
    return name in schema and schema[name].layout is layout


def _is_layer_norm(schema: Schema, scope: str) -> bool:
    """Return whether the scale below `scope` has a shift: RMSNorm has none, and its scale is called `weight`."""
    return _has(schema, f"{scope}.bias", Layout.NORM_BIAS)


def _variable(levels: list[str]) -> str:
    return "/".join(levels) + ":0"


def tf_levels(scope: str) -> list[str]:
    """Return the levels of TensorFlow's name of the layer at the canonical `scope`, such as `layer_._0`."""
    levels: list[str] = []
    for part in filter(None, scope.split(".")):
        if part.isdecimal() and levels:
            levels[-1] += f".{part}" if levels[-1] == _TF_DOTTED_LIST else f"_._{part}"
        else:
            levels.append(part)
    return levels


def _tf_head(scope: str) -> str:
    for start, new in _TF_HEADS.items():
        if scope == start or scope.startswith(f"{start}."):
            return new + scope[len(start) :]
    return scope


def tf_scope(stem: str) -> str:
    """Return the scope of the variables of TensorFlow's class of `stem`: BertModel -> tf_bert_model.

    It is Keras's name of a first model of that class, in snake case; readers take any scope.
    """
    return re.sub("(?<=.)(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_", f"TF{stem}").lower()


def variable_name(name: str, scope: str) -> str:
    """Return the full variable name of `LegacyWeight.name`: with the model's scope before it.

    T5's shared embedding is the exception: it is in a scope of its own name, whatever the model.
    """
    first = name.partition("/")[0]
    return f"{SHARED if first == SHARED else scope}/{name}"


def canonical_refs(raw: Mapping[str, TensorRef], schema: Schema, flavour: str) -> dict[str, TensorRef]:
    """Return the tensors of a file of `flavour` under canonical names; reading one converts it.

    - "tf": if no name is that of a weight, the first level of each is the model's scope, and goes. The result has the
      schema's own names, for a file of the backbone's class and of one with a head alike.
    - "flax": a name is looked up as it is, and with the base prefix put on or taken off. The result has the prefix
      where the file has it, which `plan.sources` deals with.

    Names that are in no map stay as they are, to be reported as unexpected.

    Raises:
        ArgumentError: an unknown flavour. ShapeMismatchError: a tensor has another number of axes than its layer.
        InconsistentCheckpointError: two tensors for one weight, or names of PyTorch among those of the flavour.
    """
    known = readable(schema, flavour)
    foreign = {name for weight in known.values() for name in _spellings(schema, weight.canonical)} - set(known)
    if flavour == "tf":
        known |= {_plain(name): weight for name, weight in known.items()}
        known = {without_prefix(name, schema): weight for name, weight in known.items()} | known
    scoped = flavour == "tf" and not any(name in known or _plain(name) in known for name in raw)
    result: dict[str, TensorRef] = {}
    origin: dict[str, str] = {}
    for name, ref in raw.items():
        inside = name.partition("/")[2] if scoped else name
        weight = known.get(inside) or (known.get(_plain(inside)) if flavour == "tf" else None)
        new = ref if weight is None else weight.canonical_ref(ref)
        key = name if weight is None else weight.canonical
        if key in result or (weight is None and name in foreign):
            raise _ambiguous(key, name, origin.get(key), flavour)
        result[key], origin[key] = new, name
    return result


def without_prefix(name: str, schema: Schema) -> str:
    """Return a TensorFlow name as a backbone of an author's has it that is no layer of its model, as built-in ones are
    of theirs."""
    return name.removeprefix(f"{schema.base_prefix}/") if schema.is_base else name


def _plain(name: str) -> str:
    """Return a TensorFlow name with y for `x___y`, and `layer.0` for `layer_._0`."""
    return "/".join(level.rpartition("___")[2].replace("_._", ".") for level in name.split("/"))


def readable(schema: Schema, flavour: str) -> dict[str, LegacyWeight]:
    """Return every name that files of `flavour` may have, and the weight under the canonical name that it then gets."""
    return dict(_readable(schema, flavour))


def _readable(schema: Schema, flavour: str) -> Iterator[tuple[str, LegacyWeight]]:
    if flavour == "tf":
        for weight in legacy_weights(schema, flavour).values():
            yield from ((name, weight) for name in (weight.name, *weight.aliases))
        return
    for each in schema.values():
        yield from _in_flax_files(schema, each, _in_live_flax(each))
    for each in schema.values():
        yield from _in_flax_files(schema, each, _in_flax(schema, each))


def _in_flax_files(schema: Schema, weight: Weight, stored: LegacyWeight) -> Iterator[tuple[str, LegacyWeight]]:
    """Yield the names of one weight of Flax: with and without base prefix and collection, with slashes and dots."""
    collection, slash = flax_collection(weight), f"{schema.base_prefix}/"
    for canonical in _spellings(schema, weight.name):
        name = stored.name
        if canonical != weight.name:
            name = slash + name if schema.is_base else name.removeprefix(slash)
        spelled = replace(stored, canonical=canonical, name=name)
        full = f"{collection}/{name}"
        for one in (full, name) if collection == FLAX_PARAMETERS else (full,):
            yield from ((one, spelled), (one.replace("/", "."), spelled))


def _spellings(schema: Schema, canonical: str) -> list[str]:
    """Return the canonical name, and how a checkpoint of the other kind of class (backbone, or head) spells it."""
    dot = f"{schema.base_prefix}."
    if schema.base_prefix and schema.is_base:
        return [canonical, dot + canonical]
    return [canonical, canonical[len(dot) :]] if schema.base_prefix and canonical.startswith(dot) else [canonical]


def _ambiguous(key: str, name: str, before: str | None, flavour: str) -> InconsistentCheckpointError:
    if before is None:
        received, remedy = f"{name!r}, as PyTorch names it", "correct the format in the file's metadata"
    else:
        received, remedy = f"{before!r} and {name!r}", "find out which is right and remove the other"
    return InconsistentCheckpointError(
        f"The file does not say clearly which tensor is {key!r}.",
        expected=f"one name, as {flavour} files have it",
        received=received,
        remedy=remedy,
    )
