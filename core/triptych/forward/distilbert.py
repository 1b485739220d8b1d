"""DistilBERT."""

from __future__ import annotations

from typing import Any

from triptych.forward.bert import attention_of
from triptych.nn import attention as at
from triptych.nn import functional as fn
from triptych.nn import outputs
from triptych.nn.stack import finish, result


def embeddings(m: Any, input_ids: Any, inputs_embeds: Any) -> Any:
    """Return the normed sum of the embeddings of words and positions."""
    words = m.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
    return m.dropout(m.LayerNorm(words + m.position_embeddings(at.positions(m.ops, words))))


def attention(m: Any, hidden: Any, bias: Any, head_mask: Any) -> tuple[Any, Any]:
    context, probabilities = attention_of(m, (m.q_lin, m.k_lin, m.v_lin), hidden, bias, head_mask)
    return m.out_lin(context), probabilities


def feed_forward(m: Any, hidden: Any) -> Any:
    return m.dropout(m.lin2(fn.activation(m.ops, m.config.activation, m.lin1(hidden))))


def layer(m: Any, hidden: Any, bias: Any, head_mask: Any) -> tuple[Any, Any]:
    attended, probabilities = m.attention(hidden, bias, head_mask)
    attended = m.sa_layer_norm(attended + hidden)
    return m.output_layer_norm(m.ffn(attended) + attended), probabilities


def model(
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
    ops, config = m.ops, m.config
    fn.one_input(input_ids, inputs_embeds)
    flags = fn.output_flags(config, output_attentions, output_hidden_states, return_dict)
    hidden = m.embeddings(input_ids, inputs_embeds)
    bias = at.padding_bias(ops, attention_mask, hidden.dtype)
    states = m.transformer(hidden, bias, at.head_masks(ops, head_mask, config, hidden.dtype))
    return result(outputs.BaseModelOutput, flags, states, last_hidden_state=states[0][-1])


def with_head(
    m: Any,
    input_ids: Any = None,
    attention_mask: Any = None,
    head_mask: Any = None,
    inputs_embeds: Any = None,
    labels: Any = None,
    output_attentions: bool | None = None,
    output_hidden_states: bool | None = None,
    return_dict: bool | None = None,
) -> Any:
    """Return logits, and with `labels` the loss; see `triptych.nn.heads.task_output`."""
    backbone = m.distilbert(
        input_ids, attention_mask, head_mask, inputs_embeds, output_attentions, output_hidden_states, return_dict=True
    )
    return finish(m, backbone, m.score(backbone), labels, return_dict)


def with_span(
    m: Any,
    input_ids: Any = None,
    attention_mask: Any = None,
    head_mask: Any = None,
    inputs_embeds: Any = None,
    start_positions: Any = None,
    end_positions: Any = None,
    output_attentions: bool | None = None,
    output_hidden_states: bool | None = None,
    return_dict: bool | None = None,
) -> Any:
    """Return start and end logits, and with both positions the loss."""
    backbone = m.distilbert(
        input_ids, attention_mask, head_mask, inputs_embeds, output_attentions, output_hidden_states, return_dict=True
    )
    labels = [p if p is None else m.ops.cast(p, "int32") for p in (start_positions, end_positions)]
    return finish(m, backbone, m.score(backbone), labels, return_dict)


def score_vocabulary(m: Any, backbone: Any) -> Any:
    hidden = fn.activation(m.ops, m.config.activation, m.vocab_transform(backbone.last_hidden_state))
    return m.vocab_projector(m.vocab_layer_norm(hidden), embeddings=m.distilbert.embeddings.word_embeddings)


def score_first(m: Any, backbone: Any) -> Any:
    pooled = fn.activation(m.ops, "relu", m.pre_classifier(backbone.last_hidden_state[:, 0]))
    return m.classifier(m.dropout(pooled))


def score_span(m: Any, backbone: Any) -> Any:
    return m.qa_outputs(m.dropout(backbone.last_hidden_state))
