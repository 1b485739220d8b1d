"""GPT-2 in Flax: the layers, under the canonical names of `triptych.families.gpt2`."""

from __future__ import annotations

from typing import Any

from triptych.families.common import heads_axis
from triptych.families.gpt2 import GPT2Config, fused_axis
from triptych.forward import gpt2
from triptych_flax import layers
from triptych_flax.layers import FlaxBlock
from triptych_flax.modeling import FlaxPreTrainedModel

__all__ = [
    "FlaxGPT2PreTrainedModel",
    "FlaxGPT2Model",
    "FlaxGPT2LMHeadModel",
    "FlaxGPT2ForSequenceClassification",
    "FlaxGPT2ForTokenClassification",
]


class FlaxGPT2Attention(FlaxBlock):
    def setup(self) -> None:
        config = self.config
        fused, heads = fused_axis(config, self.index).length, heads_axis(config, self.index).length
        self.c_attn = layers.conv1d(self, config.n_embd, fused)
        self.c_proj = layers.conv1d(self, heads, config.n_embd, std=config.residual_std)
        self.attn_dropout = layers.dropout(self, config.attn_pdrop)
        self.resid_dropout = layers.dropout(self, config.resid_pdrop)

    __call__ = gpt2.attention


class FlaxGPT2MLP(FlaxBlock):
    def setup(self) -> None:
        config = self.config
        self.c_fc = layers.conv1d(self, config.n_embd, config.ffn_width)
        self.c_proj = layers.conv1d(self, config.ffn_width, config.n_embd, std=config.residual_std)
        self.dropout = layers.dropout(self, config.resid_pdrop)

    __call__ = gpt2.feed_forward


class FlaxGPT2Block(FlaxBlock):
    def setup(self) -> None:
        width, epsilon = self.config.n_embd, self.config.layer_norm_epsilon
        self.ln_1 = layers.layer_norm(self, width, epsilon)
        self.attn = layers.block(self, FlaxGPT2Attention, index=self.index)
        self.ln_2 = layers.layer_norm(self, width, epsilon)
        self.mlp = layers.block(self, FlaxGPT2MLP)

    __call__ = gpt2.layer


class FlaxGPT2Module(FlaxBlock):
    def setup(self) -> None:
        config = self.config
        self.wte = layers.embedding(self, config.vocab_size, config.n_embd)
        self.wpe = layers.embedding(self, config.n_positions, config.n_embd)
        self.drop = layers.dropout(self, config.embd_pdrop)
        self.h = layers.stacked(self, FlaxGPT2Block, config.n_layer)
        self.ln_f = layers.layer_norm(self, config.n_embd, config.layer_norm_epsilon)

    __call__ = gpt2.model


class FlaxGPT2WithHeadModule(FlaxBlock):
    task = ""
    base_model_prefix = "transformer"

    def setup(self) -> None:
        config = self.config
        self.transformer = layers.block(self, FlaxGPT2Module)
        self.build_head(config)

    def build_head(self, config: GPT2Config) -> None:
        """Declare the head's layers."""

    def score_of(self, backbone: Any, input_ids: Any) -> Any:
        """Return the logits of a backbone's output."""
        raise NotImplementedError

    __call__ = gpt2.with_head


class FlaxGPT2LMHeadModule(FlaxGPT2WithHeadModule):
    task = "CausalLM"

    def build_head(self, config: GPT2Config) -> None:
        self.lm_head = layers.vocab_head(self, config.n_embd, config.vocab_size)

    score_of = gpt2.score_vocabulary


class FlaxGPT2ForSequenceClassificationModule(FlaxGPT2WithHeadModule):
    task = "SequenceClassification"

    def build_head(self, config: GPT2Config) -> None:
        self.score = layers.dense(self, config.n_embd, config.num_labels, bias=False)

    score_of = gpt2.score_last


class FlaxGPT2ForTokenClassificationModule(FlaxGPT2WithHeadModule):
    task = "TokenClassification"

    def build_head(self, config: GPT2Config) -> None:
        self.dropout = layers.dropout(self, config.head_dropout)
        self.classifier = layers.dense(self, config.n_embd, config.num_labels)

    score_of = gpt2.score_tokens


class FlaxGPT2PreTrainedModel(FlaxPreTrainedModel):
    """Base of the GPT-2 classes."""

    config_class = GPT2Config
    base_model_prefix = "transformer"


class FlaxGPT2Model(FlaxGPT2PreTrainedModel):
    """The decoder."""

    module_class = FlaxGPT2Module
    __call__ = layers.declared_call(gpt2.model)


class FlaxGPT2WithHead(FlaxGPT2PreTrainedModel):
    """A backbone and a head: `task` names the head, `score_of` turns the backbone's output into logits."""

    module_class = FlaxGPT2WithHeadModule
    __call__ = layers.declared_call(gpt2.with_head)


class FlaxGPT2LMHeadModel(FlaxGPT2WithHead):
    """GPT-2 that predicts the next token; the head is tied to the embeddings unless the config says not."""

    module_class = FlaxGPT2LMHeadModule


class FlaxGPT2ForSequenceClassification(FlaxGPT2WithHead):
    """GPT-2 that classifies or scores a text, from its last token."""

    module_class = FlaxGPT2ForSequenceClassificationModule


class FlaxGPT2ForTokenClassification(FlaxGPT2WithHead):
    """GPT-2 that classifies every token."""

    module_class = FlaxGPT2ForTokenClassificationModule
