"""What a model returns: ordered, by attribute, by name or by position; absent values are left out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

_CLASSES: list[type[ModelOutput]] = []
_LISTENERS: list[Callable[[type[ModelOutput]], None]] = []


class ModelOutput(OrderedDict[str, Any]):
    """A result whose fields are the class's annotations. A declared field without value reads as None.

    `output[0]`, `output[:2]` and `output.to_tuple()` see only the fields that have a value.
    """

    _declared: tuple[str, ...] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # Once, since torch.compile does not look into a class's annotations.
        mro = [base for base in reversed(cls.__mro__) if base is not ModelOutput]
        cls._declared = tuple(name for base in mro for name in base.__dict__.get("__annotations__", {}))
        _CLASSES.append(cls)
        for listener in _LISTENERS:
            listener(cls)

    def __init__(self, *args: Any, **fields: Any) -> None:
        items = OrderedDict(*args, **fields)
        super().__init__((name, value) for name, value in items.items() if value is not None)

    @classmethod
    def fields(cls) -> list[str]:
        """Return the declared field names, in order."""
        return list(cls._declared)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self:
            return super().__getitem__(name)
        if name in type(self).fields():
            return None
        raise AttributeError(f"{type(self).__name__} has no field {name!r}")

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def to_tuple(self) -> tuple[Any, ...]:
        """Return the values that are there, in order."""
        return tuple(super(ModelOutput, self).__getitem__(name) for name in self)


def on_each_class(listener: Callable[[type[ModelOutput]], None]) -> None:
    """Call `listener` with every output class: those there are, and those yet to be made.

    A framework that looks into results learns of each class so.
    """
    _LISTENERS.append(listener)
    listener(ModelOutput)
    for cls in _CLASSES:
        listener(cls)


class BaseModelOutput(ModelOutput):
    """`last_hidden_state` [B, Q, H]; `hidden_states` and `attentions` are tuples, one entry per layer."""

    last_hidden_state: Any
    hidden_states: Any
    attentions: Any


class BaseModelOutputWithPooling(ModelOutput):
    """As `BaseModelOutput`, with `pooler_output` [B, H]."""

    last_hidden_state: Any
    pooler_output: Any
    hidden_states: Any
    attentions: Any


class MaskedLMOutput(ModelOutput):
    """`loss` (scalar, with labels), `logits` [B, Q, vocab]."""

    loss: Any
    logits: Any
    hidden_states: Any
    attentions: Any


class SequenceClassifierOutput(ModelOutput):
    """`loss` (scalar, with labels), `logits` [B, labels]."""

    loss: Any
    logits: Any
    hidden_states: Any
    attentions: Any


class TokenClassifierOutput(ModelOutput):
    """`loss` (scalar, with labels), `logits` [B, Q, labels]."""

    loss: Any
    logits: Any
    hidden_states: Any
    attentions: Any


class QuestionAnsweringModelOutput(ModelOutput):
    """`loss` (scalar, with both positions), `start_logits` and `end_logits` [B, Q]."""

    loss: Any
    start_logits: Any
    end_logits: Any
    hidden_states: Any
    attentions: Any


class BaseModelOutputWithPast(ModelOutput):
    """As `BaseModelOutput`, with `past_key_values`, a cache: see `triptych.nn.cache`."""

    last_hidden_state: Any
    past_key_values: Any
    hidden_states: Any
    attentions: Any


class BaseModelOutputWithCrossAttentions(ModelOutput):
    """As `BaseModelOutput`, with `cross_attentions`, one entry per layer."""

    last_hidden_state: Any
    hidden_states: Any
    attentions: Any
    cross_attentions: Any


class BaseModelOutputWithPastAndCrossAttentions(ModelOutput):
    """As `BaseModelOutputWithPast`, with `cross_attentions`."""

    last_hidden_state: Any
    past_key_values: Any
    hidden_states: Any
    attentions: Any
    cross_attentions: Any


class BaseModelOutputWithPoolingAndCrossAttentions(ModelOutput):
    """As `BaseModelOutputWithPooling`, with `past_key_values` and `cross_attentions`."""

    last_hidden_state: Any
    pooler_output: Any
    hidden_states: Any
    past_key_values: Any
    attentions: Any
    cross_attentions: Any


class CausalLMOutputWithPast(ModelOutput):
    """`loss` (scalar, with labels), `logits` [B, Q, vocab], `past_key_values`."""

    loss: Any
    logits: Any
    past_key_values: Any
    hidden_states: Any
    attentions: Any


class CausalLMOutputWithCrossAttentions(ModelOutput):
    """As `CausalLMOutputWithPast`, with `cross_attentions`."""

    loss: Any
    logits: Any
    past_key_values: Any
    hidden_states: Any
    attentions: Any
    cross_attentions: Any


class SequenceClassifierOutputWithPast(ModelOutput):
    """As `SequenceClassifierOutput`, with `past_key_values`."""

    loss: Any
    logits: Any
    past_key_values: Any
    hidden_states: Any
    attentions: Any


class MultipleChoiceModelOutput(ModelOutput):
    """`loss` (scalar, with labels), `logits` [B, N], of the N texts among which one is to be chosen."""

    loss: Any
    logits: Any
    hidden_states: Any
    attentions: Any


class NextSentencePredictorOutput(ModelOutput):
    """`loss` (scalar, with labels), `logits` [B, 2]: whether the second text follows the first, or is a random one."""

    loss: Any
    logits: Any
    hidden_states: Any
    attentions: Any


class BertForPreTrainingOutput(ModelOutput):
    """`loss` (scalar, with both labels), `prediction_logits` [B, Q, vocab], `seq_relationship_logits` [B, 2]."""

    loss: Any
    prediction_logits: Any
    seq_relationship_logits: Any
    hidden_states: Any
    attentions: Any


class GPT2DoubleHeadsModelOutput(ModelOutput):
    """`loss` (scalar, with labels) of `logits` [B, C, Q, vocab], and `mc_loss` of `mc_logits` [B, C]."""

    loss: Any
    mc_loss: Any
    logits: Any
    mc_logits: Any
    past_key_values: Any
    hidden_states: Any
    attentions: Any


class ElectraForPreTrainingOutput(ModelOutput):
    """`loss` (scalar, with labels), `logits` [B, Q]: positive where a token seems replaced."""

    loss: Any
    logits: Any
    hidden_states: Any
    attentions: Any


class Seq2SeqModelOutput(ModelOutput):
    """`last_hidden_state` of the decoder [B, T, H], `past_key_values`, and the states of both stacks."""

    last_hidden_state: Any
    past_key_values: Any
    decoder_hidden_states: Any
    decoder_attentions: Any
    cross_attentions: Any
    encoder_last_hidden_state: Any
    encoder_hidden_states: Any
    encoder_attentions: Any


class Seq2SeqLMOutput(ModelOutput):
    """`loss` (scalar, with labels), `logits` [B, T, vocab], and the rest of `Seq2SeqModelOutput`."""

    loss: Any
    logits: Any
    past_key_values: Any
    decoder_hidden_states: Any
    decoder_attentions: Any
    cross_attentions: Any
    encoder_last_hidden_state: Any
    encoder_hidden_states: Any
    encoder_attentions: Any


class Seq2SeqSequenceClassifierOutput(ModelOutput):
    """`loss` (scalar, with labels), `logits` [B, labels], and the rest of `Seq2SeqModelOutput`."""

    loss: Any
    logits: Any
    past_key_values: Any
    decoder_hidden_states: Any
    decoder_attentions: Any
    cross_attentions: Any
    encoder_last_hidden_state: Any
    encoder_hidden_states: Any
    encoder_attentions: Any


class Seq2SeqQuestionAnsweringModelOutput(ModelOutput):
    """`loss` (scalar, with both positions), `start_logits` and `end_logits` [B, T], and the rest of
    `Seq2SeqModelOutput`."""

    loss: Any
    start_logits: Any
    end_logits: Any
    past_key_values: Any
    decoder_hidden_states: Any
    decoder_attentions: Any
    cross_attentions: Any
    encoder_last_hidden_state: Any
    encoder_hidden_states: Any
    encoder_attentions: Any
