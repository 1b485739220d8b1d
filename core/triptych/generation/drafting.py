"""What proposes tokens of one text to a model that reads them all at once: a smaller model, or the text itself.

Prompt lookup: Saxena, 2023, https://github.com/apoorvumang/prompt-lookup-decoding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from triptych.errors import ArgumentError
from triptych.generation.on_host import on_host
from triptych.generation.parameters import DEFAULTS
from triptych.generation.search import Process, Search
from triptych.generation.steps import Held, Steps

_NGRAM = 2
"""The longest run of tokens that is looked up, by default."""


@dataclass
class Proposal:
    """Tokens that may come next, and of each the probabilities float32 [1, V] that it was drawn by, or None."""

    tokens: list[int] = field(default_factory=list)
    chances: list[Any] = field(default_factory=list)


class Drafter(Protocol):
    """What proposes tokens."""

    def propose(self, ids: Any, length: int, most: int) -> Proposal:
        """Return at most `most` tokens that may follow the first `length` of `ids` [1, L]."""

    def learn(self, offered: int, accepted: int, length: int) -> None:
        """Hear how many of the tokens `offered` were right, and how long the text is now."""

    def end(self) -> None:
        """Hear that the text is done."""


class PromptLookup:
    """Proposes what came after the last tokens where they stood in the text for the first time.

    Args:
        count: tokens of a proposal, at most.
        ngram: how many of the last tokens are looked up, at most; fewer if so many are not found.
        eos: tokens that end a text.
    """

    def __init__(self, count: int, ngram: int | None, eos: Sequence[int]) -> None:
        self.count, self.ngram, self.eos = count, _NGRAM if ngram is None else ngram, tuple(eos)
        for name, value in (("prompt_lookup_num_tokens", count), ("max_matching_ngram_size", self.ngram)):
            if type(value) is not int or value < 1:
                raise ArgumentError(f"{name} is impossible.", expected="a positive integer", received=repr(value)[:80])

    def propose(self, ids: Any, length: int, most: int) -> Proposal:
        text = on_host(ids)[0, :length]
        for size in range(min(self.ngram, length - 1), 0, -1):
            before = np.lib.stride_tricks.sliding_window_view(text[:-1], size)
            places = np.flatnonzero((before == text[-size:]).all(-1))
            if len(places):
                start = int(places[0]) + size
                return self._until_end(text[start : start + min(self.count, most)].tolist())
        return Proposal()

    def _until_end(self, tokens: list[int]) -> Proposal:
        end = next((place for place, token in enumerate(tokens) if token in self.eos), len(tokens))
        return Proposal(tokens[:end], [None] * end)

    def learn(self, offered: int, accepted: int, length: int) -> None:
        pass  # the text is all it knows

    def end(self) -> None:
        pass


@dataclass
class Assistant:
    """A draft model, and what calls it."""

    model: Any
    call: Callable[..., Any]


class Draft:
    """Proposes what a smaller model would write.

    Args:
        search: that of the model which is assisted; tokens are drawn as it draws them.
        process: changes the smaller model's scores before a token is chosen.
        steps: calls of the smaller model.
        config: says how many tokens, by which schedule, and how sure of them the smaller model must be, unless it
            leaves that to the smaller model's own generation config.
        prompt: columns of the prompt.
        keeps_chances: whether proposals have the probabilities by which their tokens were drawn.
    """

    def __init__(
        self, search: Search, process: Process, steps: Steps, config: Any, prompt: int, keeps_chances: bool
    ) -> None:
        self.search, self.process, self.steps, self.ops = search, process, steps, search.ops
        self.read, self.prompt, self.keeps_chances = 0, prompt, keeps_chances
        self.held: Held = None
        self.own = steps.model.generation_config
        self.count = self._said(config, "num_assistant_tokens")
        self.schedule = self._said(config, "num_assistant_tokens_schedule")
        self.threshold = self._said(config, "assistant_confidence_threshold") or 0.0
        if not isinstance(self.count, (int, float)) or self.count < 1:
            raise ArgumentError(
                "num_assistant_tokens is impossible.", expected="a positive integer", received=repr(self.count)[:80]
            )
        if self.schedule not in ("constant", "heuristic", "heuristic_transient"):
            raise ArgumentError("num_assistant_tokens_schedule is unknown.", received=repr(self.schedule)[:80],
                                expected="constant, heuristic or heuristic_transient")  # fmt: skip

    def _said(self, config: Any, name: str) -> Any:
        value = getattr(config, name)
        return value if value != DEFAULTS[name] else getattr(self.own, name, value)

    def propose(self, ids: Any, length: int, most: int) -> Proposal:
        ops, search, proposal = self.ops, self.search, Proposal()
        for end in range(length, length + min(int(self.count), most, self._room(length))):
            scores = self.process(search.seen(ids, end), self._next(ids, end), end)
            drawn = ops.argmax(scores) if search.draw is None else search.draw(scores, end)
            ids = ops.put(ids, ops.cast(drawn, ids.dtype), end)
            token = int(on_host(drawn)[0])
            chances = ops.softmax(scores, "float32")
            proposal.tokens.append(token)
            proposal.chances.append(chances if self.keeps_chances else None)
            if bool(ops.all(search.ends(drawn))) or (self.threshold and float(chances[0, token]) < self.threshold):
                break
        return proposal

    def _room(self, length: int) -> int:
        """Return how many tokens the smaller model can propose, which may have fewer positions."""
        positions = self.steps.model._positions()
        return length if positions is None else max(0, positions - length + 1)

    def _next(self, ids: Any, length: int) -> Any:
        """Return the smaller model's scores [1, V] of the token after column `length` - 1."""
        if self.held is None:
            _, self.held = self.steps.first(ids, self.prompt)
            self.read = self.prompt
        logits, self.held = self.steps.several(self.held, ids, length, length - self.read)
        self.read = length
        return logits[:, -1]

    def learn(self, offered: int, accepted: int, length: int) -> None:
        if self.held is not None and self.read >= length:
            self.read = length - 1
            self.held = self.steps.shortened(self.held, self.read)
        if self.schedule != "constant" and offered:
            self.count = self.count + 2 if accepted >= int(self.count) else max(1, self.count - 1)

    def end(self) -> None:
        """Keep the number of tokens for the next text, where the schedule says so."""
        if self.schedule == "heuristic":
            self.own.num_assistant_tokens = int(self.count)


