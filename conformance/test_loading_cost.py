"""Loading initialises nothing that the checkpoint holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch

from golden_models import Golden
from triptych import FlaxPreTrainedModel, open_checkpoint
from triptych_conformance import Backend

INITIALIZERS = [
    (torch.nn.init, "normal_"),
    (torch.Tensor, "normal_"),
    (torch.Tensor, "uniform_"),
    (keras.initializers.RandomNormal, "__call__"),
    (keras.initializers.GlorotUniform, "__call__"),
    (keras.initializers.Zeros, "__call__"),
    (keras.initializers.Ones, "__call__"),
    (FlaxPreTrainedModel, "init_weights"),
]


def count_initialisations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []

    def counted(owner: Any, name: str) -> Any:
        original = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            on_meta = any(isinstance(a, torch.Tensor) and a.is_meta for a in (*args, *kwargs.values()))
            calls.extend([] if on_meta else [name])
            return original(*args, **kwargs)

        return call

    for owner, name in INITIALIZERS:
        monkeypatch.setattr(owner, name, counted(owner, name))
    return calls


def test_a_whole_checkpoint_initialises_nothing(
    backend: Backend, golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = count_initialisations(monkeypatch)
    backend.load(golden.stem, golden.folder, strict=True)
    assert calls == []


def test_a_new_head_is_all_that_is_initialised(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden = Golden("bert-cls")
    calls = count_initialisations(monkeypatch)
    model = backend.load("BertForTokenClassification", golden.folder, num_labels=7, ignore_mismatched_sizes=True)
    assert 0 < len(calls) <= 4  # the head's weight and bias; Flax counts its one pass
    weights = backend.weights(model)
    assert weights["classifier.weight"].shape == (7, 32)
    stored = open_checkpoint(golden.folder)
    assert all(np.array_equal(stored[name].read(), w) for name, w in weights.items() if name.startswith("bert."))
