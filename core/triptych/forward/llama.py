"""Llama, and with it Mistral, Qwen2 and Qwen3."""

from __future__ import annotations

from typing import Any

from triptych.families.common import heads_axis, kv_heads_axis
from triptych.nn import attention as at
from triptych.nn import cache as caches
from triptych.nn import functional as fn
from triptych.nn import outputs
from triptych.nn.rotary import rotary_tables, rotate
from triptych.nn.stack import finish, result, run_layers


def attention(m: Any, hidden: Any, tables: tuple[Any, Any], bias: Any, head_mask: Any, cache: Any) -> tuple[Any, Any]:
    """Attend with rotated queries and keys; several query heads share one key and value head."""
    ops = m.ops
    heads, kv_heads = heads_axis(m.config, m.index), kv_heads_axis(m.config, m.index)
    query = at.split_heads(ops, m.q_proj(hidden), heads.units)
    key, value = (at.split_heads(ops, project(hidden), kv_heads.units) for project in (m.k_proj, m.v_proj))
    if m.config.query_key_norm:
        query, key = m.q_norm(query), m.k_norm(key)
    query, key = rotate(ops, query, *tables), rotate(ops, key, *tables)
    if cache is not None:
        key, value = cache.extend(m.index, key, value)
    context, probabilities = at.attend(ops, query, key, value, bias, heads.block**-0.5, m.dropout, head_mask)
    return m.o_proj(context), probabilities


def feed_forward(m: Any, hidden: Any) -> Any:
    """Gated feed-forward (Shazeer, 2020, https://arxiv.org/abs/2002.05202)."""
    return m.down_proj(fn.activation(m.ops, m.config.hidden_act, m.gate_proj(hidden)) * m.up_proj(hidden))


def layer(m: Any, hidden: Any, tables: tuple[Any, Any], bias: Any, head_mask: Any, cache: Any) -> tuple[Any, Any]:
    attended, probabilities = m.self_attn(m.input_layernorm(hidden), tables, bias, head_mask, cache=cache)
    hidden = hidden + attended
    return hidden + m.mlp(m.post_attention_layernorm(hidden)), probabilities


def model(
    m: Any,
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
    `past_key_values` is given, or `use_cache` where caches grow.
    """
    ops, config = m.ops, m.config
    fn.one_input(input_ids, inputs_embeds)
    flags = fn.output_flags(config, output_attentions, output_hidden_states, return_dict)
    cache = caches.opened(ops, past_key_values, use_cache)
    hidden = m.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
    places = at.positions(ops, hidden, cache) if position_ids is None else position_ids
    tables = rotary_tables(ops, config, places, hidden.dtype)
    windows = [config.window(index) for index in range(config.num_hidden_layers)]
    biases = {window: at.causal_bias(ops, attention_mask, hidden, cache, window) for window in set(windows)}
    masks = at.head_masks(ops, head_mask, config, hidden.dtype)
    arguments = [(tables, biases[window], mask) for window, mask in zip(windows, masks, strict=True)]
    states = run_layers(m.decoder_layers, hidden, arguments, cache=cache)
    states[0][-1] = m.norm(states[0][-1])
    past = None if cache is None else cache.after(ops.shape(hidden)[1])
    kind = outputs.BaseModelOutputWithPast
    return result(kind, flags, states, last_hidden_state=states[0][-1], past_key_values=past)


def with_head(
    m: Any,
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
    backbone = m.model(
        input_ids, attention_mask, position_ids, past_key_values, inputs_embeds, use_cache,
        output_attentions, output_hidden_states, return_dict=True, head_mask=head_mask,
    )  # fmt: skip
    return finish(m, backbone, m.score_of(backbone, input_ids), labels, return_dict)


def score_vocabulary(m: Any, backbone: Any, input_ids: Any) -> Any:
    return fn.scores_of_vocabulary(m.ops, m.lm_head, m.model.embed_tokens, backbone.last_hidden_state)


def score_last(m: Any, backbone: Any, input_ids: Any) -> Any:
    return fn.last_token(m.ops, m.config, m.score(backbone.last_hidden_state), input_ids)
