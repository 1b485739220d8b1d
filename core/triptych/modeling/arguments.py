"""Arguments that the base classes of transformers 4 took: in their order, and those that have no effect here."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import wraps
from typing import Any, TypeVar

from triptych.checkpoints.resolve import preferred
from triptych.errors import ArgumentError
from triptych.formats.kinds import MSGPACK, SAFETENSORS, Format

logger = logging.getLogger("triptych")

Method = TypeVar("Method", bound=Callable[..., Any])

POSITIONS = {
    "pt": ("is_main_process", "state_dict", "save_function", "push_to_hub", "max_shard_size", "safe_serialization",
           "variant", "token", "save_peft_format"),
    "tf": ("saved_model", "version", "push_to_hub", "signatures", "max_shard_size", "create_pr", "safe_serialization",
           "token"),
    "flax": ("params", "push_to_hub", "max_shard_size", "token", "safe_serialization"),
}  # fmt: skip
"""The arguments of `save_pretrained` after the folder, in the order in which each framework's class took them."""

_NOT_PARALLEL = "a load makes a whole model: leave it out, and distribute that with the framework's own tools"
_ANY = object()
ACCEPTED: Mapping[str, tuple[Any, str]] = {
    "low_cpu_mem_usage": (_ANY, ""),  # nothing that the checkpoint holds is ever initialised
    "_fast_init": (_ANY, ""),
    "offload_state_dict": (_ANY, ""),
    "weights_only": (_ANY, ""),  # a .bin is read without running anything, whatever this says
    "max_memory": (_ANY, ""),  # these three say how a device_map is carried out
    "offload_folder": (_ANY, ""),
    "offload_buffers": (_ANY, ""),
    "tp_plan": ((None,), _NOT_PARALLEL),
    "tp_size": ((None,), _NOT_PARALLEL),
    "device_mesh": ((None,), _NOT_PARALLEL),
    "distributed_config": ((None,), _NOT_PARALLEL),
    "use_kernels": ((None, False), "leave it out: the layers of the model are used as they are"),
}
"""Arguments of `from_pretrained` -> the values that have no effect here, and what to do instead of any other."""


def take_accepted(kwargs: dict[str, Any], cls: type) -> None:
    """Remove from `kwargs` those of `ACCEPTED` that the constructor of `cls` does not take itself.

    Raises:
        ArgumentError: a value that would have an effect which there is not.
    """
    own = inspect.signature(cls).parameters
    for name in [name for name in ACCEPTED if name in kwargs and name not in own]:
        value = kwargs.pop(name)
        harmless, remedy = ACCEPTED[name]
        if harmless is _ANY or value in harmless:
            continue
        raise ArgumentError(
            f"{name} is not supported by from_pretrained.",
            expected=" or ".join(map(repr, harmless)),
            received=repr(value)[:80],
            remedy=remedy,
        )


def warn_of_msgpack(cls: Any, names: Collection[str], variant: str | None, order: Sequence[Format]) -> None:
    """Warn where a Flax class took safetensors although there is msgpack among the files `names`: the Flax classes of
    transformers 4 took that."""
    both = (SAFETENSORS, MSGPACK)
    if cls.framework == "flax" and order[:2] == both and all(preferred(names, variant, (one,)) for one in both):
        logger.warning(
            "%s took %s, and not %s beside it as transformers 4 did; from_flax=True takes it",
            cls.__name__, *(preferred(names, variant, (one,)) for one in both),
        )  # fmt: skip


def by_position(method: Method) -> Method:
    """Let `method`, of a model, take arguments after the folder by the `POSITIONS` of its framework.

    A call raises ArgumentError for more arguments than there are positions, and for one that is given by name too.
    """

    @wraps(method)
    def call(self: Any, save_directory: Any, *positional: Any, **named: Any) -> Any:
        names = POSITIONS[self.framework]
        twice = set(names[: len(positional)]) & named.keys()
        if twice or len(positional) > len(names):
            raise ArgumentError(
                f"These arguments of {method.__name__} are given twice." if twice else "There are too many arguments.",
                expected=f"after the folder: {', '.join(names)}",
                received=", ".join(sorted(twice)) or f"{len(positional)} arguments after the folder",
                remedy="pass them by name",
            )
        return method(self, save_directory, **dict(zip(names, positional, strict=False)), **named)

    return call  # type: ignore[return-value]


def check_saving(
    framework: str, saved_model: bool, version: Any, signatures: Any, save_function: Any, params: Any
) -> None:
    """Raise `ArgumentError` for arguments of `save_pretrained` that ask for what is not built in."""
    if framework != "tf" and (saved_model or signatures is not None):
        raise ArgumentError(
            "SavedModels are of TensorFlow's classes only.",
            expected="saved_model=False",
            received=f"saved_model={saved_model!r}" + ("" if signatures is None else ", signatures"),
        )
    if saved_model and type(version) is not int:
        raise ArgumentError("version is none.", expected="a whole number, such as 1", received=repr(version)[:80])
    if params is not None and framework != "flax":
        raise ArgumentError(
            "params is of Flax's classes only.", received=type(params).__name__, remedy="pass state_dict instead"
        )
    if save_function is not None and not callable(save_function):
        raise ArgumentError(
            "save_function cannot be called.", expected="a function (tensors by name, path)",
            received=repr(save_function)[:80],
        )  # fmt: skip
    if save_function is not None and framework != "pt":
        raise ArgumentError("save_function is of PyTorch's classes only.", received=repr(save_function)[:80])


def main_process(is_main_process: bool, arguments: dict[str, Any]) -> bool:
    """Return `is_main_process`, which the deprecated argument `save_config` meant too."""
    if "save_config" not in arguments:
        return is_main_process
    warnings.warn("save_config is deprecated: pass is_main_process instead.", FutureWarning, stacklevel=4)
    return bool(arguments.pop("save_config")) and is_main_process
