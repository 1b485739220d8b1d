"""T5: what its layers are, and what they compute."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from triptych.errors import ArgumentError
from triptych.families.t5.config import attention_heads
from triptych.nn import attention as at
from triptych.nn import cache as caches
from triptych.nn import functional as fn
from triptych.nn import outputs
from triptych.nn.axes import hidden_axis, vocab_axis
from triptych.nn.parts import Model, Part
from triptych.nn.stack import caller, finish, result
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
    """Attention to the text itself, or with `cross` to the encoder's; the first holds the bias of positions."""

    decoder: bool = False
    cross: bool = False

    def setup(self) -> None:
        make, config, hidden = self.make, self.config, hidden_axis(self.config)
        heads, width = attention_heads(config, self.index, self.decoder, self.cross), config.d_model
        self.q = make.dense(self, hidden, heads, bias=False, std=config.std(width, config.d_kv))
        self.k = make.dense(self, hidden, heads, bias=False, std=config.std(width))
        self.v = make.dense(self, hidden, heads, bias=False, std=config.std(width))
        self.o = make.dense(self, heads, hidden, bias=False, std=config.std(config.num_heads, config.d_kv))
        if self.index == 0 and not self.cross:
            # Pruned attentions of every layer look their heads up in this one table, so it stays whole.
            table = Axis("buckets", config.relative_attention_num_buckets), Axis("bias_heads", config.num_heads)
            self.relative_attention_bias = make.embedding(self, *table, std=config.std(width))
            # Here and not in `call`, where torch.compile would compute the logarithm, and round otherwise.
            self.buckets = buckets_of(config, both_ways=not self.decoder)
        self.dropout = make.dropout(self, config.dropout_rate)

    def call(
        self, hidden: Any, memory: Any, bias: Any, positions: Any, head_mask: Any, cache: Any
    ) -> tuple[Any, Any, Any]:
        """Attend to `hidden` itself, or to `memory`. Return context, probabilities and the positions' bias.

        The scores are not scaled; that is part of the initialisation.
        """
        ops, config = self.ops, self.config
        units = attention_heads(config, self.index, self.decoder, self.cross).units
        query = at.split_heads(ops, self.q(hidden), units)

        def keys_and_values() -> tuple[Any, Any]:
            source = memory if self.cross else hidden
            return at.split_heads(ops, self.k(source), units), at.split_heads(ops, self.v(source), units)

        if cache is None:
            key, value = keys_and_values()
        elif self.cross:
            key, value = cache.memory(self.index, keys_and_values)
        else:
            key, value = cache.extend(self.index, *keys_and_values())
        total = bias
        if not self.cross:
            positions = self.position_bias(hidden, ops.shape(key)[2], cache) if positions is None else positions
            kept = at.kept_heads(config, config.attention_number(self.index, self.decoder, self.cross))
            own = positions if kept is None else ops.take(positions, kept, 1)
            total = own if bias is None else own + bias
        context, probabilities = at.attend(ops, query, key, value, total, 1.0, self.dropout, head_mask)
        return self.o(context), probabilities, positions

    def position_bias(self, hidden: Any, keys: Any, cache: Any) -> Any:
        """Return what positions add to the scores, [1, N, Q, K] for the heads before pruning."""
        ops = self.ops
        places = ops.arange(keys, hidden)
        buckets = relative_buckets(
            ops, self.buckets, at.query_positions(ops, hidden, cache), places, both_ways=not self.decoder
        )
        return ops.transpose(self.relative_attention_bias(buckets), (2, 0, 1))[None]


class T5LayerSelfAttention(Part):
    decoder: bool = False

    def setup(self) -> None:
        make, config = self.make, self.config
        self.SelfAttention = make.block(self, T5Attention, index=self.index, decoder=self.decoder)
        self.layer_norm = make.rms_norm(self, hidden_axis(config), config.layer_norm_epsilon)
        self.dropout = make.dropout(self, config.dropout_rate)

    def call(self, hidden: Any, bias: Any, positions: Any, head_mask: Any, cache: Any) -> tuple[Any, Any, Any]:
        normed = self.layer_norm(hidden)
        attended, probabilities, positions = self.SelfAttention(normed, None, bias, positions, head_mask, cache=cache)
        return hidden + self.dropout(attended), probabilities, positions


