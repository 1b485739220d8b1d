"""A save that is killed, or runs beside another, leaves one whole checkpoint."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from triptych import MissingFileError, TensorRef, open_checkpoint, save_checkpoint
from triptych.errors import SaveError, TriptychError
from triptych.staging import PREFIX

SCRIPT = Path(__file__).parent / "kill_saves.py"


def test_killed_saves_leave_the_old_or_the_new_checkpoint() -> None:
    command = [sys.executable, str(SCRIPT), "--kills", "20", "--every-operation", "--step", "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every folder whole" in done.stdout
    assert "'old'" in done.stdout
    assert "'new'" in done.stdout


def _save_often(folder: Path, value: int, sizes: list[int], failures: multiprocessing.Queue) -> None:
    try:
        for size in sizes:
            refs = [TensorRef.of(f"t{i}", np.full(64, value + i, np.float64)) for i in range(8)]
            save_checkpoint(folder, refs, "{}\n", max_shard_size=size)
    except TriptychError as error:
        failures.put(repr(error))


def test_savers_and_a_reader_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    failures = context.Queue()
    _save_often(tmp_path, 0, [1024], failures)
    savers = [
        context.Process(target=_save_often, args=(tmp_path, 100 * n, [1024, 10**9, 2048, 600] * 5, failures))
        for n in (1, 2)
    ]
    for saver in savers:
        saver.start()
    whole = 0
    while any(saver.is_alive() for saver in savers):
        try:
            read = open_checkpoint(tmp_path)
            values = {name: float(read[name].read()[0]) for name in read}
        except TriptychError:
            continue  # files moved on between two reads; the reader is told, and tries again
        base = values["t0"]
        assert values == {f"t{i}": base + i for i in range(8)}
        whole += 1
    for saver in savers:
        saver.join()
    assert failures.empty(), failures.get()
    assert whole > 0
    values = {name: float(ref.read()[0]) for name, ref in open_checkpoint(tmp_path).items()}
    assert values["t0"] in (100, 200)
    named = {"config.json", "model.safetensors.index.json"}
    assert {p.name for p in tmp_path.iterdir() if not p.name.endswith(".safetensors")} <= named


def test_an_index_that_is_gone_after_it_was_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text("{}")
    monkeypatch.setattr("triptych.resolve.preferred", lambda *_: (index.unlink(), index.name)[1])
    with pytest.raises(MissingFileError, match="There is no file .*try again"):
        open_checkpoint(tmp_path)


def test_a_read_only_folder_is_refused_and_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, [TensorRef.of("w", np.zeros(3))])

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(SaveError, match="Permission denied"):
        save_checkpoint(tmp_path, [TensorRef.of("w", np.ones(3))])
    assert open_checkpoint(tmp_path)["w"].read().tolist() == [0, 0, 0]


@pytest.mark.parametrize("call", ["fsync", "replace", "link"])
def test_a_failing_system_call_before_the_commit_loses_nothing(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = [TensorRef.of(n, np.zeros(256)) for n in "abc"]
    save_checkpoint(tmp_path, old, "{}\n", max_shard_size=2048)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(f"os.{call}", fail)
    if call == "link":
        monkeypatch.setattr("os.replace", fail)  # without links it renames instead
    with pytest.raises(SaveError, match="Input/output") as caught:
        save_checkpoint(tmp_path, [TensorRef.of(n, np.ones(256)) for n in "abc"], "{}\n", max_shard_size=2048)
    monkeypatch.undo()
    assert caught.value.errno == 5
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("os.link", fail)
    for value, size, config in ((0, 2048, "{}"), (1, 2048, '{"a": 1}'), (2, 10**9, '{"a": 2}'), (3, 2048, '{"a": 3}')):
        refs = [TensorRef.of(n, np.full(256, value)) for n in "abc"]
        save_checkpoint(tmp_path, refs, config, max_shard_size=size)
        assert open_checkpoint(tmp_path)["a"].read()[0] == value


def test_saving_over_the_folder_that_is_mapped(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, [TensorRef.of(n, np.arange(256.0)) for n in "abc"])
    opened = open_checkpoint(tmp_path)
    arrays = {name: ref.read() for name, ref in opened.items()}
    save_checkpoint(tmp_path, list(opened.values()), max_shard_size=2048)
    assert not list(tmp_path.glob(f"{PREFIX}*"))
    assert all(np.array_equal(open_checkpoint(tmp_path)[n].read(), a) for n, a in arrays.items())


def test_every_byte_is_on_the_disk_before_the_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its fsync a file has its final size, and after it nothing is written; a folder is synced after each rename."""
    synced: dict[int, int] = {}
    real = os.fsync

    def record(descriptor: int) -> None:
        status = os.fstat(descriptor)
        synced[status.st_ino] = status.st_size
        real(descriptor)

    monkeypatch.setattr("os.fsync", record)
    for size, config in ((2048, "{}"), (10**9, '{"a": 1}'), (2048, '{"a": 2}')):
        save_checkpoint(tmp_path, [TensorRef.of(n, np.zeros(256)) for n in "abc"], config, max_shard_size=size)
        for path in tmp_path.iterdir():
            assert synced[path.stat().st_ino] == path.stat().st_size, path.name
        assert tmp_path.stat().st_ino in synced
