"""What changes the scores of the next token before one is chosen: the base class, lists of them, users' own.

A processor is made with the `ops` of a backend and called with
    ids: int [rows, positions], a buffer; rows are those of the batch times its beams.
    scores: float [rows, vocabulary] of the next token.
    length: how many of the positions hold tokens, a Python int or, in compiled loops, a scalar that is traced.
It returns scores, new ones; what it is given stays as it was.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from triptych.errors import ArgumentError, MissingMethodError
from triptych.generation.arguments import require_signature


class Processor:
    """Base of all processors. In the classes of a backend `ops` is a class attribute, so that instances pickle."""

    ops: Any = None
    eager_only = False
    """Whether it runs Python in each step, so that no compiled loop can have it."""
    needs: tuple[str, ...] = ()
    """Names of what a call needs beside ids, scores and length."""

    def __init__(self, ops: Any) -> None:
        if self.ops is not ops:
            self.ops = ops

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        computes = [base for base in cls.__bases__ if issubclass(base, Processor) and base.ops is None]
        if cls.ops is None or computes in ([], [Processor]):
            return
        if "__init__" not in vars(cls):
            cls.__init__ = _without_ops(computes[0])  # type: ignore[method-assign]
        cls.__doc__ = cls.__doc__ or computes[0].__doc__

    def process(self, ids: Any, scores: Any, length: Any) -> Any:
        """Return the scores after this processor.

        Raises:
            MissingMethodError: it is the base class itself, which only its subclasses can be called for.
        """
        raise MissingMethodError(
            f"{type(self).__name__} processes nothing.",
            expected="a subclass that has `__call__`",
            remedy="write `__call__` in it, or use one of the processors that there are",
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.process(*args, **kwargs)


def _without_ops(core: type[Processor]) -> Callable[..., None]:
    """Return the constructor of a backend's class: that of `core`, with the backend's `ops` before its arguments."""

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        core.__init__(self, self.ops, *args, **kwargs)

    signature = inspect.signature(core.__init__)
    shown = [parameter for name, parameter in signature.parameters.items() if name != "ops"]
    __init__.__signature__ = signature.replace(parameters=shown)  # type: ignore[attr-defined]
    return __init__


class Custom(Processor):
    """A processor of a user, called as its framework does: `(ids, scores)`, or `(ids, scores, length)`."""

    def __init__(self, ops: Any, processor: Callable[..., Any]) -> None:
        super().__init__(ops)
        self.processor = processor
        self.eager_only = getattr(processor, "eager_only", False)
        given = 3 if ops.CALLS_WITH_LENGTH else 2
        self.needs = needs_of(processor, given)
        expected = f"a function of tokens and scores{', and the length' * (given == 3)}"
        require_signature(processor, given, "logits_processor", expected, self.needs)

    def process(self, ids: Any, scores: Any, length: Any, **more: Any) -> Any:
        if self.ops.CALLS_WITH_LENGTH:
            found = self.processor(ids, scores, length, **more)
        else:
            found = self.processor(ids[:, :length], scores, **more)
        if getattr(found, "shape", None) != scores.shape:
            raise ArgumentError(
                f"{getattr(self.processor, '__name__', type(self.processor).__name__)} returns no scores.",
                expected=f"an array {list(scores.shape)}", received=str(getattr(found, "shape", type(found).__name__)),
            )  # fmt: skip
        return self.ops.constant(found, scores) if isinstance(found, np.ndarray) else found


class ProcessorList(list[Processor]):
    """Processors that are applied one after the other."""

    def __call__(self, ids: Any, scores: Any, length: Any, **more: Any) -> Any:
        """Return the scores after all; `more` goes to those that need it, by name.

        Raises:
            ArgumentError: one needs what is not in `more`.
        """
        for processor in self:
            scores = processor.process(ids, scores, length, **taken(processor, processor.needs, more))
        return scores


def apply_all(processors: Iterable[Any], arguments: tuple[Any, ...], more: Mapping[str, Any]) -> Any:
    """Return the scores after processors that are called as users see them.

    Args:
        arguments: what each gets by position; the second are the scores.
        more: what those get by name that have further arguments.

    Raises:
        ArgumentError: one has further arguments that are not in `more`.
    """
    ids, scores, *rest = arguments
    for processor in processors:
        scores = processor(ids, scores, *rest, **taken(processor, needs_of(processor, len(arguments)), more))
    return scores


def needs_of(processor: Callable[..., Any], given: int) -> tuple[str, ...]:
    """Return the names of the arguments that must be given after the first `given`."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = [p for p in inspect.signature(processor).parameters.values() if p.kind in named]
    return tuple(p.name for p in parameters[given:] if p.default is p.empty)


