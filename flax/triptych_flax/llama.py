"""Llama in Flax: the layers, under the canonical names of `triptych.families.llama`."""

from __future__ import annotations

from typing import Any, ClassVar

from triptych.families.common import heads_axis, kv_heads_axis
from triptych.families.llama import LlamaConfig
from triptych.forward import llama
from triptych_flax import layers
from triptych_flax.layers import FlaxBlock
from triptych_flax.modeling import FlaxPreTrainedModel

__all__ = [
    "FlaxLlamaPreTrainedModel",
    "FlaxLlamaModel",
    "FlaxLlamaForCausalLM",
    "FlaxLlamaForSequenceClassification",
]


class FlaxLlamaAttention(FlaxBlock):
    def setup(self) -> None:
        config, width = self.config, self.config.hidden_size
        heads, kv_heads = heads_axis(config, self.index).length, kv_heads_axis(config, self.index).length
        self.q_proj = layers.dense(self, width, heads, bias=config.qkv_bias)
        self.k_proj = layers.dense(self, width, kv_heads, bias=config.qkv_bias)
        self.v_proj = layers.dense(self, width, kv_heads, bias=config.qkv_bias)
        self.o_proj = layers.dense(self, heads, width, bias=config.output_bias)
        if config.query_key_norm:
            self.q_norm = layers.rms_norm(self, config.head_dim, config.rms_norm_eps)
            self.k_norm = layers.rms_norm(self, config.head_dim, config.rms_norm_eps)
        self.dropout = layers.dropout(self, config.attention_dropout)

    __call__ = llama.attention


class FlaxLlamaMLP(FlaxBlock):
    def setup(self) -> None:
        width, inner, bias = self.config.hidden_size, self.config.intermediate_size, self.config.feed_forward_bias
        self.gate_proj = layers.dense(self, width, inner, bias=bias)
        self.up_proj = layers.dense(self, width, inner, bias=bias)
        self.down_proj = layers.dense(self, inner, width, bias=bias)

    __call__ = llama.feed_forward


class FlaxLlamaDecoderLayer(FlaxBlock):
    def setup(self) -> None:
        width, epsilon = self.config.hidden_size, self.config.rms_norm_eps
        self.self_attn = layers.block(self, FlaxLlamaAttention, index=self.index)
        self.mlp = layers.block(self, FlaxLlamaMLP)
        self.input_layernorm = layers.rms_norm(self, width, epsilon)
        self.post_attention_layernorm = layers.rms_norm(self, width, epsilon)

    __call__ = llama.layer


class FlaxLlamaModule(FlaxBlock):
    def setup(self) -> None:
        config = self.config
        self.embed_tokens = layers.embedding(self, config.vocab_size, config.hidden_size, padding=config.pad_token_id)
        self.layers = layers.stacked(self, FlaxLlamaDecoderLayer, config.num_hidden_layers)
        self.norm = layers.rms_norm(self, config.hidden_size, config.rms_norm_eps)

    @property
    def decoder_layers(self) -> Any:
        return self.layers

    __call__ = llama.model


class FlaxLlamaWithHeadModule(FlaxBlock):
    task = ""
    base_model_prefix = "model"
    backbone_class = FlaxLlamaModule

    def setup(self) -> None:
        config = self.config
        self.model = layers.block(self, self.backbone_class)
        self.build_head(config)

    def build_head(self, config: LlamaConfig) -> None:
        """Declare the head's layers."""

    def score_of(self, backbone: Any, input_ids: Any) -> Any:
        """Return the logits of a backbone's output."""
        raise NotImplementedError

    __call__ = llama.with_head


class FlaxLlamaForCausalLMModule(FlaxLlamaWithHeadModule):
    task = "CausalLM"

    def build_head(self, config: LlamaConfig) -> None:
        self.lm_head = layers.vocab_head(self, config.hidden_size, config.vocab_size)

    score_of = llama.score_vocabulary


class FlaxLlamaForSequenceClassificationModule(FlaxLlamaWithHeadModule):
    task = "SequenceClassification"

    def build_head(self, config: LlamaConfig) -> None:
        self.score = layers.dense(self, config.hidden_size, config.num_labels, bias=False)

    score_of = llama.score_last


class FlaxLlamaPreTrainedModel(FlaxPreTrainedModel):
    """Base of the Llama classes."""

    config_class: ClassVar[Any] = LlamaConfig
    base_model_prefix = "model"


class FlaxLlamaModel(FlaxLlamaPreTrainedModel):
    """The decoder."""

    module_class = FlaxLlamaModule
    __call__ = layers.declared_call(llama.model)


class FlaxLlamaWithHead(FlaxLlamaPreTrainedModel):
    """A backbone and a head: `task` names the head, `score_of` turns the backbone's output into logits."""

    module_class = FlaxLlamaWithHeadModule
    __call__ = layers.declared_call(llama.with_head)


class FlaxLlamaForCausalLM(FlaxLlamaWithHead):
    """Llama that predicts the next token."""

    module_class = FlaxLlamaForCausalLMModule


class FlaxLlamaForSequenceClassification(FlaxLlamaWithHead):
    """Llama that classifies or scores a text, from its last token."""

    module_class = FlaxLlamaForSequenceClassificationModule
