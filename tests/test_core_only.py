"""With the core dependencies alone, in an environment of their own, the tools on files do their work."""

from __future__ import annotations

import importlib.metadata as metadata
import json
import subprocess
import tomllib
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from places import GOLDEN, ROOT

FRAMEWORKS = ("torch", "tensorflow", "keras", "jax", "flax")


def requirements() -> set[str]:
    """Return the distributions that the core needs, and what these need in turn."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    found: set[str] = set()
    queue = [Requirement(text) for text in wanted]
    while queue:
        requirement = queue.pop()
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if applies and requirement.name.lower() not in found:
            found.add(requirement.name.lower())
            queue += [Requirement(text) for text in metadata.requires(requirement.name) or []]
    return found


@pytest.fixture(scope="module")
def core_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment that holds the core's dependencies, at the versions of this one, and no more.

    Their installed files are linked into it, so the test needs no network.
    """
    home = tmp_path_factory.mktemp("core-only")
    venv.create(home, with_pip=False)
    (site,) = home.glob("lib/python*/site-packages")
    for name in requirements():
        distribution = metadata.distribution(name)
        tops = {file.parts[0] for file in distribution.files or [] if file.parts[0] not in ("..", "__pycache__")}
        for top in tops:
            target = Path(str(distribution.locate_file(top)))
            if not (site / top).exists():
                (site / top).symlink_to(target, target_is_directory=target.is_dir())
    for part in ("core/triptych", "pt/triptych_pt", "tf/triptych_tf", "flax/triptych_flax"):
        (site / Path(part).name).symlink_to(ROOT / part, target_is_directory=True)
    return home / "bin/python"


def triptych(python: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(python), "-P", "-m", "triptych", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_no_framework_is_there(core_python: Path) -> None:
    code = f"import importlib.util as u; print([n for n in {FRAMEWORKS} if u.find_spec(n)])"
    done = subprocess.run([str(core_python), "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    code = "from triptych import PreTrainedModel"
    missing = subprocess.run([str(core_python), "-P", "-c", code], capture_output=True, text=True)
    assert missing.returncode == 1 and "MissingBackendError" in missing.stderr


def test_the_tools_work(core_python: Path, tmp_path: Path) -> None:
    def ok(*arguments: object) -> str:
        done = triptych(core_python, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    source = GOLDEN / "bert-mlm/pt-bin"
    assert json.loads(ok("inspect", source, "--json"))["model_type"] == "bert"
    for format in ("safetensors", "bin", "h5", "msgpack", "safetensors-tf", "safetensors-flax"):
        ok("convert", source, tmp_path / format, "--format", format)
        ok("verify", source, tmp_path / format)
    ok("reshard", source, tmp_path / "shards", "--max-shard-size", "16KB")
    assert len(list((tmp_path / "shards").glob("pytorch_model-*.bin"))) > 2
    ok("cast", source, tmp_path / "cast", "--dtype", "bfloat16")
    assert triptych(core_python, "verify", source, tmp_path / "cast").returncode == 1
    ok("resize", source, tmp_path / "resized", "--vocab-size", "120")
    ok("prune", source, tmp_path / "pruned", "--heads", "0:1", "--heads", "1:0,2")
    assert json.loads((tmp_path / "resized/config.json").read_text())["vocab_size"] == 120
    assert json.loads((tmp_path / "pruned/config.json").read_text())["pruned_heads"] == {"0": [1], "1": [0, 2]}
    assert "config vocab_size: 99 -> 120" in triptych(core_python, "diff", source, tmp_path / "resized").stdout
    ok("verify", tmp_path / "shards", tmp_path / "msgpack")
