"""What a task makes of its head's logits: the output class, the loss, and how many scores there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from triptych.nn import functional as fn
from triptych.nn import outputs

if TYPE_CHECKING:
    from triptych.config import PretrainedConfig

TARGETS = {
    "labels": "logits",
    "mc_labels": "mc_logits",
    "start_positions": "start_logits",
    "end_positions": "end_logits",
}
"""The arguments of a call that are labels, and the part of the output with which each is compared."""


def task_output(
    ops: Any,
    config: PretrainedConfig,
    task: str,
    logits: Any,
    labels: Any,
    backbone: outputs.ModelOutput,
    return_dict: bool | None,
) -> Any:
    """Return the output of a model with a head.

    Args:
        task: a key of `Family.classes`.
        logits: [B, Q, vocab or labels], or [B, labels] for sequence classification.
        labels: None for no loss; for question answering a pair of start and end positions [B].
        backbone: output of the backbone, whose hidden states and attentions are handed on.
        return_dict: None follows the config; False gives a tuple.
    """
    stated = {**dict.fromkeys(backbone.fields()), **backbone}
    extras = {name: value for name, value in stated.items() if name not in ("last_hidden_state", "pooler_output")}
    result = _OUTPUTS[task](ops, config, logits, labels, extras)
    return result if fn.output_flags(config, None, None, return_dict)[2] else result.to_tuple()


def _masked_lm(ops: Any, config: PretrainedConfig, logits: Any, labels: Any, extras: dict[str, Any]) -> Any:
    loss = None if labels is None else fn.token_loss(ops, logits, labels)
    return outputs.MaskedLMOutput(loss=loss, logits=logits, **extras)


def _sequence(ops: Any, config: PretrainedConfig, logits: Any, labels: Any, extras: dict[str, Any]) -> Any:
    loss = None if labels is None else fn.classification_loss(ops, config, logits, labels)
    kind: Any = outputs.SequenceClassifierOutput
    if "encoder_last_hidden_state" in extras:
        kind = outputs.Seq2SeqSequenceClassifierOutput
    elif extras.get("past_key_values") is not None:
        kind = outputs.SequenceClassifierOutputWithPast
    return kind(loss=loss, logits=logits, **extras)


def _token(ops: Any, config: PretrainedConfig, logits: Any, labels: Any, extras: dict[str, Any]) -> Any:
    extras.pop("past_key_values", None)  # which this output does not have
    loss = None if labels is None else fn.token_loss(ops, logits, labels)
    return outputs.TokenClassifierOutput(loss=loss, logits=logits, **extras)


def _causal_lm(ops: Any, config: PretrainedConfig, logits: Any, labels: Any, extras: dict[str, Any]) -> Any:
    loss = None if labels is None else fn.next_token_loss(ops, logits, labels)
    crossed = "cross_attentions" in extras
    kind: Any = outputs.CausalLMOutputWithCrossAttentions if crossed else outputs.CausalLMOutputWithPast
    return kind(loss=loss, logits=logits, **extras)


def _seq2seq_lm(ops: Any, config: PretrainedConfig, logits: Any, labels: Any, extras: dict[str, Any]) -> Any:
    loss = None if labels is None else fn.token_loss(ops, logits, labels)
    return outputs.Seq2SeqLMOutput(loss=loss, logits=logits, **extras)


def _discriminator(ops: Any, config: PretrainedConfig, logits: Any, labels: Any, extras: dict[str, Any]) -> Any:
    """Labels are a pair: 1 where a token was replaced, [B, Q], and the attention mask or None."""
    replaced, mask = (None, None) if labels is None else labels
    loss = None if replaced is None else fn.replaced_token_loss(ops, logits, replaced, mask)
    return outputs.ElectraForPreTrainingOutput(loss=loss, logits=logits, **extras)


def _span(ops: Any, config: PretrainedConfig, logits: Any, labels: Any, extras: dict[str, Any]) -> Any:
    kind: Any = outputs.Seq2SeqQuestionAnsweringModelOutput
    if "encoder_last_hidden_state" not in extras:
        kind = outputs.QuestionAnsweringModelOutput
        extras.pop("past_key_values", None)  # which this output does not have
    start, end = logits[..., 0], logits[..., 1]
    given = labels is not None and all(part is not None for part in labels)
    loss = fn.span_loss(ops, start, end, *labels) if given else None
    return kind(loss=loss, start_logits=start, end_logits=end, **extras)


_OUTPUTS = {
    "CausalLM": _causal_lm,
    "Seq2SeqLM": _seq2seq_lm,
    "PreTraining": _discriminator,
    "MaskedLM": _masked_lm,
    "SequenceClassification": _sequence,
    "TokenClassification": _token,
    "QuestionAnswering": _span,
}
