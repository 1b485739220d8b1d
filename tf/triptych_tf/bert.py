"""BERT in Keras: the public classes of `triptych.families.bert`."""

from triptych.families import bert
from triptych_tf.make import binder
from triptych_tf.modeling import TFPreTrainedModel

__all__ = ["TFBertPreTrainedModel", "TFBertModel", "TFBertForMaskedLM", "TFBertForSequenceClassification",
           "TFBertForTokenClassification", "TFBertForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(bert, __name__)


class TFBertPreTrainedModel(TFPreTrainedModel):
    """Base of the BERT classes."""

    config_class = bert.BertConfig
    base_model_prefix = "bert"
    supports_gradient_checkpointing = True


class TFBertModel(TFBertPreTrainedModel, part=bert.BertModel): ...


class TFBertForMaskedLM(TFBertPreTrainedModel, part=bert.BertForMaskedLM): ...


class TFBertForSequenceClassification(TFBertPreTrainedModel, part=bert.BertForSequenceClassification): ...


class TFBertForTokenClassification(TFBertPreTrainedModel, part=bert.BertForTokenClassification): ...


class TFBertForQuestionAnswering(TFBertPreTrainedModel, part=bert.BertForQuestionAnswering): ...
