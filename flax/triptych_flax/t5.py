"""T5 in Flax: the layers, under the canonical names of `triptych.families.t5`."""

from __future__ import annotations

from triptych.families.t5 import T5Config, attention_heads
from triptych.forward import t5
from triptych_flax import layers
from triptych_flax.layers import FlaxBlock
from triptych_flax.modeling import FlaxPreTrainedModel

__all__ = [
    "FlaxT5PreTrainedModel",
    "FlaxT5Model",
    "FlaxT5ForConditionalGeneration",
    "FlaxT5EncoderModel",
]


class FlaxT5Attention(FlaxBlock):
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

    __call__ = t5.attention


class FlaxT5LayerSelfAttention(FlaxBlock):
    decoder: bool = False

    def setup(self) -> None:
        self.SelfAttention = layers.block(self, FlaxT5Attention, index=self.index, decoder=self.decoder)
        self.layer_norm = layers.rms_norm(self, self.config.d_model, self.config.layer_norm_epsilon)
        self.dropout = layers.dropout(self, self.config.dropout_rate)

    __call__ = t5.self_layer


class FlaxT5LayerCrossAttention(FlaxBlock):
    decoder: bool = True

    def setup(self) -> None:
        self.EncDecAttention = layers.block(self, FlaxT5Attention, index=self.index, decoder=True, cross=True)
        self.layer_norm = layers.rms_norm(self, self.config.d_model, self.config.layer_norm_epsilon)
        self.dropout = layers.dropout(self, self.config.dropout_rate)

    __call__ = t5.cross_layer


class FlaxT5DenseReluDense(FlaxBlock):
    def setup(self) -> None:
        config = self.config
        for name in ("wi_0", "wi_1") if config.is_gated_act else ("wi",):
            projection = layers.dense(self, config.d_model, config.d_ff, bias=False, std=config.std(config.d_model))
            setattr(self, name, projection)
        self.wo = layers.dense(self, config.d_ff, config.d_model, bias=False, std=config.std(config.d_ff))
        self.dropout = layers.dropout(self, config.dropout_rate)

    __call__ = t5.feed_forward


class FlaxT5LayerFF(FlaxBlock):
    decoder: bool = False

    def setup(self) -> None:
        self.DenseReluDense = layers.block(self, FlaxT5DenseReluDense)
        self.layer_norm = layers.rms_norm(self, self.config.d_model, self.config.layer_norm_epsilon)
        self.dropout = layers.dropout(self, self.config.dropout_rate)

    __call__ = t5.feed_forward_layer


class FlaxT5Block(FlaxBlock):
    decoder: bool = False

    def setup(self) -> None:
        cross = [FlaxT5LayerCrossAttention] if self.decoder else []
        kinds = [FlaxT5LayerSelfAttention, *cross, FlaxT5LayerFF]
        self.layer = layers.listed(self, kinds, index=self.index, decoder=self.decoder)

    __call__ = t5.block


class FlaxT5Stack(FlaxBlock):
    decoder: bool = False

    def setup(self) -> None:
        config = self.config
        self.block = layers.stacked(self, FlaxT5Block, config.layers_of(self.decoder), decoder=self.decoder)
        self.final_layer_norm = layers.rms_norm(self, config.d_model, config.layer_norm_epsilon)
        self.dropout = layers.dropout(self, config.dropout_rate)

    __call__ = t5.stack


class FlaxT5Stacks(FlaxBlock):
    def build_stacks(self, config: T5Config, decoder: bool) -> None:
        """Declare the embeddings, the encoder, and the decoder if there is one."""
        self.shared = layers.embedding(self, config.vocab_size, config.d_model, std=config.initializer_factor)
        self.encoder = layers.block(self, FlaxT5Stack)
        if decoder:
            self.decoder = layers.block(self, FlaxT5Stack, decoder=True)


class FlaxT5Module(FlaxT5Stacks):
    def setup(self) -> None:
        self.build_stacks(self.config, decoder=True)

    __call__ = t5.model


class FlaxT5ForConditionalGenerationModule(FlaxT5Stacks):
    task = "Seq2SeqLM"

    def setup(self) -> None:
        config = self.config
        self.build_stacks(config, decoder=True)
        self.lm_head = layers.vocab_head(self, config.d_model, config.vocab_size, std=config.initializer_factor)

    __call__ = t5.with_head


class FlaxT5EncoderModule(FlaxT5Stacks):
    def setup(self) -> None:
        self.build_stacks(self.config, decoder=False)

    __call__ = t5.encoder_model


class FlaxT5PreTrainedModel(FlaxPreTrainedModel):
    """Base of the T5 classes. All hold the embeddings as `shared`."""

    config_class = T5Config
    base_model_prefix = "transformer"


class FlaxT5Model(FlaxT5PreTrainedModel):
    """Encoder and decoder."""

    module_class = FlaxT5Module
    __call__ = layers.declared_call(t5.model)


class FlaxT5ForConditionalGeneration(FlaxT5PreTrainedModel):
    """T5 that predicts the target's next token; the head is tied to the embeddings unless the config says not."""

    module_class = FlaxT5ForConditionalGenerationModule
    __call__ = layers.declared_call(t5.with_head)


class FlaxT5EncoderModel(FlaxT5PreTrainedModel):
    """The encoder alone."""

    module_class = FlaxT5EncoderModule
    __call__ = layers.declared_call(t5.encoder_model)
