"""The auto classes: which class of which backend belongs to a config."""

from __future__ import annotations

import importlib
import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from triptych import families
from triptych.checkpoints.held import HeldFolder
from triptych.checkpoints.holding import HeldModel, held_gguf, hold, watching
from triptych.checkpoints.verifying import Wanted, read_beside, refuse_adapter, refuse_gguf, take_wanted
from triptych.config import PretrainedConfig, config_path, hold_config, taken_over
from triptych.errors import ArgumentError, ConfigError
from triptych.formats.kinds import Format, read_order
from triptych.hub.fetching import HubFolder, fetch_config, fetch_model, take_hub_arguments
from triptych.hub.remote_code import CodeOptions, mapped, remote_class, take_code_arguments
from triptych.modeling.adapter_arguments import AdapterArguments
from triptych.modeling.base import ModelBase
from triptych.modeling.packing import gguf_of
from triptych.modeling.quantised import refuse_quantised
from triptych.names import AUTO_MAPPINGS, AUTO_TASKS, BACKENDS

logger = logging.getLogger("triptych")

_WHICH_FORMAT = ("use_safetensors", "from_pt", "from_tf", "from_flax")
_STANDS_FOR = {"LMHead": ("Seq2SeqLM", "MaskedLM", "CausalLM")}
"""Tasks that no class has as its own -> those whose classes do them, the first that a family has."""


class AutoConfig:
    """Chooses the config class by the `model_type` of a config.json."""

    def __init__(self) -> None:
        raise ArgumentError("AutoConfig is not instantiated.", remedy="use AutoConfig.from_pretrained(path)")

    @staticmethod
    def for_model(model_type: str, **kwargs: Any) -> PretrainedConfig:
        """Return a config of `model_type` with the given fields.

        Raises:
            ArgumentError: it is no text. ConfigError: it is unknown, or a field has an impossible value.
        """
        _check_type(model_type)
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
        """Make `config` the class of `model_type`. What is registered already stays as it is.

        Raises:
            ArgumentError: what is given is no text or no config class; the class says another model_type; or another
            class has the type and not `exist_ok`.
        """
        _check_type(model_type)
        _check_config_class(config)
        if families.is_foreign(model_type) and families.family(model_type).config_class is config:
            return
        families.register(model_type, families.Family(config, "", {}, lambda config, stem: None), exist_ok)  # type: ignore[arg-type,return-value]


def _check_type(model_type: object) -> None:
    if not isinstance(model_type, str):
        raise ArgumentError("model_type is no text.", expected='text such as "bert"', received=repr(model_type)[:80])


def _check_config_class(value: object) -> None:
    if not (isinstance(value, type) and issubclass(value, PretrainedConfig)):
        raise ArgumentError(
            "This is no config class.", expected="a subclass of PretrainedConfig", received=repr(value)[:80]
        )


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


def _verified(
    path: Any, subfolder: str, hub: Mapping[str, Any], asked: Wanted, order: Sequence[Format], kwargs: Mapping[str, Any]
) -> HeldModel:
    """Return the model in `path`, fetched if need be, whose manifest fits; see `holding.hold`."""
    variant = kwargs.get("variant")
    path = fetch_model(path, subfolder, hub, variant, order, read_beside(variant))
    return hold(path, order=order, wanted=asked, **_given(kwargs, "subfolder", "variant"))


class _ConfigNames(Mapping[str, str]):
    """model_type -> the name of its config class."""

    def __getitem__(self, model_type: str) -> str:
        return CONFIG_MAPPING[model_type].__name__

    def __iter__(self) -> Iterator[str]:
        return iter(families.model_types())

    def __len__(self) -> int:
        return len(families.model_types())

    def __contains__(self, model_type: object) -> bool:
        return model_type in families.model_types()


class _Configs(_ConfigNames):
    """model_type -> its config class."""

    def __getitem__(self, model_type: str) -> Any:
        if model_type not in self:
            raise KeyError(model_type)
        return families.family(model_type).config_class

    def register(self, key: str, value: type[PretrainedConfig], exist_ok: bool = False) -> None:
        """See `AutoConfig.register`."""
        AutoConfig.register(key, value, exist_ok)


CONFIG_MAPPING, CONFIG_MAPPING_NAMES = _Configs(), _ConfigNames()


