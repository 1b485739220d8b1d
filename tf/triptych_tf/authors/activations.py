"""Activations of TensorFlow, by the names that configs have for them, for code that imports them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import keras

from triptych.nn import functional as fn
from triptych_tf import ops

ACT2FN: dict[str, Callable[[Any], Any]] = {name: partial(fn.activation, ops, name) for name in fn.ACTIVATIONS}
"""Name -> function."""


def glu(x: Any, axis: int = -1) -> Any:
    """Return one half of `x` times the sigmoid of the other (Dauphin et al., 2016, https://arxiv.org/abs/1612.08083)."""
    values, gates = keras.ops.split(x, 2, axis=axis)
    return values * keras.ops.sigmoid(gates)


ACT2FN["glu"] = glu


def get_activation(activation_string: str) -> Callable[[Any], Any]:
    """Return a function by its name.

    Raises:
        KeyError: there is no such activation.
    """
    if activation_string not in ACT2FN:
        raise KeyError(f"there is no activation {activation_string!r}; there are {', '.join(ACT2FN)}")
    return ACT2FN[activation_string]


gelu = ACT2FN["gelu"]
gelu_new = ACT2FN["gelu_new"]
gelu_fast = ACT2FN["gelu_fast"]
gelu_10 = ACT2FN["gelu_10"]
quick_gelu = ACT2FN["quick_gelu"]
mish = ACT2FN["mish"]
