"""Weights that stay in files: read when a layer runs, and a little before."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from triptych.errors import ArgumentError, SaveError
from triptych.files.atomic import whole_file
from triptych.files.regular import MappedBytes, is_cached, will_need
from triptych.formats.kinds import SAFETENSORS
from triptych.formats.safetensors import open_safetensors, write_safetensors
from triptych.tensors.ref import RangeReader, TensorRef
from triptych.weights.plan import Assignment
from triptych_pt import arrays

OFFLOADED = "offloaded.safetensors"
"""The file in `offload_folder`."""


class Stored:
    """A weight that stays in its file, of dtype `dtype` in the model. Reading it takes no memory where the file is
    mapped and holds it in that dtype."""

    def __init__(self, ref: TensorRef, dtype: np.dtype) -> None:
        self.ref, self.dtype = ref, dtype
        read = ref.read
        mapped = ref.dtype == dtype and isinstance(read, RangeReader) and isinstance(read.source, MappedBytes)
        self.mapped_from: MappedBytes | None = read.source if mapped else None  # type: ignore[attr-defined]
        self._array: np.ndarray | None = None

    def read(self) -> torch.Tensor:
        """Return its values; nothing may write into them.

        Raises:
            ChangedFileError: the file was written to; of a mapped one, `mapped_from.check` says so from then on.
        """
        tensor = arrays.to_native(self._view())
        return tensor if self.ref.dtype == self.dtype else tensor.to(arrays.native_dtype(self.dtype))

    def is_at_hand(self) -> bool:
        """Return whether it takes no time to read it."""
        return self.mapped_from is not None and is_cached(self._view())

    def read_ahead(self) -> torch.Tensor:
        """Return what `read` does, with all its bytes on their way from the disk."""
        if self.mapped_from is not None:
            will_need(self._view())
        return self.read()

    def _view(self) -> np.ndarray:
        """Return the array of the file."""
        if self.mapped_from is None:
            return self.ref.read()
        self._array = self.ref.read() if self._array is None else self._array
        return self._array


def stays_in_its_file(assignment: Assignment) -> bool:
    """Return whether the tensor lies in a safetensors file as PyTorch has it."""
    read = assignment.ref.read
    lies_there = isinstance(read, RangeReader) and read.source.path.suffix == SAFETENSORS.suffix
    return lies_there and not assignment.copied and assignment.in_native_layout("pt")


def write_offloaded(refs: Iterable[TensorRef], folder: Any) -> Iterator[tuple[str, Stored]]:
    """Write tensors into one file of `folder`, reading one at a time; yield name -> where it is now.

    Raises:
        ArgumentError: there is no folder. SaveError: it cannot be written.
    """
    refs = list(refs)
    if not refs:
        return
    if folder is None:
        raise ArgumentError(
            "These weights are to go to the disk, and do not lie there in safetensors.", expected="offload_folder=",
            received=", ".join(ref.name for ref in refs[:8]), remedy="pass a folder that they are written to",
        )  # fmt: skip
    path = Path(folder) / OFFLOADED
    try:
        os.makedirs(folder, exist_ok=True)
        with whole_file(path) as file:
            write_safetensors(file, refs, {"format": "pt"})
    except OSError as cause:
        raise SaveError(f"Weights could not be written to {folder}.", received=str(cause)) from cause
    written = open_safetensors(path).tensors
    for ref in refs:
        yield ref.name, Stored(written[ref.name], ref.dtype)
