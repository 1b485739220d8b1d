"""The Trainer of transformers, and peft, take models of ours for models, and treat them as such.

They ask by `isinstance` for transformers' own `PreTrainedModel`, whose metaclass is `type`: nothing that a model is, or
says, answers that. Of a model that is none the Trainer saves a state without a config, and fails over tied weights;
peft adapts the scores of a vocabulary like any other layer. So the name by which these modules ask, such as
`transformers.trainer.PreTrainedModel`, stands for a class that knows ours too. Those names alone are changed, whichever
is imported first; neither library is ever imported here.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def introduce(name: str, kind: type, modules: Collection[str]) -> None:
    """Let these modules take what is a `kind` for what they know as `name`, now or when they are imported."""
    for module in modules:
        if module in sys.modules:
            _teach(sys.modules[module], name, kind)
    sys.meta_path.insert(0, _Finder(name, kind, modules))


class _Finder(MetaPathFinder):
    """Leaves the search to the other finders; what they find of `modules` it teaches, once it was run."""

    def __init__(self, name: str, kind: type, modules: Collection[str]) -> None:
        self.name, self.kind, self.modules = name, kind, modules

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self.modules:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next((found for finder in others if (found := finder.find_spec(fullname, path, target))), None)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            run = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                run(module)
                _teach(module, self.name, self.kind)

            loader.exec_module = exec_module
        return spec


class _Asked(type):
    """The metaclass of a class that stands for those in `kinds`."""

    kinds: tuple[type, ...]

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, cls.kinds)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, cls.kinds)


def _teach(module: ModuleType, name: str, kind: type) -> None:
    theirs = getattr(module, name, None)
    if isinstance(theirs, type) and not isinstance(theirs, _Asked):
        members = {"kinds": (theirs, kind), "__module__": theirs.__module__}
        setattr(module, name, _Asked(name, (theirs,), members))
