"""A folder whose config.json was read: a path like any other, that need not be read again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class HeldFolder(os.PathLike[str]):
    """What was read of `subfolder` of `place`; its text is that of `place`.

    - `place`: what the caller named, a path or a `fetching.HubFolder`.
    - `config`: the values of config.json; None if there is none.
    """

    place: Any
    subfolder: str
    config: Mapping[str, Any] | None

    def __fspath__(self) -> str:
        return os.fspath(self.place)

    def __str__(self) -> str:
        return str(self.place)
