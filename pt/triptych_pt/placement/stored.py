"""Weights that stay in files: read when a layer runs, and a little before."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from triptych.errors import ArgumentError, SaveError
from triptych.files.atomic import whole_file
from triptych.files.regular import will_need
from triptych.formats.kinds import SAFETENSORS
from triptych.formats.safetensors import open_safetensors, write_safetensors
from triptych.tensors.ref import RangeReader, TensorRef
from triptych.weights.plan import Assignment
from triptych_pt import arrays

OFFLOADED = "offloaded.safetensors"
"""The file in `offload_folder`."""


@dataclass(frozen=True)
class Stored:
    """A weight that stays in its file, of dtype `dtype` in the model. Reading it takes no memory where the file is
    mapped and holds it in that dtype."""

    ref: TensorRef
    dtype: np.dtype

    def read(self) -> torch.Tensor:
        """Return its values; nothing may write into them."""
        array = self.ref.read()
        if array.dtype == self.dtype:
            will_need(array)
            return arrays.to_native(array)
        return arrays.to_native(array).to(arrays.native_dtype(self.dtype))


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
