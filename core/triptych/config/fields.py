"""The fields that every config has, and how they are read and set as attributes."""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, ClassVar

from triptych.checks import dtype_name, layers_and_heads, number_of_layer, parse_labels
from triptych.config.values import native_dtype
from triptych.errors import ArgumentError, ConfigError

logger = logging.getLogger("triptych")

TRANSFORMERS_VERSION = "4.57.6"
"""The version of transformers as which a new config.json is to be read."""

GENERATION_DEFAULTS: Mapping[str, Any] = {
    "max_length": 20,
    "min_length": 0,
    "do_sample": False,
    "early_stopping": False,
    "num_beams": 1,
    "num_beam_groups": 1,
    "diversity_penalty": 0.0,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "typical_p": 1.0,
    "repetition_penalty": 1.0,
    "length_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "bad_words_ids": None,
    "num_return_sequences": 1,
    "output_scores": False,
    "return_dict_in_generate": False,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "remove_invalid_values": False,
    "exponential_decay_length_penalty": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
}
"""What every config of transformers 4 says about generation too; a `GenerationConfig` says it in their place."""

BASE_DEFAULTS: Mapping[str, Any] = {
    "output_hidden_states": False,
    "output_attentions": False,
    "return_dict": True,
    "torchscript": False,
    "use_bfloat16": False,
    "tf_legacy_loss": False,
    "pruned_heads": {},
    "tie_word_embeddings": True,
    "chunk_size_feed_forward": 0,
    "is_encoder_decoder": False,
    "is_decoder": False,
    "add_cross_attention": False,
    "cross_attention_hidden_size": None,
    "tie_encoder_decoder": False,
    **GENERATION_DEFAULTS,
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

_OWN = ("_unplaced", "_dtype_key", "_declared")
OF_THE_OBJECT = (*_OWN, "_commit_hash", "_auto_class", "_attn_implementation_internal", "_attn_implementation_autoset",
                 "base_model_tp_plan", "base_model_pp_plan", "base_model_ep_plan")  # fmt: skip
"""Attributes that are not written."""

_PROBLEM_TYPES = (None, "regression", "single_label_classification", "multi_label_classification")
_WHOLE_NUMBERS = ("is_decoder", "is_encoder_decoder", "add_cross_attention", "chunk_size_feed_forward")
_MAX_DEFAULT_LABELS = 1_000_000
_warned: set[tuple[type, str]] = set()


def arguments_of(cls: Any) -> frozenset[str]:
    """Return the names of the arguments of the constructor of a config class, and of those that it derives from."""
    return _arguments_of(cls)


@cache
def _arguments_of(cls: type) -> frozenset[str]:
    constructors = [vars(one)["__init__"] for one in cls.__mro__ if "__init__" in vars(one) and one is not object]
    return frozenset(name for make in constructors for name in inspect.signature(make).parameters)


class Fields:
    """Part of `PretrainedConfig`: its attributes, and what they may be."""

    model_type: ClassVar[str] = ""
    attribute_map: ClassVar[Mapping[str, str]] = {}
    checks: ClassVar[Mapping[str, Callable[[Any], bool]]] = {}
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values"]
    base_config_key: ClassVar[str] = ""
    sub_configs: ClassVar[Mapping[str, Any]] = {}
    is_composition: ClassVar[bool] = False
    has_no_defaults_at_init: ClassVar[bool] = False
    base_model_tp_plan: ClassVar[Any] = None
    base_model_pp_plan: ClassVar[Any] = None
    base_model_ep_plan: ClassVar[Any] = None
    _auto_class: ClassVar[str | None] = None
    pruned_heads: dict[int, list[int]]
    _unplaced: dict[str, Any]
    _declared: tuple[str, ...] = ()

    def _set_fields(self, arguments: Mapping[str, Any]) -> None:
        """Set the fields that a subclass's `__init__` names in its signature, from its `locals()`."""
        for name, value in arguments.items():
            if name not in ("self", "kwargs", "__class__"):
                setattr(self, name, value)
        self._declared = (*self._declared, *arguments)

    def _set_base_field(self, name: str, default: Any, given: dict[str, Any]) -> None:
        """Set a field of every config: as given, else to its default, be it one of the class's (`_set_fields`).

        Raises:
            ConfigError.
        """
        real = type(self).attribute_map.get(name, name)
        if name in given:
            setattr(self, name, given.pop(name))
        elif real not in self.__dict__:
            setattr(self, name, copy.copy(default))
        elif name not in self._declared and getattr(self, name) != default:
            self._warn_of_reset(name, getattr(self, name), default)
            setattr(self, name, copy.copy(default))

    def _warn_of_reset(self, name: str, before: Any, after: Any) -> None:
        """Warn, once for each class, of a field that a subclass set too early."""
        if (type(self), name) not in _warned:
            _warned.add((type(self), name))
            logger.warning(
                "%s sets `%s` to %r before super().__init__(), which sets it to %r, as in transformers 4: pass it "
                "on, or set it afterwards", type(self).__name__, name, before, after,
            )  # fmt: skip

    def _set_unknown(self, name: str, value: Any) -> None:
        """Set a field that no class declares; it is kept aside if it would hide a method or is no identifier."""
        found = inspect.getattr_static(type(self), name, None)
        hides = callable(found) or isinstance(found, (classmethod, staticmethod, property))
        settable = isinstance(found, property) and found.fset is not None
        if (hides and not settable) or name in _OWN or not name.isidentifier() or name.startswith("__"):
            self._unplaced[name] = value
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
            logger.warning("num_labels=%r contradicts id2label, whose %s labels count", num_labels, len(self.id2label))

    # -- attributes ---------------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(type(self).attribute_map.get(name, name), value)

    def __getattr__(self, name: str) -> Any:
        real = type(self).attribute_map.get(name)
        if real is not None:
            return getattr(self, real)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __iter__(self) -> Iterator[str]:
        """Yield the names of the fields."""
        return (name for name in self.__dict__ if name not in _OWN)

    @property
    def name_or_path(self) -> str:
        """Where the config was loaded from."""
        return str(self.__dict__.get("_name_or_path", ""))

    @name_or_path.setter
    def name_or_path(self, value: object) -> None:
        self._name_or_path = str(value)

    @property
    def num_labels(self) -> int:
        """Number of labels; setting another number makes new default labels."""
        return len(self.id2label)

    @num_labels.setter
    def num_labels(self, value: int) -> None:
        if value != len(self.__dict__.get("id2label") or ()):
            self._set_labels(value, None, None)

    @property
    def dtype(self) -> Any:
        """The dtype of the weights: PyTorch's where PyTorch is loaded in this process, else its name; or None."""
        return native_dtype(self.__dict__.get("dtype"))

    @dtype.setter
    def dtype(self, value: object) -> None:
        self.__dict__["dtype"] = dtype_name(value)

    @property
    def torch_dtype(self) -> Any:
        """The older name of `dtype`."""
        return self.dtype

    @torch_dtype.setter
    def torch_dtype(self, value: object) -> None:
        self.dtype = value

    @property
    def use_return_dict(self) -> bool:
        """Whether calls return an output by name, not a tuple, if they do not say."""
        return bool(self.return_dict) and not self.torchscript

    @property
    def output_attentions(self) -> bool:
        """Whether calls return attention probabilities, if they do not say. They need "eager" attention, which is
        chosen where none was."""
        return bool(self.__dict__.get("output_attentions"))

    @output_attentions.setter
    def output_attentions(self, value: bool) -> None:
        self.__dict__["output_attentions"] = value
        if value is True and self.__dict__.get("_attn_implementation_internal") is None:
            self._attn_implementation_internal = "eager"

    @property
    def _attn_implementation(self) -> str:
        """How attention is computed: "eager", "sdpa", ...; never written. A dict sets that of configs within too, by
        their fields."""
        return self.__dict__.get("_attn_implementation_internal") or "eager"

    @_attn_implementation.setter
    def _attn_implementation(self, value: Any) -> None:
        by_part = value if isinstance(value, Mapping) else None
        parts = {"", *type(self).sub_configs}
        if by_part is not None and not by_part.keys() <= parts:
            raise ArgumentError(
                "attn_implementation names configs that this one does not hold.",
                expected=" or ".join(map(repr, sorted(parts))),
                received=", ".join(repr(key) for key in by_part if key not in parts),
            )
        self._attn_implementation_internal = (
            value if by_part is None else by_part.get("", self.__dict__.get("_attn_implementation_internal"))
        )
        for name in type(self).sub_configs:
            part = self.__dict__.get(name)
            if isinstance(part, Fields) and (by_part is None or name in by_part):
                part._attn_implementation = value if by_part is None else by_part[name]

    # -- checks -------------------------------------------------------------------------------------------------

    def validate(self) -> None:
        """Raise `ConfigError` naming the first field with an impossible value.

        An override calls `super().validate()` first. It may be called any number of times.
        """
        if self.problem_type not in _PROBLEM_TYPES:
            raise ConfigError("`problem_type` is unknown.", expected=f"{_PROBLEM_TYPES}", received=self.problem_type)
        self._set_labels(None, self.id2label, self.label2id)
        for name in _WHOLE_NUMBERS:
            value = getattr(self, name)
            if not isinstance(value, (int, type(None))):
                raise ConfigError(f"`{name}` is impossible.", expected="true, false or a whole number",
                                  received=repr(value)[:80])  # fmt: skip
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
        type(self).validate(self)
        for part in list(vars(self).values()):
            if isinstance(part, Fields):
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
