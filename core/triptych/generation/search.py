"""Greedy search and sampling, once for all frameworks. Shapes and names: see `triptych.generation.steps`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from triptych.generation.steps import Steps

Process = Callable[[Any, Any, Any], Any]
"""From tokens [R, L], scores [R, V] and length to scores [R, V]."""


class Watch:
    """What sees every token of a search that runs as a loop of Python: here, nothing."""

    def put(self, tokens: Any) -> None:
        """See the tokens [R] that are appended."""

    def note(self, outputs: Any, logits: Any, scores: Any) -> None:
        """See what the model returned, its scores [R, V], and what the processors made of them."""

    def records(self) -> bool:
        """Return whether what the model returns is kept."""
        return False

    def close(self, cache: Callable[[], Any]) -> None:
        """See the cache behind the last token that was read, which `cache` returns."""

    def stops(self, ids: Any, length: Any, scores: Any) -> Any:
        """Return whether each row ends here [R], or all of them; None for no."""
        return None


@dataclass
class Search:
    """What a search goes by.

    Args:
        process: changes scores before a token is chosen.
        draw: chooses tokens [R] at random, of scores [R, V], for a step; None for the best.
        eos: tokens [E] that end a text, or None.
        pad: what stands behind the end of a text.
        max_length: columns that may be filled; an integer, or an array without axes.
        loop: `while_loop` of the framework's ops, or `python_loop`.
    """

    ops: Any
    steps: Steps
    process: Process
    max_length: Any
    loop: Callable[..., Any]
    draw: Callable[[Any, Any], Any] | None = None
    eos: Any = None
    pad: int = 0
    watch: Watch = field(default_factory=Watch)
    chosen: list[Any] = field(default_factory=list)
    """Tokens [B, K] that the groups of beams before have taken in this step."""

    def seen(self, ids: Any, length: Any) -> Any:
        """Return the buffer as processors get it: its tokens alone, where they are not told how many there are."""
        return ids if self.ops.CALLS_WITH_LENGTH else ids[:, :length]

    def ends(self, tokens: Any) -> Any:
        """Return whether each of `tokens` [...] ends a text."""
        if self.eos is None:
            return tokens < 0
        return self.ops.any(tokens[..., None] == self.eos, -1)

    def appended(self, ids: Any, length: Any, finished: Any, tokens: Any, scores: Any) -> tuple[Any, Any]:
        """Return the buffer with `tokens` [R], or padding in rows that are `finished`, in column `length`, and which
        rows are finished then."""
        ops = self.ops
        tokens = ops.where(finished, ops.cast(ops.constant(self.pad, ids), ids.dtype), ops.cast(tokens, ids.dtype))
        ids = ops.put(ids, tokens, length)
        self.watch.put(tokens)
        finished = finished | self.ends(tokens)
        stopped = self.watch.stops(self.seen(ids, length + 1), length + 1, scores)
        return ids, finished if stopped is None else finished | stopped

    def goes_on(self, length: Any, finished: Any) -> Any:
        """Return whether there is room, and a row that is not finished."""
        return self.ops.invert(self.ops.all(finished)) & self.ops.constant(length < self.max_length, finished)


def python_loop(condition: Callable[..., Any], body: Callable[..., Any], state: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return `state` as `body` makes it anew while `condition` holds, one after another."""
    while bool(condition(*state)):
        state = body(*state)
    return state


def sample(search: Search, ids: Any, length: Any) -> tuple[Any, Any]:
    """Append tokens to the prompts until every row is finished or there is no room.

    Args:
        ids: buffer [B, L] of padding, with the prompts in its first `length` columns.

    Returns:
        The buffer [R, L], and its length.
    """
    ops, steps = search.ops, search.steps
    logits, held = steps.first(ids, length)
    ids = ops.repeat(ids, steps.times) if steps.times > 1 else ids
    finished = ops.zeros_like(logits[:, 0]) > 0

    def append(ids: Any, length: Any, finished: Any, logits: Any) -> tuple[Any, Any, Any]:
        scores = search.process(search.seen(ids, length), logits, length)
        tokens = ops.argmax(scores) if search.draw is None else search.draw(scores, length)
        search.watch.note(steps.outputs, logits, scores)
        ids, finished = search.appended(ids, length, finished, tokens, scores)
        return ids, length + 1, finished

    def goes_on(ids: Any, length: Any, finished: Any, held: Any) -> Any:
        return search.goes_on(length, finished)

    def body(ids: Any, length: Any, finished: Any, held: Any) -> tuple[Any, ...]:
        logits, held = steps.next(held, ids, length)
        return (*append(ids, length, finished, logits), held)

    ids, length, _, held = search.loop(goes_on, body, (*append(ids, length, finished, logits), held))
    search.watch.close(lambda: steps.cache(held))
    return ids, length
