"""BERT in PyTorch: the public classes of `triptych.families.bert`."""

from triptych.families import bert
from triptych.nn.outputs import BertForPreTrainingOutput as BertForPreTrainingOutput
from triptych_pt.make import binder
from triptych_pt.modeling import PreTrainedModel

__all__ = ["BertPreTrainedModel", "BertModel", "BertForPreTraining", "BertLMHeadModel", "BertForMaskedLM",
           "BertForNextSentencePrediction", "BertForSequenceClassification", "BertForMultipleChoice",
           "BertForTokenClassification", "BertForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(bert, __name__)


class BertPreTrainedModel(PreTrainedModel):
    """Base of the BERT classes."""

    config_class = bert.BertConfig
    base_model_prefix = "bert"
    supports_gradient_checkpointing = True
    _no_split_modules = ["BertEmbeddings", "BertLayer"]
    _supports_sdpa = True


class BertModel(BertPreTrainedModel, part=bert.BertModel): ...


class BertForPreTraining(BertPreTrainedModel, part=bert.BertForPreTraining): ...


class BertLMHeadModel(BertPreTrainedModel, part=bert.BertLMHeadModel): ...


class BertForMaskedLM(BertPreTrainedModel, part=bert.BertForMaskedLM): ...


class BertForNextSentencePrediction(BertPreTrainedModel, part=bert.BertForNextSentencePrediction): ...


class BertForSequenceClassification(BertPreTrainedModel, part=bert.BertForSequenceClassification): ...


class BertForMultipleChoice(BertPreTrainedModel, part=bert.BertForMultipleChoice): ...


class BertForTokenClassification(BertPreTrainedModel, part=bert.BertForTokenClassification): ...


class BertForQuestionAnswering(BertPreTrainedModel, part=bert.BertForQuestionAnswering): ...
