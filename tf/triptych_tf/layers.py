"""What Keras lacks for triptych: building without a call, values at load, other shapes in place, canonical names."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import optree
import tensorflow as tf

from triptych.config import PretrainedConfig
from triptych.errors import ArgumentError
from triptych.modeling.base import ModelBase, refuse_undeclared
from triptych.nn import functional as fn
from triptych.nn import outputs
from triptych.weights import layouts
from triptych.weights.plan import Assignment
from triptych.weights.schema import Weight
from triptych_tf import arrays, ops

LEVEL = "_._"
"""Stands in a layer's name for one more level: `layer_._0` is the part `layer.0` of a canonical name."""


class TFBlock(keras.layers.Layer):
    """A part of a built-in model. Subclasses declare their layers in `setup`; `fields` become attributes.

    The layers are built from the widths that they carry, without a call, and named after their attributes.
    """

    ops = ops
    output: Any = None  # for BERT's layer of that name: Keras's property of it belongs to graphs

    def __init__(self, config: PretrainedConfig, index: int = 0, **fields: Any) -> None:
        super().__init__()
        self.config, self.index = config, index
        for name, value in fields.items():
            setattr(self, name, value)
        self.setup()

    def setup(self) -> None:
        """Declare the layers."""

    def build(self, input_shape: Any = None) -> None:
        build_parts(self)


def build(model: Any, input_shape: Any = None) -> None:
    """Build a built-in model: its `build` method."""
    build_parts(model)


