"""Texts of a model in any framework, and of transformers 5, as arrays of numpy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from triptych_conformance import Backend

COMPILED: Mapping[str, dict[str, Any]] = {"pt": {}, "tf": {"jit_compile": True}, "flax": {}}
EAGER: Mapping[str, dict[str, Any]] = {"pt": {}, "tf": {}, "flax": {"trace": False}}


def sequences(backend: Backend, model: Any, ids: Any, compiled: bool = True, **options: Any) -> np.ndarray:
    """Return the texts [rows, length] that `generate` returns for prompts [B, P]."""
    found = model.generate(ids, **options, **(COMPILED if compiled else EAGER)[backend.name])
    return np.asarray(found if hasattr(found, "shape") else found.sequences)


def padded_equal(one: np.ndarray, other: np.ndarray, pad: int) -> bool:
    """Return whether texts are the same but for padding at their ends."""
    width = max(one.shape[1], other.shape[1])
    widened = [np.pad(x, ((0, 0), (0, width - x.shape[1])), constant_values=pad) for x in (one, other)]
    return one.shape[0] == other.shape[0] and np.array_equal(*widened)