class T5LayerCrossAttention(Part):
    decoder: bool = True

    def setup(self) -> None:
        make, config = self.make, self.config
        self.EncDecAttention = make.block(self, T5Attention, index=self.index, decoder=True, cross=True)
        self.layer_norm = make.rms_norm(self, hidden_axis(config), config.layer_norm_epsilon)
        self.dropout = make.dropout(self, config.dropout_rate)

    def call(self, hidden: Any, memory: Any, bias: Any, head_mask: Any, cache: Any) -> tuple[Any, Any]:
        attended, probabilities, _ = self.EncDecAttention(
            self.layer_norm(hidden), memory, bias, None, head_mask, cache=cache
        )
        return hidden + self.dropout(attended), probabilities


class T5DenseReluDense(Part):
    def setup(self) -> None:
        make, config, hidden, ffn = self.make, self.config, hidden_axis(self.config), Axis("ffn", self.config.d_ff)
        std = config.std(config.d_model)
        if config.is_gated_act:
            self.wi_0 = make.dense(self, hidden, ffn, bias=False, std=std)
            self.wi_1 = make.dense(self, hidden, ffn, bias=False, std=std)
        else:
            self.wi = make.dense(self, hidden, ffn, bias=False, std=std)
        self.wo = make.dense(self, ffn, hidden, bias=False, std=config.std(config.d_ff))
        self.dropout = make.dropout(self, config.dropout_rate)

    def call(self, hidden: Any) -> Any:
        """One or, gated, two projections in (Shazeer, 2020, https://arxiv.org/abs/2002.05202), and one out."""
        ops, name = self.ops, self.config.dense_act_fn
        if self.config.is_gated_act:
            inner = fn.activation(ops, name, self.wi_0(hidden)) * self.wi_1(hidden)
        else:
            inner = fn.activation(ops, name, self.wi(hidden))
        return self.wo(self.dropout(inner))


class T5LayerFF(Part):
    decoder: bool = False

    def setup(self) -> None:
        self.DenseReluDense = self.make.block(self, T5DenseReluDense)
        self.layer_norm = self.make.rms_norm(self, hidden_axis(self.config), self.config.layer_norm_epsilon)
        self.dropout = self.make.dropout(self, self.config.dropout_rate)

    def call(self, hidden: Any) -> Any:
        return hidden + self.dropout(self.DenseReluDense(self.layer_norm(hidden)))


class T5Block(Part):
    decoder: bool = False

    def setup(self) -> None:
        cross = [T5LayerCrossAttention] if self.decoder else []
        kinds = [T5LayerSelfAttention, *cross, T5LayerFF]
        self.layer = self.make.listed(self, kinds, index=self.index, decoder=self.decoder)

    def call(
        self,
        hidden: Any, bias: Any, positions: Any, head_mask: Any, memory: Any, memory_bias: Any, cross_mask: Any,
        cache: Any,
    ) -> tuple[Any, Any, Any, Any]:  # fmt: skip
        """Return hidden, probabilities, those of the cross-attention, and the positions' bias."""
        parts = list(self.layer)
        hidden, probabilities, positions = parts[0](hidden, bias, positions, head_mask, cache=cache)
        crossed = None
        if self.decoder:
            hidden, crossed = parts[1](hidden, memory, memory_bias, cross_mask, cache=cache)
        return parts[-1](hidden), probabilities, crossed, positions


class T5Stack(Part):
    """Encoder or decoder."""

    gradient_checkpointing = False
    decoder: bool = False

    def setup(self) -> None:
        make, config = self.make, self.config
        self.block = make.stacked(self, T5Block, config.layers_of(self.decoder), decoder=self.decoder)
        self.final_layer_norm = make.rms_norm(self, hidden_axis(config), config.layer_norm_epsilon)
        self.dropout = make.dropout(self, config.dropout_rate)

    def call(
        self,
        hidden: Any, bias: Any, head_mask: Any, memory: Any = None, memory_bias: Any = None,
        cross_mask: Any = None, cache: Any = None,
    ) -> tuple[list[Any], list[Any], list[Any]]:  # fmt: skip
        """Run encoder or decoder over embeddings; return states (the last one normed), and both kinds of attentions."""
        masks, cross_masks = (
            _masks(self, mask, hidden, cross) for mask, cross in ((head_mask, False), (cross_mask, True))
        )
        call = caller(self, cache)
        hidden = self.dropout(hidden)
        states, attentions, crossed, positions = [hidden], [], [], None
        for layer, mask, cross in zip(self.block, masks, cross_masks, strict=True):
            hidden, probabilities, over_memory, positions = call(
                layer, hidden, bias, positions, mask, memory, memory_bias, cross, cache=cache
            )
            states.append(hidden)
            attentions.append(probabilities)
            crossed.append(over_memory)
        states[-1] = self.dropout(self.final_layer_norm(hidden))
        return states, attentions, crossed


