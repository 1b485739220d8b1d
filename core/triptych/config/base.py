"""`PretrainedConfig`, and what of it is neither about its files nor about single fields."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from triptych.checkpoints.resolve import OF_A_FOLDER
from triptych.checks import parse_as
from triptych.config.fields import BASE_DEFAULTS
from triptych.config.reading import Reading
from triptych.config.values import fields_of
from triptych.config.writing import Writing
from triptych.errors import ArgumentError, ConfigError

Self = TypeVar("Self", bound="PretrainedConfig")

_DECODERS, _ENCODERS = ("decoder", "generator", "text_config"), ("text_encoder",)
_LAYER_TYPES = ("full_attention", "sliding_attention", "chunked_attention", "linear_attention")


class PretrainedConfig(Reading, Writing):
    """Base class of all configs.

    Subclasses set `model_type`, list their own fields with defaults in `__init__`, pass the rest on as `**kwargs`, and
    may set `attribute_map` (alias -> real name, used for reading, writing and as keyword) and `checks` (field name ->
    function that raises ValueError or returns False for an impossible value). Both are asked at creation, and again
    whenever a model is built of the config and when either is saved: so a field that was set later is checked too.

    A class whose configs hold others names them, field -> class, in `sub_configs`; `base_config_key` is the field in
    which such a config holds this class's, `has_no_defaults_at_init` says that the constructor needs arguments.

    Fields of the base are arguments of this constructor: one that a subclass sets before it calls this and does not
    pass on is set to its default again, as in transformers 4.

    Keyword arguments that no class declares become attributes when their name is a plain identifier that hides no
    method; the others are kept aside. Both are written back to `config.json`.

    Raises:
        ConfigError: a field has an impossible value; the message names it.
    """

    def __init__(self, **kwargs: Any) -> None:
        kwargs = {name: value for name, value in kwargs.items() if name not in OF_A_FOLDER}
        self._unplaced = {}
        self._name_or_path = str(kwargs.pop("name_or_path", kwargs.pop("_name_or_path", "")))
        self._commit_hash = kwargs.pop("_commit_hash", None)
        self.transformers_version = kwargs.pop("transformers_version", None)
        for name in ("_attn_implementation_internal", "_attn_implementation_autoset", "model_type"):
            kwargs.pop(name, None)
        self._attn_implementation = kwargs.pop("attn_implementation", None)
        self._attn_implementation_autoset = False
        self._dtype_key = "torch_dtype" if "torch_dtype" in kwargs and "dtype" not in kwargs else "dtype"
        legacy_dtype = kwargs.pop("torch_dtype", None)
        if (dtype := kwargs.pop("dtype", None) or legacy_dtype) is not None:
            kwargs["dtype"] = dtype
        labels = {key: kwargs.pop(key, None) for key in ("num_labels", "id2label", "label2id")}
        for name, default in BASE_DEFAULTS.items():
            self._set_base_field(name, default, kwargs)
        before = self.__dict__.get("id2label")
        self._set_labels(**labels)
        if before not in (None, self.id2label) and not any(labels.values()):
            self._warn_of_reset("id2label", before, self.id2label)
        if kwargs.get("gradient_checkpointing"):
            warnings.warn(
                "gradient_checkpointing=True of a config is read once, by the model that is made of it; call "
                "model.gradient_checkpointing_enable() instead.",
                UserWarning,
                stacklevel=2,
            )
        for name, value in kwargs.items():
            self._set_unknown(name, value)
        self.validate()

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._compared() == other._compared()  # type: ignore[attr-defined]

    __hash__ = None  # type: ignore[assignment]

    def _compared(self) -> dict[str, Any]:
        return {name: value for name, value in self.to_dict().items() if name != "_name_or_path"}

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string()}"

    def update(self, config_dict: Mapping[str, Any]) -> None:
        """Set the fields of `config_dict`; a bad value changes nothing.

        Raises:
            ConfigError. ArgumentError: they are no fields.
        """
        given, before = fields_of(config_dict), dict(self.__dict__)
        try:
            for name, value in given.items():
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

    # -- configs within configs ---------------------------------------------------------------------------------

    @classmethod
    def from_text_vision_configs(
        cls: type[Self], text_config: PretrainedConfig, vision_config: PretrainedConfig, **kwargs: Any
    ) -> Self:
        """Return a config of this class that holds both."""
        return cls(text_config=text_config.to_dict(), vision_config=vision_config.to_dict(), **kwargs)

    @classmethod
    def from_text_audio_configs(
        cls: type[Self], text_config: PretrainedConfig, audio_config: PretrainedConfig, **kwargs: Any
    ) -> Self:
        """Return a config of this class that holds both."""
        return cls(text_config=text_config.to_dict(), audio_config=audio_config.to_dict(), **kwargs)

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> PretrainedConfig:
        """Return the config of the text part, or the config itself if it holds none.

        Args:
            decoder: look only for that of a decoder. Of a model with encoder and decoder and one config, a copy is
                returned in which `decoder_layers` is called `num_hidden_layers`, and so on.
            encoder: the same for that of an encoder.

        Raises:
            ArgumentError: there are several.
        """
        both = bool(decoder) == bool(encoder)
        names = (*_ENCODERS, *_DECODERS) if both else _DECODERS if decoder else _ENCODERS
        found = [part for name in names if isinstance(part := getattr(self, name, None), PretrainedConfig)]
        if len(found) > 1:
            raise ArgumentError("The config has several text parts.", expected="one", received=str(len(found)),
                                remedy="say decoder=True or encoder=True, or take the field itself")  # fmt: skip
        if found:
            return found[0]
        return self if both or not self.is_encoder_decoder else self._one_side("decoder" if decoder else "encoder")

    def _one_side(self, side: str) -> PretrainedConfig:
        """Return a copy with the fields of one side under the names that a model of one side has for them."""
        config, other = copy.deepcopy(self), "encoder" if side == "decoder" else "decoder"
        usual = {f"{side}_layers": "num_hidden_layers", f"{side}_attention_heads": "num_attention_heads"}
        for name in list(config.__dict__):
            if name.startswith(f"{other}_"):
                del config.__dict__[name]
            elif name.startswith(f"{side}_"):
                value = config.__dict__.pop(name)
                setattr(config, usual.get(name, name.removeprefix(f"{side}_")), value)
        return config


def layer_type_validation(
    layer_types: Sequence[str], num_hidden_layers: int | None = None, attention: bool = True
) -> None:
    """Check `layer_types`, one for each layer.

    Raises:
        ConfigError: a type that is not known, or another number of them than of layers.
    """
    if attention and (strange := [kind for kind in layer_types if kind not in _LAYER_TYPES]):
        raise ConfigError("`layer_types` has an unknown type.", expected=f"{_LAYER_TYPES}", received=repr(strange[0]))
    if num_hidden_layers is not None and num_hidden_layers != len(layer_types):
        raise ConfigError(
            "`layer_types` has not one type for each layer.",
            expected=f"{num_hidden_layers} of them",
            received=str(len(layer_types)),
        )
