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
