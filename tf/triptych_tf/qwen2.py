"""Qwen2 in Keras: the public classes of `triptych.families.qwen2`."""

from triptych.families import qwen2
from triptych_tf.llama import TFLlamaForCausalLM, TFLlamaForSequenceClassification, TFLlamaModel, TFLlamaPreTrainedModel

__all__ = ["TFQwen2PreTrainedModel", "TFQwen2Model", "TFQwen2ForCausalLM", "TFQwen2ForSequenceClassification"]


class TFQwen2PreTrainedModel(TFLlamaPreTrainedModel):
    """Base of the Qwen2 classes."""

    config_class = qwen2.Qwen2Config


class TFQwen2Model(TFQwen2PreTrainedModel, TFLlamaModel, part=qwen2.Qwen2Model): ...


class TFQwen2ForCausalLM(TFQwen2PreTrainedModel, TFLlamaForCausalLM, part=qwen2.Qwen2ForCausalLM): ...


class TFQwen2ForSequenceClassification(
    TFQwen2PreTrainedModel, TFLlamaForSequenceClassification, part=qwen2.Qwen2ForSequenceClassification
): ...
