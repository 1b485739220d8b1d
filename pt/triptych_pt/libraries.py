"""Quantisation of the layers of a loaded model by bitsandbytes and torchao, where they are installed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from triptych.errors import MissingBackendError
from triptych.modeling.quantised import method_of

_NEEDS = {"bitsandbytes": "bitsandbytes", "torchao": "torchao"}


def check(said: Mapping[str, Any]) -> None:
    """Import the library that a quantisation config names.

    Raises:
        MissingBackendError: it is not installed.
    """
    name = _NEEDS[method_of(said)]
    try:
        importlib.import_module(name)
    except ImportError as cause:
        raise MissingBackendError(
            f"Weights cannot be quantised with {name}.",
            expected=f"the package {name}",
            received=str(cause),
            remedy=f"pip install {name}; or quantization_config=triptych.QuantizationConfig('int8'), which needs none",
        ) from cause


def quantise(model: Any, said: Mapping[str, Any]) -> None:
    """Quantise the linear layers of `model` in place."""
    raise NotImplementedError
