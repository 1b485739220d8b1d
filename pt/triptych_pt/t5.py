"""T5 in PyTorch: the public classes of `triptych.families.t5`."""

from torch import nn

from triptych.families import t5
from triptych_pt.make import RMSNorm as T5LayerNorm  # noqa: F401 (for authors, under its name in transformers)
from triptych_pt.make import binder
from triptych_pt.modeling import PreTrainedModel

__all__ = ["T5PreTrainedModel", "T5Model", "T5ForConditionalGeneration", "T5EncoderModel",
           "T5ForSequenceClassification", "T5ForTokenClassification", "T5ForQuestionAnswering"]  # fmt: skip
__getattr__ = binder.parts_of(t5, __name__)


class T5PreTrainedModel(PreTrainedModel):
    """Base of the T5 classes."""

    config_class = t5.T5Config
    base_model_prefix = "transformer"
    supports_gradient_checkpointing = True
    _keep_in_fp32_modules = t5.KEPT_WIDE
    _no_split_modules = ["T5Block"]


class T5Stack(T5PreTrainedModel, part=t5.T5Stack):
    """Encoder or decoder as a model of its own, of a config whose `is_decoder` says which.

    Args:
        embed_tokens: what embeds `input_ids`, which may be shared; without it the stack takes `inputs_embeds`.
    """

    _input_embeddings = "embed_tokens"

    def __init__(self, config: t5.T5Config, embed_tokens: nn.Module | None = None) -> None:
        super().__init__(config)
        self.embed_tokens = embed_tokens
        self.setup()  # type: ignore[operator]  # the part's, which nn.Module does not know
        self.post_init()


class T5Model(T5PreTrainedModel, part=t5.T5Model): ...


class T5ForConditionalGeneration(T5PreTrainedModel, part=t5.T5ForConditionalGeneration): ...


class T5EncoderModel(T5PreTrainedModel, part=t5.T5EncoderModel): ...


class T5ForSequenceClassification(T5PreTrainedModel, part=t5.T5ForSequenceClassification): ...


class T5ForTokenClassification(T5PreTrainedModel, part=t5.T5ForTokenClassification): ...


class T5ForQuestionAnswering(T5PreTrainedModel, part=t5.T5ForQuestionAnswering): ...
