"""For all tests: what JAX compiles in one process of a run, the others find in a folder that goes with the run.

The folder is chosen before JAX is imported, and in the first process: those of xdist, and of tests, inherit it.
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


def pytest_configure(config: pytest.Config) -> None:
    if COMPILED is not None:
        config.add_cleanup(COMPILED.cleanup)


def pytest_collection_finish() -> None:
    """Let garbage collection look at what tests make, not at modules and tests, which stay, and less often."""
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)
