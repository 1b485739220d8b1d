"""Methods of the base classes of transformers 4 that triptych does not have: a call of one says what to do instead."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from triptych.errors import MissingMethodError


class Absent:
    """Stands in a class for a method that there is not."""

    def __init__(self, remedy: str) -> None:
        self.remedy = remedy
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, model: Any, cls: type) -> Callable[..., NoReturn]:
        return partial(self._refuse, cls)

    def _refuse(self, cls: type, *args: Any, **kwargs: Any) -> NoReturn:
        raise MissingMethodError(f"{cls.__name__} has no {self.name}.", remedy=self.remedy)


def absent(cls: type, name: str) -> Absent | None:
    """Return what stands in `cls` for its method `name`, if that is refused."""
    found = inspect.getattr_static(cls, name, None)
    return found if isinstance(found, Absent) else None


def defines(cls: type, name: str) -> bool:
    """Return whether `cls` has a method `name` indeed."""
    return absent(cls, name) is None and callable(getattr(cls, name, None))
