"""Weight files that are huge, of another kind, or change: rows 8 to 19, 30, 33 and 41 of `test_rows`."""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from torch_files import tensor, write_zip
from triptych import (
    ChangedFileError,
    CorruptCheckpointError,
    LimitError,
    PretrainedConfig,
    TensorRef,
    UnreadableFileError,
    UnsupportedFormatError,
    open_checkpoint,
    save_checkpoint,
)
from triptych.files import regular
from triptych.formats.safetensors import open_safetensors
from triptych.formats.torch.file import open_torch

ENTRY = {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}


def made(folder: Path, header: object, data: bytes = b"") -> Path:
    """Write a safetensors file of these bytes or this object as its header, and return its path."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.mark.parametrize(
    ("header", "error"),
    [
        (b'{"__metadata__":{},"__metadata__":{}}', CorruptCheckpointError),
        (b'{"w":{"dtype":"U8","shape":[NaN],"data_offsets":[0,1]}}', CorruptCheckpointError),
        (b'{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}\0\0\0', CorruptCheckpointError),
        (
            b'{"w":{"dtype":"F32","shape":[4194305,4194305,211106198978564],"data_offsets":[0,1]}}',
            CorruptCheckpointError,
        ),
    ],
    ids=["row_8", "row_12_nan", "row_12_zeros", "row_9"],
)
def test_rows_8_9_12_headers(header: bytes, error: type[Exception], tmp_path: Path) -> None:
    with pytest.raises(error):
        open_safetensors(made(tmp_path, header, b"x"))


def test_row_11_too_many_tensors_are_counted_before_they_are_parsed(tmp_path: Path) -> None:
    header = b"{%s}" % b",".join(b'"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}' % n for n in range(300_000))
    path = made(tmp_path, header)
    tracemalloc.start()
    with pytest.raises(LimitError, match="too many tensors"):
        open_safetensors(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * len(header)


def test_row_14_names_are_strings_and_no_paths(tmp_path: Path) -> None:
    names = ["", "a\0b", "../x", "/etc/passwd", "w" * 4096]
    arrays = {name: np.full(2, number) for number, name in enumerate(names)}
    save_checkpoint(tmp_path, [TensorRef.of(name, array) for name, array in arrays.items()])
    assert {name: ref.read().tolist() for name, ref in open_checkpoint(tmp_path).items()} == {
        name: array.tolist() for name, array in arrays.items()
    }
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize(
    ("content", "hint"),
    [(b"PK\3\4", "pytorch_model.bin"), (b"\x89HDF\r\n\x1a\n", "tf_model.h5"), (b"<?xml", "web page")],
)
def test_row_15_files_of_other_kinds_are_recognised(content: bytes, hint: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(content + bytes(300))
    with pytest.raises(CorruptCheckpointError, match=hint):
        open_checkpoint(tmp_path)


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket may be of 108 bytes only
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(path.name)
    os.chdir(here)


STRANGE: dict[str, Callable[[Path], Any]] = {
    "fifo": os.mkfifo,
    "folder": Path.mkdir,
    "socket": _socket,
    "dangling link": lambda path: path.symlink_to(path.name + "x"),
}


@pytest.mark.parametrize("kind", STRANGE)
@pytest.mark.parametrize("name", ["model.safetensors", "model.safetensors.index.json", "config.json"])
def test_row_16_what_is_no_regular_file(kind: str, name: str, tmp_path: Path) -> None:
    STRANGE[kind](tmp_path / name)
    with pytest.raises(UnsupportedFormatError, match=f"{name} cannot be read.*regular file"):
        PretrainedConfig.from_pretrained(tmp_path) if name == "config.json" else open_checkpoint(tmp_path)


@pytest.fixture
def huge(tmp_path: Path) -> Path:
    """A folder whose file of 1 TiB takes a few blocks: one tensor of almost all of it, and one of its last bytes."""
    size = 2**40
    whole = {"dtype": "U8", "shape": [size - 8], "data_offsets": [0, size - 8]}
    header = {"large": whole, "small": {"dtype": "U8", "shape": [8], "data_offsets": [size - 8, size]}}
    path = made(tmp_path, header)
    end = path.stat().st_size + size
    os.truncate(path, end)
    with path.open("rb+") as file:
        file.seek(end - 1)
        file.write(b"\7")
    return tmp_path


@pytest.mark.parametrize("mmap", [True, False])
def test_row_17_a_file_larger_than_the_memory(mmap: bool, huge: Path) -> None:
    opened = open_checkpoint(huge, mmap=mmap)
    assert opened["small"].read().tolist() == [0] * 7 + [7]
    if mmap:
        assert opened["large"].read()[-5:].sum() == 0  # a view, of which a page is read
        return
    with pytest.raises(LimitError, match=r"larger than the memory.*Received: 1099511627768 bytes"):
        opened["large"].read()


def test_row_17_where_files_cannot_be_mapped_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr(regular, "_mapped", refuse)
    save_checkpoint(tmp_path, [TensorRef.of("w", np.arange(3))])
    assert open_checkpoint(tmp_path)["w"].read().tolist() == [0, 1, 2]


@pytest.mark.parametrize("mmap", [True, False])
def test_rows_18_and_19_a_file_that_changes_is_noticed_before_it_is_read(mmap: bool, tmp_path: Path) -> None:
    """With `mmap=False` nothing is noticed afterwards either, because nothing is shared."""
    for change in (lambda file: os.truncate(file, 200), lambda file: file.write_bytes(bytes(file.stat().st_size))):
        save_checkpoint(tmp_path, [TensorRef.of("w", np.arange(999.0))])
        file = tmp_path / "model.safetensors"
        os.utime(file, ns=(0, 0))  # the clock of a file system may be coarser than the test is quick
        opened = open_checkpoint(tmp_path, mmap=mmap)
        before = None if mmap else opened["w"].read()
        change(file)
        with pytest.raises(ChangedFileError):
            opened["w"].read()
        assert before is None or before.tolist() == list(range(999))


def test_a_disk_that_fails_is_named_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    save_checkpoint(tmp_path, [TensorRef.of("w", np.arange(3))])
    opened = open_checkpoint(tmp_path, mmap=False)
    monkeypatch.setattr("os.preadv", fail)
    with pytest.raises(UnreadableFileError, match=r"cannot be read.*Input/output") as caught:
        opened["w"].read()
    assert caught.value.errno == errno.EIO


@pytest.mark.parametrize("magic", [b"\x1f\x8b", b"7z\xbc\xaf\x27\x1c", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"])
def test_row_30_compressed_files_of_torch(magic: bytes, tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(magic + bytes(600))
    with pytest.raises(UnsupportedFormatError, match=r"no file of torch\.save"):
        open_checkpoint(tmp_path)


def test_row_33_two_folders_in_an_archive_of_torch(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.bin", {"w": tensor()})
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("other/data.pkl", b"x")
    with pytest.raises(CorruptCheckpointError, match="several pickles"):
        open_torch(path)


def test_row_41_an_unknown_byte_order(tmp_path: Path) -> None:
    with pytest.raises(CorruptCheckpointError, match="byte order"):
        open_torch(write_zip(tmp_path / "x.bin", {"w": tensor()}, order="junk"))
