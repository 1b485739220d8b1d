"""T5 (Raffel et al., 2019, https://arxiv.org/abs/1910.10683) and its v1.1 variants."""

from triptych.families import declared
from triptych.families.t5.config import T5Config
from triptych.families.t5.heads import T5ForQuestionAnswering, T5ForSequenceClassification, T5ForTokenClassification
from triptych.families.t5.model import (
    T5EncoderModel,
    T5ForConditionalGeneration,
    T5Layers,
    T5Model,
)
from triptych.families.t5.model import T5Stack as T5Stack

T5MainLayer = T5Layers
"""Its name in transformers' TensorFlow models."""

KEPT_WIDE = ("wo",)
"""What stays in float32 in a model of float16, whose range its numbers leave."""

IGNORABLE = ("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",)
"""The first files, converted from Mesh TensorFlow, hold it; it was never used."""

FAMILIES = {
    "t5": declared(
        T5Config,
        T5Model,
        T5ForConditionalGeneration,
        T5EncoderModel,
        T5ForSequenceClassification,
        T5ForTokenClassification,
        T5ForQuestionAnswering,
        ignorable=IGNORABLE,
        base_prefix="",
    )
}
