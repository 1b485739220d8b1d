"""`GenerationConfig`: how a model generates, read from and written to `generation_config.json` as transformers 4 does.

It is data: nothing here generates.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from triptych.config import TRANSFORMERS_VERSION, PretrainedConfig
from triptych.config.values import dtypes_to_text, fields_of, plain, write_text
from triptych.errors import ConfigError, MissingFileError
from triptych.files.json import read_config
from triptych.files.paths import GENERATION_CONFIG_NAME, check_inside, check_subfolder, local_folder, path_of, safe_name
from triptych.generation.parameters import DEFAULTS, Parameters
from triptych.hub.fetching import HubFolder, fetch_beside, fetch_config, take_hub_arguments
from triptych.hub.pushing import PushToHubMixin, push_files
from triptych.hub.remote_code import take_code_arguments

Self = TypeVar("Self", bound="GenerationConfig")

_METADATA: Mapping[str, Any] = {"_from_model_config": False, "_commit_hash": None, "transformers_version": None}
_OF_THE_OBJECT = ("_commit_hash", "_original_object_hash", "compile_config")
"""Attributes that are not written."""


class GenerationConfig(Parameters, PushToHubMixin):
    """How a model generates. Arguments are the parameters of transformers 4, each of which has its default there.

    Others become attributes and are written too, but not with `_from_model_config=True`, which takes from the fields of
    a model's config those that concern generation.

    Raises:
        ConfigError: parameters that cannot be meant. What has no effect is only warned of.
    """

    def __init__(self, **kwargs: Any) -> None:
        for name, default in {**DEFAULTS, **_METADATA}.items():
            setattr(self, name, kwargs.pop(name, copy.copy(default)))
        self.is_assistant = False
        self.transformers_version = getattr(self, "transformers_version", None) or TRANSFORMERS_VERSION
        for name, value in kwargs.items() if not self._from_model_config else ():
            if callable(getattr(type(self), name, None)) or name.startswith("__"):
                raise ConfigError("This is no parameter of generation.", received=repr(name)[:80])
            self.__dict__[name] = value
        self.validate()

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(self.to_json_string(ignore_metadata=True))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GenerationConfig) and self._compared() == other._compared()

    def _compared(self) -> str:
        return self.to_json_string(use_diff=False, ignore_metadata=True)

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string(ignore_metadata=True)}"

    def __iter__(self) -> Iterator[str]:
        """Yield the names of the parameters."""
        return iter(self.__dict__)

    # -- as a dict and as text ----------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return every parameter, JSON-ready."""
        return {name: plain(value) for name, value in self.__dict__.items() if name not in _OF_THE_OBJECT}

    def to_diff_dict(self) -> dict[str, Any]:
        """Return `to_dict()` without what has its default."""
        default = {**DEFAULTS, **_METADATA}
        return {
            name: value
            for name, value in self.to_dict().items()
            if name not in default or name == "transformers_version" or value != default[name]
        }

    def to_json_string(self, use_diff: bool = True, ignore_metadata: bool = False) -> str:
        """Return the text of `generation_config.json`: sorted keys, indent 2, one newline at the end.

        Raises:
            ConfigError: a value that JSON cannot hold.
        """
        values = self.to_diff_dict() if use_diff else self.to_dict()
        if ignore_metadata:
            values = {name: value for name, value in values.items() if name not in _METADATA}
        try:
            return json.dumps(_text_keys(values), indent=2, sort_keys=True) + "\n"
        except (TypeError, ValueError) as cause:
            raise ConfigError("The generation config cannot be written as JSON.", received=str(cause)) from cause

    def to_json_file(self, json_file_path: str | os.PathLike[str], use_diff: bool = True) -> None:
        """Write the text to `json_file_path`, atomically.

        Raises:
            ConfigError: a value that JSON cannot hold. ArgumentError: it is no path. SaveError.
        """
        write_text(path_of(json_file_path, "json_file_path"), self.to_json_string(use_diff))

    def dict_dtype_to_str(self, d: dict[str, Any]) -> None:
        """Put texts in the place of dtypes, in `d` and in dicts within."""
        dtypes_to_text(d)

    dict_torch_dtype_to_str = dict_dtype_to_str

    def update(self, defaults_only: bool = False, **kwargs: Any) -> dict[str, Any]:
        """Set the parameters that there are, and return the other arguments; a bad value changes nothing.

        Args:
            defaults_only: set only those that are None.

        Raises:
            ConfigError.
        """
        before = dict(self.__dict__)
        known = {name: value for name, value in kwargs.items() if name in before}
        self.__dict__.update({n: v for n, v in known.items() if not defaults_only or before[n] is None})
        try:
            self.validate()
        except ConfigError:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        return {name: value for name, value in kwargs.items() if name not in known}

    @staticmethod
    def _get_default_generation_params() -> dict[str, Any]:
        """Return the parameters that have a default, which transformers' Seq2SeqTrainer asks for under this name."""
        return {name: copy.copy(value) for name, value in DEFAULTS.items() if value is not None}

    # -- files --------------------------------------------------------------------------------------------------

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        config_file_name: str | os.PathLike[str] | None = None,
        push_to_hub: bool = False,
        **push_arguments: Any,
    ) -> None:
        """Write `generation_config.json`, or `config_file_name`, into `save_directory`, atomically.

        With `push_to_hub` it is pushed too; `push_arguments` are those of `push_to_hub`, with `repo_id` the folder's
        name by default.

        Raises:
            ConfigError: `validate(strict=True)` does; nothing is written. SaveError. Others of `push_to_hub`.
        """
        self.validate(strict=True)
        push = self._push_of_save(push_to_hub, save_directory, push_arguments)
        folder, text = path_of(save_directory, "save_directory", "folder"), self.to_json_string()
        name = safe_name(_name_of(config_file_name), folder, (".json",))
        write_text(folder / name, text)
        if push is not None:
            push_files(push, {name: folder / name})

    @classmethod
    def from_pretrained(
        cls: type[Self],
        pretrained_model_name: str | os.PathLike[str],
        config_file_name: str | os.PathLike[str] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Read `generation_config.json`, or `config_file_name`, of a folder or a repository of the Hub.

        Keyword arguments override its parameters; `subfolder` and those of `triptych.hub.snapshot.HubOptions` say where
        to look. Returns the config, or `(config, unused)` with `return_unused_kwargs=True`.

        Raises:
            ArgumentError, MissingFileError, ConfigError, HubError and its subclasses.
        """
        subfolder, hub = kwargs.pop("subfolder", ""), take_hub_arguments(kwargs)
        take_code_arguments(kwargs)
        name = _name_of(config_file_name)
        place = fetch_config(pretrained_model_name, subfolder, hub)
        if not isinstance(place, (str, os.PathLike)) or not os.path.isfile(place):
            local_folder(place, subfolder)
        read = read_generation_config(place, subfolder, name)
        if read is None:
            raise MissingFileError(
                f"{pretrained_model_name} has no {name}.",
                expected="a folder or repository that has it",
                remedy="check the path, or make one of a model's config with GenerationConfig.from_model_config",
            )
        made = cls.from_dict(read, **kwargs)
        (made[0] if isinstance(made, tuple) else made)._as_read()
        return made

    @classmethod
    def from_dict(cls: type[Self], config_dict: Mapping[str, Any], **kwargs: Any) -> Any:
        """Return a config of `config_dict`, overridden by the keyword arguments that are parameters.

        Raises:
            ConfigError. ArgumentError: `config_dict` is no mapping of names to values.
        """
        return_unused = kwargs.pop("return_unused_kwargs", False)
        for name in ("_from_auto", "_from_pipeline"):
            kwargs.pop(name, None)
        config = cls(**{**fields_of(config_dict), **kwargs})
        unused = {name: value for name, value in kwargs.items() if name not in config.__dict__}
        return (config, unused) if return_unused else config

    @classmethod
    def from_model_config(cls: type[Self], model_config: PretrainedConfig | Mapping[str, Any]) -> Self:
        """Return what the config of a model says about generation, its decoder's where the config itself says nothing.

        Raises:
            ConfigError: parameters that cannot be meant.
        """
        values = model_config.to_dict() if isinstance(model_config, PretrainedConfig) else dict(fields_of(model_config))
        decoder = _decoder_of(model_config)
        for name, value in (decoder.to_dict() if decoder is not None else {}).items():
            if name in DEFAULTS and values.get(name, DEFAULTS[name]) in (None, DEFAULTS[name]):
                values[name] = value
        said = {name: value for name, value in values.items() if value is not None and name in DEFAULTS}
        if any(said.get(flag) for flag in cls.extra_output_flags):
            said["return_dict_in_generate"] = True
        return cls(**said, _from_model_config=True)._as_read()

    def _as_read(self: Self) -> Self:
        """Remember the parameters as they are, and return the config."""
        self._original_object_hash = hash(self)
        return self

    def _was_changed(self) -> bool:
        """Return whether it is not what it was when it was read, or made of a model's config."""
        return self.__dict__.get("_original_object_hash") != hash(self)


def _decoder_of(config: Any) -> PretrainedConfig | None:
    if not isinstance(config, PretrainedConfig):
        return None
    decoder = config.get_text_config(decoder=True)
    return None if decoder is config else decoder


def _name_of(config_file_name: Any) -> str:
    return os.fspath(path_of(config_file_name or GENERATION_CONFIG_NAME, "config_file_name"))


def read_generation_config(place: Any, subfolder: str = "", name: str = GENERATION_CONFIG_NAME) -> Any:
    """Return the values of the file `name` of a local or fetched folder; None if it is not there.

    Raises:
        ConfigError, HubError and its subclasses, ArgumentError. UnsafeCheckpointError: a link out of the folder.
    """
    if os.path.isfile(place):
        return read_config(Path(place))
    check_subfolder(subfolder)
    if not fetch_beside(place, subfolder, name):
        return None
    folder = Path(place) / subfolder
    check_inside(folder, folder / name)
    values = read_config(folder / name)
    if isinstance(place, HubFolder):
        values["_commit_hash"] = place.snapshot.commit
    return values


def _text_keys(value: Any) -> Any:
    """Return `value` with every key as text: tuples of tokens are keys in `sequence_bias`."""
    if isinstance(value, Mapping):
        return {str(key): _text_keys(item) for key, item in value.items()}
    return [_text_keys(item) for item in value] if isinstance(value, list) else value
