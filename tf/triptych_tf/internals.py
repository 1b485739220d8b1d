"""What triptych relies on inside Keras: every private attribute and undocumented behaviour, each in a function here.

`conformance/test_internals.py` names them all, so that a release of Keras that changes one fails there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import keras
import optree
import tensorflow as tf
from keras.src.backend.common.stateless_scope import in_stateless_scope

Initializer = Callable[[Any, Any], Any]


def variables_of(layer: keras.layers.Layer) -> list[Any]:
    """Return the variables of `layer` itself, without those of the layers below."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def parts_of(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Return the layers directly below `layer`, those in lists too, in the order in which they were set."""
    return list(layer._flatten_layers(include_self=False, recursive=False))


def with_all_parts(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """Yield `layer` and every layer below it."""
    yield from layer._flatten_layers()


def without_values() -> AbstractContextManager[Any]:
    """Build variables that have no value until the context ends, and then call their initializers.

    That is Keras's own kind of meta device: within a stateless scope a variable is only noted.
    """
    return keras.StatelessScope()


def dtype_of(variable: Any) -> tf.DType:
    """Return the dtype of a variable, which `variable.dtype` hides where layers are called in another."""
    return tf.as_dtype(variable._dtype)


def promise(variable: Any, dtype: tf.DType, initializer: Initializer | None = None) -> None:
    """Let a variable without a value get one of `dtype`, from `initializer(shape, dtype)` or else from its own."""
    variable._dtype = dtype.name
    if initializer is not None:
        variable._initializer = initializer


def promise_nothing(variable: Any) -> None:
    """Let a variable without a value, which nobody will use, get one of no size."""
    variable._initializer = lambda shape, dtype: tf.zeros((), dtype)


def set_value(variable: Any, value: tf.Tensor) -> None:
    """Give a variable a value of another shape."""
    variable._shape = tuple(value.shape)
    variable._initialize(value)


def built_for(layer: keras.layers.Layer) -> Any:
    """Return the shape of the inputs for which `layer` was built."""
    return layer._build_shapes_dict["input_shape"]


def say_built_for(layer: keras.layers.Layer, shape: tuple[int | None, ...]) -> None:
    """Let a saved model of Keras say that `layer` was built for inputs of `shape`."""
    layer._build_shapes_dict = {"input_shape": shape}


@contextmanager
def open_for(owner: keras.layers.Layer, replaced: Any) -> Iterator[None]:
    """Let a layer be added to `owner` in this context although it is built, and `replaced` be a layer of it no more."""
    owner._tracker.unlock()
    try:
        if isinstance(replaced, keras.layers.Layer):
            owner._tracker.untrack(replaced)
        yield
    finally:
        owner._tracker.lock()


def put_layer(owner: keras.layers.Layer, attribute: str, layer: keras.layers.Layer) -> None:
    """Put `layer` into an attribute of `owner`, a built layer, of which Keras would else let no layer be added."""
    with open_for(owner, getattr(owner, attribute)):
        setattr(owner, attribute, layer)


class ParameterPolicy(keras.dtype_policies.DTypePolicy):
    """Computes in one dtype and holds the parameters in another, whichever a checkpoint brought."""

    def __init__(self, name: str, parameters: str) -> None:
        super().__init__(name)
        self._variable_dtype = parameters

    def get_config(self) -> dict[str, str]:
        return {"name": self.compute_dtype, "parameters": self.variable_dtype}


def make_known(kind: type, parts: Callable[[Any], Any], rebuild: Callable[[Any, Any], Any]) -> None:
    """Let Keras look into objects of `kind`, which it would else take for one opaque output."""
    optree.register_pytree_node(kind, parts, rebuild, namespace="keras")


def training_of(layer: keras.layers.Layer) -> bool:
    """Return whether the call that `layer` is in was told to train."""
    return bool(layer._get_call_context().get_value("training"))


def is_stateless() -> bool:
    """Return whether variables keep no value just now: shapes are inferred, or values are given from outside."""
    return bool(in_stateless_scope())


def state_of(layer: keras.layers.Layer) -> list[Any]:
    """Return the variables that a call of `layer` changes: states of random numbers, running statistics."""
    found = [v for part in with_all_parts(layer) for v in part._non_trainable_variables]
    found += [generator.state for part in with_all_parts(layer) for generator in part._seed_generators]
    return list({id(variable): variable for variable in found}.values())
