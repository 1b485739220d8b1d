"""RoBERTa in Flax: the public classes of `triptych.families.roberta`."""

from triptych.families import roberta
from triptych_flax.make import binder
from triptych_flax.modeling import FlaxPreTrainedModel

__all__ = ["FlaxRobertaPreTrainedModel", "FlaxRobertaModel", "FlaxRobertaForCausalLM", "FlaxRobertaForMaskedLM",
           "FlaxRobertaForSequenceClassification", "FlaxRobertaForMultipleChoice",
           "FlaxRobertaForTokenClassification", "FlaxRobertaForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(roberta, __name__)


class FlaxRobertaPreTrainedModel(FlaxPreTrainedModel):
    """Base of the RoBERTa classes."""

    config_class = roberta.RobertaConfig
    base_model_prefix = "roberta"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    call_order = ("input_ids", "attention_mask", "token_type_ids", "position_ids", "head_mask", "encoder_hidden_states",
                  "encoder_attention_mask", "params", "dropout_rng", "train", "output_attentions",
                  "output_hidden_states", "return_dict", "past_key_values")  # fmt: skip


class FlaxRobertaModel(FlaxRobertaPreTrainedModel, part=roberta.RobertaModel): ...


class FlaxRobertaForCausalLM(FlaxRobertaPreTrainedModel, part=roberta.RobertaForCausalLM): ...


class FlaxRobertaForMaskedLM(FlaxRobertaPreTrainedModel, part=roberta.RobertaForMaskedLM): ...


class FlaxRobertaForSequenceClassification(
    FlaxRobertaPreTrainedModel, part=roberta.RobertaForSequenceClassification
): ...


class FlaxRobertaForMultipleChoice(FlaxRobertaPreTrainedModel, part=roberta.RobertaForMultipleChoice): ...


class FlaxRobertaForTokenClassification(FlaxRobertaPreTrainedModel, part=roberta.RobertaForTokenClassification): ...


class FlaxRobertaForQuestionAnswering(FlaxRobertaPreTrainedModel, part=roberta.RobertaForQuestionAnswering): ...
