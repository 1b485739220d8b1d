"""The configuration of a model: plain data, read from and written to `config.json`.

Field names and the diff form of the file are those of transformers 4 and 5, so both read what triptych writes. A
config never imports, downloads or chooses code: unknown keys are kept and written back, nothing more.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from triptych.checkpoints.held import HeldFolder
from triptych.checkpoints.resolve import OF_A_FOLDER
from triptych.checks import dtype_name, layers_and_heads, number_of_layer, parse_as, parse_labels
from triptych.checks import natural as natural
from triptych.checks import optional_positive_int as optional_positive_int
from triptych.checks import part_count as part_count
from triptych.checks import positive_int as positive_int
from triptych.checks import positive_number as positive_number
from triptych.checks import probability as probability
from triptych.errors import ArgumentError, ConfigError, MissingFileError
from triptych.files.atomic import write_atomically
from triptych.files.json import read_json
from triptych.files.paths import CONFIG_NAME, local_folder
from triptych.hub.fetching import HubFolder, fetch_config, take_hub_arguments
from triptych.hub.pushing import PushToHubMixin, push_files
from triptych.hub.remote_code import from_repository, mapped, take_code_arguments
from triptych.hub.saved_code import code_of

Self = TypeVar("Self", bound="PretrainedConfig")

_BASE_DEFAULTS: dict[str, Any] = {
    "output_hidden_states": False,
    "output_attentions": False,
    "return_dict": True,
    "pruned_heads": {},
    "tie_word_embeddings": True,
    "chunk_size_feed_forward": 0,
    "is_encoder_decoder": False,
    "is_decoder": False,
    "add_cross_attention": False,
    "cross_attention_hidden_size": None,
    "architectures": None,
    "finetuning_task": None,
    "task_specific_params": None,
    "problem_type": None,
    "tokenizer_class": None,
    "prefix": None,
    "bos_token_id": None,
    "pad_token_id": None,
    "eos_token_id": None,
    "sep_token_id": None,
    "decoder_start_token_id": None,
    "dtype": None,
}
_PROBLEM_TYPES = (None, "regression", "single_label_classification", "multi_label_classification")
_MAX_DEFAULT_LABELS = 1_000_000
_NEVER_WRITTEN = ("_name_or_path", "name_or_path", "_commit_hash")


class PretrainedConfig(PushToHubMixin):
    """Base class of all configs.

    Subclasses set `model_type`, list their own fields with defaults in `__init__`, pass the rest on as `**kwargs`, and
    may set `attribute_map` (alias -> real name, used for reading, writing and as keyword) and `checks` (field name ->
    function that raises ValueError or returns False for an impossible value). Both are asked at creation, and again
    whenever a model is built of the config and when either is saved: so a field that was set later is checked too.

    Keyword arguments that no class declares become attributes when their name is a plain identifier that shadows
    nothing; the others stay in `extra`. Both are written back to `config.json`.

    Raises:
        ConfigError: a field has an impossible value; the message names it.
    """

    model_type: ClassVar[str] = ""
    attribute_map: ClassVar[Mapping[str, str]] = {}
    checks: ClassVar[Mapping[str, Callable[[Any], bool]]] = {}
    keys_to_ignore_at_inference: ClassVar[tuple[str, ...]] = ("past_key_values",)
    _auto_class: ClassVar[str | None] = None
    pruned_heads: dict[int, list[int]]

    def __init__(self, **kwargs: Any) -> None:
        kwargs = {name: value for name, value in kwargs.items() if name not in OF_A_FOLDER}
        self.extra: dict[str, Any] = {}
        self.name_or_path = str(kwargs.pop("name_or_path", kwargs.pop("_name_or_path", "")))
        self._dtype_key = "torch_dtype" if "torch_dtype" in kwargs and "dtype" not in kwargs else "dtype"
        legacy_dtype = kwargs.pop("torch_dtype", None)
        kwargs["dtype"] = dtype_name(kwargs.get("dtype") or legacy_dtype)
        kwargs.pop("model_type", None)
        labels = {key: kwargs.pop(key, None) for key in ("num_labels", "id2label", "label2id")}
        for name, default in _BASE_DEFAULTS.items():
            # A class may declare a base field with its own default: it has already set the attribute then.
            if name in kwargs or name not in self.__dict__:
                setattr(self, name, kwargs.pop(name, copy.copy(default)))
        self._set_labels(**labels)
        for name, value in kwargs.items():
            self._set_unknown(name, value)
        self.validate()

    def _set_fields(self, arguments: Mapping[str, Any]) -> None:
        """Set the fields that a subclass's `__init__` names in its signature, from its `locals()`."""
        for name, value in arguments.items():
            if name not in ("self", "kwargs", "__class__"):
                setattr(self, name, value)

    def _set_unknown(self, name: str, value: Any) -> None:
        shadows = hasattr(type(self), name) or (name in self.__dict__ and name not in _BASE_DEFAULTS)
        if shadows and name not in self.attribute_map or not name.isidentifier() or name.startswith("__"):
            self.extra[name] = value
        else:
            setattr(self, name, value)

    def _set_labels(self, num_labels: Any, id2label: Any, label2id: Any) -> None:
        if id2label is None:
            parse_labels({}, label2id)
            count = 2 if num_labels is None else num_labels
            if type(count) is not int or not 0 < count <= _MAX_DEFAULT_LABELS:
                raise ConfigError(
                    "`num_labels` is impossible.",
                    expected=f"an integer from 1 to {_MAX_DEFAULT_LABELS:,}",
                    received=repr(count)[:80],
                    remedy="name more labels than that in `id2label`",
                )
            self.id2label = {i: f"LABEL_{i}" for i in range(count)}
            self.label2id = {label: i for i, label in self.id2label.items()}
            return
        self.id2label, self.label2id = parse_labels(id2label, label2id)
        if num_labels is not None and num_labels != len(self.id2label):
            raise ConfigError(
                "`num_labels` contradicts `id2label`.",
                expected=f"{len(self.id2label)}",
                received=repr(num_labels),
                remedy="pass only one of them",
            )

    # -- attributes ---------------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(type(self).attribute_map.get(name, name), value)

    def __getattr__(self, name: str) -> Any:
        real = type(self).attribute_map.get(name)
        if real is not None:
            return getattr(self, real)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    @property
    def num_labels(self) -> int:
        """Number of labels; setting another number makes new default labels."""
        return len(self.id2label)

    @num_labels.setter
    def num_labels(self, value: int) -> None:
        if value != len(self.id2label):
            self._set_labels(value, None, None)

    @property
    def torch_dtype(self) -> str | None:
        """The older name of `dtype`, as text."""
        return self.dtype

    @torch_dtype.setter
    def torch_dtype(self, value: object) -> None:
        self.dtype = dtype_name(value)

    @property
    def use_return_dict(self) -> bool:
        """Whether calls return an output by name, not a tuple, if they do not say."""
        return bool(self.return_dict) and not getattr(self, "torchscript", False)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.to_dict() == other.to_dict()  # type: ignore[attr-defined]

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string()}"

    # -- checks -------------------------------------------------------------------------------------------------

    def validate(self) -> None:
        """Raise `ConfigError` naming the first field with an impossible value.

        An override calls `super().validate()` first. It may be called any number of times.
        """
        if self.problem_type not in _PROBLEM_TYPES:
            raise ConfigError("`problem_type` is unknown.", expected=f"{_PROBLEM_TYPES}", received=self.problem_type)
        self._set_labels(None, self.id2label, self.label2id)
        self.dtype = dtype_name(self.dtype)
        for name, check in type(self).checks.items():
            value = getattr(self, name)
            try:
                good = check(value)
            except (TypeError, ValueError) as cause:
                raise ConfigError(f"`{name}` is impossible.", received=repr(value)[:80]) from cause
            if not good:
                expected = (check.__doc__ or "").strip().rstrip(".")
                raise ConfigError(f"`{name}` is impossible.", expected=expected, received=repr(value)[:80])
        self.pruned_heads = self._parse_pruned_heads()

    def _validate_whole(self) -> None:
        """Validate this config and those that it holds, as they are now: before a model is built or a file written."""
        self.validate()
        for part in list(vars(self).values()):
            if isinstance(part, PretrainedConfig):
                part._validate_whole()

    def attention_count(self) -> int | None:
        """Return how many attentions `pruned_heads` counts: one for each layer; None if that is not known.

        A family with more of them overrides it.
        """
        layers = getattr(self, "num_hidden_layers", None)
        return layers if type(layers) is int else None

    def _parse_pruned_heads(self) -> dict[int, list[int]]:
        """Return `pruned_heads` with each layer once, under its number from 0; transformers also counts from the end.

        Raises:
            ConfigError: no mapping of layers to heads, a layer or head that is not there, or every head of a layer.
        """
        count, heads = self.attention_count(), getattr(self, "num_attention_heads", None)
        result: dict[int, set[int]] = {}
        for layer, gone in layers_and_heads(self.pruned_heads):
            number = number_of_layer(layer, count)
            if number is None:
                raise ConfigError(
                    f"`pruned_heads` names layer {layer}, which is not there.",
                    expected="layers from 0" if count is None else f"layers from {-count} to {count - 1}",
                    received=repr(self.pruned_heads)[:80],
                )
            result[number] = result.get(number, set()) | gone
        for number, gone in result.items():
            strange = [head for head in gone if head < 0 or type(heads) is int and head >= heads]
            if strange or type(heads) is int and len(gone) >= heads:
                raise ConfigError(
                    f"`pruned_heads` of layer {number} is impossible.",
                    expected=f"some of the heads 0 to {heads - 1}, leaving at least one" if heads else "heads from 0",
                    received=str(sorted(gone))[:80],
                )
        return {number: sorted(gone) for number, gone in result.items()}

    # -- files --------------------------------------------------------------------------------------------------

    @classmethod
    def get_config_dict(cls, path: str | os.PathLike[str], **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the contents of `config.json` in folder, file or repository `path`, and the unused arguments.

        `subfolder` names a folder below `path`; `revision`, `token`, `cache_dir`, `force_download` and
        `local_files_only` are for a repository of the Hub, see `triptych.hub.snapshot.HubOptions`.

        Raises:
            MissingFileError, ConfigError, HubError and its subclasses.
        """
        subfolder, arguments = kwargs.pop("subfolder", ""), take_hub_arguments(kwargs)
        take_code_arguments(kwargs)  # of the auto classes; a class that is asked by its name needs no code
        held = hold_config(fetch_config(path, subfolder, arguments), subfolder)
        values = copy.deepcopy(dict(held.config or {}))
        if isinstance(held.place, HubFolder):
            from_repository(values, held.place.repo_id)
        return values, kwargs

    @classmethod
    def from_pretrained(cls: type[Self], pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> Any:
        """Read a config from a folder, a JSON file or a repository of the Hub; keyword arguments override its fields.

        Returns the config, or `(config, unused)` with `return_unused_kwargs=True`. Arguments of `get_config_dict` say
        where to look.

        Raises:
            MissingFileError, ConfigError, HubError and its subclasses.
        """
        values, kwargs = cls.get_config_dict(pretrained_model_name_or_path, **kwargs)
        kwargs.setdefault("name_or_path", str(pretrained_model_name_or_path))
        found = values.get("model_type")
        if cls.model_type and found and found != cls.model_type:
            raise ConfigError(
                f"{pretrained_model_name_or_path} holds another kind of model.",
                expected=f"model_type {cls.model_type!r}",
                received=repr(found),
                remedy="load it with AutoConfig, or with the class of its own family",
            )
        return cls.from_dict(values, **kwargs)

    @classmethod
    def from_dict(cls: type[Self], config_dict: Mapping[str, Any], **kwargs: Any) -> Any:
        """Return a config made of `config_dict`, overridden by those keyword arguments that name a field of it."""
        return_unused = kwargs.pop("return_unused_kwargs", False)
        values = dict(config_dict)
        for alias, real in cls.attribute_map.items():
            if alias in values and real not in values:
                values[real] = values.pop(alias)
        if "name_or_path" in kwargs:
            values["name_or_path"] = kwargs.pop("name_or_path")
        known = set(cls._of(values).__dict__) | set(cls.attribute_map) | set(values) | {"num_labels", "torch_dtype"}
        override = {name: kwargs.pop(name) for name in list(kwargs) if name in known and not name.startswith("_")}
        if "num_labels" in override and "id2label" not in override:
            values.pop("id2label", None), values.pop("label2id", None)
        for name, value in override.items():
            values[cls.attribute_map.get(name, name)] = value
        config = cls._of(values)
        return (config, kwargs) if return_unused else config

    @classmethod
    def _of(cls: type[Self], values: Mapping[str, Any]) -> Self:
        """Return a config of the contents of a file, where a key may be called as Python calls the first argument."""
        config = cls(**{name: value for name, value in values.items() if name != "self"})
        if "self" in values:
            config.extra["self"] = values["self"]
        return config

    @classmethod
    def from_json_file(cls: type[Self], json_file: str | os.PathLike[str]) -> Self:
        """Return the config in one JSON file."""
        return cls._of(read_json(Path(json_file), ConfigError))

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
        folder, (auto_map, files) = Path(save_directory), code_of(type(self))
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
    def register_for_auto_class(cls, auto_class: str = "AutoConfig") -> None:
        """Let saves write this class's code beside config.json, and `auto_map` in it name the class.

        Raises:
            ArgumentError: there is no such auto class.
        """
        if auto_class != "AutoConfig":
            raise ArgumentError(f"{auto_class} is no auto class of configs.", expected="AutoConfig")
        cls._auto_class = auto_class

    def to_json_file(self, json_file_path: str | os.PathLike[str], use_diff: bool = True) -> None:
        """Write the config to `json_file_path`, atomically.

        Raises:
            ConfigError: a field was set to an impossible value; nothing is written.
            SaveError: of a config.json, whose folder may hold a save to be finished first.
        """
        from triptych.checkpoints.saving import save_config

        self._validate_whole()
        file, text = Path(json_file_path), self.to_json_string(use_diff)
        if file.name == CONFIG_NAME:
            save_config(file.parent, text)
        else:
            write_atomically(file, text.encode())

    def to_dict(self) -> dict[str, Any]:
        """Return every field, JSON-ready."""
        values = {
            key: value.to_dict() if isinstance(value, PretrainedConfig) else copy.deepcopy(value)
            for key, value in self.__dict__.items()
            if not key.startswith("_")
        }
        values |= values.pop("extra")
        values.pop("name_or_path", None)
        values["model_type"] = type(self).model_type or values.get("model_type", "")
        values["id2label"] = {str(key): label for key, label in self.id2label.items()}
        values["pruned_heads"] = {str(layer): list(heads) for layer, heads in self.pruned_heads.items()}
        if self._dtype_key != "dtype":
            values[self._dtype_key] = values.pop("dtype")
        return values

    def to_diff_dict(self) -> dict[str, Any]:
        """Return `to_dict()` without the base fields whose value is the default of the base and of the class."""
        values = self.to_dict()
        try:
            own_defaults: dict[str, Any] | None = type(self)().__dict__
        except TypeError:  # a class whose fields have no defaults: every base field is written
            own_defaults = None
        for name, default in _BASE_DEFAULTS.items():
            key = self._dtype_key if name == "dtype" else name
            if own_defaults is not None and values.get(key) == default == own_defaults.get(name):
                values.pop(key, None)
        if (self.id2label, self.label2id) == ({0: "LABEL_0", 1: "LABEL_1"}, {"LABEL_0": 0, "LABEL_1": 1}):
            values.pop("id2label"), values.pop("label2id")
        return {key: value for key, value in values.items() if key not in _NEVER_WRITTEN}

    def to_json_string(self, use_diff: bool = True) -> str:
        """Return the text of `config.json`: sorted keys, indent 2, one newline at the end."""
        values = self.to_diff_dict() if use_diff else self.to_dict()
        try:
            return json.dumps(values, indent=2, sort_keys=True, allow_nan=False) + "\n"
        except (TypeError, ValueError) as cause:
            raise ConfigError(
                "The config cannot be written as JSON.",
                expected="text, finite numbers, true, false, null, and lists and mappings of them",
                received=str(cause),
            ) from cause

    def update(self, config_dict: Mapping[str, Any]) -> None:
        """Set the fields of `config_dict`; a bad value raises `ConfigError` and changes nothing."""
        before = dict(self.__dict__)
        try:
            for name, value in config_dict.items():
                setattr(self, name, value)
            self._validate_whole()
        except Exception:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def update_from_string(self, update_str: str) -> None:
        """Set fields from text "name=value,name=value"; each value takes the type of the present one."""
        changes: dict[str, Any] = {}
        for pair in update_str.split(","):
            name, _, text = pair.partition("=")
            if not hasattr(self, name):
                raise ArgumentError(f"The config has no field {name!r}.", received=update_str)
            changes[name] = parse_as(text, getattr(self, name), name)
        self.update(changes)

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> PretrainedConfig:
        """Return the sub-config of the text part, or the config itself."""
        names = ("decoder", "generator", "text_config") if encoder is not True else ("text_encoder",)
        found = [getattr(self, n) for n in names if isinstance(getattr(self, n, None), PretrainedConfig)]
        if len(found) > 1:
            raise ArgumentError("The config has several text parts.", expected="one", received=str(len(found)))
        return found[0] if found else self


def hold_config(path: Any, subfolder: str = "") -> HeldFolder:
    """Return folder or file `path` with its config.json read; what is held already is not read again.

    Raises:
        As `config_path`; ConfigError.
    """
    if isinstance(path, HeldFolder) and path.subfolder == subfolder and path.config is not None:
        return path
    return HeldFolder(path, subfolder, read_json(config_path(path, subfolder), ConfigError))


def config_path(path: str | os.PathLike[str] | None, subfolder: str = "") -> Path:
    """Return the path of `config.json` in folder `path` (which may also be the file itself).

    Raises:
        ArgumentError: `path` is no path. MissingFileError: there is no such file.
    """
    if isinstance(path, (str, os.PathLike)) and os.path.isfile(path):
        return Path(path)
    file = local_folder(path, subfolder) / CONFIG_NAME
    if not file.is_file():
        raise MissingFileError(
            f"{file.parent} has no {CONFIG_NAME}.",
            expected=f"a folder with a {CONFIG_NAME}",
            received=f"a folder with {sorted(p.name for p in file.parent.iterdir())[:8]}",
            remedy="check the path, or pass config=",
        )
    return file
