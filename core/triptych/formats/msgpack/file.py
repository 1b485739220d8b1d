"""Flax's msgpack files (`flax_model.msgpack`): a checked, lazy reader and a streaming writer.

Formats: the MessagePack specification (type bytes), and what flax.serialization puts on top of it: nested maps with
string keys; an array is extension type 1 (3 for a numpy scalar) whose payload is the msgpack array
[shape, dtype name, bytes]; an array of more than 2^30 bytes is a map of chunks. No part of a file is handed to a
general decoder, because those build whatever the file asks for: duplicate keys, foreign dtypes, lists by the million.

Names are the keys joined with "/".
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgpack
import numpy as np

from triptych.errors import ArgumentError, SaveError
from triptych.files.atomic import write_through
from triptych.files.json import remedy_for
from triptych.files.regular import MappedBytes, OwnedBytes, hold, open_regular
from triptych.formats.msgpack.cursor import Cursor
from triptych.formats.msgpack.index import ARRAY, CHUNKED, MAX_DEPTH, Index, Range
from triptych.tensors import dtypes
from triptych.tensors.ref import RangeReader, TensorRef, bytes_ahead

MAX_CHUNK = 2**30
"""Bytes above which Flax splits an array, so that no msgpack object comes near the format's limit."""
Tree = dict[str, "TensorRef | Tree"]


@dataclass(frozen=True)
class MsgpackFile:
    """The arrays of one file by name. The format has no metadata; the field is there as in the other formats."""

    path: Path
    tensors: dict[str, TensorRef]
    metadata: dict[str, str]


