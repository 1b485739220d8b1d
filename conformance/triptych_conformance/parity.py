"""One interface over the three backends, for comparing them, and the comparison itself."""

from __future__ import annotations

import importlib
import inspect
import itertools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from triptych.backends import require
from triptych.errors import ArgumentError
from triptych.names import BACKENDS as _PACKAGES
from triptych_conformance.tolerance import FLOAT32, Comparison, compare

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
        return flat(self.call(model, inputs, **options))

    def call(self, model: Any, inputs: Arrays, **options: Any) -> Any:
        """Return the output of a call on arrays, for inference, as the framework gives it."""
        return _RUN[self.name](model, inputs, options)

    def takes(self, model: Any, argument: str) -> bool:
        """Return whether a call of `model` has an argument of this name."""
        call = {"pt": "forward", "tf": "call", "flax": "__call__"}[self.name]
        known = inspect.signature(getattr(model, call)).parameters
        # A class of Flax without a call of its own passes on what its module takes.
        plain = self.name == "flax" and type(model).__call__ is self.cls("PreTrainedModel").__call__
        passed = model._call_arguments() if plain else ()
        return argument in known or argument in passed

    def weights(self, model: Any) -> dict[str, np.ndarray]:
        """Return the model's weights by canonical name, in canonical layout."""
        return {ref.name: np.array(ref.read()) for ref in model._tensor_refs()}


def _run_pt(model: Any, inputs: Arrays, options: dict[str, Any]) -> Any:
    import torch

    tensors = {name: torch.tensor(value) for name, value in inputs.items()}
    cast = getattr(model, "dtype", None) in (torch.bfloat16, torch.float16, torch.float64)  # which read no other floats
    given = {name: one.to(model.dtype) if cast and one.is_floating_point() else one for name, one in tensors.items()}
    with torch.no_grad():
        return model(**given, **options)


def _run_tf(model: Any, inputs: Arrays, options: dict[str, Any]) -> Any:
    return model(**inputs, **options, training=False)


def _run_flax(model: Any, inputs: Arrays, options: dict[str, Any]) -> Any:
    return model(**inputs, **options)


_RUN: dict[str, Callable[[Any, Arrays, dict[str, Any]], Any]] = {"pt": _run_pt, "tf": _run_tf, "flax": _run_flax}


def flat(output: Any) -> dict[str, np.ndarray]:
    """Return every array of a model's output, float32, by name: logits, hidden_states.0, hidden_states.1, ..."""
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
    """Return the backends named in TRIPTYCH_BACKENDS ("pt,tf,flax" if unset).

    Raises:
        ArgumentError: there is no such backend. MissingBackendError: what one imports is not installed.
    """
    names = [name.strip() for name in os.environ.get("TRIPTYCH_BACKENDS", "pt,tf,flax").split(",")]
    for name in names:
        if name not in _PACKAGES:
            raise ArgumentError("There is no such backend.", expected=f"several of {', '.join(_PACKAGES)}",
                                received=repr(name), remedy="see TRIPTYCH_BACKENDS, --triptych-backends")  # fmt: skip
        require(name)
    return tuple(Backend(name) for name in names)


BACKENDS = _chosen()


@dataclass(frozen=True)
class Parity:
    """How far each output lies apart between each pair of backends: (output, "pt-tf") -> numbers; pt is the reference.

    An output that one of the two does not give is infinitely far apart.
    """

    comparisons: Mapping[tuple[str, str], Comparison]

    @property
    def differences(self) -> dict[tuple[str, str], float]:
        """The largest difference of each output, between each pair of backends."""
        return {key: comparison.difference for key, comparison in self.comparisons.items()}

    @property
    def largest(self) -> float:
        return max(self.differences.values())

    def assert_within(self, tolerance: float = FLOAT32) -> None:
        """Raise AssertionError naming every output and pair that is not close.

        Args:
            tolerance: how far an output may lie apart whose size is at most 1; a larger one may by as much more.
        """
        bad = []
        for (output, pair), measured in self.comparisons.items():
            comparison = replace(measured, tolerance=measured.tolerance * (tolerance / FLOAT32))
            comparison.record(f"{output} {pair}")
            if not comparison.fraction <= 1:
                bad.append(f"{output} {pair}: {comparison}")
        if bad:
            raise AssertionError("\n".join(bad))


def compare_folder(folder: Any, stem: str, inputs: Arrays, **options: Any) -> Parity:
    """Load `folder` as class `stem` in every backend, run `inputs`, and compare every output by the rule of `compare`.

    Args:
        inputs: numpy arrays by argument name; `attention_mask` [B, Q] also says which positions count.
        options: further arguments of the call; output_hidden_states=True is one of them where the model knows it.
    """
    results = {}
    for backend in BACKENDS:
        model = backend.load(stem, folder)
        known = {"output_hidden_states": True} if backend.takes(model, "output_hidden_states") else {}
        results[backend.name] = backend.run(model, inputs, **{**known, **options})
    return parity_of(results, inputs.get("attention_mask"))


def parity_of(results: Mapping[str, Arrays], mask: np.ndarray | None = None) -> Parity:
    """Return how far the outputs of each two backends lie apart; `results` are outputs by name of the backend."""
    absent = Comparison(float("inf"), FLOAT32)

    def compared(ours: Arrays, theirs: Arrays) -> dict[str, Comparison]:
        names = dict.fromkeys((*theirs, *ours))
        return {n: compare(ours[n], theirs[n], mask) if n in ours and n in theirs else absent for n in names}

    return paired(results, compared)


def paired(results: Mapping[str, Arrays], compared: Callable[[Arrays, Arrays], Mapping[str, Comparison]]) -> Parity:
    """Return what `compared(found, reference)` says of the results of each two backends."""
    comparisons = {}
    for reference, other in itertools.combinations(results, 2):
        for name, comparison in compared(results[other], results[reference]).items():
            comparisons[name, f"{reference}-{other}"] = comparison
    return Parity(comparisons)
