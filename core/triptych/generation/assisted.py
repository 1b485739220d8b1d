"""Assisted (speculative) decoding of one text: several tokens are proposed, and the model reads them in one call.

Leviathan, Kalman and Matias, "Fast inference from transformers via speculative decoding" (ICML 2023,
https://arxiv.org/abs/2211.17192). Whatever is proposed, the text is one that the model itself would write:

- Greedy search, and draws that are a function of the seed and the place (`seed=`, keys of JAX): a proposed token stays
  if it is the one that would have been chosen, so the text is that of the same call without an assistant. A draft model
  draws by the same numbers, so that it mostly draws the same.
- Draws of a generator with a state: a token x drawn by the draft's q(x) stays with probability min(1, p(x) / q(x)), and
  is else replaced by a draw from max(0, p - q), normalised. The distribution is the model's own p; under one state of
  the generator the text is another than without an assistant.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from triptych.errors import ArgumentError
from triptych.generation.drafting import (
    Assistant,
    Draft,
    Drafter,
    PromptLookup,
    Proposal,
    inputs_for,
    require_fitting,
)
from triptych.generation.on_host import on_host
from triptych.generation.options import SynthIDTextWatermarkingConfig
from triptych.generation.search import Search
from triptych.nn import cache as caches

MODE = "assisted_generation"
_SELF_ATTENTIONS = ("attentions", "decoder_attentions")
_STATES = ("hidden_states", "decoder_hidden_states")


def assisted(search: Search, drafter: Drafter, ids: Any, length: int, varies: bool = False) -> tuple[Any, int]:
    """Append tokens to a prompt until it ends or there is no room; a loop of Python.

    Args:
        drafter: what proposes tokens.
        ids: buffer [1, L] of padding, with the prompt in its first `length` columns.
        varies: whether `search.draw` draws something else each time it is asked for the same step.

    Returns:
        The buffer [1, L], and its length.
    """
    steps, ops = search.steps, search.ops
    logits, held = steps.first(ids, length)
    text = _Text(search, ids, length, varies)
    text.take(logits[:, None], Proposal())
    while not text.over:
        proposal = drafter.propose(text.ids, text.length, search.max_length - text.length - 1)
        count = len(proposal.tokens)
        proposed = text.ids
        for place, token in enumerate(proposal.tokens):
            proposed = ops.put(proposed, ops.cast(ops.constant([token], ids), ids.dtype), text.length + place)
        logits, held = steps.several(held, proposed, text.length + count, count + 1)
        accepted = text.take(logits, proposal)
        held = steps.shortened(held, text.length - 1)
        if (cache := text.noted.get("past_key_values")) is not None:
            text.noted["past_key_values"] = caches.cropped(cache, text.length - 1)
        drafter.learn(count, accepted, text.length)
    drafter.end()
    search.watch.close(lambda: text.noted.get("past_key_values"))
    return text.ids, text.length


class _Text:
    """A text that grows by those tokens that the model would have chosen."""

    def __init__(self, search: Search, ids: Any, length: int, varies: bool) -> None:
        self.search, self.ops, self.varies = search, search.ops, varies
        self.ids, self.length, self.over = ids, length, False
        self.noted: dict[str, Any] = {}
        """What was noted of the last token."""

    def take(self, logits: Any, proposal: Proposal) -> int:
        """Append the proposed tokens as far as they are right, and one more; return how many of them were right.

        Args:
            logits: float32 [1, N + 1, V], of the token at each of the N places proposed for, and of the one behind.
        """
        search, count = self.search, len(proposal.tokens)
        for place in range(count + 1):
            of_place = logits[:, place]
            scores = search.process(search.seen(self.ids, self.length), of_place, self.length)
            proposed = proposal.tokens[place] if place < count else None
            token = self._chosen(scores, proposed, proposal.chances[place] if place < count else None)
            right = proposed is not None and int(on_host(token)[0]) == proposed
            self.noted = _part(self.ops, search.steps.outputs, place, count + 1)
            self._append(token, of_place, scores)
            if self.over or not right:
                return place + right
        return count

    def _append(self, token: Any, logits: Any, scores: Any) -> None:
        search, ops = self.search, self.ops
        token = ops.cast(token, self.ids.dtype)
        self.ids = ops.put(self.ids, token, self.length)
        self.length += 1
        search.watch.put(token)
        search.watch.note(self.noted, logits, scores)
        stopped = search.watch.stops(search.seen(self.ids, self.length), self.length, scores)
        ends = search.ends(token) if stopped is None else search.ends(token) | stopped
        self.over = bool(ops.all(ends)) or self.length >= search.max_length

    def _chosen(self, scores: Any, proposed: int | None, chances: Any) -> Any:
        """Return the token [1] that the model chooses by its scores [1, V]."""
        draw = self.search.draw
        if draw is None:
            return self.ops.argmax(scores)
        if proposed is None or chances is None or not self.varies:
            return draw(scores, self.length)
        return self._by_rejection(scores, proposed, chances)

    def _by_rejection(self, scores: Any, proposed: int, chances: Any) -> Any:
        """Return a draw by the scores [1, V], given `proposed`, a draw by the probabilities `chances` [1, V]."""
        ops, draw = self.ops, self.search.draw
        assert draw is not None
        wanted = ops.softmax(scores, "float32")
        stays = min(1.0, float(wanted[0, proposed]) / float(chances[0, proposed]))
        rejected = draw(ops.log(ops.constant([[stays, 1 - stays]], scores)), self.length)
        if not int(on_host(rejected)[0]):
            return ops.constant([proposed], self.ids)
        rest = ops.maximum(wanted - chances, 0.0)
        return draw(ops.log(rest if bool(ops.any(rest > 0)) else wanted), self.length)


def _part(ops: Any, outputs: Any, place: int, count: int) -> dict[str, Any]:
    """Return what the model returned when it read `count` tokens, as though it had read but the one at `place`."""
    found = dict(outputs.items() if isinstance(outputs, Mapping) else vars(outputs))
    behind = count - 1 - place
    for name in (*_SELF_ATTENTIONS, *_STATES, "cross_attentions"):
        if count > 1 and found.get(name) is not None:
            found[name] = tuple(_cut(ops, x, name, place, count, behind) for x in found[name])
    return found


def _cut(ops: Any, x: Any, name: str, place: int, count: int, behind: int) -> Any:
    """Return of attentions [B, N, Q, K], or of states [B, Q, D], those of one place; a text that was read whole (Q is
    not `count`) is cut behind it, where it is no buffer."""
    queries = x.shape[1 if name in _STATES else 2]
    end = queries - behind if ops.GROWING_CACHE or queries == count else queries
    rows = slice(place if queries == count else 0, end)
    if name in _STATES:
        return x[:, rows]
    keys = x.shape[3] - behind if ops.GROWING_CACHE and name in _SELF_ATTENTIONS else x.shape[3]
    return x[:, :, rows, :keys]


def refuse_unbuilt(mode: str, kwargs: Mapping[str, Any]) -> None:
    """Raise `ArgumentError` for kindred ways of generating that there are in transformers, and not here."""
    if mode == "dola_generation":
        raise ArgumentError(
            "Layers are not contrasted (DoLa).", expected="dola_layers=None", received="dola_layers",
            remedy="leave it out for greedy search or sampling; or pass a processor of your own as logits_processor",
        )  # fmt: skip
    if mode == "constrained_beam_search":
        raise ArgumentError(
            "Words cannot be forced into a text (constrained beam search).", received="constraints or force_words_ids",
            expected="neither constraints nor force_words_ids",
            remedy="pass sequence_bias=, prefix_allowed_tokens_fn=, or a processor of your own as logits_processor",
        )  # fmt: skip
    if kwargs.get("assistant_tokenizer") is not None:
        raise ArgumentError(
            "An assistant of another tokenizer is not understood.", expected="no assistant_tokenizer",
            received=type(kwargs["assistant_tokenizer"]).__name__,
            remedy="pass a smaller model of the same tokenizer; or prompt_lookup_num_tokens=, which needs none",
        )  # fmt: skip


def require_possible(model: Any, config: Any, assistant: Any, prompt: Any, compiled: bool) -> None:
    """Raise `ArgumentError` unless a call of `generate` can be assisted."""
    both = assistant is not None and config.prompt_lookup_num_tokens
    rows = prompt.ids.shape[0] * (config.num_return_sequences or 1)
    problems = (
        (config.assistant_early_exit is not None, "no assistant_early_exit, whose models have heads inside",
         f"assistant_early_exit={config.assistant_early_exit}", "pass assistant_model=, a smaller model"),
        (both, "assistant_model or prompt_lookup_num_tokens", "both", "pass one of the two"),
        (rows != 1, "one text: batch size 1, num_return_sequences=1", f"{rows} texts", "call generate for each text"),
        (bool(prompt.embedded), "tokens: the draft is made of them", "inputs_embeds", "pass input_ids"),
        (compiled, "a loop of Python, as proposals differ in length", "a compiled search",
         "call generate without compiling it, or without an assistant"),
    )  # fmt: skip
    for wrong, expected, received, remedy in problems:
        if wrong:
            what = "Generation cannot be assisted here."
            raise ArgumentError(what, expected=expected, received=received, remedy=remedy)
    if assistant is not None:
        require_fitting(model, assistant)


def drafter_of(job: Any, search: Search, assistant: Assistant | None, ids: Any, inputs: Any, varies: bool) -> Drafter:
    """Return what proposes tokens in a job: its assistant, or without one the text itself."""
    config, width = job.config, job.width
    if assistant is None:
        return PromptLookup(config.prompt_lookup_num_tokens, config.max_matching_ngram_size, job.tokens.eos)
    model = assistant.model
    steps = job.steps_of(model, assistant.call, inputs_for(job.model, model, inputs))
    process = job.process_for(replace(job, config=_of_draft(config)), search, ids, inputs, width, custom=None)
    return Draft(search, process, steps, config, width, keeps_chances=varies and search.draw is not None)


def _of_draft(config: Any) -> Any:
    """Return the config by which a draft's scores are changed: without what remembers the calls before, since some of a
    draft is thrown away, and what calls the model. (Processors of the caller's have no part in it either.)"""
    made = copy.copy(config)
    made.guidance_scale = None
    if isinstance(made.watermarking_config, SynthIDTextWatermarkingConfig):
        made.watermarking_config = None
    return made
