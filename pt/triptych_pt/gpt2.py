"""GPT-2 in PyTorch: the layers, under the canonical names of `triptych.families.gpt2`."""

from __future__ import annotations

from typing import Any

from triptych.families.common import heads_axis
from triptych.families.gpt2 import GPT2Config, fused_axis
from triptych.forward import gpt2
from triptych_pt import layers
from triptych_pt.layers import Block
from triptych_pt.modeling import PreTrainedModel

__all__ = [
    "GPT2PreTrainedModel",
    "GPT2Model",
    "GPT2LMHeadModel",
    "GPT2ForSequenceClassification",
    "GPT2ForTokenClassification",
]


class GPT2Attention(Block):
    def setup(self) -> None:
        config = self.config
        fused, heads = fused_axis(config, self.index).length, heads_axis(config, self.index).length
        self.c_attn = layers.conv1d(self, config.n_embd, fused)
        self.c_proj = layers.conv1d(self, heads, config.n_embd, std=config.residual_std)
        self.attn_dropout = layers.dropout(self, config.attn_pdrop)
        self.resid_dropout = layers.dropout(self, config.resid_pdrop)

    forward = gpt2.attention


class GPT2MLP(Block):
    def setup(self) -> None:
        config = self.config
        self.c_fc = layers.conv1d(self, config.n_embd, config.ffn_width)
        self.c_proj = layers.conv1d(self, config.ffn_width, config.n_embd, std=config.residual_std)
        self.dropout = layers.dropout(self, config.resid_pdrop)

    forward = gpt2.feed_forward


class GPT2Block(Block):
    def setup(self) -> None:
        width, epsilon = self.config.n_embd, self.config.layer_norm_epsilon
        self.ln_1 = layers.layer_norm(self, width, epsilon)
        self.attn = layers.block(self, GPT2Attention, index=self.index)
        self.ln_2 = layers.layer_norm(self, width, epsilon)
        self.mlp = layers.block(self, GPT2MLP)

    forward = gpt2.layer


class GPT2PreTrainedModel(PreTrainedModel):
    """Base of the GPT-2 classes."""

    config_class = GPT2Config
    base_model_prefix = "transformer"


class GPT2Model(GPT2PreTrainedModel):
    """The decoder."""

    _input_embeddings = "wte"

    def __init__(self, config: GPT2Config) -> None:
        super().__init__(config)
        self.wte = layers.embedding(self, config.vocab_size, config.n_embd)
        self.wpe = layers.embedding(self, config.n_positions, config.n_embd)
        self.drop = layers.dropout(self, config.embd_pdrop)
        self.h = layers.stacked(self, GPT2Block, config.n_layer)
        self.ln_f = layers.layer_norm(self, config.n_embd, config.layer_norm_epsilon)
        self.post_init()

    forward = gpt2.model


class GPT2WithHead(GPT2PreTrainedModel):
    """A backbone and a head: `task` names the head, `score_of` turns the backbone's output into logits."""

    task = ""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__(config)
        self.transformer = layers.block(self, GPT2Model)
        self.build_head(config)
        self.post_init()

    def build_head(self, config: GPT2Config) -> None:
        """Declare the head's layers."""

    def score_of(self, backbone: Any, input_ids: Any) -> Any:
        """Return the logits of a backbone's output."""
        raise NotImplementedError

    forward = gpt2.with_head


class GPT2LMHeadModel(GPT2WithHead):
    """GPT-2 that predicts the next token; the head is tied to the embeddings unless the config says not."""

    task = "CausalLM"
    _output_embeddings = "lm_head"

    def build_head(self, config: GPT2Config) -> None:
        self.lm_head = layers.vocab_head(self, config.n_embd, config.vocab_size)

    score_of = gpt2.score_vocabulary


class GPT2ForSequenceClassification(GPT2WithHead):
    """GPT-2 that classifies or scores a text, from its last token."""

    task = "SequenceClassification"

    def build_head(self, config: GPT2Config) -> None:
        self.score = layers.dense(self, config.n_embd, config.num_labels, bias=False)

    score_of = gpt2.score_last


class GPT2ForTokenClassification(GPT2WithHead):
    """GPT-2 that classifies every token."""

    task = "TokenClassification"

    def build_head(self, config: GPT2Config) -> None:
        self.dropout = layers.dropout(self, config.head_dropout)
        self.classifier = layers.dense(self, config.n_embd, config.num_labels)

    score_of = gpt2.score_tokens
