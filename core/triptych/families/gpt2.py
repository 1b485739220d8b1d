"""GPT-2 (Radford et al., 2019, "Language Models are Unsupervised Multitask Learners")."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from triptych.checks import optional_positive_int, part_count, positive_int, positive_number, probability
from triptych.config import PretrainedConfig
from triptych.families import declared
from triptych.families.common import require_activation, require_built_in, require_divisor
from triptych.nn import attention as at
from triptych.nn import cache as caches
from triptych.nn import functional as fn
from triptych.nn import outputs
from triptych.nn.axes import heads_axis, hidden_axis, labels_axis, vocab_axis
from triptych.nn.decoder_heads import CausalHead, DecoderWithHead, LastTokenHead
from triptych.nn.parts import Model, Part
from triptych.nn.stack import finish, result, run_layers
from triptych.weights.schema import Axis


class GPT2Config(PretrainedConfig):
    """Configuration of GPT-2; the defaults are those of the smallest model.

    Raises:
        ConfigError: a field has an impossible value, or the heads do not divide `n_embd`.
    """

    model_type = "gpt2"
    attribute_map = {
        "hidden_size": "n_embd",
        "max_position_embeddings": "n_positions",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    }
    checks = {
        "vocab_size": positive_int,
        "n_positions": positive_int,
        "n_embd": positive_int,
        "n_layer": part_count,
        "n_head": part_count,
        "n_inner": optional_positive_int,
        "resid_pdrop": probability,
        "embd_pdrop": probability,
        "attn_pdrop": probability,
        "layer_norm_epsilon": positive_number,
        "initializer_range": positive_number,
    }

    def __init__(
        self,
        vocab_size: int = 50257,
        n_positions: int = 1024,
        n_embd: int = 768,
        n_layer: int = 12,
        n_head: int = 12,
        n_inner: int | None = None,
        activation_function: str = "gelu_new",
        resid_pdrop: float = 0.1,
        embd_pdrop: float = 0.1,
        attn_pdrop: float = 0.1,
        layer_norm_epsilon: float = 1e-5,
        initializer_range: float = 0.02,
        summary_type: str = "cls_index",
        summary_use_proj: bool = True,
        summary_activation: str | None = None,
        summary_proj_to_labels: bool = True,
        summary_first_dropout: float = 0.1,
        scale_attn_weights: bool = True,
        use_cache: bool = True,
        bos_token_id: int | None = 50256,
        eos_token_id: int | None = 50256,
        scale_attn_by_inverse_layer_idx: bool = False,
        reorder_and_upcast_attn: bool = False,
        **kwargs: Any,
    ) -> None:
        self._set_fields(locals())
        super().__init__(**kwargs)

    def validate(self) -> None:
        super().validate()
        require_divisor(self, "n_head", "n_embd")
        require_activation(self, "activation_function")
        require_built_in(self, "add_cross_attention", "is_causal")

    @property
    def cached_heads(self) -> tuple[int, ...]:
        """Number of key and value heads of each decoder layer."""
        return tuple(heads_axis(self, layer).units for layer in range(self.n_layer))

    @property
    def head_dim(self) -> int:
        return self.n_embd // self.n_head

    @property
    def ffn_width(self) -> int:
        return self.n_inner or 4 * self.n_embd

    @property
    def head_dropout(self) -> float:
        """Dropout before the scores of tokens."""
        for name in ("classifier_dropout", "hidden_dropout"):
            if getattr(self, name, None) is not None:
                return float(getattr(self, name))
        return 0.1

    @property
    def residual_std(self) -> float:
        """Standard deviation of new projections into the residual stream, of which each layer has two."""
        return float(self.initializer_range / (2 * self.n_layer) ** 0.5)

    def attention_scale(self, layer: int) -> float:
        """Return the factor of the attention scores of one layer."""
        scale = self.head_dim**-0.5 if self.scale_attn_weights else 1.0
        return float(scale / (layer + 1) if self.scale_attn_by_inverse_layer_idx else scale)


class GPT2Attention(Part):
    def setup(self) -> None:
        make, config, heads = self.make, self.config, heads_axis(self.config, self.index)
        self.c_attn = make.conv1d(self, hidden_axis(config), replace(heads, repeat=3))
        self.c_proj = make.conv1d(self, heads, hidden_axis(config), std=config.residual_std)
        self.attn_dropout = make.dropout(self, config.attn_pdrop)
        self.resid_dropout = make.dropout(self, config.resid_pdrop)

    def call(self, hidden: Any, bias: Any, head_mask: Any, cache: Any) -> tuple[Any, Any]:
        """Attend with one fused projection of queries, keys and values."""
        ops, heads = self.ops, heads_axis(self.config, self.index)
        fused, width = self.c_attn(hidden), heads.length
        parts = (fused[..., start : start + width] for start in (0, width, 2 * width))
        query, key, value = (at.split_heads(ops, part, heads.units) for part in parts)
        if cache is not None:
            key, value = cache.extend(self.index, key, value)
        scale = self.config.attention_scale(self.index)
        context, probabilities = at.attend(
            ops, query, key, value, bias, scale, self.attn_dropout, head_mask, self.config
        )
        return self.resid_dropout(self.c_proj(context)), probabilities


class GPT2MLP(Part):
    def setup(self) -> None:
        make, config, hidden, ffn = self.make, self.config, hidden_axis(self.config), Axis("ffn", self.config.ffn_width)
        self.c_fc = make.conv1d(self, hidden, ffn)
        self.c_proj = make.conv1d(self, ffn, hidden, std=config.residual_std)
        self.dropout = make.dropout(self, config.resid_pdrop)

    def call(self, hidden: Any) -> Any:
        return self.dropout(self.c_proj(fn.activation(self.ops, self.config.activation_function, self.c_fc(hidden))))


class GPT2Block(Part):
    def setup(self) -> None:
        make, hidden, epsilon = self.make, hidden_axis(self.config), self.config.layer_norm_epsilon
        self.ln_1 = make.layer_norm(self, hidden, epsilon)
        self.attn = make.block(self, GPT2Attention, index=self.index)
        self.ln_2 = make.layer_norm(self, hidden, epsilon)
        self.mlp = make.block(self, GPT2MLP)

    def call(self, hidden: Any, bias: Any, head_mask: Any, cache: Any) -> tuple[Any, Any]:
        attended, probabilities = self.attn(self.ln_1(hidden), bias, head_mask, cache=cache)
        hidden = hidden + attended
        return hidden + self.mlp(self.ln_2(hidden)), probabilities


class GPT2Model(Model):
    """The decoder."""

    gradient_checkpointing = False

    def setup(self) -> None:
        make, config, hidden = self.make, self.config, hidden_axis(self.config)
        self.wte = make.embedding(self, vocab_axis(config), hidden)
        self.wpe = make.embedding(self, Axis("positions", config.n_positions), hidden)
        self.drop = make.dropout(self, config.embd_pdrop)
        self.h = make.stacked(self, GPT2Block, config.n_layer)
        self.ln_f = make.layer_norm(self, hidden, config.layer_norm_epsilon)

    def call(
        self,
        input_ids: Any = None,
        past_key_values: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        head_mask: Any = None,
        inputs_embeds: Any = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Return `BaseModelOutputWithPast`; the last of its hidden states is normed.

        Ids are integers [B, Q], `inputs_embeds` [B, Q, H]; `attention_mask` [B, past + Q]. `token_type_ids` are
        embedded with the words' matrix. There is a cache if `past_key_values` is given, or `use_cache` where caches
        grow.
        """
        ops, config = self.ops, self.config
        fn.one_input(input_ids, inputs_embeds)
        flags = fn.output_flags(config, output_attentions, output_hidden_states, return_dict)
        cache = caches.opened(ops, past_key_values, use_cache)
        words = self.wte(input_ids) if inputs_embeds is None else inputs_embeds
        hidden = words + self.wpe(at.positions(ops, words, cache) if position_ids is None else position_ids)
        hidden = self.drop(hidden if token_type_ids is None else hidden + self.wte(token_type_ids))
        bias = at.causal_bias(ops, attention_mask, hidden, cache)
        masks = at.head_masks(ops, head_mask, config, hidden.dtype, shown=flags[0])
        states = run_layers(self.h, hidden, [(bias, mask) for mask in masks], stack=self, cache=cache)
        states[0][-1] = self.ln_f(states[0][-1])
        past = None if cache is None else cache.after(ops.shape(words)[1])
        kind = outputs.BaseModelOutputWithPast
        return result(kind, flags, states, last_hidden_state=states[0][-1], past_key_values=past)


