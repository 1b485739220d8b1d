"""Rotary position embeddings (Su et al., 2021, https://arxiv.org/abs/2104.09864) and the ways to stretch them.

- linear: positions divided by a factor (Chen et al., 2023, https://arxiv.org/abs/2306.15595);
- dynamic: a larger base once a text is longer than the model was trained for ("dynamic NTK");
- llama3: only low frequencies divided (Grattafiori et al., 2024, https://arxiv.org/abs/2407.21783).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from triptych.errors import ConfigError

_LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
_REQUIRED: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "llama3": _LLAMA3,
}


def parse_rope(theta: Any, scaling: Any, parameters: Any) -> tuple[Any, dict[str, Any] | None]:
    """Return `rope_theta` and `rope_scaling`, whichever of the two ways of writing them was used.

    `parameters` is `rope_parameters` of transformers 5, or None. Scaling of kind "default" becomes None.

    Raises:
        ConfigError: one of them is no mapping.
    """
    for name, value in (("rope_scaling", scaling), ("rope_parameters", parameters)):
        if value is not None and not isinstance(value, Mapping):
            raise ConfigError(f"`{name}` is no mapping.", expected="a mapping or null", received=repr(value)[:80])
        if any(isinstance(part, Mapping) for part in (value or {}).values()):
            raise ConfigError(
                f"`{name}` by kind of layer is not built in.", expected="one for all", received=repr(value)[:80]
            )
    if parameters is not None:
        rest = {name: value for name, value in parameters.items() if name != "rope_theta"}
        theta, scaling = parameters.get("rope_theta", theta), rest
    scaling = dict(scaling) if scaling else None
    return theta, None if scaling is None or _kind(scaling) == "default" else scaling


def _kind(scaling: Mapping[str, Any] | None) -> str:
    return "default" if scaling is None else str(scaling.get("rope_type", scaling.get("type", "default")))


def check_rope(config: Any) -> None:
    """Raise `ConfigError` unless `config.rope_scaling` is of a kind that is built in, with all its numbers."""
    parse_rope(config.rope_theta, config.rope_scaling, None)
    scaling, kind = config.rope_scaling or {}, _kind(config.rope_scaling)
    if kind not in _REQUIRED or scaling.get("partial_rotary_factor", 1.0) != 1.0 or config.head_dim % 2:
        raise ConfigError(
            "`rope_scaling` or `head_dim` asks for rotary positions that are not built in.",
            expected=f"an even head_dim, all of it rotated, and rope_type one of {sorted(_REQUIRED)}",
            received=f"head_dim {config.head_dim}, {dict(scaling)}",
            remedy="register a class of your own",
        )
    wrong = [name for name in _REQUIRED[kind] if not _is_positive(scaling.get(name))]
    if wrong:
        raise ConfigError(
            f"`rope_scaling` of kind {kind!r} lacks numbers.", expected=f"positive {wrong}", received=str(dict(scaling))
        )
    if kind == "llama3" and scaling["low_freq_factor"] >= scaling["high_freq_factor"]:
        raise ConfigError("`low_freq_factor` is not below `high_freq_factor`.", received=str(dict(scaling)))
    if kind == "dynamic" and config.head_dim < 4:
        raise ConfigError("Dynamic scaling needs a larger head_dim.", expected=">= 4", received=str(config.head_dim))


def _is_positive(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < float("inf")


def inverse_frequencies(config: Any) -> np.ndarray:
    """Return the angle per position of each pair of dimensions, float32 [head_dim / 2]; without dynamic scaling."""
    inverse = config.rope_theta ** -_exponents(config)
    scaling, kind = config.rope_scaling or {}, _kind(config.rope_scaling)
    if kind == "linear":
        inverse = inverse / scaling["factor"]
    if kind == "llama3":
        inverse = _llama3(inverse, *(scaling[name] for name in _LLAMA3))
    return inverse.astype(np.float32)


def frequencies(config: Any, length: int | None = None) -> np.ndarray:
    """Return `inverse_frequencies`; with dynamic scaling, those for a text of `length` tokens."""
    if _kind(config.rope_scaling) != "dynamic":
        return inverse_frequencies(config)
    trained, factor = config.max_position_embeddings, config.rope_scaling["factor"]
    stretch = factor * max(length or trained, trained) / trained - (factor - 1)
    base = config.rope_theta * stretch ** (config.head_dim / (config.head_dim - 2))
    return (base ** -_exponents(config)).astype(np.float32)


def _exponents(config: Any) -> np.ndarray:
    return np.arange(0, config.head_dim, 2, dtype=np.float64) / config.head_dim


def _llama3(inverse: np.ndarray, factor: float, low: float, high: float, trained: float) -> np.ndarray:
    """Divide frequencies that turn fewer than `low` times in `trained` tokens, leave those above `high`, and blend."""
    turns = trained * inverse / (2 * math.pi)
    blend = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return (1 - blend) * inverse / factor + blend * inverse


def rotary_tables(ops: Any, config: Any, positions: Any, dtype: Any) -> tuple[Any, Any]:
    """Return cosines and sines [B or 1, 1, Q, head_dim] of `positions` [B or 1, Q]; both halves of the last axis are
    the same."""
    places = ops.cast(positions, "float32")
    inverse = ops.constant(inverse_frequencies(config), places)
    if _kind(config.rope_scaling) == "dynamic":
        inverse = _dynamic(ops, config, places)
    angles = places[:, None, :, None] * inverse[None, None, None, :]
    angles = ops.concat([angles, angles], -1)
    return ops.cast(ops.cos(angles), dtype), ops.cast(ops.sin(angles), dtype)


def _dynamic(ops: Any, config: Any, places: Any) -> Any:
    trained, factor = config.max_position_embeddings, config.rope_scaling["factor"]
    length = ops.maximum(ops.max(places) + 1.0, float(trained))
    stretch = (factor * length / trained) - (factor - 1)
    base = config.rope_theta * stretch ** (config.head_dim / (config.head_dim - 2))
    return base ** ops.constant(-_exponents(config).astype(np.float32), places)


def rotate(ops: Any, x: Any, cos: Any, sin: Any) -> Any:
    """Rotate `x` [B, N, Q, D]: dimension i is paired with i + D / 2, as in the Hugging Face files."""
    return x * cos + turned(ops, x) * sin


def turned(ops: Any, x: Any) -> Any:
    """Return `x` [..., D] with its halves exchanged, the second of them negated."""
    half = x.shape[-1] // 2
    return ops.concat([-x[..., half:], x[..., :half]], -1)
