"""What each parameter of a `GenerationConfig` may be when it is heeded, by itself and beside the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from triptych.errors import ConfigError
from triptych.generation.options import _Watermarking
from triptych.generation.parameters import DEFAULTS

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
    return isinstance(value, (list, tuple)) and all(isinstance(one, int) and not isinstance(one, bool) for one in value)


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