class GPT2WithHead(DecoderWithHead):
    """A backbone and a head: `task` names the head, `score_of` turns the backbone's output into logits."""

    base_model_prefix = "transformer"

    def build_backbone(self) -> None:
        self.transformer = self.make.block(self, GPT2Model)

    def words(self) -> Any:
        return self.transformer.wte

    def call(
        self,
        input_ids: Any = None,
        past_key_values: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        head_mask: Any = None,
        inputs_embeds: Any = None,
        labels: Any = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Return logits, and with `labels` the loss; see `triptych.nn.heads.task_output`."""
        backbone = self.transformer(
            input_ids, past_key_values, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
            use_cache, output_attentions, output_hidden_states, return_dict=True,
        )  # fmt: skip
        return finish(self, backbone, self.score_of(backbone, input_ids), labels, return_dict)


class GPT2LMHeadModel(CausalHead, GPT2WithHead):
    """GPT-2 that predicts the next token; the head is tied to the embeddings unless the config says not."""


class GPT2ForSequenceClassification(LastTokenHead, GPT2WithHead):
    """GPT-2 that classifies or scores a text, from its last token."""


class GPT2ForTokenClassification(GPT2WithHead):
    """GPT-2 that classifies every token."""

    task = "TokenClassification"

    def build_head(self, config: Any) -> None:
        self.dropout = self.make.dropout(self, config.head_dropout)
        self.classifier = self.make.dense(self, hidden_axis(config), labels_axis(config))

    def score_of(self, backbone: Any, input_ids: Any) -> Any:
        return self.classifier(self.dropout(backbone.last_hidden_state))


def _masks(config: PretrainedConfig) -> list[str]:
    """Return the names of the causal masks that old files hold."""
    return [f"h.{layer}.attn.{name}" for layer in range(config.n_layer) for name in ("bias", "masked_bias")]


FAMILIES = {
    "gpt2": declared(
        GPT2Config,
        GPT2Model,
        GPT2LMHeadModel,
        GPT2ForSequenceClassification,
        GPT2ForTokenClassification,
        ignorable=_masks,
    )
}