def open_msgpack(path: Path, mmap: bool = True) -> MsgpackFile:
    """Find every array of `path` without reading any.

    Args:
        mmap: map the file copy-on-write (an array whose position suits its dtype is then a view, and truncating the
            file afterwards kills the process); False reads each array into owned memory when asked for.

    Raises:
        MissingFileError, TruncatedCheckpointError, CorruptCheckpointError, LimitError.
        UnsupportedFormatError: a dtype of no weight, or leaves that are no arrays (numbers, text, lists).
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        source = hold(file, path, mmap)
        remedy = remedy_for(file.read(200)) or "get the file again"
        file.seek(0)
        found = Index(Cursor(file, size, path, remedy)).read()
    return MsgpackFile(path, {name: _ref(name, shape, parts, source) for name, (shape, parts) in found.items()}, {})


def _ref(name: str, shape: tuple[int, ...], parts: list[Range], source: MappedBytes | OwnedBytes) -> TensorRef:
    dtype = parts[0].dtype
    if len(parts) == 1:
        return TensorRef(name, dtype, shape, RangeReader(source, parts[0].start, dtype, shape))
    readers = tuple(RangeReader(source, part.start, dtype, part.shape) for part in parts)
    return TensorRef(name, dtype, shape, _Joined(readers, dtype, shape))


@dataclass(frozen=True)
class _Joined:
    """Reads the chunks of one array, one after the other, into one allocation."""

    parts: tuple[RangeReader, ...]
    dtype: np.dtype
    shape: tuple[int, ...]

    def __call__(self) -> np.ndarray:
        result = np.empty(math.prod(self.shape), self.dtype)
        position = 0
        for part in self.parts:
            result[position : position + part.shape[0]] = part()
            position += part.shape[0]
        return result.reshape(self.shape)


def write_msgpack(file: BinaryIO, tensors: Iterable[TensorRef], max_chunk: int = MAX_CHUNK) -> None:
    """Write `tensors` to an open file as the tree that their names spell, reading one at a time.

    Keys are sorted, so the bytes depend on names and values only and are those of flax.serialization.msgpack_serialize.

    Args:
        tensors: their names are the keys joined with "/".
        max_chunk: bytes above which an array is split.

    Raises:
        SaveError: two tensors of one name, a name below another one, an empty or reserved key, or a tensor that reads
            as something else than it announced. UnsupportedFormatError: a dtype of no weight. Both but the last reason
            before anything is written.
    """
    if not 1 <= max_chunk <= MAX_CHUNK:
        raise ArgumentError("max_chunk is out of range.", expected=f"1 to {MAX_CHUNK}", received=repr(max_chunk))
    tree: Tree = {}
    for ref in tensors:
        _insert(tree, ref)
    _write_tree(file, tree, max_chunk, bytes_ahead(_leaves(tree)))


def _leaves(tree: Tree) -> Iterator[TensorRef]:
    """Yield the tensors in the order in which they are written."""
    for _, value in sorted(tree.items()):
        if isinstance(value, TensorRef):
            yield value
        else:
            yield from _leaves(value)


def _insert(tree: Tree, ref: TensorRef) -> None:
    dtypes.safetensors_name(ref.dtype, ref.name)  # refuses what no weight file holds
    *parents, leaf = keys = ref.name.split("/")
    if not all(keys) or CHUNKED in keys or len(keys) > MAX_DEPTH:
        raise SaveError(f"{ref.name[:80]!r} is no path of keys.", expected='keys joined with "/"', remedy="rename it")
    branch = tree
    for key in parents:
        below = branch.setdefault(key, {})
        if isinstance(below, TensorRef):
            raise SaveError(f"Tensor {ref.name!r} lies below another tensor.", remedy="rename one")
        branch = below
    if leaf in branch:
        raise SaveError(f"Two tensors are called {ref.name!r}, or one lies below it.", remedy="rename one")
    branch[leaf] = ref


def _write_tree(file: BinaryIO, tree: Tree, max_chunk: int, data: Iterator[memoryview]) -> None:
    """Write `tree`, which is no deeper than `MAX_DEPTH`, with the bytes of its arrays from `data`."""
    file.write(msgpack.Packer().pack_map_header(len(tree)))
    for key, value in sorted(tree.items()):
        file.write(msgpack.packb(key))
        if not isinstance(value, TensorRef):
            _write_tree(file, value, max_chunk, data)
        elif value.nbytes <= max_chunk:
            _write_array(file, value.shape, value.dtype, next(data))
        else:
            _write_chunks(file, value, max_chunk, next(data))


def _write_chunks(file: BinaryIO, ref: TensorRef, max_chunk: int, data: memoryview) -> None:
    itemsize = ref.dtype.itemsize
    step = max(1, max_chunk // itemsize) * itemsize
    pack_map = msgpack.Packer().pack_map_header
    shape = {str(axis): length for axis, length in enumerate(ref.shape)}
    file.write(pack_map(3) + msgpack.packb(CHUNKED) + msgpack.packb(True))
    file.write(msgpack.packb("shape") + msgpack.packb(shape))
    file.write(msgpack.packb("chunks") + pack_map(-(-len(data) // step)))
    for number, start in enumerate(range(0, len(data), step)):
        chunk = data[start : start + step]
        file.write(msgpack.packb(str(number)))
        _write_array(file, (len(chunk) // itemsize,), ref.dtype, chunk)


def _write_array(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype, data: memoryview) -> None:
    """Write an extension of type 1. Only its head is built in memory; the packer would want all of it."""
    width = next(width for width in (1, 2, 4) if len(data) < 1 << 8 * width)
    head = msgpack.Packer().pack_array_header(3) + msgpack.packb(shape) + msgpack.packb(dtype.name)
    head += bytes([0xC4 + width // 2]) + len(data).to_bytes(width, "big")
    file.write(_extension_head(len(head) + len(data)) + head)
    write_through(file, data)


def _extension_head(length: int) -> bytes:
    if length in (1, 2, 4, 8, 16):
        return bytes([0xD4 + length.bit_length() - 1, ARRAY])
    width = next(width for width in (1, 2, 4) if length < 1 << 8 * width)
    return bytes([0xC7 + width // 2]) + length.to_bytes(width, "big") + bytes([ARRAY])
