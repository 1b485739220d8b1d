"""The processors of one call of `generate`, put together."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from triptych.errors import ArgumentError
from triptych.generation.guidance import Unconditional
from triptych.generation.job import Job
from triptych.generation.ordering import processors_for
from triptych.generation.processors import ProcessorList, refuse_eager_only
from triptych.generation.search import Process, Search


def process_of(
    job: Job, search: Search, ids: Any, inputs: Mapping[str, Any], length: Any, compiled: bool,
    custom: Any = None, prefix: Callable[..., Any] | None = None, negative: tuple[Any, Any] = (None, None),
) -> Process:  # fmt: skip
    """Return what changes the scores of a job.

    Args:
        ids: the prompt [B, columns], of which `length` columns are filled.
        inputs: those of the model's first call.
        custom: processors of the caller's.
        prefix: a function that says which tokens may follow.
        negative: tokens and their mask, from which guidance leads away.

    Raises:
        As `processors_for` does. ArgumentError: a processor cannot be compiled.
    """
    model, ops = job.model, search.ops
    config = copy.copy(job.config)
    config.max_length = search.max_length
    unconditional = None
    if config.guidance_scale not in (None, 1):
        tokens, mask = negative_prompt(model, *negative, ids.shape[0], search.steps.times)
        unconditional = Unconditional(ops, search.steps.call, tokens, mask, config.use_cache is not False)
    encodes = model._encodes()
    processors, warpers = processors_for(
        ops, config, prompt_length=length, eos_token_ids=job.tokens.eos or None,
        vocab_size=getattr(model.config.get_text_config(), "vocab_size", None),
        encoder_ids=inputs.get(model.main_input_name) if encodes else ids[:, : job.width],
        padding=_padding(ops, inputs.get("decoder_attention_mask" if encodes else "attention_mask"), ids),
        prefix_allowed_tokens_fn=prefix, custom=custom, unconditional=unconditional,
    )  # fmt: skip
    every = ProcessorList([*processors, *warpers])
    if compiled:
        refuse_eager_only(every)
    if not every:
        return _unchanged
    groups = config.num_beam_groups or 1

    def process(ids: Any, scores: Any, length: Any) -> Any:
        if groups == 1:
            return every(ids, scores, length)
        return every(ids, scores, length, **_of_groups(ops, search.chosen, groups, scores, ids))

    return process


def negative_prompt(model: Any, tokens: Any, mask: Any, texts: int, times: int) -> tuple[Any, Any]:
    """Return tokens from which guidance leads away and their mask, int [texts * times, N] or None.

    Raises:
        ArgumentError: they are something else.
    """
    if tokens is not None:
        tokens = model._checked(tokens, "negative_prompt_ids", model._vocabulary(decoder=True))
        if tokens.shape[0] != texts:
            raise ArgumentError(
                "negative_prompt_ids are of another batch size.", expected=f"{texts} rows, one for each prompt",
                received=f"{tokens.shape[0]} rows",
            )  # fmt: skip
    if mask is not None:
        if tokens is None:
            raise ArgumentError("negative_prompt_attention_mask is of nothing.", expected="negative_prompt_ids as well")
        mask = model._of_shape(mask, tokens.shape, "negative_prompt_attention_mask")
    return tuple(x if x is None or times == 1 else model._ops.repeat(x, times) for x in (tokens, mask))


def _padding(ops: Any, mask: Any, ids: Any) -> Any:
    """Return how many positions of each prompt are padding on its left, [B]."""
    return None if mask is None else ops.cast(ops.argmax(ops.cast(mask != 0, "int32")), ids.dtype)


def _unchanged(ids: Any, scores: Any, length: Any) -> Any:
    return scores


def _of_groups(ops: Any, chosen: list[Any], groups: int, scores: Any, ids: Any) -> dict[str, Any]:
    """Return what the diversity of groups goes by: the tokens [batch * beams] that groups before have taken now."""
    if not chosen:
        return {"current_tokens": ops.zeros_like(ids[:, 0]) + ops.zeros((groups, 1), "int32", ids), "beam_group_idx": 0}
    empty = ops.zeros_like(chosen[0])
    together = ops.concat([*chosen, *[empty] * (groups - len(chosen))], 1)
    return {"current_tokens": ops.reshape(together, (-1,)), "beam_group_idx": len(chosen)}
