"""When generation ends: criteria that Python looks at between two steps, the same objects in all three frameworks.

A criterion is called with `input_ids` int [R, L], the prompt and what was generated since, and with `scores`, a tuple
of those that are kept, float [R, V], or None. It returns whether each row is done, bool [R], or one bool for all.
For tensors of PyTorch those of this module return tensors, which users combine with `|`, and NumPy arrays otherwise.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from triptych.errors import ArgumentError, MissingMethodError
from triptych.generation.on_host import on_host

logger = logging.getLogger("triptych")


class StoppingCriteria:
    """Base of criteria, for users' own too; a function with the same arguments is a criterion as well."""

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        """Return whether each row is done: bool [R], or one bool for all."""
        raise MissingMethodError(f"{type(self).__name__} has no __call__.", remedy="define it in the subclass")


class MaxLengthCriteria(StoppingCriteria):
    """Done at `max_length` tokens, those of the prompt among them.

    Args:
        max_position_embeddings: the number of positions that the model knows; reaching it is warned of, once.
    """

    def __init__(self, max_length: int, max_position_embeddings: int | None = None) -> None:
        self.max_length = max_length
        self.max_position_embeddings = max_position_embeddings
        self._warned = False

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        length, positions = input_ids.shape[-1], self.max_position_embeddings
        done = length >= self.max_length
        if positions is not None and not done and length >= positions and not self._warned:
            logger.warning("generation goes beyond the %d positions that the model knows", positions)
            self._warned = True
        return _as_given(done, input_ids)


class MaxTimeCriteria(StoppingCriteria):
    """Done after `max_time` seconds, since now or since `initial_timestamp` (a `time.time()`)."""

    def __init__(self, max_time: float, initial_timestamp: float | None = None) -> None:
        self.max_time = max_time
        self.initial_timestamp = time.time() if initial_timestamp is None else initial_timestamp

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        return _as_given(time.time() - self.initial_timestamp > self.max_time, input_ids)


class EosTokenCriteria(StoppingCriteria):
    """Done where the last token is `eos_token_id`, or one of several."""

    def __init__(self, eos_token_id: Any) -> None:
        self.eos_token_id = eos_token_id

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        return _as_given(np.isin(on_host(input_ids[:, -1]), on_host(self.eos_token_id)), input_ids)


class StopStringCriteria(StoppingCriteria):
    """Done where a stop string ends in the last token, wherever in a token it begins and ends.

    The text is that of `tokenizer.decode`, special tokens included, of as many of the last tokens as a stop string can
    have, so a character of several tokens is found too.

    Args:
        tokenizer: a `tokenizers.Tokenizer`, a tokenizer of transformers, or any object with such a `decode`.

    Raises:
        ArgumentError: no tokenizer; no text, or an empty one.
    """

    def __init__(self, tokenizer: Any, stop_strings: str | Sequence[str]) -> None:
        self.stop_strings = (stop_strings,) if isinstance(stop_strings, str) else tuple(stop_strings)
        if not self.stop_strings or not all(isinstance(text, str) and text for text in self.stop_strings):
            raise ArgumentError("stop_strings is impossible.", expected="texts, none of them empty",
                                received=repr(stop_strings)[:80])  # fmt: skip
        if not callable(getattr(tokenizer, "decode", None)):
            raise ArgumentError("stop_strings are looked for in text.", expected="a tokenizer",
                                received=repr(tokenizer)[:80], remedy="pass tokenizer= as well")  # fmt: skip
        self._tokenizer = tokenizer
        self._options = {"skip_special_tokens": False}
        if hasattr(tokenizer, "clean_up_tokenization_spaces"):
            self._options["clean_up_tokenization_spaces"] = False
        # A token has a byte at least; the first of a text may lose its space.
        self._longest = 2 + max(len(text.encode()) for text in self.stop_strings)

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        return _as_given([self._ends(row) for row in on_host(input_ids)[:, -self._longest :].tolist()], input_ids)

    def _ends(self, tokens: list[int]) -> bool:
        text = self._tokenizer.decode(tokens, **self._options)
        found = [stop for stop in self.stop_strings if stop in text]
        if not found:
            return False
        before = self._tokenizer.decode(tokens[:-1], **self._options)
        known = next((n for n, (a, b) in enumerate(zip(before, text, strict=False)) if a != b), len(before))
        return any(stop in text[max(0, known - len(stop) + 1) :] for stop in found)


