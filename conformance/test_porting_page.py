"""What docs/porting.md says: its files are ported by the command, which says what the page says, and run."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from places import ROOT
from triptych.cli import app

PAGE = (ROOT / "docs/porting.md").read_text()
FILES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE, re.S))
USE = "use.py"


@pytest.fixture
def ported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write the files of the page into the working directory, port them, and return what the command prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in FILES.items():
        Path(name).write_text(f"# {name}\n{text}")
    (line,) = re.findall(r"\n(triptych port .*)\n", PAGE)
    done = CliRunner().invoke(app, line.split()[1:])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_command_says_what_the_page_says(ported: str) -> None:
    assert len(FILES) == 5
    assert ported in re.findall(r"```\n(.*?)```", PAGE, re.S)
    assert not [name for name in FILES if name != USE and "from transformers" in Path(name).read_text()]


def test_the_models_of_the_page_share_their_checkpoints(ported: str) -> None:
    try:
        # Code of our own page, copied to a temporary folder: it is run as its readers run it, and has its own asserts.
        exec(compile(Path(USE).read_text(), USE, "exec"), {"__name__": "page"})
    finally:
        for name in FILES:
            sys.modules.pop(Path(name).stem, None)
    assert json.loads(Path("mine/config.json").read_text())["vocab_size"] == 48
    assert Path("TFMineForCausalLM/tf_model.h5").is_file() and Path("FlaxMineForCausalLM/flax_model.msgpack").is_file()


def test_every_module_and_name_of_the_page_is_there() -> None:
    modules = {f"triptych{name}" for name in re.findall(r"`(\.[\w.]+)`", PAGE)} - {"triptych.bin"}
    modules |= set(re.findall(r"`(triptych\.\w+)`", PAGE))
    formats = {"triptych.h5", "triptych.msgpack"}
    assert len(modules - formats) > 8
    for module in modules - formats:
        importlib.import_module(module)
