"""What triptych relies on inside Keras: every private attribute and undocumented behaviour, each in a function here.

`conformance/test_internals.py` names them all, so that a release of Keras that changes one fails there.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import optree
import tensorflow as tf
from keras.src.backend.common import global_state
from keras.src.backend.common import variables as keras_variables
from keras.src.backend.common.stateless_scope import in_stateless_scope
from keras.src.losses import loss as keras_loss
from keras.src.ops import operation as keras_operation

Initializer = Callable[[Any, Any], Any]


def variables_of(layer: keras.layers.Layer) -> list[Any]:
    """Return the variables of `layer` itself, without those of the layers below."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def is_buffer(variable: Any, owner: keras.layers.Layer) -> bool:
    """Return whether `variable` of `owner` is not trained by its nature, and not because it is frozen."""
    return any(one is variable for one in owner._non_trainable_variables)


def parts_of(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Return the layers directly below `layer`, those in lists too, in the order in which they were set."""
    return list(layer._flatten_layers(include_self=False, recursive=False))


def with_all_parts(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """Yield `layer` and every layer below it."""
    yield from layer._flatten_layers()


@contextmanager
def without_values() -> Iterator[None]:
    """Build variables that have no value until the context ends, and then call their initializers.

    That is Keras's own kind of meta device: within a stateless scope a variable is only noted. A context within
    another is one of its own, so that a model which is loaded while another is built has its values at once.
    """
    outside = {name: global_state.get_global_attribute(name) for name in _OF_A_SCOPE}
    try:
        for name in _OF_A_SCOPE:
            global_state.set_global_attribute(name, None)
        with keras.StatelessScope():
            yield
    finally:
        for name, value in outside.items():
            global_state.set_global_attribute(name, value)


_OF_A_SCOPE = ("stateless_scope", "uninitialized_variables")
"""Where Keras, in each thread, keeps the scope that it is in and the variables that wait for a value."""


def dtype_of(variable: Any) -> tf.DType:
    """Return the dtype of a variable, which `variable.dtype` hides where layers are called in another."""
    return tf.as_dtype(variable._dtype)


def promise(variable: Any, dtype: tf.DType, initializer: Initializer | None = None) -> None:
    """Let a variable get a value of `dtype` when the context `without_values` ends: from `initializer(shape, dtype)`
    or else from its own. One that has a value already, since it was loaded meanwhile, loses it."""
    variable._dtype = dtype.name
    if has_value(variable):
        variable._value = None
        keras_variables.register_uninitialized_variable(variable)
    if initializer is not None:
        variable._initializer = initializer


def keep_on(variable: Any, device: str) -> None:
    """Let a variable that was promised a value get it, and keep it, on a device."""

    def initialise() -> None:
        del variable.__dict__["_deferred_initialize"]
        with tf.device(device):
            variable._deferred_initialize()

    variable.__dict__["_deferred_initialize"] = initialise


def run_on(layer: keras.layers.Layer, device: str | None) -> None:
    """Let calls of a layer run on a device; None leaves it to TensorFlow."""
    layer.__dict__["_runs_on"] = device


def has_value(variable: Any) -> bool:
    """Return whether a variable has a value, and does not wait for one."""
    return variable._value is not None


def promise_nothing(variable: Any) -> None:
    """Let a variable without a value, which nobody will use, get one of no size."""
    variable._initializer = lambda shape, dtype: tf.constant(np.zeros((), tf.as_dtype(dtype).as_numpy_dtype))


def tensor_of(value: Any) -> tf.Tensor:
    """Return a variable of Keras, or anything that TensorFlow knows, as a tensor of the dtype that it is held in."""
    return tf.convert_to_tensor(value.value if isinstance(value, keras.Variable) else value)


def set_value(variable: Any, value: tf.Tensor) -> None:
    """Give a variable a value of another shape."""
    variable._shape = tuple(value.shape)
    with tf.device(variable.value.device):
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


def drop_variable(layer: keras.layers.Layer, attribute: str) -> None:
    """Let an open layer have its variable `attribute` no more, whether it has a value or waits for one."""
    variable = getattr(layer, attribute)
    if not has_value(variable):
        promise_nothing(variable)
    untrack(layer, variable)
    vars(layer).pop(attribute, None)


def untrack(layer: keras.layers.Layer, variable: Any) -> None:
    """Let a variable be none of an open layer's."""
    layer._untrack_variable(variable)


def untrained(layer: keras.layers.Layer, name: str, shape: tuple[int, ...], dtype: str) -> Any:
    """Return a new variable of zeros of an open layer, which stays in `dtype` whatever the layer computes in."""
    return layer.add_weight(shape=shape, initializer=_zeros, dtype=dtype, trainable=False, autocast=False, name=name)


def _zeros(shape: Any, dtype: Any) -> tf.Tensor:
    return tf.cast(tf.zeros(shape, tf.uint8), dtype) if tf.as_dtype(dtype).size == 1 else tf.zeros(shape, dtype)


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


# -- what Keras does not note of its own accord -----------------------------------------------------------------------


def is_made_up(part: Any) -> bool:
    """Return whether Keras made up the name of a layer or variable: `dense_3` differs from model to model."""
    return vars(part).get("_made_up_name") is part.name  # and not ==: an equal one may have been given since


def name_like(layer: keras.layers.Layer, other: keras.layers.Layer) -> None:
    """Give `layer` the name of `other`, made up or not."""
    layer.name = other.name
    layer.__dict__["_made_up_name"] = vars(other)["_made_up_name"]


def place_in(owner: keras.layers.Layer, part: Any) -> tuple[str, ...]:
    """Return where `owner` holds a layer or variable: its attribute, and the index or key there; () if in none."""
    kept = {*_of_keras(), *(() if not isinstance(owner, keras.Sequential) else ("_functional",))}
    for name, value in vars(owner).items():
        if name == "_layers" and isinstance(owner, keras.Sequential):
            value = [layer for layer in value if not isinstance(layer, keras.layers.InputLayer)]
            name = ""
        elif name in kept or name.startswith("_self_"):  # of TensorFlow's own account of what it saves
            continue
        if (found := _place(value, part)) is not None:
            return (name, *found) if name else found
    return ()


def _place(value: Any, part: Any) -> tuple[str, ...] | None:
    if value is part:
        return ()
    items: Any = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    return next(((str(key), *found) for key, one in items if (found := _place(one, part)) is not None), None)


@functools.cache
def _of_keras() -> frozenset[str]:
    """Return the attributes in which Keras itself keeps the parts of every layer."""
    return frozenset(vars(keras.Sequential(name="any")))  # without a name it would count in those of others


def scopes_of(variable: Any) -> tuple[str, ...]:
    """Return the scopes of `tf.name_scope` in which a layer made this variable, within its own."""
    return vars(variable).get("_scopes", ())


def note_path(variable: Any, path: tuple[str, ...]) -> None:
    """Note the path of a variable in the model that holds it."""
    variable._place = path


def noted_path(variable: Any) -> tuple[str, ...]:
    """Return the path of a variable in the model that last looked for it; else in Keras, without the first level."""
    *levels, leaf = variable.path.split("/")[1:] or [variable.path]
    return vars(variable).get("_place", (*levels, *scopes_of(variable), leaf))


def awaits_variables(layer: keras.layers.Layer) -> bool:
    """Return whether a layer is yet to be built by a method that may make variables."""
    return not layer.built and type(layer).build is not keras.layers.Layer.build


def prepare() -> None:
    """Let every layer note what Keras 3 does not: which names Keras made up, and in which scopes of TensorFlow a layer
    makes its variables, which Keras 2 had in their names and so in files.

    Beyond that some things work as in Keras 2 that Keras 3 refuses: `add_weight` with its name first, with slashes in
    the name, or a number as the shape; a call with flags by position; a list of variables in the place of a tensor.

    It holds for the whole process, and changes no name, value or file of a model that Keras alone makes.
    """
    keras_operation.Operation.__init__ = _init_operation
    keras_variables.Variable.__init__ = _init_variable
    keras.layers.Layer.add_weight = _add_weight
    keras.layers.Layer.__call__ = _call
    tf.register_tensor_conversion_function((list, tuple), _stacked, priority=50)  # before that of TensorFlow, at 99


_original_init_operation, _original_init_variable = (
    keras_operation.Operation.__init__,
    keras_variables.Variable.__init__,
)
_original_add_weight, _original_call = keras.layers.Layer.add_weight, keras.layers.Layer.__call__
_NAME_OF_VARIABLE = list(inspect.signature(keras_variables.Variable).parameters).index("name")
_ARGUMENTS_OF_KERAS_2 = ("name", "shape", "dtype", "initializer", "regularizer", "trainable", "constraint")


@functools.wraps(_original_init_operation)
def _init_operation(self: Any, name: str | None = None) -> None:
    _original_init_operation(self, name)
    self.__dict__["_made_up_name"] = self.name if name is None else None  # not by setattr: Keras would track it


@functools.wraps(_original_init_variable)
def _init_variable(self: Any, *args: Any, **kwargs: Any) -> None:
    _original_init_variable(self, *args, **kwargs)
    given = kwargs.get("name") or any(args[_NAME_OF_VARIABLE : _NAME_OF_VARIABLE + 1])
    self._made_up_name = None if given else self.name


@functools.wraps(_original_add_weight)
def _add_weight(self: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
    if args and isinstance(args[0], str):
        args, kwargs = (), {**dict(zip(_ARGUMENTS_OF_KERAS_2, args, strict=False)), **kwargs}
    if isinstance(kwargs.get("shape"), int):
        kwargs["shape"] = (kwargs["shape"],)
    levels: list[str] = []
    if isinstance(kwargs.get("name"), str):
        *levels, kwargs["name"] = kwargs["name"].split("/")
    variable = _original_add_weight(self, *args, **kwargs)
    scopes = tf.get_current_name_scope().split("/")
    own = [place for place, scope in enumerate(scopes) if re.fullmatch(rf"{re.escape(self.name)}(_\d+)?", scope)]
    variable._scopes = (*(scopes[own[-1] + 1 :] if own else ()), *levels)
    return variable


@functools.wraps(_original_call)
def _call(self: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
    names = self.call_signature_parameters
    known = zip(args, names, strict=False)
    first = next((n for n, (one, name) in enumerate(known) if _is_no_input(one, n) or _is_no_mask(one, name)), None)
    if first is not None and len(args) <= len(names):
        kwargs = {**dict(zip(names[first:], args[first:], strict=False)), **kwargs}
        args = args[:first]
    device = self.__dict__.get("_runs_on")
    if device is None:
        return _original_call(self, *args, **kwargs)
    with tf.device(device):
        return _original_call(self, *args, **kwargs)


def _is_no_mask(value: Any, name: str) -> bool:
    """Return whether Keras passes another value by name beside this one by position: what its own masks say."""
    return value is None and name == "mask"


def _is_no_input(value: Any, place: int) -> bool:
    """Return whether Keras refuses a value by position: a flag, or a shape as a list of numbers."""
    if isinstance(value, (list, tuple)):
        return bool(value) and all(isinstance(one, (bool, int, float, str)) for one in value)
    return place > 0 and isinstance(value, (bool, int, float, str))


def _stacked(value: Any, dtype: Any = None, name: str | None = None, as_ref: bool = False) -> Any:
    """Return variables of Keras, such as `layer.weights`, as one tensor: TensorFlow cannot do it alone."""
    if not value or not all(isinstance(one, keras.Variable) for one in value):
        return NotImplemented
    stacked = tf.stack([tf.convert_to_tensor(one) for one in value])
    return stacked if dtype is None else tf.cast(stacked, dtype)


def training_of(layer: keras.layers.Layer) -> bool:
    """Return whether the call that `layer` is in was told to train."""
    return bool(layer._get_call_context().get_value("training"))


def is_random(layer: keras.layers.Layer) -> bool:
    """Return whether `layer` itself draws random numbers in a call."""
    return bool(layer._seed_generators)


def batches_seen(optimizer: Any) -> tf.Tensor:
    """Return how many batches of gradients an optimizer was given, also where it applies the sums of several."""
    return tf.cast(tf.convert_to_tensor(optimizer._iterations), tf.int64)


def is_stateless() -> bool:
    """Return whether variables keep no value just now: shapes are inferred, or values are given from outside."""
    return bool(in_stateless_scope())


def called_by() -> keras.layers.Layer | None:
    """Return the layer with which the call began that is going on; None if there is none."""
    context = global_state.get_global_attribute("current_call_ctx")
    return None if context is None else context.entry_layer  # type: ignore[no-any-return]


def forget_loss(model: keras.Model) -> None:
    """Let a model be compiled without the loss that it was compiled with before, which Keras would keep."""
    model.loss = model._compile_loss = None


def scaled_for_replicas(loss: tf.Tensor) -> tf.Tensor:
    """Return the part of a loss that is one replica's of a strategy; gradients of all replicas are added."""
    return keras_loss.scale_loss_for_distribution(loss)


def key_in(optimizer: Any, variable: Any) -> Any:
    """Return under which key an optimiser keeps what it knows of a variable; another once the variable has a value of
    another shape."""
    return optimizer._var_key(variable)


def slots_in(optimizer: Any, variable: Any) -> dict[str, Any]:
    """Return what an optimiser holds for a variable, by attribute: momenta, averages; {} of one that is not its own."""
    places = optimizer._trainable_variables_indices
    place = places.get(key_in(optimizer, variable))
    if place is None:
        return {}
    known = (optimizer._trainable_variables, optimizer._variables)
    lists = {name: value for name, value in vars(optimizer).items() if isinstance(value, list)}
    lists = {name: value for name, value in lists.items()
             if len(value) == len(places) and not any(value is one for one in known)}  # fmt: skip
    return {name: value[place] for name, value in lists.items() if isinstance(value[place], keras.Variable)}


AVERAGES = "_model_variables_moving_average"
"""The attribute in which an optimiser with `use_ema` keeps averages of the weights themselves."""


def rename_key(optimizer: Any, old: Any, new: Any) -> None:
    """Let an optimiser know a variable by another key, which it had under `old`: which slots are its own, whether it
    decays."""
    for value in vars(optimizer).values():
        if isinstance(value, dict) and old in value:
            value[new] = value.pop(old)
        elif isinstance(value, set) and old in value:
            value.remove(old)
            value.add(new)


def state_of(layer: keras.layers.Layer) -> list[Any]:
    """Return the variables that a call of `layer` changes: states of random numbers, running statistics."""
    found = [v for part in with_all_parts(layer) for v in part._non_trainable_variables]
    found += [generator.state for part in with_all_parts(layer) for generator in part._seed_generators]
    return list({id(variable): variable for variable in found}.values())


prepare()
