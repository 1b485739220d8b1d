"""The auto classes: which class of which backend belongs to a config."""

from __future__ import annotations

import importlib
import logging
import os
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from triptych import families
from triptych.checkpoints.held import HeldFolder
from triptych.checkpoints.holding import HeldModel, hold
from triptych.config import PretrainedConfig, config_path, hold_config, taken_over
from triptych.errors import ArgumentError, ConfigError
from triptych.formats.kinds import read_order
from triptych.hub.fetching import HubFolder, fetch_config, fetch_model, take_hub_arguments
from triptych.hub.remote_code import CodeOptions, mapped, remote_class, take_code_arguments
from triptych.modeling.base import ModelBase
from triptych.modeling.quantised import refuse_quantised
from triptych.names import AUTO_TASKS

logger = logging.getLogger("triptych")

_WHICH_FORMAT = ("use_safetensors", "from_pt", "from_tf", "from_flax")


class AutoConfig:
    """Chooses the config class by the `model_type` of a config.json."""

    def __init__(self) -> None:
        raise ArgumentError("AutoConfig is not instantiated.", remedy="use AutoConfig.from_pretrained(path)")

    @staticmethod
    def for_model(model_type: str, **kwargs: Any) -> PretrainedConfig:
        """Return a config of `model_type` with the given fields."""
        return families.family(model_type).config_class(**kwargs)

    @staticmethod
    def from_pretrained(pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> Any:
        """Read a config of any known family; see `PretrainedConfig.from_pretrained`.

        With `trust_remote_code=True` the class may be one whose code comes with the config (its `auto_map`), at the
        commit of the config or at `code_revision`; see `triptych.hub.remote_code`.

        Raises:
            ConfigError: no `model_type`, or an unknown one. MissingFileError: no config.json. RemoteCodeError: it
            needs code of its own that is not trusted or fails.
        """
        path, kwargs = pretrained_model_name_or_path, dict(kwargs)
        hub = take_hub_arguments(kwargs)
        code = take_code_arguments(kwargs, hub)
        subfolder = kwargs.get("subfolder", "")
        held = hold_config(fetch_config(path, subfolder, hub), subfolder)
        return AutoConfig._class_for(held, subfolder, code).from_pretrained(held, **kwargs)

    @staticmethod
    def _class_for(held: HeldFolder, subfolder: str, code: CodeOptions) -> type[PretrainedConfig]:
        """Return the config class of a local or fetched folder: by model_type, or its own if trusted."""
        path = held.place
        values, _ = PretrainedConfig.get_config_dict(held, subfolder=subfolder)
        model_type, auto_map = values.get("model_type"), mapped(values)
        known = isinstance(model_type, str) and model_type in families.model_types()
        if "AutoConfig" in auto_map and (code.trust or not known):
            found = remote_class(auto_map, "AutoConfig", path, subfolder, code, PretrainedConfig)
            if "_auto_class" not in vars(found):
                found.register_for_auto_class()
            return found  # type: ignore[no-any-return]
        if not isinstance(model_type, str) and (guessed := _model_type_in(path)) is not None:
            logger.warning("%s names no model_type, so it is taken for a %s, by its name", path, guessed)
            return families.family(guessed).config_class
        if not isinstance(model_type, str):
            raise ConfigError(
                f"{config_path(path, subfolder)} names no model_type.",
                expected=f"one of {families.model_types()}",
                received=repr(model_type),
                remedy="load it with the config class of its family",
            )
        return families.family(model_type).config_class

    @staticmethod
    def register(model_type: str, config: type[PretrainedConfig], exist_ok: bool = False) -> None:
        """Make `config` the class of `model_type`.

        Raises:
            ArgumentError: the class says another model_type, or the type is taken and not `exist_ok`.
        """
        families.register(model_type, families.Family(config, "", {}, lambda config, stem: None), exist_ok)  # type: ignore[arg-type,return-value]


def _model_type_in(path: Any) -> str | None:
    """Return the model_type that the last part of `path` names: older repositories have none in their config.json."""
    words = re.split(r"[^a-z0-9]+", os.path.basename(os.path.normpath(str(path))).lower())
    return next((word for word in words if word in families.model_types()), None)


def _own(config: Any) -> Any:
    """Return a config of transformers itself as one of triptych; anything else as it is."""
    known = getattr(config, "model_type", None) in families.model_types()
    return taken_over(config, families.family(config.model_type).config_class if known else None)


def _given(kwargs: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: kwargs[name] for name in names if name in kwargs}


class AutoBase:
    """Base of every auto model class; a backend sets `package` and `class_prefix`, each class its `task`."""

    package: ClassVar[str] = ""
    class_prefix: ClassVar[str] = ""
    task: ClassVar[str] = ""
    _registered: ClassVar[dict[tuple[str, type[PretrainedConfig]], type[ModelBase]]] = {}

    def __init__(self) -> None:
        name = type(self).__name__
        raise ArgumentError(f"{name} is not instantiated.", remedy=f"use {name}.from_pretrained or {name}.from_config")

    @classmethod
    def from_config(cls, config: PretrainedConfig, **kwargs: Any) -> Any:
        """Return a newly initialised model of the class that belongs to `config`.

        `trust_remote_code` and `code_revision` as in `from_pretrained`.
        """
        code = take_code_arguments(kwargs, take_hub_arguments(kwargs))
        config = _own(config)
        source = getattr(config, "name_or_path", "")
        return cls._class_or_code(config, source, "", code).from_config(config, **kwargs)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], *model_args: Any, **kwargs: Any
    ) -> Any:
        """Load the model whose class belongs to the folder's config; arguments as `ModelBase.from_pretrained`.

        With `trust_remote_code=True` the class may be one whose code comes with the checkpoint (its `auto_map`), of the
        commit of its config, or of `code_revision`; see `triptych.hub.remote_code`. It is refused or found before any
        weights are fetched.

        Raises:
            RemoteCodeError: it needs code of its own that is not trusted or fails. What `ModelBase.from_pretrained`
            raises.
        """
        path: Any = pretrained_model_name_or_path
        subfolder, hub = kwargs.get("subfolder", ""), take_hub_arguments(kwargs)
        code = take_code_arguments(kwargs, hub)
        order = read_order(cls.package.removeprefix("triptych_"), **_given(kwargs, *_WHICH_FORMAT))
        config: Any = _own(kwargs.get("config"))
        source: Any = config
        if config is None:
            path = fetch_config(path, subfolder, hub, complete=False)
            if not isinstance(path, HubFolder):  # a commit stays what it is, and its weights are not there yet
                path = hold(path, order=order, **_given(kwargs, "subfolder", "variant", "mmap"))
            source = path
        elif not isinstance(config, PretrainedConfig):
            source = kwargs["config"] = fetch_config(config, subfolder, hub)
        if not isinstance(config, PretrainedConfig):
            held = hold_config(source, subfolder)
            source = held.place
            config = AutoConfig._class_for(held, subfolder, code).from_pretrained(held, **_given(kwargs, "subfolder"))
        else:
            source, kwargs["config"] = config.name_or_path, config
        found = cls._class_or_code(config, source, subfolder, code)
        refuse_quantised(config)
        if not isinstance(path, HeldModel):
            path = fetch_model(path, subfolder, hub, kwargs.get("variant"), order, found._beside())
        return found.from_pretrained(path, *model_args, **kwargs)

    @classmethod
    def _class_or_code(cls, config: Any, source: Any, subfolder: str, code: CodeOptions) -> type[ModelBase]:
        """Return `class_for(config)`, or the class that the config's auto_map names, if there is no other or its code
        is trusted."""
        auto_map = mapped(config.__dict__) if isinstance(config, PretrainedConfig) else {}
        if cls.__name__ not in auto_map or (not code.trust and cls._known_class(config) is not None):
            return cls.class_for(config)
        base = getattr(importlib.import_module(cls.package), f"{cls.class_prefix}PreTrainedModel")
        found: type[ModelBase] = remote_class(auto_map, cls.__name__, source, subfolder, code, base)
        if "_auto_class" not in vars(found):
            found.register_for_auto_class(cls.__name__)
        return found

    @classmethod
    def _known_class(cls, config: PretrainedConfig) -> type[ModelBase] | None:
        """Return the class that is registered or built in for `config`, or None."""
        registered = AutoBase._registered.get((cls.__name__, type(config)))
        if registered is not None:
            return registered
        known = families.family(config.model_type).classes if config.model_type in families.model_types() else {}
        if cls.task not in known:
            return None
        return cls._imported(families.family(config.model_type), cls.class_prefix + known[cls.task])

    @classmethod
    def _of_family(cls, config_class: type[PretrainedConfig]) -> str | None:
        """Return the name of the class that the family of exactly this config class has for the task, or None."""
        model_type = config_class.model_type
        found = families.family(model_type) if model_type in families.model_types() else None
        if found is None or found.config_class is not config_class or cls.task not in found.classes:
            return None
        return cls.class_prefix + found.classes[cls.task]

    @classmethod
    def class_for(cls, config: PretrainedConfig) -> type[ModelBase]:
        """Return the model class for `config`.

        Raises:
            ConfigError: no class of this task is known for it, or it is not where its family says.
        """
        if not isinstance(config, PretrainedConfig):
            raise ArgumentError(
                f"{cls.__name__} needs a config.", expected="a PretrainedConfig", received=type(config).__name__
            )
        found = cls._known_class(config)
        if found is None:
            raise ConfigError(
                f"{cls.__name__} has no class for this config.",
                expected=f"a config of one of {families.model_types()} that has this head",
                received=f"{type(config).__name__} of model_type {config.model_type!r}",
                remedy=f"register one: {cls.__name__}.register(config_class, model_class)",
            )
        return found

    @classmethod
    def _imported(cls, family: families.Family, name: str) -> type[ModelBase]:
        """Return the class `name` from the module that the family says, or from the backend's package."""
        module = family.modules.get(cls.package.removeprefix("triptych_"), cls.package)
        found: type[ModelBase] | None = getattr(importlib.import_module(module), name, None)
        if found is None:
            raise ConfigError(
                f"{cls.__name__} finds no {name}.",
                expected=f"the class in {module}",
                received="a module without it",
                remedy="let Family.modules say where the family's classes are, for each framework that it has",
            )
        return found

    @classmethod
    def register(
        cls, config_class: type[PretrainedConfig], model_class: type[ModelBase], exist_ok: bool = False
    ) -> None:
        """Make `model_class` the one for `config_class`.

        Raises:
            ArgumentError: the model class is of another framework or config class, or there is one already, built in
            or registered, and not `exist_ok`.
        """
        framework = cls.package.removeprefix("triptych_")
        if not issubclass(model_class, ModelBase) or model_class.framework != framework:
            raise ArgumentError(
                f"{cls.__name__} cannot make {model_class.__name__}.",
                expected=f"a class of the framework {framework!r}",
                received=f"one of {getattr(model_class, 'framework', None)!r}",
            )
        if model_class.config_class is None or model_class.config_class.__name__ != config_class.__name__:
            raise ArgumentError(
                "The model class belongs to another config class.",
                expected=config_class.__name__,
                received=str(model_class.config_class),
            )
        key = (cls.__name__, config_class)
        taken = AutoBase._registered.get(key)
        if not exist_ok and (taken is not None or cls._of_family(config_class)):
            raise ArgumentError(
                f"{config_class.__name__} is taken.",
                expected=f"a config class without a class of {cls.__name__}",
                received=f"that of {taken.__name__ if taken else cls._of_family(config_class)}",
                remedy="pass exist_ok=True to replace it",
            )
        AutoBase._registered[key] = model_class


def make_auto_classes(package: str, class_prefix: str) -> dict[str, type[AutoBase]]:
    """Return a backend's auto classes by name."""
    return {
        class_prefix + name: type(
            class_prefix + name,
            (AutoBase,),
            {
                "__module__": f"{package}.auto",
                "__doc__": f"Chooses the {class_prefix}model class for a config" + (f" and {task}." if task else "."),
                "package": package,
                "class_prefix": class_prefix,
                "task": task,
            },
        )
        for name, task in AUTO_TASKS.items()
    }
