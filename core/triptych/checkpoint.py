"""A checkpoint as a lazy mapping from tensor name to `TensorRef`, over one file or many shards."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from triptych import strictjson
from triptych.errors import ArgumentError, ConfigError, InconsistentCheckpointError
from triptych.gguf_file import open_gguf
from triptych.resolve import POINTER, WeightFiles, find_weights, local_folder
from triptych.safetensors_file import SafetensorsFile, TensorRef, open_safetensors
from triptych.torch_file import TorchFile, open_torch

SAVE_ID = "triptych_save_id"
"""Metadata key: the same value stands in every shard and in the index of one save."""


class Checkpoint(Mapping[str, TensorRef]):
    """Tensors by the names in the files. Opening reads headers only; `checkpoint[name].read()` reads one tensor."""

    def __init__(self, tensors: Mapping[str, TensorRef], metadata: Mapping[str, str], source: str) -> None:
        self._tensors = dict(tensors)
        self.metadata = dict(metadata)
        self.source = source

    def __getitem__(self, name: str) -> TensorRef:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    @property
    def nbytes(self) -> int:
        return sum(ref.nbytes for ref in self._tensors.values())


def open_checkpoint(
    path: str | os.PathLike[str],
    *,
    variant: str | None = None,
    subfolder: str = "",
    pointer: object = None,
    mmap: bool = True,
) -> Checkpoint:
    """Open the checkpoint in folder `path`, of safetensors or of PyTorch's `.bin` files, or a file `*.gguf`.

    Args:
        variant: read `model.<variant>.safetensors`, or `pytorch_model.<variant>.bin`, and its shards.
        pointer: a file name from the config that goes before the usual ones.
        mmap: map the files copy-on-write (default), or read each tensor into owned memory.

    Raises:
        MissingFileError, CorruptCheckpointError and its subclasses, UnsafeCheckpointError, LimitError,
        UnsupportedFormatError.
    """
    if is_gguf(path):
        if variant is not None or subfolder or pointer is not None:
            raise ArgumentError("A GGUF file has no variants, subfolders or pointers.", received=repr(path))
        file = open_gguf(Path(path))
        texts = {key: value for key, value in file.metadata.items() if isinstance(value, str)}
        return Checkpoint(file.tensors, texts, str(file.path))
    found = find_weights(local_folder(path, subfolder), variant, pointer)
    files = {file.name: _open_file(file, mmap) for file in found.files}
    if found.index is None:
        only = files[found.files[0].name]
        return Checkpoint(only.tensors, only.metadata, str(only.path))
    tensors = _joined(found, files)
    _check_save_ids(found, files)
    return Checkpoint(tensors, files[found.files[0].name].metadata, str(found.index))


def _open_file(path: Path, mmap: bool) -> SafetensorsFile | TorchFile:
    return open_torch(path, mmap) if path.suffix == ".bin" else open_safetensors(path, mmap)


def is_gguf(path: object) -> bool:
    """Return whether `path` is a file by name (`*.gguf`), and not a folder that happens to be called so."""
    return isinstance(path, (str, os.PathLike)) and Path(path).suffix.lower() == ".gguf" and not Path(path).is_dir()


def _joined(found: WeightFiles, files: Mapping[str, SafetensorsFile | TorchFile]) -> dict[str, TensorRef]:
    weight_map = found.weight_map or {}
    wrong = [name for name, shard in weight_map.items() if name not in files[shard].tensors]
    ghosts = [name for shard in files.values() for name in shard.tensors if name not in weight_map]
    twice = [n for shard, file in files.items() for n in file.tensors if weight_map.get(n, shard) != shard]
    if wrong or ghosts or twice:
        raise InconsistentCheckpointError(
            f"{found.index} and its shards disagree.",
            expected="each tensor once, in the shard that the index names",
            received=f"not in their shard {wrong[:4]}, not in the index {ghosts[:4]}, in another shard {twice[:4]}",
            remedy="save the checkpoint again; these files are of different saves or were edited",
        )
    return {name: files[shard].tensors[name] for name, shard in weight_map.items()}


def _check_save_ids(found: WeightFiles, files: Mapping[str, SafetensorsFile | TorchFile]) -> None:
    ids: dict[str, str | None] = {name: file.metadata.get(SAVE_ID) for name, file in files.items()}
    expected = (found.metadata or {}).get(SAVE_ID)
    strangers = sorted(name for name, save in ids.items() if save != expected)
    if strangers:
        raise InconsistentCheckpointError(
            f"{found.index} is of one save and some of its shards are of another.",
            expected=f"save {expected}",
            received=", ".join(f"{name} of save {ids[name]}" for name in strangers[:4]),
            remedy="save the checkpoint again, or restore index and shards from one save",
        )


def config_pointer(folder: Path) -> object:
    """Return what `config.json` in `folder` says about where the weights are, or None."""
    file = folder / "config.json"
    return strictjson.read(file, ConfigError).get(POINTER) if file.is_file() else None
