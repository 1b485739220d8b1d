"""An encoder and a decoder, each of any family (Rothe et al., 2019, https://arxiv.org/abs/1907.12461)."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

from triptych.config import PretrainedConfig
from triptych.errors import ArgumentError, ConfigError
from triptych.families import Member, RecordedSchema, declared, family, member
from triptych.nn import functional as fn
from triptych.nn import outputs
from triptych.nn.axes import hidden_axis
from triptych.nn.parts import Model
from triptych.nn.stack import encoder_output
from triptych.weights.schema import Schema

SIDES = ("encoder", "decoder")


class EncoderDecoderConfig(PretrainedConfig):
    """Configuration of an encoder and a decoder, each of them a config of its own family.

    Args:
        encoder: a config, or its fields with the `model_type` among them.
        decoder: the same.

    Raises:
        ConfigError: one of the two is not there or of no known type, a field has an impossible value, or the decoder's
            `cross_attention_hidden_size` is not the encoder's width.
    """

    model_type = "encoder-decoder"
    is_composition = True
    sub_configs = dict.fromkeys(SIDES, PretrainedConfig)

    def __init__(self, encoder: Any = None, decoder: Any = None, **kwargs: Any) -> None:
        self.encoder, self.decoder = _config_of("encoder", encoder), _config_of("decoder", decoder)
        super().__init__(**{**kwargs, "is_encoder_decoder": True})

    @classmethod
    def from_encoder_decoder_configs(
        cls, encoder_config: PretrainedConfig, decoder_config: PretrainedConfig, **kwargs: Any
    ) -> EncoderDecoderConfig:
        """Return a config of copies of both. `decoder_config` itself becomes that of a decoder with cross-attention.

        Raises:
            ConfigError: one of the two is no config. What the constructor raises.
        """
        for side, config in zip(SIDES, (encoder_config, decoder_config), strict=True):
            if not isinstance(config, PretrainedConfig):
                raise ConfigError(f"What is the {side}?", expected="a config", received=repr(config)[:80])
        decoder_config.is_decoder = decoder_config.add_cross_attention = True
        return cls(encoder=encoder_config.to_dict(), decoder=decoder_config.to_dict(), **kwargs)

    def validate(self) -> None:
        super().validate()
        width = self.decoder.cross_attention_hidden_size
        if width is not None and width != self.encoder.hidden_size:
            raise ConfigError(
                "`cross_attention_hidden_size` of the decoder is not the width of the encoder.",
                expected=f"{self.encoder.hidden_size}, or None",
                received=str(width),
            )

    @property
    def cached_heads(self) -> tuple[int, ...] | None:
        """Number of key and value heads of each layer of the decoder."""
        return getattr(self.decoder, "cached_heads", None)

    @property
    def head_dim(self) -> int:
        """Width of a head of the decoder."""
        return int(self.decoder.head_dim)


def _config_of(side: str, given: Any) -> PretrainedConfig:
    if isinstance(given, PretrainedConfig):
        return given
    if not isinstance(given, Mapping) or not isinstance(given.get("model_type"), str):
        raise ConfigError(
            f"The config has no {side}.",
            expected=f"`{side}`, a config or its fields with a `model_type`",
            received=repr(given)[:80],
            remedy="EncoderDecoderConfig.from_encoder_decoder_configs(encoder_config, decoder_config)",
        )
    fields = {name: value for name, value in given.items() if name != "model_type"}
    return family(given["model_type"]).config_class.from_dict(fields)  # type: ignore[no-any-return]


def members(config: EncoderDecoderConfig) -> tuple[Member, Member]:
    """Return the backbone that encodes, and the model that predicts the next token.

    Raises:
        ConfigError: the encoder has a decoder itself, or the decoder no attention to an encoder.
    """
    encoder, decoder = member(config.encoder, ""), member(config.decoder, "CausalLM")
    if "decoder_input_ids" in _arguments(encoder):
        raise ConfigError("The encoder has a decoder already.", received=f"model_type {config.encoder.model_type!r}")
    if "encoder_hidden_states" not in _arguments(decoder):
        raise ConfigError(
            "The decoder cannot attend to an encoder.",
            expected="a family with cross-attention, such as bert or gpt2",
            received=f"model_type {config.decoder.model_type!r}",
        )
    if not config.decoder.add_cross_attention:
        raise ConfigError(
            "The decoder does not attend to the encoder.",
            expected="add_cross_attention=True in the decoder's config",
            received=str(config.decoder.add_cross_attention),
            remedy="EncoderDecoderConfig.from_encoder_decoder_configs sets it",
        )
    return encoder, decoder


def _arguments(one: Member) -> Mapping[str, Any]:
    return inspect.signature(one.part.call).parameters  # type: ignore[attr-defined]


class EncoderDecoderModel(Model):
    """An encoder, a decoder that attends to its output, and a projection where their widths differ.

    Attributes:
        given: the models, by side, of which it is made; without one it is made anew.
    """

    task = "Seq2SeqLM"
    heads = ("enc_to_dec_proj",)
    given: ClassVar[Mapping[str, Any]] = {}

    def setup(self) -> None:
        config, make, given = self.config, self.make, self.given
        for side, one in zip(SIDES, members(config), strict=True):
            setattr(self, side, make.nested(self, one, given.get(side)))
        self.enc_to_dec_proj = None
        widths = hidden_axis(config.encoder), hidden_axis(config.decoder)
        if widths[0].length != widths[1].length and config.decoder.cross_attention_hidden_size is None:
            self.enc_to_dec_proj = make.dense(self, *widths, std=config.decoder.initializer_range)

    def call(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        decoder_input_ids: Any = None,
        decoder_attention_mask: Any = None,
        encoder_outputs: Any = None,
        past_key_values: Any = None,
        inputs_embeds: Any = None,
        decoder_inputs_embeds: Any = None,
        labels: Any = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        head_mask: Any = None,
        decoder_token_type_ids: Any = None,
        decoder_position_ids: Any = None,
        decoder_head_mask: Any = None,
    ) -> Any:
        """Return `Seq2SeqLMOutput`: logits [B, T, vocab], and with `labels` [B, T] the loss.

        Without an input of the decoder the labels give it, shifted right, and its mask, which leaves out padding.
        `encoder_outputs`, an output of the encoder or a tuple that starts with its last hidden state, stands for a
        call of it. What is None is left to the configs of the two.

        Raises:
            ArgumentError: no input, or an argument that the encoder or the decoder does not have.
        """
        ops, config = self.ops, self.config
        flags = {"output_attentions": output_attentions, "output_hidden_states": output_hidden_states}
        if encoder_outputs is None:
            more = {"token_type_ids": token_type_ids, "position_ids": position_ids, "head_mask": head_mask}
            encoded = self.encoder(  # type: ignore[attr-defined]
                input_ids=input_ids, attention_mask=attention_mask, inputs_embeds=inputs_embeds, return_dict=True,
                **flags, **_passed_on(config.encoder, "", more),
            )  # fmt: skip
        else:
            encoded = encoder_output(encoder_outputs)
        memory = encoded["last_hidden_state"]
        if self.enc_to_dec_proj is not None:
            memory = self.enc_to_dec_proj(memory)
        if labels is not None and decoder_input_ids is None and decoder_inputs_embeds is None:
            decoder_input_ids = fn.shifted_right(ops, config, labels)
            if decoder_attention_mask is None:
                decoder_attention_mask = ops.cast(decoder_input_ids != config.pad_token_id, "int32")
        more = {
            "token_type_ids": decoder_token_type_ids,
            "position_ids": decoder_position_ids,
            "head_mask": decoder_head_mask,
        }
        decoded = self.decoder(  # type: ignore[attr-defined]
            input_ids=decoder_input_ids, attention_mask=decoder_attention_mask, inputs_embeds=decoder_inputs_embeds,
            encoder_hidden_states=memory, encoder_attention_mask=attention_mask, past_key_values=past_key_values,
            use_cache=use_cache, return_dict=True, **flags, **_passed_on(config.decoder, "CausalLM", more),
        )  # fmt: skip
        loss = None if labels is None else fn.token_loss(ops, decoded["logits"], labels)
        if not fn.output_flags(config, None, None, return_dict)[2]:
            found = () if loss is None else (loss,)
            return (*found, *decoded.to_tuple(), *encoded.to_tuple())
        return outputs.Seq2SeqLMOutput(
            loss=loss,
            logits=decoded["logits"],
            past_key_values=decoded.get("past_key_values"),
            decoder_hidden_states=decoded.get("hidden_states"),
            decoder_attentions=decoded.get("attentions"),
            cross_attentions=decoded.get("cross_attentions"),
            encoder_last_hidden_state=encoded["last_hidden_state"],
            encoder_hidden_states=encoded.get("hidden_states"),
            encoder_attentions=encoded.get("attentions"),
        )


def _passed_on(config: PretrainedConfig, task: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return those arguments that are given.

    Raises:
        ArgumentError: one that the model of `config` does not have.
    """
    known = _arguments(member(config, task))
    given = {name: value for name, value in arguments.items() if value is not None}
    if strange := sorted(given.keys() - known.keys()):
        raise ArgumentError(
            f"A model of model_type {config.model_type!r} has no such argument.", received=", ".join(strange)
        )
    return given


class _Schema(RecordedSchema):
    """The schema: with `tie_encoder_decoder` the encoder has the decoder's weights, wherever both have one."""

    def __call__(self, config: PretrainedConfig, stem: str, **options: Any) -> Schema:
        schema = super().__call__(config, stem, **options)
        if not config.tie_encoder_decoder:
            return schema
        prefix = schema.inner["decoder"].base_prefix
        weights = dict(schema.weights)
        for name in schema.inner["encoder"]:
            here, there = weights[f"encoder.{name}"], weights.get(f"decoder.{prefix}.{name}")
            if there is not None and here.shape == there.shape and here.layout is there.layout:
                source = there.tied_to or there.name
                weights[here.name] = dataclasses.replace(here, tied_to=source, untie_flag=None)
                first = weights[source]
                weights[source] = dataclasses.replace(first, aliases=(*first.aliases, here.name))
        return dataclasses.replace(schema, weights=weights)


_DECLARED = declared(EncoderDecoderConfig, EncoderDecoderModel, base_prefix="")
FAMILIES = {
    "encoder-decoder": dataclasses.replace(
        _DECLARED, schema=_Schema({EncoderDecoderModel.__name__: EncoderDecoderModel}, "")
    )
}
