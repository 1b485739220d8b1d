"""GPT-2 (Radford et al., 2019, "Language Models are Unsupervised Multitask Learners")."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from triptych.checks import optional_positive_int, part_count, positive_int, positive_number, probability
from triptych.config import PretrainedConfig
from triptych.errors import ArgumentError
from triptych.families import declared
from triptych.families.common import require_activation, require_built_in, require_divisor, token_dropout
from triptych.nn import attention as at
from triptych.nn import cache as caches
from triptych.nn import functional as fn
from triptych.nn import outputs
from triptych.nn.axes import heads_axis, hidden_axis, labels_axis, vocab_axis
from triptych.nn.decoder_heads import CausalHead, DecoderWithHead, LastTokenHead
from triptych.nn.parts import Model, Part
from triptych.nn.stack import finish, finish_span, run_each
from triptych.nn.summary import SequenceSummary
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
        require_built_in(self, "is_causal")

    @property
    def learned_positions(self) -> int:
        """Number of positions that there is a vector for, and no further ones."""
        return int(self.n_positions)

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
        return token_dropout(self)

    @property
    def residual_std(self) -> float:
        """Standard deviation of new projections into the residual stream, of which each layer has two."""
        return float(self.initializer_range / (2 * self.n_layer) ** 0.5)

    def attention_scale(self, layer: int) -> float:
        """Return the factor of the attention scores of one layer."""
        scale = self.head_dim**-0.5 if self.scale_attn_weights else 1.0
        return float(scale / (layer + 1) if self.scale_attn_by_inverse_layer_idx else scale)


class GPT2Attention(Part):
    """Attention to the text itself, or with `is_cross_attention` to an encoder's output."""

    arguments = ("config", "is_cross_attention", "layer_idx")
    is_cross_attention: bool = False

    def setup(self) -> None:
        make, config, hidden, heads = self.make, self.config, hidden_axis(self.config), self.heads_axis()
        self.c_attn = make.conv1d(self, hidden, replace(heads, repeat=2 if self.is_cross_attention else 3))
        if self.is_cross_attention:
            self.q_attn = make.conv1d(self, hidden, heads)
        self.c_proj = make.conv1d(self, heads, hidden, std=config.residual_std)
        self.attn_dropout = make.dropout(self, config.attn_pdrop)
        self.resid_dropout = make.dropout(self, config.resid_pdrop)

    def number(self) -> int:
        """Return the number of the attention in `pruned_heads`, which knows none of those to an encoder."""
        return self.index + self.is_cross_attention * self.config.n_layer

    def heads_axis(self) -> Axis:
        """Return the axis of the heads that are left."""
        return heads_axis(self.config, self.number())

    def call(
        self, hidden_states: Any, layer_past: Any = None, attention_mask: Any = None, head_mask: Any = None,
        encoder_hidden_states: Any = None, encoder_attention_mask: Any = None, use_cache: bool = False,
        output_attentions: bool = False, cache: Any = None,
    ) -> Any:  # fmt: skip
        """Return (context, keys and values if `use_cache` or None), and the probabilities if `output_attentions`.

        The masks are added to the scores [B, N, Q, K]. One over keys alone, or none, leaves the text causal.
        `layer_past` are keys and values [B, N, K, D] of the tokens before.
        """
        ops, units = self.ops, self.heads_axis().units
        if self.is_cross_attention:
            query, bias = at.split_heads(ops, self.q_attn(hidden_states), units), encoder_attention_mask

            def seen() -> tuple[Any, Any]:
                return self.projected(self.c_attn(encoder_hidden_states), 2, units)

            key, value = seen() if cache is None else cache.memory(self.index, seen)
        else:
            query, key, value = self.projected(self.c_attn(hidden_states), 3, units)
            if layer_past is not None:
                key, value = (ops.concat([old, new], 2) for old, new in zip(layer_past, (key, value), strict=True))
            if cache is not None:
                key, value = cache.extend(self.index, key, value)
            bias = at.over_keys(attention_mask, key)
            bias = None if bias is None else at.causal_over(ops, bias, query, key)
        scale = self.config.attention_scale(self.index)
        mask = at.mask_of_kept(ops, head_mask, self.config, self.number())
        config = None if output_attentions else self.config
        causal = not self.is_cross_attention
        context, probabilities = at.attend(ops, query, key, value, bias, scale, self.attn_dropout, mask, config, causal)
        made = (self.resid_dropout(self.c_proj(context)), (key, value) if use_cache else None)
        return (*made, probabilities) if output_attentions else made

    def projected(self, fused: Any, count: int, units: int) -> tuple[Any, ...]:
        """Return the `count` projections [B, N, Q, D] that are beside each other in `fused`."""
        width = self.heads_axis().length
        parts = (fused[..., number * width : (number + 1) * width] for number in range(count))
        return tuple(at.split_heads(self.ops, part, units) for part in parts)


