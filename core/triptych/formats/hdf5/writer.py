"""Writing Keras-2 HDF5 weight files: the single file and the shards that transformers reads with TensorFlow.

libhdf5 lays out the file (groups, attributes, and space for each dataset); the elements are then written at their
places with ordinary writes. So one tensor is in memory at a time, and a full disk is an ordinary `OSError`: libhdf5
1.14 itself crashes the process when the disk is full.

Source: Keras 2's legacy HDF5 format; the attributes and groups of files that transformers 4.48 wrote.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import BinaryIO

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t

from triptych.errors import SaveError, UnsupportedFormatError
from triptych.formats.hdf5.file import TOP_LEVEL
from triptych.formats.hdf5.storage import BFLOAT16
from triptych.tensors import dtypes
from triptych.tensors.limits import MAX_NAME
from triptych.tensors.ref import TensorRef, raw_bytes

DEFAULT_METADATA = {"backend": "tensorflow", "keras_version": "2.15.0"}
"""Keras chooses by these how to read a single file."""
_MAX_ATTRIBUTE = 64512
"""Bytes above which Keras splits a list over several attributes: an object header holds less than 64 kB."""
_REFERENCE_BYTES = 16
"""What a string of variable length takes in the header, however short it is."""


def write_hdf5(
    file: BinaryIO, layers: Mapping[str, Sequence[TensorRef]], metadata: Mapping[str, str] = DEFAULT_METADATA
) -> None:
    """Write a single file to `file`, which is open for reading and writing and empty, reading one tensor at a time.

    Args:
        layers: the groups in order, each with its weights under their full names, `<model scope>/<path>:0`. A weight
            that layers share stands in each. The group of weights that belong to no layer is `TOP_LEVEL`.
        metadata: further attributes of the root.

    Raises:
        SaveError: names that HDF5 cannot hold together, or a tensor that reads as something else than it announced.
        UnsupportedFormatError: a dtype that the format does not know, such as float8. OSError: as the file raises.
    """
    groups = {TOP_LEVEL: (), **layers}
    refs = {f"{group}/{ref.name}": ref for group in groups for ref in groups[group]}
    if len(refs) != sum(map(len, groups.values())):
        raise SaveError("A layer has two weights of one name.", remedy="rename one")
    lists = {group: ("weight_names", [ref.name for ref in groups[group]]) for group in groups}
    lists[""] = ("layer_names", [group for group in layers if group != TOP_LEVEL])
    _write(file, refs, lists, metadata)


def write_hdf5_shard(file: BinaryIO, tensors: Iterable[TensorRef], metadata: Mapping[str, str] | None = None) -> None:
    """Write one shard of a sharded checkpoint: as `write_hdf5`, with names without the model scope, in their order."""
    refs: dict[str, TensorRef] = {}
    for ref in tensors:
        if ref.name in refs:
            raise SaveError(f"Two tensors are called {ref.name!r}.", remedy="rename one")
        refs[ref.name] = ref
    _write(file, refs, {"": ("layer_names", list(refs))}, metadata or {})


def _write(
    file: BinaryIO,
    refs: Mapping[str, TensorRef],
    lists: Mapping[str, tuple[str, list[str]]],
    metadata: Mapping[str, str],
) -> None:
    """Write datasets by path and list attributes by group ("" is the root)."""
    _check_names(refs, [group for group in lists if group])
    types = {path: _file_type(ref) for path, ref in refs.items()}
    sink = _Sink(file)
    try:
        with h5py.File(sink, "w", libver="earliest") as opened:
            offsets = _lay_out(opened, refs, types, lists, metadata)
    except Exception as cause:  # h5py maps libhdf5's errors to a dozen built-in classes
        sink.check()
        raise SaveError("The HDF5 file could not be laid out.", received=str(cause)[:300]) from cause
    sink.check()
    for offset, path in sorted((offset, path) for path, offset in offsets.items() if refs[path].nbytes):
        file.seek(offset)
        file.write(raw_bytes(refs[path]))
    file.seek(0, io.SEEK_END)


def _lay_out(
    opened: h5py.File,
    refs: Mapping[str, TensorRef],
    types: Mapping[str, h5t.TypeID],
    lists: Mapping[str, tuple[str, list[str]]],
    metadata: Mapping[str, str],
) -> dict[str, int]:
    """Make everything but the elements; return the byte where those of each dataset belong."""
    _set_list(opened, *lists[""])
    for key, value in metadata.items():
        opened.attrs[key] = value.encode()
    for group in sorted(group for group in lists if group):
        _set_list(opened.create_group(group), *lists[group])
    return {path: _reserve(opened, path, ref.shape, types[path]) for path, ref in refs.items()}


def _check_names(datasets: Iterable[str], groups: Iterable[str]) -> None:
    """Refuse names that would lead elsewhere in the file, and a dataset where a group must be."""
    paths = {*datasets, *groups}
    for path in paths:
        if not all(part not in ("", ".", "..") for part in path.split("/")) or "\0" in path or len(path) > MAX_NAME:
            raise SaveError(f"{path[:120]!r} cannot be a name in an HDF5 file.", expected="non-empty parts joined by /")
    parents = {path[:at] for path in paths for at, letter in enumerate(path) if letter == "/"} | set(groups)
    clashes = sorted(parents & set(datasets))
    if clashes:
        raise SaveError("A weight would be a group of others.", received=", ".join(clashes[:4]), remedy="rename one")


def _file_type(ref: TensorRef) -> h5t.TypeID:
    dtype = ref.dtype.newbyteorder("=")
    if dtype == BFLOAT16:
        return _bfloat16()
    if dtype not in dtypes.NAMES or dtype.kind not in "fiu" or dtype.type.__module__ != "numpy":  # float8 is of kind f
        raise UnsupportedFormatError(
            f"Tensor {ref.name!r} cannot be stored in HDF5.",
            expected="integers, float16, bfloat16, float32 or float64",
            received=f"dtype {ref.dtype}",
            remedy="cast it first",
        )
    return h5t.py_create(np.dtype(dtype))


def _bfloat16() -> h5t.TypeID:
    """Return bfloat16 as a floating type described by its bits, which HDF5 itself converts to float32 for h5py."""
    kind = h5t.IEEE_F32LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_precision(16)
    kind.set_size(2)
    kind.set_ebias(127)
    return kind


def _set_list(group: h5py.Group, name: str, values: list[str]) -> None:
    """Set a list attribute, split over name0, name1, ... where Keras would."""
    encoded = [value.encode() for value in values]
    longest = max(_REFERENCE_BYTES, *map(len, encoded), 0)
    parts = -(-len(encoded) // (_MAX_ATTRIBUTE // longest))
    if parts <= 1:
        group.attrs[name] = encoded
        return
    for number, part in enumerate(np.array_split(np.array(encoded), parts)):
        group.attrs[f"{name}{number}"] = part


def _reserve(file: h5py.File, path: str, shape: tuple[int, ...], kind: h5t.TypeID) -> int:
    """Create a contiguous dataset whose elements are not written; return the byte where they belong."""
    plist = h5p.create(h5p.DATASET_CREATE)
    plist.set_layout(h5d.CONTIGUOUS)
    plist.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    plist.set_fill_time(h5d.FILL_TIME_NEVER)
    plist.set_obj_track_times(False)
    links = h5p.create(h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    space = h5s.create_simple(shape) if shape else h5s.create(h5s.SCALAR)
    dataset = h5d.create(file.id, path.encode(), kind, space, dcpl=plist, lcpl=links)
    return dataset.get_offset() or 0


class _Sink(io.RawIOBase):
    """A file for libhdf5 that never fails: the first error is kept, and what comes after it is dropped.

    libhdf5 does not survive errors while it closes a file.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise the error that was kept."""
        if self._error is not None:
            raise self._error

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(position, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        return self._file.readinto(buffer)  # type: ignore[attr-defined, no-any-return]

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._keep(lambda: self._file.write(data))
        return len(data)

    def truncate(self, size: int) -> int:  # type: ignore[override]
        self._keep(lambda: self._file.truncate(size))
        return size

    def flush(self) -> None:
        self._keep(self._file.flush)

    def _keep(self, action: Callable[[], object]) -> None:
        try:
            if self._error is None:
                action()
        except OSError as error:
            self._error = error
