"""What a model returns: ordered, by attribute, by name or by position; absent values are left out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

_CLASSES: list[type[ModelOutput]] = []
_LISTENERS: list[Callable[[type[ModelOutput]], None]] = []
_USED: list[type[ModelOutput]] = []
_LATE_LISTENERS: list[Callable[[type[ModelOutput]], None]] = []


class ModelOutput(OrderedDict[str, Any]):
    """A result whose fields are the class's annotations. A declared field without value reads as None.

    `output[0]`, `output[:2]` and `output.to_tuple()` see only the fields that have a value. A subclass may be a
    dataclass (`dataclasses`, or `flax.struct`), whose constructor then takes the fields by position, too. A field that
    is set is set as attribute and as item; none can be taken away.
    """

    _names: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        annotated = (base.__dict__.get("__annotations__", ()) for base in reversed(cls.__mro__))
        cls._names = tuple(dict.fromkeys(name for names in annotated for name in names if name[0] != "_"))
        _CLASSES.append(cls)
        for listener in _LISTENERS:
            listener(cls)
        if cls.__module__.startswith("triptych.nn."):
            _use(cls)  # it is whole already; and what PyTorch compiles makes objects, but cannot tell listeners

    def __new__(cls, *args: Any, **fields: Any) -> Any:
        if cls not in _USED:
            _use(cls)
        return super().__new__(cls)

    def __init__(self, *args: Any, **fields: Any) -> None:
        super().__init__()
        pairs = _pairs(args[0]) if len(args) == 1 else None
        given = dict(zip(self._names, args, strict=False)) if pairs is None else pairs
        for name, value in {**given, **fields}.items():
            if value is not None:
                self[name] = value

    def __post_init__(self) -> None:
        """Take the values that the constructor of a dataclass has set as attributes; a mapping, or a list of pairs, as
        the only value stands for the fields themselves."""
        names = self._names
        given = {name: value for name in names if (value := self.__dict__.get(name)) is not None}
        pairs = _pairs(given[names[0]]) if names and [*given] == [names[0]] else None
        if pairs is not None:
            self.__dict__.pop(names[0])
            given = pairs
        super().clear()
        for name, value in given.items():
            self[name] = value

    @classmethod
    def fields(cls) -> list[str]:
        """Return the declared field names, in order."""
        return [*cls._names]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self:
            return super().__getitem__(name)
        if name in self._names:
            return None
        raise AttributeError(f"{type(self).__name__} has no field {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if value is not None and name in self._names:
            super().__setitem__(name, value)
        super().__setattr__(name, value)

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self.__dict__[key] = value  # not by setattr, which a frozen dataclass refuses

    def __delitem__(self, key: Any) -> None:
        raise TypeError(f"fields of a {type(self).__name__} cannot be deleted")

    def __reduce__(self) -> Any:
        return _rebuilt, (type(self), tuple(self.items()))

    def __copy__(self) -> Any:
        return _rebuilt(type(self), tuple(self.items()))

    def to_tuple(self) -> tuple[Any, ...]:
        """Return the values that are there, in order."""
        return tuple(super(ModelOutput, self).__getitem__(name) for name in self)


def _use(cls: type[ModelOutput]) -> None:
    _USED.append(cls)
    for listener in _LATE_LISTENERS:
        listener(cls)


def _refused(name: str) -> Callable[..., Any]:
    def method(self: ModelOutput, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"{type(self).__name__} has no `{name}`: its fields stay")

    return method


for _name in ("pop", "popitem", "clear", "update", "setdefault"):
    setattr(ModelOutput, _name, _refused(_name))


def _pairs(value: Any) -> dict[str, Any] | None:
    """Return the fields that a mapping or a list of pairs stands for; None if it is a value."""
    if isinstance(value, (Mapping, Iterator)):
        return dict(value)
    whole = isinstance(value, (list, tuple)) and len(value) > 0
    named = whole and all(isinstance(one, (list, tuple)) and len(one) == 2 and isinstance(one[0], str) for one in value)
    return dict(value) if named else None


def _rebuilt(cls: type[ModelOutput], items: Iterable[tuple[str, Any]]) -> ModelOutput:
    made = cls.__new__(cls)
    for name, value in items:
        made[name] = value
    return made


def on_each_class(listener: Callable[[type[ModelOutput]], None]) -> None:
    """Call `listener` with every output class: those there are, and those yet to be made.

    A framework that looks into results learns of each class so.
    """
    _LISTENERS.append(listener)
    listener(ModelOutput)
    for cls in _CLASSES:
        listener(cls)


def on_first_use(listener: Callable[[type[ModelOutput]], None]) -> None:
    """Call `listener` with every output class of which there is an object, now or later: when the class is whole, and
    its decorators have run."""
    _LATE_LISTENERS.append(listener)
    for cls in _USED:
        listener(cls)


def field_of(outputs: Any, name: str) -> Any:
    """Return a field of what a model returned: an output, a mapping, or an object of a class of its own; or None."""
    return outputs.get(name) if isinstance(outputs, Mapping) else getattr(outputs, name, None)


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
