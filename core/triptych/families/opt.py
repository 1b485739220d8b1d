"""OPT (Zhang et al., 2022, https://arxiv.org/abs/2205.01068): config, layers and what they compute."""

from __future__ import annotations

from typing import Any

from triptych.checks import boolean, part_count, positive_int, positive_number, probability
from triptych.config import PretrainedConfig
from triptych.families import declared
from triptych.families.common import require_activation, require_built_in, require_divisor
from triptych.nn import attention as at
from triptych.nn import cache as caches
from triptych.nn import functional as fn
from triptych.nn import outputs
from triptych.nn.axes import heads_axis, hidden_axis, vocab_axis
from triptych.nn.decoder_heads import CausalHead, DecoderWithHead, LastTokenHead
from triptych.nn.parts import Model, Part
from triptych.nn.stack import States, finish, finish_span, result, run_layers
from triptych.weights.schema import Axis

POSITION_OFFSET = 2
"""Rows of the table of positions before that of the first token; padding, whose position is -1, has the second."""
NORM_EPSILON = 1e-5


class OPTConfig(PretrainedConfig):
    """Configuration of OPT; the defaults are those of the 125M model.

    `do_layer_norm_before=False` norms after each part of a layer, as the 350M model does. `word_embed_proj_dim` is the
    width of the word embeddings, projected to `hidden_size` if that is another. `_remove_final_layer_norm` is for
    models fine-tuned before transformers 4.20.1.

    Raises:
        ConfigError: a field has an impossible value, or asks for what is not built in: `layerdrop` above 0.
    """

    model_type = "opt"
    attribute_map = {"initializer_range": "init_std"}
    checks = {
        "vocab_size": positive_int,
        "hidden_size": positive_int,
        "num_hidden_layers": part_count,
        "ffn_dim": positive_int,
        "max_position_embeddings": positive_int,
        "do_layer_norm_before": boolean,
        "_remove_final_layer_norm": boolean,
        "word_embed_proj_dim": positive_int,
        "dropout": probability,
        "attention_dropout": probability,
        "num_attention_heads": part_count,
        "init_std": positive_number,
        "enable_bias": boolean,
        "layer_norm_elementwise_affine": boolean,
    }

    def __init__(
        self,
        vocab_size: int = 50272,
        hidden_size: int = 768,
        num_hidden_layers: int = 12,
        ffn_dim: int = 3072,
        max_position_embeddings: int = 2048,
        do_layer_norm_before: bool = True,
        _remove_final_layer_norm: bool = False,
        word_embed_proj_dim: int | None = None,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
        num_attention_heads: int = 12,
        activation_function: str = "relu",
        layerdrop: float = 0.0,
        init_std: float = 0.02,
        use_cache: bool = True,
        pad_token_id: int | None = 1,
        bos_token_id: int | None = 2,
        eos_token_id: int | list[int] | None = 2,
        enable_bias: bool = True,
        layer_norm_elementwise_affine: bool = True,
        **kwargs: Any,
    ) -> None:
        self._set_fields(locals())
        if word_embed_proj_dim is None:
            self.word_embed_proj_dim = hidden_size
        super().__init__(**kwargs)

    def validate(self) -> None:
        super().validate()
        require_divisor(self, "num_attention_heads", "hidden_size")
        require_activation(self, "activation_function")
        require_built_in(self, "is_causal", "layerdrop")

    @property
    def learned_positions(self) -> int:
        """Number of positions that there is a vector for, and no further ones."""
        return int(self.max_position_embeddings)

    @property
    def cached_heads(self) -> tuple[int, ...]:
        """Number of key and value heads of each decoder layer."""
        return tuple(heads_axis(self, layer).units for layer in range(self.num_hidden_layers))

    @property
    def head_dim(self) -> int:
        return int(self.hidden_size // self.num_attention_heads)

    @property
    def is_projected(self) -> bool:
        """Whether words have another width than the layers."""
        return bool(self.word_embed_proj_dim != self.hidden_size)

    @property
    def has_final_norm(self) -> bool:
        """Whether there is a norm after the last layer."""
        return bool(self.do_layer_norm_before and not self._remove_final_layer_norm)


def words_axis(config: Any) -> Axis:
    """Return the axis of the width of words: what the model reads, and what its heads score."""
    return Axis("hidden", config.word_embed_proj_dim)


class OPTAttention(Part):
    def setup(self) -> None:
        make, config, hidden = self.make, self.config, hidden_axis(self.config)
        heads = heads_axis(config, self.index)
        self.k_proj = make.dense(self, hidden, heads, bias=config.enable_bias)
        self.v_proj = make.dense(self, hidden, heads, bias=config.enable_bias)
        self.q_proj = make.dense(self, hidden, heads, bias=config.enable_bias)
        self.out_proj = make.dense(self, heads, hidden, bias=config.enable_bias)
        self.dropout = make.dropout(self, config.attention_dropout)

    def call(
        self, hidden: Any, bias: Any, head_mask: Any, cache: Any, output_attentions: bool = False
    ) -> tuple[Any, Any]:
        ops, heads = self.ops, heads_axis(self.config, self.index)
        projections = (self.q_proj, self.k_proj, self.v_proj)
        query, key, value = (at.split_heads(ops, project(hidden), heads.units) for project in projections)
        if cache is not None:
            key, value = cache.extend(self.index, key, value)
        config = None if output_attentions else self.config
        context, probabilities = at.attend(
            ops, query, key, value, bias, heads.block**-0.5, self.dropout, head_mask, config, causal=True
        )
        return self.out_proj(context), probabilities


class OPTDecoderLayer(Part):
    whole = True

    def setup(self) -> None:
        make, config, hidden, ffn = self.make, self.config, hidden_axis(self.config), Axis("ffn", self.config.ffn_dim)
        affine = config.layer_norm_elementwise_affine
        self.self_attn = make.block(self, OPTAttention, index=self.index)
        self.self_attn_layer_norm = make.layer_norm(self, hidden, NORM_EPSILON, affine)
        self.fc1 = make.dense(self, hidden, ffn, bias=config.enable_bias)
        self.fc2 = make.dense(self, ffn, hidden, bias=config.enable_bias)
        self.final_layer_norm = make.layer_norm(self, hidden, NORM_EPSILON, affine)
        self.dropout = make.dropout(self, config.dropout)

    def call(
        self, hidden: Any, bias: Any, head_mask: Any, cache: Any, output_attentions: bool = False
    ) -> tuple[Any, Any]:
        """Norm what each of the two parts reads, or its sum with that."""
        before = self.config.do_layer_norm_before
        normed = self.self_attn_layer_norm(hidden) if before else hidden
        options = {"cache": cache, "output_attentions": output_attentions}
        attended, probabilities = self.self_attn(normed, bias, head_mask, **options)
        hidden = hidden + self.dropout(attended)
        if not before:
            hidden = self.self_attn_layer_norm(hidden)
        inner = self.fc1(self.final_layer_norm(hidden) if before else hidden)
        inner = fn.activation(self.ops, self.config.activation_function, inner)
        hidden = hidden + self.dropout(self.fc2(inner))
        return hidden if before else self.final_layer_norm(hidden), probabilities


class OPTDecoder(Part):
    """The layers between the embeddings of words and what scores them."""

    part_names = {"decoder_layers": "layers"}
    gradient_checkpointing = False

    def setup(self) -> None:
        make, config, hidden, words = self.make, self.config, hidden_axis(self.config), words_axis(self.config)
        self.embed_tokens = make.embedding(self, vocab_axis(config), words, padding=config.pad_token_id)
        rows = Axis("positions", config.max_position_embeddings + POSITION_OFFSET)
        self.embed_positions = make.embedding(self, rows, hidden)
        if config.is_projected:
            self.project_out = make.dense(self, hidden, words, bias=False)
            self.project_in = make.dense(self, words, hidden, bias=False)
        if config.has_final_norm:
            self.final_layer_norm = make.layer_norm(self, hidden, NORM_EPSILON, config.layer_norm_elementwise_affine)
        self.decoder_layers = make.stacked(self, OPTDecoderLayer, config.num_hidden_layers)

    def call(
        self, words: Any, attention_mask: Any, position_ids: Any, head_mask: Any, cache: Any,
        output_attentions: bool = False,
    ) -> States:  # fmt: skip
        """Return states and attentions for embedded words [B, Q, W]; the last state is normed and as wide as words."""
        ops, config = self.ops, self.config
        fused = at.is_fused(self.config, output_attentions, head_mask)
        bias = at.causal_bias(ops, attention_mask, words, cache, fused=fused)
        if position_ids is None:
            position_ids = at.counted_positions(ops, attention_mask, words, cache)
        hidden = self.project_in(words) if config.is_projected else words
        hidden = hidden + self.embed_positions(position_ids + POSITION_OFFSET)
        masks = at.head_masks(ops, head_mask, config, hidden.dtype)
        arguments = [(bias, mask) for mask in masks]
        shared = {"cache": cache, "output_attentions": output_attentions}
        states, attentions = run_layers(self.decoder_layers, hidden, arguments, stack=self, **shared)
        if config.has_final_norm:
            states[-1] = self.final_layer_norm(states[-1])
        if config.is_projected:
            states[-1] = self.project_out(states[-1])
        return states, attentions


class OPTModel(Model):
    """The decoder."""

    def setup(self) -> None:
        self.decoder = self.make.block(self, OPTDecoder)

    def call(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        head_mask: Any = None,
        past_key_values: Any = None,
        inputs_embeds: Any = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        position_ids: Any = None,
    ) -> Any:
        """Return `BaseModelOutputWithPast`; the last of its hidden states is normed, and as wide as the words.

        Ids are integers [B, Q], `inputs_embeds` [B, Q, `word_embed_proj_dim`]; `attention_mask` [B, past + Q], over
        whose ones positions are counted unless `position_ids` [B, Q] are given. There is a cache if `past_key_values`
        is given, or `use_cache`, by default the config's, where caches grow.
        """
        ops = self.ops
        fn.one_input(input_ids, inputs_embeds)
        flags = fn.output_flags(self.config, output_attentions, output_hidden_states, return_dict)
        cache = caches.opened(ops, past_key_values, use_cache, self.config)
        words = inputs_embeds
        if words is None:
            words = fn.word_vectors(ops, self.config, self.decoder.embed_tokens, input_ids)
        states = self.decoder(words, attention_mask, position_ids, head_mask, cache=cache, output_attentions=flags[0])
        past = None if cache is None else cache.after(ops.shape(words)[1])
        kind = outputs.BaseModelOutputWithPast
        return result(kind, flags, states, last_hidden_state=states[0][-1], past_key_values=past)


class OPTWithHead(DecoderWithHead):
    """A backbone and a head: `task` names the head, `score_of` turns the backbone's output into logits."""

    base_model_prefix = "model"

    def build_backbone(self) -> None:
        self.model = self.make.block(self, OPTModel)

    def words(self) -> Any:
        return self.model.decoder.embed_tokens

    def width(self) -> Any:
        return words_axis(self.config)

    def call(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        head_mask: Any = None,
        past_key_values: Any = None,
        inputs_embeds: Any = None,
        labels: Any = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        position_ids: Any = None,
    ) -> Any:
        """Return logits, and with `labels` the loss; see `triptych.nn.heads.task_output`."""
        backbone = self.model(
            input_ids, attention_mask, head_mask, past_key_values, inputs_embeds, use_cache, output_attentions,
            output_hidden_states, return_dict=True, position_ids=position_ids,
        )  # fmt: skip
        return finish(self, backbone, self.score_of(backbone, input_ids), labels, return_dict)


class OPTForCausalLM(CausalHead, OPTWithHead):
    """OPT that predicts the next token; the head is tied to the embeddings unless the config says not."""


class OPTForSequenceClassification(LastTokenHead, OPTWithHead):
    """OPT that classifies or scores a text, from its last token."""


class OPTForQuestionAnswering(OPTWithHead):
    """OPT that finds a span."""

    task = "QuestionAnswering"

    def build_head(self, config: Any) -> None:
        self.qa_outputs = self.make.dense(self, words_axis(config), Axis("span", 2))

    def call(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        head_mask: Any = None,
        past_key_values: Any = None,
        inputs_embeds: Any = None,
        start_positions: Any = None,
        end_positions: Any = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        position_ids: Any = None,
    ) -> Any:
        """Return start and end logits, and with both positions the loss."""
        backbone = self.model(
            input_ids, attention_mask, head_mask, past_key_values, inputs_embeds, use_cache, output_attentions,
            output_hidden_states, return_dict=True, position_ids=position_ids,
        )  # fmt: skip
        logits = self.qa_outputs(backbone.last_hidden_state)
        return finish_span(self, backbone, logits, start_positions, end_positions, return_dict)


FAMILIES = {
    "opt": declared(
        OPTConfig,
        OPTModel,
        OPTForCausalLM,
        OPTForSequenceClassification,
        OPTForQuestionAnswering,
        ignorable=("decoder.version",),
    )
}