class GPT2MLP(Part):
    """Two projections; the inner one is `intermediate_size` wide, or as the config says."""

    arguments = ("intermediate_size", "config")
    intermediate_size: int | None = None

    def setup(self) -> None:
        make, config, hidden = self.make, self.config, hidden_axis(self.config)
        ffn = Axis("ffn", self.intermediate_size or config.ffn_width)
        self.c_fc = make.conv1d(self, hidden, ffn)
        self.c_proj = make.conv1d(self, ffn, hidden, std=config.residual_std)
        self.dropout = make.dropout(self, config.resid_pdrop)

    def call(self, hidden_states: Any) -> Any:
        inner = fn.activation(self.ops, self.config.activation_function, self.c_fc(hidden_states))
        return self.dropout(self.c_proj(inner))


class GPT2Block(Part):
    """A layer; with `add_cross_attention` it looks at an encoder's output where one is given."""

    whole = True
    arguments = ("config", "layer_idx")
    heads = ("crossattention", "ln_cross_attn")

    def setup(self) -> None:
        make, hidden, epsilon = self.make, hidden_axis(self.config), self.config.layer_norm_epsilon
        self.ln_1 = make.layer_norm(self, hidden, epsilon)
        self.attn = make.block(self, GPT2Attention, index=self.index)
        self.ln_2 = make.layer_norm(self, hidden, epsilon)
        if self.config.add_cross_attention:
            self.crossattention = make.block(self, GPT2Attention, index=self.index, is_cross_attention=True)
            self.ln_cross_attn = make.layer_norm(self, hidden, epsilon)
        self.mlp = make.block(self, GPT2MLP)

    def call(
        self, hidden_states: Any, layer_past: Any = None, attention_mask: Any = None, head_mask: Any = None,
        encoder_hidden_states: Any = None, encoder_attention_mask: Any = None, use_cache: bool = False,
        output_attentions: bool = False, cache: Any = None,
    ) -> tuple[Any, ...]:  # fmt: skip
        """Return hidden states; keys and values, if `use_cache`; and with `output_attentions` the probabilities, those
        over the encoder's output last.

        Raises:
            ArgumentError: an encoder's output, and the layer has no attention to one.
        """
        own = self.attn(
            self.ln_1(hidden_states), layer_past, attention_mask, head_mask, use_cache=use_cache,
            output_attentions=output_attentions, cache=cache,
        )  # fmt: skip
        hidden, more = hidden_states + own[0], own[1:]
        if encoder_hidden_states is not None:
            if not self.config.add_cross_attention:
                raise ArgumentError(
                    "This model has no attention to an encoder.", expected="no encoder_hidden_states",
                    received="encoder_hidden_states", remedy="make it of a config with add_cross_attention=True",
                )  # fmt: skip
            crossed = self.crossattention(
                self.ln_cross_attn(hidden), None, None, head_mask, encoder_hidden_states, encoder_attention_mask,
                output_attentions=output_attentions, cache=cache,
            )  # fmt: skip
            hidden, more = hidden + crossed[0], (*more, *crossed[2:])
        elif self.config.add_cross_attention and self.ops.makes_parameters(self):
            self.crossattention(self.ln_cross_attn(hidden), None, None, None, hidden)
        hidden = hidden + self.mlp(self.ln_2(hidden))
        return (hidden, *more) if use_cache else (hidden, *more[1:])


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
        encoder_hidden_states: Any = None,
        encoder_attention_mask: Any = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Return `BaseModelOutputWithPastAndCrossAttentions`; the last of its hidden states is normed.

        Ids are integers [B, Q], `inputs_embeds` [B, Q, H]; `attention_mask` [B, past + Q]. `token_type_ids` are
        embedded with the words' matrix. A model of a config with `add_cross_attention` looks at the output of an
        encoder, `encoder_hidden_states` [B, S, H], where `encoder_attention_mask` [B, S] has ones. There is a cache if
        `past_key_values` is given, or `use_cache`, by default the config's, where caches grow.
        """
        ops, config = self.ops, self.config
        fn.one_input(input_ids, inputs_embeds)
        flags = fn.output_flags(config, output_attentions, output_hidden_states, return_dict)
        cache = caches.opened(ops, past_key_values, use_cache, config)
        words = self.wte(input_ids) if inputs_embeds is None else inputs_embeds
        hidden = words + self.wpe(at.positions(ops, words, cache) if position_ids is None else position_ids)
        hidden = self.drop(hidden if token_type_ids is None else hidden + self.wte(token_type_ids))
        fused = at.is_fused(config, flags[0], head_mask)
        bias = at.causal_bias(ops, attention_mask, hidden, cache, fused=fused)
        memory_bias = at.memory_bias(ops, encoder_hidden_states, encoder_attention_mask, hidden)
        masks = at.whole_head_masks(ops, head_mask, config, hidden.dtype, config.n_layer)
        arguments = [(None, bias, mask, encoder_hidden_states, memory_bias) for mask in masks]
        states, more = run_each(
            self.h, hidden, arguments, stack=self, keep=flags[1], output_attentions=flags[0], cache=cache
        )
        states[-1] = self.ln_f(states[-1])
        attentions, *crossed = zip(*more, strict=True) if flags[0] else (None,)
        past = None if cache is None else cache.after(ops.shape(words)[1])
        made = outputs.BaseModelOutputWithPastAndCrossAttentions(
            last_hidden_state=states[-1],
            past_key_values=past,
            hidden_states=tuple(states) if flags[1] else None,
            attentions=attentions,
            cross_attentions=crossed[0] if crossed else None,
        )
        return made if flags[2] else made.to_tuple()


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
            None, None, use_cache, output_attentions, output_hidden_states, return_dict=True,
        )  # fmt: skip
        return finish(self, backbone, self.score_of(backbone, input_ids), labels, return_dict)


class GPT2LMHeadModel(CausalHead, GPT2WithHead):
    """GPT-2 that predicts the next token; the head is tied to the embeddings unless the config says not."""

    def call(
        self,
        input_ids: Any = None,
        past_key_values: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        head_mask: Any = None,
        inputs_embeds: Any = None,
        encoder_hidden_states: Any = None,
        encoder_attention_mask: Any = None,
        labels: Any = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Return logits, and with `labels` the loss; an encoder's output as in `GPT2Model`."""
        backbone = self.transformer(
            input_ids, past_key_values, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
            encoder_hidden_states, encoder_attention_mask, use_cache, output_attentions, output_hidden_states,
            return_dict=True,
        )  # fmt: skip
        return finish(self, backbone, self.score_of(backbone, input_ids), labels, return_dict)


