"""What the functions for authors refuse: arguments of another kind than theirs."""

from __future__ import annotations

import numbers
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from triptych.errors import ArgumentError
from triptych.modeling.base import ModelBase


def expect(holds: bool, name: str, wanted: str, value: object) -> None:
    """Raise `ArgumentError` unless `holds`: the argument `name`, which is `value`, is what is `wanted`."""
    if not holds:
        received = repr(value)[:80] if isinstance(value, (str, int, float)) else type(value).__name__
        raise ArgumentError(f"{name} cannot be this.", expected=wanted, received=received)


def expect_whole(name: str, value: object, least: int) -> None:
    """Raise `ArgumentError` unless `value` is an integer, of numpy too, and not below `least`."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) >= least
    expect(whole, name, f"an integer from {least}", value)


def paths_of(name: str, files: Any) -> list[Path]:
    """Return `files`, a list of paths, as `Path`s.

    Raises:
        ArgumentError: it is something else, or none.
    """
    known = isinstance(files, Sequence) and not isinstance(files, (str, bytes)) and len(files) > 0
    expect(known and all(isinstance(file, (str, os.PathLike)) for file in files), name, "paths of files", files)
    return [Path(os.fspath(file)) for file in files]


def path_of(name: str, file: Any) -> Path:
    """Return a path as a `Path`.

    Raises:
        ArgumentError: it is something else.
    """
    expect(isinstance(file, (str, os.PathLike)), name, "a path", file)
    return Path(os.fspath(file))


def tensor_of(name: str, value: Any, like: tf.Tensor | None = None) -> tf.Tensor:
    """Return a tensor, a variable or an array as a tensor; an array in the dtype of `like`.

    Raises:
        ArgumentError: it is something else.
    """
    try:
        tensor = tf.convert_to_tensor(value, dtype_hint=None if like is None else like.dtype)
    except (TypeError, ValueError) as cause:
        raise _no_tensor(name, value) from cause
    if tensor.dtype == tf.string:
        raise _no_tensor(name, value)
    return tensor


def _no_tensor(name: str, value: Any) -> ArgumentError:
    wanted = "a tensor, a variable or an array of numbers"
    return ArgumentError(f"{name} cannot be this.", expected=wanted, received=type(value).__name__)


def expect_model(name: str, model: Any, framework: str) -> None:
    """Raise `ArgumentError` unless `model` is one of triptych's base class of `framework`."""
    base = {"tf": "a TFPreTrainedModel", "pt": "a PreTrainedModel of PyTorch"}[framework]
    expect(isinstance(model, ModelBase) and model.framework == framework, name, base, model)


def expect_mapping(name: str, value: Any, wanted: str) -> None:
    """Raise `ArgumentError` unless `value` is a mapping."""
    expect(isinstance(value, Mapping), name, wanted, value)
