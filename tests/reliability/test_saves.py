"""Saves that the system, the user or the tensors themselves break off: rows 21, 22, 84 to 86, 93, 94 and 96 to 98."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from places import ROOT
from triptych import SaveError, TensorRef, UnsupportedFormatError, save_checkpoint
from triptych.checkpoints.holding import hold
from triptych.checkpoints.staging import PREFIX, _place
from triptych.cli import app
from triptych.formats.kinds import FORMATS

SINGLE, SHARDED = 10**9, 2048


def refs(value: float) -> list[TensorRef]:
    return [TensorRef.of(name, np.full(256, value)) for name in "abc"]


def value_of(folder: Path) -> float:
    """Return the one value of all tensors; checkpoints in these tests have no other."""
    values = {float(number) for ref in hold(folder).checkpoint.values() for number in ref.read()}
    assert len(values) == 1
    return values.pop()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# -- tensors that cannot be saved

UNNAMED: dict[str, Any] = {
    "reserved": "__metadata__",
    "no text": "\ud800",
    "a number": 5,
    "long": "w" * 5000,
    "none": None,
}


@pytest.mark.parametrize("kind", UNNAMED)
def test_row_21_names_that_cannot_be_stored(kind: str, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, refs(1))
    for chosen in ("safetensors", "bin") if kind != "reserved" else ("safetensors",):
        with pytest.raises(SaveError, match="rename"):
            save_checkpoint(tmp_path, [TensorRef.of(UNNAMED[kind], np.ones(2))], format=FORMATS[chosen])
    assert value_of(tmp_path) == 1 and names(tmp_path) == {"model.safetensors"}


DTYPES = ["O", "U2", "S3", "V4", "M8[s]", "f4,i4", "G" if np.dtype("G").itemsize > 16 else "O"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("chosen", ["safetensors", "bin"])
def test_row_22_dtypes_that_cannot_be_stored(dtype: str, chosen: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormatError, match="'w' cannot be stored"):
        save_checkpoint(tmp_path, [TensorRef.of("w", np.zeros(2, dtype))], format=FORMATS[chosen])
    assert not names(tmp_path)


def test_row_22_an_array_that_its_framework_has_deleted(tmp_path: Path) -> None:
    import jax

    deleted = jax.numpy.ones(256, "float32")
    deleted.delete()
    save_checkpoint(tmp_path, refs(1), "{}", max_shard_size=SHARDED)
    before = names(tmp_path)
    bad = TensorRef("w", np.dtype(np.float32), (256,), lambda: np.asarray(deleted))
    with pytest.raises(SaveError, match=r"'w' cannot be read.*deleted"):
        save_checkpoint(tmp_path, [*refs(2), bad], '{"a": 1}', max_shard_size=SHARDED)
    assert value_of(tmp_path) == 1 and names(tmp_path) == before
    for strange in (7, TensorRef.of("w", np.ones((1,) * 40))):
        with pytest.raises(SaveError):
            save_checkpoint(tmp_path, [strange])  # type: ignore[list-item]


# -- faults

TRANSITIONS = {
    "single to single": (SINGLE, SINGLE, "{}"),
    "single to sharded, with a config": (SINGLE, SHARDED, '{"a": 1}'),
    "sharded to single, with a config": (SHARDED, SINGLE, '{"a": 1}'),
    "sharded to sharded": (SHARDED, SHARDED, "{}"),
    "sharded to sharded, with a config": (SHARDED, SHARDED, '{"a": 1}'),
}
CALLS = ("open", "mkdir", "fsync", "replace", "link", "unlink", "rmdir", "close", "fchmod")


@contextmanager
def failing(call: str, number: int, error: Callable[[], BaseException]) -> Iterator[list[int]]:
    """Let call `number` of `os.<call>` raise; yield how many there were."""
    real, count = getattr(os, call), [0]

    def counted(*args: Any, **kwargs: Any) -> Any:
        count[0] += 1
        if count[0] == number:
            if call == "close":
                real(*args, **kwargs)
            raise error()
        return real(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, call, counted)
        yield count


def saved_under_fault(
    folder: Path, transition: str, call: str, number: int, error: Callable[[], BaseException]
) -> bool:
    """Save under a fault, and check what is left, and what the next save leaves; return whether the fault came."""
    before, after, config = TRANSITIONS[transition]
    folder.mkdir()
    save_checkpoint(folder, refs(1), "{}", max_shard_size=before)
    old, caught = names(folder), None
    with failing(call, number, error) as count:
        try:
            save_checkpoint(folder, refs(2), config, max_shard_size=after)
        except BaseException as raised:
            caught = raised
    expected = error()
    if isinstance(caught, SaveError):
        assert isinstance(expected, OSError) and caught.errno == expected.errno
    else:
        assert caught is None or type(caught) is type(expected)
    value = value_of(folder)
    assert value == 2 or (value == 1 and caught is not None and names(folder) <= old)
    save_checkpoint(folder, refs(3), config, max_shard_size=SINGLE)
    assert value_of(folder) == 3 and names(folder) == {"config.json", "model.safetensors"}
    shutil.rmtree(folder)
    return count[0] >= number


@pytest.mark.parametrize("transition", TRANSITIONS)
@pytest.mark.parametrize(
    "error",
    [OSError(errno.EIO, "Input/output error"), OSError(errno.ENOSPC, "No space left on device"),
     OSError(errno.EDQUOT, "Disk quota exceeded"), KeyboardInterrupt()],
    ids=["row_85_EIO", "row_86_ENOSPC", "row_85_EDQUOT", "row_97_interrupt"],
)  # fmt: skip
def test_rows_85_86_97_a_call_that_fails_once(error: BaseException, transition: str, tmp_path: Path) -> None:
    """Each of `CALLS` fails once, the first time, the second, ..., or every second or seventh time."""
    step = {"EIO": 1, "": 2}.get(errno.errorcode.get(getattr(error, "errno", 0), ""), 7)
    tried = 0
    for call in CALLS:
        number = 1
        while saved_under_fault(tmp_path / "model", transition, call, number, lambda: type(error)(*error.args)):
            number, tried = number + step, tried + 1
    assert tried > 9


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_row_84_a_disk_that_is_full_at_any_write(
    transition: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As each file of a save, shards and others, gets so and so many bytes."""
    before, after, config = TRANSITIONS[transition]
    save_checkpoint(tmp_path, refs(1), "{}", max_shard_size=before)
    old, fdopen = names(tmp_path), os.fdopen
    refused = 0
    for room in range(0, 9000, 450):
        left = [room]

        def limited(descriptor: int, mode: str = "r", *args: Any, left: list[int] = left, **kwargs: Any) -> Any:
            stream = fdopen(descriptor, mode, *args, **kwargs)
            if "w" not in mode:
                return stream

            class Limited(type(stream)):  # type: ignore[misc]
                def write(self, data: Any) -> int:
                    left[0] -= memoryview(data).nbytes
                    if left[0] < 0:
                        raise OSError(errno.ENOSPC, "No space left on device")
                    return super().write(data)

            return Limited(stream.detach())

        monkeypatch.setattr("os.fdopen", limited)
        try:
            save_checkpoint(tmp_path, refs(2), config, max_shard_size=after)
        except SaveError as error:
            assert error.errno == errno.ENOSPC and value_of(tmp_path) == 1 and names(tmp_path) == old
            refused += 1
        else:
            break
        finally:
            monkeypatch.undo()
    assert refused > 5 and value_of(tmp_path) == 2


