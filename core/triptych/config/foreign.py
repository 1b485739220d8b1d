"""Configs of transformers itself, where an author passes one: taken over as configs of triptych."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any, ClassVar

from triptych.config.base import PretrainedConfig
from triptych.config.values import plain

_ROOTS = ("PretrainedConfig", "PreTrainedConfig")
_OF_THE_CLASS = ("model_type", "attribute_map", "keys_to_ignore_at_inference", "base_config_key", "is_composition",
                 "has_no_defaults_at_init")  # fmt: skip
_RENAMED = {"_output_attentions": "output_attentions", "_attn_implementation_internal": "attn_implementation"}
_MISSING = object()


def is_foreign(cls: object) -> bool:
    """Return whether `cls` is a config class of transformers, or derived from one."""
    return isinstance(cls, type) and not issubclass(cls, PretrainedConfig) and any(map(_is_root, cls.__mro__))


def _is_root(cls: type) -> bool:
    return cls.__name__ in _ROOTS and cls.__module__.partition(".")[0] == "transformers"


class TakenOver(PretrainedConfig):
    """Base of the classes that `class_of` returns: fields of a config of transformers, whose class makes them.

    What its class says of them, properties and methods, is there too, unless `PretrainedConfig` has it.
    """

    _foreign: ClassVar[Any] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._take(type(self)._foreign(*args, **kwargs))

    def _take(self, config: Any) -> None:
        fields = {_RENAMED.get(name, name): taken_over(value) for name, value in vars(config).items()}
        super().__init__(**{name: value for name, value in fields.items() if not _is_internal(name)})

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            found = _MISSING if name.startswith("__") else inspect.getattr_static(type(self)._foreign, name, _MISSING)
            if found is _MISSING:
                raise
        return found.__get__(self, type(self)) if hasattr(found, "__get__") else found

    def __reduce__(self) -> Any:
        return _restored, (type(self)._foreign, dict(self.__dict__))


def _restored(foreign: type, fields: dict[str, Any]) -> Any:
    cls = class_of(foreign)
    config = cls.__new__(cls)
    config.__dict__.update(fields)
    return config


def _is_internal(name: str) -> bool:
    return name.startswith("_") and name.endswith(("_internal", "_done"))


def class_of(foreign: Any) -> Any:
    """Return the class of configs whose fields a config class of transformers makes; a class of triptych is its own."""
    return _class_of(foreign) if is_foreign(foreign) else foreign


@cache
def _class_of(foreign: type) -> Any:
    above = next((cls for cls in foreign.__mro__[1:] if is_foreign(cls)), None)
    said = {name: getattr(foreign, name) for name in _OF_THE_CLASS if hasattr(foreign, name)}
    parts = getattr(foreign, "sub_configs", None) or {}
    namespace = {**said, "sub_configs": {name: class_of(cls) for name, cls in parts.items()}, "_foreign": foreign,
                 "__module__": foreign.__module__, "__doc__": foreign.__doc__}  # fmt: skip
    return type(foreign.__name__, (TakenOver if above is None else class_of(above),), namespace)


def taken_over(config: Any, wanted: type | None = None) -> Any:
    """Return a config of transformers as one of triptych; anything else as it is.

    Args:
        wanted: the config class of the model that is made of it; one of the same model_type takes the fields over.

    Raises:
        ConfigError: a field has a value that `wanted` refuses.
    """
    if not is_foreign(type(config)):
        return config
    own = class_of(type(config))
    wanted = PretrainedConfig if wanted is None else class_of(wanted)
    if not issubclass(own, wanted) and wanted.model_type == config.model_type:
        return wanted.from_dict(plain(config.to_dict()))
    result = own.__new__(own)
    result._take(config)
    return result
