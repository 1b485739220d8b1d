"""An encoder and a decoder in Flax: the public class of `triptych.families.encoder_decoder`."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from triptych.errors import ArgumentError
from triptych.families import encoder_decoder
from triptych.modeling.encoder_decoder import EncoderDecoder
from triptych_flax.make import binder
from triptych_flax.modeling import FlaxPreTrainedModel

__all__ = ["FlaxEncoderDecoderModel"]
__getattr__ = binder.parts_of(encoder_decoder, __name__)


class FlaxEncoderDecoderModel(EncoderDecoder, FlaxPreTrainedModel, part=encoder_decoder.EncoderDecoderModel):
    """An encoder, a decoder that attends to its output, and a projection where their widths differ."""

    config_class = encoder_decoder.EncoderDecoderConfig
    base_model_prefix = "encoder_decoder"
    supports_gradient_checkpointing = True
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
    def _of_two(cls, config: Any, models: Mapping[str, Any]) -> Any:
        model = cls(config)
        model.params = {**model.params, **{side: one.params for side, one in models.items()}}
        return model

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
