"""Llama (Touvron et al., 2023, https://arxiv.org/abs/2302.13971), 1 to 3.x.

Its parts also serve the families whose models are configurations of the same blocks: Mistral, Qwen2 and Qwen3.
"""

from __future__ import annotations

from typing import Any

from triptych.checks import part_count, positive_int, positive_number, probability
from triptych.config import PretrainedConfig
from triptych.families import Family, declared
from triptych.families.common import require_activation, require_built_in, require_divisor, token_dropout
from triptych.nn import attention as at
from triptych.nn import cache as caches
from triptych.nn import functional as fn
from triptych.nn import outputs
from triptych.nn.axes import heads_axis, hidden_axis, kv_heads_axis, labels_axis, vocab_axis
from triptych.nn.decoder_heads import CausalHead, DecoderWithHead, LastTokenHead
from triptych.nn.parts import Model, Part
from triptych.nn.rotary import check_rope, parse_rope, rotary_tables, rotate
from triptych.nn.stack import finish, finish_span, result, run_each
from triptych.weights.schema import Axis


class LlamaConfig(PretrainedConfig):
    """Configuration of Llama; the defaults are those of the first 7B model.

    Rotary positions are given as transformers 4 writes them (`rope_theta`, `rope_scaling`) or as transformers 5 does
    (`rope_parameters`), and written as transformers 4 does, which both read.

    Raises:
        ConfigError: a field has an impossible value, or a kind of rotary scaling that is not built in.
    """

    model_type = "llama"
    checks = {
        "vocab_size": positive_int,
        "hidden_size": positive_int,
        "intermediate_size": positive_int,
        "num_hidden_layers": part_count,
        "num_attention_heads": part_count,
        "num_key_value_heads": part_count,
        "head_dim": positive_int,
        "max_position_embeddings": positive_int,
        "initializer_range": positive_number,
        "rms_norm_eps": positive_number,
        "rope_theta": positive_number,
        "attention_dropout": probability,
    }
    query_key_norm = False
    """Whether each head's query and key are normalised (Qwen3)."""

    def __init__(
        self,
        vocab_size: int = 32000,
        hidden_size: int = 4096,
        intermediate_size: int = 11008,
        num_hidden_layers: int = 32,
        num_attention_heads: int = 32,
        num_key_value_heads: int | None = None,
        hidden_act: str = "silu",
        max_position_embeddings: int = 2048,
        initializer_range: float = 0.02,
        rms_norm_eps: float = 1e-6,
        use_cache: bool = True,
        pad_token_id: int | None = None,
        bos_token_id: int | None = 1,
        eos_token_id: int | list[int] | None = 2,
        tie_word_embeddings: bool = False,
        rope_theta: float = 10000.0,
        rope_scaling: dict[str, Any] | None = None,
        attention_bias: bool = False,
        attention_dropout: float = 0.0,
        mlp_bias: bool = False,
        head_dim: int | None = None,
        **kwargs: Any,
    ) -> None:
        self._set_fields(locals())
        if num_key_value_heads is None:
            self.num_key_value_heads = num_attention_heads
        if head_dim is None and isinstance(hidden_size, int) and isinstance(num_attention_heads, int):
            self.head_dim = hidden_size // max(num_attention_heads, 1)
        self.rope_theta, self.rope_scaling = parse_rope(rope_theta, rope_scaling, kwargs.pop("rope_parameters", None))
        super().__init__(**kwargs)

    def validate(self) -> None:
        super().validate()
        require_divisor(self, "num_key_value_heads", "num_attention_heads")
        require_activation(self, "hidden_act")
        require_built_in(self, "pretraining_tp", "partial_rotary_factor", "is_causal")
        check_rope(self)
        for layer in self.pruned_heads:
            kv_heads_axis(self, layer)

    @property
    def rope_parameters(self) -> dict[str, Any]:
        """Rotary positions as transformers 5 writes them; setting them sets `rope_theta` and `rope_scaling`."""
        return {"rope_type": "default", **(self.rope_scaling or {}), "rope_theta": self.rope_theta}

    @rope_parameters.setter
    def rope_parameters(self, value: Any) -> None:
        self.rope_theta, self.rope_scaling = parse_rope(self.rope_theta, None, value)

    @property
    def head_dropout(self) -> float:
        """Dropout before the scores of tokens."""
        return token_dropout(self)

    @property
    def qkv_bias(self) -> bool:
        return bool(self.attention_bias)

    @property
    def output_bias(self) -> bool:
        """Whether the projection after the attention has a bias."""
        return bool(self.attention_bias)

    @property
    def feed_forward_bias(self) -> bool:
        return bool(self.mlp_bias)

    @property
    def cached_heads(self) -> tuple[int, ...]:
        """Number of key and value heads of each decoder layer."""
        return tuple(kv_heads_axis(self, layer).units for layer in range(self.num_hidden_layers))

    def window(self, layer: int) -> int | None:
        """Return how many tokens back layer `layer` sees, itself included; None for all."""
        return None


