"""`GenerationConfig`: how a model generates, read from and written to `generation_config.json` as transformers 4 does.

It is data: nothing here generates.
"""

from __future__ import annotations

import copy
import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from triptych.config import GENERATION_DEFAULTS, TRANSFORMERS_VERSION, PretrainedConfig
from triptych.config.values import dtypes_to_text, plain
from triptych.errors import ConfigError, MissingFileError, SaveError
from triptych.files.atomic import write_atomically
from triptych.files.json import read_config
from triptych.files.paths import GENERATION_CONFIG_NAME, check_subfolder, local_folder, safe_name
from triptych.generation.options import watermarking
from triptych.hub.fetching import HubFolder, fetch_beside, fetch_config, take_hub_arguments
from triptych.hub.pushing import PushToHubMixin, push_files
from triptych.hub.remote_code import take_code_arguments

logger = logging.getLogger("triptych")
Self = TypeVar("Self", bound="GenerationConfig")

DEFAULTS: Mapping[str, Any] = {
    **GENERATION_DEFAULTS,
    "max_new_tokens": None,
    "min_new_tokens": None,
    "max_time": None,
    "stop_strings": None,
    "penalty_alpha": None,
    "dola_layers": None,
    "use_cache": True,
    "cache_implementation": None,
    "cache_config": None,
    "return_legacy_cache": None,
    "prefill_chunk_size": None,
    "min_p": None,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "encoder_repetition_penalty": 1.0,
    "force_words_ids": None,
    "renormalize_logits": False,
    "constraints": None,
    "forced_decoder_ids": None,
    "sequence_bias": None,
    "token_healing": False,
    "guidance_scale": None,
    "low_memory": None,
    "watermarking_config": None,
    "output_attentions": False,
    "output_hidden_states": False,
    "output_logits": None,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
    "decoder_start_token_id": None,
    "is_assistant": False,
    "num_assistant_tokens": 20,
    "num_assistant_tokens_schedule": "constant",
    "assistant_confidence_threshold": 0.4,
    "prompt_lookup_num_tokens": None,
    "max_matching_ngram_size": None,
    "assistant_early_exit": None,
    "assistant_lookbehind": 10,
    "target_lookbehind": 10,
    "compile_config": None,
    "disable_compile": False,
    "generation_kwargs": {},
}
_METADATA: Mapping[str, Any] = {"_from_model_config": False, "_commit_hash": None, "transformers_version": None}
_OF_THE_OBJECT = ("_commit_hash", "_original_object_hash", "compile_config")
"""Attributes that are not written."""

_CACHES = ("static", "offloaded_static", "sliding_window", "hybrid", "mamba", "quantized", "dynamic", "offloaded",
           "hybrid_chunked", "offloaded_hybrid", "offloaded_hybrid_chunked", "dynamic_full")  # fmt: skip
_OF_GENERATE = ("logits_processor", "stopping_criteria", "prefix_allowed_tokens_fn", "synced_gpus", "assistant_model",
                "streamer", "negative_prompt_ids", "negative_prompt_attention_mask", "use_model_defaults")  # fmt: skip
_OF_SAMPLING = ("temperature", "top_p", "min_p", "typical_p", "top_k", "epsilon_cutoff", "eta_cutoff")
_OF_BEAMS = ("early_stopping", "num_beam_groups", "diversity_penalty", "length_penalty", "constraints")