def require_fitting(model: Any, assistant: Any) -> None:
    """Raise `ArgumentError` unless a model may assist another: of the same framework, kind and vocabulary."""
    if getattr(assistant, "_ops", None) is not model._ops or not type(assistant).can_generate():
        raise ArgumentError(
            "assistant_model is no model that can assist.", received=type(assistant).__name__,
            expected="a model of triptych that generates, in the same framework",
        )  # fmt: skip
    if assistant._encodes() != model._encodes():
        raise ArgumentError(
            "assistant_model is of another kind.", expected="a decoder for a decoder, an encoder and decoder for such",
            received=f"{type(assistant).__name__} for {type(model).__name__}",
        )  # fmt: skip
    sizes = [getattr(one.config.get_text_config(decoder=True), "vocab_size", None) for one in (model, assistant)]
    if sizes[0] != sizes[1]:
        raise ArgumentError(
            "assistant_model has another vocabulary.", expected=f"{sizes[0]} tokens", received=str(sizes[1]),
            remedy="pass a smaller model of the same tokenizer; or prompt_lookup_num_tokens=, which needs none",
        )  # fmt: skip


def inputs_for(model: Any, assistant: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return of the inputs of a model those that its assistant reads. It runs an encoder of its own; where only the
    other's output is there, it reads that.

    Raises:
        ArgumentError: there is nothing that its encoder could read.
    """
    known = assistant._known_inputs()
    own = {name: x for name, x in inputs.items() if name in known and _is_shared(name)}
    main = assistant.main_input_name
    if assistant._encodes() and own.get(main) is None:
        states, width = _states(inputs.get("encoder_outputs")), getattr(assistant.config, "hidden_size", None)
        if states is None or states.shape[-1] != width:
            raise ArgumentError(
                "The assistant has nothing to read.", expected=f"{main}, or encoder_outputs [B, K, {width}]",
                received=", ".join(inputs) or "no inputs", remedy=f"pass {main}",
            )  # fmt: skip
        own["encoder_outputs"] = inputs["encoder_outputs"]
    return own


def _is_shared(name: str) -> bool:
    return "head_mask" not in name and name not in ("past_key_values", "encoder_outputs", "inputs_embeds")


def _states(encoder_outputs: Any) -> Any:
    if encoder_outputs is None:
        return None
    return encoder_outputs["last_hidden_state"] if isinstance(encoder_outputs, Mapping) else encoder_outputs[0]
