"""Fixtures of the conformance suite. torch is imported before TensorFlow: the other order crashes some builds."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import pytest
import torch  # noqa: F401

from golden_models import Golden
from triptych_conformance import BACKENDS
from triptych_conformance.plugin import is_of_models


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of each framework; those of `ModelTests` the plugin makes."""
    chosen = any("backend" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if "backend" in metafunc.fixturenames and not chosen and not is_of_models(metafunc.cls):
        metafunc.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)


@pytest.fixture(params=Golden.stems)
def golden(request: pytest.FixtureRequest) -> Golden:
    return Golden(request.param)
