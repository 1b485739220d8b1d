"""The layers of which declarations make models, and the layers of Keras that are made of declared parts.

Widths are `triptych.weights.schema.Axis` objects, or numbers.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterable
from typing import Any

import keras

from triptych.errors import ArgumentError
from triptych.nn import functional as fn
from triptych.nn import seeding
from triptych.nn.parts import Binder, Model, constructed
from triptych_tf import internals, ops

LEVEL = "_._"
"""Stands in a layer's name for one more level: `layer_._0` is the part `layer.0` of a canonical name."""


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
        # Minus the negative: XLA's sum of a product and a vector is computed by one thread on a CPU.
        return keras.ops.matmul(x, self.weight) - keras.ops.negative(self.bias)


class TFRMSNorm(keras.layers.Layer):
    """See `triptych.nn.functional.rms_norm`."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__(autocast=False)
        self.width, self.epsilon = width, epsilon

    def build(self, input_shape: Any) -> None:
        self.gamma = self.add_weight(shape=(self.width,), initializer="ones", name="gamma")

    def call(self, x: Any) -> Any:
        return fn.rms_norm(ops, x, keras.ops.convert_to_tensor(self.gamma), self.epsilon, self.compute_dtype)


class TFDropout(keras.layers.Dropout):
    """Keras's dropout, unless the model was told to draw by a seed: see `triptych.modeling.seeding`."""

    stream: Any = None
    place: int = 0

    def call(self, inputs: Any, training: bool = False) -> Any:
        if self.stream is None or not training or not self.rate:
            return super().call(inputs, training=training)
        return self._dropped(inputs, 0)

    def again(self, inputs: Any) -> Any:
        """See `triptych.nn.seeding.again`."""
        if self.stream is None or not self.rate or not internals.training_of(self):
            return self(inputs)
        return self._dropped(inputs, 1)

    def _dropped(self, inputs: Any, use: int) -> Any:
        self.stream.check(ops)
        return seeding.dropped(ops, inputs, self.rate, self.stream, self.place, use)


_OF_A_LAYER = ("name", "dtype", "trainable")
_OF_KERAS = frozenset(dir(keras.layers.Layer(name="any")))  # without a name it would count in those of others


class TFBlock(keras.layers.Layer):
    """A part of a built-in model. Subclasses declare their layers in `setup`; `fields` become attributes.

    It is made of a config and the number of its layer; the class's `arguments` say in which order it takes what. The
    layers are built from the widths that they carry, without a call, and named after their attributes.
    """

    ops = ops
    make: Any = sys.modules[__name__]
    takes_wide: bool = False
    output: Any = None  # for BERT's layer of that name: Keras's property of it belongs to graphs

    def __init__(self, *args: Any, **fields: Any) -> None:
        named = {name: fields.pop(name) for name in _OF_A_LAYER if name in fields}
        super().__init__(**named, autocast=not self.takes_wide)
        self.config, self.index, fields = constructed(type(self), args, fields)
        for name, value in fields.items():
            setattr(self, name, value)
        self.setup()

    def setup(self) -> None:
        """Declare the layers."""

    def build(self, input_shape: Any = None) -> None:
        build_parts(self)

    @property
    def parts_called_like_attributes_of_keras(self) -> list[Any]:
        """The layers that Keras does not save under their names, such as `output`, since it has such attributes."""
        return [part for name, part in vars(self).items() if name in _OF_KERAS and isinstance(part, keras.layers.Layer)]


binder = Binder("tf", TFBlock, "call", keeps_layers=True)


def declare(cls: type, part: type[Model]) -> None:
    """Make `cls`, a subclass of `TFPreTrainedModel`, the public class of `part`."""
    binder.declare(cls, part, takes_more=True, wrap=with_training, build=build, ops=ops, make=sys.modules[__name__])


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
    for part in internals.parts_of(layer):
        part.dtype_policy = _policy_of(part, layer.dtype_policy)
        if not part.built:
            part.build((None, getattr(part, "input_width", None)))


def _policy_of(part: Any, policy: Any) -> Any:
    """Return the policy of a part of a layer of `policy`: a wide one computes in float32 where others do in float16."""
    if getattr(part, "is_wide", False) and policy.compute_dtype == "float16":
        return internals.ParameterPolicy("float32", policy.variable_dtype)
    return policy


def _part(layer: Any, width: Any = None) -> Any:
    """Return `layer`, to be named after its attribute and built for inputs of `width`."""
    layer.input_width, layer.named_by_attribute = None if width is None else int(width), True
    return layer


