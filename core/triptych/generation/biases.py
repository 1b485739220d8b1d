"""Processors that bias what ends a sequence of tokens, or forbid it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from triptych.errors import ArgumentError
from triptych.generation.processors import Processor, as_tokens, check, is_count, is_number, tail, tokens

_EXPECTED = "tuples of tokens (integers from 0) -> numbers, or a list of pairs of both, and not empty"


def _biases_of(given: Any) -> dict[tuple[int, ...], float]:
    """Return sequence -> bias of a mapping, or of a list of pairs."""
    pairs = list(given.items()) if isinstance(given, Mapping) else given
    check(isinstance(pairs, (list, tuple)) and len(pairs) > 0, "sequence_bias", _EXPECTED, given)
    check(all(isinstance(p, (list, tuple)) and len(p) == 2 for p in pairs), "sequence_bias", _EXPECTED, given)
    for sequence, bias in pairs:
        legal = isinstance(sequence, (list, tuple)) and len(sequence) > 0 and is_number(bias)
        check(legal and all(is_count(token, 0) for token in sequence), "sequence_bias", _EXPECTED, (sequence, bias))
    return {tuple(int(token) for token in sequence): float(bias) for sequence, bias in pairs}


class SequenceBias(Processor):
    """Each sequence of tokens has a bias that its last token gets where the others are the last ones of the text.

    Args:
        sequence_bias: tuples of tokens -> numbers, or a list of pairs `[[tokens], number]`.

    Raises:
        ArgumentError: it is something else or empty; or, in the call, a token is outside of the vocabulary.
    """

    def __init__(self, ops: Any, sequence_bias: Any) -> None:
        super().__init__(ops)
        self.sequence_bias = _biases_of(sequence_bias)
        self._groups = _grouped(self.sequence_bias)

    def process(self, ids: Any, scores: Any, length: Any) -> Any:
        ops = self.ops
        self._check_vocabulary(scores.shape[-1])
        bias = ops.zeros_like(scores)
        for prefixes, last, values in self._groups:
            if prefixes.shape[1] + 1 > ids.shape[1] and prefixes.shape[1]:
                continue
            matches = ops.constant(np.ones((1, len(last)), np.bool_), ids)
            if prefixes.shape[1]:
                matches = matches & (length > prefixes.shape[1])
            for step, token in enumerate(tail(ops, ids, length, prefixes.shape[1])):
                matches = matches & (token == as_tokens(ops, prefixes[None, :, step], ids))
            added = ops.where(matches, ops.cast(ops.constant(values[None], scores), scores.dtype), 0.0)
            bias = ops.add_at(bias, ops.constant(last, ids), added)
        return scores + bias

    def _check_vocabulary(self, size: int) -> None:
        outside = sorted({token for sequence in self.sequence_bias for token in sequence if token >= size})
        if outside:
            raise ArgumentError(
                "Biased tokens are outside of the vocabulary.",
                expected=f"tokens below {size}",
                received=repr(outside)[:80],
            )


def _grouped(biases: Mapping[tuple[int, ...], float]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return prefixes int [n, length - 1], last tokens int [n] and biases [n] of sequences of one length.

    No last token is in a group twice: then it is certain in which order biases are added.
    """
    seen: Counter[tuple[int, int]] = Counter()
    groups: dict[tuple[int, int], list[tuple[int, ...]]] = defaultdict(list)
    for sequence in biases:
        key = len(sequence), sequence[-1]
        groups[len(sequence), seen[key]].append(sequence)
        seen[key] += 1
    return [
        (
            np.array([sequence[:-1] for sequence in group], np.int32).reshape(len(group), -1),
            np.array([sequence[-1] for sequence in group], np.int32),
            np.array([biases[sequence] for sequence in group], np.float32),
        )
        for group in groups.values()
    ]


class NoBadWords(SequenceBias):
    """None of these sequences of tokens comes.

    Args:
        bad_words_ids: lists of tokens.
        eos_token_id: a sequence that is one of these tokens alone stays allowed.

    Raises:
        ArgumentError: there is nothing to forbid, or it is no list of lists of tokens; or, in the call, a token is
            outside of the vocabulary.
    """

    def __init__(self, ops: Any, bad_words_ids: Sequence[Sequence[int]], eos_token_id: Any = None) -> None:
        expected = "a list of lists of tokens (integers from 0), none of them empty"
        legal = isinstance(bad_words_ids, list) and len(bad_words_ids) > 0
        legal = legal and all(isinstance(word, list) and len(word) > 0 for word in bad_words_ids)
        legal = legal and all(is_count(token, 0) for word in bad_words_ids for token in word)
        check(legal, "bad_words_ids", expected, bad_words_ids)
        ends = [] if eos_token_id is None else tokens(eos_token_id, "eos_token_id")
        words = [tuple(word) for word in bad_words_ids if not (len(word) == 1 and word[0] in ends)]
        check(len(words) > 0, "bad_words_ids", "words beside the end of the text", bad_words_ids)
        self.bad_word_ids = bad_words_ids
        super().__init__(ops, dict.fromkeys(words, -float("inf")))