class ConfidenceCriteria(StoppingCriteria):
    """Done where a model is less sure of the last token of the first row than this probability; for assistants.

    Raises:
        ArgumentError: when called, there are no scores.
    """

    def __init__(self, assistant_confidence_threshold: float) -> None:
        self.assistant_confidence_threshold = assistant_confidence_threshold

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> bool:
        if scores is None or len(scores) == 0:
            raise ArgumentError("There are no scores to be sure by.", remedy="keep them: output_scores=True")
        latest = scores[-1] if isinstance(scores, (tuple, list)) else scores
        last = on_host(latest)[0].astype(np.float64)
        weights = np.exp(last - last.max())
        return bool(weights[int(on_host(input_ids)[0, -1])] / weights.sum() < self.assistant_confidence_threshold)


class StoppingCriteriaList(list[Any]):
    """Criteria, any of which ends a row."""

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        """Return bool [R]: whether a criterion says that the row is done.

        Raises:
            ArgumentError: a criterion returns something else than a bool or bool [R].
        """
        rows = input_ids.shape[0]
        done = np.zeros(rows, bool)
        for criterion in self:
            done |= _answer(criterion, criterion(input_ids, scores, **kwargs), rows)
        return _as_given(done, input_ids)

    @property
    def max_length(self) -> int | None:
        """The length of the first `MaxLengthCriteria`, if there is one."""
        return next((one.max_length for one in self if isinstance(one, MaxLengthCriteria)), None)


def stopped(criteria: StoppingCriteriaList, ids: Any, scores: Any, length: int) -> np.ndarray:
    """Return as NumPy's bool [R] which rows the criteria end.

    Args:
        ids: int [R, L], a buffer of which the first `length` columns hold tokens. Not traced.
        scores: those kept so far, a tuple of float [R, V], or None.
    """
    return on_host(criteria(ids if ids.shape[1] == length else ids[:, :length], scores))


def criteria_of(config: Any, tokenizer: Any = None, given: Iterable[Any] | None = None) -> StoppingCriteriaList:
    """Return the criteria that a `GenerationConfig` calls for and those that were `given` to `generate`.

    The greatest length and the end-of-sequence tokens are not among them: the loops know these, also compiled ones.

    Raises:
        ArgumentError: stop strings without a tokenizer; a criterion that cannot be called.
    """
    criteria = StoppingCriteriaList()
    if config.max_time is not None:
        criteria.append(MaxTimeCriteria(config.max_time))
    if config.stop_strings is not None:
        criteria.append(StopStringCriteria(tokenizer, config.stop_strings))
    for criterion in given or ():
        if not callable(criterion):
            raise ArgumentError("A stopping criterion is none.", expected="a StoppingCriteria or a function",
                                received=repr(criterion)[:80])  # fmt: skip
        criteria.append(criterion)
    return criteria


def _answer(criterion: Any, value: Any, rows: int) -> np.ndarray:
    done = on_host(value)
    if done.dtype != bool or done.shape not in ((), (rows,), (rows, 1)):
        raise ArgumentError(
            f"{type(criterion).__name__} says nothing of the rows.",
            expected=f"a bool, or bool of shape [{rows}]",
            received=f"{done.dtype} of shape {list(done.shape)}",
        )
    return np.broadcast_to(done.reshape(-1), (rows,))


def _as_given(done: Any, input_ids: Any) -> Any:
    """Return `done`, one bool or one for each row, as bool [R]: a tensor beside a tensor of PyTorch, else NumPy's."""
    rows = np.array(np.broadcast_to(on_host(done).astype(bool), (input_ids.shape[0],)))
    return input_ids.new_tensor(rows) > 0 if hasattr(input_ids, "new_tensor") else rows
