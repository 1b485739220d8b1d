"""What docs/big-models.md says: its examples and commands run, one after the other, and have their own asserts."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from places import ROOT
from triptych.cli import app

PAGE = (ROOT / "docs/big-models.md").read_text()


def test_the_examples_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```(python|console)\n(.*?)```", PAGE, re.S)
    assert sum(text.count("assert") for _, text in blocks) > 12
    names = {"__name__": "page"}
    for number, (kind, text) in enumerate(blocks):
        if kind == "python":  # code of our own page, run as its readers run it
            exec(compile(text, f"big-models.md, block {number}", "exec"), names)
        else:
            run(text)


def run(text: str) -> None:
    """Run a command of the page, and see that it prints what the page says, "..." aside."""
    command, *lines = text.removeprefix("$ triptych ").splitlines()
    done = CliRunner().invoke(app, shlex.split(command))
    assert done.exit_code == 0, done.output
    printed = {" ".join(line.split()) for line in done.output.splitlines()}
    assert {" ".join(line.split()) for line in lines if line != "..."} <= printed
