"""Qwen3 in Keras: the public classes of `triptych.families.qwen3`."""

from triptych.families import qwen3
from triptych_tf.llama import TFLlamaForCausalLM, TFLlamaForSequenceClassification, TFLlamaModel, TFLlamaPreTrainedModel

__all__ = ["TFQwen3PreTrainedModel", "TFQwen3Model", "TFQwen3ForCausalLM", "TFQwen3ForSequenceClassification"]


class TFQwen3PreTrainedModel(TFLlamaPreTrainedModel):
    """Base of the Qwen3 classes."""

    config_class = qwen3.Qwen3Config


class TFQwen3Model(TFQwen3PreTrainedModel, TFLlamaModel, part=qwen3.Qwen3Model): ...


class TFQwen3ForCausalLM(TFQwen3PreTrainedModel, TFLlamaForCausalLM, part=qwen3.Qwen3ForCausalLM): ...


class TFQwen3ForSequenceClassification(
    TFQwen3PreTrainedModel, TFLlamaForSequenceClassification, part=qwen3.Qwen3ForSequenceClassification
): ...
