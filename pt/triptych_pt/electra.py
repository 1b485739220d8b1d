"""ELECTRA in PyTorch: the public classes of `triptych.families.electra`."""

from triptych.families import electra
from triptych.nn.outputs import ElectraForPreTrainingOutput as ElectraForPreTrainingOutput
from triptych_pt.make import binder
from triptych_pt.modeling import PreTrainedModel

__all__ = ["ElectraPreTrainedModel", "ElectraModel", "ElectraForPreTraining", "ElectraForCausalLM",
           "ElectraForMaskedLM", "ElectraForSequenceClassification", "ElectraForMultipleChoice",
           "ElectraForTokenClassification", "ElectraForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(electra, __name__)


class ElectraPreTrainedModel(PreTrainedModel):
    """Base of the ELECTRA classes."""

    config_class = electra.ElectraConfig
    base_model_prefix = "electra"
    supports_gradient_checkpointing = True
    _no_split_modules = ["ElectraEmbeddings", "BertLayer"]
    _supports_sdpa = True


class ElectraModel(ElectraPreTrainedModel, part=electra.ElectraModel): ...


class ElectraForPreTraining(ElectraPreTrainedModel, part=electra.ElectraForPreTraining): ...


class ElectraForCausalLM(ElectraPreTrainedModel, part=electra.ElectraForCausalLM): ...


class ElectraForMaskedLM(ElectraPreTrainedModel, part=electra.ElectraForMaskedLM): ...


class ElectraForSequenceClassification(ElectraPreTrainedModel, part=electra.ElectraForSequenceClassification): ...


class ElectraForMultipleChoice(ElectraPreTrainedModel, part=electra.ElectraForMultipleChoice): ...


class ElectraForTokenClassification(ElectraPreTrainedModel, part=electra.ElectraForTokenClassification): ...


class ElectraForQuestionAnswering(ElectraPreTrainedModel, part=electra.ElectraForQuestionAnswering): ...
