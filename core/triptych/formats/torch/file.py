"""Files of torch.save without torch: the lazy reader of `pytorch_model.bin`.

Two containers are read: a zip archive (since torch 1.6), and a stream of pickles and storages (0.2 to 1.5). Both hold
one pickle that says which tensors lie where in which storage; `pickle` reads it without running anything. Sources:
torch 2.13 `torch/serialization.py` (`_load`, `_legacy_load`), "Serialization semantics" in its documentation.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from triptych.errors import (
    CorruptCheckpointError,
    LimitError,
    TriptychError,
    TruncatedCheckpointError,
    UnsupportedFormatError,
)
from triptych.files.json import remedy_for
from triptych.files.regular import hold, open_regular
from triptych.formats.kinds import SAVE_ID
from triptych.formats.torch.pickle import MAX_BYTES, Unpickler
from triptych.formats.torch.storage import Deflated, Extent, Files, Stored, locate
from triptych.formats.torch.values import NOTES, Storage, TorchTensor, is_natural, storage_dtype
from triptych.formats.torch.zip_directory import STORED, Record, inflate, read_directory
from triptych.tensors.limits import MAX_TENSORS, check_growth
from triptych.tensors.ref import TensorRef

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
_COMPRESSED = (b"\x1f\x8b", b"7z\xbc\xaf\x27\x1c", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")
"""How files of gzip, 7z, bzip2, xz and zstandard begin."""
_WRAPPERS = ("state_dict", "model")
_MAX_NOTE = 64


@dataclass(frozen=True)
class TorchFile:
    """The tensors of one file by name.

    `metadata` says of which save the file is if triptych wrote it; its entry "ignored" is a JSON list of the entries of
    the file that are no tensors.
    """

    path: Path
    tensors: dict[str, TensorRef]
    metadata: dict[str, str]


def open_torch(path: Path, mmap: bool = True) -> TorchFile:
    """Read and check names, dtypes, shapes and offsets of the state dict in `path`; no tensor is read.

    The file holds a state dict, or a dict whose only state dict is under "state_dict" or "model".

    Args:
        mmap: map the file copy-on-write. Tensors that share a storage are then views of the same memory, unless they
            are misaligned, compressed, byte-swapped or not contiguous; those are read as copies. False reads each
            tensor into memory of its own. Either way the checksum of a storage is compared at its first read.

    Raises:
        UnsafeCheckpointError: the pickle names code. MissingFileError, TruncatedCheckpointError,
        CorruptCheckpointError, LimitError, UnsupportedFormatError.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        files = Files(path, size, hold(file, path, mmap))
        head = file.read(512)
        file.seek(0)
        if head.startswith(b"PK"):
            top, extents, notes = _read_zip(file, files)
        elif head.startswith(b"\x80"):
            (top, extents), notes = _read_stream(file, files), {}
        elif head[257:262] == b"ustar":
            raise _old_tar(path)
        else:
            raise _foreign(head, path)
    tensors, ignored = _state_dict(top, path)
    refs = {name: locate(name, tensor, extents, path) for name, tensor in tensors.items()}
    _check_growth(refs, tensors, extents, files)
    return TorchFile(path, refs, notes | ({"ignored": json.dumps(ignored)} if ignored else {}))


def _foreign(head: bytes, path: Path) -> Exception:
    error: type[TriptychError] = CorruptCheckpointError if head else TruncatedCheckpointError
    return (UnsupportedFormatError if head.startswith(_COMPRESSED) else error)(
        f"{path} is no file of torch.save.",
        expected="a zip archive or a pickle",
        received=f"first bytes {head[:8].hex() or 'none'}",
        remedy=remedy_for(head) or "get the file again",
    )


def _old_tar(path: Path) -> UnsupportedFormatError:
    """Return the error for what torch.save wrote before 0.2. torch reads it with `weights_only=False` alone."""
    # A text for the user, who alone can say whether the file is to be trusted; nothing here runs it.
    old, new = repr(str(path)), repr(str(path.with_name(f"new-{path.name}")))
    command = f"import torch; torch.save(torch.load({old}, map_location='cpu', weights_only=False), {new})"
    return UnsupportedFormatError(
        f"{path} is a tar archive, as torch.save wrote before torch 0.2.",
        expected="a file of torch 0.2 or later",
        remedy=f"save it again, and give the new file the name of the old. This runs what code the old one holds, so "
        f"only do it if you trust its origin: `{command}`",
    )


