"""What the arguments of `generate` may be beside its parameters: what cannot be meant is refused before a model is
called, and what has no effect is warned of."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from triptych.config import PretrainedConfig
from triptych.errors import ArgumentError
from triptych.generation.checks import flag, natural
from triptych.generation.parameters import DEFAULTS

logger = logging.getLogger("triptych")

WITHOUT_EFFECT: Mapping[str, str] = {
    "cache_config": "caches have no options here",
    "return_legacy_cache": "a cache is returned as it is",
    "prefill_chunk_size": "a prompt is read in one call",
    "low_memory": "the search already reads each beam's cache once",
    "compile_config": "generate compiles by jit_compile (TensorFlow) or trace (JAX)",
    "disable_compile": "generate compiles by jit_compile (TensorFlow) or trace (JAX)",
    "assistant_lookbehind": "an assistant has the same tokenizer",
    "target_lookbehind": "an assistant has the same tokenizer",
    "generation_kwargs": "arguments are passed by name",
}
_OF_ASSISTANTS = ("num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold")


def require_arguments(asked: Any, config: Any, given: Mapping[str, Any]) -> None:
    """Raise `ArgumentError` for arguments beside parameters that cannot be meant; warn of those without effect.

    Args:
        asked: a `triptych.generation.mixin.Asked`.
        given: the other arguments.
    """
    if given.get("synced_gpus"):
        raise ArgumentError("A model of several devices does not generate in step.", expected="synced_gpus=None",
                            received=repr(given["synced_gpus"])[:80])  # fmt: skip
    for name, found in (("logits_processor", asked.processors), ("stopping_criteria", asked.criteria)):
        wrong = found is not None and not isinstance(found, (list, tuple))
        strange = [] if wrong else [one for one in found or () if not callable(one) or isinstance(one, type)]
        if wrong or strange:
            raise ArgumentError(f"{name} is impossible.", expected="a list of objects or functions that can be called",
                                received=repr(strange[0] if strange else found)[:80])  # fmt: skip
    if isinstance(asked.streamer, type):
        raise ArgumentError("streamer is a class.", expected="an object of it", received=asked.streamer.__name__)
    if asked.streamer is not None and (config.num_return_sequences or 1) > 1:
        raise ArgumentError("Several texts of one prompt cannot be streamed.", expected="num_return_sequences=1",
                            received=str(config.num_return_sequences))  # fmt: skip
    if not (asked.use_model_defaults is None or flag(asked.use_model_defaults)):
        raise ArgumentError("use_model_defaults is impossible.", expected="True, False or None",
                            received=repr(asked.use_model_defaults)[:80])  # fmt: skip
    if asked.prefix is not None:
        require_signature(asked.prefix, 2, "prefix_allowed_tokens_fn", "a function of a number and tokens")
    negative = asked.negative_ids is not None or asked.negative_mask is not None
    if negative and config.guidance_scale in (None, 1):
        logger.warning("negative_prompt_ids have no effect: they need guidance_scale.")


def require_signature(function: Any, count: int, name: str, expected: str, needs: tuple[str, ...] = ()) -> None:
    """Raise `ArgumentError` unless `function` can be called with `count` arguments, and `needs` by name."""
    try:
        inspect.signature(function).bind(*[None] * count, **dict.fromkeys(needs))
    except TypeError as cause:
        raise ArgumentError(f"{name} cannot be called so.", expected=expected, received=repr(function)[:80]) from cause
    except ValueError:  # a function that does not say what it takes
        return


def warn_of_what_has_no_effect(config: Any, given: Mapping[str, Any], assisted: bool) -> None:
    """Warn of parameters that transformers has and that have no effect here, and of arguments without effect.

    Args:
        given: the arguments of the call.
        assisted: whether something proposes tokens.
    """
    for name, why in WITHOUT_EFFECT.items():
        if getattr(config, name) not in (None, DEFAULTS[name], False):
            logger.warning("%s=%r has no effect: %s.", name, getattr(config, name), why)
    if not assisted:
        for name in [name for name in (*_OF_ASSISTANTS, "max_matching_ngram_size") if given.get(name) is not None]:
            logger.warning("%s=%r has no effect without an assistant.", name, given[name])
    if config.penalty_alpha and (config.do_sample or (config.num_beams or 1) > 1 or (config.top_k or 0) < 2):
        logger.warning(
            "penalty_alpha=%r has no effect: it needs do_sample=False, num_beams=1 and top_k from 2.",
            config.penalty_alpha,
        )


def require_in_vocabulary(config: Any, given: Mapping[str, Any], tokens: Any, size: int, encodes: bool) -> None:
    """Raise `ArgumentError` for special tokens outside of a vocabulary of `size` that are arguments, or that a model
    would be called with; warn of others.

    Args:
        tokens: a `triptych.generation.request.Tokens`.
        encodes: whether the text begins with `tokens.start`.
    """
    pad, ends, start = tokens.pad, tokens.eos, tokens.start
    if encodes and given.get("decoder_input_ids") is None and not (natural(start) and start < size):
        _refuse_token("decoder_start_token_id", start, size)
    for name in ("eos_token_id", "pad_token_id", "forced_bos_token_id", "forced_eos_token_id"):
        value = getattr(config, name)
        wrong = [one for one in (value if isinstance(value, (list, tuple)) else [value]) if (one or 0) >= size]
        if wrong and given.get(name) is not None:
            _refuse_token(name, wrong[0], size)
    if pad >= size and any(one < size for one in ends):
        _refuse_token("pad_token_id", pad, size)
    if ends and min(ends) >= size:
        logger.warning("eos_token_id=%s is outside of the vocabulary of %d tokens: no text ends.", ends[0], size)


def _refuse_token(name: str, value: Any, size: int) -> None:
    raise ArgumentError(f"{name} is outside of the vocabulary.", expected=f"a token below {size}", received=str(value))


def positions_of(config: Any, side: str = "decoder") -> int | None:
    """Return the `learned_positions` that the config of a model states, or that of one side of it; None if none."""
    part = getattr(config, side, None)
    found: int | None = getattr(part if isinstance(part, PretrainedConfig) else config, "learned_positions", None)
    return found


def room_of(limit: int, prompt: int, padding: int, positions: int | None) -> int:
    """Return how many tokens prompt and answer have room for: at most `limit`, and those that the model has positions
    for, and the last, which it does not read.

    Args:
        padding: how many columns of every prompt are padding.

    Raises:
        ArgumentError: the model has no positions for the prompt.
    """
    most = limit if positions is None else positions + padding + 1
    if prompt >= most:
        raise ArgumentError("The prompt is too long for the model.", expected=f"at most {most - 1} tokens",
                            received=str(prompt), remedy="cut its beginning off")  # fmt: skip
    if most < limit:
        logger.warning("The model has %d positions: at most %d new tokens.", positions, most - prompt)
    return min(limit, most)


def array_of(
    ops: Any, value: Any, make: Callable[[Any], Any], name: str, expected: str, fractions: bool = False
) -> Any:
    """Return `value` as `make` makes an integer array of it.

    Args:
        fractions: whether numbers may be of a type that has fractions, if they have none.

    Raises:
        ArgumentError: it is something else.
    """
    found = value
    if not hasattr(value, "shape"):
        try:
            found = np.asarray(value)
        except (TypeError, ValueError):  # rows of different lengths
            found = np.asarray(None)
    kind, allowed = str(getattr(found, "dtype", None)), ("int", "bool", "float") if fractions else ("int", "bool")
    empty = getattr(found, "size", 1) == 0 and not hasattr(value, "shape")
    if isinstance(value, (str, bytes, Mapping)) or not (empty or any(one in kind for one in allowed)):
        raise ArgumentError(f"{name} is no array of integers.", expected=expected, received=repr(value)[:80])
    if "float" in kind and not empty:
        broken = found != found // 1
        if broken.any() if isinstance(found, np.ndarray) else ops.known(ops.any(broken)):
            raise ArgumentError(f"{name} has fractions.", expected=expected, received=repr(value)[:80])
    return make(value)


def require_below(ops: Any, ids: Any, size: int | None, name: str) -> None:
    """Raise `ArgumentError` for tokens outside of a vocabulary of `size`, unless they are traced."""
    if size is not None and ops.known(ops.any((ids < 0) | (ids >= size))):
        raise ArgumentError(
            f"{name} has tokens outside of the vocabulary.", expected=f"tokens from 0 to {size - 1}",
            received=f"{ops.known(ops.minimum_of(ops.reshape(ids, (1, -1)))[0, 0])} to "
            f"{-ops.known(ops.minimum_of(ops.reshape(-ids, (1, -1)))[0, 0])}",
            remedy="check that the tokenizer is the model's",
        )  # fmt: skip
