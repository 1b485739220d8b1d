"""Keras-2 HDF5 weight files (`tf_model.h5`): a checked, lazy reader and a writer.

Two layouts, both written by transformers with TensorFlow:

- single file: the root attribute `layer_names` lists groups; the attribute `weight_names` of each lists its datasets by
  full name, `<model scope>/<path>:0`. A weight that several layers share (T5's embedding) is in the group of each.
- shard: `layer_names` lists the datasets themselves, by names without the model scope.

`Hdf5File.tensors` uses the shards' names for both: `without_scope` of the full name, with the `:0`. The index of a
sharded checkpoint has full names; the same function leads from these to the shards'.

Only the first form of HDF5 is read, in which h5py 3 writes unless told otherwise, and Keras with it.

Source: the files themselves, and Keras 2's legacy HDF5 format (long lists are split over numbered attributes).
"""

from __future__ import annotations

import math
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from triptych.errors import CorruptCheckpointError, UnsupportedFormatError
from triptych.files.json import remedy_for, repeated
from triptych.files.regular import MappedBytes, OwnedBytes, hold, open_regular
from triptych.formats.hdf5.storage import DEFLATE, Stored
from triptych.formats.hdf5.structures import Chunk, Structures, classified
from triptych.formats.hdf5.walk import Contents, Walk
from triptych.tensors.limits import check_growth
from triptych.tensors.ref import RangeReader, TensorRef

TOP_LEVEL = "top_level_model_weights"
"""The group of weights that belong to no layer; Keras writes it without listing it."""


@dataclass(frozen=True)
class Hdf5File:
    """One file: references by name without the model scope, and the root's string attributes.

    `layers` maps each group of a single file to the full names of its weights, in order; it is empty for a shard.
    """

    path: Path
    tensors: dict[str, TensorRef]
    metadata: dict[str, str]
    layers: dict[str, tuple[str, ...]]


def without_scope(name: str) -> str:
    """Return a full weight name as shards have it: without its first part.

    A name of one part, and one with "model." in it, stay whole: so transformers names the datasets of its shards.
    """
    return name if "model." in name or "/" not in name else name.partition("/")[2]


