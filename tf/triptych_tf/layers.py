"""What Keras layers lack for triptych: building without a call, canonical names, other shapes and dtypes in place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import optree
import tensorflow as tf

from triptych import outputs
from triptych_tf import arrays

LEVEL = "_._"
"""Stands in a layer's name for one more level: `layer_._0` is the part `layer.0` of a canonical name."""


class TFBlock(keras.layers.Layer):
    """A layer made of layers, built from the widths that these carry."""

    def build(self, input_shape: Any = None) -> None:
        build_parts(self)


def build_parts(layer: keras.layers.Layer) -> None:
    """Build the layers directly below `layer`, without calling them, under its dtype policy."""
    for part in layer._flatten_layers(include_self=False, recursive=False):
        part.dtype_policy = layer.dtype_policy
        if not part.built:
            part.build((None, getattr(part, "input_width", None)))


def sized(layer: keras.layers.Layer, width: int) -> keras.layers.Layer:
    """Return `layer`, noting the width of its input for `build_parts`."""
    layer.input_width = width
    return layer


def dense(width: int, units: int, std: float, name: str) -> keras.layers.Layer:
    """Return a projection from `width` to `units`, initialised normally."""
    normal = keras.initializers.RandomNormal(stddev=std)
    return sized(keras.layers.Dense(units, kernel_initializer=normal, name=name), width)


def embedding(rows: int, width: int, std: float, name: str) -> keras.layers.Layer:
    """Return a table of `rows` vectors, initialised normally."""
    normal = keras.initializers.RandomNormal(stddev=std)
    return keras.layers.Embedding(rows, width, embeddings_initializer=normal, name=name)


def layer_norm(width: int, epsilon: float) -> keras.layers.Layer:
    """Return a layer norm over the last axis, under the name that all families give it."""
    return sized(keras.layers.LayerNormalization(epsilon=epsilon, name="LayerNorm"), width)


def walk(layer: keras.layers.Layer) -> Iterator[tuple[tuple[str, ...], Any, keras.layers.Layer]]:
    """Yield (path, variable, owner) of every weight below `layer`, each at the first place where it is reached."""
    seen: set[int] = set()

    def visit(path: tuple[str, ...], owner: Any) -> Iterator[tuple[tuple[str, ...], Any, keras.layers.Layer]]:
        for variable in (*owner._trainable_variables, *owner._non_trainable_variables):
            if id(variable) not in seen:
                seen.add(id(variable))
                yield (*path, variable.name), variable, owner
        for part in owner._flatten_layers(include_self=False, recursive=False):
            if id(part) not in seen:
                seen.add(id(part))
                yield from visit((*path, *part.name.split(LEVEL)), part)

    return visit((), layer)


def replace_value(variable: Any, owner: keras.layers.Layer, array: np.ndarray) -> None:
    """Give `variable` the value `array` (in Keras order) of another shape, and make its layer's account true again."""
    variable._shape = tuple(array.shape)
    variable._initialize(arrays.to_native(array))
    if isinstance(owner, keras.layers.Dense) and variable is owner.kernel:
        owner.units = array.shape[1]
        owner.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: array.shape[0]})
        owner._build_shapes_dict = {"input_shape": (None, array.shape[0])}
    if isinstance(owner, keras.layers.Embedding):
        owner.input_dim, owner.output_dim = array.shape


def replace_layer(owner: keras.layers.Layer, attribute: str, value: keras.layers.Layer) -> None:
    """Put `value` into `owner.attribute`, under the name of the layer that was there."""
    old = getattr(owner, attribute)
    value.name = old.name
    if not value.built:
        value.build(old._build_shapes_dict["input_shape"])
    owner._tracker.unlock()
    owner._tracker.untrack(old)
    setattr(owner, attribute, value)
    owner._tracker.lock()


class ParameterPolicy(keras.dtype_policies.DTypePolicy):
    """Computes in one dtype and holds the parameters in another, whichever a checkpoint brought."""

    def __init__(self, name: str, parameters: str) -> None:
        super().__init__(name)
        self._variable_dtype = parameters

    def get_config(self) -> dict[str, str]:
        return {"name": self.compute_dtype, "parameters": self.variable_dtype}


def follow_variables(model: keras.Model) -> None:
    """Let every layer's policy say the dtype that the variables have, so that Keras casts them where it computes."""
    held = {v._dtype for _, v, _ in walk(model) if tf.as_dtype(v._dtype).is_floating}
    if held <= {model.variable_dtype}:
        return
    for layer in model._flatten_layers():
        other = sorted(held - {layer.compute_dtype}) or [layer.compute_dtype]
        layer.dtype_policy = ParameterPolicy(layer.compute_dtype, other[0])


for _output in outputs.OUTPUTS:  # else Keras takes an output for one opaque object
    optree.register_pytree_node(
        _output,
        lambda output: (output.to_tuple(), tuple(output), tuple(output)),  # type: ignore[attr-defined]
        lambda names, values, cls=_output: cls(zip(names, values, strict=True)),  # type: ignore[misc]
        namespace="keras",
    )
