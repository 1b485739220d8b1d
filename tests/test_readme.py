"""What README and the map of the code say is there is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from places import ROOT

import triptych
from triptych.names import BACKEND_MODULES


def test_the_class_of_the_readme_works(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    code = next(block for block in blocks if "class MyModel" in block)
    use = """
import sys, torch
model = MyModel(MyConfig())
model.resize_token_embeddings(120)
model.save_pretrained(sys.argv[1])
ids = torch.tensor([[1, 119]])
assert torch.equal(model(ids), MyModel.from_pretrained(sys.argv[1])(ids))
"""
    done = subprocess.run([sys.executable, "-c", code + use, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_named_files_exist() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    core = ROOT / "core/triptych"
    one_file_per_family = {"families", "forward", "commands"}
    room, said = "", set()
    for line in text.partition("```\n")[2].split("pt/triptych_pt/")[0].splitlines()[1:]:
        if match := re.match(r" {2}( {2})?([a-z0-9_]+)/ ", line):
            room = f"{room.partition('/')[0]}/{match[2]}" if match[1] else match[2]
        elif not line.startswith("   "):
            room = ""
        said |= {(Path(room) / name).as_posix() for name in re.findall(r"\b([a-z0-9_]+\.py)\b", line)}
    there = {path.relative_to(core).as_posix() for path in core.rglob("*.py")}
    assert said == {
        path
        for path in there
        if Path(path).name != "__init__.py"
        and Path(path).parent.name not in one_file_per_family
        and path not in ("pt.py", "tf.py", "flax.py")
    }
    for backend in ("pt", "tf", "flax"):
        files = {path.name for path in (ROOT / backend / f"triptych_{backend}").glob("*.py")} - {"__init__.py"}
        assert all(name in text for name in files)
    for folder in one_file_per_family:
        assert f"{folder}/" in text
        assert (core / folder).is_dir()
    for path in re.findall(r"(?<![\w/])(?:core/triptych/)?((?!tests|conformance)(?:[a-z0-9_]+/)+[a-z0-9_]+\.py)", text):
        assert (core / path).is_file(), path
    for link in re.findall(r"\]\(([a-zA-Z_/]+\.md)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / link).is_file()


def test_the_table_of_models_is_whole() -> None:
    section = (ROOT / "README.md").read_text().partition("## What is built in today")[2]
    rows = "\n".join(line for line in section.splitlines() if line.startswith("| `"))
    rows = rows.partition("| `dtype=`")[0]
    words = set(re.findall(r"`(\w+)`", rows))
    assert {word for word in words if word.islower()} == set(BACKEND_MODULES) - {"modeling", "auto"}
    classes = {word for word in words if not word.islower()}
    assert "BertForMaskedLM" in classes
    for prefix in ("", "TF", "Flax"):
        assert {prefix + name for name in classes} <= set(triptych.__all__)
