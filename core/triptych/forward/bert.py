"""BERT, and what RoBERTa and ELECTRA have of it."""

from __future__ import annotations

from typing import Any

from triptych.families.common import heads_axis
from triptych.nn import attention as at
from triptych.nn import functional as fn
from triptych.nn import outputs
from triptych.nn.stack import finish, result


def embeddings(m: Any, input_ids: Any, token_type_ids: Any, position_ids: Any, inputs_embeds: Any) -> Any:
    """Return the normed sum of the embeddings of words, token types and positions."""
    ops = m.ops
    words = m.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
    places = m.positions(input_ids, words) if position_ids is None else position_ids
    types = ops.zeros_like(places) if token_type_ids is None else token_type_ids
    return m.dropout(m.LayerNorm(words + m.token_type_embeddings(types) + m.position_embeddings(places)))


def positions(m: Any, input_ids: Any, words: Any) -> Any:
    """Return 0, 1, 2, ..."""
    return at.positions(m.ops, words)


def positions_after_padding(m: Any, input_ids: Any, words: Any) -> Any:
    """Return RoBERTa's positions: counted over the tokens that are not padding, from `pad_token_id` + 1."""
    ops, pad = m.ops, m.config.pad_token_id or 0
    if input_ids is None:
        return at.positions(ops, words) + (pad + 1)
    real = ops.cast(input_ids != pad, "int32")
    return ops.cumsum(real) * real + pad


def self_attention(m: Any, hidden: Any, bias: Any, head_mask: Any) -> tuple[Any, Any]:
    """Attend with `query`, `key` and `value`."""
    return attention_of(m, (m.query, m.key, m.value), hidden, bias, head_mask)


def attention_of(m: Any, projections: tuple[Any, Any, Any], hidden: Any, bias: Any, head_mask: Any) -> tuple[Any, Any]:
    """Attend within `hidden`, with the heads that layer `m.index` still has."""
    heads = heads_axis(m.config, m.index)
    query, key, value = (at.split_heads(m.ops, project(hidden), heads.units) for project in projections)
    return at.attend(m.ops, query, key, value, bias, heads.block**-0.5, m.dropout, head_mask)


def residual(m: Any, hidden: Any, before: Any) -> Any:
    """Project, and norm the sum with what was before."""
    return m.LayerNorm(m.dropout(m.dense(hidden)) + before)


def attention(m: Any, hidden: Any, bias: Any, head_mask: Any) -> tuple[Any, Any]:
    context, probabilities = m.self(hidden, bias, head_mask)
    return m.output(context, hidden), probabilities


def layer(m: Any, hidden: Any, bias: Any, head_mask: Any) -> tuple[Any, Any]:
    attended, probabilities = m.attention(hidden, bias, head_mask)
    return m.output(m.intermediate(attended), attended), probabilities


def model(
    m: Any,
    input_ids: Any = None,
    attention_mask: Any = None,
    token_type_ids: Any = None,
    position_ids: Any = None,
    head_mask: Any = None,
    inputs_embeds: Any = None,
    output_attentions: bool | None = None,
    output_hidden_states: bool | None = None,
    return_dict: bool | None = None,
) -> Any:
    """Return `BaseModelOutputWithPooling`. Ids are integers [B, Q], `inputs_embeds` [B, Q, H]."""
    ops, config = m.ops, m.config
    fn.one_input(input_ids, inputs_embeds)
    flags = fn.output_flags(config, output_attentions, output_hidden_states, return_dict)
    hidden = m.embeddings(input_ids, token_type_ids, position_ids, inputs_embeds)
    project = getattr(m, "embeddings_project", None)
    hidden = hidden if project is None else project(hidden)
    bias = at.padding_bias(ops, attention_mask, hidden.dtype)
    states = m.encoder(hidden, bias, at.head_masks(ops, head_mask, config, hidden.dtype))
    last, pooler = states[0][-1], getattr(m, "pooler", None)
    pooled = None if pooler is None else pooler(last[:, 0])
    return result(outputs.BaseModelOutputWithPooling, flags, states, last_hidden_state=last, pooler_output=pooled)


