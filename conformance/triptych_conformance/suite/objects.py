"""Models as objects: pickled, copied, printed, loaded in another thread, and freed."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from triptych_conformance.parity import Backend
from triptych_conformance.suite.arrays import add_one, assert_same, differences
from triptych_conformance.suite.base import SubjectTests
from triptych_conformance.suite.subject import Subject

FROM_KERAS = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
"""Keras pickles and copies a model by saving it, and warns of what it does there."""


class ObjectTests(SubjectTests):
    """What Python does with any object."""

    @FROM_KERAS
    def test_pickle(self, subject: Subject, backend: Backend) -> None:
        model = subject.model(backend)
        again = pickle.loads(pickle.dumps(model))  # its own bytes, made here: that it pickles is what is tested
        _assert_alike(subject, backend, again, "pickled")

    @FROM_KERAS
    def test_deepcopy(self, subject: Subject, backend: Backend) -> None:
        model = subject.model(backend)
        other = copy.deepcopy(model)
        _assert_alike(subject, backend, other, "copied")
        before = subject.weights(backend)
        add_one(backend, other)
        other.config.finetuning_task = "of the copy"
        assert_same(subject.weights(backend), before, "the original, after its copy was changed")
        assert model.config.finetuning_task != "of the copy", "a model and its copy share one config"
        assert differences(backend.weights(other), before), "the copy did not change"

    def test_repr(self, subject: Subject, backend: Backend) -> None:
        for text in (repr(subject.model(backend)), str(subject.model(backend))):
            assert subject.cls(backend).__name__ in text, f"the class's name is not in {text[:80]}"

    def test_load_in_another_thread(self, subject: Subject, backend: Backend) -> None:
        with ThreadPoolExecutor(1) as pool:
            model = pool.submit(subject.fresh, backend).result()
        assert_same(backend.weights(model), subject.weights(backend), "loaded in another thread")

    def test_models_are_freed(self, subject: Subject, backend: Backend) -> None:
        """Once nothing refers to a model that has computed, it is gone, and its weights with it."""
        model = subject.fresh(backend)
        backend.run(model, subject.inputs)
        held = weakref.ref(model)
        del model
        gc.collect(0)
        if held() is not None:  # as most often it is not; this takes long
            gc.collect()
        assert held() is None, f"still referred to by {[type(one).__name__ for one in gc.get_referrers(held())]}"


def _assert_alike(subject: Subject, backend: Backend, other: Any, how: str) -> None:
    model = subject.model(backend)
    assert type(other) is type(model), f"a {how} model is a {type(other).__name__}"
    assert other is not model
    assert other.config.to_dict() == model.config.to_dict(), f"the config of a {how} model"
    assert_same(backend.weights(other), subject.weights(backend), f"{how} ({backend.name})")
    assert other.num_parameters() == model.num_parameters()
    assert getattr(other, "training", False) == getattr(model, "training", False), f"a {how} model is in another mode"
