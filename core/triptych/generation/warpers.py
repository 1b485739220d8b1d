"""Processors that change the distribution from which the next token is drawn, whatever the text is."""

from __future__ import annotations

from typing import Any

import numpy as np

from triptych.generation.processors import Processor, check, count, is_number, positive

LOWEST = -float("inf")


class Temperature(Processor):
    """Scores are divided by the temperature: below 1 the likely becomes likelier.

    Raises:
        ArgumentError: the temperature is not above 0.
    """

    def __init__(self, ops: Any, temperature: float) -> None:
        super().__init__(ops)
        if is_number(temperature) and temperature == 0:
            check(False, "temperature", "a number above 0; for the likeliest token alone, do_sample=False", temperature)
        self.temperature = positive(temperature, "temperature")

    def process(self, ids: Any, scores: Any, length: Any) -> Any:
        return scores / self.temperature


class _Filter(Processor):
    """Base of those that remove tokens: their scores become `filter_value`."""

    def __init__(self, ops: Any, filter_value: float, min_tokens_to_keep: int) -> None:
        super().__init__(ops)
        self.filter_value = filter_value
        self.min_tokens_to_keep = count(min_tokens_to_keep, "min_tokens_to_keep")

    def process(self, ids: Any, scores: Any, length: Any) -> Any:
        return self.ops.where(self.removed(scores), self.filter_value, scores)

    def removed(self, scores: Any) -> Any:
        """Return bool [rows, vocabulary]: which tokens are removed."""
        raise NotImplementedError

    def probabilities(self, scores: Any) -> Any:
        return self.ops.softmax(scores, scores.dtype)

    def _below_best(self, scores: Any, best: int) -> Any:
        """Return which scores are below those of the `best` largest."""
        values, _ = self.ops.topk(scores, min(best, scores.shape[-1]))
        return scores < values[:, -1:]

    def _first(self, order: Any, size: int) -> Any:
        """Return which tokens are the first `min_tokens_to_keep` in an order."""
        first = order[:, : self.min_tokens_to_keep]
        return self.ops.counts(first, first >= 0, size) > 0


class TopK(_Filter):
    """Only the `top_k` likeliest tokens stay, and those as likely as the last of them.

    Raises:
        ArgumentError: `top_k` or `min_tokens_to_keep` is no positive integer.
    """

    def __init__(self, ops: Any, top_k: int, filter_value: float = LOWEST, min_tokens_to_keep: int = 1) -> None:
        super().__init__(ops, filter_value, min_tokens_to_keep)
        self.top_k = max(count(top_k, "top_k"), min_tokens_to_keep)

    def removed(self, scores: Any) -> Any:
        return self._below_best(scores, self.top_k)


class TopP(_Filter):
    """Only the likeliest tokens stay, as many as have together a probability of `top_p`.

    Raises:
        ArgumentError: `top_p` is not from 0 to 1, or `min_tokens_to_keep` no positive integer.
    """

    def __init__(self, ops: Any, top_p: float, filter_value: float = LOWEST, min_tokens_to_keep: int = 1) -> None:
        super().__init__(ops, filter_value, min_tokens_to_keep)
        check(is_number(top_p) and 0 <= top_p <= 1, "top_p", "a number from 0 to 1", top_p)
        self.top_p = float(top_p)

    def removed(self, scores: Any) -> Any:
        ops = self.ops
        order = ops.argsort(scores, False)
        reached = ops.cumsum(self.probabilities(ops.take_along(scores, order)))
        place = ops.arange(scores.shape[-1], scores)
        removed = (reached <= 1 - self.top_p) & (place < scores.shape[-1] - self.min_tokens_to_keep)
        return ops.put_along(removed, order)


class MinP(_Filter):
    """Only tokens stay whose probability is at least `min_p` times that of the likeliest.

    Raises:
        ArgumentError: `min_p` is not from 0 to 1, or `min_tokens_to_keep` no positive integer.
    """

    def __init__(self, ops: Any, min_p: float, filter_value: float = LOWEST, min_tokens_to_keep: int = 1) -> None:
        super().__init__(ops, filter_value, min_tokens_to_keep)
        check(is_number(min_p) and 0 <= min_p <= 1, "min_p", "a number from 0 to 1", min_p)
        self.min_p = float(min_p)

    def removed(self, scores: Any) -> Any:
        probabilities = self.probabilities(scores)
        removed = probabilities < self.min_p * self.ops.max_last(probabilities)
        if self.min_tokens_to_keep == 1:  # the likeliest always stays
            return removed
        return removed & ~self._first(self.ops.argsort(scores, True), scores.shape[-1])


