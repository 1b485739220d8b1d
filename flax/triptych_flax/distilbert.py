"""DistilBERT in Flax: the public classes of `triptych.families.distilbert`."""

from triptych.families import distilbert
from triptych_flax.make import binder
from triptych_flax.modeling import FlaxPreTrainedModel

__all__ = ["FlaxDistilBertPreTrainedModel", "FlaxDistilBertModel", "FlaxDistilBertForMaskedLM",
           "FlaxDistilBertForSequenceClassification", "FlaxDistilBertForMultipleChoice",
           "FlaxDistilBertForTokenClassification", "FlaxDistilBertForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(distilbert, __name__)


class FlaxDistilBertPreTrainedModel(FlaxPreTrainedModel):
    """Base of the DistilBERT classes."""

    config_class = distilbert.DistilBertConfig
    base_model_prefix = "distilbert"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    call_order = ("input_ids", "attention_mask", "head_mask", "params", "dropout_rng", "train", "output_attentions",
                  "output_hidden_states", "return_dict")  # fmt: skip


class FlaxDistilBertModel(FlaxDistilBertPreTrainedModel, part=distilbert.DistilBertModel): ...


class FlaxDistilBertForMaskedLM(FlaxDistilBertPreTrainedModel, part=distilbert.DistilBertForMaskedLM): ...


class FlaxDistilBertForSequenceClassification(
    FlaxDistilBertPreTrainedModel, part=distilbert.DistilBertForSequenceClassification
): ...


class FlaxDistilBertForMultipleChoice(FlaxDistilBertPreTrainedModel, part=distilbert.DistilBertForMultipleChoice): ...


class FlaxDistilBertForTokenClassification(
    FlaxDistilBertPreTrainedModel, part=distilbert.DistilBertForTokenClassification
): ...


class FlaxDistilBertForQuestionAnswering(
    FlaxDistilBertPreTrainedModel, part=distilbert.DistilBertForQuestionAnswering
): ...
