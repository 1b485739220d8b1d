"""Models by repository id: the frameworks that load them, and how two are compared."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

REPO = "org/bert"
PACKAGES = {"pt": "triptych_pt", "tf": "triptych_tf", "flax": "triptych_flax"}
PREFIXES = {"pt": "", "tf": "TF", "flax": "Flax"}

framework = pytest.mark.parametrize("framework", PACKAGES)


def model_class(framework: str, name: str = "BertForMaskedLM") -> Any:
    return getattr(importlib.import_module(PACKAGES[framework]), PREFIXES[framework] + name)


def weights(model: Any) -> dict[str, np.ndarray]:
    return {ref.name: np.array(ref.read()) for ref in model._tensor_refs()}


def assert_same(model: Any, like: Any) -> None:
    found, wanted = weights(model), weights(like)
    assert found.keys() == wanted.keys()
    assert not [name for name in wanted if not np.array_equal(found[name], wanted[name])]
    assert not model.load_report.missing_keys
