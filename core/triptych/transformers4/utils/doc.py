"""`transformers.utils.doc`: decorators that filled in docstrings. Here they leave a function as it is."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any, TypeVar

from triptych.transformers4 import exports

F = TypeVar("F")


def _unchanged(*args: Any, **kwargs: Any) -> Callable[[F], F]:
    """Return a decorator that changes nothing."""
    return lambda function: function


add_start_docstrings = add_start_docstrings_to_model_forward = add_end_docstrings = _unchanged
add_code_sample_docstrings = replace_return_docstrings = _unchanged


def copy_func(f: types.FunctionType) -> Any:
    """Return a copy of a function."""
    made = types.FunctionType(f.__code__, f.__globals__, f.__name__, f.__defaults__, f.__closure__)
    made.__kwdefaults__ = f.__kwdefaults__
    return functools.update_wrapper(made, f)


exports(globals())
