"""`examples/authors`: triptych writes what triptych reads. The half with transformers 4 is in that folder's README."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

SHOW = Path(__file__).parents[1] / "examples" / "authors" / "show.py"


@pytest.fixture
def show() -> Any:
    spec = importlib.util.spec_from_file_location("authors_show", SHOW)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


EVERY = ("signal", "recurrent", "scoring")


@pytest.mark.parametrize(("framework", "names"), [("pt", EVERY), ("tf", EVERY), ("flax", EVERY[:2])])
def test_what_is_written_is_read(
    show: Any, framework: str, names: tuple[str, ...], tmp_path: Path, capsys: Any
) -> None:
    show.write(tmp_path, framework, "triptych", names)  # Flax compiles the third for ten seconds, op by op
    assert show.read(tmp_path, framework, "triptych") == 0
    assert capsys.readouterr().out.count("triptych read") == 2 * len(names)


def test_a_difference_is_told(show: Any, tmp_path: Path) -> None:
    show.write(tmp_path, "pt", "triptych", ["recurrent"])
    expected = tmp_path / "pt/triptych/recurrent/native/expected.npy"
    show.np.save(expected, show.np.load(expected) + 1e-3)
    assert show.read(tmp_path, "pt", "triptych") == 1