class LlamaRotaryEmbedding(Part):
    """The cosines and sines by which queries and keys are turned: see `triptych.nn.rotary`."""

    arguments = ("config", "device")
    device: Any = None

    def call(self, x: Any, position_ids: Any) -> tuple[Any, Any]:
        """Return both [B, Q, D], in the dtype of `x`, for places [B, Q]."""
        cos, sin = rotary_tables(self.ops, self.config, position_ids, x.dtype)
        return cos[:, 0], sin[:, 0]


class LlamaAttention(Part):
    def setup(self) -> None:
        make, config, hidden = self.make, self.config, hidden_axis(self.config)
        heads, kv_heads = heads_axis(config, self.index), kv_heads_axis(config, self.index)
        self.q_proj = make.dense(self, hidden, heads, bias=config.qkv_bias)
        self.k_proj = make.dense(self, hidden, kv_heads, bias=config.qkv_bias)
        self.v_proj = make.dense(self, hidden, kv_heads, bias=config.qkv_bias)
        self.o_proj = make.dense(self, heads, hidden, bias=config.output_bias)
        if config.query_key_norm:
            head_dim = Axis("head_dim", config.head_dim)
            self.q_norm = make.rms_norm(self, head_dim, config.rms_norm_eps)
            self.k_norm = make.rms_norm(self, head_dim, config.rms_norm_eps)
        self.dropout = make.dropout(self, config.attention_dropout)
        self.head_dim, self.scaling, self.is_causal = heads.block, heads.block**-0.5, True
        self.num_key_value_groups = heads.units // kv_heads.units
        self.attention_dropout = config.attention_dropout

    def call(
        self, hidden_states: Any, position_embeddings: Any = None, attention_mask: Any = None,
        past_key_value: Any = None, cache_position: Any = None, position_ids: Any = None, head_mask: Any = None,
        output_attentions: bool = False, use_cache: bool = False, cache: Any = None,
    ) -> tuple[Any, Any]:  # fmt: skip
        """Attend with rotated queries and keys; several query heads share one key and value head.

        Return context [B, Q, H] and probabilities [B, N, Q, K]. `position_embeddings` are cosines and sines [B, Q, D],
        else those of `position_ids` [B, Q]. The mask is added to the scores; without one a text is read from left to
        right, unless `config._attn_implementation` is "eager", as in transformers.
        """
        ops, config, held = self.ops, self.config, past_key_value if cache is None else cache
        heads, kv_heads = heads_axis(config, self.index), kv_heads_axis(config, self.index)
        query = at.split_heads(ops, self.q_proj(hidden_states), heads.units)
        projections = (self.k_proj, self.v_proj)
        key, value = (at.split_heads(ops, project(hidden_states), kv_heads.units) for project in projections)
        if config.query_key_norm:
            query, key = self.q_norm(query), self.k_norm(key)
        if position_embeddings is None:
            places = at.positions(ops, hidden_states) if position_ids is None else position_ids
            tables = rotary_tables(ops, config, places, hidden_states.dtype)
        else:
            tables = tuple(table[:, None] for table in position_embeddings)
        query, key = rotate(ops, query, *tables), rotate(ops, key, *tables)
        if held is not None:
            key, value = caches.extended(held, self.index, key, value, cache_position)
        bias = at.over_keys(attention_mask, key)
        causal = self.is_causal and getattr(config, "_attn_implementation", "eager") != "eager"
        chosen = None if output_attentions else config
        context, probabilities = at.attend(
            ops, query, key, value, bias, self.scaling, self.dropout, head_mask, chosen, causal
        )
        return self.o_proj(context), probabilities


