"""An encoder and a decoder in Flax: the public class of `triptych.families.encoder_decoder`."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from triptych.errors import ArgumentError
from triptych.families import encoder_decoder
from triptych.modeling.encoder_decoder import EncoderDecoder
from triptych_flax.base.decoding import EncodesAndDecodes
from triptych_flax.make import binder
from triptych_flax.modeling import FlaxPreTrainedModel

__all__ = ["FlaxEncoderDecoderModel"]
__getattr__ = binder.parts_of(encoder_decoder, __name__)


class FlaxEncoderDecoderModel(EncoderDecoder, EncodesAndDecodes, part=encoder_decoder.EncoderDecoderModel):
    """An encoder, a decoder that attends to its output, and a projection where their widths differ."""

    config_class = encoder_decoder.EncoderDecoderConfig
    base_model_prefix = "encoder_decoder"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    call_order: ClassVar[Sequence[str]] = (
        "input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask", "position_ids",
        "decoder_position_ids", "output_attentions", "output_hidden_states", "return_dict", "train", "params",
        "dropout_rng",
    )  # fmt: skip

    get_input_embeddings = FlaxPreTrainedModel.get_input_embeddings
    set_input_embeddings = FlaxPreTrainedModel.set_input_embeddings
    get_output_embeddings = FlaxPreTrainedModel.get_output_embeddings
    set_output_embeddings = FlaxPreTrainedModel.set_output_embeddings

    @classmethod
    def _autoset_attn_implementation(cls, config: Any, *args: Any, **kwargs: Any) -> Any:
        config = super()._autoset_attn_implementation(config, *args, **kwargs)
        for side in encoder_decoder.SIDES:  # modules here, and no models that would choose theirs
            fields = vars(getattr(config, side))
            if fields.get("_attn_implementation_internal") is None:
                fields["_attn_implementation_internal"] = config._attn_implementation
        return config

    def set_attn_implementation(self, attn_implementation: str | Mapping[str, str]) -> None:
        given = attn_implementation if isinstance(attn_implementation, Mapping) else {"": attn_implementation}
        for name in given.values():
            self.get_correct_attn_implementation(name)
        super().set_attn_implementation(attn_implementation)
        self.config._attn_implementation = attn_implementation

    @classmethod
    def _of_two(cls, config: Any, models: Mapping[str, Any]) -> Any:
        model = cls(config)
        model.params = {**model.params, **{side: one.params for side, one in models.items()}}
        return model

    def encode(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        position_ids: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        train: bool = False,
        params: Any = None,
        dropout_rng: Any = None,
    ) -> Any:
        """Run the encoder alone, on ids [B, Q]; return what its class does."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "position_ids": position_ids}
        flags = {"output_attentions": output_attentions, "output_hidden_states": output_hidden_states}
        return self.run_module(
            **{name: array for name, array in inputs.items() if array is not None}, **flags, return_dict=return_dict,
            train=train, params=params, dropout_rng=dropout_rng, method=_encode,
        )  # fmt: skip

    def decode(
        self,
        decoder_input_ids: Any,
        encoder_outputs: Any,
        encoder_attention_mask: Any = None,
        decoder_attention_mask: Any = None,
        decoder_position_ids: Any = None,
        past_key_values: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        train: bool = False,
        params: Any = None,
        dropout_rng: Any = None,
    ) -> Any:
        """Run the decoder on ids [B, T] over what `encode` returned.

        Returns:
            `logits`, and of the decoder `past_key_values`, `hidden_states` and `attentions`, and `cross_attentions`,
            where there are any; as a tuple with `return_dict=False`.
        """
        return self._decoded(
            encoder_attention_mask, return_dict, decoder_input_ids=decoder_input_ids, encoder_outputs=encoder_outputs,
            decoder_attention_mask=decoder_attention_mask, decoder_position_ids=decoder_position_ids,
            past_key_values=past_key_values, output_attentions=output_attentions,
            output_hidden_states=output_hidden_states, train=train, params=params, dropout_rng=dropout_rng,
        )  # fmt: skip

    def get_encoder(self) -> Any:
        """Refuse: the encoder is a part of one tree and one module, not a model of its own.

        Raises:
            ArgumentError: always.
        """
        raise self._no_model("encoder")

    def get_decoder(self) -> Any:
        """Refuse: the decoder is a part of one tree and one module, not a model of its own.

        Raises:
            ArgumentError: always.
        """
        raise self._no_model("decoder")

    def _no_model(self, side: str) -> ArgumentError:
        return ArgumentError(
            f"{type(self).__name__} holds no model of the {side}.",
            expected=f"its parameters, model.params[{side!r}], and its config, model.config.{side}",
            received=f"get_{side}",
        )


def _encode(module: Any, **inputs: Any) -> Any:
    return module.encoder(**inputs)
