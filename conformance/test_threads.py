"""What a load does is seen by its own thread alone: others load, build and resize models meanwhile."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from golden_models import Golden
from triptych.weights import reading_ahead
from triptych_conformance import Backend

MODELS = (Golden("bert-cls"), Golden("gpt2-lm"))
LOADS = 24


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return set(one) == set(other) and all(one[name].tobytes() == other[name].tobytes() for name in one)


def disturb(backend: Backend, golden: Golden, expected: dict[str, np.ndarray]) -> None:
    """Build a new model and resize it; its weights stay what they were, and none is without a value."""
    config = backend.load(golden.stem, golden.folder).config
    model = backend.cls(golden.stem)(config)
    before = backend.weights(model)
    assert {name: array.shape for name, array in before.items()} == {n: a.shape for n, a in expected.items()}
    spreads = [array.std() / config.initializer_range for array in before.values() if array.ndim == 2]
    assert 0.2 < min(spreads) <= max(spreads) < 3
    model.resize_token_embeddings(config.vocab_size + 3)
    after = backend.weights(model)
    for name, array in before.items():
        assert np.array_equal(after[name][tuple(map(slice, array.shape))], array), name


def test_loads_on_threads_do_not_see_each_other(backend: Backend) -> None:
    expected = [backend.weights(backend.load(golden.stem, golden.folder)) for golden in MODELS]
    loaded = threading.Event()

    def load(number: int) -> bool:
        golden = MODELS[number % 2]
        return same(backend.weights(backend.load(golden.stem, golden.folder)), expected[number % 2])

    def beside() -> int:
        disturbed = 0
        while not disturbed or not loaded.is_set():
            disturb(backend, MODELS[disturbed % 2], expected[disturbed % 2])
            disturbed += 1
        return disturbed

    with ThreadPoolExecutor(5) as pool:
        other: Future[int] = pool.submit(beside)
        try:
            loads = list(pool.map(load, range(LOADS)))
        finally:
            loaded.set()
    assert loads == [True] * LOADS
    assert other.result() > 0


class _Interrupted:
    """`gc`, where another load ends just before the collector is paused, if it can."""

    def __init__(self, end: threading.Thread) -> None:
        self.end = end

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return getattr(gc, name)

    def disable(self) -> None:
        self.end.start()
        self.end.join(0.2)
        gc.disable()


def test_the_collector_runs_again_after_loads_that_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    one = reading_ahead.collector_paused()
    one.__enter__()
    end = threading.Thread(target=one.__exit__, args=(None, None, None))
    monkeypatch.setattr(reading_ahead, "gc", _Interrupted(end))
    with reading_ahead.collector_paused():
        pass
    end.join()
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with reading_ahead.collector_paused(), reading_ahead.collector_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
