"""Converting a checkpoint to a folder of safetensors, one tensor in memory at a time."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from triptych import layouts, strictjson
from triptych.checkpoint import config_pointer, is_gguf, open_checkpoint
from triptych.dtypes import FLOATING, parse_param_dtype
from triptych.errors import ArgumentError, ConfigError, MissingFileError
from triptych.gguf_file import open_gguf
from triptych.resolve import POINTER, local_folder
from triptych.safetensors_file import TensorRef
from triptych.saving import config_text, save_checkpoint


@dataclass(frozen=True)
class Conversion:
    """What is going to be written: references with canonical names in the new dtype, and the config."""

    destination: Path
    tensors: tuple[TensorRef, ...]
    config: dict[str, Any]

    @property
    def nbytes(self) -> int:
        return sum(ref.nbytes for ref in self.tensors)

    @property
    def num_parameters(self) -> int:
        return sum(math.prod(ref.shape) for ref in self.tensors)

    def run(
        self, max_shard_size: int | str = "5GB", advance: Callable[[int], None] = lambda nbytes: None
    ) -> list[Path]:
        """Write the destination in one atomic step and return its weight files.

        Args:
            advance: called after each tensor with its number of bytes as written.

        Raises:
            SaveError, ArgumentError, CorruptCheckpointError: the destination is then what it was before.
        """
        tensors = [_counted(ref, advance) for ref in self.tensors]
        return save_checkpoint(self.destination, tensors, config_text(self.config), max_shard_size=max_shard_size)


def prepare(source: Path, destination: Path, dtype: str = "auto") -> Conversion:
    """Open `source`, a GGUF file or a folder with weights, for conversion into the folder `destination`.

    Args:
        dtype: floating type of the result, "float32", "bfloat16", "float16"; "auto" keeps each tensor's own (quantised
            tensors become float32).

    Raises:
        ArgumentError: `destination` is `source`, or no such dtype.
        MissingFileError, ConfigError, CorruptCheckpointError and its subclasses, UnsupportedFormatError, LimitError,
        UnsafeCheckpointError: see `open_checkpoint` and `open_gguf`.
    """
    wanted = parse_param_dtype(dtype)
    _check_apart(source, destination)
    if is_gguf(source):
        file = open_gguf(source)
        tensors, config = file.tensors, file.config
    else:
        tensors, config = _open_folder(source)
    if wanted is None:
        return Conversion(destination, tuple(tensors.values()), config)
    key = "dtype" if "dtype" in config else "torch_dtype"
    return Conversion(destination, tuple(_cast(ref, wanted) for ref in tensors.values()), {**config, key: wanted.name})


def _check_apart(source: Path, destination: Path) -> None:
    if source.exists() and destination.exists() and source.samefile(destination):
        raise ArgumentError(
            "The destination is the source, which a conversion never changes.",
            expected="another folder",
            received=str(destination),
            remedy="name a new folder",
        )
    if source.is_file() and not is_gguf(source):
        raise ArgumentError("The source has no name of a format.", expected="*.gguf or a folder", received=str(source))


def _open_folder(source: Path) -> tuple[dict[str, TensorRef], dict[str, Any]]:
    file = local_folder(source) / "config.json"
    if not file.is_file():
        raise MissingFileError(f"{source} has no config.json.", remedy="a conversion needs it: put it there")
    config = strictjson.read(file, ConfigError)
    tensors = open_checkpoint(source, pointer=config_pointer(source))
    config.pop(POINTER, None)  # it names files of the source
    return dict(tensors), config


def _cast(ref: TensorRef, dtype: np.dtype) -> TensorRef:
    if ref.dtype not in FLOATING or ref.dtype == dtype:
        return ref

    def read() -> np.ndarray:
        array = ref.read()
        with np.errstate(over="ignore"):
            result = layouts.converted(array, dtype)
        if not np.isfinite(result).all() and (np.isfinite(array) & ~np.isfinite(result)).any():
            raise ArgumentError(
                f"Tensor {ref.name!r} has values that do not fit the new dtype.",
                received=f"dtype {dtype.name}",
                remedy="convert to bfloat16 or float32",
            )
        return result

    return dataclasses.replace(ref, dtype=dtype, read=read)


def _counted(ref: TensorRef, advance: Callable[[int], None]) -> TensorRef:
    def read() -> np.ndarray:
        array = ref.read()
        advance(ref.nbytes)
        return array

    return dataclasses.replace(ref, read=read)
