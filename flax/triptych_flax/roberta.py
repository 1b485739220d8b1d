"""RoBERTa in Flax: the public classes of `triptych.families.roberta`."""

from triptych.families import roberta
from triptych_flax.make import binder
from triptych_flax.modeling import FlaxPreTrainedModel

__all__ = ["FlaxRobertaPreTrainedModel", "FlaxRobertaModel", "FlaxRobertaForCausalLM", "FlaxRobertaForMaskedLM",
           "FlaxRobertaForSequenceClassification", "FlaxRobertaForMultipleChoice",
           "FlaxRobertaForTokenClassification", "FlaxRobertaForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(roberta, __name__)


class FlaxRobertaPreTrainedModel(FlaxPreTrainedModel):
    """Base of the RoBERTa classes."""

    config_class = roberta.RobertaConfig
    base_model_prefix = "roberta"
    supports_gradient_checkpointing = True


class FlaxRobertaModel(FlaxRobertaPreTrainedModel, part=roberta.RobertaModel): ...


class FlaxRobertaForCausalLM(FlaxRobertaPreTrainedModel, part=roberta.RobertaForCausalLM): ...


class FlaxRobertaForMaskedLM(FlaxRobertaPreTrainedModel, part=roberta.RobertaForMaskedLM): ...


class FlaxRobertaForSequenceClassification(
    FlaxRobertaPreTrainedModel, part=roberta.RobertaForSequenceClassification
): ...


class FlaxRobertaForMultipleChoice(FlaxRobertaPreTrainedModel, part=roberta.RobertaForMultipleChoice): ...


class FlaxRobertaForTokenClassification(FlaxRobertaPreTrainedModel, part=roberta.RobertaForTokenClassification): ...


class FlaxRobertaForQuestionAnswering(FlaxRobertaPreTrainedModel, part=roberta.RobertaForQuestionAnswering): ...
