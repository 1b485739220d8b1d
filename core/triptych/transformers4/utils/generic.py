"""`transformers.utils.generic`: small things that model files use."""

from __future__ import annotations

import contextlib
import enum
import functools
import inspect
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypedDict

import numpy as np

from triptych.errors import ArgumentError
from triptych.nn.outputs import ModelOutput as ModelOutput
from triptych.transformers4 import exports

cached_property = functools.cached_property


class ExplicitEnum(str, enum.Enum):  # noqa: UP042  (whose `str` is "Class.NAME", as theirs)
    """An enumeration of texts that lists its values when it does not have one."""

    @classmethod
    def _missing_(cls, value: object) -> Any:
        raise ArgumentError(f"{value} is no valid {cls.__name__}.", expected=f"one of {[one.value for one in cls]}")


class PaddingStrategy(ExplicitEnum):
    """To which length a tokenizer pads: that of the longest text, the model's, or not at all."""

    LONGEST = "longest"
    MAX_LENGTH = "max_length"
    DO_NOT_PAD = "do_not_pad"


class TensorType(ExplicitEnum):
    """Whose tensors a tokenizer returns."""

    PYTORCH = "pt"
    TENSORFLOW = "tf"
    NUMPY = "np"
    JAX = "jax"
    MLX = "mlx"


class LossKwargs(TypedDict, total=False):
    """Arguments that a loss may have."""

    num_items_in_batch: int | None


class ContextManagers(contextlib.ExitStack):
    """Several context managers as one, entered in their order."""

    def __init__(self, context_managers: Iterable[Any]) -> None:
        super().__init__()
        self.context_managers = list(context_managers)

    def __enter__(self) -> Any:
        for manager in self.context_managers:
            self.enter_context(manager)
        return self


def strtobool(val: str) -> int:
    """Return 1 or 0 for a text that says yes or no.

    Raises:
        ArgumentError: it says neither.
    """
    text = val.lower()
    if text in ("y", "yes", "t", "true", "on", "1"):
        return 1
    if text in ("n", "no", "f", "false", "off", "0"):
        return 0
    raise ArgumentError("This text is neither true nor false.", received=repr(val)[:80])


def _is(module: str, name: str, x: Any) -> bool:
    return module in sys.modules and isinstance(x, getattr(sys.modules[module], name, ()))


def is_numpy_array(x: Any) -> bool:
    """Return whether `x` is an array of numpy."""
    return isinstance(x, np.ndarray)


def is_torch_tensor(x: Any) -> bool:
    """Return whether `x` is a tensor of PyTorch, which is not imported to say so; as are the others below."""
    return _is("torch", "Tensor", x)


def is_torch_device(x: Any) -> bool:
    """Return whether `x` is a device of PyTorch."""
    return _is("torch", "device", x)


def is_torch_dtype(x: Any) -> bool:
    """Return whether `x` is a dtype of PyTorch, or the name of one."""
    named = getattr(sys.modules.get("torch"), x, None) if isinstance(x, str) else x
    return _is("torch", "dtype", named)


def is_tf_tensor(x: Any) -> bool:
    """Return whether `x` is a tensor of TensorFlow."""
    return _is("tensorflow", "Tensor", x)


def is_tf_symbolic_tensor(x: Any) -> bool:
    """Return whether `x` is a tensor of TensorFlow without a value, in a graph."""
    return is_tf_tensor(x) and not hasattr(x, "numpy")


def is_jax_tensor(x: Any) -> bool:
    """Return whether `x` is an array of JAX."""
    return _is("jax", "Array", x)


def is_tensor(x: Any) -> bool:
    """Return whether `x` is a tensor of any framework, or an array."""
    return is_torch_tensor(x) or is_tf_tensor(x) or is_jax_tensor(x) or is_numpy_array(x)


def to_numpy(obj: Any) -> Any:
    """Return a tensor, a list, or a mapping of them, as numpy arrays."""
    if isinstance(obj, Mapping):
        return {key: to_numpy(value) for key, value in obj.items()}
    if isinstance(obj, (list, tuple)):
        return np.array(obj)
    return obj.detach().cpu().numpy() if is_torch_tensor(obj) else np.asarray(obj) if is_tensor(obj) else obj


def to_py_obj(obj: Any) -> Any:
    """Return a tensor, a list, or a mapping of them, as Python's own numbers and lists."""
    if isinstance(obj, Mapping):
        return {key: to_py_obj(value) for key, value in obj.items()}
    if isinstance(obj, (list, tuple)):
        return [to_py_obj(one) for one in obj]
    return to_numpy(obj).tolist() if is_tensor(obj) or isinstance(obj, np.generic) else obj


def infer_framework(model_class: type) -> str:
    """Return "pt", "tf" or "flax": the framework of a model's class.

    Raises:
        TypeError: it is of none.
    """
    found = getattr(model_class, "framework", "")
    if found:
        return str(found)
    for base in inspect.getmro(model_class):
        package = base.__module__.partition(".")[0]
        for name, packages in (("pt", ("torch",)), ("tf", ("tensorflow", "keras")), ("flax", ("flax", "jax"))):
            if package in packages:
                return name
    raise TypeError(f"{model_class} is of no framework that is known")


def _call_of(model_class: type) -> Callable[..., Any]:
    return getattr(model_class, {"pt": "forward", "tf": "call", "flax": "__call__"}[infer_framework(model_class)])


def can_return_loss(model_class: type) -> bool:
    """Return whether the model's call has an argument `return_loss` that is True by default."""
    parameter = inspect.signature(_call_of(model_class)).parameters.get("return_loss")
    return parameter is not None and parameter.default is True


def find_labels(model_class: type) -> list[str]:
    """Return those arguments of the model's call that are labels."""
    more = ("start_positions", "end_positions") if "QuestionAnswering" in model_class.__name__ else ()
    return [name for name in inspect.signature(_call_of(model_class)).parameters if "label" in name or name in more]


def flatten_dict(d: Mapping[str, Any], parent_key: str = "", delimiter: str = ".") -> dict[str, Any]:
    """Return nested mappings as one, with keys joined by `delimiter`."""
    flat: dict[str, Any] = {}
    for key, value in d.items():
        path = f"{parent_key}{delimiter}{key}" if parent_key else str(key)
        flat |= flatten_dict(value, path, delimiter) if value and isinstance(value, Mapping) else {path: value}
    return flat


def filter_out_non_signature_kwargs(extra: Iterable[str] | None = None) -> Callable[..., Any]:
    """Return a decorator: keyword arguments that the function does not have, and `extra` does not name, are
    left out."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        known = {*inspect.signature(function).parameters, *(extra or ())}

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            left_out = [name for name in kwargs if name not in known]
            if left_out:
                warnings.warn(f"not used: {', '.join(left_out)}", UserWarning, stacklevel=2)
            return function(*args, **{name: value for name, value in kwargs.items() if name in known})

        return call

    return decorate


exports(globals(), {"triptych_pt.utilities": "torch_float torch_int"})
