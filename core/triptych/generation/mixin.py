"""`generate`, as far as it is the same in the three frameworks: a part of their base classes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from triptych.errors import ArgumentError, MissingMethodError
from triptych.generation import arguments, assisted, request
from triptych.generation.beams import Found
from triptych.generation.buckets import bucket, in_buckets, widened
from triptych.generation.config import GenerationConfig
from triptych.generation.drafting import Assistant
from triptych.generation.drawing import Seeded
from triptych.generation.healing import healed
from triptych.generation.job import Job
from triptych.generation.on_host import on_host
from triptych.generation.outputs import output_of
from triptych.generation.processing import process_of
from triptych.generation.prompting import Prompt, Prompts
from triptych.generation.random import key_of
from triptych.generation.search import python_loop
from triptych.generation.steps import FixedSteps
from triptych.generation.stopping import criteria_of, stopped
from triptych.generation.streaming import as_streamer
from triptych.generation.transitions import Transitions
from triptych.generation.watching import Recorder
from triptych.nn.cache import new_named_cache
from triptych.nn.outputs import field_of

logger = logging.getLogger("triptych")


@dataclass
class Asked:
    """What a call of `generate` was given, beside parameters of the config and inputs of the model."""

    inputs: Any = None
    config: Any = None
    processors: Any = None
    criteria: Any = None
    prefix: Any = None
    streamer: Any = None
    assistant: Any = None
    negative_ids: Any = None
    negative_mask: Any = None
    use_model_defaults: bool | None = None
    tokenizer: Any = None
    noise: Any = None
    """What draws where there is no `seed`: see `triptych.generation.job`."""
    seed: Any = None
    params: Any = None
    compiled: bool = False
    """Whether the whole search is compiled, for this call."""
    may_loop: bool = False
    """Whether it may be a loop of Python nevertheless, where it is watched."""


class Generation(Transitions, Prompts):
    """Part of the base classes: how prompts become texts."""

    generation_config: Any
    class_prefix: ClassVar[str]
    _cache_dtype: Callable[[], Any]
    _pads_to_the_end: ClassVar[bool] = False
    """Whether texts are always as long as they might have become."""

    def _generate(self, asked: Asked, kwargs: dict[str, Any]) -> Any:
        """Return what `generate` returns; see there."""
        if not type(self).can_generate():  # type: ignore[attr-defined]
            raise MissingMethodError(
                f"{type(self).__name__} does not generate.", remedy="use a class with a head that scores the next "
                "token, ...ForCausalLM or ...ForConditionalGeneration; or give yours prepare_inputs_for_generation",
            )  # fmt: skip
        config, rest = request.settled(self.generation_config, asked.config, kwargs, asked.use_model_defaults)
        mode = config.get_generation_mode(asked.assistant)
        assisted.refuse_unbuilt(mode, kwargs)
        tokens = request.special_tokens(config, self._encodes())
        arguments.require_arguments(asked, config, kwargs)
        arguments.warn_of_what_has_no_effect(config, kwargs, assisted=mode == assisted.MODE)
        if (size := self._vocabulary(decoder=True)) is not None:
            arguments.require_in_vocabulary(config, kwargs, tokens, size, self._encodes())
        given = set(kwargs) | self._said(asked)
        mend = partial(healed, self, tokenizer=asked.tokenizer, params=asked.params) if config.token_healing else None
        prompt = self._prompt(asked.inputs, rest, config, tokens, mend)
        request.refuse_unknown(prompt.inputs, self._known_inputs(), type(self))
        limit = request.longest(config, prompt.ids.shape[1] + prompt.embedded, given, self._positions())
        limit = self._room(prompt, limit)
        return self._search(asked, config, mode, tokens, prompt, limit - prompt.embedded)

    def _said(self, asked: Asked) -> set[str]:
        """Return which parameters of length a config says, so that a default among them is meant."""
        said = [asked.config, self.generation_config]
        return {"max_length"} if any(getattr(one, "max_length", 20) not in (None, 20) for one in said) else set()

    def _positions(self) -> int | None:
        learned = arguments.positions_of(self.config)
        if learned is not None:
            return learned
        found = getattr(self.config, "max_position_embeddings", None)
        return found if isinstance(found, int) else None

    # -- the search ---------------------------------------------------------------------------------------------

    def _search(
        self, asked: Asked, config: GenerationConfig, mode: str, tokens: request.Tokens, prompt: Prompt, limit: int
    ) -> Any:
        ops, watch = self._ops, self._watch(asked, config)
        loops = watch.watches() or mode == assisted.MODE
        compiled = asked.compiled and not (ops.compiles() or (asked.may_loop and loops))
        eager = not (compiled or ops.compiles())
        if watch.watches() and not eager:
            raise ArgumentError(
                "A compiled search cannot be watched.",
                expected="no streamer, stopping criteria, max_time, stop_strings, scores, logits, attentions or states",
                remedy="call generate without compiling it",
            )
        watch.keeps_cache &= eager
        if mode == assisted.MODE:
            assisted.require_possible(self, config, asked.assistant, prompt, compiled=not eager)
        job = self._job(asked, config, mode, tokens, prompt, limit, watch, eager, compiled)
        noise = None
        if config.do_sample:
            noise = asked.noise if asked.seed is None else (Seeded, key_of(ops, asked.seed))
        watch.put(prompt.ids)
        ids = widened(ops, prompt.ids, job.columns, tokens.pad)
        if compiled:
            inputs = self._in_buckets(prompt, job)
            found = self._run_compiled(asked, job, ids, inputs, prompt.ids.shape[1], limit, noise)
        else:
            found = job.run(self._caller(asked, eager), ids, prompt.inputs, prompt.ids.shape[1], limit, noise)
        watch.end()
        texts = found.ids[:, : _longest(found) if eager and not self._pads_to_the_end else limit]
        if not (config.return_dict_in_generate or self.class_prefix == "Flax"):
            return texts
        return self._output(job, prompt, found, texts)

    def _job(
        self, asked: Asked, config: GenerationConfig, mode: str, tokens: request.Tokens, prompt: Prompt, limit: int,
        watch: Recorder, eager: bool, compiled: bool,
    ) -> Job:  # fmt: skip
        flags = {name: True for name in ("output_attentions", "output_hidden_states") if getattr(config, name)}
        width, columns, calls = prompt.ids.shape[1], limit, self._steps_class()
        negative = (asked.negative_ids, asked.negative_mask)
        process_for = partial(
            process_of, compiled=not eager, custom=asked.processors, prefix=asked.prefix, negative=negative
        )
        draft = asked.assistant
        assistant = None if draft is None else Assistant(draft, draft._caller(Asked(), eager))
        if compiled and calls is FixedSteps and not _reads_encoder_ids(config):
            columns = bucket(limit)
            width = width if prompt.embedded else min(bucket(width, self._positions(), short=True), columns)
        return Job(
            self, config, mode, tokens, columns=columns, width=width, room=columns + prompt.embedded, calls=calls,
            loop=python_loop if eager else self._ops.while_loop,
            process_for=process_for, custom=(*(asked.processors or ()), asked.prefix), watch=watch, flags=flags,
            assistant=assistant,
        )  # fmt: skip

    def _in_buckets(self, prompt: Prompt, job: Job) -> dict[str, Any]:
        if job.calls is not FixedSteps or prompt.embedded or _reads_encoder_ids(job.config):
            return prompt.inputs
        most = arguments.positions_of(self.config, "encoder")
        return in_buckets(
            self._ops, prompt.inputs, job.width, self._encodes(), lambda length: bucket(length, most, short=True)
        )

    def _cache_maker(self, config: GenerationConfig) -> Callable[[int, int], Any] | None:
        """Return what makes an empty cache for rows and tokens: as the generation config names it, or the framework's
        own; None if there is to be none, or the class makes its own."""
        name, heads = config.cache_implementation, getattr(self.config, "cached_heads", None)
        if config.use_cache is False or not (name or self._supports_default_dynamic_cache()):
            return None
        if heads is None and name is None:
            grows = self._ops.GROWING_CACHE and self._overrides("_supports_default_dynamic_cache")
            return self._dynamic_cache if grows else None
        if heads is None:
            raise ArgumentError(
                f"{type(self).__name__} does not say what a cache of it holds.",
                expected="cache_implementation=None", received=repr(name),
            )  # fmt: skip

        def made(rows: int, room: int) -> Any:
            device = getattr(self, "device", None)
            return new_named_cache(self._ops, name, self.config, rows, room, self._cache_dtype(), device)

        return made

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        """Return whether the first call gets an empty cache, where none is named. Classes that say how they are called
        make theirs of None, unless they override this."""
        return not cls._overrides("prepare_inputs_for_generation")

    def _dynamic_cache(self, rows: int, room: int) -> Any:
        return new_named_cache(self._ops, "dynamic", self.config, rows, room, self._cache_dtype())

    def _caller(self, asked: Asked, eager: bool) -> Any:
        """Return what calls the model."""
        return self

    def _run_compiled(
        self, asked: Asked, job: Job, ids: Any, inputs: dict[str, Any], length: int, limit: int, noise: Any
    ) -> Found:
        """Run the job, compiled once for all that differ only in their arrays."""
        raise NotImplementedError

    def _watch(self, asked: Asked, config: GenerationConfig) -> Recorder:
        keep = [name.removeprefix("output_") for name in config.extra_output_flags if getattr(config, name)]
        streamer = None if asked.streamer is None else as_streamer(asked.streamer)
        if streamer is not None and (config.num_beams or 1) > 1:
            raise ArgumentError("Beams cannot be streamed.", expected="num_beams=1", received=str(config.num_beams))
        criteria, ops = criteria_of(config, asked.tokenizer, asked.criteria), self._ops
        asks = (
            [lambda ids, scores, length: ops.constant(stopped(criteria, ids, scores, length), ids)] if criteria else []
        )
        returned = bool(config.return_dict_in_generate)
        return Recorder(keep if returned else (), streamer, asks, returned and self.class_prefix != "Flax")

    def _output(self, job: Job, prompt: Prompt, found: Found, texts: Any) -> Any:
        fields: dict[str, Any] = dict(job.watch.fields())
        watch = job.watch
        flax = self.class_prefix == "Flax"
        if found.scores is not None:
            if flax or job.config.output_scores:
                fields["scores" if flax else "sequences_scores"] = found.scores
            if flax and "scores" in watch.keep:
                fields["step_scores"] = watch.found["scores"]
            new = (texts.shape[1] if self._ops.compiles() else _longest(found)) - prompt.ids.shape[1]
            fields["beam_indices"] = found.rows[:, prompt.ids.shape[1] :][:, :new]
        if not flax:
            fields["past_key_values"] = watch.cache
        if self._encodes():
            kept = [name for name in ("attentions", "hidden_states") if name in watch.keep]
            fields |= {f"encoder_{name}": field_of(watch.encoded, name) for name in kept}
        mode = job.mode
        if mode == assisted.MODE:
            mode = "sample" if job.config.do_sample else "greedy_search"
        return output_of(self.class_prefix, mode, self._encodes(), {"sequences": texts, **fields})


def _reads_encoder_ids(config: GenerationConfig) -> bool:
    """Return whether a processor reads the tokens of the prompt, among which no padding may be."""
    return config.encoder_repetition_penalty not in (None, 1) or bool(config.encoder_no_repeat_ngram_size)


def _longest(found: Found) -> int:
    """Return the length of the longest text; nothing of this is traced."""
    return int(np.max(on_host(found.lengths)))