# -- containers


def _read_zip(file: BinaryIO, files: Files) -> tuple[object, Mapping[str, Extent], dict[str, str]]:
    path = files.path
    records = read_directory(file, files.size, path)
    roots = [name.removesuffix("data.pkl") for name in records if name.endswith("/data.pkl")]
    if len(roots) > 1:
        raise CorruptCheckpointError(f"{path} holds several pickles.", expected="one folder with a data.pkl",
                                     received=repr(roots[:4])[:120])  # fmt: skip
    root = roots[0] if roots else None
    if root is None or f"{root}constants.pkl" in records:
        raise UnsupportedFormatError(
            f"{path} is a zip archive of another kind.",
            expected="data.pkl and data/, as torch.save writes",
            received="TorchScript" if root is not None else "no data.pkl",
            remedy="load it with torch.jit.load and save its state_dict()" if root is not None else "check the file",
        )
    if (pickled := records[f"{root}data.pkl"]).size > MAX_BYTES:
        raise LimitError(f"The pickle of {path} is too large.", expected=f"<= {MAX_BYTES}", received=f"{pickled.size}")
    big_endian = _is_big_endian(file, records.get(f"{root}byteorder"), path)
    stream = io.BytesIO(inflate(file, pickled, path))
    top = Unpickler(stream, str(path), _zip_storage).load()
    if stream.read(1):
        raise CorruptCheckpointError(f"{path} has bytes after the end of its pickle.", expected="one pickle")
    prefix = f"{root}data/"
    storages = {name.removeprefix(prefix): record for name, record in records.items() if name.startswith(prefix)}
    extents = {key: _zip_extent(files, record, big_endian) for key, record in storages.items()}
    return top, extents, _notes(file, records.get(f"{root}{NOTES}{SAVE_ID}"), path)


def _notes(file: BinaryIO, record: Record | None, path: Path) -> dict[str, str]:
    """Return of which save the file is, where it says so."""
    if record is None:
        return {}
    text = inflate(file, record, path) if record.size <= _MAX_NOTE else b""
    if not text.isalnum() or not text.isascii():
        raise CorruptCheckpointError(f"{path} has a bad {SAVE_ID}.", expected="a few letters and digits")
    return {SAVE_ID: text.decode()}


def _zip_extent(files: Files, record: Record, big_endian: bool) -> Extent:
    source = Stored(files, record) if record.method == STORED else Deflated(files, record)
    return Extent(source, 0, record.size, big_endian)


def _is_big_endian(file: BinaryIO, record: Record | None, path: Path) -> bool:
    """Files without the record are little-endian, as in torch."""
    if record is None:
        return False
    order = inflate(file, record, path) if record.size <= len(b"little") else b""
    if order not in (b"little", b"big"):
        raise CorruptCheckpointError(f"{path} has an unknown byte order.", expected="little or big")
    return order == b"big"


def _zip_storage(identifier: object) -> Storage:
    if not isinstance(identifier, tuple) or len(identifier) != 5 or identifier[0] != "storage":
        raise ValueError("a persistent id that is no storage")
    _, kind, key, _, count = identifier
    if not isinstance(key, str) or not is_natural(count):
        raise ValueError("a storage without key or size")
    return Storage(key, storage_dtype(kind), count)


def _stream_storage(identifier: object) -> Storage:
    if not isinstance(identifier, tuple) or len(identifier) != 6:
        raise ValueError("a persistent id that is no storage")
    storage, view = _zip_storage(identifier[:5]), identifier[5]
    if view is None:
        return storage
    if not isinstance(view, tuple) or len(view) != 3 or not all(map(is_natural, view[1:])):
        raise ValueError("a view that is not made of a key and two sizes")
    return Storage(storage.key, storage.dtype, storage.count, (view[1], view[2]))


