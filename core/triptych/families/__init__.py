"""The built-in model families: each declares its config, its parts and what its files carry, once for all frameworks.

Imports `nn`, `config` and what is below.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from triptych.errors import ArgumentError, ConfigError
from triptych.nn.parts import Model
from triptych.nn.recording import recorded_schema, recorded_whole_parts
from triptych.weights.schema import Schema

if TYPE_CHECKING:
    from triptych.config import PretrainedConfig


@dataclass(frozen=True)
class Family:
    """One family.

    `classes` maps a task ("", "MaskedLM", "SequenceClassification", ...) to the stem of the class that does it; the
    TensorFlow and Flax classes put "TF" and "Flax" before it. `schema(config, stem, **options)` returns the weights of
    that class; its options are arguments of the class's constructor. `modules` says for "pt", "tf" and "flax" which
    module holds the classes of a family that is not built in; it is imported when one of them is asked for. `others`
    maps a task to the stems of further classes that do it, among which `config.architectures` chooses.
    """

    config_class: type[PretrainedConfig]
    base_prefix: str
    classes: Mapping[str, str]
    schema: Callable[..., Schema]
    modules: Mapping[str, str] = field(default_factory=dict)
    others: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def stems(self, task: str) -> tuple[str, ...]:
        """Return the stems of the classes that do `task`, the default first."""
        return (self.classes[task], *self.others.get(task, ())) if task in self.classes else ()

    def has(self, stem: str) -> bool:
        """Return whether `stem` is one of the family's classes."""
        return stem in self.classes.values() or any(stem in group for group in self.others.values())


@dataclass(frozen=True)
class RecordedSchema:
    """The `schema` of a family that is declared by parts."""

    parts: Mapping[str, type[Model]]
    base_prefix: str
    ignorable: Iterable[str] | Callable[[PretrainedConfig], Iterable[str]] = ()

    def __call__(self, config: PretrainedConfig, stem: str, **options: Any) -> Schema:
        """Return the weights of the class `stem`."""
        names = self.ignorable(config) if callable(self.ignorable) else self.ignorable
        part = self.parts[stem]
        return recorded_schema(part, config, part.base_model_prefix or self.base_prefix, names, **options)

    def whole_parts(self, config: PretrainedConfig, stem: str, **options: Any) -> list[str]:
        """Return the paths of those parts of the class `stem` that stay on one device."""
        return recorded_whole_parts(self.parts[stem], config, **options)


def declared(
    config_class: type[PretrainedConfig],
    *parts: type[Model],
    ignorable: Iterable[str] | Callable[[PretrainedConfig], Iterable[str]] = (),
    modules: Mapping[str, str] | None = None,
    base_prefix: str | None = None,
) -> Family:
    """Return the family of these parts, whose schema is recorded from them.

    Args:
        base_prefix: where classes with a head hold the backbone, if their `base_model_prefix` says nothing; None for
            that of the first class that has one.
        ignorable: names, without the backbone's prefix, that files carry although no model needs them; or a function
            from a config to them.
        modules: see `Family`.

    Raises:
        ArgumentError: a part is no `Model`.
    """
    for part in parts:
        if not (isinstance(part, type) and issubclass(part, Model)):
            expected = "subclasses of triptych.nn.parts.Model"
            raise ArgumentError("A family is declared by its models.", expected=expected, received=repr(part)[:80])
    stated = next((part.base_model_prefix for part in parts if part.base_model_prefix), "")
    prefix = stated if base_prefix is None else base_prefix
    doing: dict[str, list[str]] = {}
    for part in parts:
        for task in (*part.other_tasks, part.task):
            doing.setdefault(task, []).append(part.__name__)
    classes = {task: stems[0] for task, stems in doing.items()}
    others = {task: tuple(stems[1:]) for task, stems in doing.items() if len(stems) > 1}
    schema = RecordedSchema({part.__name__: part for part in parts}, prefix, ignorable)
    return Family(config_class, prefix, classes, schema, modules or {}, others)


