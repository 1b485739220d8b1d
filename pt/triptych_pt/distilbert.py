"""DistilBERT in PyTorch: the public classes of `triptych.families.distilbert`."""

from triptych.families import distilbert
from triptych_pt.make import binder
from triptych_pt.modeling import PreTrainedModel

__all__ = ["DistilBertPreTrainedModel", "DistilBertModel", "DistilBertForMaskedLM",
           "DistilBertForSequenceClassification", "DistilBertForMultipleChoice", "DistilBertForTokenClassification",
           "DistilBertForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(distilbert, __name__)


class DistilBertPreTrainedModel(PreTrainedModel):
    """Base of the DistilBERT classes."""

    config_class = distilbert.DistilBertConfig
    base_model_prefix = "distilbert"
    supports_gradient_checkpointing = True
    _no_split_modules = ["Embeddings", "TransformerBlock"]
    _supports_sdpa = True


class DistilBertModel(DistilBertPreTrainedModel, part=distilbert.DistilBertModel): ...


class DistilBertForMaskedLM(DistilBertPreTrainedModel, part=distilbert.DistilBertForMaskedLM): ...


class DistilBertForSequenceClassification(
    DistilBertPreTrainedModel, part=distilbert.DistilBertForSequenceClassification
): ...


class DistilBertForMultipleChoice(DistilBertPreTrainedModel, part=distilbert.DistilBertForMultipleChoice): ...


class DistilBertForTokenClassification(DistilBertPreTrainedModel, part=distilbert.DistilBertForTokenClassification): ...


class DistilBertForQuestionAnswering(DistilBertPreTrainedModel, part=distilbert.DistilBertForQuestionAnswering): ...
