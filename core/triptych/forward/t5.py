"""T5."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from triptych.errors import ArgumentError
from triptych.families.t5 import attention_heads
from triptych.nn import attention as at
from triptych.nn import cache as caches
from triptych.nn import functional as fn
from triptych.nn import outputs
from triptych.nn.stack import finish, result


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


def relative_buckets(ops: Any, config: Any, queries: Any, keys: Any, both_ways: bool) -> Any:
    """Return the bucket [Q, K] of each pair of places [Q] and [K]; the second half of the buckets is for keys ahead,
    if queries see `both_ways`."""
    ahead = keys[None, :] - queries[:, None]
    count, furthest = config.relative_attention_num_buckets, config.relative_attention_max_distance
    table = ops.constant(bucket_table(count // 2 if both_ways else count, furthest), queries)
    distance = ops.maximum(ahead, -ahead) if both_ways else ops.maximum(-ahead, 0)
    found = ops.gather(table, ops.minimum(distance, furthest))
    return found + ops.cast(ahead > 0, "int32") * (count // 2) if both_ways else found


def position_bias(m: Any, hidden: Any, keys: Any, cache: Any) -> Any:
    """Return what positions add to the scores, [1, N, Q, K] for the heads before pruning."""
    ops = m.ops
    places = ops.arange(keys, hidden)
    buckets = relative_buckets(ops, m.config, at.query_positions(ops, hidden, cache), places, not m.decoder)
    return ops.transpose(m.relative_attention_bias(buckets), (2, 0, 1))[None]


def attention(
    m: Any, hidden: Any, memory: Any, bias: Any, positions: Any, head_mask: Any, cache: Any
) -> tuple[Any, Any, Any]:
    """Attend to `hidden` itself, or to `memory`. Return context, probabilities and the positions' bias.

    The scores are not scaled; that is part of the initialisation.
    """
    ops, config = m.ops, m.config
    units = attention_heads(config, m.index, m.decoder, m.cross).units
    query = at.split_heads(ops, m.q(hidden), units)

    def keys_and_values() -> tuple[Any, Any]:
        source = memory if m.cross else hidden
        return at.split_heads(ops, m.k(source), units), at.split_heads(ops, m.v(source), units)

    if cache is None:
        key, value = keys_and_values()
    elif m.cross:
        key, value = cache.memory(m.index, keys_and_values)
    else:
        key, value = cache.extend(m.index, *keys_and_values())
    total = bias
    if not m.cross:
        positions = position_bias(m, hidden, ops.shape(key)[2], cache) if positions is None else positions
        kept = at.kept_heads(config, config.attention_number(m.index, m.decoder, m.cross))
        own = positions if kept is None else ops.take(positions, kept, 1)
        total = own if bias is None else own + bias
    context, probabilities = at.attend(ops, query, key, value, total, 1.0, m.dropout, head_mask)
    return m.o(context), probabilities, positions


def self_layer(m: Any, hidden: Any, bias: Any, positions: Any, head_mask: Any, cache: Any) -> tuple[Any, Any, Any]:
    normed = m.layer_norm(hidden)
    attended, probabilities, positions = m.SelfAttention(normed, None, bias, positions, head_mask, cache=cache)
    return hidden + m.dropout(attended), probabilities, positions


def cross_layer(m: Any, hidden: Any, memory: Any, bias: Any, head_mask: Any, cache: Any) -> tuple[Any, Any]:
    attended, probabilities, _ = m.EncDecAttention(m.layer_norm(hidden), memory, bias, None, head_mask, cache=cache)
    return hidden + m.dropout(attended), probabilities


def feed_forward_layer(m: Any, hidden: Any) -> Any:
    return hidden + m.dropout(m.DenseReluDense(m.layer_norm(hidden)))


def feed_forward(m: Any, hidden: Any) -> Any:
    """One or, gated, two projections in (Shazeer, 2020, https://arxiv.org/abs/2002.05202), and one out."""
    ops, name = m.ops, m.config.dense_act_fn
    if m.config.is_gated_act:
        inner = fn.activation(ops, name, m.wi_0(hidden)) * m.wi_1(hidden)
    else:
        inner = fn.activation(ops, name, m.wi(hidden))
    return m.wo(m.dropout(inner))


def block(
    m: Any, hidden: Any, bias: Any, positions: Any, head_mask: Any, memory: Any, memory_bias: Any, cross_mask: Any,
    cache: Any,
) -> tuple[Any, Any, Any, Any]:  # fmt: skip
    """Return hidden, probabilities, those of the cross-attention, and the positions' bias."""
    parts = list(m.layer)
    hidden, probabilities, positions = parts[0](hidden, bias, positions, head_mask, cache=cache)
    crossed = None
    if m.decoder:
        hidden, crossed = parts[1](hidden, memory, memory_bias, cross_mask, cache=cache)
    return parts[-1](hidden), probabilities, crossed, positions


def stack(
    m: Any, hidden: Any, bias: Any, head_mask: Any, memory: Any = None, memory_bias: Any = None,
    cross_mask: Any = None, cache: Any = None,
) -> tuple[list[Any], list[Any], list[Any]]:  # fmt: skip
    """Run encoder or decoder over embeddings; return states (the last one normed), and both kinds of attentions."""
    masks, cross_masks = (_masks(m, mask, hidden, cross) for mask, cross in ((head_mask, False), (cross_mask, True)))
    hidden = m.dropout(hidden)
    states, attentions, crossed, positions = [hidden], [], [], None
    for layer, mask, cross in zip(m.block, masks, cross_masks, strict=True):
        hidden, probabilities, over_memory, positions = layer(
            hidden, bias, positions, mask, memory, memory_bias, cross, cache=cache
        )
        states.append(hidden)
        attentions.append(probabilities)
        crossed.append(over_memory)
    states[-1] = m.dropout(m.final_layer_norm(hidden))
    return states, attentions, crossed


def _masks(m: Any, head_mask: Any, hidden: Any, cross: bool) -> list[Any]:
    config = m.config
    numbers = [config.attention_number(layer, m.decoder, cross) for layer in range(config.layers_of(m.decoder))]
    return at.head_masks(m.ops, head_mask, config, hidden.dtype, numbers)


def encode(m: Any, input_ids: Any, attention_mask: Any, head_mask: Any, inputs_embeds: Any) -> Any:
    fn.one_input(input_ids, inputs_embeds)
    hidden = m.shared(input_ids) if inputs_embeds is None else inputs_embeds
    return m.encoder(hidden, at.padding_bias(m.ops, attention_mask, hidden.dtype), head_mask)


def encoder_model(
    m: Any,
    input_ids: Any = None,
    attention_mask: Any = None,
    head_mask: Any = None,
    inputs_embeds: Any = None,
    output_attentions: bool | None = None,
    output_hidden_states: bool | None = None,
    return_dict: bool | None = None,
) -> Any:
    """Return `BaseModelOutput`. Ids are integers [B, Q], `inputs_embeds` [B, Q, H]."""
    flags = fn.output_flags(m.config, output_attentions, output_hidden_states, return_dict)
    states = encode(m, input_ids, attention_mask, head_mask, inputs_embeds)
    return result(outputs.BaseModelOutput, flags, states[:2], last_hidden_state=states[0][-1])


def model(
    m: Any,
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
    ops, config = m.ops, m.config
    flags = fn.output_flags(config, output_attentions, output_hidden_states, return_dict)
    cache = caches.opened(ops, past_key_values, use_cache)
    encoded = _encoded(m, encoder_outputs, input_ids, attention_mask, head_mask, inputs_embeds, flags)
    if (decoder_input_ids is None) == (decoder_inputs_embeds is None):
        raise ArgumentError("What does the decoder read?", expected="either decoder_input_ids or decoder_inputs_embeds",
                            received="neither" if decoder_input_ids is None else "both")  # fmt: skip
    hidden = m.shared(decoder_input_ids) if decoder_inputs_embeds is None else decoder_inputs_embeds
    bias = at.causal_bias(ops, decoder_attention_mask, hidden, cache)
    memory = encoded["last_hidden_state"]
    memory_bias = at.padding_bias(ops, attention_mask, hidden.dtype)
    states, attentions, crossed = m.decoder(
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


def with_head(
    m: Any,
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
        decoder_input_ids = fn.shifted_right(m.ops, m.config, labels)
    backbone = model(
        m, input_ids, attention_mask, decoder_input_ids, decoder_attention_mask, head_mask, decoder_head_mask,
        cross_attn_head_mask, encoder_outputs, past_key_values, inputs_embeds, decoder_inputs_embeds, use_cache,
        output_attentions, output_hidden_states, return_dict=True,
    )  # fmt: skip
    hidden = backbone.last_hidden_state
    if m.config.scale_decoder_outputs:
        hidden = hidden * m.config.d_model**-0.5
    logits = fn.scores_of_vocabulary(m.ops, m.lm_head, m.shared, hidden)
    return finish(m, backbone, logits, labels, return_dict)