class GenerationConfig(PushToHubMixin):
    """How a model generates. Arguments are the parameters of transformers 4, each of which has its default there.

    Others become attributes and are written too, but not with `_from_model_config=True`, which takes from the fields of
    a model's config those that concern generation.

    Raises:
        ConfigError: parameters that cannot be meant. What has no effect is only warned of.
    """

    extra_output_flags = ("output_attentions", "output_hidden_states", "output_scores", "output_logits")

    def __init__(self, **kwargs: Any) -> None:
        for name, default in {**DEFAULTS, **_METADATA}.items():
            setattr(self, name, kwargs.pop(name, copy.copy(default)))
        self.is_assistant = False
        self.watermarking_config: Any = watermarking(vars(self)["watermarking_config"])
        self.transformers_version = getattr(self, "transformers_version", None) or TRANSFORMERS_VERSION
        for name, value in kwargs.items() if not self._from_model_config else ():
            if callable(getattr(type(self), name, None)) or name.startswith("__"):
                raise ConfigError("This is no parameter of generation.", received=repr(name)[:80])
            self.__dict__[name] = value
        self.validate()

    if TYPE_CHECKING:  # the parameters are those of `DEFAULTS`, and whatever others were given

        def __getattr__(self, name: str) -> Any: ...

        def __setattr__(self, name: str, value: Any) -> None: ...

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

    # -- checks -------------------------------------------------------------------------------------------------

    def validate(self, is_init: bool = False, strict: bool = False) -> None:
        """Raise for parameters that cannot be meant; warn of those that have no effect, or with `strict` raise too.

        Raises:
            ConfigError.
        """
        if error := self._error():
            raise ConfigError(f"The generation config is impossible: {error}.")
        minor = self._without_effect()
        if minor and strict:
            raise ConfigError(
                "The generation config has parameters without effect.",
                received="; ".join(minor),
                remedy="set them to their defaults, or set what they need",
            )
        for text in minor:
            logger.warning("generation config: %s", text)

    def _error(self) -> str:
        """Return what cannot be meant, or an empty text."""
        beams, sequences, tokens = self.num_beams, self.num_return_sequences, self.max_new_tokens
        if not isinstance(self.early_stopping, (bool, type(None))) and self.early_stopping != "never":
            return f"early_stopping is {self.early_stopping!r}, neither a boolean nor 'never'"
        for name in ("max_length", "min_length", "max_new_tokens", "num_beams", "num_return_sequences"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                return f"{name} is {value!r}, no integer"
        if tokens is not None and tokens <= 0:
            return f"max_new_tokens is {tokens}, not positive"
        if self.cache_implementation is not None and self.cache_implementation not in _CACHES:
            return f"cache_implementation is {self.cache_implementation!r}, none of {', '.join(_CACHES)}"
        if self.compile_config is not None and not hasattr(self.compile_config, "fullgraph"):
            return f"compile_config is {self.compile_config!r}, no CompileConfig"
        if sequences not in (None, 1):
            if beams in (None, 1) and not self.do_sample:
                return f"num_return_sequences is {sequences}, but greedy search finds one"
            if (beams or 1) > 1 and sequences > beams:
                return f"num_return_sequences is {sequences}, of {beams} beams"
        stray = next((name for name in _OF_GENERATE if name in self.__dict__), None)
        return f"{stray} is an argument of generate, not of the config" if stray else ""

    def _without_effect(self) -> list[str]:
        """Return which parameters have no effect, and why."""
        found = []
        if not self.do_sample:
            contrastive = self.penalty_alpha is not None
            names = [name for name in _OF_SAMPLING if self._is_set(name) and not (contrastive and name == "top_k")]
            found += [f"{name}={getattr(self, name)!r} needs do_sample=True" for name in names]
        if self.num_beams in (None, 1):
            names = [name for name in _OF_BEAMS if self._is_set(name)]
            found += [f"{name}={getattr(self, name)!r} needs num_beams above 1" for name in names]
        if not self.return_dict_in_generate:
            names = [name for name in self.extra_output_flags if getattr(self, name) is True]
            found += [f"{name} needs return_dict_in_generate=True" for name in names]
        if self.use_cache is False:
            names = [name for name in ("cache_implementation", "cache_config") if getattr(self, name) is not None]
            found += [f"{name} needs use_cache=True" for name in names]
        if isinstance(self.pad_token_id, int) and self.pad_token_id < 0:
            found.append(f"pad_token_id={self.pad_token_id} is no token")
        return found

    def _is_set(self, name: str) -> bool:
        value = getattr(self, name)
        return value is not None and value != DEFAULTS[name]

    def get_generation_mode(self, assistant_model: Any = None) -> str:
        """Return which way of generating the parameters ask for, as transformers 4 calls it: "greedy_search", ...

        Raises:
            ConfigError: they ask for two ways that do not go together.
        """
        mode = self._basic_mode()
        helped = assistant_model is not None or self.prompt_lookup_num_tokens or self.assistant_early_exit
        for asked, name in ((helped, "assisted_generation"), (self.dola_layers is not None, "dola_generation")):
            if asked and mode not in ("greedy_search", "sample"):
                raise ConfigError(f"{name} goes with greedy search or sampling only.", received=mode)
            mode = name if asked else mode
        return mode

    def _basic_mode(self) -> str:
        if self.constraints is not None or self.force_words_ids is not None:
            return "constrained_beam_search"
        if self.num_beams in (None, 1):
            contrastive = (self.top_k or 0) > 1 and (self.penalty_alpha or 0) > 0
            return "sample" if self.do_sample else "contrastive_search" if contrastive else "greedy_search"
        if (self.num_beam_groups or 1) > 1:
            return "group_beam_search"
        return "beam_sample" if self.do_sample else "beam_search"

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
        """Write the text to `json_file_path`, atomically."""
        write_atomically(Path(json_file_path), self.to_json_string(use_diff).encode())

    def dict_dtype_to_str(self, d: dict[str, Any]) -> None:
        """Put texts in the place of dtypes, in `d` and in dicts within."""
        dtypes_to_text(d)

    dict_torch_dtype_to_str = dict_dtype_to_str

    def update(self, **kwargs: Any) -> dict[str, Any]:
        """Set the parameters that there are, and return the other arguments; a bad value changes nothing.

        Raises:
            ConfigError.
        """
        before = dict(self.__dict__)
        known = {name: value for name, value in kwargs.items() if name in before}
        self.__dict__.update(known)
        try:
            self.validate()
        except ConfigError:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        return {name: value for name, value in kwargs.items() if name not in known}

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
        folder, text = Path(save_directory), self.to_json_string()
        name = safe_name(os.fspath(config_file_name or GENERATION_CONFIG_NAME), folder, (".json",))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / name, text.encode())
        except OSError as cause:
            raise SaveError(
                f"{folder / name} could not be saved.", received=str(cause), remedy="see the cause; nothing was changed"
            ) from cause
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
        name = os.fspath(config_file_name or GENERATION_CONFIG_NAME)
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
            ConfigError.
        """
        return_unused = kwargs.pop("return_unused_kwargs", False)
        for name in ("_from_auto", "_from_pipeline"):
            kwargs.pop(name, None)
        config = cls(**{**config_dict, **kwargs})
        unused = {name: value for name, value in kwargs.items() if name not in config.__dict__}
        return (config, unused) if return_unused else config

    @classmethod
    def from_model_config(cls: type[Self], model_config: PretrainedConfig | Mapping[str, Any]) -> Self:
        """Return what the config of a model says about generation, its decoder's where the config itself says nothing.

        Raises:
            ConfigError: parameters that cannot be meant.
        """
        values = model_config.to_dict() if isinstance(model_config, PretrainedConfig) else dict(model_config)
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


def read_generation_config(place: Any, subfolder: str = "", name: str = GENERATION_CONFIG_NAME) -> Any:
    """Return the values of the file `name` of a local or fetched folder; None if it is not there.

    Raises:
        ConfigError, HubError and its subclasses, ArgumentError.
    """
    if os.path.isfile(place):
        return read_config(Path(place))
    check_subfolder(subfolder)
    if not fetch_beside(place, subfolder, name):
        return None
    values = read_config(Path(place) / subfolder / name)
    if isinstance(place, HubFolder):
        values["_commit_hash"] = place.snapshot.commit
    return values


def _text_keys(value: Any) -> Any:
    """Return `value` with every key as text: tuples of tokens are keys in `sequence_bias`."""
    if isinstance(value, Mapping):
        return {str(key): _text_keys(item) for key, item in value.items()}
    return [_text_keys(item) for item in value] if isinstance(value, list) else value
