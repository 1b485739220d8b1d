"""For all tests: how JAX compiles, chosen before it is imported, for this process and those that it starts.

A run compiles thousands of functions, most of them one small operation, each used a few times. So XLA leaves out what
makes code fast: its operations and their order stay, so comparisons keep their meaning. And what one process compiles
the others find in a folder that goes with the run. `XLA_FLAGS=` and `JAX_COMPILATION_CACHE_DIR`, where set, are heeded.
"""

from __future__ import annotations

import gc
import os
import tempfile

import pytest

COMPILED = None
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    COMPILED = tempfile.TemporaryDirectory(prefix="triptych-jax-", ignore_cleanup_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = COMPILED.name
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false")


def pytest_configure(config: pytest.Config) -> None:
    if COMPILED is not None:
        config.add_cleanup(COMPILED.cleanup)


def pytest_collection_finish() -> None:
    """Let garbage collection look at what tests make, not at modules and tests, which stay, and less often."""
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)