def with_head(
    m: Any,
    input_ids: Any = None,
    attention_mask: Any = None,
    token_type_ids: Any = None,
    position_ids: Any = None,
    head_mask: Any = None,
    inputs_embeds: Any = None,
    labels: Any = None,
    output_attentions: bool | None = None,
    output_hidden_states: bool | None = None,
    return_dict: bool | None = None,
) -> Any:
    """Return logits, and with `labels` the loss; see `triptych.nn.heads.task_output`."""
    backbone = getattr(m, m.base_model_prefix)(
        input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
        output_attentions, output_hidden_states, return_dict=True,
    )  # fmt: skip
    return finish(m, backbone, m.score(backbone), m.targets(labels, attention_mask), return_dict)


def labels_alone(m: Any, labels: Any, attention_mask: Any) -> Any:
    """Return what the loss compares with: the labels."""
    return labels


def labels_of_attended(m: Any, labels: Any, attention_mask: Any) -> Any:
    """Return labels, 1 where a token was replaced, and the mask of the tokens that count."""
    return labels, attention_mask


def with_span(
    m: Any,
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
    backbone = getattr(m, m.base_model_prefix)(
        input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
        output_attentions, output_hidden_states, return_dict=True,
    )  # fmt: skip
    # int32: TensorFlow compares only equal types, and a length known only at run time is an int32.
    labels = [p if p is None else m.ops.cast(p, "int32") for p in (start_positions, end_positions)]
    return finish(m, backbone, m.score(backbone), labels, return_dict)


def score_vocabulary(m: Any, backbone: Any) -> Any:
    """Return [B, Q, vocab] of the head `m.cls`."""
    return m.cls(backbone.last_hidden_state, table=getattr(m, m.base_model_prefix).embeddings.word_embeddings)


def only_mlm_head(m: Any, hidden: Any, table: Any) -> Any:
    return m.predictions(hidden, table=table)


def predictions(m: Any, hidden: Any, table: Any) -> Any:
    """Return scores from the word embeddings and `bias`, or from a decoder if the config does not tie."""
    return decode(m, m.transform(hidden), table)


def decode(m: Any, hidden: Any, table: Any) -> Any:
    scores = fn.scores_of_vocabulary(m.ops, m.decoder, table, hidden)
    return scores if m.decoder is not None else scores + m.ops.cast(m.bias, hidden.dtype)


def transform(m: Any, hidden: Any) -> Any:
    return m.LayerNorm(fn.activation(m.ops, m.config.hidden_act, m.dense(hidden)))


def roberta_head(m: Any, hidden: Any, table: Any) -> Any:
    """RoBERTa's head of the vocabulary."""
    return decode(m, m.layer_norm(fn.activation(m.ops, "gelu", m.dense(hidden))), table)


def score_roberta_vocabulary(m: Any, backbone: Any) -> Any:
    return m.lm_head(backbone.last_hidden_state, table=getattr(m, m.base_model_prefix).embeddings.word_embeddings)


def classification_head(m: Any, hidden: Any) -> Any:
    """RoBERTa's and ELECTRA's classifier, of the first token."""
    dense = m.dense(m.dropout(hidden[:, 0]))
    return m.out_proj(m.dropout(fn.activation(m.ops, m.activation, dense)))


def score_first(m: Any, backbone: Any) -> Any:
    return m.classifier(backbone.last_hidden_state)


def discriminator_head(m: Any, hidden: Any) -> Any:
    """Return [B, Q]: positive where ELECTRA thinks a token replaced."""
    return m.dense_prediction(fn.activation(m.ops, m.config.hidden_act, m.dense(hidden)))[..., 0]


def generator_head(m: Any, hidden: Any) -> Any:
    return m.LayerNorm(fn.activation(m.ops, "gelu", m.dense(hidden)))


def score_replaced(m: Any, backbone: Any) -> Any:
    return m.discriminator_predictions(backbone.last_hidden_state)


def score_generated(m: Any, backbone: Any) -> Any:
    hidden = m.generator_predictions(backbone.last_hidden_state)
    table = getattr(m, m.base_model_prefix).embeddings.word_embeddings
    return m.generator_lm_head(hidden, embeddings=table)
