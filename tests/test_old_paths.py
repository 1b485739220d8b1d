"""Modules under the paths that the documentation named before core had rooms."""

from __future__ import annotations

import importlib
import inspect

import pytest

OLD_PATHS = {
    "triptych.attention": "triptych.nn.attention",
    "triptych.editing": "triptych.tools.editing",
    "triptych.forward.common": "triptych.nn.stack",
    "triptych.functional": "triptych.nn.functional",
    "triptych.outputs": "triptych.nn.outputs",
    "triptych.rotary": "triptych.nn.rotary",
    "triptych.schema": "triptych.weights.schema",
}


@pytest.mark.parametrize("old", OLD_PATHS)
def test_an_old_path_has_every_public_function_and_class(old: str) -> None:
    new = importlib.import_module(OLD_PATHS[old])
    names = [
        name
        for name, value in vars(new).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == new.__name__
    ]
    assert names
    module = importlib.import_module(old)
    assert all(getattr(module, name) is getattr(new, name) for name in names)
