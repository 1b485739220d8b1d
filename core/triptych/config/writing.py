"""Configs written: as a dict, as text, into a file or folder, and to the Hub."""

from __future__ import annotations

import copy
import json
import os
import warnings
from collections.abc import Mapping
from typing import Any

from triptych.config.fields import (
    BASE_DEFAULTS,
    GENERATION_DEFAULTS,
    OF_THE_OBJECT,
    TRANSFORMERS_VERSION,
    Fields,
    arguments_of,
)
from triptych.config.values import dtypes_to_text, newly_made, plain, recursive_diff_dict, write_text
from triptych.errors import ArgumentError, ConfigError
from triptych.files.paths import CONFIG_NAME, path_of
from triptych.hub.pushing import PushToHubMixin, push_files
from triptych.hub.remote_code import mapped
from triptych.hub.saved_code import code_of

_NEVER_IN_A_DIFF = ("_name_or_path", "name_or_path", "_commit_hash", "_pre_quantization_dtype")


class Writing(Fields, PushToHubMixin):
    """Part of `PretrainedConfig`: `save_pretrained` and what it is made of."""

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **push_arguments: Any
    ) -> None:
        """Write `config.json` to `save_directory`, atomically. The weights that are there stay what they are; a save
        of weights that was killed past its commit is finished first.

        With `push_to_hub` it is pushed too; `push_arguments` are those of `push_to_hub`, with `repo_id` the folder's
        name by default.

        Raises:
            ConfigError: a field was set to an impossible value; nothing is written.
            ArgumentError: unknown arguments. SaveError: what was there before is still there. Others of `push_to_hub`:
            the folder is written then.
        """
        from triptych.checkpoints.saving import save_config

        self._validate_whole()
        push = self._push_of_save(push_to_hub, save_directory, push_arguments)
        self._warn_of_generation()
        folder, (auto_map, files) = path_of(save_directory, "save_directory", "folder"), code_of(type(self))
        config = copy.deepcopy(self)
        config._map_auto(auto_map)
        save_config(folder, config.to_json_string(), also=files)
        if push is not None:
            push_files(push, {name: folder / name for name in (*files, CONFIG_NAME)})

    def _map_auto(self, auto_map: Mapping[str, str]) -> None:
        """Let `auto_map` name classes whose code is saved beside config.json."""
        if auto_map:
            self.auto_map = {**mapped(self.__dict__), **auto_map}

    @classmethod
    def register_for_auto_class(cls, auto_class: str | type = "AutoConfig") -> None:
        """Let saves write this class's code beside config.json, and `auto_map` in it name the class.

        Raises:
            ArgumentError: there is no such auto class.
        """
        name = auto_class if isinstance(auto_class, str) else getattr(auto_class, "__name__", repr(auto_class))
        if name != "AutoConfig":
            raise ArgumentError(f"{name} is no auto class of configs.", expected="AutoConfig")
        cls._auto_class = name

    def to_json_file(self, json_file_path: str | os.PathLike[str], use_diff: bool = True) -> None:
        """Write the config to `json_file_path`, atomically.

        Raises:
            ConfigError: a field was set to an impossible value; nothing is written. ArgumentError: it is no path.
            SaveError: the system refuses; what was there before is still there.
        """
        from triptych.checkpoints.saving import save_config

        self._validate_whole()
        file, text = path_of(json_file_path, "json_file_path"), self.to_json_string(use_diff)
        if file.name == CONFIG_NAME:
            save_config(file.parent, text)
        else:
            write_text(file, text)

    def to_dict(self) -> dict[str, Any]:
        """Return every field, JSON-ready; configs within this one as dicts, dtypes as text."""
        values = {key: plain(value) for key, value in self.__dict__.items() if key not in OF_THE_OBJECT}
        values |= plain(self._unplaced)
        values["model_type"] = type(self).model_type or values.get("model_type", "")
        if values.get("transformers_version") is None:
            values["transformers_version"] = TRANSFORMERS_VERSION
        values["id2label"] = {str(key): label for key, label in self.id2label.items()}
        values["pruned_heads"] = {str(layer): list(heads) for layer, heads in self.pruned_heads.items()}
        if self._dtype_key != "dtype":
            values[self._dtype_key] = values.pop("dtype")
        return values

    def to_diff_dict(self) -> dict[str, Any]:
        """Return `to_dict()` without the base fields whose value is the default of the base and of the class, and of
        configs within this one only what is not as in a new one."""
        values = self.to_dict()
        composite = self.is_composition or self.has_no_defaults_at_init
        new = None if composite else newly_made(type(self))
        for name, default in BASE_DEFAULTS.items():
            key = self._dtype_key if name == "dtype" else name
            known = new is not None or composite or self._is_of_generation(name)
            of_class = default if new is None else new.__dict__.get(name)
            if known and values.get(key) == default == of_class:
                values.pop(key, None)
        if (self.id2label, self.label2id) == ({0: "LABEL_0", 1: "LABEL_1"}, {"LABEL_0": 0, "LABEL_1": 1}):
            values.pop("id2label"), values.pop("label2id")
        for name, part in self.__dict__.items():
            like = None if new is None else new.__dict__.get(name)
            if isinstance(part, Fields) and isinstance(like, Fields):
                kept = {key: values[name][key] for key in ("model_type",) if key in values[name]}
                values[name] = kept | recursive_diff_dict(values[name], plain(like), part)
        return {key: value for key, value in values.items() if key not in _NEVER_IN_A_DIFF}

    def to_json_string(self, use_diff: bool = True) -> str:
        """Return the text of `config.json`: sorted keys, indent 2, one newline at the end. Numbers that are not finite
        are written as transformers 4 does, `Infinity` and `NaN`."""
        values = self.to_diff_dict() if use_diff else self.to_dict()
        try:
            return json.dumps(values, indent=2, sort_keys=True) + "\n"
        except (TypeError, ValueError) as cause:
            raise ConfigError(
                "The config cannot be written as JSON.",
                expected="text, numbers, true, false, null, and lists and mappings of them",
                received=str(cause),
            ) from cause

    def dict_dtype_to_str(self, d: dict[str, Any]) -> None:
        """Put texts in the place of dtypes, in `d` and in dicts within."""
        dtypes_to_text(d)

    dict_torch_dtype_to_str = dict_dtype_to_str

    # -- what is of generation ----------------------------------------------------------------------------------

    @classmethod
    def _is_of_generation(cls, name: str) -> bool:
        """Return whether field `name` is about generation, and not one that the class calls the same."""
        return name in GENERATION_DEFAULTS and name not in arguments_of(cls)

    def _get_non_default_generation_parameters(self) -> dict[str, Any]:
        """Return the fields about generation that are neither None nor the default of the class."""
        new = newly_made(type(self))
        default = dict(GENERATION_DEFAULTS) if new is None else new.__dict__
        own = {name: self.__dict__.get(name) for name in GENERATION_DEFAULTS if self._is_of_generation(name)}
        return {name: value for name, value in own.items() if value is not None and value != default.get(name)}

    def _warn_of_generation(self) -> None:
        if misplaced := self._get_non_default_generation_parameters():
            warnings.warn(
                f"These fields of the config are about generation: {misplaced}. They are written, but belong into a "
                "GenerationConfig: model.generation_config, or generation_config.json.",
                UserWarning,
                stacklevel=3,
            )