class Typical(_Filter):
    """Only tokens stay whose surprise is nearest to what is expected, as many as have together the probability `mass`.

    Raises:
        ArgumentError: `mass` is not between 0 and 1, or `min_tokens_to_keep` no positive integer.
    """

    def __init__(self, ops: Any, mass: float = 0.9, filter_value: float = LOWEST, min_tokens_to_keep: int = 1) -> None:
        super().__init__(ops, filter_value, min_tokens_to_keep)
        check(is_number(mass) and 0 < mass < 1, "mass", "a number between 0 and 1", mass)
        self.mass = float(mass)

    def removed(self, scores: Any) -> Any:
        ops, size = self.ops, scores.shape[-1]
        logs = ops.log_softmax(scores)
        parts = logs * ops.exp(logs)
        entropy = -ops.sum_last(ops.where(parts != parts, 0.0, parts))  # what is impossible is 0 * -inf
        distance = abs(-logs - entropy)
        order = ops.argsort(distance, False)
        reached = ops.cumsum(self.probabilities(ops.take_along(scores, order)))
        last = ops.minimum(ops.sum_last(ops.cast(reached < self.mass, "int32")), size - 1)
        removed = distance > ops.take_along(ops.take_along(distance, order), ops.cast(last, order.dtype))
        return removed if self.min_tokens_to_keep == 1 else removed & ~self._first(order, size)


class Epsilon(_Filter):
    """Only tokens stay whose probability is at least `epsilon`, and those as likely as the last that must be kept.

    Raises:
        ArgumentError: `epsilon` is not between 0 and 1, or `min_tokens_to_keep` no positive integer.
    """

    def __init__(self, ops: Any, epsilon: float, filter_value: float = LOWEST, min_tokens_to_keep: int = 1) -> None:
        super().__init__(ops, filter_value, min_tokens_to_keep)
        check(is_number(epsilon) and 0 < epsilon < 1, "epsilon", "a number between 0 and 1", epsilon)
        self.epsilon = float(epsilon)

    def removed(self, scores: Any) -> Any:
        return (self.probabilities(scores) < self.epsilon) & self._below_best(scores, self.min_tokens_to_keep)


class Eta(_Filter):
    """As `Epsilon`, by a threshold that is lower where the distribution is flat: `min(e, sqrt(e) * exp(-entropy))`.

    Args:
        device: has no effect; all is where the scores are.

    Raises:
        ArgumentError: `epsilon` is not between 0 and 1, or `min_tokens_to_keep` no positive integer.
    """

    def __init__(
        self,
        ops: Any,
        epsilon: float,
        filter_value: float = LOWEST,
        min_tokens_to_keep: int = 1,
        device: Any = None,
    ) -> None:
        super().__init__(ops, filter_value, min_tokens_to_keep)
        check(is_number(epsilon) and 0 < epsilon < 1, "epsilon", "a number between 0 and 1", epsilon)
        self.epsilon = float(epsilon)

    def removed(self, scores: Any) -> Any:
        ops, probabilities = self.ops, self.probabilities(scores)
        logs = ops.maximum(ops.log_softmax(scores), ops.lowest(scores.dtype))
        root = float(np.sqrt(np.float32(self.epsilon)))
        threshold = ops.minimum(root * ops.exp(ops.sum_last(logs * probabilities)), self.epsilon)
        return (probabilities < threshold) & self._below_best(scores, self.min_tokens_to_keep)


class InfNanRemove(Processor):
    """What is no number becomes 0, what is infinite the largest or smallest number of the dtype."""

    def process(self, ids: Any, scores: Any, length: Any) -> Any:
        ops, lowest = self.ops, self.ops.lowest(scores.dtype)
        kept = ops.where(scores != scores, 0.0, scores)
        return ops.minimum(ops.maximum(kept, lowest), -lowest)


class LogitNormalization(Processor):
    """Scores become logarithms of probabilities."""

    def process(self, ids: Any, scores: Any, length: Any) -> Any:
        return self.ops.log_softmax(scores)
