"""What a call of `generate` asks for: the config that holds for it, and the prompt, in the same terms everywhere."""

from __future__ import annotations

import copy
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from triptych.errors import ArgumentError, ConfigError
from triptych.generation import checks
from triptych.generation.config import GenerationConfig
from triptych.generation.parameters import DEFAULTS

logger = logging.getLogger("triptych")

_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
_INHERITING = (4, 50)
"""The release from which on the config of a model says what a passed one leaves open."""
_NOT_FIELDS = ("is_assistant", "transformers_version")


def settled(
    own: GenerationConfig | None, passed: Any, kwargs: Mapping[str, Any], use_model_defaults: bool | None = None
) -> tuple[GenerationConfig, dict[str, Any]]:
    """Return the config of one call, a copy, and the arguments that are none of its parameters.

    Arguments go before `passed`, that before `own`, the model's; what `passed` leaves at its default is the model's
    only where `use_model_defaults` says so, or for None a model saved by transformers 4.50 or later; special tokens are
    always.

    Raises:
        ConfigError: parameters that cannot be meant.
    """
    base = copy.deepcopy(passed if passed is not None else own if own is not None else GenerationConfig())
    if isinstance(base, Mapping):
        base = GenerationConfig(**base)
    if not isinstance(base, GenerationConfig):
        raise ConfigError("generation_config is none.", expected="a GenerationConfig", received=repr(passed)[:80])
    if passed is not None and own is not None:
        inherits = _inherits(own) if use_model_defaults is None else use_model_defaults
        for name in DEFAULTS if inherits else _TOKENS:
            if getattr(base, name) == DEFAULTS[name]:
                setattr(base, name, copy.deepcopy(getattr(own, name)))
    fields = {name: value for name, value in kwargs.items() if name in base.__dict__ and name not in _NOT_FIELDS}
    base.__dict__.update({name: checks.plain(copy.copy(value)) for name, value in fields.items()})
    base.validate()
    checks.require_possible(base)
    return base, {name: value for name, value in kwargs.items() if name not in fields}


def _inherits(own: GenerationConfig) -> bool:
    numbers = [int(part) for part in str(own.transformers_version).split(".")[:2] if part.isdigit()]
    return tuple(numbers) >= _INHERITING


@dataclass
class Tokens:
    """Special tokens of one call: `eos` several or none, `pad` one, `start` the decoder's first or None."""

    eos: tuple[int, ...]
    pad: int
    start: int | None


def special_tokens(config: GenerationConfig, encodes: bool) -> Tokens:
    """Return the special tokens. Without one for padding, the first that ends a text pads.

    Raises:
        ArgumentError: one is no token; a decoder has nothing to start with.
    """
    eos = config.eos_token_id
    ends = () if eos is None else tuple(eos) if isinstance(eos, (list, tuple)) else (eos,)
    start = config.decoder_start_token_id
    start = config.bos_token_id if start is None else start
    for name, token in (("eos_token_id", ends), ("pad_token_id", config.pad_token_id)):
        wrong = [
            one for one in (token if isinstance(token, tuple) else (token,)) if one is not None and not _is_id(one)
        ]
        if wrong:
            raise ArgumentError(f"{name} is no token.", expected="an integer from 0", received=repr(wrong[0])[:80])
    if encodes and start is None:
        raise ArgumentError(
            "The decoder has no first token.",
            expected="decoder_start_token_id or bos_token_id in the generation config",
            remedy="pass decoder_start_token_id=, or decoder_input_ids=",
        )
    pad = config.pad_token_id
    if pad is None and ends:
        logger.info("pad_token_id is set to eos_token_id, %s: generation needs one.", ends[0])
        pad = ends[0]
    return Tokens(ends, 0 if pad is None else int(pad), start)


def _is_id(token: Any) -> bool:
    return isinstance(token, int) and not isinstance(token, bool) and token >= 0


def longest(config: GenerationConfig, prompt: int, asked: Collection[str], positions: int | None) -> int:
    """Return how many tokens prompt and answer may have together: `max_new_tokens` more than the prompt, else
    `max_length`. The default of `max_length`, 20, is the number of new tokens.

    Args:
        prompt: tokens that there are.
        asked: names of the parameters that the caller or the model's files say.
        positions: how many the model has, at most.

    Raises:
        ArgumentError: there is no room behind the prompt, or the least length is beyond the greatest.
    """
    if config.max_new_tokens is not None:
        if "max_length" in asked and config.max_length != DEFAULTS["max_length"]:
            logger.warning("max_new_tokens=%s goes before max_length=%s.", config.max_new_tokens, config.max_length)
        limit = prompt + config.max_new_tokens
    elif config.max_length == DEFAULTS["max_length"] and "max_length" not in asked:
        logger.warning("Neither max_new_tokens nor max_length is given: at most 20 new tokens; pass max_new_tokens.")
        limit = prompt + DEFAULTS["max_length"]
        limit = limit if positions is None or prompt >= positions else min(limit, positions)
    else:
        limit = config.max_length
    if prompt >= limit:
        raise ArgumentError(
            "There is no room for a new token.",
            expected=f"a prompt of fewer than max_length={limit} tokens",
            received=f"{prompt} tokens",
            remedy="pass a greater max_length, or max_new_tokens=",
        )
    least = max(config.min_length or 0, prompt + (config.min_new_tokens or 0))
    if config.min_length is not None and least > limit:
        raise ArgumentError(
            "The least length is beyond the greatest.", expected=f"at most {limit}", received=str(least)
        )
    return limit


def _spelled(strange: Collection[str], known: Collection[str]) -> str:
    near = {name: get_close_matches(name, known, 1) for name in strange}
    meant = [f"{found[0]} for {name}" for name, found in near.items() if found]
    return f"do you mean {', '.join(meant)}?" if meant else "check their spelling"


def refuse_unknown(kwargs: Mapping[str, Any], known: Collection[str], cls: type) -> None:
    """Raise `ArgumentError` for arguments that the model does not take."""
    strange = sorted(name for name, value in kwargs.items() if name not in known and value is not None)
    if strange:
        raise ArgumentError(
            f"{cls.__name__}.generate does not know these arguments.",
            expected="parameters of the generation config, or arguments of a call of the model",
            received=", ".join(strange),
            remedy=_spelled(strange, {*known, *DEFAULTS}),
        )
