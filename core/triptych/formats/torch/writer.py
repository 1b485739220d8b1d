"""Writing `pytorch_model.bin` without torch, one tensor at a time.

The file is a zip archive of stored records: a pickle that says which tensor lies in which storage, and a record for
each storage. The pickle is put together from opcodes, so nothing can get into it but tensors and their names.

Sources: `torch/serialization.py` (`_save`), `torch/_tensor.py` (`_reduce_ex_internal`) and
`caffe2/serialize/inline_container.cc` of torch 2.13; the opcodes are of Python's `pickletools`, protocol 2.
"""

from __future__ import annotations

import math
import struct
import sys
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import BinaryIO

from triptych.errors import SaveError
from triptych.formats.torch.values import DTYPES, KINDS, NOTES
from triptych.tensors.dtypes import safetensors_name
from triptych.tensors.limits import MAX_NAME
from triptych.tensors.ref import ALIGNMENT, TensorRef, raw_bytes

_ROOT = "archive"
_BLOCK = 2**20
_MAX_NARROW = 2**31 - 1
"""Bytes above which `zipfile` must be told that a record needs sizes of 64 bits."""
_PADDING = 0x4246
"""The kind of extra field by which torch aligns records."""
_HEADER_BYTES, _FIELD_BYTES, _WIDE_BYTES = 30, 4, 20
"""Of a local header without name, the head of an extra field, and the field of 64-bit sizes (APPNOTE 4.3, 4.5)."""

_STORAGES = {name: f"{kind}Storage" for kind, name in KINDS.items()}
_TORCH_NAMES = {name: torch_name for torch_name, name in DTYPES.items()}


def write_torch(file: BinaryIO, tensors: Iterable[TensorRef], notes: Mapping[str, str] = MappingProxyType({})) -> None:
    """Write `tensors` in their order to `file`, which is open for writing, seekable and empty.

    Each tensor gets a storage of its own, but those of one `read` share theirs; others that share memory are written
    once for each name. The same tensors give the same bytes. `torch.load` reads the file with and without weights_only
    and mmap, `open_torch` likewise; before torch 2.3, `torch.load` does not know all of uint16 to uint64 and float8.

    Args:
        notes: short texts by name, each in a record of its own beside those of torch, which looks at none of them.

    Raises:
        UnsupportedFormatError: a dtype that torch does not have. SaveError: two tensors of one name, a name that cannot
        be read back, or a tensor that reads as something else than it announced. OSError: as the file raises.
        Names and dtypes are checked before anything is written.
    """
    refs = list(tensors)
    pickled, stored = _pickle(refs), set[int]()
    with zipfile.ZipFile(file, "w") as archive:
        _store(archive, file, "data.pkl", pickled)
        _store(archive, file, "byteorder", sys.byteorder.encode())
        for number, ref in zip(_storages(refs), refs, strict=True):
            if number not in stored:
                _store(archive, file, f"data/{number}", raw_bytes(ref))
                stored.add(number)
        _store(archive, file, "version", b"3\n")
        for name, text in notes.items():
            _store(archive, file, f"{NOTES}{name}", text.encode())


# -- records


def _store(archive: zipfile.ZipFile, file: BinaryIO, name: str, data: bytes | memoryview) -> None:
    """Write a record whose data start at a multiple of `ALIGNMENT` of the file."""
    info = zipfile.ZipInfo(f"{_ROOT}/{name}")  # dated 1980-01-01, always
    info.create_system = 0
    is_wide = len(data) > _MAX_NARROW
    header = _HEADER_BYTES + len(info.filename) + _FIELD_BYTES + is_wide * _WIDE_BYTES
    padding = -(file.tell() + header) % ALIGNMENT
    info.extra = struct.pack("<2H", _PADDING, padding) + bytes(padding)
    with archive.open(info, "w", force_zip64=is_wide) as record:
        for start in range(0, len(data), _BLOCK):
            record.write(data[start : start + _BLOCK])
    info.extra = b""  # the directory needs no padding


# -- pickle


class _Memo:
    """Opcodes that push a value: written out and memoised the first time, a reference to the memo afterwards.

    For fewer than 256 values.
    """

    def __init__(self) -> None:
        self._indices: dict[bytes, int] = {}

    def __call__(self, code: bytes) -> bytes:
        if code in self._indices:
            return b"h%c" % self._indices[code]
        index = self._indices[code] = len(self._indices)
        return code + b"q%c" % index


def _pickle(refs: Sequence[TensorRef]) -> bytes:
    """Return the pickle of an OrderedDict with the tensors by name."""
    names: set[str] = set()
    memo = _Memo()
    parts = [b"\x80\x02", memo(_ORDERED_DICT), b")R("]
    for number, ref in zip(_storages(refs), refs, strict=True):
        if ref.name in names:
            raise SaveError(f"Two tensors are called {ref.name!r}.", remedy="rename one")
        names.add(ref.name)
        parts += [_name(ref.name), _tensor(memo, number, ref)]
    return b"".join([*parts, b"u."])


def _storages(refs: Sequence[TensorRef]) -> list[int]:
    """Return the number of the storage of each tensor."""
    first: dict[object, int] = {}
    return [first.setdefault((ref.read, ref.dtype, ref.shape), number) for number, ref in enumerate(refs)]


def _name(name: str) -> bytes:
    try:
        if len(name) <= MAX_NAME:
            return _text(name)
    except UnicodeEncodeError:
        pass
    raise SaveError(
        f"{ascii(name[:80])} cannot be the name of a tensor in a torch file.",
        expected=f"at most {MAX_NAME} characters of Unicode text",
        received=f"{len(name)} characters",
        remedy="rename the tensor",
    )


def _tensor(memo: _Memo, number: int, ref: TensorRef) -> bytes:
    """Return the call that rebuilds a tensor; dtypes younger than torch's typed storages are named beside bytes."""
    dtype = safetensors_name(ref.dtype, ref.name)
    if dtype in _STORAGES:
        function, tail = "_rebuild_tensor_v2", b""
        storage, size = _global("torch", _STORAGES[dtype]), math.prod(ref.shape)
    else:
        function, tail = "_rebuild_tensor_v3", _global("torch", _TORCH_NAMES[dtype])
        storage, size = _global("torch.storage", "UntypedStorage"), ref.nbytes
    return b"".join([
        memo(_global("torch._utils", function)), b"(",
        b"(", memo(_text("storage")), memo(storage), _text(str(number)), memo(_text("cpu")), _integer(size), b"tQ",
        _integer(0), _tuple(ref.shape), _tuple(_strides(ref.shape)),
        b"\x89",  # requires_grad
        memo(_ORDERED_DICT), b")R",  # hooks
        memo(tail) if tail else b"",
        b"tR",
    ])  # fmt: skip


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return torch's strides of a contiguous tensor, in elements."""
    return tuple(math.prod(max(length, 1) for length in shape[axis + 1 :]) for axis in range(len(shape)))


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


_ORDERED_DICT = _global("collections", "OrderedDict")


def _text(value: str) -> bytes:
    encoded = value.encode()
    return b"X" + len(encoded).to_bytes(4, "little") + encoded


def _integer(value: int) -> bytes:
    """Return the opcode of a non-negative integer."""
    if value < 2**8:
        return b"K%c" % value
    if value < 2**31:
        return b"J" + value.to_bytes(4, "little")
    width = value.bit_length() // 8 + 1  # room for a sign
    return b"\x8a%c" % width + value.to_bytes(width, "little")


def _tuple(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(_integer, values)) + b"t" if values else b")"