def _normal(owner: Any, std: float | None) -> Any:
    return keras.initializers.RandomNormal(stddev=owner.config.initializer_range if std is None else std)


def dense(owner: Any, width: Any, units: Any, bias: bool = True, std: float | None = None, wide: bool = False) -> Any:
    """Return a projection from `width` to `units`.

    `wide`: in a model of float16 it is computed in float32, and its result stays so.
    """
    layer = keras.layers.Dense(int(units), use_bias=bias, kernel_initializer=_normal(owner, std))
    layer.is_wide = wide
    return _part(layer, width)


def conv1d(owner: Any, width: Any, units: Any, std: float | None = None) -> Any:
    """Return GPT-2's projection from `width` to `units`."""
    return _part(TFConv1D(int(units), _normal(owner, std)), width)


def embedding(
    owner: Any, rows: Any, width: Any, std: float | None = None, padding: int | None = None, aliases: Iterable[str] = ()
) -> Any:
    """Return a table of `rows` vectors; Keras has no `padding`: `triptych.nn.functional.embedded` sees to its gradient.

    `aliases` are other names under which files hold the table.
    """
    return _part(keras.layers.Embedding(int(rows), int(width), embeddings_initializer=_normal(owner, std)))


def layer_norm(owner: Any, width: Any, epsilon: float, affine: bool = True) -> Any:
    """Return a layer norm over the last axis, with a scale and a shift if `affine`."""
    return _part(keras.layers.LayerNormalization(epsilon=epsilon, center=affine, scale=affine), width)


def rms_norm(owner: Any, width: Any, epsilon: float) -> Any:
    """Return a norm without shift over the last axis."""
    return _part(TFRMSNorm(int(width), epsilon), width)


def dropout(owner: Any, rate: float) -> Any:
    """Return a layer that drops values while training."""
    layer = TFDropout(rate)
    layer.autocast = False  # it has no dtype of its own
    return _part(layer)


def vector(owner: Any, name: str, length: Any) -> Any:
    """Return a parameter `name` of zeros."""
    return owner.add_weight(shape=(int(length),), initializer="zeros", name=name)


def numbers(owner: Any, name: str, count: int) -> Any:
    """Return None: Keras has no need of buffers that are in no file."""
    return None


def vocab_head(owner: Any, width: Any, units: Any, bias: str | None = None, std: float | None = None) -> Any:
    """Return the projection to the vocabulary; None if it is tied, and computed with the embeddings' matrix.

    `bias` names the owner's vector that is its bias while it is tied.
    """
    return None if owner.config.tie_word_embeddings else dense(owner, width, units, bool(bias), std)


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


def vocab_projector(owner: Any, width: Any, units: Any) -> Any:
    """Return a projection to the vocabulary with a bias of its own."""
    return block(owner, TFVocabProjector, width=int(width), units=int(units))


def block(owner: Any, kind: type, **fields: Any) -> Any:
    """Return a layer of the owner's config: of a part, or of a class of Keras like it."""
    cls: Any = binder.class_of(kind)
    if issubclass(cls, keras.Model):
        fields["dtype"] = owner.dtype_policy
    return _part(cls(config=owner.config, **fields) if issubclass(cls, TFBlock) else cls(owner.config, **fields))


def nested(owner: Any, member: Any, made: Any = None) -> Any:
    """Return the model `made`, or one of a config of its own: of `member`, a `triptych.families.Member`."""
    model = binder.class_of(member.part)(member.config, dtype=owner.dtype_policy) if made is None else made
    return _part(model)


def prune_attention(owner: Any, inner: Iterable[Any], outer: Any, heads: Iterable[int]) -> int:
    """Refuse to prune one attention.

    Raises:
        ArgumentError: always.
    """
    raise ArgumentError(
        "An attention alone cannot be pruned in Keras.",
        expected="its model",
        received=type(owner).__name__,
        remedy="call model.prune_heads, with the numbers of layers and heads",
    )


def stacked(owner: Any, kind: type, count: int, **fields: Any) -> Any:
    """Return `count` blocks of one kind, numbered by `index`."""
    return [block(owner, kind, index=index, **fields) for index in range(count)]


def listed(owner: Any, kinds: Iterable[type], **fields: Any) -> Any:
    """Return a list of blocks of several kinds."""
    return [block(owner, kind, **fields) for kind in kinds]
