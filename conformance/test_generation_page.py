"""What docs/generation.md says: its examples run, one after the other, and have their own asserts."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from places import ROOT

PAGE = (ROOT / "docs/generation.md").read_text()


def test_the_examples_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert sum(block.count("assert ") for block in blocks) > 6
    # Code of our own page, run as its readers run it.
    exec(compile("\n".join(blocks), "generation.md", "exec"), {"__name__": "page"})


def test_the_parameters_and_modules_of_the_page_are_there() -> None:
    import triptych
    from triptych.generation.parameters import DEFAULTS

    rows = re.findall(r"^\| .*", PAGE.partition("## What there is")[2].partition("\n## ")[0], re.M)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    arguments = {"assistant_model", "prefix_allowed_tokens_fn", "streamer", "stopping_criteria"}
    assert len(named) > 15 and named - arguments <= set(DEFAULTS)
    for module in re.findall(r"`(triptych\.[\w.]+)`", PAGE):
        importlib.import_module(module)
    for name in ("tf_logits_process", "flax_logits_process"):
        importlib.import_module(f"triptych.generation.{name}")
    assert all(hasattr(triptych, name) for name in re.findall(r"`(\w*TextStreamer|\w*IteratorStreamer)`", PAGE))
