"""Configs read: from a dict, a file, a folder or a repository of the Hub."""

from __future__ import annotations

import copy
import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from triptych.checkpoints.held import HeldFolder
from triptych.config.fields import TRANSFORMERS_VERSION, Fields, arguments_of
from triptych.config.values import fields_of, plain
from triptych.errors import ConfigError, MissingFileError
from triptych.files.json import read_config
from triptych.files.paths import CONFIG_NAME, check_inside, local_folder, path_of, regular_inside, safe_name
from triptych.formats.gguf.file import open_gguf
from triptych.hub.fetching import HubFolder, fetch_beside, fetch_config, take_hub_arguments
from triptych.hub.remote_code import from_repository, take_code_arguments

logger = logging.getLogger("triptych")
Self = TypeVar("Self", bound="Reading")

_VERSIONED = re.compile(r"config\.(\d+(?:\.\d+)*)\.json")
_RETURNED_TOO = ("dtype", "torch_dtype")
"""Arguments that set a field and are returned as unused all the same, for a model's constructor."""
_OF_CALLERS = ("_from_auto", "_from_pipeline", "_commit_hash")


class Reading(Fields):
    """Part of `PretrainedConfig`: `from_pretrained` and what it is made of."""

    @classmethod
    def get_config_dict(cls, path: str | os.PathLike[str], **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the contents of `config.json` in folder, file or repository `path`, and the unused arguments.

        `subfolder` names a folder below `path`; `revision`, `token`, `cache_dir`, `force_download` and
        `local_files_only` are for a repository of the Hub, see `triptych.hub.snapshot.HubOptions`. Where config.json
        lists `configuration_files`, the one for this version is read instead. `gguf_file` names a GGUF file of a local
        folder, whose header is read instead.

        Raises:
            MissingFileError, ConfigError, HubError and its subclasses.
        """
        of_caller = {name: kwargs[name] for name in _OF_CALLERS if name in kwargs}
        subfolder, arguments = kwargs.pop("subfolder", ""), take_hub_arguments(kwargs)
        kwargs |= of_caller
        take_code_arguments(kwargs)  # of the auto classes; a class that is asked by its name needs no code
        if (gguf := kwargs.pop("gguf_file", None)) is not None:
            folder = local_folder(path, subfolder)
            return dict(open_gguf(folder / safe_name(gguf, folder, (".gguf",))).config), kwargs
        held = hold_config(fetch_config(path, subfolder, arguments), subfolder)
        values = copy.deepcopy(dict(held.config or {}))
        if isinstance(held.place, HubFolder):
            from_repository(values, held.place.repo_id)
            values["_commit_hash"] = held.place.snapshot.commit
        return values, kwargs

    @classmethod
    def from_pretrained(cls: type[Self], pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> Any:
        """Read a config from a folder, a JSON file or a repository of the Hub; keyword arguments override its fields.

        Of a config that holds others, the part is read that is named by `base_config_key`, or has the class's
        model_type. Another model_type is read all the same, with a warning.

        Returns the config, or `(config, unused)` with `return_unused_kwargs=True`. Arguments of `get_config_dict` say
        where to look.

        Raises:
            MissingFileError, ConfigError, HubError and its subclasses.
        """
        values, kwargs = cls.get_config_dict(pretrained_model_name_or_path, **kwargs)
        kwargs.setdefault("name_or_path", str(pretrained_model_name_or_path))
        return cls.from_dict(cls._part_of(values), **kwargs)

    @classmethod
    def _part_of(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return those of `values` of a config.json, or of a config in it, that are of this class."""
        if cls.base_config_key and isinstance(values.get(cls.base_config_key), Mapping):
            values = values[cls.base_config_key]
        found = values.get("model_type")
        if not (cls.model_type and found) or found == cls.model_type:
            return values
        for part in values.values():
            if isinstance(part, Mapping) and part.get("model_type") == cls.model_type:
                return part
        logger.warning(
            "%s, of model_type %r, is made of a config of model_type %r; what it has no field for has no effect",
            cls.__name__, cls.model_type, found,
        )  # fmt: skip
        return values

    @classmethod
    def from_dict(cls: type[Self], config_dict: Mapping[str, Any], **kwargs: Any) -> Any:
        """Return a config made of `config_dict`, overridden by those keyword arguments that name a field of it.

        A dict that overrides a config within this one sets fields of that. `dtype` is returned as unused too, for the
        constructor of a model.

        Raises:
            ConfigError: an impossible value. ArgumentError: `config_dict` is no mapping of names to values.
        """
        return_unused = kwargs.pop("return_unused_kwargs", False)
        of_caller = {name: kwargs.pop(name) for name in _OF_CALLERS if name in kwargs}
        attention = kwargs.pop("attn_implementation", None)
        values = {name: value for name, value in fields_of(config_dict).items() if name != "attn_implementation"}
        if of_caller.get("_commit_hash") is not None:
            values.setdefault("_commit_hash", of_caller["_commit_hash"])
        for alias, real in cls.attribute_map.items():
            if alias in values and real not in values:
                values[real] = values.pop(alias)
        if "name_or_path" in kwargs:
            values["name_or_path"] = kwargs.pop("name_or_path")
        before = cls._of(values)
        override = {name: value for name, value in kwargs.items() if before._has_field(name) or name in values}
        unused = {name: value for name, value in kwargs.items() if name not in override or name in _RETURNED_TOO}
        config = cls._overridden(before, values, override) if override else before
        if attention is not None:
            config._attn_implementation = attention
        return (config, unused) if return_unused else config

    def _has_field(self, name: str) -> bool:
        """Return whether an argument of `from_dict` may set `name`."""
        found = getattr(type(self), name, None)
        settable = isinstance(found, property) and found.fset is not None
        known = name in self.__dict__ or name in self.attribute_map or settable
        return known and (not name.startswith("_") or name == "_attn_implementation")

    @classmethod
    def _overridden(cls: type[Self], before: Self, values: Mapping[str, Any], override: Mapping[str, Any]) -> Self:
        """Return the config of `values` and `override`; its constructor decides what follows from a field."""
        cls._refuse_contradiction(override)
        values = dict(values)
        if "num_labels" in override and "id2label" not in override and override["num_labels"] != before.num_labels:
            values.pop("id2label", None), values.pop("label2id", None)
        wanted: dict[str, Any] = {}  # of a constructor that sets a field which it does not name
        for name, value in override.items():
            part = before.__dict__.get(cls.attribute_map.get(name, name))
            if isinstance(part, Fields) and isinstance(value, Mapping):
                value = {**plain(part), **value}  # it is for the constructor to make a config of it, as of a file's
            elif name not in (*arguments_of(cls), *_RETURNED_TOO):
                wanted[name] = value
            values[cls.attribute_map.get(name, name)] = value
        config = cls._of(values)
        for name, value in wanted.items():
            present = config.__dict__.get(cls.attribute_map.get(name, name), value)
            if present is not value and present != value:
                setattr(config, name, value)
        for name in cls.sub_configs if set(_RETURNED_TOO) & set(override) else ():
            if isinstance(part := config.__dict__.get(name), Fields):
                part.dtype = config.dtype
        config._validate_whole()
        return config

    @staticmethod
    def _refuse_contradiction(override: Mapping[str, Any]) -> None:
        number, labels = override.get("num_labels"), override.get("id2label")
        if number is not None and isinstance(labels, Mapping) and len(labels) != number:
            raise ConfigError("`num_labels` contradicts `id2label`.", expected=str(len(labels)), received=repr(number),
                              remedy="pass only one of them")  # fmt: skip

    @classmethod
    def _of(cls: type[Self], values: Mapping[str, Any]) -> Self:
        """Return a config of the contents of a file, where a key may be called as Python calls the first argument."""
        config = cls(**{name: value for name, value in values.items() if name != "self"})
        if "self" in values:
            config._unplaced["self"] = values["self"]
        return config

    @classmethod
    def from_json_file(cls: type[Self], json_file: str | os.PathLike[str]) -> Self:
        """Return the config in one JSON file."""
        return cls._of(read_config(path_of(json_file, "json_file")))


def hold_config(path: Any, subfolder: str = "") -> HeldFolder:
    """Return folder or file `path` with its config.json read; what is held already is not read again.

    Raises:
        As `config_path`; ConfigError.
    """
    if isinstance(path, HeldFolder) and path.subfolder == subfolder and path.config is not None:
        return path if "configuration_files" not in path.config else HeldFolder(path.place, subfolder, _chosen(path))
    return HeldFolder(path, subfolder, _chosen(HeldFolder(path, subfolder, read_config(config_path(path, subfolder)))))


def _chosen(held: HeldFolder) -> Mapping[str, Any]:
    """Return the config that was read, or the one that its `configuration_files` have for this version.

    Raises:
        UnsafeCheckpointError, MissingFileError: of a file that it names.
    """
    config: Mapping[str, Any] = held.config or {}
    files = config.get("configuration_files")
    if not isinstance(files, list):
        return config
    file = config_path(held.place, held.subfolder)
    name = safe_name(get_configuration_file(files), file, (".json",))
    if name == CONFIG_NAME:
        return config
    fetch_beside(held.place, held.subfolder, name)
    check_inside(file.parent, file.with_name(name))
    return {key: value for key, value in read_config(file.with_name(name)).items() if key != "configuration_files"}


def get_configuration_file(configuration_files: Sequence[str]) -> str:
    """Return which of the files `config.<version>.json` is for the version of transformers that is followed here: that
    of the newest version that is no newer; "config.json" if there is none."""
    versions = {}
    for name in configuration_files:
        if isinstance(name, str) and (match := _VERSIONED.fullmatch(name)):
            versions[_numbers(match[1])] = name
    fitting = [version for version in versions if version <= _numbers(TRANSFORMERS_VERSION)]
    return versions[max(fitting)] if fitting else CONFIG_NAME


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def config_path(path: str | os.PathLike[str] | None, subfolder: str = "") -> Path:
    """Return the path of `config.json` in folder `path` (which may also be the file itself).

    Raises:
        ArgumentError: `path` is no path. MissingFileError: there is no such file.
        UnsafeCheckpointError: it is a link out of the folder. UnsupportedFormatError: it is no regular file.
    """
    if isinstance(path, (str, os.PathLike)) and os.path.isfile(path):
        return Path(path)
    folder = local_folder(path, subfolder)
    file = regular_inside(folder, CONFIG_NAME)
    if file is None:
        raise MissingFileError(
            f"{folder} has no {CONFIG_NAME}.",
            expected=f"a folder with a {CONFIG_NAME}",
            received=f"a folder with {sorted(p.name for p in folder.iterdir())[:8]}",
            remedy="check the path, or pass config=",
        )
    return file
