"""BERT in Keras: the public classes of `triptych.families.bert`."""

from triptych.families import bert
from triptych.nn.outputs import BertForPreTrainingOutput
from triptych_tf.make import binder
from triptych_tf.modeling import TFPreTrainedModel

__all__ = ["TFBertPreTrainedModel", "TFBertModel", "TFBertForPreTraining", "TFBertLMHeadModel", "TFBertForMaskedLM",
           "TFBertForNextSentencePrediction", "TFBertForSequenceClassification", "TFBertForMultipleChoice",
           "TFBertForTokenClassification", "TFBertForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(bert, __name__)


class TFBertPreTrainedModel(TFPreTrainedModel):
    """Base of the BERT classes."""

    config_class = bert.BertConfig
    base_model_prefix = "bert"
    supports_gradient_checkpointing = True
    _supports_sdpa = True


class TFBertModel(TFBertPreTrainedModel, part=bert.BertModel): ...


class TFBertForPreTraining(TFBertPreTrainedModel, part=bert.BertForPreTraining): ...


class TFBertLMHeadModel(TFBertPreTrainedModel, part=bert.BertLMHeadModel): ...


class TFBertForMaskedLM(TFBertPreTrainedModel, part=bert.BertForMaskedLM): ...


class TFBertForNextSentencePrediction(TFBertPreTrainedModel, part=bert.BertForNextSentencePrediction): ...


class TFBertForSequenceClassification(TFBertPreTrainedModel, part=bert.BertForSequenceClassification): ...


class TFBertForMultipleChoice(TFBertPreTrainedModel, part=bert.BertForMultipleChoice): ...


class TFBertForTokenClassification(TFBertPreTrainedModel, part=bert.BertForTokenClassification): ...


class TFBertForQuestionAnswering(TFBertPreTrainedModel, part=bert.BertForQuestionAnswering): ...


class TFBertMainLayer(binder.bound(bert.BertModel)):  # type: ignore[misc]
    """The encoder as a layer, for models that hold it."""

    config_class = bert.BertConfig


TFBertForPreTrainingOutput = BertForPreTrainingOutput
