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
    call_order = ("input_ids", "attention_mask", "token_type_ids", "position_ids", "head_mask", "encoder_hidden_states",
                  "encoder_attention_mask", "params", "dropout_rng", "train", "output_attentions",
                  "output_hidden_states", "return_dict", "past_key_values")  # fmt: skip


class FlaxBertModel(FlaxBertPreTrainedModel, part=bert.BertModel): ...


class FlaxBertForMaskedLM(FlaxBertPreTrainedModel, part=bert.BertForMaskedLM): ...


class FlaxBertForSequenceClassification(FlaxBertPreTrainedModel, part=bert.BertForSequenceClassification): ...


class FlaxBertForTokenClassification(FlaxBertPreTrainedModel, part=bert.BertForTokenClassification): ...


class FlaxBertForQuestionAnswering(FlaxBertPreTrainedModel, part=bert.BertForQuestionAnswering): ...
