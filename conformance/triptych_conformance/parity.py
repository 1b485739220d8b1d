"""One interface over the three backends, for comparing them, and the comparison itself."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from triptych.backends import require
from triptych.names import BACKENDS as _PACKAGES

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Backend:
    """One framework: its classes by stem, and its models run on numpy arrays."""

    name: str

    def cls(self, stem: str) -> Any:
        """Return the class `stem` ("BertModel", "AutoModel", ...) of this backend."""
        package, prefix = _PACKAGES[self.name]
        require(self.name)
        return getattr(importlib.import_module(package), prefix + stem)

    def load(self, stem: str, folder: Any, **options: Any) -> Any:
        """Return the model in `folder`, for inference."""
        return self.cls(stem).from_pretrained(folder, **options)

    def run(self, model: Any, inputs: Arrays, **options: Any) -> dict[str, np.ndarray]:
        """Return every output as a float32 array: logits, hidden_states.0, hidden_states.1, ..."""
        return _flat(_RUN[self.name](model, inputs, options))

    def takes(self, model: Any, argument: str) -> bool:
        """Return whether a call of `model` has an argument of this name."""
        call = {"pt": "forward", "tf": "call", "flax": "__call__"}[self.name]
        return argument in inspect.signature(getattr(model, call)).parameters

    def weights(self, model: Any) -> dict[str, np.ndarray]:
        """Return the model's weights by canonical name, in canonical layout."""
        return {ref.name: np.array(ref.read()) for ref in model._tensor_refs()}


def _run_pt(model: Any, inputs: Arrays, options: dict[str, Any]) -> Any:
    import torch

    with torch.no_grad():
        return model(**{name: torch.tensor(value) for name, value in inputs.items()}, **options)


def _run_tf(model: Any, inputs: Arrays, options: dict[str, Any]) -> Any:
    return model(**inputs, **options, training=False)


def _run_flax(model: Any, inputs: Arrays, options: dict[str, Any]) -> Any:
    return model(**inputs, **options)


_RUN: dict[str, Callable[[Any, Arrays, dict[str, Any]], Any]] = {"pt": _run_pt, "tf": _run_tf, "flax": _run_flax}


def _flat(output: Any) -> dict[str, np.ndarray]:
    result: dict[str, np.ndarray] = {}
    for name, value in output.items():
        if name == "past_key_values":  # not an array; what it is differs by framework
            continue
        if isinstance(value, (tuple, list)):
            result |= {f"{name}.{i}": _array(part) for i, part in enumerate(value)}
        else:
            result[name] = _array(value)
    return result


def _array(value: Any) -> np.ndarray:
    if type(value).__module__.startswith("torch"):
        return value.detach().float().cpu().numpy()
    return np.asarray(value).astype(np.float32)


def _chosen() -> tuple[Backend, ...]:
    """Return the backends named in TRIPTYCH_BACKENDS ("pt,tf,flax" if unset); one that is missing is an error."""
    names = os.environ.get("TRIPTYCH_BACKENDS", "pt,tf,flax").split(",")
    for name in names:
        require(name)
    return tuple(Backend(name) for name in names)


BACKENDS = _chosen()


def largest_difference(one: np.ndarray, other: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Return the largest absolute difference, at positions [B, Q] whose mask is 1 where the shape has them.

    Attention probabilities [B, N, Q, K] are compared at the queries that count. Shapes that differ, and values that are
    not finite where they should be, count as infinitely far apart.
    """
    if one.shape != other.shape:
        return float("inf")
    difference = np.abs(one.astype(np.float64) - other.astype(np.float64))
    if mask is not None and one.ndim >= 2:
        where = mask.astype(bool)
        if one.shape[:2] == mask.shape:
            difference = difference[where]
        elif one.ndim == 4 and one.shape[0] == mask.shape[0] and one.shape[2] == mask.shape[1]:
            difference = difference.transpose(0, 2, 1, 3)[where]
    largest = float(difference.max(initial=0.0))
    return float("inf") if np.isnan(largest) else largest


@dataclass(frozen=True)
class Parity:
    """The largest difference of each output, between each pair of backends: (output, "pt-tf") -> number."""

    differences: Mapping[tuple[str, str], float]

    @property
    def largest(self) -> float:
        return max(self.differences.values())

    def assert_within(self, tolerance: float) -> None:
        """Raise AssertionError naming every output and pair that differs by more than `tolerance`."""
        bad = {key: value for key, value in self.differences.items() if not value <= tolerance}
        assert not bad, f"beyond {tolerance}: {bad}"


def compare_folder(folder: Any, stem: str, inputs: Arrays, **options: Any) -> Parity:
    """Load `folder` as class `stem` in every backend, run `inputs`, and compare every output.

    Args:
        inputs: numpy arrays by argument name; `attention_mask` [B, Q] also says which positions count.
        options: further arguments of the call; output_hidden_states=True is one of them where the model knows it.
    """
    results = {}
    for backend in BACKENDS:
        model = backend.load(stem, folder)
        known = {"output_hidden_states": True} if backend.takes(model, "output_hidden_states") else {}
        results[backend.name] = backend.run(model, inputs, **{**known, **options})
    names = list(results)
    pairs = [(one, other) for i, one in enumerate(names) for other in names[i + 1 :]]
    mask = inputs.get("attention_mask")
    return Parity(
        {
            (output, f"{one}-{other}"): largest_difference(
                results[one][output], results[other].get(output, np.zeros(())), mask
            )
            for one, other in pairs
            for output in results[one]
        }
    )