class LlamaMLP(Part):
    def setup(self) -> None:
        make, hidden, ffn = self.make, hidden_axis(self.config), Axis("ffn", self.config.intermediate_size)
        bias = self.config.feed_forward_bias
        self.gate_proj = make.dense(self, hidden, ffn, bias=bias)
        self.up_proj = make.dense(self, hidden, ffn, bias=bias)
        self.down_proj = make.dense(self, ffn, hidden, bias=bias)

    def call(self, x: Any) -> Any:
        """Gated feed-forward (Shazeer, 2020, https://arxiv.org/abs/2002.05202)."""
        return self.down_proj(fn.activation(self.ops, self.config.hidden_act, self.gate_proj(x)) * self.up_proj(x))


class LlamaDecoderLayer(Part):
    whole = True

    def setup(self) -> None:
        make, hidden, epsilon = self.make, hidden_axis(self.config), self.config.rms_norm_eps
        self.self_attn = make.block(self, LlamaAttention, index=self.index)
        self.mlp = make.block(self, LlamaMLP)
        self.input_layernorm = make.rms_norm(self, hidden, epsilon)
        self.post_attention_layernorm = make.rms_norm(self, hidden, epsilon)

    def call(
        self, hidden_states: Any, attention_mask: Any = None, position_ids: Any = None, past_key_value: Any = None,
        output_attentions: bool = False, use_cache: bool = False, cache_position: Any = None,
        position_embeddings: Any = None, head_mask: Any = None, cache: Any = None,
    ) -> tuple[Any, ...]:  # fmt: skip
        """Return hidden states, and with `output_attentions` the probabilities: see `LlamaAttention`."""
        named = {"head_mask": head_mask, "cache": cache}  # which an attention of an author's need not know
        attended, probabilities, *_ = self.self_attn(
            self.input_layernorm(hidden_states), attention_mask=attention_mask, position_ids=position_ids,
            past_key_value=past_key_value, output_attentions=output_attentions, use_cache=use_cache,
            cache_position=cache_position, position_embeddings=position_embeddings,
            **{name: value for name, value in named.items() if value is not None},
        )  # fmt: skip
        hidden = hidden_states + attended
        hidden = hidden + self.mlp(self.post_attention_layernorm(hidden))
        return (hidden, probabilities) if output_attentions else (hidden,)


class LlamaModel(Model):
    """The decoder."""

    gradient_checkpointing = False
    part_names = {"decoder_layers": "layers"}

    def setup(self) -> None:
        make, config, hidden = self.make, self.config, hidden_axis(self.config)
        self.embed_tokens = make.embedding(self, vocab_axis(config), hidden, padding=config.pad_token_id)
        self.decoder_layers = make.stacked(self, LlamaDecoderLayer, config.num_hidden_layers)
        self.norm = make.rms_norm(self, hidden, config.rms_norm_eps)

    def call(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        position_ids: Any = None,
        past_key_values: Any = None,
        inputs_embeds: Any = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        head_mask: Any = None,
    ) -> Any:
        """Return `BaseModelOutputWithPast`; the last of its hidden states is normed.

        Ids are integers [B, Q], `inputs_embeds` [B, Q, H]; `attention_mask` [B, past + Q]. There is a cache if
        `past_key_values` is given, or `use_cache`, by default the config's, where caches grow.
        """
        ops, config = self.ops, self.config
        fn.one_input(input_ids, inputs_embeds)
        flags = fn.output_flags(config, output_attentions, output_hidden_states, return_dict)
        cache = caches.opened(ops, past_key_values, use_cache, config)
        hidden = inputs_embeds
        if hidden is None:
            hidden = fn.word_vectors(ops, config, self.embed_tokens, input_ids)
        places = at.positions(ops, hidden, cache) if position_ids is None else position_ids
        tables = tuple(table[:, 0] for table in rotary_tables(ops, config, places, hidden.dtype))
        windows = [config.window(index) for index in range(config.num_hidden_layers)]
        fused = at.is_fused(config, flags[0], head_mask)
        biases = {window: at.causal_bias(ops, attention_mask, hidden, cache, window, fused) for window in set(windows)}
        masks = at.head_masks(ops, head_mask, config, hidden.dtype)
        arguments = [
            {"attention_mask": biases[window], "position_ids": places, "position_embeddings": tables, "head_mask": mask}
            for window, mask in zip(windows, masks, strict=True)
        ]
        shared = {"cache": cache, "output_attentions": flags[0]}
        hidden_states, more = run_each(self.decoder_layers, hidden, arguments, stack=self, keep=flags[1], **shared)
        states = hidden_states, [probabilities for probabilities, *_ in more] if flags[0] else []
        states[0][-1] = self.norm(states[0][-1])
        past = None if cache is None else cache.after(ops.shape(hidden)[1])
        kind = outputs.BaseModelOutputWithPast
        return result(kind, flags, states, last_hidden_state=states[0][-1], past_key_values=past)


