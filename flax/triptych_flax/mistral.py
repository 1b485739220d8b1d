"""Mistral in Flax: the public classes of `triptych.families.mistral`."""

from triptych.families import mistral
from triptych_flax.llama import (
    FlaxLlamaForCausalLM,
    FlaxLlamaForSequenceClassification,
    FlaxLlamaModel,
    FlaxLlamaPreTrainedModel,
)

__all__ = ["FlaxMistralPreTrainedModel", "FlaxMistralModel", "FlaxMistralForCausalLM",
           "FlaxMistralForSequenceClassification"]  # fmt: skip


class FlaxMistralPreTrainedModel(FlaxLlamaPreTrainedModel):
    """Base of the Mistral classes."""

    config_class = mistral.MistralConfig


class FlaxMistralModel(FlaxMistralPreTrainedModel, FlaxLlamaModel, part=mistral.MistralModel): ...


class FlaxMistralForCausalLM(FlaxMistralPreTrainedModel, FlaxLlamaForCausalLM, part=mistral.MistralForCausalLM): ...


class FlaxMistralForSequenceClassification(
    FlaxMistralPreTrainedModel, FlaxLlamaForSequenceClassification, part=mistral.MistralForSequenceClassification
): ...
