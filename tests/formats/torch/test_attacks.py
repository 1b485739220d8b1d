"""Hostile and damaged torch files: refused quickly, in little memory, by one clear error, and nothing runs."""

from __future__ import annotations

import builtins
import functools
import operator
import os
import pickle
import random
import runpy
import struct
import time
import tracemalloc
import zipfile
import zlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from torch_files import Call, Id, Marker, floats, pickled, stream, tar, tensor, write_zip
from triptych.errors import (
    ChangedFileError,
    CorruptCheckpointError,
    LimitError,
    MissingFileError,
    TriptychError,
    TruncatedCheckpointError,
    UnsafeCheckpointError,
    UnsupportedFormatError,
)
from triptych.formats.torch import pickle as torch_pickle
from triptych.formats.torch import storage as torch_storage
from triptych.formats.torch.file import open_torch

SECONDS = 10
"""Far more than any refusal takes on a quiet machine (0.001 to 1.5 s), far less than any attack wants."""


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    start = time.process_time()
    yield
    assert time.process_time() - start < SECONDS


def containers(top: object) -> dict[str, bytes]:
    """Return `top` in each container, and where the magic number of a stream should be."""
    data = top if isinstance(top, bytes) else pickled(top)
    return {
        "stream": stream(data),
        "tar": tar(data),
        "magic": data,
        "after magic": pickled(0x1950A86A20F9469CFC6C) + data,
    }


def refused(path: Path, error: type[TriptychError] | tuple, match: str | None = None) -> None:
    with pytest.raises(error, match=match) as caught:
        for ref in open_torch(path).tensors.values():
            ref.read()
    assert str(path) in str(caught.value)


# -- code ----------------------------------------------------------------------------------------------------------


def code_attacks(marker: Marker) -> dict[str, tuple[object, str]]:
    """Return objects or pickles, and the name that the error gives."""
    shell, python = marker.shell, marker.python
    text = b"X" + struct.pack("<I", len(shell)) + shell.encode() + b"\x85R"
    return {
        "os.system": (b"\x80\x02cos\nsystem\n" + text + b".", r"os\.system"),
        "posix.system": (Call(os.system, shell), r"posix\.system"),
        "eval": (Call(eval, python), r"__builtin__\.eval"),
        "exec": (Call(exec, python), r"__builtin__\.exec"),
        "STACK_GLOBAL": (b"\x80\x04\x8c\x02os\x8c\x06system\x93" + text + b".", r"os\.system"),
        "through the memo": (b"\x80\x04\x8c\x06system\x94\x8c\x02os\x94h\x00\x93" + text + b".", r"os\.system"),
        "dotted": (b"\x80\x04\x8c\x05torch\x8c\x17serialization.os.system\x93" + text + b".", "os.system"),
        "nested": ({"w": 1, "x": [({"y": Call(os.system, shell)},)]}, r"posix\.system"),
        "key": ({Call(os.system, shell): tensor()}, r"posix\.system"),
        "in a tensor": (Call(torch._utils._rebuild_parameter, Call(os.system, shell), True, {}), r"posix\.system"),
        "persistent id": ({"w": Id("storage", Call(os.system, shell), "0", "cpu", 4)}, r"posix\.system"),
        "partial": (Call(functools.partial, os.system, shell), r"functools\.partial"),
        "getattr": (Call(getattr, "", "upper"), r"__builtin__\.getattr"),
        "attrgetter": (Call(operator.attrgetter, "system"), r"operator\.attrgetter"),
        "runpy": (Call(runpy._run_code, python, {}), r"runpy\._run_code"),
        "torch.load": (Call(torch.load, "x"), r"torch\.serialization\.load"),
        "hub": (Call(torch.hub.load, "x", "y"), r"torch\.hub\.load"),
        "storage from bytes": (Call(torch.storage._load_from_bytes, b""), r"torch\.storage\._load_from_bytes"),
        "pickle in pickle": (Call(pickle.loads, pickle.dumps(Call(os.system, shell))), r"pickle\.loads"),
        "import": (Call(builtins.__import__, "os"), r"__import__"),
        "module": (torch.nn.ReLU, r"torch\.nn\.modules\.activation\.ReLU"),
        "counter": (Counter("a"), r"collections\.Counter"),
        "only named": (os.system, r"posix\.system"),
        "line break": (b"\x80\x04\x8c\x02os\x8c\x07sy\nstem\x93.", r"os\.sy\\nstem"),
        "text protocol": (b"cos\nsystem\n(S'" + shell.encode() + b"'\ntR.", r"os\.system"),
    }  # fmt: skip