_MODULES = {
    name: f"triptych.families.{name.replace('-', '_')}"
    for name in ("bert", "distilbert", "electra", "encoder-decoder", "gpt2", "llama", "mistral", "opt", "qwen2",
                 "qwen3", "roberta", "t5")
}  # fmt: skip
_FAMILIES: dict[str, Family] = {}
_REGISTERED: set[str] = set()


def family(model_type: str) -> Family:
    """Return the family of `model_type`.

    Raises:
        ConfigError: it is not known.
    """
    if model_type not in _FAMILIES and model_type in _MODULES:
        _FAMILIES[model_type] = importlib.import_module(_MODULES[model_type]).FAMILIES[model_type]
    if model_type not in _FAMILIES:
        raise ConfigError(
            "The model_type is unknown.",
            expected=f"one of {sorted({*_MODULES, *_FAMILIES})}",
            received=repr(model_type),
            remedy="register the family: AutoConfig.register(model_type, config_class)",
        )
    return _FAMILIES[model_type]


def register(model_type: str, new: Family, exist_ok: bool = False) -> None:
    """Make `new` the family of `model_type`: auto classes and the tools on files know it, and its classes their schema.

    Raises:
        ArgumentError: the config class says another model_type, or the type is taken and not `exist_ok`.
    """
    if new.config_class.model_type != model_type:
        raise ArgumentError(
            "The config class is of another type.", expected=model_type, received=new.config_class.model_type
        )
    if model_type in model_types() and not exist_ok:
        raise ArgumentError(f"model_type {model_type!r} is taken.", remedy="pass exist_ok=True to replace it")
    _FAMILIES[model_type] = new
    _REGISTERED.add(model_type)


def is_foreign(model_type: str) -> bool:
    """Return whether the family of `model_type` was registered, be it in the place of a built-in one."""
    return model_type in _REGISTERED


def model_types() -> list[str]:
    """Return every known model_type, sorted."""
    return sorted({*_MODULES, *_FAMILIES})


def declared_schema(config: PretrainedConfig, stem: str, **options: Any) -> Schema | None:
    """Return the schema of the class `stem` for `config`; None if no family declares it.

    `options` are the arguments of the class that decide about weights, such as `add_pooling_layer`.
    """
    found = _family_of(config)
    return None if found is None or not found.has(stem) else found.schema(config, stem, **options)


def recorded_of(config: PretrainedConfig, part: type[Model], home: type[PretrainedConfig]) -> RecordedSchema | None:
    """Return what records the schema of `part` for a config; None if the config's family gives its class another.

    `home` is the config class of the part's own family, whose statement holds for a config of no family, too.
    """
    known = home.model_type in _MODULES or home.model_type in _FAMILIES
    found = _family_of(config) or (family(home.model_type) if known else None)
    schema = None if found is None else found.schema
    return schema if isinstance(schema, RecordedSchema) and schema.parts.get(part.__name__) is part else None


@dataclass(frozen=True)
class Member:
    """A model within another: `part`, of `config`, a config of its own."""

    part: type[Model]
    config: PretrainedConfig

    def schema(self) -> Schema:
        """Return its weights, under its own names."""
        return family(self.config.model_type).schema(self.config, self.part.__name__)


def member(config: PretrainedConfig, task: str) -> Member:
    """Return the model that the family of `config` has for `task`, a key of `Family.classes`.

    Raises:
        ConfigError: the family has none, is not declared by parts, or is not known.
    """
    found = family(config.model_type)
    parts = found.schema.parts if isinstance(found.schema, RecordedSchema) else {}
    part = parts.get(found.classes.get(task, ""))
    if part is None:
        raise ConfigError(
            f"A model of model_type {config.model_type!r} cannot be a part of another for this task.",
            expected=f"a family declared by parts, with a class for {task or 'the backbone'}",
            received=f"classes for {sorted(found.classes)}" if parts else "a family whose schema is written by hand",
        )
    return Member(part, config)


def _family_of(config: PretrainedConfig) -> Family | None:
    """Return the family of a config's type, if the config is of its class."""
    known = config.model_type in _MODULES or config.model_type in _FAMILIES
    found = family(config.model_type) if known else None
    return found if found is not None and isinstance(config, found.config_class) else None
