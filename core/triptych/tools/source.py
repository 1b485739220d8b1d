"""A checkpoint opened as a file: canonical tensors, config and schema, without a model and without a framework."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych import families
from triptych.checkpoints.holding import hold
from triptych.checkpoints.legacy_generic import generic_weights
from triptych.checkpoints.naming import canonical, flavour_by_names
from triptych.checkpoints.opening import Checkpoint, is_gguf, open_checkpoint
from triptych.checkpoints.resolve import OF_A_FOLDER
from triptych.config import PretrainedConfig
from triptych.errors import ArgumentError, UnsupportedFormatError
from triptych.files.paths import local_folder
from triptych.formats.gguf.file import open_gguf
from triptych.formats.kinds import FORMATS, LAYOUTS, SAFETENSORS, Format
from triptych.tensors.ref import TensorRef
from triptych.weights.schema import Schema, Weight

_TF_SUFFIX = ":0"


@dataclass(frozen=True)
class Source:
    """What a folder with weights, or a GGUF file, holds. Opening reads headers only.

    - `raw`: the tensors by their names in the files.
    - `tensors`: the same under canonical names and in canonical layouts.
    - `config`: the values of config.json; None if there is none.
    - `schema`: every weight that the classes of the family know; None for an unknown architecture.
    - `format`: how it is stored.
    - `generic`: canonical names that are known from the rules of layers alone (`triptych.checkpoints.legacy_generic`).
    - `unknown`: names in `tensors` that no rule knows; they are as in the files.
    - `metadata`: that of a GGUF file, as it stands there.
    """

    path: Path
    raw: Checkpoint
    tensors: Mapping[str, TensorRef]
    config: dict[str, Any] | None
    schema: Schema | None
    format: Format
    generic: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def open_source(path: Path, variant: str | None = None, order: Sequence[Format] = LAYOUTS) -> Source:
    """Open `path`: a folder with weights of any format, with or without config.json, or a file `*.gguf`.

    Of a folder with weights in several formats, the first of `order` that is there is opened.

    Raises:
        MissingFileError, ConfigError, CorruptCheckpointError and its subclasses, InconsistentCheckpointError,
        ShapeMismatchError, UnsupportedFormatError, LimitError, UnsafeCheckpointError, ArgumentError.
    """
    if is_gguf(path):
        raw = open_checkpoint(path)
        opened = open_gguf(path)
        values, schema = dict(opened.config), file_schema(opened.config, raw)
        return Source(path, raw, dict(raw), values, schema, SAFETENSORS, metadata=opened.metadata)
    if path.is_file():
        raise ArgumentError("The source has no name of a format.", expected="*.gguf or a folder", received=str(path))
    folder = local_folder(path)
    held = hold(folder, variant=variant, order=order)
    raw = held.checkpoint
    config = None if held.config is None else {k: v for k, v in held.config.items() if k not in OF_A_FOLDER}
    schema = None if config is None else file_schema(config, raw)
    flavour = raw.flavour or _flavour(raw, schema)
    tensors, generic, unknown = _canonical(raw, schema, flavour)
    return Source(folder, raw, tensors, config, schema, _format(raw, flavour), generic, unknown)


def _flavour(raw: Checkpoint, schema: Schema | None) -> str:
    """Return whose names `raw` has if its files do not say. Without a schema, only TensorFlow's are unmistakable."""
    if schema is not None:
        return flavour_by_names(raw, schema)
    return "tf" if raw and all(name.endswith(_TF_SUFFIX) for name in raw) else "pt"


def _format(raw: Checkpoint, flavour: str) -> Format:
    suffix = raw.files[0].suffix
    kind = next(format for format in LAYOUTS if format.suffix == suffix)
    return next(f for f in FORMATS.values() if f.single == kind.single and f.flavour == flavour)