class _ModelNames(Mapping[str, Any]):
    """model_type -> the name of the class of one framework that does a task, or a tuple of several names."""

    def __init__(self, task: str, framework: str) -> None:
        self.task, self.framework = task, framework

    def __getitem__(self, model_type: str) -> Any:
        family = families.family(model_type) if model_type in CONFIG_MAPPING_NAMES else None
        tasks = _STANDS_FOR.get(self.task, (self.task,))
        stems = next((found for task in tasks if family and (found := family.stems(task))), ())
        if not stems:
            raise KeyError(model_type)
        names = tuple(BACKENDS[self.framework][1] + stem for stem in stems)
        return names if len(names) > 1 else names[0]

    def __iter__(self) -> Iterator[str]:
        return (model_type for model_type in families.model_types() if model_type in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class LazyAutoMapping(Mapping[type[PretrainedConfig], Any]):
    """Config class -> model class, or a tuple of several: the table of an auto class. Classes are imported when asked
    for.

    Args:
        config_mapping: model_type -> name of the config class.
        model_mapping: model_type -> name of the model class, or a tuple of names.
    """

    def __init__(self, config_mapping: Mapping[str, str], model_mapping: Mapping[str, Any]) -> None:
        self._config_mapping, self._model_mapping = config_mapping, model_mapping
        self._extra_content: dict[type[PretrainedConfig], Any] = {}

    def __getitem__(self, key: type[PretrainedConfig]) -> Any:
        if key in self._extra_content:
            return self._extra_content[key]
        if (model_type := self._type_of(key)) is None:
            raise KeyError(key)
        return self.of_type(model_type)

    def of_type(self, model_type: str) -> Any:
        """Return what a family that is not only registered here has; KeyError if it has nothing."""
        names = self._model_mapping[model_type]
        several = tuple(self._imported(model_type, name) for name in ([names] if isinstance(names, str) else names))
        return several[0] if isinstance(names, str) else several

    def _type_of(self, key: object) -> str | None:
        model_type = getattr(key, "model_type", None)
        if not isinstance(model_type, str) or model_type not in self._model_mapping:
            return None
        return model_type if CONFIG_MAPPING.get(model_type) is key else None

    def _imported(self, model_type: str, name: str) -> type[ModelBase]:
        """Return the class `name` from the module that the family says, or from the backend's package."""
        framework = getattr(self._model_mapping, "framework", _framework_of(name))
        module = families.family(model_type).modules.get(framework, BACKENDS[framework][0])
        found: type[ModelBase] | None = getattr(importlib.import_module(module), name, None)
        if found is None:
            raise ConfigError(
                f"There is no {name}.",
                expected=f"the class in {module}",
                received="a module without it",
                remedy="let Family.modules say where the family's classes are, for each framework that it has",
            )
        return found

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self._model_mapping)}, and registered: {self._extra_content})"

    def __iter__(self) -> Iterator[type[PretrainedConfig]]:
        known = (CONFIG_MAPPING[model_type] for model_type in self._model_mapping if model_type in CONFIG_MAPPING)
        return iter(dict.fromkeys([*known, *self._extra_content]))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, key: object) -> bool:
        return key in self._extra_content or self._type_of(key) is not None

    def register(self, key: type[PretrainedConfig], value: Any, exist_ok: bool = False) -> None:
        """Make `value` the model class of the config class `key`, in the place of one that was registered before.

        Raises:
            ArgumentError: `key` is no config class, or a family has a class for it and not `exist_ok`.
        """
        _check_config_class(key)
        before = self._extra_content.get(key)
        if before is None and not exist_ok and (model_type := self._type_of(key)) is not None:
            raise ArgumentError(
                f"{key.__name__} is taken.",
                expected="a config class without a class of this task",
                received=f"that of {self._model_mapping[model_type]}",
                remedy="pass exist_ok=True to replace it",
            )
        if before is not None and _names(before) != _names(value) and not exist_ok:
            logger.warning("%s now has %s, in the place of %s.", key.__name__, _names(value), _names(before))
        self._extra_content[key] = value


def _framework_of(name: str) -> str:
    return next((f for f, (_, prefix) in BACKENDS.items() if prefix and name.startswith(prefix)), "pt")


