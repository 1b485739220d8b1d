"""T5: what its layers are, and what they compute."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from triptych.errors import ArgumentError
from triptych.families.common import require_built_in
from triptych.nn import attention as at
from triptych.nn import cache as caches
from triptych.nn import functional as fn
from triptych.nn import outputs
from triptych.nn.axes import heads_axis, hidden_axis, vocab_axis
from triptych.nn.parts import Model, Part
from triptych.nn.seeding import again
from triptych.nn.stack import caller, encoder_output, finish
from triptych.weights.schema import Axis


@functools.cache
def bucket_table(buckets: int, max_distance: int) -> np.ndarray:
    """Return the bucket of each distance from 0 to `max_distance`, int32; those beyond are in the last one too.

    Half of the buckets hold one distance each, the others grow logarithmically (Raffel et al., 2019, section 2.1).
    A table, since frameworks round the logarithm differently just where buckets begin.
    """
    exact = buckets // 2
    distances = np.arange(max_distance + 1, dtype=np.float32)
    ratio = np.log(np.maximum(distances, 1) / np.float32(exact)) / np.float32(math.log(max_distance / exact))
    grown = exact + (ratio * np.float32(buckets - exact)).astype(np.int32)
    return np.where(distances < exact, distances, np.minimum(grown, buckets - 1)).astype(np.int32)


def buckets_of(config: Any, both_ways: bool) -> np.ndarray:
    """Return the table of distances back or, where queries see `both_ways`, of distances in each direction."""
    count = config.relative_attention_num_buckets
    return bucket_table(count // 2 if both_ways else count, config.relative_attention_max_distance)


def relative_buckets(ops: Any, table: np.ndarray, queries: Any, keys: Any, both_ways: bool) -> Any:
    """Return the bucket [Q, K], by `buckets_of`, of each pair of places [Q] and [K]; the second half of the buckets is
    for keys ahead, if queries see `both_ways`."""
    ahead = keys[None, :] - queries[:, None]
    distance = ops.maximum(ahead, -ahead) if both_ways else ops.maximum(-ahead, 0)
    found = ops.gather(ops.constant(table, queries), ops.minimum(distance, len(table) - 1))
    return found + ops.cast(ahead > 0, "int32") * (int(table[-1]) + 1) if both_ways else found


class T5Attention(Part):
    """Attention to the text itself or, with `cross`, to an encoder's output; the first holds the bias of positions.

    Where `decoder` is None the config says which stack it is of.
    """

    arguments = ("config", "has_relative_attention_bias", "layer_idx")
    has_relative_attention_bias: bool | None = None
    decoder: bool | None = None
    cross: bool = False

    def setup(self) -> None:
        make, config, hidden = self.make, self.config, hidden_axis(self.config)
        heads, width = heads_axis(config, self.number()), config.d_model
        self.q = make.dense(self, hidden, heads, bias=False, std=config.std(width, config.d_kv))
        self.k = make.dense(self, hidden, heads, bias=False, std=config.std(width))
        self.v = make.dense(self, hidden, heads, bias=False, std=config.std(width))
        self.o = make.dense(self, heads, hidden, bias=False, std=config.std(config.num_heads, config.d_kv))
        if self.tells_positions():
            # Pruned attentions of every layer look their heads up in this one table, so it stays whole.
            table = Axis("buckets", config.relative_attention_num_buckets), Axis("bias_heads", config.num_heads)
            self.relative_attention_bias = make.embedding(self, *table, std=config.std(width))
            # Here and not in `call`, where torch.compile would compute the logarithm, and round otherwise.
            self.buckets = buckets_of(config, both_ways=not decodes(self))
        self.dropout = make.dropout(self, config.dropout_rate)

    def tells_positions(self) -> bool:
        """Return whether this attention holds the bias of positions."""
        asked = self.has_relative_attention_bias
        return bool(self.index == 0 and not self.cross if asked is None else asked)

    def number(self) -> int:
        """Return the number of the attention in `pruned_heads`."""
        number: int = self.config.attention_number(self.index, decodes(self), self.cross)
        return number

    def call(
        self, hidden_states: Any, mask: Any = None, key_value_states: Any = None, position_bias: Any = None,
        past_key_value: Any = None, layer_head_mask: Any = None, query_length: Any = None, use_cache: bool = False,
        output_attentions: bool = False, cache_position: Any = None,
    ) -> tuple[Any, ...]:  # fmt: skip
        """Attend to `hidden_states` [B, Q, H] itself, or to `key_value_states`.

        Return context, the cache, what was added to the scores, and with `output_attentions` the probabilities.
        `mask` [B, N, Q, K] is added to the scores; `position_bias` is what another layer added, its mask included. The
        scores are not scaled: that is part of the initialisation.
        """
        ops, config, crossed = self.ops, self.config, key_value_states is not None
        units = heads_axis(config, self.number()).units
        query = at.split_heads(ops, self.q(hidden_states), units)

        def keys_and_values() -> tuple[Any, Any]:
            source = key_value_states if crossed else hidden_states
            return at.split_heads(ops, self.k(source), units), at.split_heads(ops, self.v(source), units)

        if past_key_value is None:
            key, value = keys_and_values()
        elif crossed:
            key, value = past_key_value.memory(self.index, keys_and_values)
        else:
            key, value = caches.extended(past_key_value, self.index, *keys_and_values(), cache_position)
        if position_bias is None:
            bias = at.over_keys(mask, key)
            position_bias = bias
            if self.tells_positions():
                own = self.position_bias(hidden_states, ops.shape(key)[2], past_key_value, cache_position)
                position_bias = own if bias is None else own + bias
        kept, total = at.kept_heads(config, self.number()), position_bias
        if kept is not None and total is not None and total.shape[1] == config.num_heads:
            total = ops.take(total, kept, 1)
        context, probabilities = at.attend(ops, query, key, value, total, 1.0, self.dropout, layer_head_mask)
        made = (self.o(context), past_key_value, position_bias)
        return (*made, probabilities) if output_attentions else made

    def position_bias(self, hidden: Any, keys: Any, cache: Any, cache_position: Any = None) -> Any:
        """Return what positions add to the scores, [1, N, Q, K] for the heads before pruning."""
        ops = self.ops
        queries = at.query_positions(ops, hidden, cache) if cache_position is None else cache_position
        buckets = relative_buckets(ops, self.buckets, queries, ops.arange(keys, hidden), both_ways=not decodes(self))
        return ops.transpose(self.relative_attention_bias(buckets), (2, 0, 1))[None]


def decodes(part: Any) -> bool:
    """Return whether a part is of the decoder."""
    return bool(part.config.is_decoder if part.decoder is None else part.decoder)


class T5Layer(Part):
    """A part of a layer; see `T5Attention` for its fields.

    In float16 hidden states are float32 from the first `wo` on, whose numbers are too large for float16 in models that
    were trained in bfloat16.
    """

    takes_wide = True
    has_relative_attention_bias: bool | None = None
    decoder: bool | None = None


class T5LayerSelfAttention(T5Layer):
    arguments = ("config", "has_relative_attention_bias", "layer_idx")

    def setup(self) -> None:
        make, config = self.make, self.config
        self.SelfAttention = make.block(
            self, T5Attention, index=self.index, decoder=self.decoder,
            has_relative_attention_bias=self.has_relative_attention_bias,
        )  # fmt: skip
        self.layer_norm = make.rms_norm(self, hidden_axis(config), config.layer_norm_epsilon)
        self.dropout = make.dropout(self, config.dropout_rate)

    def call(
        self, hidden_states: Any, attention_mask: Any = None, position_bias: Any = None, layer_head_mask: Any = None,
        past_key_value: Any = None, use_cache: bool = False, output_attentions: bool = False,
        cache_position: Any = None,
    ) -> tuple[Any, ...]:  # fmt: skip
        """Return hidden states, and what else `T5Attention` returns."""
        attended, *more = self.SelfAttention(
            self.layer_norm(hidden_states), attention_mask, None, position_bias, layer_head_mask=layer_head_mask,
            past_key_value=past_key_value, use_cache=use_cache, output_attentions=output_attentions,
            cache_position=cache_position,
        )  # fmt: skip
        return (fn.residual(self.ops, hidden_states, self.dropout(attended)), *more)


class T5LayerCrossAttention(T5Layer):
    def setup(self) -> None:
        make, config = self.make, self.config
        self.EncDecAttention = make.block(self, T5Attention, index=self.index, decoder=self.decoder, cross=True)
        self.layer_norm = make.rms_norm(self, hidden_axis(config), config.layer_norm_epsilon)
        self.dropout = make.dropout(self, config.dropout_rate)

    def call(
        self, hidden_states: Any, key_value_states: Any, attention_mask: Any = None, position_bias: Any = None,
        layer_head_mask: Any = None, past_key_value: Any = None, use_cache: bool = False, query_length: Any = None,
        output_attentions: bool = False, cache_position: Any = None,
    ) -> tuple[Any, ...]:  # fmt: skip
        """Return hidden states, and what else `T5Attention` returns."""
        attended, *more = self.EncDecAttention(
            self.layer_norm(hidden_states), attention_mask, key_value_states, position_bias,
            layer_head_mask=layer_head_mask, past_key_value=past_key_value, use_cache=use_cache,
            query_length=query_length, output_attentions=output_attentions,
        )  # fmt: skip
        return (fn.residual(self.ops, hidden_states, self.dropout(attended)), *more)


class T5DenseActDense(Part):
    """Two projections, and an activation between them."""

    def setup(self) -> None:
        make, config, hidden, ffn = self.make, self.config, hidden_axis(self.config), Axis("ffn", self.config.d_ff)
        self.wi = make.dense(self, hidden, ffn, bias=False, std=config.std(config.d_model))
        self.wo = make.dense(self, ffn, hidden, bias=False, std=config.std(config.d_ff), wide=True)
        self.dropout = make.dropout(self, config.dropout_rate)

    def call(self, hidden_states: Any) -> Any:
        inner = fn.activation(self.ops, self.config.dense_act_fn, self.wi(hidden_states))
        return self.wo(self.dropout(inner))


class T5DenseGatedActDense(Part):
    """Two projections in, one of which gates the other (Shazeer, 2020, https://arxiv.org/abs/2002.05202), and one
    out."""

    def setup(self) -> None:
        make, config, hidden, ffn = self.make, self.config, hidden_axis(self.config), Axis("ffn", self.config.d_ff)
        std = config.std(config.d_model)
        self.wi_0 = make.dense(self, hidden, ffn, bias=False, std=std)
        self.wi_1 = make.dense(self, hidden, ffn, bias=False, std=std)
        self.wo = make.dense(self, ffn, hidden, bias=False, std=config.std(config.d_ff), wide=True)
        self.dropout = make.dropout(self, config.dropout_rate)

    def call(self, hidden_states: Any) -> Any:
        gate = fn.activation(self.ops, self.config.dense_act_fn, self.wi_0(hidden_states))
        return self.wo(self.dropout(gate * self.wi_1(hidden_states)))


class T5LayerFF(T5Layer):
    def setup(self) -> None:
        kind = T5DenseGatedActDense if self.config.is_gated_act else T5DenseActDense
        self.DenseReluDense = self.make.block(self, kind)
        self.layer_norm = self.make.rms_norm(self, hidden_axis(self.config), self.config.layer_norm_epsilon)
        self.dropout = self.make.dropout(self, self.config.dropout_rate)

    def call(self, hidden_states: Any) -> Any:
        made = self.dropout(self.DenseReluDense(self.layer_norm(hidden_states)))
        return fn.residual(self.ops, hidden_states, made)


class T5Block(T5Layer):
    whole = True
    arguments = ("config", "has_relative_attention_bias", "layer_idx")

    def setup(self) -> None:
        cross = [T5LayerCrossAttention] if decodes(self) else []
        kinds = [T5LayerSelfAttention, *cross, T5LayerFF]
        fields = {"has_relative_attention_bias": self.has_relative_attention_bias, "decoder": self.decoder}
        self.layer = self.make.listed(self, kinds, index=self.index, **fields)

    def call(
        self, hidden_states: Any, attention_mask: Any = None, position_bias: Any = None,
        encoder_hidden_states: Any = None, encoder_attention_mask: Any = None,
        encoder_decoder_position_bias: Any = None, layer_head_mask: Any = None, cross_attn_layer_head_mask: Any = None,
        past_key_value: Any = None, use_cache: bool = False, output_attentions: bool = False,
        return_dict: bool = True, cache_position: Any = None,
    ) -> tuple[Any, ...]:  # fmt: skip
        """Return hidden states; the cache, if `use_cache`; and of each attention what it added to the scores and, with
        `output_attentions`, the probabilities."""
        parts, options = list(self.layer), {"use_cache": use_cache, "output_attentions": output_attentions}
        hidden, cache, *more = parts[0](
            hidden_states, attention_mask, position_bias, layer_head_mask, past_key_value=past_key_value,
            cache_position=cache_position, **options,
        )  # fmt: skip
        if decodes(self) and encoder_hidden_states is not None:
            hidden, cache, *crossed = parts[1](
                hidden, encoder_hidden_states, encoder_attention_mask, encoder_decoder_position_bias,
                cross_attn_layer_head_mask, past_key_value=cache, **options,
            )  # fmt: skip
            more += crossed
        hidden = parts[-1](hidden)
        return (hidden, cache, *more) if use_cache else (hidden, *more)


class T5Layers(Part):
    """The layers of encoder or decoder; see `T5Attention` for `decoder`."""

    gradient_checkpointing = False
    decoder: bool | None = None

    def setup(self) -> None:
        make, config = self.make, self.config
        self.block = make.stacked(self, T5Block, self.count(), decoder=self.decoder)
        self.final_layer_norm = make.rms_norm(self, hidden_axis(config), config.layer_norm_epsilon)
        self.dropout = make.dropout(self, config.dropout_rate)

    def count(self) -> int:
        """Return the number of layers; a stack of its own has those that its config says first."""
        return int(self.config.num_layers if self.decoder is None else self.config.layers_of(self.decoder))

    def call(
        self, input_ids: Any = None, attention_mask: Any = None, encoder_hidden_states: Any = None,
        encoder_attention_mask: Any = None, inputs_embeds: Any = None, head_mask: Any = None,
        cross_attn_head_mask: Any = None, past_key_values: Any = None, use_cache: bool | None = None,
        output_attentions: bool | None = None, output_hidden_states: bool | None = None,
        return_dict: bool | None = None, cache_position: Any = None,
    ) -> Any:  # fmt: skip
        """Return `BaseModelOutputWithPastAndCrossAttentions`, whose last state is normed.

        Args:
            input_ids: [B, Q], for a stack that was made with `embed_tokens`; else `inputs_embeds` [B, Q, H].
            attention_mask: 1 and 0, [B, past + Q].
            encoder_hidden_states, encoder_attention_mask: what the decoder looks at, [B, S, H], and where, [B, S].

        Raises:
            ArgumentError: `input_ids` without `embed_tokens`.
        """
        ops, config, decoder = self.ops, self.config, decodes(self)
        fn.one_input(input_ids, inputs_embeds)
        table = getattr(self, "embed_tokens", None)
        if inputs_embeds is None and table is None:
            raise ArgumentError(
                "This stack has no embeddings of its own.", expected="inputs_embeds", received="input_ids",
                remedy="pass inputs_embeds=model.shared(input_ids), or make it with embed_tokens=",
            )  # fmt: skip
        hidden = table(input_ids) if inputs_embeds is None and table is not None else inputs_embeds
        flags = fn.output_flags(config, output_attentions, output_hidden_states, return_dict)
        cache = caches.opened(ops, past_key_values, use_cache, config) if decoder else None
        if decoder:
            bias = at.causal_bias(ops, attention_mask, hidden, cache)
        else:
            bias = at.padding_bias(ops, attention_mask, hidden.dtype, hidden)
        memory_bias = at.memory_bias(ops, encoder_hidden_states, encoder_attention_mask, hidden)
        masks, cross_masks = (
            self.masks(mask, hidden, cross) for mask, cross in ((head_mask, False), (cross_attn_head_mask, True))
        )
        length, hidden, call = ops.shape(hidden)[1], self.dropout(hidden), caller(self, cache)
        states, attentions, crossed, added, over = [hidden], [], [], None, None
        for layer, mask, cross in zip(self.block, masks, cross_masks, strict=True):
            hidden, added, probabilities, *more = call(
                layer, hidden, bias, added, encoder_hidden_states, memory_bias, over, mask, cross,
                past_key_value=cache, output_attentions=True, cache_position=cache_position,
            )  # fmt: skip
            states.append(hidden)
            attentions.append(probabilities)
            if more:
                over = more[0]
                crossed.append(more[1])
        states[-1] = again(self.dropout, self.final_layer_norm(hidden))
        made = outputs.BaseModelOutputWithPastAndCrossAttentions(
            last_hidden_state=states[-1],
            past_key_values=None if cache is None else cache.after(length),
            hidden_states=tuple(states) if flags[1] else None,
            attentions=tuple(attentions) if flags[0] else None,
            cross_attentions=tuple(crossed) if flags[0] and crossed else None,
        )
        return made if flags[2] else made.to_tuple()

    def masks(self, head_mask: Any, hidden: Any, cross: bool) -> list[Any]:
        """Return the mask of heads of each layer."""
        config, decoder = self.config, decodes(self)
        numbers = [config.attention_number(layer, decoder, cross) for layer in range(self.count())]
        return at.head_masks(self.ops, head_mask, config, hidden.dtype, numbers)


class T5Stack(T5Layers, Model):
    """Encoder or decoder as a model of its own: `config.is_decoder` says which, and `num_layers` how deep."""


def stacks(m: Any, decoder: bool) -> tuple[Any, Any, Any]:
    """Return the embeddings, which both stacks share, the encoder, and the decoder if there is one."""
    make, std = m.make, m.config.initializer_factor
    copies = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
    shared = make.embedding(m, vocab_axis(m.config), hidden_axis(m.config), std=std, aliases=copies)
    return shared, make.block(m, T5Layers, decoder=False), make.block(m, T5Layers, decoder=True) if decoder else None


def encode(
    m: Any, input_ids: Any, attention_mask: Any, head_mask: Any, inputs_embeds: Any, flags: tuple[bool, bool, bool]
) -> Any:
    """Return the encoder's output for the inputs of a model."""
    fn.one_input(input_ids, inputs_embeds)
    hidden = m.shared(input_ids) if inputs_embeds is None else inputs_embeds
    return m.encoder(
        None, attention_mask, None, None, hidden, head_mask, output_attentions=flags[0],
        output_hidden_states=flags[1], return_dict=True,
    )  # fmt: skip


class T5Model(Model):
    """Encoder and decoder."""

    def setup(self) -> None:
        self.shared, self.encoder, self.decoder = stacks(self, decoder=True)

    def call(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        decoder_input_ids: Any = None,
        decoder_attention_mask: Any = None,
        head_mask: Any = None,
        decoder_head_mask: Any = None,
        cross_attn_head_mask: Any = None,
        encoder_outputs: Any = None,
        past_key_values: Any = None,
        inputs_embeds: Any = None,
        decoder_inputs_embeds: Any = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Return `Seq2SeqModelOutput`.

        Ids are integers [B, Q] for the encoder and [B, T] for the decoder, embeddings [B, Q, H] and [B, T, H].
        `encoder_outputs`, an output of the encoder or a tuple that starts with its last hidden state, stands for
        `input_ids`. There is a cache if `past_key_values` is given, or `use_cache`, by default the config's, where
        caches grow.
        """
        ops, config = self.ops, self.config
        flags = fn.output_flags(config, output_attentions, output_hidden_states, return_dict)
        cache = caches.opened(ops, past_key_values, use_cache, config)
        if encoder_outputs is None:
            encoded = encode(self, input_ids, attention_mask, head_mask, inputs_embeds, flags)
        else:
            encoded = encoder_output(encoder_outputs)
        if (decoder_input_ids is None) == (decoder_inputs_embeds is None):
            raise ArgumentError(
                "What does the decoder read?",
                expected="either decoder_input_ids or decoder_inputs_embeds",
                received="neither" if decoder_input_ids is None else "both",
            )
        hidden = self.shared(decoder_input_ids) if decoder_inputs_embeds is None else decoder_inputs_embeds
        decoded = self.decoder(
            None, decoder_attention_mask, encoded["last_hidden_state"], attention_mask, hidden, decoder_head_mask,
            cross_attn_head_mask, past_key_values=cache, use_cache=cache is not None, output_attentions=flags[0],
            output_hidden_states=flags[1], return_dict=True,
        )  # fmt: skip
        made = outputs.Seq2SeqModelOutput(
            last_hidden_state=decoded.last_hidden_state,
            past_key_values=decoded.past_key_values,
            decoder_hidden_states=decoded.hidden_states,
            decoder_attentions=decoded.attentions,
            cross_attentions=decoded.cross_attentions,
            **{f"encoder_{name}": encoded.get(name) for name in outputs.BaseModelOutput.fields()},
        )
        return made if flags[2] else made.to_tuple()


_run: Any = T5Model.call


class T5ForConditionalGeneration(Model):
    """T5 that predicts the target's next token; the head is tied to the embeddings unless the config says not."""

    task = "Seq2SeqLM"
    other_tasks = ("PreTraining",)
    heads = ("lm_head",)

    def setup(self) -> None:
        config = self.config
        self.shared, self.encoder, self.decoder = stacks(self, decoder=True)
        std = config.initializer_factor
        self.lm_head = self.make.vocab_head(self, hidden_axis(config), vocab_axis(config), std=std)

    def prepare_decoder_input_ids_from_labels(self, labels: Any) -> Any:
        """Return the decoder's input ids [B, Q] for `labels`, as a call does that is given labels alone."""
        return fn.shifted_right(self.ops, self.config, labels)

    def call(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        decoder_input_ids: Any = None,
        decoder_attention_mask: Any = None,
        head_mask: Any = None,
        decoder_head_mask: Any = None,
        cross_attn_head_mask: Any = None,
        encoder_outputs: Any = None,
        past_key_values: Any = None,
        inputs_embeds: Any = None,
        decoder_inputs_embeds: Any = None,
        labels: Any = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Return logits [B, T, vocab], and with `labels` [B, T] the loss; labels also give the decoder's input."""
        if labels is not None and decoder_input_ids is None and decoder_inputs_embeds is None:
            decoder_input_ids = fn.shifted_right(self.ops, self.config, labels)
        backbone = _run(
            self, input_ids, attention_mask, decoder_input_ids, decoder_attention_mask, head_mask, decoder_head_mask,
            cross_attn_head_mask, encoder_outputs, past_key_values, inputs_embeds, decoder_inputs_embeds, use_cache,
            output_attentions, output_hidden_states, return_dict=True,
        )  # fmt: skip
        hidden = backbone.last_hidden_state
        if self.config.scale_decoder_outputs:
            hidden = hidden * self.config.d_model**-0.5
        logits = fn.scores_of_vocabulary(self.ops, self.lm_head, self.shared, hidden)
        return finish(self, backbone, logits, labels, return_dict)


class T5EncoderModel(Model):
    """The encoder alone."""

    task = "TextEncoding"

    def setup(self) -> None:
        require_built_in(self.config, "is_decoder")
        self.shared, self.encoder, _ = stacks(self, decoder=False)

    def call(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        head_mask: Any = None,
        inputs_embeds: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Return `BaseModelOutput`. Ids are integers [B, Q], `inputs_embeds` [B, Q, H]."""
        flags = fn.output_flags(self.config, output_attentions, output_hidden_states, return_dict)
        found = encode(self, input_ids, attention_mask, head_mask, inputs_embeds, flags)
        made = outputs.BaseModelOutput(**found)
        return made if flags[2] else made.to_tuple()
