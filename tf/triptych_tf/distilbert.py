"""DistilBERT in Keras: the public classes of `triptych.families.distilbert`."""

from triptych.families import distilbert
from triptych_tf.make import binder
from triptych_tf.modeling import TFPreTrainedModel

__all__ = ["TFDistilBertPreTrainedModel", "TFDistilBertModel", "TFDistilBertForMaskedLM",
           "TFDistilBertForSequenceClassification", "TFDistilBertForMultipleChoice",
           "TFDistilBertForTokenClassification", "TFDistilBertForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(distilbert, __name__)


class TFDistilBertPreTrainedModel(TFPreTrainedModel):
    """Base of the DistilBERT classes."""

    config_class = distilbert.DistilBertConfig
    base_model_prefix = "distilbert"
    supports_gradient_checkpointing = True
    _supports_sdpa = True


class TFDistilBertModel(TFDistilBertPreTrainedModel, part=distilbert.DistilBertModel): ...


class TFDistilBertForMaskedLM(TFDistilBertPreTrainedModel, part=distilbert.DistilBertForMaskedLM): ...


class TFDistilBertForSequenceClassification(
    TFDistilBertPreTrainedModel, part=distilbert.DistilBertForSequenceClassification
): ...


class TFDistilBertForMultipleChoice(TFDistilBertPreTrainedModel, part=distilbert.DistilBertForMultipleChoice): ...


class TFDistilBertForTokenClassification(
    TFDistilBertPreTrainedModel, part=distilbert.DistilBertForTokenClassification
): ...


class TFDistilBertForQuestionAnswering(TFDistilBertPreTrainedModel, part=distilbert.DistilBertForQuestionAnswering): ...


class TFDistilBertMainLayer(binder.bound(distilbert.DistilBertModel)):  # type: ignore[misc]
    """The encoder as a layer, for models that hold it."""

    config_class = distilbert.DistilBertConfig
