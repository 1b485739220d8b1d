"""ELECTRA in Keras: the public classes of `triptych.families.electra`."""

from triptych.families import electra
from triptych.nn.outputs import ElectraForPreTrainingOutput
from triptych_tf.make import binder
from triptych_tf.modeling import TFPreTrainedModel

__all__ = ["TFElectraPreTrainedModel", "TFElectraModel", "TFElectraForPreTraining", "TFElectraForCausalLM",
           "TFElectraForMaskedLM", "TFElectraForSequenceClassification", "TFElectraForMultipleChoice",
           "TFElectraForTokenClassification", "TFElectraForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(electra, __name__)


class TFElectraPreTrainedModel(TFPreTrainedModel):
    """Base of the ELECTRA classes."""

    config_class = electra.ElectraConfig
    base_model_prefix = "electra"
    supports_gradient_checkpointing = True
    _supports_sdpa = True


class TFElectraModel(TFElectraPreTrainedModel, part=electra.ElectraModel): ...


class TFElectraForPreTraining(TFElectraPreTrainedModel, part=electra.ElectraForPreTraining): ...


class TFElectraForCausalLM(TFElectraPreTrainedModel, part=electra.ElectraForCausalLM): ...


class TFElectraForMaskedLM(TFElectraPreTrainedModel, part=electra.ElectraForMaskedLM): ...


class TFElectraForSequenceClassification(TFElectraPreTrainedModel, part=electra.ElectraForSequenceClassification): ...


class TFElectraForMultipleChoice(TFElectraPreTrainedModel, part=electra.ElectraForMultipleChoice): ...


class TFElectraForTokenClassification(TFElectraPreTrainedModel, part=electra.ElectraForTokenClassification): ...


class TFElectraForQuestionAnswering(TFElectraPreTrainedModel, part=electra.ElectraForQuestionAnswering): ...


class TFElectraMainLayer(binder.bound(electra.ElectraModel)):  # type: ignore[misc]
    """The encoder as a layer, for models that hold it."""

    config_class = electra.ElectraConfig


TFElectraForPreTrainingOutput = ElectraForPreTrainingOutput
