"""What the arguments of `generate` may be: everything that cannot be meant is refused here, before a model is called."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from triptych.errors import ArgumentError, ConfigError
from triptych.generation.options import _Watermarking
from triptych.generation.parameters import DEFAULTS

logger = logging.getLogger("triptych")

Check = Callable[[Any], bool]
"""Whether a value that is not None is possible; its docstring says what is expected."""


def flag(value: Any) -> bool:
    """True or False"""
    return isinstance(value, bool) or (isinstance(value, int) and value in (0, 1))


def natural(value: Any) -> bool:
    """an integer from 0"""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def positive(value: Any) -> bool:
    """an integer from 1"""
    return natural(value) and value > 0


def number(value: Any) -> bool:
    """a finite number"""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def count(value: Any) -> bool:
    """a number from 1"""
    return number(value) and value >= 1


def not_negative(value: Any) -> bool:
    """a number from 0"""
    return number(value) and value >= 0


def share(value: Any) -> bool:
    """a number from 0 to 1"""
    return number(value) and 0 <= value <= 1


def part(value: Any) -> bool:
    """a number from 0 to below 1"""
    return number(value) and 0 <= value < 1


def token(value: Any) -> bool:
    """a token: an integer from 0"""
    return natural(value)


def tokens(value: Any) -> bool:
    """a token, or a list of tokens: integers from 0"""
    return natural(value) or (isinstance(value, (list, tuple)) and all(natural(one) for one in value))


def listed(value: Any) -> bool:
    """a list of integers"""
    return isinstance(value, (list, tuple)) and all(
        isinstance(one, int) and not isinstance(one, bool) for one in value
    )


def texts(value: Any) -> bool:
    """a text or a list of texts, none of them empty"""
    several = [value] if isinstance(value, str) else value
    return isinstance(several, (list, tuple)) and bool(several) and all(isinstance(x, str) and x for x in several)


def mapping(value: Any) -> bool:
    """a mapping"""
    return isinstance(value, Mapping)


def watermark(value: Any) -> bool:
    """a WatermarkingConfig, a SynthIDTextWatermarkingConfig, or a dict of one"""
    return isinstance(value, _Watermarking)


def schedule(value: Any) -> bool:
    """'constant', 'heuristic' or 'heuristic_transient'"""
    return value in ("constant", "heuristic", "heuristic_transient")


def anything(value: Any) -> bool:
    """anything: what reads it says what it may be"""
    return True


CHECKS: Mapping[str, Check] = {
    "max_length": natural, "min_length": natural, "max_new_tokens": positive, "min_new_tokens": natural,
    "max_time": not_negative, "stop_strings": texts, "do_sample": flag, "early_stopping": anything,
    "num_beams": positive, "num_beam_groups": positive, "penalty_alpha": share, "dola_layers": anything,
    "use_cache": flag, "cache_implementation": anything, "cache_config": mapping, "return_legacy_cache": flag,
    "prefill_chunk_size": positive, "temperature": number, "top_k": natural, "top_p": share, "min_p": share,
    "typical_p": share, "epsilon_cutoff": part, "eta_cutoff": part, "diversity_penalty": not_negative,
    "repetition_penalty": number, "encoder_repetition_penalty": number, "length_penalty": number,
    "no_repeat_ngram_size": natural, "encoder_no_repeat_ngram_size": natural, "bad_words_ids": anything,
    "force_words_ids": anything, "renormalize_logits": flag, "constraints": anything, "forced_bos_token_id": token,
    "forced_eos_token_id": tokens, "forced_decoder_ids": anything, "remove_invalid_values": flag,
    "exponential_decay_length_penalty": anything, "suppress_tokens": listed, "begin_suppress_tokens": listed,
    "sequence_bias": anything, "token_healing": flag, "guidance_scale": number, "low_memory": flag,
    "watermarking_config": watermark, "num_return_sequences": positive, "output_attentions": flag,
    "output_hidden_states": flag, "output_scores": flag, "output_logits": flag, "return_dict_in_generate": flag,
    "pad_token_id": token, "bos_token_id": token, "eos_token_id": tokens, "decoder_start_token_id": token,
    "is_assistant": flag, "num_assistant_tokens": count, "num_assistant_tokens_schedule": schedule,
    "assistant_confidence_threshold": share, "prompt_lookup_num_tokens": positive,
    "max_matching_ngram_size": positive, "assistant_early_exit": anything, "assistant_lookbehind": positive,
    "target_lookbehind": positive, "compile_config": anything, "disable_compile": flag, "generation_kwargs": mapping,
}  # fmt: skip
"""Of every parameter, what it may be where it is not None. What `anything` is, is checked where it is used."""
_NEEDED = ("max_length", "length_penalty")
"""Parameters that are not None."""
_NO_TOKEN = ("pad_token_id", "bos_token_id", "decoder_start_token_id")
"""Parameters of files that have -1 for none; as arguments they are refused by name."""
_SAMPLING = ("top_p", "typical_p", "min_p", "epsilon_cutoff", "eta_cutoff")
_WITHOUT_EFFECT: Mapping[str, str] = {
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


def plain(value: Any) -> Any:
    """Return a parameter that is an array or a number of a framework as Python's list or number."""
    if isinstance(value, (str, bytes, type)) or not hasattr(value, "shape"):
        return value
    value = value.numpy() if hasattr(value, "numpy") and not hasattr(value, "tolist") else value
    return value.tolist() if hasattr(value, "tolist") else value


