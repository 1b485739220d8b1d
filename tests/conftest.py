"""Shared by the unit tests: where the goldens are, and the import order that works in one process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from places import GOLDEN

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import hypothesis
import numpy as np
import pytest
import torch  # noqa: F401  (before TensorFlow: the other order crashes some builds)

if TYPE_CHECKING:
    from triptych_conformance.hub.server import Hub

hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session")
def golden() -> Path:
    return GOLDEN


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub on 127.0.0.1; the huggingface_hub of this process talks to it, with its cache in tmp_path/home/hub."""
    from triptych_conformance.hub.client import running

    with running(tmp_path) as server:
        yield server
