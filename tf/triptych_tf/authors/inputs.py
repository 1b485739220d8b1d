"""How layers of transformers 4 take their inputs: packed into the first argument, by position or by name."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import keras
import numpy as np
import tensorflow as tf

from triptych.config import PretrainedConfig
from triptych.errors import ArgumentError
from triptych_tf.authors.checks import expect, expect_mapping

__all__ = [
    "TFModelInputType", "booleans_processing", "input_processing", "keras_serializable", "unpack_inputs",
]  # fmt: skip

logger = logging.getLogger("triptych")
Layer = TypeVar("Layer", bound=type)

TFModelInputType = (
    list[tf.Tensor] | list[np.ndarray] | dict[str, tf.Tensor] | dict[str, np.ndarray] | tf.Tensor | np.ndarray
)
"""What the first argument of a call may be."""
_FLAGS = {"output_attentions": False, "output_hidden_states": False, "return_dict": True, "use_cache": None}
"""Arguments that the config answers where the call does not, and what holds where the config does not either."""
_FORMER = {"inputs": "input_ids", "decoder_cached_states": "past_key_values", "past": "past_key_values"}
"""Former names of arguments."""


def keras_serializable(cls: Layer) -> Layer:
    """Let Keras save and rebuild layers of a class with `config_class`, which are made of a config.

    Raises:
        ArgumentError: `cls` has no config_class, or is no layer.
    """
    expect(isinstance(cls, type), "cls", "a class", cls)
    config_class = getattr(cls, "config_class", None)
    if config_class is None or not issubclass(cls, keras.layers.Layer):
        raise ArgumentError(
            f"{cls.__name__} cannot be made serialisable.",
            expected="a keras.layers.Layer with the class attribute config_class",
            received="no config_class" if config_class is None else "no layer",
        )
    construct = cls.__init__  # type: ignore[misc]

    @functools.wraps(construct)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        config = args[0] if args else kwargs.pop("config", None)
        if isinstance(config, Mapping):
            config = config_class.from_dict(dict(config))
        if not isinstance(config, PretrainedConfig):
            raise ArgumentError(f"{cls.__name__} is made of a config.", expected="config, an object or a dict",
                                received=type(config).__name__)  # fmt: skip
        construct(self, config, *args[1:], **kwargs)
        self.__dict__["made_of"] = (config, kwargs)  # not by setattr: Keras would track what is in it

    def get_config(self: Any) -> dict[str, Any]:
        config, kwargs = self.made_of
        stated = {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
        }
        return {**stated, **kwargs, "config": config.to_dict()}

    __init__.__signature__ = inspect.signature(construct)  # type: ignore[attr-defined]  # Keras asks for it both ways
    cls.__init__ = __init__  # type: ignore[misc]
    if "get_config" not in vars(cls):
        cls.get_config = get_config  # type: ignore[attr-defined]
    return keras.saving.register_keras_serializable()(cls)


def unpack_inputs(func: Callable[..., Any]) -> Callable[..., Any]:
    """Let `func`, the `call` of a layer with a `config`, have its inputs by name: see `input_processing`.

    The config answers the flags that are None, save in classes called EncoderDecoder: their parts have configs.

    Raises:
        ArgumentError: `func` is no function, or takes no inputs.
    """
    expect(bool(_names(func)), "func", "a call with inputs", func)

    @functools.wraps(func)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        names = _names(func)
        given = {name: value for name, value in kwargs.items() if name in names}
        more = {name: value for name, value in kwargs.items() if name not in names}
        config = None if "EncoderDecoder" in type(self).__name__ else self.config
        by_place = dict(zip(names, args, strict=False))
        return func(self, **input_processing(func, config, **{**given, **by_place}, kwargs_call=more))

    call.__signature__ = inspect.signature(func)  # type: ignore[attr-defined]
    return call


def input_processing(func: Callable[..., Any], config: Any, **kwargs: Any) -> dict[str, Any]:
    """Return every argument of `func` by name; int64 arrays become int32.

    Args:
        func: the `call` of a layer; its first argument may be a tensor, a list of the arguments in order, or a dict.
        config: answers the flags that are None (`booleans_processing`); None for none.
        kwargs: the arguments that were given; `kwargs_call` holds those that `func` does not name.

    Raises:
        ArgumentError: an argument that `func` does not have, or a value that is no input.
    """
    names, more = _names(func), kwargs.pop("kwargs_call", {})
    expect(bool(names), "func", "a call with inputs", func)
    expect_mapping("kwargs_call", more, "names and values")
    first = kwargs.pop(names[0], None)
    given = {**_packed(first, names), **kwargs, **_renamed(more, names)}
    unknown = [name for name in given if name not in names]
    if unknown and not takes_more(func):
        raise ArgumentError("This model does not have these arguments.", expected=", ".join(names),
                            received=", ".join(unknown))  # fmt: skip
    defaults = {name: inspect.signature(func).parameters[name].default for name in names}
    values = {name: _checked(name, given.get(name, default)) for name, default in defaults.items()}
    if config is not None:
        values |= booleans_processing(config, **{name: values[name] for name in _FLAGS if name in values})
    return values


def booleans_processing(config: Any, **kwargs: Any) -> dict[str, Any]:
    """Return the flags of a call (output_attentions, output_hidden_states, return_dict, use_cache), where None is
    given those of the config."""
    return {n: getattr(config, n, _FLAGS.get(n)) if value is None else value for n, value in kwargs.items()}


def _names(func: Callable[..., Any]) -> list[str]:
    expect(callable(func), "func", "a function", func)
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p.name for p in inspect.signature(func).parameters.values() if p.kind in named and p.name != "self"]


def takes_more(func: Callable[..., Any]) -> bool:
    """Return whether `func` takes any keyword."""
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in inspect.signature(func).parameters.values())


def _packed(first: Any, names: list[str]) -> dict[str, Any]:
    """Return the arguments that the first one holds."""
    if isinstance(first, Mapping):
        known = {name: value for name, value in _renamed(first, names).items() if name in names}
        left = [name for name in first if name not in known and _FORMER.get(name) not in known]
        if left:
            logger.warning("Not an argument of this model, and not used: %s", ", ".join(left))
        return known
    if not isinstance(first, (list, tuple)):
        return {names[0]: first}
    if len(first) > len(names):
        raise ArgumentError("There are more inputs than arguments.", expected=", ".join(names),
                            received=str(len(first)))  # fmt: skip
    symbolic = [isinstance(one, keras.KerasTensor) and one.name in names for one in first]
    return {one.name if named else name: one for name, one, named in zip(names, first, symbolic, strict=False)}


def _renamed(given: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    """Return `given` without former names of arguments."""
    return {_FORMER[n] if n not in names and _FORMER.get(n) in names else n: value for n, value in given.items()}


def _checked(name: str, value: Any) -> Any:
    """Return an input with indices of int32."""
    allowed = (bool, int, float, str, tuple, list, Mapping, np.ndarray, np.generic)
    if value is None or isinstance(value, allowed) or tf.is_tensor(value) or keras.ops.is_tensor(value):
        if getattr(value, "dtype", None) in (tf.int64, np.int64):
            return tf.cast(value, tf.int32) if tf.is_tensor(value) else np.asarray(value).astype(np.int32)
        return value
    if value is inspect.Parameter.empty:
        raise ArgumentError("An argument is missing.", expected=name)
    if isinstance(value, keras.KerasTensor) or hasattr(value, "to_tuple") or hasattr(value, "update"):
        return value  # of a graph, an output, a cache
    raise ArgumentError(
        f"{name} cannot be this.", expected="a tensor, an array, or several", received=type(value).__name__
    )
