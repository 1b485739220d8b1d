"""BERT in Flax: the public classes of `triptych.families.bert`."""

from triptych.families import bert
from triptych_flax.make import binder
from triptych_flax.modeling import FlaxPreTrainedModel

__all__ = ["FlaxBertPreTrainedModel", "FlaxBertModel", "FlaxBertForMaskedLM", "FlaxBertForSequenceClassification",
           "FlaxBertForTokenClassification", "FlaxBertForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(bert, __name__)


class FlaxBertPreTrainedModel(FlaxPreTrainedModel):
    """Base of the BERT classes."""

    config_class = bert.BertConfig
    base_model_prefix = "bert"
    supports_gradient_checkpointing = True


class FlaxBertModel(FlaxBertPreTrainedModel, part=bert.BertModel): ...


class FlaxBertForMaskedLM(FlaxBertPreTrainedModel, part=bert.BertForMaskedLM): ...


class FlaxBertForSequenceClassification(FlaxBertPreTrainedModel, part=bert.BertForSequenceClassification): ...


class FlaxBertForTokenClassification(FlaxBertPreTrainedModel, part=bert.BertForTokenClassification): ...


class FlaxBertForQuestionAnswering(FlaxBertPreTrainedModel, part=bert.BertForQuestionAnswering): ...
