"""T5 in Keras: the layers, under the canonical names of `triptych.families.t5`."""

from __future__ import annotations

from typing import Any

from triptych.families.t5 import T5Config, attention_heads
from triptych.forward import t5
from triptych_tf import layers
from triptych_tf.layers import TFBlock
from triptych_tf.modeling import TFPreTrainedModel

__all__ = [
    "TFT5PreTrainedModel",
    "TFT5Model",
    "TFT5ForConditionalGeneration",
    "TFT5EncoderModel",
]


class TFT5Attention(TFBlock):
    decoder: bool = False
    cross: bool = False

    def setup(self) -> None:
        config, width = self.config, self.config.d_model
        heads = attention_heads(config, self.index, self.decoder, self.cross).length
        self.q = layers.dense(self, width, heads, bias=False, std=config.std(width, config.d_kv))
        self.k = layers.dense(self, width, heads, bias=False, std=config.std(width))
        self.v = layers.dense(self, width, heads, bias=False, std=config.std(width))
        self.o = layers.dense(self, heads, width, bias=False, std=config.std(config.num_heads, config.d_kv))
        if self.index == 0 and not self.cross:
            buckets = config.relative_attention_num_buckets
            self.relative_attention_bias = layers.embedding(self, buckets, config.num_heads, std=config.std(width))
        self.dropout = layers.dropout(self, config.dropout_rate)

    call = t5.attention


class TFT5LayerSelfAttention(TFBlock):
    decoder: bool = False

    def setup(self) -> None:
        self.SelfAttention = layers.block(self, TFT5Attention, index=self.index, decoder=self.decoder)
        self.layer_norm = layers.rms_norm(self, self.config.d_model, self.config.layer_norm_epsilon)
        self.dropout = layers.dropout(self, self.config.dropout_rate)

    call = t5.self_layer


class TFT5LayerCrossAttention(TFBlock):
    decoder: bool = True

    def setup(self) -> None:
        self.EncDecAttention = layers.block(self, TFT5Attention, index=self.index, decoder=True, cross=True)
        self.layer_norm = layers.rms_norm(self, self.config.d_model, self.config.layer_norm_epsilon)
        self.dropout = layers.dropout(self, self.config.dropout_rate)

    call = t5.cross_layer


class TFT5DenseReluDense(TFBlock):
    def setup(self) -> None:
        config = self.config
        for name in ("wi_0", "wi_1") if config.is_gated_act else ("wi",):
            projection = layers.dense(self, config.d_model, config.d_ff, bias=False, std=config.std(config.d_model))
            setattr(self, name, projection)
        self.wo = layers.dense(self, config.d_ff, config.d_model, bias=False, std=config.std(config.d_ff))
        self.dropout = layers.dropout(self, config.dropout_rate)

    call = t5.feed_forward


class TFT5LayerFF(TFBlock):
    decoder: bool = False

    def setup(self) -> None:
        self.DenseReluDense = layers.block(self, TFT5DenseReluDense)
        self.layer_norm = layers.rms_norm(self, self.config.d_model, self.config.layer_norm_epsilon)
        self.dropout = layers.dropout(self, self.config.dropout_rate)

    call = t5.feed_forward_layer


class TFT5Block(TFBlock):
    decoder: bool = False

    def setup(self) -> None:
        cross = [TFT5LayerCrossAttention] if self.decoder else []
        kinds = [TFT5LayerSelfAttention, *cross, TFT5LayerFF]
        self.layer = layers.listed(self, kinds, index=self.index, decoder=self.decoder)

    call = t5.block


class TFT5Stack(TFBlock):
    decoder: bool = False

    def setup(self) -> None:
        config = self.config
        self.block = layers.stacked(self, TFT5Block, config.layers_of(self.decoder), decoder=self.decoder)
        self.final_layer_norm = layers.rms_norm(self, config.d_model, config.layer_norm_epsilon)
        self.dropout = layers.dropout(self, config.dropout_rate)

    call = t5.stack


class TFT5PreTrainedModel(TFPreTrainedModel):
    """Base of the T5 classes. All hold the embeddings as `shared`."""

    config_class = T5Config
    base_model_prefix = "transformer"
    _input_embeddings = "shared"

    build = layers.build

    def build_stacks(self, config: T5Config, decoder: bool) -> None:
        """Declare the embeddings, the encoder, and the decoder if there is one."""
        self.shared = layers.embedding(self, config.vocab_size, config.d_model, std=config.initializer_factor)
        self.encoder = layers.block(self, TFT5Stack)
        if decoder:
            self.decoder = layers.block(self, TFT5Stack, decoder=True)


class TFT5Model(TFT5PreTrainedModel):
    """Encoder and decoder."""

    def __init__(self, config: T5Config, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.build_stacks(config, decoder=True)
        self.post_init()

    call = layers.with_training(t5.model)


class TFT5ForConditionalGeneration(TFT5PreTrainedModel):
    """T5 that predicts the target's next token; the head is tied to the embeddings unless the config says not."""

    task = "Seq2SeqLM"
    _output_embeddings = "lm_head"

    def __init__(self, config: T5Config, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.build_stacks(config, decoder=True)
        self.lm_head = layers.vocab_head(self, config.d_model, config.vocab_size, std=config.initializer_factor)
        self.post_init()

    call = layers.with_training(t5.with_head)


class TFT5EncoderModel(TFT5PreTrainedModel):
    """The encoder alone."""

    def __init__(self, config: T5Config, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.build_stacks(config, decoder=False)
        self.post_init()

    call = layers.with_training(t5.encoder_model)
