"""GPT-2."""

from __future__ import annotations

from typing import Any

from triptych.families.common import heads_axis
from triptych.nn import attention as at
from triptych.nn import cache as caches
from triptych.nn import functional as fn
from triptych.nn import outputs
from triptych.nn.stack import finish, result, run_layers


def attention(m: Any, hidden: Any, bias: Any, head_mask: Any, cache: Any) -> tuple[Any, Any]:
    """Attend with one fused projection of queries, keys and values."""
    ops, heads = m.ops, heads_axis(m.config, m.index)
    fused, width = m.c_attn(hidden), heads.length
    parts = (fused[..., start : start + width] for start in (0, width, 2 * width))
    query, key, value = (at.split_heads(ops, part, heads.units) for part in parts)
    if cache is not None:
        key, value = cache.extend(m.index, key, value)
    scale = m.config.attention_scale(m.index)
    context, probabilities = at.attend(ops, query, key, value, bias, scale, m.attn_dropout, head_mask)
    return m.resid_dropout(m.c_proj(context)), probabilities


def feed_forward(m: Any, hidden: Any) -> Any:
    return m.dropout(m.c_proj(fn.activation(m.ops, m.config.activation_function, m.c_fc(hidden))))


def layer(m: Any, hidden: Any, bias: Any, head_mask: Any, cache: Any) -> tuple[Any, Any]:
    attended, probabilities = m.attn(m.ln_1(hidden), bias, head_mask, cache=cache)
    hidden = hidden + attended
    return hidden + m.mlp(m.ln_2(hidden)), probabilities


def model(
    m: Any,
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

    Ids are integers [B, Q], `inputs_embeds` [B, Q, H]; `attention_mask` [B, past + Q]. `token_type_ids` are embedded
    with the words' matrix. There is a cache if `past_key_values` is given, or `use_cache` where caches grow.
    """
    ops, config = m.ops, m.config
    fn.one_input(input_ids, inputs_embeds)
    flags = fn.output_flags(config, output_attentions, output_hidden_states, return_dict)
    cache = caches.opened(ops, past_key_values, use_cache)
    words = m.wte(input_ids) if inputs_embeds is None else inputs_embeds
    hidden = words + m.wpe(at.positions(ops, words, cache) if position_ids is None else position_ids)
    hidden = m.drop(hidden if token_type_ids is None else hidden + m.wte(token_type_ids))
    bias = at.causal_bias(ops, attention_mask, hidden, cache)
    masks = at.head_masks(ops, head_mask, config, hidden.dtype)
    states = run_layers(m.h, hidden, [(bias, mask) for mask in masks], cache=cache)
    states[0][-1] = m.ln_f(states[0][-1])
    past = None if cache is None else cache.after(ops.shape(words)[1])
    kind = outputs.BaseModelOutputWithPast
    return result(kind, flags, states, last_hidden_state=states[0][-1], past_key_values=past)


def with_head(
    m: Any,
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
    backbone = m.transformer(
        input_ids, past_key_values, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds, use_cache,
        output_attentions, output_hidden_states, return_dict=True,
    )  # fmt: skip
    return finish(m, backbone, m.score_of(backbone, input_ids), labels, return_dict)


def score_vocabulary(m: Any, backbone: Any, input_ids: Any) -> Any:
    return fn.scores_of_vocabulary(m.ops, m.lm_head, m.transformer.wte, backbone.last_hidden_state)


def score_last(m: Any, backbone: Any, input_ids: Any) -> Any:
    return fn.last_token(m.ops, m.config, m.score(backbone.last_hidden_state), input_ids)


def score_tokens(m: Any, backbone: Any, input_ids: Any) -> Any:
    return m.classifier(m.dropout(backbone.last_hidden_state))
