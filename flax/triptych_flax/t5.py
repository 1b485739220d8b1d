"""T5 in Flax: the public classes of `triptych.families.t5`."""

from collections.abc import Sequence
from typing import Any, ClassVar

from triptych.families import t5
from triptych_flax.base.decoding import EncodesAndDecodes
from triptych_flax.make import binder

__all__ = ["FlaxT5PreTrainedModel", "FlaxT5Model", "FlaxT5ForConditionalGeneration", "FlaxT5EncoderModel",
           "FlaxT5ForSequenceClassification", "FlaxT5ForTokenClassification", "FlaxT5ForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(t5, __name__)


class FlaxT5PreTrainedModel(EncodesAndDecodes):
    """Base of the T5 classes."""

    config_class = t5.T5Config
    base_model_prefix = "transformer"
    supports_gradient_checkpointing = True
    _keep_in_fp32_modules = t5.KEPT_WIDE
    call_order: ClassVar[Sequence[str]] = (
        "input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask", "output_attentions",
        "output_hidden_states", "return_dict", "train", "params", "dropout_rng",
    )  # fmt: skip

    def encode(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        train: bool = False,
        params: Any = None,
        dropout_rng: Any = None,
    ) -> Any:
        """Run the encoder alone, on ids [B, Q]; return `BaseModelOutput`."""
        return self.run_module(
            input_ids, attention_mask, output_attentions=output_attentions, output_hidden_states=output_hidden_states,
            return_dict=return_dict, train=train, params=params, dropout_rng=dropout_rng,
            method=t5.T5EncoderModel.call,  # type: ignore[attr-defined]
        )  # fmt: skip

    def decode(
        self,
        decoder_input_ids: Any,
        encoder_outputs: Any,
        encoder_attention_mask: Any = None,
        decoder_attention_mask: Any = None,
        past_key_values: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        train: bool = False,
        params: Any = None,
        dropout_rng: Any = None,
    ) -> Any:
        """Run the decoder, and the head if there is one, on ids [B, T] over what `encode` returned.

        Returns:
            `last_hidden_state` or `logits`, and of the decoder `past_key_values`, `hidden_states` and `attentions`, and
            `cross_attentions`, where there are any; as a tuple with `return_dict=False`.
        """
        return self._decoded(
            encoder_attention_mask, return_dict, decoder_input_ids=decoder_input_ids, encoder_outputs=encoder_outputs,
            decoder_attention_mask=decoder_attention_mask, past_key_values=past_key_values,
            output_attentions=output_attentions, output_hidden_states=output_hidden_states, train=train, params=params,
            dropout_rng=dropout_rng,
        )  # fmt: skip


class FlaxT5Stack(FlaxT5PreTrainedModel, part=t5.T5Stack): ...


class FlaxT5Model(FlaxT5PreTrainedModel, part=t5.T5Model): ...


class FlaxT5ForConditionalGeneration(FlaxT5PreTrainedModel, part=t5.T5ForConditionalGeneration): ...


class FlaxT5EncoderModel(FlaxT5PreTrainedModel, part=t5.T5EncoderModel):
    call_order = ("input_ids", "attention_mask", "output_attentions", "output_hidden_states", "return_dict", "train",
                  "params", "dropout_rng")  # fmt: skip


class FlaxT5ForSequenceClassification(FlaxT5PreTrainedModel, part=t5.T5ForSequenceClassification): ...


class FlaxT5ForTokenClassification(FlaxT5PreTrainedModel, part=t5.T5ForTokenClassification): ...


class FlaxT5ForQuestionAnswering(FlaxT5PreTrainedModel, part=t5.T5ForQuestionAnswering): ...
