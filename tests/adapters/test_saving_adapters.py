"""The two files of an adapter change together, whenever a save is killed and whoever reads."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from pathlib import Path

import pytest

from savers import save_adapter, save_adapter_and_die
from triptych import MissingFileError, SaveError
from triptych.adapters.folder import base_of, local_names, open_adapter
from triptych.checkpoints.saving import collect_garbage
from triptych.checkpoints.staging import PREFIX
from triptych.formats.opening import open_file

CONFIG, SAFE, BIN = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"


def read(folder: Path) -> int:
    """Return the generation that triptych reads, whose files are both of it."""
    config, tensors = open_adapter(folder, "", {})
    (ref,) = tensors.values()
    assert config.r == ref.shape[0] == ref.read()[0, 0] and base_of(folder, "") == "base"
    assert CONFIG in local_names(folder)
    return config.r


def read_as_peft(folder: Path) -> int | None:
    """Return the generation that is read by the names of the files alone; None if there is no config."""
    if not (folder / CONFIG).exists():
        return None
    rank = json.loads((folder / CONFIG).read_text())["r"]
    (ref,) = open_file(folder / (SAFE if (folder / SAFE).exists() else BIN)).tensors.values()
    assert rank == ref.read()[0, 0]
    return rank


def killed(folder: Path, operation: int, safe: bool) -> bool:
    """Save generation 2 in a process that ends before a file operation of that number; return whether it came to it.

    Forked from a process that has imported no framework: their threads do not survive a fork.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["savers"])
    saver = context.Process(target=save_adapter_and_die, args=(folder, operation, safe))
    saver.start()
    saver.join()
    assert saver.exitcode in (0, -signal.SIGKILL)
    return saver.exitcode != 0


@pytest.mark.parametrize(("before", "after"), [(True, True), (True, False), (False, True)], ids=str)
def test_a_save_that_is_killed_leaves_the_old_or_the_new_adapter(before: bool, after: bool, tmp_path: Path) -> None:
    found, operation = [], 0
    while not found or found[-1] != "done":
        operation += 1
        folder = tmp_path / str(operation)
        save_adapter(folder, 1, before)
        (folder / "mine.txt").write_text("mine")
        done = not killed(folder, operation, after)
        generation, theirs = read(folder), read_as_peft(folder)
        assert theirs in (None, generation)
        found += [f"{generation} {theirs}"] + ["done"] * done
        collect_garbage(folder)
        assert read(folder) == read_as_peft(folder) == generation
        save_adapter(folder, 3, after)
        assert read(folder) == read_as_peft(folder) == 3
        assert set(os.listdir(folder)) == {CONFIG, SAFE if after else BIN, "mine.txt"}
    assert {"1 1", "2 None", "2 2"} <= set(found)


def test_a_save_that_fails_can_be_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_adapter(tmp_path, 1)
    real = os.replace

    def replace(source: object, target: object) -> None:
        if str(target).endswith(SAFE):
            raise OSError(5, "broken")
        real(source, target)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replace)
        with pytest.raises(SaveError):
            save_adapter(tmp_path, 2)
        assert read(tmp_path) == 2 and read_as_peft(tmp_path) is None
    collect_garbage(tmp_path)
    assert read_as_peft(tmp_path) == 2 and not list(tmp_path.glob(f"{PREFIX}*"))


def test_the_same_config_is_left_alone(tmp_path: Path) -> None:
    save_adapter(tmp_path, 1, rank=4)
    before = (tmp_path / CONFIG).stat()
    save_adapter(tmp_path, 2, rank=4)
    assert (tmp_path / CONFIG).stat() == before
    assert open_adapter(tmp_path, "", {})[1].popitem()[1].shape == (2, 4)


def test_readers_beside_a_saver_see_one_save_each(tmp_path: Path) -> None:
    save_adapter(tmp_path, 1)
    saver = threading.Thread(target=lambda: [save_adapter(tmp_path, 1 + n % 3, n % 2 == 0) for n in range(60)])
    saver.start()
    loads = 0
    while saver.is_alive():
        config, tensors = open_adapter(tmp_path, "", {}, mmap=True)
        assert config.r == tensors.popitem()[1].read()[0, 0]
        loads += 1
    saver.join()
    assert loads > 5


def test_a_pair_that_somebody_planted_moves_nothing(tmp_path: Path) -> None:
    folder, staging = tmp_path / "folder", tmp_path / "folder" / f"{PREFIX}0badcafe-1-0"
    staging.mkdir(parents=True)
    (staging / "replaced").write_text("")
    for files in (["../out", CONFIG], ["model.safetensors"], [5], "adapter_x", []):
        (staging / "pair.json").write_text(json.dumps({"files": files, "removes": []}))
        (staging / "model.safetensors").write_text("planted")
        with pytest.raises(MissingFileError):
            open_adapter(folder, "", {})
        assert os.listdir(folder) == [staging.name] and os.listdir(tmp_path) == ["folder"]