def _read_stream(file: BinaryIO, files: Files) -> tuple[object, Mapping[str, Extent]]:
    storages: dict[str, Storage] = {}

    def persistent(identifier: object) -> Storage:
        storage = _stream_storage(identifier)
        first = storages.setdefault(storage.key, storage)
        if (first.dtype, first.count) != (storage.dtype, storage.count):
            raise ValueError("one storage as two types")
        return storage

    path = files.path
    unpickler = Unpickler(file, str(path), persistent)
    magic = unpickler.load()
    if type(magic) is not int or magic != MAGIC:
        raise UnsupportedFormatError(f"{path} is a pickle, but not of torch.save.", expected="the number of torch.save")
    if type(version := unpickler.load()) is not int or version != PROTOCOL:
        raise UnsupportedFormatError(f"{path} is of an unknown version of torch.save.", expected=f"{PROTOCOL}")
    unpickler.load()  # sizes of C types and byte order where it was written; storages are little-endian always
    top, keys = unpickler.load(), unpickler.load()
    extents: dict[str, Extent] = {}
    position = file.tell()
    for key in keys if isinstance(keys, list) else [None]:
        if not isinstance(key, str) or key not in storages or key in extents:
            raise CorruptCheckpointError(f"{path} lists storages that its tensors do not name once.")
        extents[key] = files.counted(file, position, storages[key].dtype)
        position = extents[key].start + extents[key].size
    if position != files.size:
        raise CorruptCheckpointError(
            f"{path} has bytes after its last storage.", expected=f"{position} bytes", received=f"{files.size}"
        )
    return top, extents


# -- contents


def _state_dict(top: object, path: Path) -> tuple[dict[str, TorchTensor], list[str]]:
    """Return the tensors by name, and the names of the entries that are dropped."""
    if not isinstance(top, dict):
        raise _no_state_dict(path, "no dict")
    entries: dict[object, object] = top
    inner = _dicts_of_tensors(entries)
    dropped: list[object] = []
    if len(inner) == 1 and not _tensors(entries) and inner[0] in _WRAPPERS:
        dropped = [key for key in top if key != inner[0]]
        entries = top[inner[0]]
    tensors = _tensors(entries)
    if (nested := _dicts_of_tensors(entries)) or (top and not tensors):
        raise _no_state_dict(path, f"{len(tensors)} tensors and {len(nested)} dicts of tensors")
    if len(tensors) > MAX_TENSORS:
        raise LimitError(f"{path} has too many tensors.", expected=f"<= {MAX_TENSORS}", received=f"{len(tensors)}")
    named = {name: tensor for name, tensor in tensors.items() if isinstance(name, str)}
    if len(named) != len(tensors):
        raise CorruptCheckpointError(f"{path} has tensors whose name is no text.", expected="a state dict")
    return named, [str(key) for key in dropped + [key for key in entries if key not in tensors]]


def _tensors(entries: dict[object, object]) -> dict[object, TorchTensor]:
    return {name: value for name, value in entries.items() if isinstance(value, TorchTensor)}


def _dicts_of_tensors(entries: dict[object, object]) -> list[object]:
    """Return the keys under which there are dicts with tensors; a dict that stands there often is searched once."""
    dicts = {id(value): value for value in entries.values() if isinstance(value, dict)}
    full = {key for key, value in dicts.items() if _tensors(value)}
    return [key for key, value in entries.items() if id(value) in full]


def _no_state_dict(path: Path, received: str) -> UnsupportedFormatError:
    return UnsupportedFormatError(
        f"{path} holds no single state dict.",
        expected="tensors by name, or one such dict under " + " or ".join(map(repr, _WRAPPERS)),
        received=received,
        remedy="save model.state_dict() alone",
    )


def _check_growth(
    refs: Mapping[str, TensorRef], tensors: Mapping[str, TorchTensor], extents: Mapping[str, Extent], files: Files
) -> None:
    """Bound the work of reading every tensor once: small files must not unfold into large memory."""
    total = sum(ref.nbytes for ref in refs.values())
    total += sum(extents[tensor.storage.key].inflated for tensor in tensors.values() if tensor.storage.key in extents)
    check_growth(total, files.size, files.path)
