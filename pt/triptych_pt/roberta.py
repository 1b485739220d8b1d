"""RoBERTa in PyTorch: the public classes of `triptych.families.roberta`."""

from triptych.families import roberta
from triptych_pt.make import binder
from triptych_pt.modeling import PreTrainedModel

__all__ = ["RobertaPreTrainedModel", "RobertaModel", "RobertaForCausalLM", "RobertaForMaskedLM",
           "RobertaForSequenceClassification", "RobertaForMultipleChoice", "RobertaForTokenClassification",
           "RobertaForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(roberta, __name__)


class RobertaPreTrainedModel(PreTrainedModel):
    """Base of the RoBERTa classes."""

    config_class = roberta.RobertaConfig
    base_model_prefix = "roberta"
    supports_gradient_checkpointing = True
    _no_split_modules = ["RobertaEmbeddings", "BertLayer"]
    _supports_sdpa = True


class RobertaModel(RobertaPreTrainedModel, part=roberta.RobertaModel): ...


class RobertaForCausalLM(RobertaPreTrainedModel, part=roberta.RobertaForCausalLM): ...


class RobertaForMaskedLM(RobertaPreTrainedModel, part=roberta.RobertaForMaskedLM): ...


class RobertaForSequenceClassification(RobertaPreTrainedModel, part=roberta.RobertaForSequenceClassification): ...


class RobertaForMultipleChoice(RobertaPreTrainedModel, part=roberta.RobertaForMultipleChoice): ...


class RobertaForTokenClassification(RobertaPreTrainedModel, part=roberta.RobertaForTokenClassification): ...


class RobertaForQuestionAnswering(RobertaPreTrainedModel, part=roberta.RobertaForQuestionAnswering): ...
