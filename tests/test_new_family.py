"""Follows docs/new-family.md: what the page says works, in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs/new-family.md"
CONFORMANCE = Path(__file__).parents[1] / "conformance"


def written(folder: Path) -> list[str]:
    """Write every block of the page to the file that its first line names."""
    names = []
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S):
        name = block.partition("\n")[0].removeprefix("# ")
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(block)
        names.append(name)
    return names


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = f"import sys; sys.path[:0] = [{str(folder)!r}, {str(CONFORMANCE)!r}]\n"
    code = path + (arguments[0] if arguments[0] != "prove.py" else (folder / "prove.py").read_text())
    return subprocess.run([sys.executable, "-c", code, *arguments[1:]], capture_output=True, text=True)


def test_the_page_proves_itself(tmp_path: Path) -> None:
    names = written(tmp_path)
    assert names == [
        "tiny/config.py", "tiny/schema.py", "tiny/forward.py", "tiny/pt.py", "tiny/tf.py", "tiny/flax.py",
        "tiny/__init__.py", "prove.py",
    ]  # fmt: skip
    done = run(tmp_path, "prove.py", str(tmp_path / "model"))
    assert done.returncode == 0, done.stderr
    prefixes = {"pt": "", "tf": "TF", "flax": "Flax"}
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        [backend, f"{prefix}TinyForCausalLM"] for backend, prefix in prefixes.items()
    ]
    assert len({line.split()[2] for line in done.stdout.splitlines()}) == 1


def test_registering_imports_no_framework(tmp_path: Path) -> None:
    written(tmp_path)
    code = """
import tiny
from triptych import AutoConfig
from triptych.families import declared_schema
schema = declared_schema(AutoConfig.for_model("tiny"), "TinyForCausalLM")
assert schema["lm_head.weight"].tied_to == "tiny.words.weight"
print(*{"torch", "tensorflow", "keras", "jax", "flax"} & set(sys.modules))
"""
    done = run(tmp_path, code)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_a_taken_name_is_refused(tmp_path: Path) -> None:
    written(tmp_path)
    code = """
import tiny
from triptych import ArgumentError, families
try:
    families.register("tiny", families.family("tiny"))
except ArgumentError as error:
    assert "exist_ok" in str(error)
    families.register("tiny", families.family("tiny"), exist_ok=True)
    print("refused")
"""
    done = run(tmp_path, code)
    assert done.stdout == "refused\n", done.stderr
