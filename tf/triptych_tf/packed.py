"""Layers whose matrices are packed: the bytes are variables that are not trained, decoded in `call`.

Such a layer is the very one that the model was made with, under its name and in its place: another class of the same
kind, with other variables.
"""

from __future__ import annotations

from typing import Any

import keras

from triptych.nn import packed as px
from triptych.weights.packing import Packed
from triptych.weights.schema import PackedPart
from triptych_tf import arrays, internals, make, ops


class TFPackedLayer(keras.layers.Layer):
    """A layer with the parts of a packed matrix: codes as the variable `weight`, scales and others as `weight_...`."""

    matrix: Any
    packed_parts: Any

    def part_of(self, variable: Any) -> PackedPart | None:
        """Return what a variable is, of the matrix."""
        return self.packed_parts[variable.name].packed if variable.name in self.packed_parts else None

    def parts(self) -> list[Any]:
        """Return the parts of the matrix, as tensors."""
        return [internals.tensor_of(variable) for variable in vars(self)["packed_variables"]]

    def dequantized(self, dtype: Any = "float32") -> Any:
        """Return the matrix [rows, columns] in floating numbers."""
        return px.whole(ops, self.matrix, self.parts(), dtype)

    def score(self, hidden: Any) -> Any:
        """Return the products of `hidden` and each row of the matrix."""
        return px.project(ops, self.matrix, self.parts(), keras.ops.convert_to_tensor(hidden))


class TFPackedDense(TFPackedLayer, keras.layers.Dense):
    """A projection, in place of `keras.layers.Dense`."""

    def call(self, inputs: Any, training: Any = None) -> Any:
        made = self.score(inputs)
        made = made if self.bias is None else made + self.bias
        return made if self.activation is None else self.activation(made)


class TFPackedConv1D(TFPackedLayer, make.TFConv1D):
    """GPT-2's projection."""

    def call(self, x: Any) -> Any:
        return self.score(x) + self.bias


class TFPackedProjector(TFPackedLayer, make.TFVocabProjector):
    """A projection to the vocabulary that has a matrix of its own."""

    def call(self, hidden: Any, embeddings: Any) -> Any:
        return self.score(hidden) + self.bias


class TFPackedEmbedding(TFPackedLayer, keras.layers.Embedding):
    """A table, in place of `keras.layers.Embedding`."""

    def call(self, inputs: Any) -> Any:
        ids = keras.ops.cast(inputs, "int32")
        return px.vectors(ops, self.matrix, self.parts(), ids, self.compute_dtype)


_REPLACED: dict[type, tuple[type, str]] = {
    keras.layers.Dense: (TFPackedDense, "_kernel"),
    keras.layers.Embedding: (TFPackedEmbedding, "_embeddings"),
    make.TFConv1D: (TFPackedConv1D, "weight"),
    make.TFVocabProjector: (TFPackedProjector, "kernel"),
}
"""Class of a layer -> that of one with a packed matrix, and the attribute that holds the matrix."""
_WHOLE = {kind: (plain, attribute) for plain, (kind, attribute) in _REPLACED.items()}


def can_hold(layer: Any) -> bool:
    """Return whether a layer can be packed: not one of a class derived from Keras's, which may compute otherwise."""
    return type(layer) in _REPLACED


def hold(layer: Any, packed: Packed) -> None:
    """Let a built layer have the parts of a packed matrix, which are zeros at first, in place of its own."""
    kind, attribute = _REPLACED[type(layer)]
    found = []
    with internals.open_for(layer, None):
        internals.drop_variable(layer, attribute)
        for part in packed.parts:
            dtype = arrays.native_dtype(part.packed.dtype).name  # type: ignore[union-attr]
            name = part.name.rpartition(".")[2]
            found.append(internals.untrained(layer, name, part.shape, dtype))
    layer.__class__ = kind
    vars(layer)["packed_variables"] = found  # where Keras does not look: it has them already
    vars(layer)["packed_parts"] = {variable.name: part for variable, part in zip(found, packed.parts, strict=True)}
    vars(layer)["matrix"] = px.Matrix(packed.codec, packed.rows, packed.columns)


def make_whole(layer: Any, shape: tuple[int, ...], name: str) -> None:
    """Undo `hold`: let the layer have a matrix of zeros, a variable `name` of `shape`."""
    plain, attribute = _WHOLE[type(layer)]
    with internals.open_for(layer, None):
        for variable in vars(layer).pop("packed_variables"):
            internals.untrack(layer, variable)
        del vars(layer)["packed_parts"], vars(layer)["matrix"]
        layer.__class__ = plain
        setattr(layer, attribute, layer.add_weight(shape=shape, initializer="zeros", name=name))
