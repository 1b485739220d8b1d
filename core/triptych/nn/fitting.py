"""Whether a cache is of the model and the batch of a call."""

from __future__ import annotations

from typing import Any

from triptych.errors import ArgumentError
from triptych.nn import functional as fn


def require_fitting(keys: Any, values: Any, new: Any, layer: int) -> None:
    """Raise unless the keys and values that a cache holds of a layer fit new ones, [B, N, K, D].

    Raises:
        ArgumentError: they do not.
    """
    batch, heads, _, width = new.shape
    length = None if keys is None else keys.shape[2]
    for held in (keys, values):
        if fn.differ(fn.shape_of(held), (batch, heads, length, width)):
            expected = f"[{batch}, {heads}, past, {width}] in layer {layer}"
            raise of_another_model(expected, "nothing" if held is None else fn.described(held))


def of_another_model(expected: str, received: str) -> ArgumentError:
    """Return the error of a cache that does not fit."""
    return ArgumentError(
        "past_key_values is of another model or batch.", expected=expected, received=received,
        remedy="pass what this model returned for the tokens before",
    )  # fmt: skip


def full(room: int, tokens: int, remedy: str) -> ArgumentError:
    """Return the error of a cache with `room` for fewer than `tokens`."""
    return ArgumentError("The cache is full.", expected=f"at most {room} tokens", received=str(tokens), remedy=remedy)