def open_hdf5(path: Path, mmap: bool = True) -> Hdf5File:
    """Read and check the structure of `path`; no tensor is read, and the file is closed again.

    Args:
        mmap: map the file copy-on-write (a tensor is then a view where it is stored in one piece, and truncating the
            file afterwards kills the process); False reads each tensor into owned memory when asked for.

    Raises:
        MissingFileError, TruncatedCheckpointError, CorruptCheckpointError, LimitError.
        UnsafeCheckpointError: links or datasets that lead to other files.
        UnsupportedFormatError: dtypes and filters of no weight file, newer forms of HDF5, or a file of a whole model.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        source = hold(file, path, mmap)
        remedy = _remedy(file.read(200))
        file.seek(0)
        with classified(path, remedy):
            contents = Walk(Structures(file, size, path, remedy)).run()
    if contents.names is None:
        raise _no_layers(contents, path)
    layers = _layers(contents, path)
    paths = _paths(contents, layers, path)
    tensors = {name: _ref(name, [contents.datasets[p] for p in copies], source) for name, copies in paths.items()}
    check_growth(sum(ref.nbytes for ref in tensors.values()), size, path)
    return Hdf5File(path, tensors, contents.strings, layers)


def _remedy(head: bytes) -> str:
    hint = "" if head.startswith(b"\x89HDF") else remedy_for(head)
    return hint or "get the file again"


def _no_layers(contents: Contents, path: Path) -> Exception:
    whole = contents.top & {"model_weights", "layers", "_layer_checkpoint_dependencies"}
    error = UnsupportedFormatError if whole else CorruptCheckpointError
    return error(
        f"{path} holds no list of layers.",
        expected="the attribute layer_names, as save_weights of Keras 2 and transformers write it",
        received=f"a file with {min(whole)}, of a whole model or of Keras 3" if whole else "none",
        remedy="load it with Keras and save the weights alone" if whole else "get the file again",
    )


def _layers(contents: Contents, path: Path) -> dict[str, tuple[str, ...]]:
    """Return the groups of a single file, or nothing for a shard."""
    listed = contents.names or []
    strange = [name for name in listed if name not in contents.datasets and name not in contents.lists]
    if strange or len(set(listed)) != len(listed):
        raise CorruptCheckpointError(
            f"{path} lists layers that are not there, or some twice.",
            expected="each layer of layer_names once in the file",
            received=repr((strange or repeated(listed))[:4]),
        )
    groups = [name for name in listed if name in contents.lists]
    groups += [TOP_LEVEL] if TOP_LEVEL in contents.lists and TOP_LEVEL not in groups else []
    return {group: tuple(contents.lists[group]) for group in groups}


def _paths(contents: Contents, layers: dict[str, tuple[str, ...]], path: Path) -> dict[str, list[str]]:
    """Return the paths of the datasets that hold each weight: one, or one per layer that shares it."""
    pairs = [(name, name) for name in contents.names or [] if name not in contents.lists]
    pairs += [(without_scope(name), f"{group}/{name}") for group, names in layers.items() for name in names]
    listed = {where for _, where in pairs}
    missing, beside = sorted(listed - set(contents.datasets)), sorted(set(contents.datasets) - listed)
    if missing or beside or len(listed) != len(pairs):
        raise CorruptCheckpointError(
            f"{path} does not hold what it lists.",
            expected="each weight of weight_names or layer_names once, and no other dataset",
            received=f"missing {missing[:4]}, not listed {beside[:4]}, of {len(pairs)} listed {len(listed)} distinct",
        )
    paths: dict[str, list[str]] = {}
    for name, where in pairs:
        paths.setdefault(name, []).append(where)
    for name, copies in paths.items():
        kinds = {(contents.datasets[p].dtype, contents.datasets[p].shape) for p in copies}
        if len(kinds) > 1:
            raise CorruptCheckpointError(
                f"{path} holds {name!r} in several forms.", received=", ".join(f"{d} {s}" for d, s in kinds)
            )
    return paths


def _ref(name: str, copies: list[Stored], source: MappedBytes | OwnedBytes) -> TensorRef:
    dtype = copies[0].dtype.newbyteorder("=")
    readers = tuple(_StoredReader(source, stored) for stored in copies)
    return TensorRef(name, dtype, copies[0].shape, readers[0] if len(readers) == 1 else _Copies(name, readers))


@dataclass(frozen=True)
class _StoredReader:
    """Reads one dataset, in native byte order."""

    source: MappedBytes | OwnedBytes
    stored: Stored

    def __call__(self) -> np.ndarray:
        stored = self.stored
        if isinstance(stored.data, int):
            array = RangeReader(self.source, stored.data, stored.dtype, stored.shape)()
        elif isinstance(stored.data, bytes):
            array = np.frombuffer(bytearray(stored.data), stored.dtype).reshape(stored.shape)
        else:
            array = np.empty(stored.shape, stored.dtype)
            for chunk in stored.data:
                self._place(chunk, array)
        return array.astype(stored.dtype.newbyteorder("="), copy=False)

    def _place(self, chunk: Chunk, array: np.ndarray) -> None:
        stored = self.stored
        piece = self._decoded(chunk).view(stored.dtype).reshape(stored.chunk_shape)
        spans = [
            min(step, length - at)
            for at, step, length in zip(chunk.first, stored.chunk_shape, array.shape, strict=True)
        ]
        target = tuple(slice(at, at + span) for at, span in zip(chunk.first, spans, strict=True))
        array[target] = piece[tuple(slice(span) for span in spans)]

    def _decoded(self, chunk: Chunk) -> np.ndarray:
        stored = self.stored
        count = math.prod(stored.chunk_shape) * stored.dtype.itemsize
        data = self.source.bytes_at(chunk.start, chunk.count)
        for number, code in reversed(list(enumerate(stored.filters))):
            if not chunk.skipped >> number & 1:
                data = _inflated(data, count, self.source.path) if code == DEFLATE else _unshuffled(data, stored.dtype)
        if data.size != count:
            raise CorruptCheckpointError(f"{self.source.path} has a chunk of a wrong size.", expected=f"{count} bytes")
        return data


def _inflated(data: np.ndarray, count: int, path: Path) -> np.ndarray:
    """Inflate `count` bytes; the stream must end there, where zlib compares its checksum, and with the chunk."""
    stream = zlib.decompressobj()
    try:
        values = stream.decompress(data.tobytes(), count + 1)  # no more, whatever the compressed data would make
    except zlib.error as cause:
        raise CorruptCheckpointError(f"{path} has a chunk that cannot be inflated.", received=str(cause)) from cause
    if len(values) != count or not stream.eof or stream.unused_data:
        raise CorruptCheckpointError(
            f"{path} has a damaged chunk.",
            expected=f"one zlib stream of {count} bytes",
            received=f"{len(values)} bytes" if len(values) != count else "bytes after it" if stream.eof else "no end",
            remedy="get the file again",
        )
    return np.frombuffer(values, np.uint8)


def _unshuffled(data: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Undo HDF5's shuffle: first bytes of all elements, then second bytes of all elements, ..."""
    whole = data[: data.size - data.size % dtype.itemsize]
    return np.ascontiguousarray(whole.reshape(dtype.itemsize, -1).T).reshape(-1)


@dataclass(frozen=True)
class _Copies:
    """Reads a weight that stands in several groups, and checks that it is the same in all."""

    name: str
    readers: tuple[_StoredReader, ...]

    def __call__(self) -> np.ndarray:
        first = self.readers[0]()
        for other in self.readers[1:]:
            if other().tobytes() != first.tobytes():
                raise CorruptCheckpointError(
                    f"{other.source.path} holds {self.name!r} with different values in its layers.",
                    expected="one value for a shared weight",
                )
        return first
