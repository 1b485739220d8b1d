"""What docs/training.md says: its examples run, one after the other, and have their own asserts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from places import ROOT

PAGE = (ROOT / "docs/training.md").read_text()


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_the_examples_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert sum(block.count("assert ") + block.count("assert_close(") for block in blocks) > 6
    names = {"__name__": "page"}
    for number, block in enumerate(blocks):  # code of our own page, run as its readers run it
        exec(compile(block, f"training.md, block {number}", "exec"), names)
