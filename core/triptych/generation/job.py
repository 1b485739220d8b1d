"""One call of `generate`, ready to run: what is static in it, and a function of the arrays that is the same when it is
compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from triptych.errors import ArgumentError
from triptych.generation.assisted import MODE as ASSISTED
from triptych.generation.assisted import assisted, drafter_of
from triptych.generation.beams import Beams, Found, beam_search
from triptych.generation.config import GenerationConfig
from triptych.generation.contrastive import Contrast, contrastive_search
from triptych.generation.drafting import Assistant
from triptych.generation.request import Tokens
from triptych.generation.search import Search, sample
from triptych.generation.steps import FixedSteps, Steps, WholeSteps
from triptych.generation.watching import Recorder

_BEAMS = ("beam_search", "beam_sample", "group_beam_search")
_OF_LENGTH = ("max_length", "max_new_tokens", "max_time", "stop_strings")
"""Parameters that are arguments of the compiled function, or have no part in it."""


_KEPT = 32
"""Compiled searches of one model that are kept."""
Noise = tuple[Callable[[Any, Any], Any], Any] | None


@dataclass
class Job:
    """What is static in a call.

    Args:
        mode: as `GenerationConfig.get_generation_mode` names it.
        columns: of the buffer of tokens; `width`, those of the prompt; `room`, tokens for which a cache has room.
        calls: how the model is called: a class of `triptych.generation.steps`.
    """

    model: Any
    config: GenerationConfig
    mode: str
    tokens: Tokens
    columns: int
    width: int
    room: int
    calls: type[Steps]
    loop: Callable[..., Any]
    process_for: Callable[..., Any]
    """From this job, the search, the prompt, the inputs and the length to what changes scores."""
    custom: Sequence[Any] = ()
    """Processors of the caller's, and the function that says which tokens may follow."""
    watch: Recorder = field(default_factory=Recorder)
    flags: Mapping[str, bool] = field(default_factory=dict)
    assistant: Assistant | None = None

    @property
    def key(self) -> str:
        """What a compiled function of this job depends on, beside the shapes of its arguments."""
        values = {name: value for name, value in self.config.to_dict().items() if name not in _OF_LENGTH}
        own = [id(one) for one in self.custom]  # which a compiled function keeps alive
        static = (self.mode, self.columns, self.width, self.room, self.tokens.eos, self.tokens.pad, own)
        return repr((sorted(values.items()), static))  # whose keys may be tuples, as those of sequence_bias

    def run(
        self,
        call: Callable[..., Any],
        ids: Any,
        inputs: Mapping[str, Any],
        length: Any,
        limit: Any,
        noise: Noise = None,
    ) -> Found:
        """Search.

        Args:
            call: the model.
            ids: prompts in a buffer of padding, [B, columns]; `length` of its columns are theirs.
            inputs: further arguments of the model's first call.
            limit: how many columns may be filled.
            noise: what draws: a class of `triptych.generation.drawing` or like one, and what it is made of; or None.
        """
        config, ops = self.config, self.model._ops
        draw = None if noise is None else noise[0](ops, noise[1])
        times = (config.num_beams if self.mode in _BEAMS else config.num_return_sequences) or 1
        steps = self._steps(call, inputs, times)
        eos = ops.cast(ops.constant(list(self.tokens.eos), ids), ids.dtype) if self.tokens.eos else None
        search = Search(
            ops=ops, steps=steps, process=lambda ids, scores, length: scores, max_length=limit, loop=self.loop,
            draw=None if draw is None else draw.one, eos=eos, pad=self.tokens.pad, watch=self.watch,
        )  # fmt: skip
        search.process = self.process_for(self, search, ids, inputs, length)
        found = self._found(search, draw, inputs, ids, length)
        self.watch.encoded = steps.encoded
        return found

    def _found(self, search: Search, draw: Any, inputs: Mapping[str, Any], ids: Any, length: Any) -> Found:
        if self.mode in _BEAMS:
            return beam_search(search, self._beams(draw), ids, length)
        if self.mode == "contrastive_search":
            texts, end = contrastive_search(search, self._contrast(inputs), ids, length)
        elif self.mode == ASSISTED:
            varies = getattr(draw, "varies", False)
            drafter = drafter_of(self, search, self.assistant, ids, inputs, varies)
            texts, end = assisted(search, drafter, ids, length, varies)
        else:
            texts, end = sample(search, ids, length)
        return Found(texts, None, end, None)

    def _steps(self, call: Callable[..., Any], inputs: Mapping[str, Any], times: int) -> Steps:
        whole = self.calls is FixedSteps and not self._has_cache()
        calls, flags = WholeSteps if whole else self.calls, self.flags
        if self.mode == "contrastive_search":
            flags = {**flags, "output_hidden_states": True}
        cache_for = self.model._cache_maker(self.config)
        return calls(self.model, call, inputs, times, flags, self.width, self.room, cache_for)

    def _has_cache(self) -> bool:
        """Return whether there is to be a cache, and the model says what it holds."""
        return self.config.use_cache is not False and getattr(self.model.config, "cached_heads", None) is not None

    def _contrast(self, inputs: Mapping[str, Any]) -> Contrast:
        config = self.config
        if config.use_cache is False or (self.calls is FixedSteps and not self._has_cache()):
            raise ArgumentError("Contrastive search goes by a cache.", received=f"use_cache={config.use_cache}",
                                expected="use_cache=True, of a model that has one")  # fmt: skip
        mask = inputs.get("decoder_attention_mask" if self.model._encodes() else "attention_mask")
        return Contrast(config.top_k, config.penalty_alpha, mask)

    def steps_of(self, model: Any, call: Callable[..., Any], inputs: Mapping[str, Any]) -> Steps:
        """Return calls of another model for the same texts."""
        return replace(self, model=model, calls=model._steps_class(), flags={})._steps(call, inputs, 1)

    def _beams(self, draw: Any) -> Beams:
        config = self.config
        groups = config.num_beam_groups or 1
        return Beams(
            count=config.num_beams // groups, groups=groups, length_penalty=config.length_penalty,
            early_stopping=config.early_stopping, kept=config.num_return_sequences or 1,
            candidates=max(2, 1 + len(self.tokens.eos)), draw=None if draw is None else draw.several,
            adapt=getattr(self.model, "_adapt_logits_for_beam_search", None),
        )  # fmt: skip


class Compiled(dict[Any, Any]):
    """Compiled searches of one model by what is static in them; the oldest goes when there are too many. They are not
    copied or pickled with the model: they are made anew."""

    def __setitem__(self, key: Any, function: Any) -> None:
        super().__setitem__(key, function)
        if len(self) > _KEPT:
            del self[next(iter(self))]

    def __reduce__(self) -> Any:
        return Compiled, ()

    def __deepcopy__(self, memo: Any) -> Compiled:
        return Compiled()
