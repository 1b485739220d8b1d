"""What a folder or a model holds, and in which weights two of them differ."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from triptych.checkpoints.opening import open_checkpoint
from triptych.checkpoints.saving import save_checkpoint
from triptych.tensors.ref import TensorRef
from triptych_conformance.parity import Arrays, Backend
from triptych_conformance.tolerance import assert_close, compare

MOST = 8
"""So many weights a message names."""
SEEN = 100
"""So many tolerances apart, outputs are not those of the same model."""


def stored(folder: Path, variant: str | None = None) -> dict[str, np.ndarray]:
    """Return the arrays in the weight files of `folder`, by the names there."""
    return {name: np.array(ref.read()) for name, ref in open_checkpoint(folder, variant=variant).items()}


def write(folder: Path, arrays: Arrays, beside: Path) -> Path:
    """Save `arrays` into `folder`, with the config of the folder `beside`."""
    refs = [TensorRef.of(name, np.asarray(array, order="C")) for name, array in arrays.items()]
    save_checkpoint(folder, refs, (beside / "config.json").read_text())
    return folder


def assert_same(found: Arrays, expected: Arrays, where: str) -> None:
    """Raise AssertionError that names each weight whose name, shape, dtype or any bit is another; `where` says whose
    `found` are."""
    wrong = differences(found, expected)
    more = [f"and {len(wrong) - MOST} more"] if len(wrong) > MOST else []
    assert not wrong, "\n  ".join([f"{where}:", *wrong[:MOST], *more])


def differences(found: Arrays, expected: Arrays) -> list[str]:
    """Return a line for each weight that is not the same in both, bit for bit."""
    lines = [f"{name} is not there" for name in expected if name not in found]
    lines += [f"{name} is there, and should not be" for name in found if name not in expected]
    return lines + [
        f"{name} {_difference(array, expected[name], expected)}"
        for name, array in found.items()
        if name in expected and not _is_same(array, expected[name])
    ]


def assert_close_outputs(found: Arrays, expected: Arrays, mask: np.ndarray | None = None, what: str = "") -> None:
    """Raise AssertionError that names the first output, by layer, that is not close; `found` may lack some of
    `expected`, not all."""
    assert found and found.keys() <= expected.keys(), f"outputs {sorted(found)}, where there are {sorted(expected)}"
    for name in sorted(found, key=by_layer):
        assert_close(found[name], expected[name], mask, f"{name}{what}")


def by_layer(name: str) -> tuple[bool, bool]:
    """Sort outputs such that a difference is first seen where it arises: layers, the encoder's before the decoder's."""
    return "." not in name, not name.startswith("encoder")


def are_others(found: Arrays, expected: Arrays, mask: np.ndarray | None) -> bool:
    """Return whether any of the outputs `found` is not that of the same model."""
    return any(compare(value, expected[name], mask).fraction > SEEN for name, value in found.items())


def _is_same(one: np.ndarray, other: np.ndarray) -> bool:
    return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


def _difference(found: np.ndarray, expected: np.ndarray, all_expected: Arrays) -> str:
    if found.dtype != expected.dtype:
        return f"is {found.dtype.name}, not {expected.dtype.name}"
    like = [name for name, array in all_expected.items() if _is_same(found, array)]
    if like:
        return f"has the values of {like[0]}"
    if found.ndim == 2 and _is_same(np.ascontiguousarray(found.T), expected):
        return "is transposed"
    if found.shape != expected.shape:
        return f"has the shape {found.shape}, not {expected.shape}"
    unequal = found != expected
    if not unequal.any():
        return "has other signs of zeros, or other bits of values that are no numbers"
    first = tuple(int(index) for index in np.argwhere(unequal)[0])
    return f"differs in {unequal.sum()} of {found.size} values, first at {first}: {found[first]}, not {expected[first]}"


def add_one(backend: Backend, model: Any) -> None:
    """Change every floating parameter of `model`, in place where its framework can."""
    if backend.name == "pt":
        for parameter in model.parameters():
            parameter.data.add_(1)
    elif backend.name == "tf":
        for variable in model.trainable_variables:
            variable.assign_add(np.ones(variable.shape, np.float32))
    else:
        import jax

        model.params = jax.tree.map(lambda leaf: leaf + 1, model.params)


def names_of(weights: Mapping[str, Any]) -> str:
    """Return names for a message."""
    return ", ".join(sorted(weights)) or "none"
