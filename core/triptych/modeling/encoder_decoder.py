"""What the classes of an encoder and a decoder share in the three frameworks."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping
from typing import Any

from triptych.config import PretrainedConfig
from triptych.config.fields import BASE_DEFAULTS, OF_THE_OBJECT
from triptych.errors import ArgumentError, ConfigError
from triptych.families import Member
from triptych.families.encoder_decoder import SIDES, EncoderDecoderConfig, members
from triptych.modeling.auto import AutoConfig
from triptych.names import BACKENDS
from triptych.nn import functional as fn
from triptych.weights.schema import Layout, Weight, vocab_weight

logger = logging.getLogger("triptych")
_AUTO = {"encoder": "AutoModel", "decoder": "AutoModelForCausalLM"}


class EncoderDecoder:
    """Part of `EncoderDecoderModel`, `TFEncoderDecoderModel` and `FlaxEncoderDecoderModel`."""

    framework: str
    class_prefix: str
    config: Any
    declared_schema: Any
    _ops: Any

    @classmethod
    def from_encoder_decoder_pretrained(
        cls,
        encoder_pretrained_model_name_or_path: Any = None,
        decoder_pretrained_model_name_or_path: Any = None,
        *model_args: Any,
        **kwargs: Any,
    ) -> Any:
        """Return a model of two checkpoints. What the decoder's lacks, such as attention to an encoder, is new.

        Args:
            encoder_pretrained_model_name_or_path: a folder or a repository, as for `AutoModel`.
            decoder_pretrained_model_name_or_path: the same, as for `AutoModelForCausalLM`.
            model_args: passed on to the encoder.
            kwargs: `encoder_*` and `decoder_*` are arguments of `from_pretrained` for one of the two, without that
                prefix; `encoder_model` and `decoder_model` are models, in the place of a path. Others are fields of
                the config.

        Raises:
            ArgumentError: a path is missing. What `from_pretrained` of an auto class raises.
        """
        own = {side: _taken(kwargs, f"{side}_") for side in SIDES}
        paths = (encoder_pretrained_model_name_or_path, decoder_pretrained_model_name_or_path)
        inputs = {"encoder": model_args, "decoder": ()}
        models = {
            side: options.pop("model", None) or cls._load_side(side, path, inputs[side], options)
            for (side, options), path in zip(own.items(), paths, strict=True)
        }
        _require_models(models)
        config = EncoderDecoderConfig.from_encoder_decoder_configs(*(m.config for m in models.values()), **kwargs)
        return cls._of_two(config, models)

    @classmethod
    def _load_side(cls, side: str, path: Any, inputs: Any, options: dict[str, Any]) -> Any:
        """Return the encoder or decoder that `path` holds."""
        if path is None:
            raise ArgumentError(
                f"Where is the {side}?", expected=f"{side}_pretrained_model_name_or_path, or {side}_model"
            )
        if "config" not in options:
            config, options = AutoConfig.from_pretrained(path, **options, return_unused_kwargs=True)
            if side == "decoder" or config.is_decoder or config.add_cross_attention:
                config.is_decoder = config.add_cross_attention = side == "decoder"
            options["config"] = config
        auto = getattr(importlib.import_module(BACKENDS[cls.framework][0]), cls.class_prefix + _AUTO[side])
        return auto.from_pretrained(path, *inputs, **options)

    @classmethod
    def _of_two(cls, config: EncoderDecoderConfig, models: Mapping[str, Any]) -> Any:
        """Return a model made of these two, by side."""
        return cls(config=config, **models)  # type: ignore[call-arg]

    @classmethod
    def _check_config(cls, config: object) -> None:
        super()._check_config(config)  # type: ignore[misc]
        if cls.framework != "pt" and getattr(config, "tie_encoder_decoder", False):
            raise ConfigError(
                "Weights of an encoder and a decoder are tied in PyTorch alone.",
                expected="tie_encoder_decoder=False",
                received="True",
                remedy="load it in PyTorch, set model.config.tie_encoder_decoder = False, and save it",
            )

    def get_encoder(self) -> Any:
        """Return the encoder."""
        return self.encoder  # type: ignore[attr-defined]

    def get_decoder(self) -> Any:
        """Return the decoder."""
        return self.decoder  # type: ignore[attr-defined]

    def get_input_embeddings(self) -> Any:
        """Return the token embeddings of the encoder."""
        return self.get_encoder().get_input_embeddings()

    def set_input_embeddings(self, value: Any) -> None:
        """Replace the token embeddings of the encoder."""
        self.get_encoder().set_input_embeddings(value)

    def get_output_embeddings(self) -> Any:
        """Return what maps to the vocabulary of the decoder."""
        return self.get_decoder().get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: Any) -> None:
        """Replace what maps to the vocabulary of the decoder."""
        self.get_decoder().set_output_embeddings(new_embeddings)

    def _vocab_weight(self, layout: Layout) -> Weight | None:
        side, schema = SIDES[layout is Layout.LINEAR], self.declared_schema
        found = vocab_weight(schema.inner[side], layout)
        return None if found is None else schema[f"{side}.{found.name}"]

    def prepare_decoder_input_ids_from_labels(self, labels: Any) -> Any:
        """Return the decoder's input ids [B, T] for `labels`.

        Raises:
            ArgumentError: the config has no `decoder_start_token_id` or `pad_token_id`.
        """
        return fn.shifted_right(self._ops, self.config, labels)

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse: there are two vocabularies.

        Raises:
            ArgumentError: always.
        """
        raise self._refused("resize_token_embeddings", "which of the two vocabularies it is")

    def prune_heads(self, *args: Any, **kwargs: Any) -> None:
        """Refuse: layers of two models have the same numbers.

        Raises:
            ArgumentError: always.
        """
        raise self._refused("prune_heads", "of which of the two models they are")

    def _refused(self, method: str, unclear: str) -> ArgumentError:
        where = "before the two are put together" if self.framework == "flax" else "of model.encoder or model.decoder"
        return ArgumentError(
            f"{type(self).__name__}.{method} does not know {unclear}.", remedy=f"call {method} {where}"
        )