def require_possible(config: Any) -> None:
    """Raise `ConfigError` for a parameter that is impossible by itself, or beside another."""
    for name, check in CHECKS.items():
        value = getattr(config, name)
        if (value is None and name in _NEEDED) or not (value is None or _unused(config, name) or check(value)):
            raise ConfigError(f"{name} is impossible.", expected=str(check.__doc__), received=repr(value)[:80],
                              remedy=f"pass {name}={DEFAULTS[name]!r}, the default, or leave it out")  # fmt: skip
    beams, groups = config.num_beams or 1, config.num_beam_groups or 1
    if groups > 1:
        _require_groups(config, beams, groups)
    beams_alone = config.guidance_scale not in (None, 1) and beams > 1
    if beams_alone:
        raise ConfigError("guidance_scale goes with greedy search or sampling only.", expected="num_beams=1",
                          received=f"num_beams={beams}")  # fmt: skip


def _unused(config: Any, name: str) -> bool:
    """Return whether a number has no effect, so that one out of its range does no harm, as files have them."""
    if name in _SAMPLING:
        return not config.do_sample and number(getattr(config, name))
    return name in _NO_TOKEN and getattr(config, name) == -1


def _require_groups(config: Any, beams: int, groups: int) -> None:
    problems = (
        (beams % groups, "num_beams that can be divided by num_beam_groups", f"{beams} beams in {groups} groups"),
        (config.do_sample, "do_sample=False", "groups of beams that are drawn"),
        (not config.diversity_penalty, "diversity_penalty above 0, without which all groups are the same",
         f"diversity_penalty={config.diversity_penalty!r}"),
    )  # fmt: skip
    for wrong, expected, received in problems:
        if wrong:
            raise ConfigError("Groups of beams are impossible so.", expected=expected, received=received,
                              remedy="or pass num_beam_groups=1")  # fmt: skip


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
    for name, why in _WITHOUT_EFFECT.items():
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


_LEARNED = ("bert", "electra", "gpt2", "opt", "roberta")
"""Kinds of models that have a vector for each position, and none for further ones."""


def positions_of(config: Any) -> int | None:
    """Return how many positions a built-in model has vectors for; None if it computes them."""
    if config.model_type not in _LEARNED:
        return None
    first = config.pad_token_id + 1 if config.model_type == "roberta" else 0
    return int(config.max_position_embeddings) - first


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


def array_of(ops: Any, value: Any, make: Callable[[Any], Any], name: str, expected: str, fractions: bool = False) -> Any:
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