def _canonical(
    raw: Checkpoint, schema: Schema | None, flavour: str
) -> tuple[dict[str, TensorRef], tuple[str, ...], tuple[str, ...]]:
    """Return canonical tensors, and which of them are known by the rules of layers alone, or by none."""
    if flavour == "pt":
        return dict(raw), (), ()
    known: Mapping[str, TensorRef] = {}
    rest = dict(raw)
    if schema is not None:
        known = canonical(Checkpoint(raw, raw.metadata, raw.source, flavour), schema)
        rest = {name: ref for name, ref in raw.items() if known.get(name) is ref}
    tensors = {name: ref for name, ref in known.items() if name not in rest}
    try:
        weights = generic_weights({name: ref.shape for name, ref in rest.items()}, flavour)
    except UnsupportedFormatError:
        if schema is None:
            raise
        return tensors | rest, (), tuple(rest)
    by_rules = {weight.canonical: weight.canonical_ref(rest[name]) for name, weight in weights.items()}
    clashes = by_rules.keys() & tensors.keys()
    if clashes:
        return tensors | rest, (), tuple(rest)
    return tensors | by_rules, tuple(by_rules), ()


def file_config(values: Mapping[str, Any]) -> PretrainedConfig | None:
    """Return the config that `values` of a config.json describe; None if the family is unknown.

    Raises:
        ConfigError: values that the family refuses.
    """
    if values.get("model_type") not in families.model_types():
        return None
    return families.family(values["model_type"]).config_class.from_dict(dict(values))


def file_schema(values: Mapping[str, Any], names: Iterable[str] = ()) -> Schema | None:
    """Return the schema of the class that config.json names, and what the family's other classes have beside it.

    A file often holds more than its class: the pooler, a head for another task. These are weights all the same.

    Args:
        values: of config.json.
        names: those of the tensors in the file; they tell a backbone from a model with a head where no class is named.

    Raises:
        ConfigError: values that the family refuses.
    """
    config = file_config(values)
    if config is None:
        return None
    return _with_relatives(config, stem_of(config, values.get("architectures"), names))


def class_schema(values: Mapping[str, Any], names: Iterable[str] = ()) -> Schema | None:
    """Return the schema of the class that config.json names, and of nothing beside it; None for an unknown family.

    Raises:
        ConfigError: values that the family refuses.
    """
    config = file_config(values)
    if config is None:
        return None
    return families.family(config.model_type).schema(config, stem_of(config, values.get("architectures"), names))


def stem_of(config: PretrainedConfig, architectures: object, names: Iterable[str] = ()) -> str:
    """Return the class of a config's family that `architectures` names; else the one whose weights are called so."""
    found = families.family(config.model_type)
    named = architectures[0] if isinstance(architectures, list) and architectures else None
    if found.has(str(named)):
        return str(named)
    prefixes = (f"{found.base_prefix}.", f"{found.base_prefix}/")
    headed = any(name.startswith(prefixes) for name in names)
    return next(stem for stem in found.classes.values() if (stem != found.classes.get("")) == headed)


def _with_relatives(config: PretrainedConfig, stem: str) -> Schema:
    found = families.family(config.model_type)
    own = found.schema(config, stem)
    weights = dict(own.weights)
    ignorable = set(own.ignorable)
    for other in found.classes.values():
        schema = found.schema(config, other)
        ignorable |= schema.ignorable
        for weight in schema.values():
            spelled = _respelled(weight, schema, own)
            weights.setdefault(spelled.name, spelled)
    kept = {name: w for name, w in weights.items() if w.tied_to is None or w.tied_to in weights}
    return dataclasses.replace(own, weights=kept, ignorable=frozenset(ignorable))


def _respelled(weight: Weight, schema: Schema, like: Schema) -> Weight:
    """Return `weight` of `schema` as files of a class of schema `like` (backbone, or with a head) spell it."""
    dot = f"{schema.base_prefix}."
    if schema.is_base == like.is_base or not schema.base_prefix:
        return weight

    def spelled(name: str) -> str:
        return dot + name if schema.is_base else name.removeprefix(dot)

    return dataclasses.replace(
        weight,
        name=spelled(weight.name),
        tied_to=weight.tied_to and spelled(weight.tied_to),
        aliases=tuple(map(spelled, weight.aliases)),
    )
