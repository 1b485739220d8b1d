"""BERT in Flax: the public classes of `triptych.families.bert`."""

from triptych.families import bert
from triptych.nn.outputs import BertForPreTrainingOutput
from triptych_flax.make import binder
from triptych_flax.modeling import FlaxPreTrainedModel

__all__ = ["FlaxBertPreTrainedModel", "FlaxBertModel", "FlaxBertForPreTraining", "FlaxBertLMHeadModel",
           "FlaxBertForMaskedLM", "FlaxBertForNextSentencePrediction", "FlaxBertForSequenceClassification",
           "FlaxBertForMultipleChoice", "FlaxBertForTokenClassification", "FlaxBertForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(bert, __name__)


class FlaxBertPreTrainedModel(FlaxPreTrainedModel):
    """Base of the BERT classes."""

    config_class = bert.BertConfig
    base_model_prefix = "bert"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    call_order = ("input_ids", "attention_mask", "token_type_ids", "position_ids", "head_mask", "encoder_hidden_states",
                  "encoder_attention_mask", "params", "dropout_rng", "train", "output_attentions",
                  "output_hidden_states", "return_dict", "past_key_values")  # fmt: skip


class FlaxBertModel(FlaxBertPreTrainedModel, part=bert.BertModel): ...


class FlaxBertForPreTraining(FlaxBertPreTrainedModel, part=bert.BertForPreTraining): ...


class FlaxBertLMHeadModel(FlaxBertPreTrainedModel, part=bert.BertLMHeadModel): ...


FlaxBertForCausalLM = FlaxBertLMHeadModel  # as transformers calls it in Flax


class FlaxBertForMaskedLM(FlaxBertPreTrainedModel, part=bert.BertForMaskedLM): ...


class FlaxBertForNextSentencePrediction(FlaxBertPreTrainedModel, part=bert.BertForNextSentencePrediction): ...


class FlaxBertForSequenceClassification(FlaxBertPreTrainedModel, part=bert.BertForSequenceClassification): ...


class FlaxBertForMultipleChoice(FlaxBertPreTrainedModel, part=bert.BertForMultipleChoice): ...


class FlaxBertForTokenClassification(FlaxBertPreTrainedModel, part=bert.BertForTokenClassification): ...


class FlaxBertForQuestionAnswering(FlaxBertPreTrainedModel, part=bert.BertForQuestionAnswering): ...


FlaxBertForPreTrainingOutput = BertForPreTrainingOutput
