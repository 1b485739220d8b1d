"""What Keras lacks for triptych: building without a call, values at load, other shapes in place, canonical names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from triptych.errors import ArgumentError
from triptych.nn import outputs
from triptych.weights import layouts
from triptych.weights.plan import Assignment, NewWeight
from triptych.weights.schema import Layout, PackedPart
from triptych_tf import arrays, internals
from triptych_tf.adapters import TFLora
from triptych_tf.make import (  # noqa: F401  # families that write their classes out find them here
    LEVEL,
    TFBlock,
    block,
    build,
    conv1d,
    dense,
    dropout,
    embedding,
    layer_norm,
    listed,
    nested,
    numbers,
    rms_norm,
    stacked,
    vector,
    vocab_head,
    vocab_projector,
    with_training,
)
from triptych_tf.packed import TFPackedLayer


def walk(layer: keras.layers.Layer) -> Iterator[tuple[tuple[str, ...], Any, keras.layers.Layer]]:
    """Yield (path, variable, owner) of every weight below `layer` but those of adapters, each at the first place where
    it is reached.

    A path is made of names, or of attributes where there are none; in `x___y` the name is y.

    Raises:
        ArgumentError: a layer holds a `tf.Variable`, which Keras neither trains nor saves.
    """
    seen: set[int] = set()

    def visit(path: tuple[str, ...], owner: Any) -> Iterator[tuple[tuple[str, ...], Any, keras.layers.Layer]]:
        for variable in internals.variables_of(owner):
            if id(variable) not in seen:
                seen.add(id(variable))
                leaf = internals.place_in(owner, variable) if internals.is_made_up(variable) else ()
                yield (*path, *internals.scopes_of(variable), *(leaf or (_name(variable, owner),))), variable, owner
        _refuse_foreign(owner)
        for part in internals.parts_of(owner):
            if id(part) not in seen and not isinstance(part, TFLora):
                seen.add(id(part))
                yield from visit((*path, *_place(owner, part)), part)

    return visit((), layer)


def models_within(model: keras.layers.Layer, kind: type) -> dict[str, Any]:
    """Return the layers of `kind` below `model`, but those within others of them, by their canonical path."""

    def visit(path: tuple[str, ...], owner: Any) -> Iterator[tuple[str, Any]]:
        for part in internals.parts_of(owner):
            below = (*path, *_place(owner, part))
            if isinstance(part, kind):
                yield ".".join(below), part
            else:
                yield from visit(below, part)

    return dict(visit((), model))


def layers_within(model: keras.layers.Layer) -> Iterator[tuple[str, keras.layers.Layer]]:
    """Yield the canonical path and the layer of every layer below `model`, each after the one that it is in."""

    def visit(path: tuple[str, ...], owner: Any) -> Iterator[tuple[str, Any]]:
        for part in internals.parts_of(owner):
            below = (*path, *_place(owner, part))
            yield ".".join(below), part
            yield from visit(below, part)

    return visit((), model)


def layout_of(variable: Any, owner: keras.layers.Layer) -> Layout | None:
    """Return the layout of a variable, where the type of its layer tells more than its name."""
    if part_of(variable, owner) is not None:
        return Layout.PARAMETER
    if isinstance(owner, keras.layers.EinsumDense) and variable is owner.kernel:
        return Layout.PARAMETER
    if isinstance(owner, (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)) and variable is owner.kernel:
        return Layout.DEPTHWISE if owner.depth_multiplier == 1 else Layout.PARAMETER
    return None


def part_of(variable: Any, owner: keras.layers.Layer) -> PackedPart | None:
    """Return what a variable is, of a packed matrix that its layer holds; None if of none."""
    return owner.part_of(variable) if isinstance(owner, TFPackedLayer) else None


def _name(variable: Any, owner: keras.layers.Layer) -> str:
    """Return the name of a variable; that of a norm without shift is called as that of one with."""
    return "gamma" if isinstance(owner, keras.layers.RMSNormalization) else str(variable.name)


def _place(owner: Any, part: Any) -> Sequence[str]:
    """Return the path of a layer below `owner`: its name's levels, or its attribute where Keras made up the name."""
    place = internals.place_in(owner, part) if internals.is_made_up(part) else ()
    return place or _levels(part.name)


def _levels(name: str) -> list[str]:
    return [level.rpartition("___")[2] for level in name.replace(LEVEL, ".").split(".")]


def _refuse_foreign(owner: keras.layers.Layer) -> None:
    foreign = [name for name, value in vars(owner).items() if _is_foreign(value)]
    if foreign:
        raise ArgumentError(
            f"{type(owner).__name__} holds variables of TensorFlow, or layers of Keras 2, which Keras 3 neither trains "
            "nor saves.",
            expected="variables and layers of Keras 3",
            received=", ".join(foreign),
            remedy="make variables with self.add_weight(name=..., shape=...), and layers of keras.layers",
        )