def with_training(function: Callable[..., Any]) -> Any:
    """Return `function` as the `call` of a model: with Keras's argument `training`, which its layers are told of."""

    @functools.wraps(function)
    def call(self: Any, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        return function(self, *args, **kwargs)

    signature = inspect.signature(function)
    training = inspect.Parameter("training", inspect.Parameter.KEYWORD_ONLY, default=None, annotation="bool | None")
    call.__signature__ = signature.replace(parameters=[*signature.parameters.values(), training])  # type: ignore[attr-defined]
    call.__name__ = "call"
    return call


def build_parts(layer: keras.layers.Layer) -> None:
    """Build the layers directly below `layer`, without calling them, under its dtype policy."""
    names = getattr(layer, "part_names", {})
    for attribute, value in vars(layer).items():
        several, attribute = isinstance(value, (list, tuple)), names.get(attribute, attribute)
        for number, part in enumerate(value if several else [value]):
            if getattr(part, "named_by_attribute", False) and not attribute.startswith("_"):
                part.name = f"{attribute}{LEVEL}{number}" if several else attribute
    for part in layer._flatten_layers(include_self=False, recursive=False):
        part.dtype_policy = layer.dtype_policy
        if not part.built:
            part.build((None, getattr(part, "input_width", None)))


def _part(layer: Any, width: int | None = None) -> Any:
    """Return `layer`, to be named after its attribute and built for inputs of `width`."""
    layer.input_width, layer.named_by_attribute = width, True
    return layer


def _normal(owner: Any, std: float | None) -> Any:
    return keras.initializers.RandomNormal(stddev=owner.config.initializer_range if std is None else std)


class TFConv1D(keras.layers.Layer):
    """GPT-2's projection, whose weight is stored as [in, out]."""

    def __init__(self, units: int, initializer: Any) -> None:
        super().__init__()
        self.units, self.initializer = units, initializer

    def build(self, input_shape: Any) -> None:
        shape = (input_shape[-1], self.units)
        self.weight = self.add_weight(shape=shape, initializer=self.initializer, name="weight")
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")

    def call(self, x: Any) -> Any:
        return keras.ops.matmul(x, self.weight) + self.bias


class TFRMSNorm(keras.layers.Layer):
    """See `triptych.nn.functional.rms_norm`."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.width, self.epsilon = width, epsilon

    def build(self, input_shape: Any) -> None:
        self.gamma = self.add_weight(shape=(self.width,), initializer="ones", name="gamma")

    def call(self, x: Any) -> Any:
        return fn.rms_norm(ops, x, keras.ops.convert_to_tensor(self.gamma), self.epsilon)


def dense(owner: Any, width: int, units: int, bias: bool = True, std: float | None = None) -> Any:
    """Return a projection from `width` to `units`."""
    return _part(keras.layers.Dense(units, use_bias=bias, kernel_initializer=_normal(owner, std)), width)


def conv1d(owner: Any, width: int, units: int, std: float | None = None) -> Any:
    """Return GPT-2's projection from `width` to `units`."""
    return _part(TFConv1D(units, _normal(owner, std)), width)


def embedding(owner: Any, rows: int, width: int, std: float | None = None, padding: int | None = None) -> Any:
    """Return a table of `rows` vectors; Keras has no `padding`."""
    return _part(keras.layers.Embedding(rows, width, embeddings_initializer=_normal(owner, std)))


def layer_norm(owner: Any, width: int, epsilon: float) -> Any:
    """Return a layer norm over the last axis."""
    return _part(keras.layers.LayerNormalization(epsilon=epsilon), width)


def rms_norm(owner: Any, width: int, epsilon: float) -> Any:
    """Return a norm without shift over the last axis."""
    return _part(TFRMSNorm(width, epsilon), width)


def dropout(owner: Any, rate: float) -> Any:
    """Return a layer that drops values while training."""
    return _part(keras.layers.Dropout(rate))


def vector(owner: Any, name: str, length: int) -> Any:
    """Return a parameter `name` of zeros."""
    return owner.add_weight(shape=(length,), initializer="zeros", name=name)


def vocab_head(owner: Any, width: int, units: int, bias: bool = False, std: float | None = None) -> Any:
    """Return the projection to the vocabulary; None if it is tied, and computed with the embeddings' matrix."""
    return None if owner.config.tie_word_embeddings else dense(owner, width, units, bias, std)


class TFVocabProjector(TFBlock):
    """A projection to the vocabulary with a bias, called with the embeddings, whose matrix it uses if it is tied."""

    width: int
    units: int

    def setup(self) -> None:
        self.bias = vector(self, "bias", self.units)
        if not self.config.tie_word_embeddings:
            shape = (self.width, self.units)
            self.kernel = self.add_weight(shape=shape, initializer=_normal(self, None), name="kernel")

    def call(self, hidden: Any, embeddings: Any) -> Any:
        if self.config.tie_word_embeddings:
            return fn.scores_of_vocabulary(ops, None, embeddings, hidden) + self.bias
        return keras.ops.matmul(hidden, self.kernel) + self.bias


def vocab_projector(owner: Any, width: int, units: int) -> Any:
    """Return a projection to the vocabulary with a bias of its own."""
    return block(owner, TFVocabProjector, width=width, units=units)


def block(owner: Any, cls: Any, **fields: Any) -> Any:
    """Return a block of the owner's config; a backbone may be one too."""
    if issubclass(cls, keras.Model):
        fields["dtype"] = owner.dtype_policy
    return _part(cls(owner.config, **fields))


def stacked(owner: Any, cls: Any, count: int, **fields: Any) -> Any:
    """Return `count` blocks of one class, numbered by `index`."""
    return [_part(cls(owner.config, index=index, **fields)) for index in range(count)]


def listed(owner: Any, classes: Any, **fields: Any) -> Any:
    """Return a list of blocks of several classes."""
    return [_part(cls(owner.config, **fields)) for cls in classes]


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


def _make_known(kind: Any) -> None:
    """Let Keras look into an output, which it would else take for one opaque object."""

    def parts(output: Any) -> tuple[Any, ...]:
        return output.to_tuple(), tuple(output), tuple(output)

    def rebuild(names: Any, values: Any) -> Any:
        return kind(zip(names, values, strict=True))

    optree.register_pytree_node(kind, parts, rebuild, namespace="keras")


outputs.on_each_class(_make_known)
_MIXED = {"bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


class Loading:
    """A load in progress: which variable gets its value from where, once Keras lets them have values."""

    def __init__(self, weights: Mapping[tuple[str, ...], Any], cls: type[ModelBase]) -> None:
        self.weights, self.cls = weights, cls
        self.planned: set[tuple[str, ...]] = set()
        self.dtypes: set[str] = set()
        self.error: BaseException | None = None

    def assign(
        self,
        assignment: Assignment,
        read: Callable[[Assignment], np.ndarray],
        done: Callable[[Assignment], None],
    ) -> None:
        """Let a variable take its dtype and value from the checkpoint, and call `done` when it does."""

        def fill(shape: Any, dtype: Any) -> Any:
            # An error must not reach Keras: it would leave its list of waiting variables half done.
            try:
                if self.error is None:
                    tensor = arrays.to_native(read(assignment))
                    done(assignment)
                    return tensor
            except BaseException as error:
                self.error = error
            return tf.zeros((), dtype)

        variable = self._take(assignment.weight)
        variable._dtype = arrays.native_dtype(assignment.dtype).name
        variable._initializer = fill
        if tf.as_dtype(variable._dtype).is_floating:
            self.dtypes.add(variable._dtype)

    def initialise(self, weights: Sequence[Weight]) -> None:
        """Leave these variables to their own initializers, in the dtype that all others have."""
        dtype = next(iter(self.dtypes)) if len(self.dtypes) == 1 else "float32"
        for weight in weights:
            self._take(weight)._dtype = dtype

    def refuse_unassigned(self) -> None:
        """Raise unless the plan named every variable."""
        refuse_undeclared((".".join(path) for path in self.weights if path not in self.planned), self.cls)

    def _take(self, weight: Weight) -> Any:
        path = layouts.native_path(weight, "tf")
        if path not in self.weights:
            raise ArgumentError(
                f"{self.cls.__name__} has no variable for a weight of its schema.", received=weight.name
            )
        self.planned.add(path)
        return self.weights[path]


def discard(weights: Mapping[tuple[str, ...], Any]) -> None:
    """Let Keras give the variables, which nobody will use, values of no size."""
    for variable in weights.values():
        variable._initializer = lambda shape, dtype: tf.zeros((), dtype)


def parse_policy(dtype: Any) -> Any:
    """Return a dtype policy; None for Keras's default.

    Raises:
        ArgumentError: Keras knows no such policy.
    """
    if dtype is None or isinstance(dtype, keras.dtype_policies.DTypePolicy):
        return dtype
    try:
        name = keras.backend.standardize_dtype(dtype) if not isinstance(dtype, str) else dtype
        return keras.dtype_policies.get(_MIXED.get(name, name))
    except (TypeError, ValueError) as cause:
        expected = "a dtype policy, such as 'float32' or 'mixed_bfloat16'"
        raise ArgumentError("dtype is no policy of Keras.", expected=expected, received=repr(dtype)) from cause


@contextmanager
def default_policy(dtype: Any) -> Iterator[None]:
    """Make `dtype` the policy of layers that name none."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(parse_policy(dtype) or before)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
