"""What the families share: axes, and checks of fields."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from triptych.checks import probability
from triptych.errors import ConfigError
from triptych.nn.axes import heads_axis as heads_axis
from triptych.nn.axes import kv_heads_axis as kv_heads_axis
from triptych.nn.axes import labels_axis as labels_axis
from triptych.nn.functional import ACTIVATIONS

if TYPE_CHECKING:
    from triptych.config import PretrainedConfig

_BUILT_IN: dict[str, tuple[Any, ...]] = {
    "add_cross_attention": (False, None),
    "is_causal": (True,),
    "is_decoder": (False, None),
    "layerdrop": (0.0,),
    "partial_rotary_factor": (1.0,),
    "position_embedding_type": ("absolute",),
    "pretraining_tp": (1, None),
    "tf_legacy_loss": (False, None),
    "tie_encoder_decoder": (False, None),
}
"""Fields that change what transformers computes, with the values for which triptych computes the same."""


def require_divisor(config: PretrainedConfig, part: str, whole: str) -> None:
    """Raise `ConfigError` unless field `part` divides field `whole`."""
    if getattr(config, whole) % getattr(config, part):
        raise ConfigError(
            f"`{part}` does not divide `{whole}`.",
            expected=f"a divisor of {getattr(config, whole)}",
            received=str(getattr(config, part)),
        )


def require_activation(config: PretrainedConfig, name: str) -> None:
    """Raise `ConfigError` unless field `name` is an activation that triptych has."""
    if getattr(config, name) not in ACTIVATIONS:
        raise ConfigError(
            f"`{name}` is unknown.", expected=f"one of {list(ACTIVATIONS)}", received=repr(getattr(config, name))
        )


def require_value(config: PretrainedConfig, name: str, supported: Iterable[Any], remedy: str) -> None:
    """Raise `ConfigError` unless field `name` has one of the values that triptych computes with."""
    supported = list(supported)
    value = getattr(config, name, supported[0])
    if value not in supported:
        raise ConfigError(
            f"`{name}` is not supported.",
            expected=" or ".join(map(repr, supported)),
            received=repr(value),
            remedy=remedy,
        )


def require_built_in(config: PretrainedConfig, *names: str) -> None:
    """Raise `ConfigError` if one of these fields, or one that concerns every family, asks for what is not built in."""
    for name in ("tf_legacy_loss", *names):
        require_value(config, name, _BUILT_IN[name], "set it so, or register a class of your own that computes it")


def optional_probability(value: Any) -> bool:
    """a number from 0 to 1, or None"""
    return value is None or probability(value)


def optional_boolean(value: Any) -> bool:
    """true, false or None"""
    return value is None or isinstance(value, bool)


def token_dropout(config: PretrainedConfig) -> float:
    """Return the dropout before the scores of tokens, of a family whose config has no field of its own for it."""
    for name in ("classifier_dropout", "hidden_dropout"):
        if getattr(config, name, None) is not None:
            return float(getattr(config, name))
    return 0.1