# -- what is in the place of files


@pytest.mark.skipif(os.name == "nt", reason="groups of POSIX")
def test_row_93_files_have_the_group_of_a_folder_that_says_so(tmp_path: Path) -> None:
    group = 12345 if os.geteuid() == 0 else os.getgroups()[-1]
    os.chown(tmp_path, -1, group)
    tmp_path.chmod(0o2775)
    for size in (SHARDED, SINGLE):
        save_checkpoint(tmp_path, refs(1), "{}", max_shard_size=size)
        assert {path.stat().st_gid for path in tmp_path.iterdir()} == {group}
        assert {stat.S_IMODE(path.stat().st_mode) & 0o111 for path in tmp_path.iterdir()} == {0}


IN_PLACE: dict[str, Callable[[Path, Path], Any]] = {
    "link": lambda file, mine: file.symlink_to(mine), "hard link": lambda file, mine: os.link(mine, file),
    "fifo": lambda file, mine: os.mkfifo(file), "folder": lambda file, mine: file.mkdir(),
    "folder with files": lambda file, mine: (file.mkdir(), (file / "x").write_text("x")),
}  # fmt: skip


@pytest.mark.parametrize("kind", IN_PLACE)
@pytest.mark.parametrize("name", ["model.safetensors", "model.safetensors.index.json", "config.json"])
@pytest.mark.parametrize("size", [SINGLE, SHARDED])
def test_row_94_what_is_in_the_place_of_a_file(kind: str, name: str, size: int, tmp_path: Path) -> None:
    mine, folder = tmp_path / "mine", tmp_path / "model"
    mine.write_text("mine")
    folder.mkdir()
    IN_PLACE[kind](folder / name, mine)
    before = names(folder)
    if "link" in kind:
        save_checkpoint(folder, refs(2), "{}", max_shard_size=size)
        assert value_of(folder) == 2
    else:
        with pytest.raises(SaveError, match=name) as caught:
            save_checkpoint(folder, refs(2), "{}", max_shard_size=size)
        assert caught.value.errno in (errno.EISDIR, errno.EEXIST) and names(folder) == before
    assert mine.read_text() == "mine" and not mine.is_symlink()


