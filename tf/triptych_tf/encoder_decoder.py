"""An encoder and a decoder in Keras: the public class of `triptych.families.encoder_decoder`."""

from typing import Any

from triptych.families import encoder_decoder
from triptych.modeling.encoder_decoder import EncoderDecoder, composed
from triptych_tf.make import binder
from triptych_tf.modeling import TFPreTrainedModel

__all__ = ["TFEncoderDecoderModel"]
__getattr__ = binder.parts_of(encoder_decoder, __name__)


class TFEncoderDecoderModel(EncoderDecoder, TFPreTrainedModel, part=encoder_decoder.EncoderDecoderModel):
    """An encoder, a decoder that attends to its output, and a projection where their widths differ.

    Args:
        config: of both; without it, it is made of the models.
        encoder: a model, used as it is; without it, one is made of `config.encoder`.
        decoder: the same.
        kwargs: as of `TFPreTrainedModel`.

    Raises:
        ArgumentError: neither a config nor two models, or a decoder without attention to an encoder.
        ConfigError: a family that can be neither, or `tie_encoder_decoder`.
    """

    config_class = encoder_decoder.EncoderDecoderConfig
    base_model_prefix = "encoder_decoder"
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    def __init__(self, config: Any = None, encoder: Any = None, decoder: Any = None, **kwargs: Any) -> None:
        config, given = composed(config, encoder, decoder)
        super().__init__(config, **kwargs)
        self.__dict__["given"] = given
        self.setup()
        del self.__dict__["given"]
        self.post_init()
