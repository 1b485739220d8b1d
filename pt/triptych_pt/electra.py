"""ELECTRA in PyTorch: the public classes of `triptych.families.electra`."""

from triptych.families import electra
from triptych_pt.make import binder
from triptych_pt.modeling import PreTrainedModel

__all__ = ["ElectraPreTrainedModel", "ElectraModel", "ElectraForPreTraining", "ElectraForMaskedLM",
           "ElectraForSequenceClassification", "ElectraForTokenClassification",
           "ElectraForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(electra, __name__)


class ElectraPreTrainedModel(PreTrainedModel):
    """Base of the ELECTRA classes."""

    config_class = electra.ElectraConfig
    base_model_prefix = "electra"
    supports_gradient_checkpointing = True


class ElectraModel(ElectraPreTrainedModel, part=electra.ElectraModel): ...


class ElectraForPreTraining(ElectraPreTrainedModel, part=electra.ElectraForPreTraining): ...


class ElectraForMaskedLM(ElectraPreTrainedModel, part=electra.ElectraForMaskedLM): ...


class ElectraForSequenceClassification(ElectraPreTrainedModel, part=electra.ElectraForSequenceClassification): ...


class ElectraForTokenClassification(ElectraPreTrainedModel, part=electra.ElectraForTokenClassification): ...


class ElectraForQuestionAnswering(ElectraPreTrainedModel, part=electra.ElectraForQuestionAnswering): ...