def _taken(kwargs: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Take the arguments out of `kwargs` whose names start with `prefix`, and return them without it."""
    own = [name for name in kwargs if name.startswith(prefix) and name not in BASE_DEFAULTS]  # decoder_start_token_id
    return {name.removeprefix(prefix): kwargs.pop(name) for name in own}


def _require_models(models: Mapping[str, Any]) -> None:
    """Raise unless these are models, by side, and the decoder has attention to an encoder."""
    for side, model in models.items():
        if not isinstance(getattr(model, "config", None), PretrainedConfig):
            raise ArgumentError(f"The {side} is no model.", expected="a model", received=repr(model)[:80])
    if "decoder" in models:
        _refuse_without_attention(models["decoder"])


def _refuse_without_attention(decoder: Any) -> None:
    if not decoder.config.add_cross_attention:
        raise ArgumentError(
            "The decoder was made without attention to an encoder.",
            expected="a model of a config with add_cross_attention=True",
            received=f"{type(decoder).__name__} of one with {decoder.config.add_cross_attention}",
        )


def composed(config: Any, encoder: Any, decoder: Any) -> tuple[EncoderDecoderConfig, dict[str, Any]]:
    """Return the config of a model made of these, and the models by side: two of them, or a config, or both.

    A model's config becomes that of its side; a field that `config` says otherwise is set in it.

    Raises:
        ArgumentError: neither; a model that is none, of another type than its config, or without what its side is for;
            or the decoder was made without attention to an encoder.
        ConfigError: a family that can be neither.
    """
    given = {side: model for side, model in zip(SIDES, (encoder, decoder), strict=True) if model is not None}
    _require_models(given)
    if config is None:
        if len(given) < len(SIDES):
            raise ArgumentError(
                "An encoder-decoder is made of a config, or of two models.",
                expected="config, or encoder and decoder",
                received=", ".join(given) or "nothing",
            )
        config = EncoderDecoderConfig.from_encoder_decoder_configs(encoder.config, decoder.config)
    if isinstance(config, EncoderDecoderConfig):  # the constructor refuses another
        wanted = dict(zip(SIDES, members(config), strict=True))
        for side, model in given.items():
            _require_fitting(side, model, wanted[side])
        for side, model in given.items():
            _share(config, side, model.config)
    return config, given


def _require_fitting(side: str, model: Any, wanted: Member) -> None:
    """Raise unless `model` can be the model `wanted`."""
    part, kind = getattr(type(model), "declared_part", None), wanted.config.model_type
    if model.config.model_type != kind or part is None or not issubclass(part, wanted.part):
        raise ArgumentError(
            f"The {side} is another model than this config needs.",
            expected=f"{wanted.part.__name__}, of model_type {kind!r}",
            received=f"{type(model).__name__} of {model.config.model_type!r}",
        )
    there = wanted.schema().weights
    for name, weight in model.declared_schema.weights.items():
        if name in there and weight.shape != there[name].shape:
            raise ArgumentError(
                f"The {side} is of another size than its config.", expected=f"{name} {there[name].shape}",
                received=str(weight.shape), remedy=f"leave out config, or change config.{side}",
            )  # fmt: skip


def _share(config: EncoderDecoderConfig, side: str, own: PretrainedConfig) -> None:
    shared = getattr(config, side)
    if own != shared:
        logger.warning("The config of the %s takes over the fields of config.%s", side, side)
        own.update({name: value for name, value in vars(shared).items() if name not in OF_THE_OBJECT})
    setattr(config, side, own)
