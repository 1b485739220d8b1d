"""Processors that ask Python in each step: a function of allowed tokens, a model without the prompt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from triptych.errors import ArgumentError
from triptych.generation.processors import Processor, check, count, is_number


class PrefixConstrained(Processor):
    """Only tokens come that a function allows after what there is.

    Args:
        prefix_allowed_tokens_fn: called with the number of the input in the batch and its tokens int [length];
            returns a list of tokens.
        num_beams: rows of scores for each input.

    Raises:
        ArgumentError: it is no function, or the beams are no positive integer; or, in the call, it allows no token, or
            one outside of the vocabulary.
    """

    eager_only = True

    def __init__(self, ops: Any, prefix_allowed_tokens_fn: Callable[[int, Any], Any], num_beams: int) -> None:
        super().__init__(ops)
        check(callable(prefix_allowed_tokens_fn), "prefix_allowed_tokens_fn", "a function", prefix_allowed_tokens_fn)
        self.prefix_allowed_tokens_fn = prefix_allowed_tokens_fn
        self.num_beams = count(num_beams, "num_beams")

    def process(self, ids: Any, scores: Any, length: Any) -> Any:
        allowed = np.zeros(tuple(scores.shape), np.bool_)
        for row in range(scores.shape[0]):
            allowed[row, self._allowed(row // self.num_beams, ids[row, :length], scores.shape[-1])] = True
        return self.ops.where(self.ops.constant(allowed, scores), scores, -float("inf"))

    def _allowed(self, number: int, text: Any, size: int) -> list[int]:
        found = self.prefix_allowed_tokens_fn(number, text)
        found = found.numpy() if hasattr(found, "numpy") and not hasattr(found, "tolist") else found
        found = found.tolist() if hasattr(found, "tolist") else found
        found = [int(token) for token in found] if isinstance(found, (list, tuple, set, range)) else []
        if not found or not all(0 <= token < size for token in found):
            raise ArgumentError(
                f"`prefix_allowed_tokens_fn` allows an impossible next token for input {number}.",
                expected=f"at least one token, all of them below {size}",
                received=repr(found)[:80],
                remedy="let it return the token that ends the text where nothing else may come",
            )
        return found


class ClassifierFreeGuidance(Processor):
    """Scores with the prompt are moved away from those without it; both come in one batch, [2 * rows, vocabulary].

    Raises:
        ArgumentError: the scale is not above 1; or, in the call, there are not twice as many scores as rows of ids.
    """

    def __init__(self, ops: Any, guidance_scale: float) -> None:
        super().__init__(ops)
        legal = is_number(guidance_scale) and guidance_scale > 1
        check(legal, "guidance_scale", "a number above 1", guidance_scale)
        self.guidance_scale = float(guidance_scale)

    def process(self, ids: Any, scores: Any, length: Any) -> Any:
        rows = ids.shape[0]
        if scores.shape[0] != 2 * rows:
            raise ArgumentError(
                "Guidance needs scores with the prompt, and after them as many without it.",
                expected=f"{2 * rows} rows of scores, for {rows} rows of ids",
                received=f"{scores.shape[0]} rows",
            )
        guided, unguided = scores[:rows], scores[rows:]
        return unguided + (guided - unguided) * self.guidance_scale


class Unconditional:
    """The logits of a model for a text that begins with other tokens than the one that is generated.

    Args:
        model: called with ids and `attention_mask`; returns an output with `logits` [rows, positions, vocabulary].
        ids: int [rows, positions], what it begins with; by default the last token of the prompt.
        attention_mask: int [rows, positions] of these ids; by default ones.
        use_cache: keep keys and values from step to step, where caches grow; elsewhere all is computed in each step.
    """

    def __init__(self, ops: Any, model: Any, ids: Any, attention_mask: Any, use_cache: bool) -> None:
        self.ops, self.model = ops, model
        self.ids, self.mask = ids, attention_mask
        self.use_cache = bool(use_cache) and ops.GROWING_CACHE
        self._cache: Any = None
        self._begun = False

    def __call__(self, ids: Any, length: Any) -> Any:
        last = ids[:, length - 1 : length]
        new = self._extend(last)
        more = {"use_cache": True, "past_key_values": self._cache} if self.use_cache else {}
        output = self.model(new if self.use_cache else self.ids, attention_mask=self.mask, **more)
        self._cache = getattr(output, "past_key_values", None) if self.use_cache else None
        return output.logits[:, -1]

    def _extend(self, last: Any) -> Any:
        """Take the last token to the ids, but in the first step; return what is new of them."""
        if self._begun:
            self.ids = self.ops.concat([self.ids, self.ops.cast(last, self.ids.dtype)], 1)
            self.mask = self.ops.concat([self.mask, self._ones(last, self.mask.dtype)], 1)
            return self.ids[:, -1:]
        self._begun = True
        self.ids = last if self.ids is None else self.ids
        self.mask = self._ones(self.ids, self.ids.dtype) if self.mask is None else self.mask
        return self.ids

    def _ones(self, like: Any, dtype: Any) -> Any:
        return self.ops.cast(self.ops.zeros_like(like) + 1, dtype)


class UnbatchedGuidance(Processor):
    """Logarithms of probabilities are moved away from those that the model gives without the prompt.

    Args:
        guidance_scale: 1 changes nothing but that; above 1 away, below 1 towards what comes without the prompt.
        model, unconditional_ids, unconditional_attention_mask, use_cache: those of `Unconditional`.
        unconditional: in their place, a function of ids [rows, positions] and their length that returns the logits
            [rows, vocabulary] of the next token without the prompt.

    Raises:
        ArgumentError: the scale is no number.
    """

    eager_only = True

    def __init__(
        self,
        ops: Any,
        guidance_scale: float,
        model: Callable[..., Any] | None = None,
        unconditional_ids: Any = None,
        unconditional_attention_mask: Any = None,
        use_cache: bool | None = True,
        unconditional: Callable[[Any, Any], Any] | None = None,
    ) -> None:
        super().__init__(ops)
        check(is_number(guidance_scale), "guidance_scale", "a number", guidance_scale)
        self.guidance_scale = float(guidance_scale)
        if unconditional is None:
            check(callable(model), "model", "a model", model)
            unconditional = Unconditional(ops, model, unconditional_ids, unconditional_attention_mask, bool(use_cache))
        self.unconditional = unconditional

    def process(self, ids: Any, scores: Any, length: Any) -> Any:
        scores = self.ops.log_softmax(scores)
        if self.guidance_scale == 1:
            return scores
        unguided = self.ops.log_softmax(self.unconditional(ids, length))
        return self.guidance_scale * (scores - unguided) + unguided