def _is_foreign(value: Any) -> bool:
    """Return whether a value of a layer has weights that Keras 3 does not see; layers of Keras 2 are `tf.Module`s."""
    if isinstance(value, (list, tuple)):
        return any(map(_is_foreign, value))
    return _holds_foreign_weights(value.__class__)


@cache
def _holds_foreign_weights(kind: type) -> bool:
    return issubclass(kind, (tf.Variable, tf.Module)) and not issubclass(kind, keras.layers.Layer)


def replace_value(variable: Any, owner: keras.layers.Layer, array: np.ndarray) -> None:
    """Give `variable` the value `array` (in Keras order) of another shape, and make its layer's account true again."""
    internals.set_value(variable, arrays.to_native(array))
    if isinstance(owner, keras.layers.Dense) and variable is owner.kernel:
        owner.units = array.shape[1]
        owner.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: array.shape[0]})
        internals.say_built_for(owner, (None, array.shape[0]))
    if isinstance(owner, keras.layers.Embedding):
        owner.input_dim, owner.output_dim = array.shape


def replace_layer(owner: keras.layers.Layer, attribute: str, value: keras.layers.Layer) -> None:
    """Put `value` into `owner.attribute`, under the name of the layer that was there."""
    old = getattr(owner, attribute)
    internals.name_like(value, old)
    if not value.built:
        value.build(internals.built_for(old))
    internals.put_layer(owner, attribute, value)


def follow_variables(model: keras.Model) -> None:
    """Let every layer's policy say the dtype that the variables have, so that Keras casts them where it computes."""
    held = {dtype.name for _, v, owner in walk(model) if (dtype := internals.dtype_of(v)).is_floating
            and part_of(v, owner) is None}  # fmt: skip
    if held <= {model.variable_dtype}:
        return
    for layer in internals.with_all_parts(model):
        other = sorted(held - {layer.compute_dtype}) or [layer.compute_dtype]
        layer.dtype_policy = internals.ParameterPolicy(layer.compute_dtype, other[0])


def _make_known(kind: Any) -> None:
    """Let Keras look into an output."""

    def parts(output: Any) -> tuple[Any, ...]:
        return output.to_tuple(), tuple(output), tuple(output)

    def rebuild(names: Any, values: Any) -> Any:
        return kind(zip(names, values, strict=True))

    internals.make_known(kind, parts, rebuild)


outputs.on_each_class(_make_known)
_MIXED = {"bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


class Loading:
    """A load in progress: which variable gets its value from where, once Keras lets them have values."""

    def __init__(self, variables: Mapping[tuple[str, ...], Any]) -> None:
        self.variables = variables
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

        variable = self.variables[layouts.native_path(assignment.weight, "tf")]
        internals.promise(variable, arrays.native_dtype(assignment.dtype), fill)

    def initialise(self, new: Sequence[NewWeight]) -> None:
        """Leave these variables to their own initializers, but those that the constructor has loaded."""
        for one in new:
            variable = self.variables[layouts.native_path(one.weight, "tf")]
            if not internals.has_value(variable):
                internals.promise(variable, arrays.native_dtype(one.dtype))


class Refilling:
    """A load into a model that is there: its variables keep their dtypes."""

    def __init__(self, variables: Mapping[tuple[str, ...], Any]) -> None:
        self.variables = variables

    def assign(
        self,
        assignment: Assignment,
        read: Callable[[Assignment], np.ndarray],
        done: Callable[[Assignment], None],
    ) -> None:
        """Give a variable its value now."""
        variable = self.variables[layouts.native_path(assignment.weight, "tf")]
        variable.assign(tf.cast(arrays.to_native(read(assignment)), internals.dtype_of(variable)))
        done(assignment)

    def initialise(self, new: Sequence[NewWeight]) -> None:
        """Do nothing: what the checkpoint lacks keeps its value."""


def discard(variables: Iterable[Any]) -> None:
    """Let Keras be done with variables that nobody will use."""
    for variable in variables:
        internals.promise_nothing(variable)


def parse_policy(dtype: Any) -> Any:
    """Return a dtype policy; None for Keras's default.

    Raises:
        ArgumentError: Keras knows no such policy, or it computes with other than floating numbers.
    """
    if dtype is None or isinstance(dtype, keras.dtype_policies.DTypePolicy):
        return dtype
    expected = "a dtype policy with floating numbers, such as 'float32' or 'mixed_bfloat16'"
    try:
        name = dtype.removeprefix("torch.") if isinstance(dtype, str) else keras.backend.standardize_dtype(dtype)
        policy = keras.dtype_policies.get(_MIXED.get(name, name))
    except (TypeError, ValueError) as cause:
        raise ArgumentError("dtype is no policy of Keras.", expected=expected, received=repr(dtype)[:80]) from cause
    if not keras.backend.is_float_dtype(policy.compute_dtype):
        raise ArgumentError("dtype is no floating type.", expected=expected, received=repr(dtype)[:80])
    return policy


@contextmanager
def default_policy(dtype: Any) -> Iterator[None]:
    """Make `dtype` the policy of layers that name none."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(parse_policy(dtype) or before)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