class LlamaWithHead(DecoderWithHead):
    """A backbone and a head: `task` names the head, `score_of` turns the backbone's output into logits."""

    base_model_prefix = "model"
    backbone_class = LlamaModel

    def build_backbone(self) -> None:
        setattr(self, self.base_model_prefix, self.make.block(self, self.backbone_class))

    def backbone(self) -> Any:
        """Return the backbone."""
        return getattr(self, self.base_model_prefix)

    def words(self) -> Any:
        return self.backbone().embed_tokens

    def call(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        position_ids: Any = None,
        past_key_values: Any = None,
        inputs_embeds: Any = None,
        labels: Any = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        head_mask: Any = None,
    ) -> Any:
        """Return logits, and with `labels` the loss; see `triptych.nn.heads.task_output`."""
        backbone = self.backbone()(
            input_ids, attention_mask, position_ids, past_key_values, inputs_embeds, use_cache,
            output_attentions, output_hidden_states, return_dict=True, head_mask=head_mask,
        )  # fmt: skip
        return finish(self, backbone, self.score_of(backbone, input_ids), labels, return_dict)


class LlamaForCausalLM(CausalHead, LlamaWithHead):
    """Llama that predicts the next token."""


class LlamaForSequenceClassification(LastTokenHead, LlamaWithHead):
    """Llama that classifies or scores a text, from its last token."""


class LlamaForTokenClassification(LlamaWithHead):
    """Llama that classifies every token."""

    task = "TokenClassification"

    def build_head(self, config: Any) -> None:
        self.dropout = self.make.dropout(self, config.head_dropout)
        self.score = self.make.dense(self, hidden_axis(config), labels_axis(config))

    def score_of(self, backbone: Any, input_ids: Any) -> Any:
        return self.score(self.dropout(backbone.last_hidden_state))


class LlamaForQuestionAnswering(LlamaWithHead):
    """Llama that finds a span. Its files hold the backbone as `transformer`, unlike those of other classes."""

    task = "QuestionAnswering"
    base_model_prefix = "transformer"

    def build_head(self, config: Any) -> None:
        self.qa_outputs = self.make.dense(self, hidden_axis(config), Axis("span", 2))

    def call(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        position_ids: Any = None,
        past_key_values: Any = None,
        inputs_embeds: Any = None,
        start_positions: Any = None,
        end_positions: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        head_mask: Any = None,
    ) -> Any:
        """Return start and end logits, and with both positions the loss."""
        backbone = self.backbone()(
            input_ids, attention_mask, position_ids, past_key_values, inputs_embeds, None,
            output_attentions, output_hidden_states, return_dict=True, head_mask=head_mask,
        )  # fmt: skip
        logits = self.qa_outputs(backbone.last_hidden_state)
        return finish_span(self, backbone, logits, start_positions, end_positions, return_dict)


def _frequencies(config: PretrainedConfig) -> list[str]:
    """Return the names of the rotary frequencies that old files hold."""
    per_layer = [f"layers.{layer}.self_attn.rotary_emb.inv_freq" for layer in range(config.num_hidden_layers)]
    return ["rotary_emb.inv_freq", *per_layer]


def family_of(config_class: type[PretrainedConfig], *parts: type[Model]) -> Family:
    """Return a family of Llama's blocks."""
    return declared(config_class, *parts, ignorable=_frequencies)


FAMILIES = {
    "llama": family_of(
        LlamaConfig,
        LlamaModel,
        LlamaForCausalLM,
        LlamaForSequenceClassification,
        LlamaForTokenClassification,
        LlamaForQuestionAnswering,
    )
}
