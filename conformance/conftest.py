"""Fixtures of the conformance suite. torch is imported before TensorFlow: the other order crashes some builds."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import pytest
import torch  # noqa: F401

from golden_models import Golden
from triptych_conformance import BACKENDS, Backend


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.name)
def backend(request: pytest.FixtureRequest) -> Backend:
    return request.param


@pytest.fixture(params=Golden.stems)
def golden(request: pytest.FixtureRequest) -> Golden:
    return Golden(request.param)
