"""ELECTRA in Flax: the public classes of `triptych.families.electra`."""

from triptych.families import electra
from triptych.nn.outputs import ElectraForPreTrainingOutput
from triptych_flax.make import binder
from triptych_flax.modeling import FlaxPreTrainedModel

__all__ = ["FlaxElectraPreTrainedModel", "FlaxElectraModel", "FlaxElectraForPreTraining", "FlaxElectraForCausalLM",
           "FlaxElectraForMaskedLM", "FlaxElectraForSequenceClassification", "FlaxElectraForMultipleChoice",
           "FlaxElectraForTokenClassification", "FlaxElectraForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(electra, __name__)


class FlaxElectraPreTrainedModel(FlaxPreTrainedModel):
    """Base of the ELECTRA classes."""

    config_class = electra.ElectraConfig
    base_model_prefix = "electra"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    call_order = ("input_ids", "attention_mask", "token_type_ids", "position_ids", "head_mask", "encoder_hidden_states",
                  "encoder_attention_mask", "params", "dropout_rng", "train", "output_attentions",
                  "output_hidden_states", "return_dict", "past_key_values")  # fmt: skip


class FlaxElectraModel(FlaxElectraPreTrainedModel, part=electra.ElectraModel): ...


class FlaxElectraForPreTraining(FlaxElectraPreTrainedModel, part=electra.ElectraForPreTraining): ...


class FlaxElectraForCausalLM(FlaxElectraPreTrainedModel, part=electra.ElectraForCausalLM): ...


class FlaxElectraForMaskedLM(FlaxElectraPreTrainedModel, part=electra.ElectraForMaskedLM): ...


class FlaxElectraForSequenceClassification(
    FlaxElectraPreTrainedModel, part=electra.ElectraForSequenceClassification
): ...


class FlaxElectraForMultipleChoice(FlaxElectraPreTrainedModel, part=electra.ElectraForMultipleChoice): ...


class FlaxElectraForTokenClassification(FlaxElectraPreTrainedModel, part=electra.ElectraForTokenClassification): ...


class FlaxElectraForQuestionAnswering(FlaxElectraPreTrainedModel, part=electra.ElectraForQuestionAnswering): ...


FlaxElectraForPreTrainingOutput = ElectraForPreTrainingOutput
