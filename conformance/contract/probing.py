"""What probes of the rows share: a small BERT, what is logged, and one probe for many rows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from small_models import SMALL
from triptych import (
    BertConfig,
    MissingMethodError,
)
from triptych_conformance import Backend
from walk import FRAMEWORKS, ROWS, Probe, row

IN_ALL = {"pt": "Y", "tf": "Y", "flax": "Y"}
STEM = "BertForSequenceClassification"


def shows(numbers: str, **states: str) -> Callable[[Probe], Probe]:
    """Say that rows work, in every framework that they have or as `states` says, and show it by one probe."""

    def show(probe: Probe) -> Probe:
        done: set[str] = set()

        @wraps(probe)
        def once(backend: Backend, folder: Path) -> None:
            if backend.name not in done:
                probe(backend, folder)
                done.add(backend.name)

        for number in numbers.split():
            there = {name: "Y" for name in FRAMEWORKS if ROWS[number].states[name] != "-"}
            row(number, note=None, **(states or there))(once)
        return once

    return show


def small(backend: Backend, stem: str = STEM, **changes: Any) -> Any:
    return backend.cls(stem)(BertConfig(**{**SMALL["bert"], **changes}))


def same(backend: Backend, one: Any, other: Any) -> bool:
    first, second = backend.weights(one), backend.weights(other)
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


@contextmanager
def messages(level: int = logging.WARNING) -> Iterator[list[str]]:
    """Collect what triptych logs at `level` or above."""
    found: list[str] = []
    handler = logging.Handler(level)
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("triptych")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(min(level, logger.getEffectiveLevel()))
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def refuses(*methods: str, match: str = "") -> Any:
    """Return a probe that a model of a class of another's refuses these methods."""

    def probe(backend: Backend, folder: Path) -> None:
        cls = backend.cls("PreTrainedModel")
        for name in methods:
            with pytest.raises(MissingMethodError, match=f"has no {name}.*{match}"):
                getattr(cls, name)()

    return probe


def saved(backend: Backend, folder: Path, **changes: Any) -> Any:
    model = small(backend, **changes)
    model.save_pretrained(folder)
    return model