@pytest.mark.parametrize("name", code_attacks(Marker(Path("x"))))
def test_code_is_refused_by_name_and_never_runs(name: str, tmp_path: Path) -> None:
    marker = Marker(tmp_path)
    top, match = code_attacks(marker)[name]
    refused(write_zip(tmp_path / "x.bin", top), UnsafeCheckpointError, match)
    for content in containers(top).values():
        (tmp_path / "x.bin").write_bytes(content)
        with pytest.raises(TriptychError) as caught:
            open_torch(tmp_path / "x.bin")
        if content[:1] == b"\x80":
            assert isinstance(caught.value, UnsafeCheckpointError)
    assert not marker.path.exists()
    if name == "os.system":
        pickle.loads(top)  # type: ignore[arg-type]  # the test's own bytes, which make an empty file in tmp_path
        assert marker.path.exists(), "the attack must be a working one"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"(X\x02\x00\x00\x00idios\nsystem\n.", UnsupportedFormatError),  # INST
        (b"(ccollections\nOrderedDict\no.", UnsupportedFormatError),  # OBJ
        (b"\x82\x01.", UnsupportedFormatError),  # EXT1
        (b"\x97.", UnsupportedFormatError),  # NEXT_BUFFER
        (b"ccollections\nOrderedDict\n)}\x92.", UnsupportedFormatError),  # NEWOBJ_EX
        (b"Pid\n.", UnsupportedFormatError),
        (b"ctorch\nSize\n}b.", UnsafeCheckpointError),  # BUILD on a name
        (b"]}b.", UnsafeCheckpointError),  # BUILD on a list
        (b"}K\x01b.", UnsafeCheckpointError),  # BUILD with a state that is no dict
        (b"ctorch\nFloatStorage\n)R.", CorruptCheckpointError),  # a call of what is only named
        (b"X\x02\x00\x00\x00id)R.", CorruptCheckpointError),
        (b"ctorch\nSize\n]R.", CorruptCheckpointError),  # arguments that are no tuple
        (b"ctorch\nSize\n)R.", CorruptCheckpointError),
        (b"ctorch._utils\n_rebuild_tensor_v2\nK\x01\x85R.", CorruptCheckpointError),
        (b"ctorch._utils\n_rebuild_parameter\n)R.", CorruptCheckpointError),
        (b"ccollections\nOrderedDict\nK\x01\x85R.", CorruptCheckpointError),
        (b"ccollections\nOrderedDict\n]K\x01a\x85R.", CorruptCheckpointError),
        (b"]K\x01K\x02s.", CorruptCheckpointError),  # SETITEM on a list (CVE-2026-24747)
        (b"](K\x01K\x02u.", CorruptCheckpointError),
        (b"}K\x01a.", CorruptCheckpointError),  # APPEND to a dict
        (b"}(K\x01u.", CorruptCheckpointError),
        (b"}(K\x01NK\x01Nu.", CorruptCheckpointError),  # a key twice
        (b"}]Ns.", CorruptCheckpointError),  # keys that cannot be hashed
        (b"})Ns.", CorruptCheckpointError),
        (b"](K\x01\x90.", CorruptCheckpointError),
        (b"h\x00.", CorruptCheckpointError),
        (b"q\x00.", CorruptCheckpointError),
        (b"R.", CorruptCheckpointError),
        (b"t.", CorruptCheckpointError),
        (b"(.", CorruptCheckpointError),
        (b".", CorruptCheckpointError),
        (b"NN.", CorruptCheckpointError),
        (b"NQ.", CorruptCheckpointError),
        (b"N\x93.", CorruptCheckpointError),
        (b"NN\x93.", CorruptCheckpointError),
        (b"\xff.", CorruptCheckpointError),
        (b"\x80\x09N.", CorruptCheckpointError),
        (b"X\x01\x00\x00\x00\xff.", CorruptCheckpointError),  # no UTF-8
        (b"c\xff\n\xff\n.", CorruptCheckpointError),
        (b"c" + b"a" * 5000 + b"\n.", CorruptCheckpointError),
        (b"\x8a\xff" + bytes(255) + b".", UnsupportedFormatError),  # the longest integer, and no state dict
        (b"\x8b\x00\x01\x00\x00" + bytes(256) + b".", CorruptCheckpointError),
        (b"N.N", CorruptCheckpointError),  # a second pickle
        (b"N", TruncatedCheckpointError),
        (b"", TruncatedCheckpointError),
    ],
)  # fmt: skip
def test_opcodes_are_checked(body: bytes, error: type[TriptychError], tmp_path: Path) -> None:
    refused(write_zip(tmp_path / "x.bin", b"\x80\x02" + body), error)


