"""What a task makes of its head's logits: the output class, the loss, and how many scores there are."""

from __future__ import annotations

from collections.abc import Iterable
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
_OF_PAIRS = {"labels": "prediction_logits", "next_sentence_label": "seq_relationship_logits"}


def targets_of(arguments: Iterable[str]) -> dict[str, str]:
    """Return those of the arguments of a call that are labels, as `TARGETS` does."""
    arguments = list(arguments)
    table = _OF_PAIRS if set(_OF_PAIRS) <= set(arguments) else TARGETS
    return {name: output for name, output in table.items() if name in arguments}


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
    extras = {name: value for name, value in backbone.items() if name not in ("last_hidden_state", "pooler_output")}
    if "cross_attentions" in type(backbone).fields():
        extras.setdefault("cross_attentions", None)
    result = _OUTPUTS[task](ops, config, logits, labels, extras)
    return result if fn.output_flags(config, None, None, return_dict)[2] else result.to_tuple()


def _made(kind: type[outputs.ModelOutput], extras: dict[str, Any], **own: Any) -> Any:
    """Return an output with its own fields, and those of `extras` that it has."""
    return kind(**own, **{name: extras[name] for name in kind.fields() if name in extras})


def _masked_lm(ops: Any, config: PretrainedConfig, logits: Any, labels: Any, extras: dict[str, Any]) -> Any:
    loss = None if labels is None else fn.token_loss(ops, logits, labels)
    return _made(outputs.MaskedLMOutput, extras, loss=loss, logits=logits)


def _sequence(ops: Any, config: PretrainedConfig, logits: Any, labels: Any, extras: dict[str, Any]) -> Any:
    loss = None if labels is None else fn.classification_loss(ops, config, logits, labels)
    kind: Any = outputs.SequenceClassifierOutput
    if "encoder_last_hidden_state" in extras:
        kind = outputs.Seq2SeqSequenceClassifierOutput
    elif "past_key_values" in extras:
        kind = outputs.SequenceClassifierOutputWithPast
    return _made(kind, extras, loss=loss, logits=logits)


def _token(ops: Any, config: PretrainedConfig, logits: Any, labels: Any, extras: dict[str, Any]) -> Any:
    loss = None if labels is None else fn.token_loss(ops, logits, labels)
    return _made(outputs.TokenClassifierOutput, extras, loss=loss, logits=logits)


def _causal_lm(ops: Any, config: PretrainedConfig, logits: Any, labels: Any, extras: dict[str, Any]) -> Any:
    loss = None if labels is None else fn.next_token_loss(ops, logits, labels)
    crossed = "cross_attentions" in extras
    kind = outputs.CausalLMOutputWithCrossAttentions if crossed else outputs.CausalLMOutputWithPast
    return _made(kind, extras, loss=loss, logits=logits)


def _seq2seq_lm(ops: Any, config: PretrainedConfig, logits: Any, labels: Any, extras: dict[str, Any]) -> Any:
    loss = None if labels is None else fn.token_loss(ops, logits, labels)
    return _made(outputs.Seq2SeqLMOutput, extras, loss=loss, logits=logits)


def _discriminator(ops: Any, config: PretrainedConfig, logits: Any, labels: Any, extras: dict[str, Any]) -> Any:
    """Labels are a pair: 1 where a token was replaced, [B, Q], and the attention mask or None."""
    replaced, mask = (None, None) if labels is None else labels
    loss = None if replaced is None else fn.replaced_token_loss(ops, logits, replaced, mask)
    return _made(outputs.ElectraForPreTrainingOutput, extras, loss=loss, logits=logits)


def _multiple_choice(ops: Any, config: PretrainedConfig, logits: Any, labels: Any, extras: dict[str, Any]) -> Any:
    loss = None if labels is None else fn.token_loss(ops, logits, labels)
    return _made(outputs.MultipleChoiceModelOutput, extras, loss=loss, logits=logits)


def _next_sentence(ops: Any, config: PretrainedConfig, logits: Any, labels: Any, extras: dict[str, Any]) -> Any:
    loss = None if labels is None else fn.token_loss(ops, logits, labels)
    return _made(outputs.NextSentencePredictorOutput, extras, loss=loss, logits=logits)


def _sentence_pairs(ops: Any, config: PretrainedConfig, logits: Any, labels: Any, extras: dict[str, Any]) -> Any:
    """Logits and labels are pairs: of every token, [B, Q, vocab] and [B, Q], and of the text, [B, 2] and [B]."""
    given = labels is not None and all(part is not None for part in labels)
    loss = sum(fn.token_loss(ops, *pair) for pair in zip(logits, labels, strict=True)) if given else None
    own = {"prediction_logits": logits[0], "seq_relationship_logits": logits[1]}
    return _made(outputs.BertForPreTrainingOutput, extras, loss=loss, **own)


def _span(ops: Any, config: PretrainedConfig, logits: Any, labels: Any, extras: dict[str, Any]) -> Any:
    seq2seq = "encoder_last_hidden_state" in extras
    kind = outputs.Seq2SeqQuestionAnsweringModelOutput if seq2seq else outputs.QuestionAnsweringModelOutput
    start, end = logits[..., 0], logits[..., 1]
    given = labels is not None and all(part is not None for part in labels)
    loss = fn.span_loss(ops, start, end, *labels) if given else None
    return _made(kind, extras, loss=loss, start_logits=start, end_logits=end)


_OUTPUTS = {
    "CausalLM": _causal_lm,
    "Seq2SeqLM": _seq2seq_lm,
    "PreTraining": _discriminator,
    "MaskedLM": _masked_lm,
    "MultipleChoice": _multiple_choice,
    "NextSentencePrediction": _next_sentence,
    "SentencePairs": _sentence_pairs,
    "SequenceClassification": _sequence,
    "TokenClassification": _token,
    "QuestionAnswering": _span,
}
