"""A load in progress, and the dtype policy under which a model is built."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from triptych import layouts
from triptych.errors import ArgumentError
from triptych.plan import Assignment
from triptych.schema import Weight
from triptych_tf import arrays

_MIXED = {"bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


class Loading:
    """A load in progress: which variable gets its value from where, once Keras lets them have values."""

    def __init__(self, weights: Mapping[tuple[str, ...], Any], class_name: str) -> None:
        self.weights, self.class_name = weights, class_name
        self.planned: set[tuple[str, ...]] = set()
        self.dtypes: set[str] = set()
        self.error: BaseException | None = None
        self._ahead = _ReadAhead()

    def assign(self, assignment: Assignment, done: Callable[[Assignment], None]) -> None:
        """Let a variable take its dtype and value from the checkpoint, and call `done` when it does."""

        def fill(shape: Any, dtype: Any) -> Any:
            # An error must not reach Keras: it would leave its list of waiting variables half done.
            try:
                if self.error is None:
                    tensor = arrays.to_native(self._ahead.take(assignment.weight.name))
                    done(assignment)
                    return tensor
            except BaseException as error:
                self.error = error
            return tf.zeros((), dtype)

        variable = self._take(assignment.weight)
        variable._dtype = arrays.native_dtype(assignment.dtype).name
        variable._initializer = fill
        self._ahead.add(assignment.weight.name, assignment)
        if tf.as_dtype(variable._dtype).is_floating:
            self.dtypes.add(variable._dtype)

    def initialise(self, weights: Sequence[Weight]) -> None:
        """Leave these variables to their own initializers, in the dtype that all others have."""
        dtype = next(iter(self.dtypes)) if len(self.dtypes) == 1 else "float32"
        for weight in weights:
            self._take(weight)._dtype = dtype

    def refuse_unassigned(self) -> None:
        """Raise unless the plan named every variable."""
        left = [".".join(path) for path in self.weights if path not in self.planned]
        if left:
            raise ArgumentError(
                f"{self.class_name} has variables that its schema does not declare.", received=", ".join(left)
            )

    def close(self) -> None:
        """End the threads."""
        self._ahead.close()

    def _take(self, weight: Weight) -> Any:
        path = layouts.native_path(weight, "tf")
        if path not in self.weights:
            raise ArgumentError(f"{self.class_name} has no variable for a weight of its schema.", received=weight.name)
        self.planned.add(path)
        return self.weights[path]


def discard(weights: Mapping[tuple[str, ...], Any]) -> None:
    """Let Keras give the variables, which nobody will use, values of no size."""
    for variable in weights.values():
        variable._initializer = lambda shape, dtype: tf.zeros((), dtype)


class _ReadAhead:
    """Reads tensors on two threads, a few before they are asked for: transposing is half the work of a load."""

    depth = 4

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(2)
        self._waiting: dict[str, Assignment] = {}
        self._running: dict[str, Future[np.ndarray]] = {}

    def add(self, name: str, assignment: Assignment) -> None:
        """Note what will be asked for, in that order."""
        self._waiting[name] = assignment

    def take(self, name: str) -> np.ndarray:
        """Return the array of `name` in Keras order, once."""
        if name in self._waiting:
            self._start(name)
        found = self._running.pop(name)
        while self._waiting and len(self._running) < self.depth:
            self._start(next(iter(self._waiting)))
        return found.result()

    def close(self) -> None:
        self._waiting.clear()
        self._pool.shutdown(cancel_futures=True)

    def _start(self, name: str) -> None:
        self._running[name] = self._pool.submit(self._waiting.pop(name).read, "tf")


def parse_policy(dtype: Any) -> Any:
    """Return a dtype policy; None for Keras's default.

    Raises:
        ArgumentError: Keras knows no such policy.
    """
    if dtype is None or isinstance(dtype, keras.dtype_policies.DTypePolicy):
        return dtype
    try:
        name = keras.backend.standardize_dtype(dtype) if not isinstance(dtype, str) else dtype
        return keras.dtype_policies.get(_MIXED.get(name, name))
    except (TypeError, ValueError) as cause:
        expected = "a dtype policy, such as 'float32' or 'mixed_bfloat16'"
        raise ArgumentError("dtype is no policy of Keras.", expected=expected, received=repr(dtype)) from cause


@contextmanager
def default_policy(dtype: Any) -> Iterator[None]:
    """Make `dtype` the policy of layers that name none."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(parse_policy(dtype) or before)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