def _names(value: Any) -> str:
    several = value if isinstance(value, (tuple, list)) else (value,)
    return ", ".join(f"{one.__module__}.{one.__qualname__}" for one in several)


class AutoBase:
    """Base of every auto model class; a backend sets `package` and `class_prefix`, each class its `task`.

    `_model_mapping` is its table: see `LazyAutoMapping`. A class of your own may have one of yours.
    """

    package: ClassVar[str] = "triptych_pt"
    class_prefix: ClassVar[str] = ""
    task: ClassVar[str] = ""
    _model_mapping: ClassVar[LazyAutoMapping]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "package" not in vars(cls) and AutoBase in cls.__bases__:
            cls.package, cls.class_prefix = BACKENDS[_framework_of(cls.__name__)]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        name = type(self).__name__
        raise ArgumentError(f"{name} is not instantiated.", remedy=f"use {name}.from_pretrained or {name}.from_config")

    @classmethod
    def from_config(cls, config: PretrainedConfig, **kwargs: Any) -> Any:
        """Return a newly initialised model of the class that belongs to `config`.

        `trust_remote_code` and `code_revision` as in `from_pretrained`. `torch_dtype`, or `dtype`, is what the
        framework calls dtype. What is left, `attn_implementation` too, goes to the `from_config` of the class.
        """
        cls._say_old()
        if "torch_dtype" in kwargs:
            kwargs["dtype"] = kwargs.pop("torch_dtype")
        config = _own(config)
        code = take_code_arguments(kwargs, take_hub_arguments(kwargs))
        source = getattr(config, "name_or_path", "")
        return cls._class_or_code(config, source, "", code).from_config(config, **kwargs)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], *model_args: Any, **kwargs: Any
    ) -> Any:
        """Load the model whose class belongs to the folder's config; arguments as `ModelBase.from_pretrained`.

        With `trust_remote_code=True` the class may be one whose code comes with the checkpoint (its `auto_map`), of the
        commit of its config, or of `code_revision`; see `triptych.hub.remote_code`. It is refused or found before any
        weights are fetched. With `in_place_of_transformers=True`, too, what that code imports of transformers are
        triptych's modules of the same names.

        Raises:
            RemoteCodeError: it needs code of its own that is not trusted or fails. What `ModelBase.from_pretrained`
            raises.
        """
        path: Any = pretrained_model_name_or_path
        cls._say_old()
        if kwargs.pop("use_timm_backbone", False):
            raise ArgumentError("Backbones of timm are not built in.", received="use_timm_backbone=True",
                                remedy="make it with timm, and wrap it in a class of your own")  # fmt: skip
        subfolder, hub, asked = kwargs.get("subfolder", ""), take_hub_arguments(kwargs), take_wanted(kwargs)
        if (file := gguf_of(path, kwargs.pop("gguf_file", None), subfolder, hub)) is not None:
            refuse_gguf(file, asked)
            path, subfolder = held_gguf(file), ""
            kwargs.pop("subfolder", None)
        code = take_code_arguments(kwargs, hub)
        adapter = AdapterArguments.taken_from(kwargs)
        path = adapter.seen(path, subfolder, hub)
        if adapter.base is not None:
            refuse_adapter(path, asked)
            kwargs.pop("subfolder", None)
            told = {"trust_remote_code": code.trust, "code_revision": code.revision,
                    "in_place_of_transformers": code.in_place_of_transformers}  # fmt: skip
            return adapter.load(cls, *model_args, **kwargs, **hub, **told)
        order = read_order(cls.package.removeprefix("triptych_"), **_given(kwargs, *_WHICH_FORMAT))
        if asked is not None:  # before anything else is read, and before code is run
            path = _verified(path, subfolder, hub, asked, order, kwargs)
        with watching(path):
            return cls._found_in(path, model_args, kwargs, subfolder, hub, order, code)

    @classmethod
    def _found_in(
        cls,
        path: Any,
        model_args: Sequence[Any],
        kwargs: dict[str, Any],
        subfolder: str,
        hub: Mapping[str, Any],
        order: Sequence[Format],
        code: CodeOptions,
    ) -> Any:
        """Return the model in `path`, of the class that its config, or the one in `kwargs`, names."""
        config: Any = _own(kwargs.get("config"))
        source: Any = config
        if config is None:
            if not isinstance(path, HeldModel):
                path = fetch_config(path, subfolder, hub, complete=False)
            if not isinstance(
                path, (HubFolder, HeldModel)
            ):  # a commit stays what it is, and its weights are not there yet
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
        """Return the class that is registered or built in for `config`, or None; of several, that which
        `config.architectures` names first, else the first."""
        mapping = cls._model_mapping
        try:
            found = mapping[type(config)] if type(config) in mapping else mapping.of_type(config.model_type)
        except KeyError:
            return None
        if not isinstance(found, (tuple, list)):
            return found  # type: ignore[no-any-return]
        stems = {kind.__name__.removeprefix(cls.class_prefix): kind for kind in found}
        named = [name.removeprefix(cls.class_prefix) for name in config.architectures or ()]
        return next((stems[name] for name in named if name in stems), found[0])

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
            known = sorted(kind.model_type for kind in cls._model_mapping)
            raise ConfigError(
                f"{cls.__name__} has no class for this config.",
                expected=f"a config of one of {known}" if known else "a class that is registered: no family has any",
                received=f"{type(config).__name__} of model_type {config.model_type!r}",
                remedy=f"register one: {cls.__name__}.register(config_class, model_class)",
            )
        return found

    @classmethod
    def register(cls, config_class: type[PretrainedConfig], model_class: Any, exist_ok: bool = False) -> None:
        """Make `model_class` the one for `config_class`; or a tuple of classes, among which `config.architectures`
        chooses. Another class that was registered before is replaced, with a warning unless `exist_ok`.

        Raises:
            ArgumentError: what is given is no class of the kind; the model class is of another framework or config
            class; or a family has one already and not `exist_ok`.
        """
        _check_config_class(config_class)
        framework = cls.package.removeprefix("triptych_")
        for one in model_class if isinstance(model_class, (tuple, list)) else (model_class,):
            if not (isinstance(one, type) and issubclass(one, ModelBase)) or one.framework != framework:
                raise ArgumentError(
                    f"{cls.__name__} cannot make {getattr(one, '__name__', repr(one)[:80])}.",
                    expected=f"a class of the framework {framework!r}",
                    received=f"one of {getattr(one, 'framework', None)!r}",
                )
            if one.config_class is None or one.config_class.__name__ != config_class.__name__:
                raise ArgumentError(
                    "The model class belongs to another config class.",
                    expected=config_class.__name__,
                    received=str(one.config_class),
                )
        cls._model_mapping.register(config_class, model_class, exist_ok)

    @classmethod
    def _say_old(cls) -> None:
        """Warn that the class is deprecated, if it is."""
        if cls.task in _STANDS_FOR:
            tasks = ", ".join(f"{cls.class_prefix}AutoModelFor{task}" for task in _STANDS_FOR[cls.task])
            warnings.warn(f"{cls.__name__} is deprecated: use one of {tasks}.", FutureWarning, stacklevel=3)


