"""GPT-2 in Keras: the layers, under the canonical names of `triptych.families.gpt2`."""

from __future__ import annotations

from typing import Any

from triptych.families.common import heads_axis
from triptych.families.gpt2 import GPT2Config, fused_axis
from triptych.forward import gpt2
from triptych_tf import layers
from triptych_tf.layers import TFBlock
from triptych_tf.modeling import TFPreTrainedModel

__all__ = [
    "TFGPT2PreTrainedModel",
    "TFGPT2Model",
    "TFGPT2LMHeadModel",
    "TFGPT2ForSequenceClassification",
    "TFGPT2ForTokenClassification",
]


class TFGPT2Attention(TFBlock):
    def setup(self) -> None:
        config = self.config
        fused, heads = fused_axis(config, self.index).length, heads_axis(config, self.index).length
        self.c_attn = layers.conv1d(self, config.n_embd, fused)
        self.c_proj = layers.conv1d(self, heads, config.n_embd, std=config.residual_std)
        self.attn_dropout = layers.dropout(self, config.attn_pdrop)
        self.resid_dropout = layers.dropout(self, config.resid_pdrop)

    call = gpt2.attention


class TFGPT2MLP(TFBlock):
    def setup(self) -> None:
        config = self.config
        self.c_fc = layers.conv1d(self, config.n_embd, config.ffn_width)
        self.c_proj = layers.conv1d(self, config.ffn_width, config.n_embd, std=config.residual_std)
        self.dropout = layers.dropout(self, config.resid_pdrop)

    call = gpt2.feed_forward


class TFGPT2Block(TFBlock):
    def setup(self) -> None:
        width, epsilon = self.config.n_embd, self.config.layer_norm_epsilon
        self.ln_1 = layers.layer_norm(self, width, epsilon)
        self.attn = layers.block(self, TFGPT2Attention, index=self.index)
        self.ln_2 = layers.layer_norm(self, width, epsilon)
        self.mlp = layers.block(self, TFGPT2MLP)

    call = gpt2.layer


class TFGPT2PreTrainedModel(TFPreTrainedModel):
    """Base of the GPT-2 classes."""

    config_class = GPT2Config
    base_model_prefix = "transformer"
    build = layers.build


class TFGPT2Model(TFGPT2PreTrainedModel):
    """The decoder."""

    _input_embeddings = "wte"

    def __init__(self, config: GPT2Config, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.wte = layers.embedding(self, config.vocab_size, config.n_embd)
        self.wpe = layers.embedding(self, config.n_positions, config.n_embd)
        self.drop = layers.dropout(self, config.embd_pdrop)
        self.h = layers.stacked(self, TFGPT2Block, config.n_layer)
        self.ln_f = layers.layer_norm(self, config.n_embd, config.layer_norm_epsilon)
        self.post_init()

    call = layers.with_training(gpt2.model)


class TFGPT2WithHead(TFGPT2PreTrainedModel):
    """A backbone and a head: `task` names the head, `score_of` turns the backbone's output into logits."""

    task = ""

    def __init__(self, config: GPT2Config, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.transformer = layers.block(self, TFGPT2Model)
        self.build_head(config)
        self.post_init()

    def build_head(self, config: GPT2Config) -> None:
        """Declare the head's layers."""

    def score_of(self, backbone: Any, input_ids: Any) -> Any:
        """Return the logits of a backbone's output."""
        raise NotImplementedError

    call = layers.with_training(gpt2.with_head)


class TFGPT2LMHeadModel(TFGPT2WithHead):
    """GPT-2 that predicts the next token; the head is tied to the embeddings unless the config says not."""

    task = "CausalLM"
    _output_embeddings = "lm_head"

    def build_head(self, config: GPT2Config) -> None:
        self.lm_head = layers.vocab_head(self, config.n_embd, config.vocab_size)

    score_of = gpt2.score_vocabulary


class TFGPT2ForSequenceClassification(TFGPT2WithHead):
    """GPT-2 that classifies or scores a text, from its last token."""

    task = "SequenceClassification"

    def build_head(self, config: GPT2Config) -> None:
        self.score = layers.dense(self, config.n_embd, config.num_labels, bias=False)

    score_of = gpt2.score_last


class TFGPT2ForTokenClassification(TFGPT2WithHead):
    """GPT-2 that classifies every token."""

    task = "TokenClassification"

    def build_head(self, config: GPT2Config) -> None:
        self.dropout = layers.dropout(self, config.head_dropout)
        self.classifier = layers.dense(self, config.n_embd, config.num_labels)

    score_of = gpt2.score_tokens
