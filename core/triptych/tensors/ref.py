"""Tensors that have not been read yet, how they are read, and their bytes for a writer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from triptych.errors import SaveError, TriptychError
from triptych.files.regular import MappedBytes, OwnedBytes
from triptych.tensors.limits import MAX_NAME, MAX_RANK

AHEAD_BYTES = 2**28
"""Two tensors that are larger together are not in memory at the same time while they are written."""
ALIGNMENT = 64
"""Tensors start at a multiple of this where their sizes allow: TensorFlow and JAX then use a mapped file as it is."""


@dataclass(frozen=True)
class StoredBlocks:
    """A matrix as its file packs it: `read` returns the bytes of its rows, uint8 [rows, bytes]. `kind` is the number of
    the type in GGUF files."""

    kind: int
    read: Callable[[], np.ndarray]


@dataclass(frozen=True)
class TensorRef:
    """A tensor that has not been read yet: name, numpy dtype, shape, and how to read it.

    `read()` returns a C-contiguous array of that dtype and shape. It may be a copy-on-write view of a mapped file:
    writing to it is allowed and never reaches the file.

    `span` is (file, first byte, end) where such views of two tensors may be of the same memory. `blocks` is what `read`
    decodes, where the file packs the tensor.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]
    span: tuple[object, int, int] | None = None
    blocks: StoredBlocks | None = None

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize

    @classmethod
    def of(cls, name: str, array: np.ndarray) -> TensorRef:
        """Return a reference to an array in memory."""
        return cls(name, array.dtype, tuple(array.shape), lambda: array)


@dataclass(frozen=True)
class RangeReader:
    """Reads `shape` elements of `dtype` that lie one after the other from byte `start` of `source`."""

    source: MappedBytes | OwnedBytes
    start: int
    dtype: np.dtype
    shape: tuple[int, ...]

    def __call__(self) -> np.ndarray:
        count = self.dtype.itemsize * int(np.prod(self.shape, dtype=object))
        data = self.source.bytes_at(self.start, count)
        if data.ctypes.data % self.dtype.itemsize:
            data = data.copy()  # frameworks require arrays aligned to their item size; old files may not be
        return data.view(self.dtype).reshape(self.shape)


def check_to_write(ref: object) -> None:
    """Raise `SaveError` if no format could give back `ref`, by its name or its number of axes."""
    if not isinstance(ref, TensorRef):
        raise SaveError("What is to be saved is no tensor.", expected="a TensorRef", received=repr(ref)[:80])
    name = ref.name if isinstance(ref.name, str) else ""
    if ref.name != name or len(name) > MAX_NAME or name != name.encode("utf-8", "ignore").decode():
        raise SaveError(
            "A tensor has a name that cannot be stored.",
            expected=f"at most {MAX_NAME} characters of Unicode text",
            received=ascii(ref.name)[:80],
            remedy="rename it",
        )
    if len(ref.shape) > MAX_RANK:
        raise SaveError(f"Tensor {name!r} has too many axes.", expected=f"<= {MAX_RANK}", received=str(len(ref.shape)))


def raw_bytes(ref: TensorRef) -> memoryview:
    """Read `ref` and return its bytes, C order and native byte order.

    Raises:
        SaveError: the shape is not as announced, or the framework does not give its array out, as of a deleted one.
    """
    try:
        values = ref.read()
    except (TriptychError, OSError, MemoryError):
        raise
    except Exception as cause:
        raise SaveError(f"Tensor {ref.name!r} cannot be read.", received=f"{type(cause).__name__}: {cause}") from cause
    # asarray first: a byte-swapped or strided array would otherwise be written as it lies in memory.
    array = np.ascontiguousarray(np.asarray(values, dtype=ref.dtype.newbyteorder("=")))
    if tuple(array.shape) != ref.shape:
        if array.size != 1 or ref.shape != ():
            raise SaveError(f"Tensor {ref.name!r} changed.", expected=f"{ref.shape}", received=f"{array.shape}")
    return array.reshape(-1).view(np.uint8).data


def bytes_ahead(refs: Iterable[TensorRef]) -> Iterator[memoryview]:
    """Yield `raw_bytes` of each in order; the next tensor is read on a thread while the caller writes this one.

    So two tensors are in memory at a time, or one where both are large; the caller must not hold on to it.
    """
    with ThreadPoolExecutor(1) as reader:
        pending: Future[memoryview] | None = None
        size = 0
        for ref in refs:
            if pending is not None and size + ref.nbytes > AHEAD_BYTES:
                yield pending.result()
                pending = None
            following = reader.submit(raw_bytes, ref)
            if pending is not None:
                yield pending.result()
            pending, size = following, ref.nbytes
        if pending is not None:
            yield pending.result()
