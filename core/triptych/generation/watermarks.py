"""Watermarks of generated text: lists of favoured tokens, and tournaments (SynthID Text).

Which tokens are favoured is decided by PyTorch's random numbers on a CPU, whatever the framework and device, so that
detectors find the marks; they are computed here, in numpy.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from triptych.errors import ArgumentError
from triptych.generation.on_host import on_host
from triptych.generation.processors import Processor, check, count, is_count, is_number

logger = logging.getLogger("triptych")

_TABLE_SIZE = 1_000_003
_TRIED = 40
"""Of how many tokens, the likeliest first, "selfhash" looks whether they would be favoured."""


def _raw(seed: int, size: int) -> np.ndarray:
    """Return the first numbers uint32 [size] of the generator of torch on a CPU after `manual_seed(seed)`."""
    return np.random.RandomState(seed & 0xFFFFFFFF).randint(0, 2**32, size, np.uint32)


def permutation(seed: int, size: int, first: int | None = None) -> np.ndarray:
    """Return the `first` (by default all) numbers of `torch.randperm(size)` after `manual_seed(seed)`, int64."""
    steps = min(size if first is None else first, max(size - 1, 0))
    offsets = (_raw(seed, steps) % (size - np.arange(steps))).tolist()
    order = list(range(size))
    for place, offset in enumerate(offsets):
        order[place], order[place + offset] = order[place + offset], order[place]
    return np.array(order[:first], np.int64)


@functools.lru_cache(maxsize=2)
def _fixed_table(seed: int) -> np.ndarray:
    return permutation(seed, _TABLE_SIZE)


class Watermark(Processor):
    """A list of favoured tokens, chosen by the tokens before, gets a bias in each step.

    Args:
        vocab_size: number of tokens among which the list is chosen.
        device: has no effect.
        greenlist_ratio, bias, hashing_key, seeding_scheme, context_width: as in `WatermarkingConfig`.

    Raises:
        ArgumentError: one of them is impossible.
    """

    eager_only = True

    def __init__(
        self,
        ops: Any,
        vocab_size: int,
        device: Any = None,
        greenlist_ratio: float = 0.25,
        bias: float = 2.0,
        hashing_key: int = 15485863,
        seeding_scheme: str = "lefthash",
        context_width: int = 1,
    ) -> None:
        super().__init__(ops)
        check(seeding_scheme in ("selfhash", "lefthash"), "seeding_scheme", "'lefthash' or 'selfhash'", seeding_scheme)
        legal = is_number(greenlist_ratio) and 0 < greenlist_ratio < 1
        check(legal, "greenlist_ratio", "a number between 0 and 1", greenlist_ratio)
        check(is_number(bias), "bias", "a number", bias)
        self.vocab_size = count(vocab_size, "vocab_size")
        self.greenlist_size = int(self.vocab_size * greenlist_ratio)
        self.bias = float(bias)
        self.hash_key = count(hashing_key, "hashing_key", least=0)
        self.seeding_scheme = seeding_scheme
        self.context_width = count(context_width, "context_width")

    def process(self, ids: Any, scores: Any, length: Any) -> Any:
        if length < self.context_width:
            logger.warning("no watermark in this step: %s tokens, where %s choose it", length, self.context_width)
            return scores
        texts = on_host(ids[:, :length]).astype(np.int64)
        green = np.zeros(tuple(scores.shape), np.bool_)
        likeliest = on_host(self.ops.argsort(scores, True)) if self.seeding_scheme == "selfhash" else None
        for row, text in enumerate(texts):
            green[row, self._green(text) if likeliest is None else self._green_of(text, likeliest[row])] = True
        return self.ops.where(self.ops.constant(green, scores), scores + self.bias, scores)

    def _green(self, text: np.ndarray) -> np.ndarray:
        return permutation(self._seed(text), self.vocab_size, self.greenlist_size)

    def _green_of(self, text: np.ndarray, likeliest: np.ndarray) -> list[int]:
        """Return which of the likeliest tokens are in the list that they themselves choose."""
        tried = likeliest[:_TRIED].astype(np.int64)
        return [int(token) for token in tried if token in self._green(np.append(text, token))]

    def _seed(self, text: np.ndarray) -> int:
        text = text[-self.context_width :]
        if self.seeding_scheme == "lefthash":
            return self.hash_key * int(text[-1]) % (2**64 - 1)
        table = _fixed_table(self.hash_key)
        one, other = table[text % _TABLE_SIZE] + 1, table[text[-1:] % _TABLE_SIZE] + 1
        return int((np.int64(self.hash_key) * one * other).min()) % (2**64 - 1)  # which goes around, as torch's does


class SynthIDTextWatermark(Processor):
    """Tournaments between tokens, seeded by the tokens before and by keys, change the distribution.

    Args:
        ngram_len, keys, sampling_table_size, sampling_table_seed, context_history_size, skip_first_ngram_calls,
            debug_mode: as in `SynthIDTextWatermarkingConfig`.
        device: has no effect.

    Raises:
        ArgumentError: one of them is impossible.
    """

    eager_only = True

    def __init__(
        self,
        ops: Any,
        ngram_len: int,
        keys: Sequence[int],
        sampling_table_size: int,
        sampling_table_seed: int,
        context_history_size: int,
        device: Any = None,
        skip_first_ngram_calls: bool = False,
        debug_mode: bool = False,
    ) -> None:
        super().__init__(ops)
        self.ngram_len = count(ngram_len, "ngram_len", least=2)
        legal = isinstance(keys, (list, tuple)) and len(keys) > 0 and all(is_count(key, -(2**63)) for key in keys)
        check(legal, "keys", "a list of integers", keys)
        self.keys = np.array(keys, np.int64)
        size, seed = count(sampling_table_size, "sampling_table_size"), count(sampling_table_seed, "seed", least=0)
        self.sampling_table = (_raw(seed, size) % 2).astype(np.int64)
        self.context_history_size = count(context_history_size, "context_history_size")
        self.skip_first_ngram_calls = skip_first_ngram_calls
        self.debug_mode = debug_mode
        self.reset()

    def reset(self) -> None:
        """Forget the contexts that were marked, as before another text."""
        self.num_calls = 0
        self.context = np.zeros((0, 0), np.int64)
        self.context_history = np.zeros((0, 0), np.int64)

    def process(self, ids: Any, scores: Any, length: Any) -> Any:
        ops = self.ops
        scores = ops.zeros_like(scores) + 1 if self.debug_mode else scores
        self._advance(ids, length)
        if self.skip_first_ngram_calls and self.num_calls < self.ngram_len:
            return scores
        of_context = _hashed(np.ones(len(self.context), np.int64), self.context)
        known = (self.context_history == of_context[:, None]).any(axis=1)
        self.context_history = np.concatenate([of_context[:, None], self.context_history], axis=1)[:, :-1]
        marked = self._marked(scores, self._bits(self._keyed(of_context, scores.shape[-1])))
        return ops.where(ops.constant(known[:, None], scores), scores, marked)

    def _advance(self, ids: Any, length: Any) -> None:
        if not self.num_calls:
            self.context = np.zeros((ids.shape[0], self.ngram_len - 1), np.int64)
            self.context_history = np.zeros((ids.shape[0], self.context_history_size), np.int64)
        else:
            last = on_host(ids[:, length - 1 : length]).astype(np.int64)
            self.context = np.concatenate([self.context, last], axis=1)[:, 1:]
        self.num_calls += 1

    def _keyed(self, of_context: np.ndarray, size: int) -> np.ndarray:
        """Return the hash int64 [rows, vocabulary, keys] of each next token with each key."""
        of_tokens = _hashed(of_context[:, None], np.arange(size)[None, :, None])
        return _hashed(of_tokens[:, :, None], self.keys[None, None, :, None])

    def _bits(self, hashes: np.ndarray) -> np.ndarray:
        return self.sampling_table[hashes % len(self.sampling_table)]

    def _marked(self, scores: Any, bits: np.ndarray) -> Any:
        """Return the scores after one tournament for each key; bits [rows, vocabulary, keys]."""
        ops = self.ops
        probabilities = ops.softmax(scores, scores.dtype)
        for key in range(bits.shape[-1]):
            won = ops.cast(ops.constant(bits[:, :, key], scores), scores.dtype)
            probabilities = probabilities * (1 + won - ops.sum_last(won * probabilities))
        return ops.maximum(ops.log(probabilities), ops.lowest(scores.dtype))

    # -- for detectors -------------------------------------------------------------------------------------------

    def compute_g_values(self, input_ids: Any) -> np.ndarray:
        """Return the bits int64 [rows, positions - ngram_len + 1, keys] of a text's tokens [rows, positions]."""
        grams = self._windows(input_ids, self.ngram_len)
        hashes = _hashed(np.ones(grams.shape[:2], np.int64), grams)
        return self._bits(_hashed(hashes[:, :, None], self.keys[None, None, :, None]))

    def compute_context_repetition_mask(self, input_ids: Any) -> np.ndarray:
        """Return bool [rows, positions - ngram_len + 1]: whether the tokens before were not there already."""
        contexts = self._windows(on_host(input_ids)[:, :-1], self.ngram_len - 1)
        hashes = _hashed(np.ones(contexts.shape[:2], np.int64), contexts)
        history = np.zeros((len(hashes), self.context_history_size), np.int64)
        fresh = np.ones(hashes.shape, np.bool_)
        for place in range(hashes.shape[1]):
            fresh[:, place] = ~(history == hashes[:, place, None]).any(axis=1)
            history = np.concatenate([hashes[:, place, None], history], axis=1)[:, :-1]
        return fresh

    def compute_eos_token_mask(self, input_ids: Any, eos_token_id: int) -> np.ndarray:
        """Return int64 [rows, positions]: 1 before the first token that ends the text, 0 from there."""
        return (np.cumsum(self._checked(input_ids) == eos_token_id, axis=1) == 0).astype(np.int64)

    def expected_mean_g_value(self, vocab_size: int, coinflip_prob: float = 0.5) -> float:
        """Return what the mean of a marked text's bits is on average, for a uniform distribution."""
        return coinflip_prob + coinflip_prob * (1 - coinflip_prob) * (1 - 1 / vocab_size)

    def _windows(self, input_ids: Any, size: int) -> np.ndarray:
        return np.lib.stride_tricks.sliding_window_view(self._checked(input_ids).astype(np.int64), size, axis=1)

    def _checked(self, input_ids: Any) -> np.ndarray:
        found = on_host(input_ids)
        if found.ndim != 2:
            raise ArgumentError("No text has this shape.", expected="[rows, positions]", received=str(found.shape))
        return found


def _hashed(start: np.ndarray, data: np.ndarray) -> np.ndarray:
    """Return hashes of what is in the last axis of `data`, int64; they go around at 2^63."""
    multiplier = np.array([6364136223846793005])
    for step in range(data.shape[-1]):
        start = (start + data[..., step]) * multiplier + 1
    return start
