"""What is compared: a framework's class on a folder, transformers' or keras-hub's own, or what `module:name` names.

Sides are looked up before anything is loaded, so that a wrong name costs nothing, and it is known what each reads.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from triptych.backends import is_installed
from triptych.errors import ArgumentError, MissingBackendError
from triptych.hub.fetching import fetch_model
from triptych.names import BACKENDS
from triptych_conformance.parity import Backend

TRANSFORMERS, KERAS_HUB = "transformers", "keras_hub"
KNOWN = (*BACKENDS, TRANSFORMERS, KERAS_HUB)
_PACKAGES = {"pt": "torch", "tf": "tensorflow", "flax": "jax", TRANSFORMERS: TRANSFORMERS, KERAS_HUB: "keras-hub"}
_OF_BASES = {"torch": "pt", "keras": "tf", "triptych_flax": "flax"}
_CALLS = {"pt": "forward", "tf": "call", "flax": "__call__"}


@dataclass(frozen=True)
class Side:
    """One thing to run.

    `name` is what it is called in a report; `framework` is "pt", "tf", "flax", or "" of what only gives outputs; `cls`
    the class that loads `folder`, None of keras-hub; `function` what `module:name` is where that is no class.
    """

    name: str
    folder: Path
    framework: str = ""
    cls: Any = None
    function: Any = None

    @property
    def is_ours(self) -> bool:
        """Whether the class is of triptych: its weights have canonical names."""
        return hasattr(self.cls, "_tensor_refs")

    @property
    def is_keras_hub(self) -> bool:
        return self.cls is None and self.function is None

    def takes(self, argument: str) -> bool:
        """Return whether a call of the class has an argument of this name."""
        if self.cls is None:
            return False
        arguments = _arguments(self.framework, self.cls)
        others = not self.is_ours and any(one.kind is one.VAR_KEYWORD for one in arguments.values())
        return argument in arguments or others  # as calls of transformers 5 have them

    @property
    def main_input(self) -> str:
        """What a call of the class reads first of all."""
        return getattr(self.cls, "main_input_name", "input_ids")

    def version(self) -> str:
        """Return "torch 2.13.0": what computes."""
        package = TRANSFORMERS if self.framework == "pt" and not self.is_ours else _PACKAGES.get(self.framework, "")
        package = _PACKAGES[KERAS_HUB] if self.is_keras_hub else package
        return f"{package} {importlib.metadata.version(distribution_of(package))}" if package else ""


def find_side(text: str, folder: Path, stem: str | None, config: Any = None) -> Side:
    """Return the side that `text` names: "pt", "transformers", "keras_hub", "module:name", each also with "=FOLDER".

    Args:
        folder: what it loads if `text` says nothing else.
        stem: the class, as it is called in PyTorch.
        config: the folder's; says which class an Auto class stands for.

    Raises:
        ArgumentError: there is no such side, class or function, or it is of a framework that cannot be traced.
        MissingBackendError: its package is not installed. What fetching another folder raises.
    """
    kind, _, other = text.partition("=")
    where = Path(fetch_model(other, "", {})) if other else folder
    if other and not where.is_dir():
        raise ArgumentError(f"There is no model to compare with: {other}.", expected="a folder with config.json",
                            received=text)  # fmt: skip
    name = f"{kind}={where.absolute().name if Path(other).exists() else other}" if other else kind
    if kind in BACKENDS:
        found = _ours(kind, stem)
        return Side(name, where, kind, found.class_for(config) if hasattr(found, "class_for") else found)
    if kind == TRANSFORMERS:
        _require(TRANSFORMERS)
        return Side(name, where, "pt", _named(importlib.import_module(TRANSFORMERS), stem, kind))
    if kind == KERAS_HUB:
        _require(KERAS_HUB)
        return Side(name, where)
    if ":" not in kind:
        raise ArgumentError("It is not known what to compare.", expected=f"{', '.join(KNOWN)}, module:Class "
                            "or module:function",
                            received=text, remedy="another folder is SIDE=FOLDER, and is there")  # fmt: skip
    return replace(_imported(kind), name=name, folder=where)


def _ours(kind: str, stem: str | None) -> Any:
    backend = Backend(kind)
    try:
        return backend.cls(stem or "")
    except AttributeError as error:
        raise _no_class(stem, kind) from error


def _named(module: Any, stem: str | None, kind: str) -> Any:
    found = getattr(module, stem or "", None)
    if found is None:
        raise _no_class(stem, kind)
    return found


def _no_class(stem: str | None, kind: str) -> ArgumentError:
    return ArgumentError("There is no such class.", expected=f"one of {kind}, as it is called in PyTorch",
                         received=stem or "none", remedy="pass stem=, or --class; a class of yours is module:Class",
                         )  # fmt: skip


def _require(module: str) -> None:
    if not is_installed(module):
        package = _PACKAGES[module]
        raise MissingBackendError(f"{package} cannot be imported.", expected=package, received="none",
                                  remedy=f"pip install {package}")  # fmt: skip


def class_at(text: str) -> Any:
    """Return the class that `module:Class` names, or None of any other side."""
    kind = text.partition("=")[0]
    return _imported(kind).cls if ":" in kind else None


def stem_of(side: Side) -> str:
    """Return the name of a side's class as it is called in PyTorch."""
    prefix = BACKENDS[side.framework][1]
    return str(side.cls.__name__).removeprefix(prefix)


def object_at(text: str) -> Any:
    """Return what `module:name` names.

    Raises:
        ArgumentError: there is no such module, or nothing of that name in it.
    """
    module, _, name = text.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ArgumentError(
            f"There is no {text}.", expected="module:name of a class or a function, to be imported here",
            received=str(error), remedy="put the module's folder onto PYTHONPATH",
        ) from error  # fmt: skip


def _imported(text: str) -> Side:
    """Return the side that `module:name` is, without its folder."""
    found = object_at(text)
    if not (inspect.isclass(found) and hasattr(found, "from_pretrained")):
        if not callable(found):
            raise ArgumentError(f"{text} cannot be called.", expected="a class, or a function of the folder",
                                received=type(found).__name__)  # fmt: skip
        return Side("", Path(), function=found)
    roots = [base.__module__.partition(".")[0] for base in found.__mro__]
    framework = next((framework for root, framework in _OF_BASES.items() if root in roots), "")
    side = Side("", Path(), framework, found)
    if not framework or (framework != "pt" and not side.is_ours):
        raise ArgumentError(
            f"{text} is a class that cannot be traced.", expected="one of triptych, or of torch with from_pretrained",
            received=f"one of {', '.join(dict.fromkeys(roots))}",
            remedy="write a function of the folder that returns one of arrays",
        )  # fmt: skip
    return side


def _arguments(framework: str, cls: Any) -> Mapping[str, inspect.Parameter]:
    call: Mapping[str, inspect.Parameter] = inspect.signature(getattr(cls, _CALLS[framework], cls)).parameters
    module = getattr(cls, "module_class", None)
    if framework == "flax" and module is not None and "options" in call:  # the call of any module
        return inspect.signature(module.__call__).parameters
    return call


def distribution_of(module: str) -> str:
    """Return the distribution that has `module`, or is called so."""
    return importlib.metadata.packages_distributions().get(module, [module])[0]
