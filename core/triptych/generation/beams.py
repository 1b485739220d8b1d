"""Beam search, beam sampling and diverse (group) beams, once for all frameworks.

Diverse beams: Vijayakumar et al., 2018, https://arxiv.org/abs/1610.02424. Shapes beside those of
`triptych.generation.steps`: G groups for each text, T = B * G beams' owners, K beams of each, M candidates of each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from triptych.generation.search import Search

_LOWEST = -1.0e9


@dataclass
class Beams:
    """How beams are searched.

    Args:
        count: beams of each group.
        groups: 1, unless the beams of a text are to differ.
        length_penalty: a text's score is divided by its new tokens to this power.
        early_stopping: True ends as soon as there are `count` texts; False when none is likely to become better;
            "never" when none can.
        kept: texts that are returned of each prompt.
        candidates: how many continuations are looked at, as a multiple of `count`.
        draw: draws candidates [T, M] without replacement, of scores [T, N], for a step; None takes the best.
        adapt: changes the logits [B, G * K, V] of a class of its own.
    """

    count: int
    groups: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | str = False
    kept: int = 1
    candidates: int = 2
    draw: Any = None
    adapt: Any = None


@dataclass
class Found:
    """What was found: `ids` [B * kept, L], their `scores` and `lengths` [B * kept], and for each of their tokens the
    row that it was chosen for, -1 where there is none: `rows` [B * kept, L]."""

    ids: Any
    scores: Any
    lengths: Any
    rows: Any


def beam_search(search: Search, beams: Beams, ids: Any, length: Any) -> Found:
    """Return the best continuations of the prompts, which are the first `length` columns of `ids` [B, L]."""
    run = _Run(search, beams, ids.shape[0], ids.shape[1], length)
    logits, held = search.steps.first(ids, length)
    begun = run.advance(logits, held, length, run.start(ids))
    _, state, held = search.loop(run.goes_on, run.body, begun)
    search.watch.close(lambda: search.steps.cache(held))
    return run.best(state)


State = dict[str, Any]
"""`running` and `done` ids [T, K, L], their scores [T, K], the rows that their tokens were chosen for [T, K, L];
`lengths` of what is done, whether it `is_done` [T, K], whether a text can still get better `open` [T, 1], and whether
there is nothing to go on with `over`."""


class _Run:
    def __init__(self, search: Search, beams: Beams, batch: int, columns: int, start: Any) -> None:
        self.search, self.beams, self.ops = search, beams, search.ops
        self.batch, self.columns, self.begin = batch, columns, start
        self.owners = batch * beams.groups

    def start(self, ids: Any) -> State:
        ops, k, owners = self.ops, self.beams.count, self.owners
        texts = ops.reshape(ops.repeat(ids, self.beams.groups * k), (owners, k, self.columns))
        first = ops.cast(ops.arange(k, ids)[None, :] + ops.zeros((owners, 1), "int32", ids) == 0, "float32")
        nowhere = ops.zeros_like(texts) - 1
        none = first > 2
        return {
            "running": texts, "running_scores": (1 - first) * _LOWEST, "running_rows": nowhere,
            "done": texts, "done_scores": first * 0 + _LOWEST, "done_rows": nowhere,
            "lengths": nowhere[:, :, 0], "is_done": none, "open": first[:, :1] > 0, "over": ops.any(none),
        }  # fmt: skip

    def goes_on(self, length: Any, state: State, held: Any) -> Any:
        ops = self.ops
        goes_on = ops.any(state["open"]) & ops.invert(state["over"])
        if self.beams.early_stopping is True:
            goes_on = goes_on & ops.invert(ops.all(state["is_done"]))
        return goes_on

    def body(self, length: Any, state: State, held: Any) -> tuple[Any, State, Any]:
        ids = self.ops.reshape(state["running"], (-1, self.columns))
        logits, held = self.search.steps.next(held, ids, length)
        return self.advance(logits, held, length, state)

    def advance(self, logits: Any, held: Any, length: Any, state: State) -> tuple[Any, State, Any]:
        """Append one token to every beam; `logits` [T * K, V] are of the running beams."""
        ops, k = self.ops, self.beams.count
        found = self._candidates(logits, length, state)
        texts = _of_each(ops, state["running"], found["beams"])
        texts = self._put(texts, found["tokens"], length)
        owner = ops.arange(self.owners, texts)[:, None]
        rows = self._put(_of_each(ops, state["running_rows"], found["beams"]), found["beams"] + owner * k, length)
        kept = found["next"]
        new = {
            "running": _of_each(ops, texts, kept), "running_rows": _of_each(ops, rows, kept),
            "running_scores": ops.take_along(found["scores"], kept), "over": ops.all(found["ends"]),
        }  # fmt: skip
        new |= self._finished(state, found, texts, rows, length + 1)
        new["open"] = self._improvable(new, state["open"], length + 1, found["scores"])
        origins = ops.reshape(ops.take_along(found["beams"], kept) + owner * k, (-1,))
        return length + 1, new, self.search.steps.reordered(held, origins)

    def _put(self, texts: Any, values: Any, length: Any) -> Any:
        """Return `texts` [T, M, L] with `values` [T, M] in column `length`."""
        ops = self.ops
        flat = ops.put(ops.reshape(texts, (-1, self.columns)), ops.reshape(values, (-1,)), length)
        return ops.reshape(flat, tuple(texts.shape))

    def _candidates(self, logits: Any, length: Any, state: State) -> dict[str, Any]:
        """Return of the M best continuations [T, M] `beams`, `tokens`, `scores` and whether each `ends`; and which K of
        them run on: `next` [T, K]."""
        ops, beams, search, groups = self.ops, self.beams, self.search, self.beams.groups
        k, words = beams.count, logits.shape[-1]
        ids = ops.reshape(state["running"], (self.batch, groups, k, self.columns))
        logits = ops.reshape(logits, (self.batch, groups * k, words))
        logits = logits if beams.adapt is None else beams.adapt(logits)
        log_probs = ops.reshape(ops.log_softmax(logits), (self.batch, groups, k, words))
        before = ops.reshape(state["running_scores"], (self.batch, groups, k))
        found: list[dict[str, Any]] = []
        chosen: list[Any] = []
        processed: list[Any] = []
        for group in range(groups):
            rows = search.seen(ops.reshape(ids[:, group], (-1, self.columns)), length)
            search.chosen = chosen
            scores = search.process(rows, ops.reshape(log_probs[:, group], (-1, words)), length)
            processed.append(ops.reshape(scores, (self.batch, 1, k, words)))
            one = self._best(scores, before[:, group], ids[:, group], length)
            chosen.append(self._taken(one, ops.reshape(state["open"], (self.batch, groups))[:, group, None]))
            found.append(one)
        logits = ops.reshape(logits, (-1, words))
        search.watch.note(search.steps.outputs, logits, ops.reshape(ops.concat(processed, 1), (-1, words)))
        if groups == 1:
            return found[0]
        together = {name: ops.concat([one[name][:, None] for one in found], 1) for name in found[0]}
        return {name: ops.reshape(x, (self.owners, x.shape[-1])) for name, x in together.items()}

    def _taken(self, found: dict[str, Any], is_open: Any) -> Any:
        """Return the tokens [B, K] that a group takes, for groups after it to avoid; one that is done takes padding."""
        ops = self.ops
        tokens = ops.take_along(found["tokens"], found["next"])
        return ops.where(is_open, tokens, ops.zeros_like(tokens) + self.search.pad)

    def _best(self, scores: Any, before: Any, ids: Any, length: Any) -> dict[str, Any]:
        """Return candidates of one group of each text, of `scores` [B * K, V] and those of its beams before [B, K]."""
        ops, beams, words = self.ops, self.beams, scores.shape[-1]
        sums = ops.reshape(scores, (self.batch, beams.count, words)) + before[:, :, None]
        sums, count = ops.reshape(sums, (self.batch, beams.count * words)), beams.candidates * beams.count
        if beams.draw is None:
            values, places = ops.topk(sums, count)
        else:
            drawn = beams.draw(sums, count, length)
            values, order = ops.topk(ops.take_along(sums, drawn), count)
            places = ops.take_along(drawn, order)
        places = ops.cast(places, ids.dtype)
        tokens, origin = places % words, places // words
        ends = self._ends(tokens, origin, ids, length)
        over = self.search.ends(tokens)  # and not where there is no more room: tokens of groups count there too
        _, following = ops.topk(ops.where(over, values + _LOWEST, values), beams.count)
        return {"scores": values, "beams": origin, "tokens": tokens, "ends": ends, "next": following}

    def _ends(self, tokens: Any, origin: Any, ids: Any, length: Any) -> Any:
        ops, search = self.ops, self.search
        ends = search.ends(tokens) | (ops.constant(length + 1, ids) >= search.max_length)
        texts = self._put(_of_each(ops, ids, origin), tokens, length)
        flat = ops.reshape(texts, (-1, self.columns))
        stopped = search.watch.stops(search.seen(flat, length + 1), length + 1, None)
        return ends if stopped is None else ends | ops.reshape(stopped, tuple(tokens.shape))

    def _finished(self, state: State, found: dict[str, Any], texts: Any, rows: Any, length: Any) -> State:
        """Return what is done once those of the best candidates that end have joined it."""
        ops, beams, k = self.ops, self.beams, self.beams.count
        among_best = ops.arange(found["scores"].shape[-1], texts)[None, :] < k
        ends = found["ends"] & among_best & state["open"]
        if beams.early_stopping is True:
            ends = ends & ops.invert(self._all_done(state))
        scores = found["scores"] / self._penalty(length, texts)
        scores = ops.where(ends, scores, ops.zeros_like(scores) + _LOWEST)
        merged = ops.concat([state["done_scores"], scores], 1)
        best, places = ops.topk(merged, k)
        lengths = ops.zeros_like(found["tokens"]) + ops.cast(ops.constant(length, texts), texts.dtype)
        return {
            "done_scores": best,
            "done": _of_each(ops, ops.concat([state["done"], texts], 1), places),
            "done_rows": _of_each(ops, ops.concat([state["done_rows"], rows], 1), places),
            "lengths": ops.take_along(ops.concat([state["lengths"], lengths], 1), places),
            "is_done": ops.take_along(ops.concat([state["is_done"], ends], 1), places),
        }

    def _all_done(self, state: State) -> Any:
        """Return whether all K of each owner are done, [T, 1]."""
        ops = self.ops
        return ops.invert(ops.any(ops.invert(state["is_done"]), 1))[:, None]

    def _penalty(self, length: Any, like: Any) -> Any:
        ops, power = self.ops, float(self.beams.length_penalty)
        new = ops.cast(ops.constant(length - self.begin, like), "float32")
        return new**power

    def _improvable(self, state: State, open_before: Any, length: Any, candidates: Any) -> Any:
        """Return whether a running beam may become better than the worst that is done, [T, 1].

        Of groups it is asked of the best of all candidates, one that ends among them, as transformers 4 does.
        """
        ops = self.ops
        longest = self.beams.early_stopping == "never" and self.beams.length_penalty > 0
        reach = self._penalty(self.search.max_length if longest else length, state["done_scores"])
        best = (state["running_scores"] if self.beams.groups == 1 else candidates)[:, :1] / reach
        worst = ops.minimum_of(ops.where(state["is_done"], state["done_scores"], state["done_scores"] * 0 + _LOWEST))
        is_open = open_before & (best > worst)
        if self.beams.groups > 1 and self.beams.early_stopping is True:
            is_open = is_open & ops.invert(self._all_done(state))
        return is_open

    def best(self, state: State) -> Found:
        ops, beams = self.ops, self.beams
        count = beams.groups * beams.count
        scores = ops.reshape(state["done_scores"], (self.batch, count))
        scores, places = ops.topk(scores, beams.kept)
        wide = (self.batch, count, self.columns)
        texts, rows = (_of_each(ops, ops.reshape(state[name], wide), places) for name in ("done", "done_rows"))
        lengths = ops.take_along(ops.reshape(state["lengths"], (self.batch, count)), places)
        flat = (-1, self.columns)
        return Found(ops.reshape(texts, flat), ops.reshape(scores, (-1,)), ops.reshape(lengths, (-1,)),
                     ops.reshape(rows, flat))  # fmt: skip


def _of_each(ops: Any, texts: Any, places: Any) -> Any:
    """Return of `texts` [T, N, L] those at `places` [T, M]."""
    owners, count, columns = texts.shape
    offset = ops.cast(ops.arange(owners, texts) * count, "int32")[:, None]
    flat = ops.gather(
        ops.reshape(texts, (owners * count, columns)), ops.reshape(ops.cast(places, "int32") + offset, (-1,))
    )
    return ops.reshape(flat, (owners, -1, columns))
