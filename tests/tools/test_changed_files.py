"""`triptych verify-files`: which checkpoints changed files belong to, and every way in which one is not whole."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from gguf_models import make_model, write_gguf
from places import GOLDEN, ROOT
from triptych import TensorRef, save_checkpoint
from triptych.checkpoints.opening import open_checkpoint
from triptych.cli import app
from triptych.tools.changed_files import places_of
from triptych.tools.editing import open_draft, write

MODEL = GOLDEN / "bert-mlm"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"
Damage = Callable[[Path], object]


def run(*files: Path) -> Result:
    return CliRunner().invoke(app, ["verify-files", *map(str, files)])


def copy(name: str, folder: Path) -> Path:
    if name != "with-manifest":
        return shutil.copytree(MODEL / name, folder / name)
    write(open_draft(MODEL / "pt-safetensors"), folder / name, manifest=True)
    return folder / name


def weights(folder: Path) -> Path:
    return next(path for path in sorted(folder.iterdir()) if path.suffix != ".json")


def test_each_checkpoint_is_read_once_in_every_format(tmp_path: Path) -> None:
    both, sharded = copy("pt-safetensors", tmp_path), copy("pt-bin-sharded", tmp_path)
    shutil.copy(MODEL / "tf-h5/tf_model.h5", both)
    shutil.copy(both / "model.safetensors", both / "model.ema.safetensors")
    (tmp_path / "config.json").write_text("{}")
    done = run(tmp_path / "config.json", *both.iterdir(), *sharded.iterdir())
    assert done.exit_code == 0, done.output
    one, three = 58, 3 * 58
    assert re.findall(r"(\d+) tensors", done.stdout) == [str(one), str(three)]
    assert done.stdout.endswith("2 checkpoints, 0 damaged\n")
    nothing = run(tmp_path / "config.json")
    assert (nothing.exit_code, nothing.stdout) == (0, "0 checkpoints, 0 damaged\n")


def drop_index(folder: Path) -> None:
    next(folder.glob("*.index.json")).unlink()


def untie(folder: Path) -> None:
    tensors = {name: ref.read() for name, ref in open_checkpoint(folder).items()}
    tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"] + 1
    config = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": True}
    save_checkpoint(folder, [TensorRef.of(name, array) for name, array in tensors.items()], json.dumps(config))


def train_on(folder: Path) -> None:
    shutil.copy(MODEL / "tf-h5/tf_model.h5", folder)
    tensors = {name: ref.read() * np.float32(1.5) for name, ref in open_checkpoint(folder).items()}
    (folder / "model.safetensors").unlink()
    copies = [TensorRef.of(name, array) for name, array in tensors.items()]
    save_checkpoint(folder.parent / "new", copies, (folder / "config.json").read_text())
    shutil.copy(folder.parent / "new/model.safetensors", folder)


def flip(folder: Path) -> None:
    data = weights(folder).read_bytes()
    weights(folder).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def leave(folder: Path) -> None:
    (folder / ".triptych-save-0123abcd-1-ff").mkdir()


DAMAGES: list[tuple[str, Damage, str]] = [
    ("pt-bin-sharded", lambda f: shutil.copy(weights(f), f / "pytorch_model-00007-of-7.bin"),
     "weights that no load takes.*pytorch_model-00007-of-7.bin"),
    ("pt-bin-sharded", drop_index, "weights that no load takes.*00001-of-00006.*00006-of-00006"),
    ("pt-bin-sharded", lambda f: (f / "pytorch_model-00002-of-00006.bin").unlink(), "without pytorch_model-00002"),
    ("pt-safetensors-sharded", lambda f: shutil.copy(MODEL / "pt-safetensors/model.safetensors", f),
     "weights that no load takes.*model.safetensors.index.json"),
    ("pt-safetensors", lambda f: weights(f).write_bytes(weights(f).read_bytes()[:-9]), "ends before its tensors do"),
    *((name, lambda f: weights(f).write_bytes(POINTER), "Git LFS pointer.*git lfs pull")
      for name in ("pt-safetensors", "pt-bin", "tf-h5-sharded", "flax-msgpack")),
    ("tf-h5", lambda f: (f / "config.json").write_text("{"), "config.json is not valid JSON"),
    ("pt-bin", lambda f: (f / "generation_config.json").write_bytes(POINTER), "generation_config.json is not valid"),
    ("pt-safetensors", untie, "tied.*Expected: tie_word_embeddings False. Received: tie_word_embeddings True"),
    ("pt-safetensors", train_on, "one model in safetensors and another in h5.*and 54 more"),
    ("pt-safetensors", leave, "what a killed save left.*triptych gc"),
    ("with-manifest", flip, "not what its manifest records.*file model.safetensors: expected.*; tensor "),
]  # fmt: skip


@pytest.mark.parametrize(("name", "damage", "because"), DAMAGES)
def test_what_is_not_whole_is_said(name: str, damage: Damage, because: str, tmp_path: Path) -> None:
    whole, folder = copy("pt-bin-sharded", tmp_path / "whole"), copy(name, tmp_path)
    assert run(folder).exit_code == 0
    damage(folder)
    done = run(whole / "config.json", folder / "config.json")
    assert done.exit_code == 1 and "2 checkpoints, 1 damaged" in done.stdout, done.output
    problems = [line for line in done.stderr.splitlines() if line.startswith(f"{folder}: damaged: ")]
    assert len(problems) == 1 and re.search(because, problems[0]), done.stderr


def test_adapters_are_read_too(tmp_path: Path) -> None:
    refs = [TensorRef.of(f"base_model.model.x.lora_{half}.weight", np.ones((2, 2), np.float32)) for half in "AB"]
    save_checkpoint(tmp_path / "saved", refs, "{}")
    folder = tmp_path / "lora"
    folder.mkdir()
    file = shutil.copy(tmp_path / "saved/model.safetensors", folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2}')
    assert "whole, 2 tensors" in run(Path(file)).stdout
    Path(file).write_bytes(POINTER)
    assert run(folder / "adapter_config.json").exit_code == 1


def test_gguf_files_are_checkpoints_of_their_own(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "m.gguf", "llama", make_model("llama"), "Q8_0")
    assert "1 checkpoints, 0 damaged" in run(file).stdout
    assert places_of([tmp_path / "gone.gguf"]) == []
    file.write_bytes(file.read_bytes()[:-64])
    assert run(file).exit_code == 1


def test_what_a_killed_save_left_belongs_to_its_folder(tmp_path: Path) -> None:
    folder = copy("pt-bin", tmp_path)
    leave(folder)
    assert places_of([folder / ".triptych-save-0123abcd-1-ff/0.bin"]) == [folder]


def test_a_deleted_shard_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    copy("pt-bin-sharded", tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    assert run(Path("--and-deleted")).exit_code == 2
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "whole")
    assert run(Path("--and-deleted")).stdout == "0 checkpoints, 0 damaged\n"
    git("rm", "-q", "models/pt-bin-sharded/pytorch_model-00002-of-00006.bin")
    assert run(Path("--and-deleted")).exit_code == 1
    monkeypatch.chdir(tmp_path / "models")
    assert "without pytorch_model-00002-of-00006.bin" in run(Path("--and-deleted")).stderr
    git("rm", "-rq", "models")
    monkeypatch.chdir(tmp_path)
    assert run(Path("--and-deleted")).exit_code == 0
    assert run().exit_code == run(tmp_path / "gone").exit_code == 2


def test_the_hook_gets_the_files_of_checkpoints() -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert (hook["id"], hook["entry"]) == ("triptych-verify", "triptych verify-files --and-deleted")
    assert hook["require_serial"] and hook["always_run"]
    for path in [path for path in MODEL.rglob("*") if path.is_file() and path.parent != MODEL]:
        assert re.search(hook["files"], path.relative_to(ROOT).as_posix())
    names = ("m.gguf", "a/adapter_config.json", "model.safetensors.index.fp16.json", "a/triptych_manifest.fp16.json")
    for name in names:
        assert re.search(hook["files"], name)
    assert not any(re.search(hook["files"], name) for name in ("README.md", "a/tsconfig.json", "package.json"))