# -- memory and time -----------------------------------------------------------------------------------------------

DEEP = b")" + b"\x85" * 500_000
LAUGHS = b"(]q\x00" + b"".join(b"](" + b"h%c" % i * 100 + b"eq%c" % (i + 1) for i in range(200)) + b"t."
BOMBS: dict[str, tuple[bytes, type[TriptychError]]] = {
    "memo index": (b"Nr\xff\xff\xff\xff.", UnsupportedFormatError),
    "bytes of 2^40": (b"\x8e" + struct.pack("<Q", 2**40), LimitError),
    "text of 2^63": (b"\x8d" + struct.pack("<Q", 2**63), LimitError),
    "text of 2^32": (b"X\xff\xff\xff\xff", LimitError),
    "text of 2^25": (b"X\x00\x00\x00\x02abc", TruncatedCheckpointError),
    "frame of 2^63": (b"\x95" + struct.pack("<Q", 2**63) + b"N.", UnsupportedFormatError),
    "integer of 2^31": (b"\x8b\xff\xff\xff\x7f", CorruptCheckpointError),
    "many dicts": (b"}" * 3_000_000 + b".", LimitError),
    "many memo entries": (b"}" + b"\x94" * 3_000_000 + b".", LimitError),
    "many marks": (b"(" * 3_000_000 + b".", LimitError),
    "deep": (DEEP + b".", UnsupportedFormatError),
    "deep key": (b"}" + DEEP + b"Ns.", CorruptCheckpointError),
    "deep value": (b"}K\x01" + DEEP + b"s.", UnsupportedFormatError),
    "deep shape": (b"ctorch\nSize\n" + DEEP + b"\x85R.", CorruptCheckpointError),
    "cycle": (b"]q\x00h\x00a.", UnsupportedFormatError),
    "exponential lists": (LAUGHS, UnsupportedFormatError),
    "copies of a list": (
        b"ccollections\nOrderedDict\nq\x00](" + b"]" * 100_000 + b"e\x85q\x01" + b"h\x00h\x01R" * 1000,
        CorruptCheckpointError,
    ),
    "copies of pairs": (
        b"ccollections\nOrderedDict\nq\x00]("
        + b"".join(b"](J%sNe" % struct.pack("<i", i) for i in range(50_000))
        + b"e\x85q\x01"
        + b"h\x00h\x01R" * 1000,
        LimitError,
    ),
    "copies of arguments": (
        b"c__builtin__\nset\nq\x00(" + b"N" * 500_000 + b"tq\x01" + b"h\x00h\x01R" * 1000,
        LimitError,
    ),
    "long key": (b"}X\x00\x00\x01\x00" + b"a" * 65536 + b"Ns.", CorruptCheckpointError),
    "integers with equal hashes": (
        b"}(" + b"".join(b"\x8a\x10" + (i * (2**61 - 1)).to_bytes(16, "little") + b"N" for i in range(50_000)) + b"u.",
        CorruptCheckpointError,
    ),
    "one dict in many places": (
        b"}(N}(" + b"".join(b"J%sN" % struct.pack("<i", i) for i in range(100_000)) + b"uq\x00"
        + b"".join(b"J%sh\x00" % struct.pack("<i", i) for i in range(100_000)) + b"u.",
        UnsupportedFormatError,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_pickle_cannot_take_much_memory_or_time(name: str, tmp_path: Path) -> None:
    body, error = BOMBS[name]
    refused(write_zip(tmp_path / "x.bin", b"\x80\x04" + body), error)  # `quick` looks at the time


@pytest.mark.parametrize("name", BOMBS)
def test_memory_is_bounded_by_steps_and_bytes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_pickle, "MAX_STEPS", 50_000)
    path = write_zip(tmp_path / "x.bin", b"\x80\x04" + BOMBS[name][0])
    peak = traced_peak(lambda: refused(path, TriptychError))
    assert peak < 250 * 50_000 + 3 * path.stat().st_size + (2**26 if name == "text of 2^25" else 0)


def traced_peak(run: Callable[[], None]) -> int:
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_zip_bombs_are_refused_before_inflating(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.bin", b"\0" * 2**27, method=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**18
    assert traced_peak(lambda: refused(path, LimitError, "pickle")) < 2**22
    count = 2**26 + 1
    write_zip(path, {"w": tensor((1,), count=count)}, {"0": b"\0" * 4 * count}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**19
    assert traced_peak(lambda: refused(path, LimitError, "unfolds")) < 2**22
    half = {str(i): tensor((1,), count=2**25 + 1) for i in range(2)}
    write_zip(path, half, {"0": b"\0" * 4 * (2**25 + 1)}, zipfile.ZIP_DEFLATED)
    assert traced_peak(lambda: refused(path, LimitError, "unfolds")) < 2**22


def test_expanded_tensors_cannot_unfold_into_large_memory(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.bin", {"w": tensor((2**13, 2**14), (0, 0))})
    refused(path, LimitError, "unfolds")
    write_zip(path, {"w": tensor((2**40,), (0,))})
    refused(path, LimitError, "unfolds")
    write_zip(path, {str(i): tensor((1000, 1000), (0, 0)) for i in range(68)})
    refused(path, LimitError, "unfolds")
    write_zip(path, {"w": tensor((1000, 1000), (0, 0), offset=2)})
    assert set(open_torch(path).tensors["w"].read().flat) == {3}


# -- tensors and storages ------------------------------------------------------------------------------------------

TENSORS: dict[str, tuple[Call, type[TriptychError]]] = {
    "longer than its storage": (tensor((5,)), CorruptCheckpointError),
    "offset": (tensor(offset=1), CorruptCheckpointError),
    "offset behind": (tensor((1,), offset=4), CorruptCheckpointError),
    "offset 2^70": (tensor(offset=2**70), CorruptCheckpointError),
    "negative offset": (tensor(offset=-1), CorruptCheckpointError),
    "offset no number": (tensor(offset="0"), CorruptCheckpointError),
    "stride": (tensor((2, 2), (3, 1)), CorruptCheckpointError),
    "negative stride": (tensor(stride=(-1,), offset=3), CorruptCheckpointError),
    "stride 2^64": (tensor((2,), (2**64,)), CorruptCheckpointError),
    "wrapping": (tensor((2**32, 2**32), (0, 0)), LimitError),
    "wrapping end": (tensor((2,), (2**62,)), CorruptCheckpointError),
    "empty and huge": (tensor((0, 2**40, 2**40), (1, 1, 1)), LimitError),
    "negative length": (tensor((-4,)), CorruptCheckpointError),
    "bool length": (tensor((True,)), CorruptCheckpointError),
    "float length": (tensor((4.0,)), CorruptCheckpointError),
    "rank": (tensor((1,) * 33, (1,) * 33), CorruptCheckpointError),
    "fewer strides": (tensor((2, 2), (1,)), CorruptCheckpointError),
    "shape no tuple": (tensor([4]), CorruptCheckpointError),  # type: ignore[arg-type]
    "larger storage announced": (tensor((5,), count=5), CorruptCheckpointError),
    "smaller storage announced": (tensor((1,), count=1), CorruptCheckpointError),
    "storage of 2^62": (tensor(count=2**62), CorruptCheckpointError),
    "negative storage": (tensor(count=-4), CorruptCheckpointError),
    "no such storage": (tensor(key="1"), CorruptCheckpointError),
    "key leads out": (tensor(key="../../x"), CorruptCheckpointError),
    "key no text": (tensor(key=0), CorruptCheckpointError),
}


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_lies_inside_its_storage(name: str, tmp_path: Path) -> None:
    value, error = TENSORS[name]
    with pytest.raises(error) as caught:
        open_torch(write_zip(tmp_path / "x.bin", {"good": tensor(), "layer.weight": value}))
    if "does not lie" in str(caught.value):
        assert "layer.weight" in str(caught.value)


@pytest.mark.parametrize("shape", [(5,), (2**62,), (2**31, 2**31)])
def test_errors_name_the_tensor_that_is_outside(shape: tuple, tmp_path: Path) -> None:
    for stride in ((1,) * len(shape), (2**40,) * len(shape)):
        path = write_zip(tmp_path / "x.bin", {"layer.weight": tensor(shape, stride)})
        refused(path, (CorruptCheckpointError, LimitError), r"layer\.weight")


def test_storages_of_streams_are_checked(tmp_path: Path) -> None:
    good = {"w": tensor(tail=(None,))}
    path = tmp_path / "x.bin"
    whole = stream(good)
    path.write_bytes(whole)
    assert open_torch(path).tensors["w"].read().tolist() == [1, 2, 3, 4]
    two_types = {"w": tensor(tail=(None,)), "v": tensor(count=2, tail=(None,))}
    for content in (
        whole + b"x",
        stream(good, {"0": floats(1, 2, 3)}),
        stream(good, {"1": floats(1, 2, 3, 4)}),
        stream(good, {"0": floats(1, 2, 3, 4), "1": b""}),
        stream(good, {}),
        stream(two_types),
        stream({"w": tensor()}),
        stream({"w": tensor(tail=(("1", 2, 3),))}),
        stream({"w": tensor(tail=(("1", 0, 2),))}),
        stream({"w": tensor(tail=(("1", -1, 5),))}),
        whole[:-24] + struct.pack("<q", 2**62) + whole[-16:],
        whole[:-24] + struct.pack("<q", -1) + whole[-16:],
    ):
        path.write_bytes(content)
        refused(path, CorruptCheckpointError)


def test_pickles_that_torch_did_not_write_are_refused(tmp_path: Path) -> None:
    for content in (pickle.dumps({"w": [1.0]}, 2), pickled(0x1950A86A20F9469CFC6C) + pickled(1002) + pickled({})):
        (tmp_path / "x.bin").write_bytes(content)
        refused(tmp_path / "x.bin", UnsupportedFormatError, "torch.save")


# -- archives ------------------------------------------------------------------------------------------------------


def central(data: bytes, name: bytes) -> int:
    """Return where the central header of `name` starts."""
    return data.rindex(name) - 46


def patched(data: bytes, position: int, layout: str, value: int) -> bytes:
    size = struct.calcsize(layout)
    return data[:position] + struct.pack(layout, value) + data[position + size :]


def zip_attacks(data: bytes) -> dict[str, bytes]:
    name = b"archive/data/0"
    header, local = central(data, name), data.index(name) - 30
    end = len(data) - 22
    return {
        "prefix": b"x" * 512 + data,
        "prefix of another zip": b"PK\3\4" + data,
        "trailing bytes": data + b"x",
        "local name": data[: local + 30] + b"archive/data/1" + data[local + 44 :],
        "central name": data[: header + 46] + b"archive/data/1" + data[header + 60 :],
        "encrypted": patched(patched(data, header + 8, "<H", 1), local + 6, "<H", 1),
        "patched data": patched(patched(data, header + 8, "<H", 0x20), local + 6, "<H", 0x20),
        "flags differ": patched(data, header + 8, "<H", 8),
        "methods differ": patched(data, header + 10, "<H", 8),
        "unknown method": patched(patched(data, header + 10, "<H", 99), local + 8, "<H", 99),
        "sizes differ": patched(data, header + 24, "<I", 32),
        "both sizes too large": patched(patched(data, header + 24, "<I", 2**30), header + 20, "<I", 2**30),
        "zip64 without field": patched(data, header + 24, "<I", 2**32 - 1),
        "offset inside another": patched(data, header + 42, "<I", local - 4),
        "offset behind the file": patched(data, header + 42, "<I", 2**31),
        "two names for one record": patched(data, header + 42, "<I", 0),
        "records missing": patched(patched(data, end + 8, "<H", 1), end + 10, "<H", 1),
        "counts differ": patched(data, end + 8, "<H", 1),
        "many records": patched(patched(data, end + 8, "<H", 65535), end + 10, "<H", 65535),
        "directory elsewhere": patched(data, end + 16, "<I", 5),
        "directory longer": patched(data, end + 12, "<I", 2**31),
        "directory of a part": patched(data, end + 12, "<I", 46),
        "archive with a comment": patched(data, end + 20, "<H", 3) + b"abc",
        "comment that lies": patched(data, end + 20, "<H", 3),
        "headers of another volume": patched(data, header + 34, "<H", 1),
        "last name too long": patched(data, header + 28, "<H", len(name) + 1),
        "last extra field too long": patched(data, header + 30, "<H", 1),
        "last comment too long": patched(data, header + 32, "<H", 1),
        "a zero in a name": data.replace(name, b"archive/data\x000"),
        "second disk": patched(data, end + 4, "<H", 1),
        "name no text": data.replace(name, b"archive/data/\xff"),
    }


@pytest.mark.parametrize("name", zip_attacks(bytes(64) + b"archive/data/0" * 2 + bytes(64)))
def test_zip_directories_are_checked(name: str, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.bin", {"w": tensor()})
    content = zip_attacks(path.read_bytes())[name]
    assert content != path.read_bytes()
    path.write_bytes(content)
    refused(path, (CorruptCheckpointError, UnsupportedFormatError))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_records_of_one_name_are_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.bin", {"w": tensor()})
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("archive/data.pkl", pickled({"w": tensor((1,))}))
    refused(path, CorruptCheckpointError, "twice")


def test_zip64_fields_are_read_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    torch.save({"w": torch.arange(4.0)}, path)
    data = path.read_bytes()
    end = data.rindex(b"PK\6\6")
    for position, value in ((end + 24, 1), (end + 32, 1), (end + 40, 2**63), (end + 48, 2**63), (end + 64, 2**63)):
        path.write_bytes(patched(data, position, "<Q", value))
        refused(path, CorruptCheckpointError)
    name = b"x/data/0"
    header = central(data, name)
    extra = struct.pack("<2HQ", 1, 8, 16)
    wide = patched(patched(data, header + 24, "<I", 2**32 - 1), header + 30, "<H", len(extra))
    wide = wide[: header + 46 + len(name)] + extra + wide[header + 46 + len(name) :]
    directory = struct.unpack_from("<Q", data, end + 40)[0] + len(extra)
    shifted = end + len(extra)  # both end records moved
    wide = patched(wide, shifted + 40, "<Q", directory)
    wide = patched(wide, shifted + 56 + 8, "<Q", shifted)
    wide = patched(wide, len(wide) - 10, "<I", directory)
    path.write_bytes(wide)
    assert open_torch(path).tensors["w"].read().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("change", ["larger", "smaller", "checksum", "garbage"])
def test_compressed_storages_are_what_they_announce(change: str, tmp_path: Path) -> None:
    count = {"larger": 5, "smaller": 3}.get(change, 4)
    path = write_zip(tmp_path / "x.bin", {"w": tensor((1,), count=count)}, method=zipfile.ZIP_DEFLATED)
    data = path.read_bytes()
    header, local = central(data, b"archive/data/0"), data.index(b"archive/data/0") - 30
    data = patched(data, header + 24, "<I", 4 * count)
    if change == "checksum":
        data = patched(data, header + 16, "<I", zlib.crc32(b"x"))
    if change == "garbage":
        data = data[: local + 44] + b"\xff" * 4 + data[local + 48 :]
    path.write_bytes(data)
    refused(path, CorruptCheckpointError, "data/0")


def test_bytes_behind_the_pickle_are_refused(tmp_path: Path) -> None:
    refused(write_zip(tmp_path / "x.bin", pickled({"w": tensor()}) + b"x"), CorruptCheckpointError, "after the end")


@pytest.mark.parametrize(
    ("content", "error", "match"),
    [
        (b"", TruncatedCheckpointError, "get the file again"),
        (b"PK", TruncatedCheckpointError, "end record"),
        (b"PK\5\6" + bytes(18), UnsupportedFormatError, "data.pkl"),
        (b"PK\6\7" + bytes(16) + b"PK\5\6" + bytes(18), CorruptCheckpointError, "contradict"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", CorruptCheckpointError, "git lfs pull"),
        (b"<!DOCTYPE html><html>", CorruptCheckpointError, "web page"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), CorruptCheckpointError, "tf_model.h5"),
        (bytes(1000), CorruptCheckpointError, "no file of torch.save"),
    ],
)
def test_other_files_are_recognised(content: bytes, error: type, match: str, tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(content)
    refused(tmp_path / "x.bin", error, match)


def test_paths_that_are_no_files_are_refused_without_blocking(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.bin")
    refused(tmp_path / "fifo.bin", UnsupportedFormatError)
    refused(tmp_path, UnsupportedFormatError)
    refused(tmp_path / "nothing.bin", MissingFileError)


def test_a_file_that_changes_after_opening_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.bin", {"w": tensor()})
    for mmap in (True, False):
        refs = open_torch(path, mmap).tensors
        path.write_bytes(path.read_bytes() + b"x")
        with pytest.raises(ChangedFileError, match="changed"):
            refs["w"].read()
        path.write_bytes(path.read_bytes()[:-1])


# -- damage --------------------------------------------------------------------------------------------------------


def whole_files(folder: Path) -> dict[str, bytes]:
    state = OrderedDict(a=torch.arange(6.0).reshape(2, 3), b=torch.ones(3, dtype=torch.bfloat16), n=3)
    torch.save(state, folder / "zip")
    torch.save(state, folder / "stream", _use_new_zipfile_serialization=False)
    write_zip(folder / "deflated", {"w": tensor()}, method=zipfile.ZIP_DEFLATED)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def opened(path: Path) -> bool:
    """Return whether `path` can be read; anything but an answer or a TriptychError escapes."""
    try:
        for ref in open_torch(path).tensors.values():
            assert ref.read().shape == ref.shape
    except TriptychError:
        return False
    return True


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    for name, content in whole_files(tmp_path / "whole").items():
        path = tmp_path / name
        for length in [*range(0, len(content), 3), len(content) - 1]:
            path.write_bytes(content[:length])
            assert not opened(path), (name, length)
        path.write_bytes(content)
        assert opened(path)


@pytest.mark.parametrize("name", ["zip", "stream", "deflated"])
def test_flipped_bytes_never_escape_the_error_tree(name: str, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    content = whole_files(tmp_path / "whole")[name]
    generator = random.Random(0)
    outcomes = Counter()
    for _ in range(1500):
        damaged = bytearray(content)
        for _ in range(generator.choice((1, 1, 2, 8))):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        (tmp_path / "x.bin").write_bytes(damaged)
        outcomes[opened(tmp_path / "x.bin")] += 1
    assert min(outcomes[True], outcomes[False]) > 50


@pytest.mark.parametrize(("change", "mmap"), [(0x01, True), (0xFF, False)], ids=["mmap", "owned"])
def test_no_changed_byte_of_an_archive_changes_a_value(change: int, mmap: bool, tmp_path: Path) -> None:
    path, whole = tmp_path / "x.bin", torch.arange(12.0)
    torch.save({"a": torch.tensor([1, 2]), "b": whole[3:6], "c": whole.reshape(3, 4).t()}, path)

    def values() -> dict[str, object]:
        return {name: (r.dtype, r.shape, r.read().tobytes()) for name, r in open_torch(path, mmap).tensors.items()}

    content, right, refusals = path.read_bytes(), values(), set()
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ change]) + content[at + 1 :])
        try:
            assert values() == right, at
        except TriptychError:
            refusals.add(at)
    for start, size in ((content.index(data), len(data)) for data in (right["a"][2], whole.numpy().tobytes())):
        assert refusals.issuperset(range(start, start + size))


@pytest.mark.parametrize("name", ["data.pkl", "byteorder", "data/0"])
def test_a_record_of_another_checksum_is_refused_unless_it_has_none(name: str, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.bin", {"w": tensor()}, order="little")
    content = path.read_bytes()
    at = central(content, f"archive/{name}".encode()) + 16
    path.write_bytes(patched(content, at, "<I", 1))
    with pytest.raises(CorruptCheckpointError, match=f"(?s){name}.*Received: 0x"):
        open_torch(path).tensors["w"].read()
    path.write_bytes(patched(content, at, "<I", 0))
    assert open_torch(path).tensors["w"].read().tolist() == [1, 2, 3, 4]


def test_archives_that_torch_wrote_without_checksums_are_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"w": torch.arange(3)}, tmp_path / "x.bin")
    finally:
        torch.serialization.set_crc32_options(True)
    with zipfile.ZipFile(tmp_path / "x.bin") as archive:
        assert {record.CRC for record in archive.infolist()} == {0}
    assert open_torch(tmp_path / "x.bin").tensors["w"].read().tolist() == [0, 1, 2]


def test_one_storage_of_many_tensors_is_summed_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = torch.arange(2000.0)
    torch.save({str(n): row for n, row in enumerate(whole.reshape(100, 20))}, tmp_path / "x.bin")
    summed, crc32 = [], zlib.crc32
    refs = open_torch(tmp_path / "x.bin", mmap=False).tensors
    monkeypatch.setattr(torch_storage, "_PIECE", 1000)
    monkeypatch.setattr(torch_storage.zlib, "crc32", lambda data, crc=0: summed.append(len(data)) or crc32(data, crc))
    rows = [ref.read() for ref in refs.values()]
    assert np.concatenate(rows).tolist() == whole.tolist()
    assert summed == [1000] * 8


def test_pickles_of_random_opcodes_never_escape_the_error_tree(tmp_path: Path) -> None:
    generator = random.Random(0)
    parts = [bytes([code]) for code in b"N)]}(tuseabRQ\x85\x86\x87\x81\x88\x89\x8f\x90\x91\x93\x94.h"]
    parts += [b"K\x01", b"q\x00", b"h\x00", b"h\x01", b"X\x01\x00\x00\x00a", b"\x8c\x010", b"\x8c\x07storage"]
    parts += [f"c{m}\n{n}\n".encode() for m, n in [("torch", "Size"), ("torch", "FloatStorage"), ("torch", "float32"),
              ("collections", "OrderedDict"), ("torch._utils", "_rebuild_tensor_v2"), ("_codecs", "encode"),
              ("torch._utils", "_rebuild_parameter"), ("torch._utils", "_rebuild_tensor_v3")]]  # fmt: skip
    parts.append(pickled(tensor())[2:-1])
    for _ in range(4000):
        body = b"".join(generator.choices(parts, k=generator.randrange(1, 30)))
        assert opened(write_zip(tmp_path / "x.bin", b"\x80\x02" + body + b".")) in (True, False)
