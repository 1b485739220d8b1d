"""One weight file, of any format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from triptych.formats.hdf5.file import open_hdf5
from triptych.formats.kinds import BIN, H5, MSGPACK
from triptych.formats.msgpack.file import open_msgpack
from triptych.formats.safetensors import open_safetensors
from triptych.formats.torch.file import open_torch
from triptych.tensors.ref import TensorRef


class WeightFile(Protocol):
    """One opened file, of any format."""

    @property
    def path(self) -> Path: ...
    @property
    def tensors(self) -> dict[str, TensorRef]: ...
    @property
    def metadata(self) -> dict[str, str]: ...


def open_file(path: Path, mmap: bool = True) -> WeightFile:
    """Open one weight file, single or shard, as its suffix says: `.bin`, `.h5`, `.msgpack`, else safetensors.

    Raises:
        As `open_checkpoint`.
    """
    readers: dict[str, Callable[[Path, bool], WeightFile]] = {
        BIN.suffix: open_torch,
        H5.suffix: open_hdf5,
        MSGPACK.suffix: open_msgpack,
    }
    return readers.get(path.suffix, open_safetensors)(path, mmap)
