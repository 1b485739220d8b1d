"""A save that is killed, or runs beside another, leaves one whole checkpoint."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from places import TESTS
from savers import save_often, save_without_locks
from triptych import ArgumentError, MissingFileError, PretrainedConfig, TensorRef, open_checkpoint, save_checkpoint
from triptych.checkpoints.resolve import is_of_one_save
from triptych.checkpoints.staging import _PAIR, _REPLACED, PREFIX, Pair, _place
from triptych.errors import SaveError, TriptychError
from triptych.files.atomic import Access, create

SCRIPT = TESTS / "kill_saves.py"


def test_killed_saves_leave_the_old_or_the_new_checkpoint() -> None:
    command = [sys.executable, str(SCRIPT), "--kills", "11", "--every-operation", "--step", "11", "--config-alone"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every folder whole" in done.stdout
    assert "'old'" in done.stdout
    assert "'new'" in done.stdout


def test_killed_saves_of_a_variant_leave_config_and_weights_together() -> None:
    command = [sys.executable, str(SCRIPT), "--kills", "0", "--every-operation", "--step", "23", "--variant", "v"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "'old'" in done.stdout
    assert "'new'" in done.stdout


def test_savers_and_a_reader_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    failures = context.Queue()
    save_often(tmp_path, 0, [1024], failures)
    savers = [
        context.Process(target=save_often, args=(tmp_path, 100 * n, [1024, 10**9, 2048, 600] * 5, failures))
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
    monkeypatch.setattr("triptych.checkpoints.resolve.preferred", lambda *_: (index.unlink(), index.name)[1])
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


# -- what is deleted, and what is not


@pytest.mark.parametrize("variant", ["gdeadbeef", "x-00001-of-00002", "-00001-of-00002"])
def test_a_variant_that_is_called_like_files_of_a_save_is_refused(variant: str, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, [TensorRef.of("w", np.zeros(3))], "{}")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(ArgumentError, match="variant is a name that a save gives to its own files"):
        save_checkpoint(tmp_path, [TensorRef.of("w", np.ones(3))], variant=variant)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


NO_PROCESS = 2**22 + 1  # beyond the largest id that Linux gives


def _wrong_mark(file: Path) -> str:
    status = file.lstat()
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns + 1}"


@pytest.mark.parametrize(
    "record",
    [
        lambda folder: {"creates": ["README.md", ".."], "supersedes": ["pytorch_model.bin", ".."]},
        lambda folder: {"creates": {"..": "1 2 3", ".": "", "README.md": _wrong_mark(folder / "README.md")}},
        lambda folder: {"supersedes": {"pytorch_model.bin": _wrong_mark(folder / "pytorch_model.bin"), "": ""}},
        lambda folder: {"creates": {"pytorch_model.bin": "", "empty.py": "x", "../outside.bin": "x"}},
        lambda folder: {"creates": 5, "supersedes": None},
    ],
)
def test_a_planted_record_deletes_nothing(record: Any, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save_checkpoint(folder, [TensorRef.of("w", np.zeros(3))], "{}")
    foreign = {"README.md": b"# mine", "pytorch_model.bin": b"old", "empty.py": b"", "tokenizer.json": b"{}"}
    for name, content in foreign.items():
        (folder / name).write_bytes(content)
    (tmp_path / "outside.bin").write_bytes(b"")
    planted = folder / f"{PREFIX}0123abcd-{NO_PROCESS}-{_place()}"
    planted.mkdir()
    (planted / "record.json").write_text(json.dumps(record(folder)))
    save_checkpoint(folder, [TensorRef.of("w", np.ones(3))], "{}", variant="v")
    assert {name: (folder / name).read_bytes() for name in foreign} == foreign
    assert (tmp_path / "outside.bin").exists()
    assert not planted.exists()


@pytest.mark.parametrize("place", ["folder", "record"])
def test_a_fifo_in_the_place_of_a_staging_folder_blocks_nothing(place: str, tmp_path: Path) -> None:
    planted = tmp_path / f"{PREFIX}0123abcd-{NO_PROCESS}-{_place()}"
    if place == "record":
        planted.mkdir()
    os.mkfifo(planted / "record.json" if place == "record" else planted)
    save_checkpoint(tmp_path, [TensorRef.of("w", np.ones(3))], "{}")
    assert open_checkpoint(tmp_path)["w"].read().sum() == 3


# -- other saves: alive or dead


@pytest.mark.parametrize("locked", [True, False])
@pytest.mark.parametrize(
    "owner",
    [f"{NO_PROCESS}-{_place()}", f"{os.getpid()}-00000000", "x"],
    ids=["no process", "a process of another place", "nobody"],
)
def test_a_save_whose_lock_is_held_is_alive(owner: str, locked: bool, tmp_path: Path) -> None:
    """Its process may be unknown here, in another namespace; without a lock, it is then the time that tells."""
    other = tmp_path / f"{PREFIX}0123abcd-{owner}"
    other.mkdir()
    descriptor = os.open(other, os.O_RDONLY)
    if locked:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    save_checkpoint(tmp_path, [TensorRef.of("w", np.ones(3))], "{}")
    os.close(descriptor)
    assert other.exists() is (locked or _place() not in owner)
    if other.exists():
        os.utime(other, (0, 0))
    save_checkpoint(tmp_path, [TensorRef.of("w", np.ones(3))], "{}")
    assert not other.exists()


def test_saves_where_locks_do_nothing(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, [TensorRef.of(f"t{i}", np.full(64, 300 + i, np.float64)) for i in range(8)], "{}\n")
    context = multiprocessing.get_context("spawn")
    failures = context.Queue()
    savers = [
        context.Process(target=save_without_locks, args=(tmp_path, 100 * n, [1024, 10**9, 600] * 8, failures))
        for n in (1, 2)
    ]
    for saver in savers:
        saver.start()
    for saver in savers:
        saver.join()
    while not failures.empty():  # one of them may find a file gone that the other took for a dead save's
        assert "the folder is whole" in (failure := failures.get()) and "Errno 2" in failure, failure
    values = {name: float(ref.read()[0]) for name, ref in open_checkpoint(tmp_path).items()}
    assert values in [{f"t{i}": base + i for i in range(8)} for base in (100, 200, 300)]


@pytest.mark.parametrize("links", [True, False])
def test_names_that_another_save_takes_first(links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    if not links:
        monkeypatch.setattr("os.link", fail)
    taken = tmp_path / "model-00002-of-00003.safetensors"
    lexists = os.path.lexists

    def lexists_before_it_is_taken(path: object) -> bool:
        found = lexists(path) and path != taken
        taken.write_bytes(b"theirs")
        return found

    monkeypatch.setattr("os.path.lexists", lexists_before_it_is_taken)
    files = save_checkpoint(tmp_path, [TensorRef.of(n, np.ones(64)) for n in "abc"], max_shard_size=512)
    monkeypatch.undo()
    assert taken.read_bytes() == b"theirs"
    assert {p.name for p in tmp_path.iterdir()} == {taken.name, *(p.name for p in files)}
    assert {ref.read().sum() for ref in open_checkpoint(tmp_path).values()} == {64}


def test_a_file_system_that_knows_no_locks_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("waited"))
    save_checkpoint(tmp_path, [TensorRef.of("w", np.ones(3))], "{}")
    assert open_checkpoint(tmp_path)["w"].read().sum() == 3


# -- who may read what is written


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
@pytest.mark.parametrize(("before", "after"), [(10**9, 10**9), (10**9, 1024), (1024, 10**9), (1024, 2048)])
@pytest.mark.parametrize("config", ["{}", '{"a": 1}', None])
def test_a_save_keeps_the_mode_of_what_it_replaces(
    mode: int, before: int, after: int, config: str | None, tmp_path: Path
) -> None:
    save_checkpoint(tmp_path, [TensorRef.of(n, np.zeros(64)) for n in "abcd"], "{}", max_shard_size=before)
    for path in tmp_path.iterdir():
        path.chmod(mode)

    def read() -> np.ndarray:
        staged = [p for area in tmp_path.glob(f"{PREFIX}*") for p in area.iterdir()]
        assert {stat.S_IMODE(p.stat().st_mode) for p in staged} == {mode}
        return np.ones(64)

    refs = [TensorRef(n, np.dtype(np.float64), (64,), read) for n in "abcd"]
    save_checkpoint(tmp_path, refs, config, max_shard_size=after)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {mode}


def test_a_config_saved_alone_keeps_its_mode(tmp_path: Path) -> None:
    PretrainedConfig().save_pretrained(tmp_path)
    (tmp_path / "config.json").chmod(0o640)
    PretrainedConfig(bos_token_id=1).save_pretrained(tmp_path)
    PretrainedConfig(bos_token_id=2).to_json_file(tmp_path / "config.json")
    assert stat.S_IMODE((tmp_path / "config.json").stat().st_mode) == 0o640


def test_a_group_that_cannot_be_given_gets_no_more_than_everybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "old"
    old.write_bytes(b"x")
    old.chmod(0o640)
    assert Access.like([old]) == Access(0o640, old.stat().st_gid)

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.fchown", refuse)
    for mode, given in ((0o640, 0o600), (0o664, 0o644), (0o660, 0o600), (0o666, 0o666)):
        with create(tmp_path / oct(mode), Access(mode, old.stat().st_gid + 1)) as stream:
            assert stat.S_IMODE(os.fstat(stream.fileno()).st_mode) == given


@pytest.mark.parametrize(
    ("name", "of_one"),
    [
        ("model.g0123abcd.safetensors", True),
        ("model.g0123abcd.safetensors.index.json", True),
        ("model.g0123abcd-00001-of-00002.safetensors", True),
        ("model.safetensors", False),
        ("model.safetensors.index.json", False),
        ("model.fp16.safetensors", False),
    ],
)
def test_names_that_a_save_alone_gives(name: str, of_one: bool) -> None:
    assert is_of_one_save(name) is of_one


@pytest.mark.parametrize("other", ["config.json", "../adapter_config.json", 7])
def test_a_record_of_a_pair_with_a_name_that_is_none_was_planted(other: object, tmp_path: Path) -> None:
    staged = tmp_path / "staged"
    staged.mkdir()
    (staged / _REPLACED).write_bytes(b"")
    right = {"files": ["adapter_model.safetensors", "adapter_config.json"], "removes": []}
    for key in right:
        (staged / _PAIR).write_text(json.dumps(right))
        assert Pair.of(tmp_path, staged) is not None
        (staged / _PAIR).write_text(json.dumps({**right, key: [*right[key], other]}))
        assert Pair.of(tmp_path, staged) is None
