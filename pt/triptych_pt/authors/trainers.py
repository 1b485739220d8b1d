"""The Trainer of transformers, and peft, take models of ours for models, and treat them as such.

They ask by `isinstance` for transformers' own `PreTrainedModel`, whose metaclass is `type`: nothing that a model is, or
says, answers that. Of a model that is none the Trainer saves a state without a config, and fails over tied weights;
peft adapts the scores of a vocabulary like any other layer. So the name by which these modules ask, such as
`transformers.trainer.PreTrainedModel`, stands for a class that knows ours too. Those names alone are changed, whichever
is imported first; neither library is ever imported here.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Collection, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def introduce(name: str, kind: type, modules: Collection[str]) -> None:
    """Let these modules take what is a `kind` for what they know as `name`, now or when they are imported."""
    for module in modules:
        _finder.kinds.setdefault(module, {})[name] = kind
        if module in sys.modules:
            _teach(sys.modules[module], name, kind)
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


class _Finder(MetaPathFinder):
    """Leaves the search to the other finders; what they find of `kinds` it teaches, once it was run.

    Attributes:
        kinds: module -> name -> what is taken for that.
    """

    def __init__(self) -> None:
        self.kinds: dict[str, dict[str, type]] = {}
        self._sought: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self.kinds or fullname in self._sought:
            return None
        self._sought.add(fullname)  # another finder may ask all of them, too
        try:
            spec = importlib.util.find_spec(fullname) if target is None else None
        finally:
            self._sought.discard(fullname)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            run = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                run(module)
                for name, kind in self.kinds[fullname].items():
                    _teach(module, name, kind)

            loader.exec_module = exec_module
        return spec


_finder = _Finder()


class _Asked(type):
    """The metaclass of a class that stands for those in `kinds`."""

    kinds: tuple[type, ...]

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, cls.kinds)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, cls.kinds)


def _teach(module: ModuleType, name: str, kind: type) -> None:
    theirs = getattr(module, name, None)
    if type(theirs) is type:  # one with a metaclass, such as `_Asked`, answers for itself
        members = {"kinds": (theirs, kind), "__module__": theirs.__module__}
        setattr(module, name, _Asked(name, (theirs,), members))