def test_row_94_a_staging_folder_that_somebody_planted_stops_no_save(tmp_path: Path) -> None:
    planted = tmp_path / f"{PREFIX}0123abcd-{2**22 + 1}-{_place()}"
    (planted / "record.json").mkdir(parents=True)
    (planted / "deep/er").mkdir(parents=True)
    (tmp_path / f"{PREFIX}x").symlink_to(planted)
    save_checkpoint(tmp_path, refs(1), "{}")
    assert value_of(tmp_path) == 1 and not planted.exists()


# -- what is left behind


def test_row_96_garbage_is_ignored_and_collected(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, refs(1), "{}", max_shard_size=SHARDED)
    whole = names(tmp_path)
    orphans = ["model.g0123abcd-00001-of-00002.safetensors", "model.g0123abcd.safetensors",
               "model.v.g0123abcd.safetensors.index.json", "config.json.0123abcd.triptych-tmp"]  # fmt: skip
    kept = ["model.gdead-00001-of-00002.safetensors", "notes.g0123abcd.txt", "model-00009-of-00009.safetensors"]
    fresh = "model.gffffffff-00001-of-00002.safetensors"
    for name in (*orphans, *kept, fresh):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, None if name == fresh else (time.time() - 7200,) * 2)
    dead = tmp_path / f"{PREFIX}0123abcd-{2**22 + 1}-{_place()}"
    dead.mkdir()
    assert value_of(tmp_path) == 1
    result = CliRunner().invoke(app, ["gc", str(tmp_path), "--json"])
    assert result.exit_code == 0 and json.loads(result.stdout) == {"removed": sorted([*orphans, dead.name])}
    assert names(tmp_path) == whole | {*kept, fresh} and value_of(tmp_path) == 1
    assert CliRunner().invoke(app, ["gc", str(tmp_path)]).stdout == "nothing to remove\n"
    assert CliRunner().invoke(app, ["gc", str(tmp_path / "none")]).exit_code == 2


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of what else was imported, and has threads
def test_row_98_threads_and_a_forked_process(tmp_path: Path) -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        try:
            for turn in range(4):
                save_checkpoint(tmp_path / str(number), refs(number), "{}", max_shard_size=(SINGLE, SHARDED)[turn % 2])
                assert value_of(tmp_path / str(number)) == number
                assert (tmp_path / str(number) / "config.json").stat().st_mode & 0o777 == 0o666 & ~umask
        except Exception as error:
            wrong.append(error)

    umask, here = os.umask(0o027), Path.cwd()
    os.umask(umask)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and Path.cwd() == here
    child = os.fork()
    if not child:
        work(9)
        os._exit(len(wrong))
    assert os.waitpid(child, 0)[1] == 0 and value_of(tmp_path / "9") == 9


def test_row_98_nothing_changes_what_all_threads_share() -> None:
    """The umask and the working folder are of the process."""
    files = list(ROOT.glob("*/triptych*/**/*.py"))
    assert len(files) > 300
    for path in files:
        assert not re.search(r"\bos\.(umask|chdir|fchdir|system)\b", path.read_text()), path


# -- the command line


@pytest.mark.parametrize("verb", ["inspect", "verify"])
def test_a_name_of_very_many_levels_is_shown(verb: str, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, [TensorRef.of(".".join("a" * 2001), np.ones(3))], '{"model_type": "none"}')
    result = CliRunner().invoke(app, [verb, str(tmp_path)])
    assert result.exit_code == 0 and "1 tensors" in result.stdout


@pytest.mark.parametrize("options", [["--seed", "-1"], ["--vocab-size", str(2**100)], ["--pad-to-multiple-of", "-1"]])
def test_numbers_of_a_command_that_are_impossible(options: list[str], golden: Path, tmp_path: Path) -> None:
    arguments = ["resize", str(golden / "bert-mlm/pt-safetensors"), str(tmp_path / "out"), "--vocab-size", "99"]
    result = CliRunner().invoke(app, [*arguments, *options])
    assert result.exit_code == 2 and not (tmp_path / "out").exists()
    heads = ["prune", *arguments[1:3], "--heads", "9" * 5000 + ":1"]
    assert CliRunner().invoke(app, heads).exit_code == 2
