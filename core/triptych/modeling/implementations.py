"""Which implementation of attention a model computes with: asked for, or else the best that its class says it has.

The attributes, methods and names are those of transformers 4, for classes that were written for it: their constructors
and their calls read `config._attn_implementation`.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping
from typing import Any, ClassVar

from triptych.config import PretrainedConfig
from triptych.errors import ArgumentError, MissingBackendError
from triptych.modeling.hooks import Hooks

logger = logging.getLogger("triptych")
_FLASH = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_3"}
_FLEX = "flex_attention"
ATTENTION_ARGUMENTS = ("attn_implementation", "use_flash_attention_2")
"""The arguments of `from_pretrained` and `from_config` that say which."""


class Implementations(Hooks):
    """Part of `ModelBase`: the choice of an implementation of attention.

    A class says which it computes with; "eager", that is matrix products and a softmax, it always does. The attributes
    about caches are kept for the class's own code: triptych has one kind of cache for each framework.
    """

    config: Any
    _supports_sdpa: ClassVar[bool] = False
    _supports_flash_attn: ClassVar[bool] = False
    _supports_flash_attn_2: ClassVar[bool] = False
    _supports_flash_attn_3: ClassVar[bool] = False
    _supports_flex_attn: ClassVar[bool] = False
    _supports_attention_backend: ClassVar[bool] = False
    """Whether the class calls whatever function is registered under the implementation's name."""
    _supports_cache_class: ClassVar[bool] = False
    _supports_static_cache: ClassVar[bool] = False
    _supports_quantized_cache: ClassVar[bool] = False

    @classmethod
    def _autoset_attn_implementation(
        cls,
        config: Any,
        use_flash_attention_2: bool = False,
        torch_dtype: Any = None,
        device_map: Any = None,
        check_device_map: bool = True,
    ) -> Any:
        """Set `config._attn_implementation` to what it asks for, or else to what the class prefers; return `config`.

        The configs inside it, of models that have classes of their own, are left to these.

        Raises:
            ArgumentError: the class does not have that implementation. MissingBackendError: its package is not there.
        """
        wanted = config.__dict__.get("_attn_implementation_internal")
        if use_flash_attention_2:
            if wanted not in (None, "flash_attention_2"):
                raise ArgumentError(
                    "use_flash_attention_2=True contradicts attn_implementation.", received=repr(wanted)
                )
            wanted = "flash_attention_2"
        config._attn_implementation_internal = cls.get_correct_attn_implementation(wanted)
        config._attn_implementation_autoset = True
        return config

    @classmethod
    def get_correct_attn_implementation(cls, requested_attention: str | None, is_init_check: bool = False) -> str:
        """Return `requested_attention`, or "sdpa" or "eager" for None, whichever the class has.

        Raises:
            ArgumentError: the class does not have it. MissingBackendError: its package is not installed.
        """
        if requested_attention is None:
            return "sdpa" if cls._supports_sdpa else "eager"
        if requested_attention not in cls._implementations():
            raise ArgumentError(
                f"{cls.__name__} does not compute attention in this way.",
                expected=" or ".join(f'attn_implementation="{name}"' for name in cls._implementations()),
                received=repr(requested_attention),
                remedy="leave it out, and the best of them is taken",
            )
        package = _FLASH.get(requested_attention)
        if package is not None and importlib.util.find_spec(package) is None:
            raise MissingBackendError(
                f'attn_implementation="{requested_attention}" needs a package that is not installed.',
                expected=package,
                remedy='install it, or pass attn_implementation="sdpa"',
            )
        return requested_attention

    @classmethod
    def _implementations(cls) -> list[str]:
        """Return the names of what the class says it has."""
        found = ["eager"]
        found += ["sdpa"] if cls._supports_sdpa else []
        flash = cls._supports_flash_attn or cls._supports_flash_attn_2
        found += ["flash_attention_2"] if flash else []
        found += ["flash_attention_3"] if cls._supports_flash_attn or cls._supports_flash_attn_3 else []
        found += [_FLEX] if cls._supports_flex_attn else []
        named = ("sdpa", _FLEX, *_FLASH)
        if cls._supports_attention_backend or getattr(cls, "declared_part", None) is None:
            found += [name for name in cls._registered_attention() if name not in named]
        return found

    @classmethod
    def _registered_attention(cls) -> Collection[str]:
        """Return the names of functions of attention that are registered in this framework."""
        return ()

    @classmethod
    def _ask_for_attention(cls, config: PretrainedConfig, arguments: dict[str, Any]) -> None:
        """Take `ATTENTION_ARGUMENTS` out of `arguments`, and let `config` ask for the implementation that they name."""
        wanted, flash = (arguments.pop(name, None) for name in ATTENTION_ARGUMENTS)
        if wanted is not None:
            config._attn_implementation = wanted
        if wanted is not None or flash:
            cls._autoset_attn_implementation(config, bool(flash))

    def set_attn_implementation(self, attn_implementation: str | Mapping[str, str]) -> None:
        """Compute attention in another way from the next call on.

        Args:
            attn_implementation: one name for the model and the models inside it, or a dict from keys of
                `config.sub_configs` to names, with the key "" for the model itself.

        Raises:
            ArgumentError, MissingBackendError: as `get_correct_attn_implementation`; nothing is changed.
        """
        given = attn_implementation if isinstance(attn_implementation, Mapping) else None
        parts = {"", *(getattr(self.config, "sub_configs", None) or {})}
        if given is not None and not given.keys() <= parts:
            raise ArgumentError(
                "attn_implementation names configs that the model's does not hold.",
                expected=" or ".join(map(repr, sorted(parts))),
                received=", ".join(repr(key) for key in given if key not in parts),
            )
        inside = (m for m in self._modules_inside() if m is not self and isinstance(m, Implementations))
        models = [self, *inside]
        keys = {id(getattr(self.config, key, None)): key for key in getattr(self.config, "sub_configs", None) or {}}
        chosen = []
        for model in models:
            key = keys.get(id(model.config), "" if model.config is self.config else None)
            name: Any = attn_implementation
            if given is not None:
                name = None if key is None else given.get(key)
            if name is not None:
                chosen.append((model, model.get_correct_attn_implementation(name)))
        for model, name in chosen:
            if not (model._supports_attention_backend or getattr(model, "declared_part", None)):
                logger.warning(
                    "%s may have chosen its attention in its constructor, and keep it.", type(model).__name__
                )
            model.config._attn_implementation_internal = name


class AttentionInterface(MutableMapping[str, Callable[..., Any]]):
    """Functions of attention by the names of implementations: those registered for all, and an instance's own."""

    _global_mapping: ClassVar[dict[str, Callable[..., Any]]] = {}

    def __init__(self) -> None:
        self._local_mapping: dict[str, Callable[..., Any]] = {}

    @classmethod
    def register(cls, key: str, value: Callable[..., Any]) -> None:
        """Let every instance, and `attn_implementation`, know `value` under the name `key`."""
        cls._global_mapping[key] = value

    def valid_keys(self) -> list[str]:
        """Return the names."""
        return list(self)

    def __getitem__(self, key: str) -> Callable[..., Any]:
        return self._local_mapping[key] if key in self._local_mapping else self._global_mapping[key]

    def __setitem__(self, key: str, value: Callable[..., Any]) -> None:
        self._local_mapping[key] = value

    def __delitem__(self, key: str) -> None:
        del self._local_mapping[key]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._global_mapping, **self._local_mapping})

    def __len__(self) -> int:
        return len({**self._global_mapping, **self._local_mapping})
