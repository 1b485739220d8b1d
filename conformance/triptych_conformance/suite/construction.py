"""A class can be made, says what it is, and is the same model in every framework before anything is computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from triptych.errors import TriptychError
from triptych.names import BACKENDS
from triptych_conformance.parity import Backend
from triptych_conformance.suite.base import SubjectTests
from triptych_conformance.suite.features import FEATURES
from triptych_conformance.suite.subject import Subject


class ConstructionTests(SubjectTests):
    """New models, configs and what a class declares."""

    def test_lacks(self, subject: Subject, backend: Backend, feature: str) -> None:
        what, has = FEATURES[feature]
        assert not has(subject, backend), f"the model has {what}: take {feature!r} out of `lacks`"

    def test_class_names_its_config(self, subject: Subject, backend: Backend) -> None:
        kind = subject.cls(backend)
        assert kind.config_class is type(subject.config), "config_class is another class than that of `config`"
        assert isinstance(subject.model(backend).config, kind.config_class)

    def test_class_names_its_main_input(self, subject: Subject, backend: Backend) -> None:
        model = subject.model(backend)
        assert backend.takes(model, model.main_input_name), f"no argument {model.main_input_name!r} of a call"

    def test_names_are_those_of_pytorch(self, subject: Subject, backend: Backend) -> None:
        assert subject.cls(backend).__name__ == BACKENDS[backend.name][1] + subject.stem

    def test_config_comes_back(self, subject: Subject, tmp_path: Path) -> None:
        config = subject.config
        config.save_pretrained(tmp_path)
        again = type(config).from_pretrained(tmp_path).to_dict()
        assert {**again, "_name_or_path": ""} == {**config.to_dict(), "_name_or_path": ""}
        assert type(config).from_dict(config.to_dict()).to_dict() == config.to_dict()

    def test_config_of_a_model_is_that_of_the_folder(self, subject: Subject, backend: Backend) -> None:
        found, expected = subject.model(backend).config.to_dict(), subject.config.to_dict()
        given = {name: value for name, value in expected.items() if name not in SAVED}
        assert {name: found.get(name) for name in given} == given

    def test_new_weights_have_the_names_and_shapes_of_the_reference(self, subject: Subject, pair: Any) -> None:
        one, other = (_shapes(subject.weights(backend, subject.new(backend))) for backend in pair)
        alone = [f"{backend.name} alone has {name}" for backend, ours, theirs in zip(pair, (one, other), (other, one),
                 strict=True) for name in ours if name not in theirs]  # fmt: skip
        assert other == one, ", ".join(alone)

    def test_new_weights_are_finite(self, subject: Subject, backend: Backend) -> None:
        weights = subject.weights(backend, subject.new(backend))
        bad = [name for name, array in weights.items() if not np.isfinite(array.astype(np.float64)).all()]
        assert weights and not bad

    def test_new_models_compute(self, subject: Subject, backend: Backend) -> None:
        outputs = backend.run(subject.new(backend), subject.inputs)
        bad = [name for name, array in outputs.items() if not np.isfinite(array).all()]
        assert outputs and not bad

    def test_every_weight_of_the_live_model_is_declared(self, subject: Subject, backend: Backend) -> None:
        model = subject.fresh(backend)
        assert model._derive_schema().summary() == model.schema.summary()

    def test_num_parameters(self, subject: Subject, backend: Backend) -> None:
        model = subject.model(backend)
        held = [weight for weight in model.schema.stored() if not weight.buffer]
        assert model.num_parameters() == sum(int(np.prod(weight.shape)) for weight in held)

    @pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
    def test_param_dtype(self, subject: Subject, backend: Backend, dtype: str) -> None:
        model = subject.fresh(backend, param_dtype=dtype)
        kept = subject.cls(subject.reference)._keep_in_fp32_modules or () if dtype == "float16" else ()
        arrays, plain = subject.weights(backend, model), subject.weights(backend)
        for weight in (one for one in model.schema.stored() if plain[one.name].dtype == np.float32):
            whole = any(part in kept for part in weight.name.split("."))
            found = arrays[weight.name].dtype.name
            assert found == ("float32" if whole else dtype), weight.name

    def test_unknown_arguments_are_refused(self, subject: Subject, backend: Backend) -> None:
        with pytest.raises(TriptychError, match="no_such_argument"):
            subject.fresh(backend, no_such_argument=1)

    def test_changes_of_the_config_at_load(self, subject: Subject, backend: Backend) -> None:
        model = subject.fresh(backend, finetuning_task="a task")
        assert model.config.finetuning_task == "a task"

    def test_configs_are_not_shared(self, subject: Subject, backend: Backend) -> None:
        config = subject.config
        model = subject.fresh(backend, config=config)
        model.config.finetuning_task = "another"
        assert config.finetuning_task != "another"


SAVED = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version")
"""What a save writes into a config."""


def _shapes(weights: dict[str, np.ndarray]) -> dict[str, tuple[Any, ...]]:
    return {name: (array.shape, array.dtype.name) for name, array in weights.items()}
