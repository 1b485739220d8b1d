"""ELECTRA in Flax: the public classes of `triptych.families.electra`."""

from triptych.families import electra
from triptych_flax.make import binder
from triptych_flax.modeling import FlaxPreTrainedModel

__all__ = ["FlaxElectraPreTrainedModel", "FlaxElectraModel", "FlaxElectraForPreTraining", "FlaxElectraForMaskedLM",
           "FlaxElectraForSequenceClassification", "FlaxElectraForTokenClassification",
           "FlaxElectraForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(electra, __name__)


class FlaxElectraPreTrainedModel(FlaxPreTrainedModel):
    """Base of the ELECTRA classes."""

    config_class = electra.ElectraConfig
    base_model_prefix = "electra"
    supports_gradient_checkpointing = True


class FlaxElectraModel(FlaxElectraPreTrainedModel, part=electra.ElectraModel): ...


class FlaxElectraForPreTraining(FlaxElectraPreTrainedModel, part=electra.ElectraForPreTraining): ...


class FlaxElectraForMaskedLM(FlaxElectraPreTrainedModel, part=electra.ElectraForMaskedLM): ...


class FlaxElectraForSequenceClassification(
    FlaxElectraPreTrainedModel, part=electra.ElectraForSequenceClassification
): ...


class FlaxElectraForTokenClassification(FlaxElectraPreTrainedModel, part=electra.ElectraForTokenClassification): ...


class FlaxElectraForQuestionAnswering(FlaxElectraPreTrainedModel, part=electra.ElectraForQuestionAnswering): ...
