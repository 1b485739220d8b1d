"""Arrays of any framework as NumPy's: what Python code looks at between two steps."""

from __future__ import annotations

from typing import Any

import numpy as np


def on_host(value: Any) -> np.ndarray:
    """Return `value`, an array of any framework on any device or a list of numbers, as a NumPy array."""
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
