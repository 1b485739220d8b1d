"""What README and the map of the code say is there is there."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import triptych
from places import ROOT
from triptych.names import MODEL_MODULES

MAP = ROOT / "docs/architecture.md"


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


def test_the_picture_shows_the_floors_of_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    floors = next(contract["layers"] for contract in contracts if contract["id"] == "floors")
    picture = re.split(r"\n─+.*\n", MAP.read_text())[1].partition("```")[0]
    shown = [re.findall(r"[a-z0-9_]+", re.split(r" {2,}", line)[0]) for line in picture.splitlines()]
    aliases = picture.splitlines()[0].partition(":")[2]
    assert shown[0] == ["aliases"] and set(re.findall(r"[a-z]+", aliases)) == set(re.findall(r"\w+", floors[0]))
    assert [name for line in shown[1:] for name in line] == [n for f in floors[1:] for n in re.findall(r"\w+", f)]


def test_the_map_has_every_file() -> None:
    text = MAP.read_text()
    core = ROOT / "core/triptych"
    one_file_per_family = {"families", "t5", "commands"}
    room, said = "", set()
    for line in text.partition("core/triptych/\n")[2].split("pt/triptych_pt/")[0].splitlines():
        if match := re.match(r" {2}( {2})?([a-z0-9_]+)/ ", line):
            room = f"{room.partition('/')[0]}/{match[2]}" if match[1] else match[2]
        elif not line.startswith("   "):
            room = ""
        said |= {(Path(room) / name).as_posix() for name in re.findall(r"\b([a-z0-9_]+\.py)\b", line)}
    there = {path.relative_to(core) for path in core.rglob("*.py") if path.name != "__init__.py"}
    named = {path.as_posix() for path in there if path.parent.name not in one_file_per_family}
    # Those are called as in transformers 4.
    named = {path for path in named if not path.startswith("transformers4/") or "/_" in path}
    assert said == named | {"families/common.py"}
    for backend in ("pt", "tf", "flax"):
        files = {path.name for path in (ROOT / backend / f"triptych_{backend}").glob("*.py")} - {"__init__.py"}
        assert all(name in text for name in files)


def test_named_files_exist() -> None:
    text, core = MAP.read_text(), ROOT / "core/triptych"
    named = set(re.findall(r"(?<![\w/.])((?:[a-z0-9_]+/)+[a-z0-9_]+\.py)\b", text))
    assert len(named) > 20
    assert [path for path in named if not (core / path).is_file() and not (ROOT / path).is_file()] == []
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        paths = re.findall(r"\b((?:tests|conformance|core|examples|benchmarks)/[\w/]+\.py)\b", page.read_text())
        assert [path for path in paths if not (ROOT / path).is_file()] == [], page.name
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\(([\w./-]+\.md)\)", page.read_text()):
            assert (page.parent / link).is_file(), f"{page.name}: {link}"


def test_the_table_of_models_is_whole() -> None:
    section = (ROOT / "README.md").read_text().partition("## What is built in today")[2]
    rows = "\n".join(line for line in section.splitlines() if line.startswith("| `"))
    rows = rows.partition("| `dtype=`")[0]
    words = set(re.findall(r"`(\w+)`", rows))
    assert {word for word in words if word.islower()} == set(MODEL_MODULES)
    classes = {word for word in words if not word.islower()}
    assert "BertForMaskedLM" in classes
    for prefix in ("", "TF", "Flax"):
        assert {prefix + name for name in classes} <= set(triptych.__all__)
