"""The backends mirror each other: the same files, the same public names in the same order, the same signatures."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from types import ModuleType

import pytest

from triptych import names
from triptych.modeling.base import ModelBase
from triptych.nn import recording

ROOT = Path(__file__).parents[1]
PACKAGES = {backend: names.BACKENDS[backend][0] for backend in names.BACKENDS}
FRAMEWORK_ARGUMENTS = {"pt": set(), "tf": {"training", "kwargs"}, "flax": {"params", "dropout_rng", "train"}}
"""Arguments that are a convention of the framework itself."""
CALL = {"pt": "forward", "tf": "call", "flax": "__call__"}
SHARED = [
    "from_pretrained", "from_config", "save_pretrained", "resize_token_embeddings", "prune_heads", "get_head_mask",
    "num_parameters", "tie_weights", "get_input_embeddings", "set_input_embeddings", "get_output_embeddings",
    "set_output_embeddings", "init_cache", "add_model_tags", "register_for_auto_class", "can_generate",
    "declare_schema",
]  # fmt: skip


def modules(backend: str) -> dict[str, ModuleType]:
    folder = ROOT / backend / PACKAGES[backend]
    return {
        path.stem: importlib.import_module(f"{PACKAGES[backend]}.{path.stem}")
        for path in folder.glob("*.py")
        if path.stem != "__init__"
    }


def functions(module: ModuleType) -> dict[str, list[str]]:
    found = inspect.getmembers(module, inspect.isfunction)
    own = [(n, f) for n, f in found if f.__module__ == module.__name__ and not n.startswith("_")]
    own.sort(key=lambda item: item[1].__code__.co_firstlineno)
    return {name: list(inspect.signature(function).parameters) for name, function in own}


def arguments(function: object, drop: set[str]) -> list[tuple[str, object]]:
    parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    return [(p.name, p.default) for p in parameters if p.name not in drop]


def test_the_same_files() -> None:
    assert modules("pt").keys() == modules("tf").keys() == modules("flax").keys()


ONLY_PYTORCH = {
    "ops": ["is_few", "buffer", "may_write", "begins", "write_into", "write_rows_into", "named_cache"],
    "arrays": [],
}
"""What growing caches ask for, which only PyTorch has; and whether a product is of few rows, which XLA sees itself."""


@pytest.mark.parametrize("module", ["ops", "arrays"])
def test_the_same_functions_in_the_same_order(module: str) -> None:
    mirrored = {b: functions(modules(b)[module]) for b in PACKAGES}
    for name in ONLY_PYTORCH[module]:
        del mirrored["pt"][name]
    assert mirrored["pt"] == mirrored["tf"] == mirrored["flax"]
    assert list(mirrored["pt"]) == list(mirrored["tf"]) == list(mirrored["flax"])


@pytest.mark.parametrize("backend", PACKAGES)
def test_declarations_find_the_same_layers_in_every_backend(backend: str) -> None:
    made = [name for name in functions(recording) if not name.startswith("recorded_")]
    assert len(made) == 14
    module = modules(backend)["make"]
    for name in made:
        assert arguments(getattr(module, name), set()) == arguments(getattr(recording, name), set()), name


@pytest.mark.parametrize("backend", PACKAGES)
def test_classes_that_are_written_out_find_these_layers_where_they_were(backend: str) -> None:
    layers, make = modules(backend)["layers"], modules(backend)["make"]
    made = [name for name in functions(recording) if not name.startswith("recorded_")]
    assert all(getattr(layers, name) is getattr(make, name) for name in made)
    assert getattr(layers, f"{names.BACKENDS[backend][1]}Block") is make.binder.base


@pytest.mark.parametrize("backend", PACKAGES)
def test_every_public_name_is_there_in_order(backend: str) -> None:
    package = importlib.import_module(PACKAGES[backend])
    assert package.__all__ == names.backend_names(backend)
    for module, stems in names.BACKEND_MODULES.items():
        prefix = names.BACKENDS[backend][1]
        listed = importlib.import_module(f"{PACKAGES[backend]}.{module}").__all__
        assert list(listed) == [prefix + stem for stem in stems]


@pytest.mark.parametrize("method", SHARED)
def test_methods_have_one_signature(method: str) -> None:
    classes = {
        b: getattr(importlib.import_module(p), names.BACKENDS[b][1] + "PreTrainedModel") for b, p in PACKAGES.items()
    }
    expected = arguments(getattr(classes["pt"], method), set())
    assert all(issubclass(cls, ModelBase) for cls in classes.values())
    for backend, cls in classes.items():
        drop = {"params"} if backend == "flax" and method in ("resize_token_embeddings", "prune_heads") else set()
        assert arguments(getattr(cls, method), drop) == expected, backend


@pytest.mark.parametrize(
    "stem", [s for m in names.MODEL_MODULES for s in names.BACKEND_MODULES[m] if "PreTrained" not in s]
)
def test_calls_have_one_signature(stem: str) -> None:
    found = {}
    for backend, package in PACKAGES.items():
        cls = getattr(importlib.import_module(package), names.BACKENDS[backend][1] + stem)
        found[backend] = arguments(getattr(cls, CALL[backend]), FRAMEWORK_ARGUMENTS[backend])
    assert found["pt"] == found["tf"]
    assert sorted(found["flax"]) == sorted(found["pt"])  # in the order of transformers 4, which was one of its own
    assert found["flax"][:2] == found["pt"][:2]
