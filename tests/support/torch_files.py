"""Builders of torch files, right and wrong: pickles with made-up storages, zip archives, old tar archives."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path

import torch
from torch._utils import _rebuild_tensor_v2


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function: object, *args: object) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> tuple:
        return self.function, self.args


class Id:
    """Pickles as a persistent id."""

    def __init__(self, *fields: object) -> None:
        self.fields = fields


class _Pickler(pickle.Pickler):
    def persistent_id(self, value: object) -> object:
        if isinstance(value, Id):
            return value.fields if len(value.fields) > 1 else value.fields[0]
        return None


def pickled(value: object, protocol: int = 2) -> bytes:
    stream = io.BytesIO()
    _Pickler(stream, protocol).dump(value)
    return stream.getvalue()


def tensor(
    shape: tuple = (4,),
    stride: tuple = (1,),
    offset: object = 0,
    count: object = 4,
    key: object = "0",
    tail: tuple = (),
) -> Call:
    """Return what torch.save pickles for a float32 tensor, with any numbers; `tail` is the view of a stream file."""
    storage = Id("storage", torch.FloatStorage, key, "cpu", count, *tail)
    return Call(_rebuild_tensor_v2, storage, offset, shape, stride, False, OrderedDict())


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def write_zip(
    path: Path, top: object, storages: dict[str, bytes] | None = None, method: int = zipfile.ZIP_STORED, order: str = ""
) -> Path:
    """Write an archive as torch.save does; `top` is an object, or bytes that are a pickle already."""
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("archive/version", "3\n")
        file.writestr("archive/data.pkl", top if isinstance(top, bytes) else pickled(top))
        if order:
            file.writestr("archive/byteorder", order)
        for key, data in ({"0": floats(1, 2, 3, 4)} if storages is None else storages).items():
            file.writestr(f"archive/data/{key}", data)
    return path


def stream(top: object, storages: dict[str, bytes] | None = None, item: int = 4) -> bytes:
    """Return a file as torch 0.2 to 1.5 wrote it."""
    storages = {"0": floats(1, 2, 3, 4)} if storages is None else storages
    info = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    parts = [pickled(0x1950A86A20F9469CFC6C), pickled(1001), pickled(info)]
    parts += [top if isinstance(top, bytes) else pickled(top), pickled(list(storages))]
    parts += [struct.pack("<q", len(data) // item) + data for data in storages.values()]
    return b"".join(parts)


def tar(top: object) -> bytes:
    """Return a file as torch 0.1 wrote it: storage 11 of 6 floats, a view 12 of its last 4, two tensors over them."""
    storages = pickled(1) + pickled((11, "cpu", torch.FloatStorage))
    storages += struct.pack("<q", 6) + floats(0, 1, 2, 3, 4, 5) + pickled([(12, 11, 2, 4)])
    tensors = pickled(2)
    tensors += pickled((21, 11, torch.FloatTensor)) + struct.pack("<ii5q", 2, 0, 3, 2, 1, 3, 0)
    tensors += pickled((22, 12, torch.FloatTensor)) + struct.pack("<ii3q", 1, 0, 3, 1, 1)
    content = top if isinstance(top, bytes) else pickled(top)
    result = io.BytesIO()
    with tarfile.open(fileobj=result, mode="w:") as file:
        for name, data in (
            ("sys_info", pickled({})),
            ("pickle", content),
            ("tensors", tensors),
            ("storages", storages),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return result.getvalue()


class Marker:
    """A file that an attack would make, in what the shell and Python call it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "executed"
        self.shell, self.python = f"touch {self.path}", f"open({os.fspath(self.path)!r}, 'w')"
