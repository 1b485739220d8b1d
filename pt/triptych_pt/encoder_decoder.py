"""An encoder and a decoder in PyTorch: the public class of `triptych.families.encoder_decoder`."""

from typing import Any

from torch import nn

from triptych.families import encoder_decoder
from triptych.modeling.encoder_decoder import EncoderDecoder, composed
from triptych_pt.make import binder
from triptych_pt.modeling import PreTrainedModel

__all__ = ["EncoderDecoderModel"]
__getattr__ = binder.parts_of(encoder_decoder, __name__)


class EncoderDecoderModel(EncoderDecoder, PreTrainedModel, part=encoder_decoder.EncoderDecoderModel):
    """An encoder, a decoder that attends to its output, and a projection where their widths differ.

    Args:
        config: of both; without it, it is made of the models.
        encoder: a model, used as it is; without it, one is made of `config.encoder`.
        decoder: the same.

    Raises:
        ArgumentError: neither a config nor two models, or a decoder without attention to an encoder.
        ConfigError: a family that can be neither.
    """

    config_class = encoder_decoder.EncoderDecoderConfig
    base_model_prefix = "encoder_decoder"
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    def __init__(self, config: Any = None, encoder: Any = None, decoder: Any = None) -> None:
        config, given = composed(config, encoder, decoder)
        super().__init__(config)
        self.__dict__["given"] = given
        self.setup()  # type: ignore[operator]  # taken over from the part
        del self.__dict__["given"]
        self.post_init()

    @classmethod
    def _of_two(cls, config: Any, models: Any) -> Any:
        return super()._of_two(config, models).eval()

    def _init_weights(self, module: nn.Module) -> None:
        """Leave the projection as PyTorch makes it, as transformers 4 did."""
