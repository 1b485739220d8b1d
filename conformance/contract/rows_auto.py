"""Rows of the contract about the auto classes."""

from __future__ import annotations

from pathlib import Path

import pytest

from triptych import TriptychError
from triptych_conformance import Backend
from walk import row


@row("9.1", pt="Y", tf="Y", flax="Y")
def an_auto_class_makes_no_model_itself(backend: Backend, folder: Path) -> None:
    with pytest.raises(TriptychError, match="from_pretrained"):
        backend.cls("AutoModel")()
