"""For all tests: how JAX compiles, chosen before it is imported, for this process and those that it starts.

A run compiles thousands of functions, most of them one small operation, each used a few times. So XLA leaves out what
makes code fast: its operations and their order stay, so comparisons keep their meaning. And what one process compiles
the others find in a folder that goes with the run. `XLA_FLAGS=` and `JAX_COMPILATION_CACHE_DIR`, where set, are heeded.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile

import psutil
import pytest

pytest_plugins = ["pytester"]
MOST = 2**30
"""How many bytes a process may keep beyond what it cannot let go of."""
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


_kept = [0]


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Let go of what JAX compiled, and of models that are no more, where a module has ended and much was kept."""
    if nextitem is not None and nextitem.path == item.path:
        return
    if _kept[0] + MOST < psutil.Process().memory_info().rss:
        if "jax" in sys.modules:
            sys.modules["jax"].clear_caches()
        gc.collect()
        _kept[0] = psutil.Process().memory_info().rss