def taken(processor: Any, needs: Iterable[str], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `processor` needs of `more`."""
    lacking = [name for name in needs if name not in more]
    if lacking:
        raise ArgumentError(
            f"{type(processor).__name__} cannot be called without further arguments.",
            expected=", ".join(needs),
            received=", ".join(more) or "none",
            remedy="pass them by name in the call of the list",
        )
    return {name: more[name] for name in needs}


def refuse_eager_only(processors: Iterable[Processor]) -> None:
    """Refuse what cannot be in a compiled loop.

    Raises:
        ArgumentError: names the processors and the way out.
    """
    found = [type(getattr(one, "processor", one)).__name__ for one in processors if one.eager_only]
    if found:
        raise ArgumentError(
            "These processors run Python in each step, which a compiled loop cannot.",
            received=", ".join(found),
            remedy="generate eagerly: outside of tf.function in TensorFlow, with trace=False in Flax",
        )


# -- what the processors share -----------------------------------------------------------------------------------


def check(holds: bool, name: str, expected: str, value: Any) -> None:
    """Raise ArgumentError unless the argument is as expected."""
    if not holds:
        raise ArgumentError(f"`{name}` is impossible.", expected=expected, received=repr(value)[:80])


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def is_count(value: Any, least: int) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value >= least)


def positive(value: Any, name: str) -> float:
    """Return a positive number as a float."""
    check(is_number(value) and 0 < value < float("inf"), name, "a number above 0", value)
    return float(value)


def count(value: Any, name: str, least: int = 1) -> int:
    """Return an integer that is at least `least`."""
    check(is_count(value, least), name, f"an integer of at least {least}", value)
    return int(value)


def tokens(value: Any, name: str) -> list[int]:
    """Return one token, or several in a list, an array or a tensor, as integers."""
    found = value.numpy() if hasattr(value, "numpy") and not hasattr(value, "tolist") else value
    found = found.tolist() if hasattr(found, "tolist") else found
    found = list(found) if isinstance(found, (list, tuple, set, range)) else [found]
    check(all(is_count(token, 0) for token in found), name, "tokens: integers from 0", value)
    return [int(token) for token in found]


def among(ops: Any, chosen: Iterable[int], scores: Any) -> Any:
    """Return bool [vocabulary]: which tokens are among the chosen."""
    size = scores.shape[-1]
    mask = np.zeros(size, np.bool_)
    mask[[token for token in chosen if 0 <= token < size]] = True
    return ops.constant(mask, scores)


def only(ops: Any, chosen: Iterable[int], scores: Any, name: str) -> Any:
    """Return scores that are 0 for the chosen tokens and -inf for all others.

    Raises:
        ArgumentError: a token is outside of the vocabulary.
    """
    size = scores.shape[-1]
    check(all(token < size for token in chosen), name, f"tokens below {size}, the size of the vocabulary", chosen)
    return ops.where(among(ops, chosen, scores), ops.zeros_like(scores), -float("inf"))


def when(ops: Any, condition: Any, change: Callable[[], Any], scores: Any) -> Any:
    """Return what `change` returns where the condition holds, which is a Python bool or traced; else the scores."""
    if isinstance(condition, (bool, np.bool_)):
        return change() if condition else scores
    return ops.where(condition, change(), scores)


def as_tokens(ops: Any, values: Any, ids: Any) -> Any:
    """Return values of Python as a tensor that can be compared with `ids`."""
    return ops.cast(ops.constant(np.asarray(values, np.int32), ids), ids.dtype)


def tail(ops: Any, ids: Any, length: Any, size: int) -> list[Any]:
    """Return the last `size` tokens, each [rows, 1]; what there is not is any token."""
    places = [length - size + step for step in range(size)]
    return [ops.column(ids, max(place, 0) if isinstance(place, int) else place) for place in places]


def repeated_rows(ops: Any, x: Any, rows: int) -> Any:
    """Return x [inputs, ...] with each row as often as there are beams, so that there are `rows`."""
    beams = rows // x.shape[0]
    return x if beams == 1 else ops.repeat(x, beams)
