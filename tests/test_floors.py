"""The floors of core are kept by a contract in pyproject.toml: an arrow drawn upwards is seen, in copies of core."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from places import ROOT


def checked(tree: Path) -> subprocess.CompletedProcess[str]:
    """Run the check on the core of `tree`, with its contract, lines not wrapped."""
    environment = {**os.environ, "PYTHONPATH": str(tree / "core"), "COLUMNS": "400"}
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo"]
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "core", tmp_path / "core", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_the_floors_are_kept(tree: Path) -> None:
    done = checked(tree)
    assert done.returncode == 0, done.stdout
    assert " 0 broken" in done.stdout


IN_A_FUNCTION = "def late() -> None:\n    "
FOR_TYPES = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    "


@pytest.mark.parametrize(
    ("module", "code", "named"),
    [
        ("weights/plan", "import triptych.hub.http", "triptych.weights.plan -> triptych.hub.http"),
        ("files/json", f"{IN_A_FUNCTION}import triptych.tensors.ref", "triptych.files.json -> triptych.tensors.ref"),
        ("checks", f"{FOR_TYPES}from triptych import config", "triptych.checks -> triptych.config"),
        ("nn/rotary", "from triptych import attention", "triptych.nn.rotary -> triptych.attention"),
        ("nn/attention", "import torch", "triptych.nn.attention -> torch"),
        ("modeling/auto", f"{IN_A_FUNCTION}import triptych_pt", "triptych.modeling.auto -> triptych_pt"),
        ("tools/source", "import triptych", "triptych.tools.source -> triptych"),
    ],
)
def test_an_arrow_upwards_is_named(tree: Path, module: str, code: str, named: str) -> None:
    path = tree / f"core/triptych/{module}.py"
    path.write_text(f"{path.read_text()}\n\n{code}\n")
    done = checked(tree)
    assert done.returncode == 1
    assert named in done.stdout


def test_a_circle_within_a_room_is_named(tree: Path) -> None:
    """`opening` imports `safetensors`."""
    path = tree / "core/triptych/formats/safetensors.py"
    path.write_text(f"{path.read_text()}\nimport triptych.formats.opening\n")
    done = checked(tree)
    assert done.returncode == 1
    assert "- .safetensors -> .opening" in done.stdout


def test_a_room_without_a_floor_is_named(tree: Path) -> None:
    room = tree / "core/triptych/attic"
    room.mkdir()
    (room / "__init__.py").touch()
    done = checked(tree)
    assert done.returncode == 1
    assert "triptych.attic" in done.stdout
