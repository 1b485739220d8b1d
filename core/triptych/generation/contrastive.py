"""Contrastive search, once for all frameworks: of the most probable tokens, the one least like the text before it.

Su et al., 2022, https://arxiv.org/abs/2202.06417. Shapes beside those of `triptych.generation.steps`: K candidates of
each text; C columns of hidden states, of H units: those of the buffer, behind places of the prompt that are no tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from triptych.generation.buckets import widened
from triptych.generation.search import Search
from triptych.generation.steps import OF_ROWS
from triptych.nn import cache as caches
from triptych.nn.outputs import field_of


@dataclass
class Contrast:
    """How a candidate is chosen.

    Args:
        candidates: how many of the most probable tokens.
        alpha: how much likeness counts, from 0 to 1; probability counts for the rest.
        mask: which columns of the prompt count, [B, P], or None for all.
    """

    candidates: int
    alpha: float
    mask: Any = None


def contrastive_search(search: Search, contrast: Contrast, ids: Any, length: Any) -> tuple[Any, Any]:
    """Append tokens to the prompts until every row is finished or there is no room. The model is called with
    `output_hidden_states`.

    Args:
        ids: buffer [B, L] of padding, with the prompts in its first `length` columns.

    Returns:
        The buffer [B, L], and its length.
    """
    ops, steps = search.ops, search.steps
    logits, held = steps.first(ids, length)
    contrast = replace(contrast, candidates=min(contrast.candidates, logits.shape[-1]))
    run = _Run(search, contrast, ids, steps.outputs)
    held = steps.repeated(held, run.count)
    finished = ops.zeros_like(logits[:, 0]) > 0
    state = ids, length, finished, logits, run.directions, held
    ids, length, *_, held = search.loop(run.goes_on, run.body, state)
    search.watch.close(lambda: run.cache(held))
    return ids, length


class _Run:
    def __init__(self, search: Search, contrast: Contrast, ids: Any, outputs: Any) -> None:
        self.search, self.ops, self.steps, self.alpha = search, search.ops, search.steps, contrast.alpha
        self.outputs = outputs
        """What the model returned for the last token that was chosen."""
        self.count, self.texts = contrast.candidates, ids.shape[0]
        states = self.steps.states()
        self.offset = states.shape[1] - self.steps.width
        columns = ids.shape[1] + self.offset
        self.directions = widened(self.ops, _direction(self.ops, states), columns, 0)
        self.mask = None if contrast.mask is None else widened(self.ops, contrast.mask, columns, 1)

    def goes_on(self, ids: Any, length: Any, finished: Any, *rest: Any) -> Any:
        return self.search.goes_on(length, finished)

    def body(
        self, ids: Any, length: Any, finished: Any, logits: Any, directions: Any, held: Any
    ) -> tuple[Any, Any, Any, Any, Any, Any]:
        """Append one token; `logits` [B, V] are for it, `directions` [B, C, H] of the texts before it."""
        ops, search, count = self.ops, self.search, self.count
        scores = search.process(search.seen(ids, length), logits, length)
        search.watch.note(self.outputs, logits, scores)
        probable, tokens = ops.topk(ops.softmax(scores, "float32"), count)
        tokens = ops.cast(tokens, ids.dtype)
        candidates = ops.put(ops.repeat(ids, count), ops.reshape(tokens, (-1,)), length)
        logits, held = self.steps.next(held, candidates, length + 1)
        new = _direction(ops, self.steps.states()[:, -1])
        likeness = self._likeness(directions, new, length)
        chosen = ops.cast(ops.argmax((1 - self.alpha) * probable - self.alpha * likeness), ids.dtype)
        rows = ops.arange(ids.shape[0], ids) * count + chosen
        if search.watch.records():
            self.outputs = _of_rows(ops, self.steps.outputs, rows)
        tokens = ops.take_along(tokens, chosen[:, None])[:, 0]
        ids, finished = search.appended(ids, length, finished, tokens, scores)
        directions = ops.put(directions, ops.gather(new, rows), length + self.offset)
        held = self.steps.reordered(held, ops.repeat(rows, count))
        return ids, length + 1, finished, ops.gather(logits, rows), directions, held

    def cache(self, held: Any) -> Any:
        """Return the cache of the texts, without the last token: the other searches do not read that."""
        rows = self.ops.arange(self.texts, self.directions) * self.count
        cache = self.steps.cache(self.steps.reordered(held, rows))
        return caches.cropped(cache, caches.length_of(self.ops, cache) - 1)

    def _likeness(self, directions: Any, new: Any, length: Any) -> Any:
        """Return how like each candidate, `new` [B * K, H], is to the token before it that it is most like, [B, K]."""
        ops = self.ops
        rows, columns, units = directions.shape
        cosines = ops.matmul(ops.reshape(new, (rows, self.count, units)), ops.transpose(directions, (0, 2, 1)))
        counts = (ops.arange(columns, directions) < length + self.offset)[None, :]
        if self.mask is not None:
            counts = counts & (self.mask != 0)
        return -ops.minimum_of(ops.where(counts[:, None, :], -cosines, ops.zeros_like(cosines) + 2))[..., 0]


def _direction(ops: Any, states: Any) -> Any:
    """Return vectors of length 1, float32, in the directions of `states` [..., H]."""
    states = ops.cast(states, "float32")
    return states * ops.rsqrt(ops.maximum(ops.mean_last(states * states), 1e-30)) / states.shape[-1] ** 0.5


def _of_rows(ops: Any, outputs: Any, rows: Any) -> dict[str, Any]:
    """Return of what the model returned, of all candidates, the `rows` [B]."""
    found = {}
    for name in OF_ROWS:
        if (layers := field_of(outputs, name)) is not None:
            found[name] = tuple(ops.gather(layer, rows) for layer in layers)
    return found
