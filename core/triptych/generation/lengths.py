"""Processors that force or forbid tokens, at certain lengths of the text or at all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from triptych.generation.processors import Processor, among, check, count, is_count, is_number, only, tokens, when


def without(ops: Any, chosen: Iterable[int], scores: Any) -> Any:
    """Return the scores with -inf for the chosen tokens."""
    return ops.where(among(ops, chosen, scores), -float("inf"), scores)


class MinLength(Processor):
    """The text does not end before it has `min_length` tokens, a decoder's prompt among them.

    Args:
        eos_token_id: the token that ends a text, or several.
        device: has no effect; tokens are where the scores are.

    Raises:
        ArgumentError: the length is no integer from 0, or these are no tokens.
    """

    def __init__(self, ops: Any, min_length: int, eos_token_id: Any, device: Any = None) -> None:
        super().__init__(ops)
        self.min_length = count(min_length, "min_length", least=0)
        self.eos_token_id = tokens(eos_token_id, "eos_token_id")

    def process(self, ids: Any, scores: Any, length: Any) -> Any:
        return when(self.ops, length < self.min_length, lambda: without(self.ops, self.eos_token_id, scores), scores)


class MinNewTokens(Processor):
    """The text does not end before `min_new_tokens` came after the prompt's `prompt_length_to_skip`.

    Args:
        prompt_length_to_skip: an integer, or in a compiled loop a scalar.
        eos_token_id: the token that ends a text, or several.
        device: has no effect; tokens are where the scores are.

    Raises:
        ArgumentError: a length is no integer from 0, or these are no tokens.
    """

    def __init__(
        self, ops: Any, prompt_length_to_skip: Any, min_new_tokens: int, eos_token_id: Any, device: Any = None
    ) -> None:
        super().__init__(ops)
        traced = hasattr(prompt_length_to_skip, "shape")
        self.prompt_length_to_skip = (
            prompt_length_to_skip if traced else count(prompt_length_to_skip, "prompt_length_to_skip", least=0)
        )
        self.min_new_tokens = count(min_new_tokens, "min_new_tokens", least=0)
        self.eos_token_id = tokens(eos_token_id, "eos_token_id")

    def process(self, ids: Any, scores: Any, length: Any) -> Any:
        short = length - self.prompt_length_to_skip < self.min_new_tokens
        return when(self.ops, short, lambda: without(self.ops, self.eos_token_id, scores), scores)


class ForcedBOS(Processor):
    """The second token is `bos_token_id`: such as the language of a translation.

    Raises:
        ArgumentError: it is no token; or, in the call, it is outside of the vocabulary.
    """

    def __init__(self, ops: Any, bos_token_id: int) -> None:
        super().__init__(ops)
        self.bos_token_id = count(bos_token_id, "bos_token_id", least=0)

    def process(self, ids: Any, scores: Any, length: Any) -> Any:
        return when(self.ops, length == 1, lambda: only(self.ops, [self.bos_token_id], scores, "bos_token_id"), scores)


class ForcedEOS(Processor):
    """The last of `max_length` tokens is `eos_token_id`, one token or one of several.

    Args:
        device: has no effect; tokens are where the scores are.

    Raises:
        ArgumentError: these are no tokens; or, in the call, one is outside of the vocabulary.
    """

    def __init__(self, ops: Any, max_length: int, eos_token_id: Any, device: Any = None) -> None:
        super().__init__(ops)
        self.max_length = max_length
        self.eos_token_id = tokens(eos_token_id, "eos_token_id")

    def process(self, ids: Any, scores: Any, length: Any) -> Any:
        last = length == self.max_length - 1
        return when(self.ops, last, lambda: only(self.ops, self.eos_token_id, scores, "eos_token_id"), scores)


class ForceTokens(Processor):
    """Certain positions have certain tokens.

    Args:
        force_token_map: pairs of a position, from 0, and its token; None is any token.

    Raises:
        ArgumentError: it is something else; or, in the call, a token is outside of the vocabulary.
    """

    def __init__(self, ops: Any, force_token_map: Any) -> None:
        super().__init__(ops)
        expected = "pairs of a position, from 0, and a token or None"
        pairs = list(force_token_map.items()) if isinstance(force_token_map, dict) else force_token_map
        legal = isinstance(pairs, (list, tuple)) and all(isinstance(p, (list, tuple)) and len(p) == 2 for p in pairs)
        check(legal, "force_token_map", expected, force_token_map)
        legal = all(is_count(place, 0) and (token is None or is_count(token, 0)) for place, token in pairs)
        check(legal, "force_token_map", expected, force_token_map)
        self.force_token_map = {int(place): int(token) for place, token in pairs if token is not None}

    def process(self, ids: Any, scores: Any, length: Any) -> Any:
        for place, token in self.force_token_map.items():
            scores = self._forced(place, token, scores, length)
        return scores

    def _forced(self, place: int, token: int, scores: Any, length: Any) -> Any:
        return when(self.ops, length == place, lambda: only(self.ops, [token], scores, "force_token_map"), scores)


class SuppressTokens(Processor):
    """These tokens do not come; those outside of the vocabulary have no effect.

    Args:
        device: has no effect; tokens are where the scores are.
    """

    def __init__(self, ops: Any, suppress_tokens: Iterable[int], device: Any = None) -> None:
        super().__init__(ops)
        self.suppress_tokens = _listed(suppress_tokens)

    def process(self, ids: Any, scores: Any, length: Any) -> Any:
        return without(self.ops, self.suppress_tokens, scores)


class SuppressTokensAtBegin(Processor):
    """These tokens do not come where the text has `begin_index` tokens; those outside of the vocabulary are no matter.

    Args:
        device: has no effect; tokens are where the scores are.
    """

    def __init__(self, ops: Any, begin_suppress_tokens: Iterable[int], begin_index: int, device: Any = None) -> None:
        super().__init__(ops)
        self.begin_suppress_tokens = _listed(begin_suppress_tokens)
        self.begin_index = begin_index

    def set_begin_index(self, begin_index: int) -> None:
        """Suppress them elsewhere from now on."""
        self.begin_index = begin_index

    def process(self, ids: Any, scores: Any, length: Any) -> Any:
        begins = length == self.begin_index
        return when(self.ops, begins, lambda: without(self.ops, self.begin_suppress_tokens, scores), scores)


def _listed(given: Any) -> list[int]:
    """Return integers, which may be negative: files have -1 for no token."""
    found = given.tolist() if hasattr(given, "tolist") else list(given)
    check(all(is_count(token, -(2**31)) for token in found), "suppress_tokens", "tokens", given)
    return found


class ExponentialDecayLengthPenalty(Processor):
    """The end of the text gets likelier with each token after a certain length.

    Args:
        exponential_decay_length_penalty: after how many new tokens it begins, and the factor for each token.
        eos_token_id: the token that ends a text, or several.
        input_ids_seq_length: length of the prompt.

    Raises:
        ArgumentError: it is no pair of numbers, or these are no tokens.
    """

    def __init__(
        self,
        ops: Any,
        exponential_decay_length_penalty: Sequence[float],
        eos_token_id: Any,
        input_ids_seq_length: int,
    ) -> None:
        super().__init__(ops)
        pair = exponential_decay_length_penalty
        legal = isinstance(pair, (tuple, list)) and len(pair) == 2 and all(is_number(value) for value in pair)
        check(legal, "exponential_decay_length_penalty", "a pair: number of tokens, factor", pair)
        self.regulation_start = pair[0] + input_ids_seq_length
        self.regulation_factor = float(pair[1])
        self.eos_token_id = tokens(eos_token_id, "eos_token_id")

    def process(self, ids: Any, scores: Any, length: Any) -> Any:
        return when(self.ops, length > self.regulation_start, lambda: self._raised(scores, length), scores)

    def _raised(self, scores: Any, length: Any) -> Any:
        raised = scores + abs(scores) * (self._power(length - self.regulation_start, scores) - 1)
        return self.ops.where(among(self.ops, self.eos_token_id, scores), raised, scores)

    def _power(self, steps: Any, scores: Any) -> Any:
        """Return factor ** steps, which float32 can hold."""
        most = float(np.finfo(np.float32).max)
        if not isinstance(steps, (int, float)):
            return self.ops.minimum(self.regulation_factor ** self.ops.cast(steps, "float32"), most)
        try:
            return min(self.regulation_factor**steps, most)
        except OverflowError:
            return most
