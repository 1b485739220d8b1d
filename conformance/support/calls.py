"""Calls of a model that keep its output as the framework gives it."""

from __future__ import annotations

from typing import Any

import numpy as np

from triptych_conformance import Backend


def run_raw(backend: Backend, model: Any, inputs: dict[str, np.ndarray], cache: object) -> Any:
    """Return what `model` makes of arrays of numpy and a cache."""
    if backend.name == "pt":
        import torch

        inputs = {name: torch.tensor(value) for name, value in inputs.items()}
    return model(**inputs, past_key_values=cache)