def _masks(m: Any, head_mask: Any, hidden: Any, cross: bool) -> list[Any]:
    config = m.config
    numbers = [config.attention_number(layer, m.decoder, cross) for layer in range(config.layers_of(m.decoder))]
    return at.head_masks(m.ops, head_mask, config, hidden.dtype, numbers)


def stacks(m: Any, decoder: bool) -> tuple[Any, Any, Any]:
    """Return the embeddings, which both stacks share, the encoder, and the decoder if there is one."""
    make, std = m.make, m.config.initializer_factor
    copies = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
    shared = make.embedding(m, vocab_axis(m.config), hidden_axis(m.config), std=std, aliases=copies)
    return shared, make.block(m, T5Stack), make.block(m, T5Stack, decoder=True) if decoder else None


def encode(m: Any, input_ids: Any, attention_mask: Any, head_mask: Any, inputs_embeds: Any) -> Any:
    fn.one_input(input_ids, inputs_embeds)
    hidden = m.shared(input_ids) if inputs_embeds is None else inputs_embeds
    return m.encoder(hidden, at.padding_bias(m.ops, attention_mask, hidden.dtype), head_mask)


def _encoded(
    m: Any, given: Any, input_ids: Any, attention_mask: Any, head_mask: Any, inputs_embeds: Any,
    flags: tuple[bool, bool, bool],
) -> dict[str, Any]:  # fmt: skip
    if given is None:
        states, attentions, _ = encode(m, input_ids, attention_mask, head_mask, inputs_embeds)
        made: dict[str, Any] = {"last_hidden_state": states[-1]}
        made |= {"hidden_states": tuple(states)} if flags[1] else {}
        return made | ({"attentions": tuple(attentions)} if flags[0] else {})
    names = ("last_hidden_state", "hidden_states", "attentions")
    found = dict(given) if isinstance(given, Mapping) else {}
    if isinstance(given, (tuple, list)):
        found = dict(zip(names, given, strict=False))
    if found.get("last_hidden_state") is None or not set(found) <= set(names):
        raise ArgumentError(
            "encoder_outputs is no output of the encoder.",
            expected=f"a mapping of {names}, or a tuple that starts with the first of them",
            received=f"{type(given).__name__} of {list(found)}",
        )
    return found


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
        `input_ids`. There is a cache if `past_key_values` is given, or `use_cache` where caches grow.
        """
        ops, config = self.ops, self.config
        flags = fn.output_flags(config, output_attentions, output_hidden_states, return_dict)
        cache = caches.opened(ops, past_key_values, use_cache)
        encoded = _encoded(self, encoder_outputs, input_ids, attention_mask, head_mask, inputs_embeds, flags)
        if (decoder_input_ids is None) == (decoder_inputs_embeds is None):
            raise ArgumentError(
                "What does the decoder read?",
                expected="either decoder_input_ids or decoder_inputs_embeds",
                received="neither" if decoder_input_ids is None else "both",
            )
        hidden = self.shared(decoder_input_ids) if decoder_inputs_embeds is None else decoder_inputs_embeds
        bias = at.causal_bias(ops, decoder_attention_mask, hidden, cache)
        memory = encoded["last_hidden_state"]
        memory_bias = at.padding_bias(ops, attention_mask, hidden.dtype)
        states, attentions, crossed = self.decoder(
            hidden, bias, decoder_head_mask, memory, memory_bias, cross_attn_head_mask, cache=cache
        )
        made = outputs.Seq2SeqModelOutput(
            last_hidden_state=states[-1],
            past_key_values=None if cache is None else cache.after(ops.shape(hidden)[1]),
            decoder_hidden_states=tuple(states) if flags[1] else None,
            decoder_attentions=tuple(attentions) if flags[0] else None,
            cross_attentions=tuple(crossed) if flags[0] else None,
            **{f"encoder_{name}": value for name, value in encoded.items()},
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
        states = encode(self, input_ids, attention_mask, head_mask, inputs_embeds)
        return result(outputs.BaseModelOutput, flags, states[:2], last_hidden_state=states[0][-1])
