"""RoBERTa in Keras: the public classes of `triptych.families.roberta`."""

from triptych.families import roberta
from triptych_tf.make import binder
from triptych_tf.modeling import TFPreTrainedModel

__all__ = ["TFRobertaPreTrainedModel", "TFRobertaModel", "TFRobertaForCausalLM", "TFRobertaForMaskedLM",
           "TFRobertaForSequenceClassification", "TFRobertaForMultipleChoice", "TFRobertaForTokenClassification",
           "TFRobertaForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(roberta, __name__)


class TFRobertaPreTrainedModel(TFPreTrainedModel):
    """Base of the RoBERTa classes."""

    config_class = roberta.RobertaConfig
    base_model_prefix = "roberta"
    supports_gradient_checkpointing = True
    _supports_sdpa = True


class TFRobertaModel(TFRobertaPreTrainedModel, part=roberta.RobertaModel): ...


class TFRobertaForCausalLM(TFRobertaPreTrainedModel, part=roberta.RobertaForCausalLM): ...


class TFRobertaForMaskedLM(TFRobertaPreTrainedModel, part=roberta.RobertaForMaskedLM): ...


class TFRobertaForSequenceClassification(TFRobertaPreTrainedModel, part=roberta.RobertaForSequenceClassification): ...


class TFRobertaForMultipleChoice(TFRobertaPreTrainedModel, part=roberta.RobertaForMultipleChoice): ...


class TFRobertaForTokenClassification(TFRobertaPreTrainedModel, part=roberta.RobertaForTokenClassification): ...


class TFRobertaForQuestionAnswering(TFRobertaPreTrainedModel, part=roberta.RobertaForQuestionAnswering): ...


class TFRobertaMainLayer(binder.bound(roberta.RobertaModel)):  # type: ignore[misc]
    """The encoder as a layer, for models that hold it."""

    config_class = roberta.RobertaConfig