_BaseAutoModelClass, _LazyAutoMapping = AutoBase, LazyAutoMapping
"""Their names in transformers, for auto classes that authors make."""


def auto_class_update(cls: Any, *args: Any, **kwargs: Any) -> Any:
    """Return an auto class as it is. transformers writes its documentation here."""
    return cls


def make_tables(framework: str) -> dict[str, Any]:
    """Return the tables of a backend's auto classes by name: `..._MAPPING`, of classes, and `..._MAPPING_NAMES`."""
    start = f"{BACKENDS[framework][1].upper()}_".removeprefix("_")
    tables: dict[str, Any] = {}
    for name, task in AUTO_MAPPINGS.items():
        names = _ModelNames(task, framework)
        tables[start + name], tables[f"{start}{name}_NAMES"] = LazyAutoMapping(CONFIG_MAPPING_NAMES, names), names
    return tables


def make_auto_classes(package: str, class_prefix: str, tables: Mapping[str, Any]) -> dict[str, type[AutoBase]]:
    """Return a backend's auto classes by name, over the tables that `make_tables` returned."""
    by_task = {names.task: tables[name.removesuffix("_NAMES")] for name, names in tables.items() if "_NAMES" in name}
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
                "_model_mapping": by_task[task],
            },
        )
        for name, task in AUTO_TASKS.items()
    }
