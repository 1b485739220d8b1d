"""Llama in PyTorch: the layers, under the canonical names of `triptych.families.llama`."""

from __future__ import annotations

from typing import Any, ClassVar

from triptych.families.common import heads_axis, kv_heads_axis
from triptych.families.llama import LlamaConfig
from triptych.forward import llama
from triptych_pt import layers
from triptych_pt.layers import Block
from triptych_pt.modeling import PreTrainedModel

__all__ = [
    "LlamaPreTrainedModel",
    "LlamaModel",
    "LlamaForCausalLM",
    "LlamaForSequenceClassification",
]


class LlamaAttention(Block):
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

    forward = llama.attention


class LlamaMLP(Block):
    def setup(self) -> None:
        width, inner, bias = self.config.hidden_size, self.config.intermediate_size, self.config.feed_forward_bias
        self.gate_proj = layers.dense(self, width, inner, bias=bias)
        self.up_proj = layers.dense(self, width, inner, bias=bias)
        self.down_proj = layers.dense(self, inner, width, bias=bias)

    forward = llama.feed_forward


class LlamaDecoderLayer(Block):
    def setup(self) -> None:
        width, epsilon = self.config.hidden_size, self.config.rms_norm_eps
        self.self_attn = layers.block(self, LlamaAttention, index=self.index)
        self.mlp = layers.block(self, LlamaMLP)
        self.input_layernorm = layers.rms_norm(self, width, epsilon)
        self.post_attention_layernorm = layers.rms_norm(self, width, epsilon)

    forward = llama.layer


class LlamaPreTrainedModel(PreTrainedModel):
    """Base of the Llama classes."""

    config_class: ClassVar[Any] = LlamaConfig
    base_model_prefix = "model"


class LlamaModel(LlamaPreTrainedModel):
    """The decoder."""

    _input_embeddings = "embed_tokens"

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        self.embed_tokens = layers.embedding(self, config.vocab_size, config.hidden_size, padding=config.pad_token_id)
        self.layers = layers.stacked(self, LlamaDecoderLayer, config.num_hidden_layers)
        self.norm = layers.rms_norm(self, config.hidden_size, config.rms_norm_eps)
        self.post_init()

    @property
    def decoder_layers(self) -> Any:
        return self.layers

    forward = llama.model


class LlamaWithHead(LlamaPreTrainedModel):
    """A backbone and a head: `task` names the head, `score_of` turns the backbone's output into logits."""

    task = ""
    backbone_class: ClassVar[Any] = LlamaModel

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        self.model = layers.block(self, self.backbone_class)
        self.build_head(config)
        self.post_init()

    def build_head(self, config: LlamaConfig) -> None:
        """Declare the head's layers."""

    def score_of(self, backbone: Any, input_ids: Any) -> Any:
        """Return the logits of a backbone's output."""
        raise NotImplementedError

    forward = llama.with_head


class LlamaForCausalLM(LlamaWithHead):
    """Llama that predicts the next token."""

    task = "CausalLM"
    _output_embeddings = "lm_head"

    def build_head(self, config: LlamaConfig) -> None:
        self.lm_head = layers.vocab_head(self, config.hidden_size, config.vocab_size)

    score_of = llama.score_vocabulary


class LlamaForSequenceClassification(LlamaWithHead):
    """Llama that classifies or scores a text, from its last token."""

    task = "SequenceClassification"

    def build_head(self, config: LlamaConfig) -> None:
        self.score = layers.dense(self, config.hidden_size, config.num_labels, bias=False)

    score_of = llama.score_last