class GPT2DoubleHeadsModel(GPT2WithHead):
    """GPT-2 that predicts the next token, and scores each of several texts: which continues best."""

    task = "DoubleHeads"

    def build_head(self, config: Any) -> None:
        self.lm_head = self.make.vocab_head(self, hidden_axis(config), vocab_axis(config))
        self.multiple_choice_head = self.make.block(self, SequenceSummary, labels=1)

    def call(
        self,
        input_ids: Any = None,
        past_key_values: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        head_mask: Any = None,
        inputs_embeds: Any = None,
        mc_token_ids: Any = None,
        labels: Any = None,
        mc_labels: Any = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Return `GPT2DoubleHeadsModelOutput`.

        Ids and what goes with them are [B, C, Q] for C choices, or [B, Q]. `mc_token_ids` [B, C] are the places whose
        states are scored, the last if None; `mc_labels` [B] say which choice is right, `labels` as `input_ids`.
        """
        ops = self.ops
        fn.one_input(input_ids, inputs_embeds, axes=None)
        leading = ops.shape(inputs_embeds)[:-1] if input_ids is None else ops.shape(input_ids)
        ids, mask, types, places, own = (
            _flat(ops, x, 1) for x in (input_ids, attention_mask, token_type_ids, position_ids, labels)
        )
        backbone = self.transformer(
            ids, past_key_values, mask, types, places, head_mask, _flat(ops, inputs_embeds, 2), None, None, use_cache,
            output_attentions, output_hidden_states, return_dict=True,
        )  # fmt: skip
        hidden = backbone.last_hidden_state
        logits = fn.scores_of_vocabulary(ops, self.lm_head, self.transformer.wte, hidden)
        scores = self.multiple_choice_head(hidden, _flat(ops, mc_token_ids, 0))
        scores = ops.reshape(scores, (*leading[:-1], *ops.shape(scores)[1:]))
        scores = scores[..., 0] if self.multiple_choice_head.scores_labels() else scores
        states = backbone.hidden_states
        if states is not None:
            states = (*states[:-1], ops.reshape(states[-1], (*leading, self.config.n_embd)))
        made = outputs.GPT2DoubleHeadsModelOutput(
            loss=None if own is None else fn.next_token_loss(ops, logits, own),
            mc_loss=None if mc_labels is None else fn.token_loss(ops, scores, mc_labels),
            logits=ops.reshape(logits, (*leading, self.config.vocab_size)),
            mc_logits=scores,
            past_key_values=backbone.past_key_values,
            hidden_states=states,
            attentions=backbone.attentions,
        )
        return made if fn.output_flags(self.config, None, None, return_dict)[2] else made.to_tuple()


def _flat(ops: Any, x: Any, kept: int) -> Any:
    """Return `x` with all axes before the last `kept` as one, or None."""
    return None if x is None else ops.reshape(x, (-1, *ops.shape(x)[len(x.shape) - kept :]))


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


class GPT2ForQuestionAnswering(GPT2WithHead):
    """GPT-2 that finds a span."""

    task = "QuestionAnswering"

    def build_head(self, config: Any) -> None:
        self.qa_outputs = self.make.dense(self, hidden_axis(config), Axis("span", 2))

    def call(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        head_mask: Any = None,
        inputs_embeds: Any = None,
        start_positions: Any = None,
        end_positions: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Return start and end logits, and with both positions the loss."""
        backbone = self.transformer(
            input_ids, None, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
            None, None, False, output_attentions, output_hidden_states, return_dict=True,
        )  # fmt: skip
        logits = self.qa_outputs(backbone.last_hidden_state)
        return finish_span(self, backbone, logits, start_positions, end_positions, return_dict)


def _masks(config: PretrainedConfig) -> list[str]:
    """Return the names of the causal masks that old files hold."""
    return [f"h.{layer}.attn.{name}" for layer in range(config.n_layer) for name in ("bias", "masked_bias")]


FAMILIES = {
    "gpt2": declared(
        GPT2Config,
        GPT2Model,
        GPT2LMHeadModel,
        GPT2DoubleHeadsModel,
        GPT2ForSequenceClassification,
        GPT2ForTokenClassification,
        GPT2ForQuestionAnswering,
        ignorable=_masks,
    )
}
