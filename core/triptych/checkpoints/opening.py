"""A checkpoint as a lazy mapping from tensor name to `TensorRef`, over one file or many shards."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from triptych.checkpoints.resolve import WeightFiles, find_weights, save_of_shard
from triptych.errors import ArgumentError, InconsistentCheckpointError, UnsupportedFormatError
from triptych.files.paths import local_folder
from triptych.formats.gguf.file import open_gguf
from triptych.formats.hdf5.file import without_scope
from triptych.formats.kinds import BIN, H5, LAYOUTS, MSGPACK, SAVE_ID, Format
from triptych.formats.opening import WeightFile, open_file
from triptych.tensors.ref import TensorRef

logger = logging.getLogger("triptych")
_OWNERS = {BIN.suffix: "pt", H5.suffix: "tf", MSGPACK.suffix: "flax"}
_FLAVOURS = ("pt", "tf", "flax")


class Checkpoint(Mapping[str, TensorRef]):
    """Tensors by the names in the files. Opening reads headers only; `checkpoint[name].read()` reads one tensor.

    `flavour` says whose names and layouts they have: "pt" (which are the canonical ones), "tf", "flax", or None where
    the files do not say. `triptych.checkpoints.naming` makes them canonical. `save_id` is that of the save that
    made all of the files, or None where they do not say.
    """

    def __init__(
        self,
        tensors: Mapping[str, TensorRef],
        metadata: Mapping[str, str],
        source: str,
        flavour: str | None = "pt",
        files: Sequence[Path] = (),
        save_id: str | None = None,
    ) -> None:
        self._tensors = dict(tensors)
        self.metadata = dict(metadata)
        self.source = source
        self.flavour = flavour
        self.files = tuple(files)
        self.save_id = save_id

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
    order: Sequence[Format] = LAYOUTS,
) -> Checkpoint:
    """Open the checkpoint in folder `path`, of any format, or a file `*.gguf`.

    Args:
        variant: read `model.<variant>.safetensors`, `pytorch_model.<variant>.bin`, ... and its shards.
        pointer: a file name from the config that goes before the usual ones; see `resolve.pointer_in`.
        mmap: map the files copy-on-write (default), or read each tensor into owned memory.
        order: the formats to look for, the one that wins first; see `formats.kinds.read_order`.

    Raises:
        MissingFileError, CorruptCheckpointError and its subclasses, UnsafeCheckpointError, LimitError,
        UnsupportedFormatError.
    """
    if is_gguf(path):
        if variant is not None or subfolder or pointer is not None:
            raise ArgumentError("A GGUF file has no variants, subfolders or pointers.", received=repr(path))
        file = open_gguf(Path(path))
        texts = {key: value for key, value in file.metadata.items() if isinstance(value, str)}
        return Checkpoint(file.tensors, texts, str(file.path), files=[file.path])
    found = find_weights(local_folder(path, subfolder), variant, pointer, order)
    files = {file.name: open_file(file, mmap) for file in found.files}
    first = files[found.files[0].name]
    flavour = _flavour(first)
    if found.index is None:
        _warn_of_index(found, first)
        save_id = first.metadata.get(SAVE_ID)
        return Checkpoint(first.tensors, first.metadata, str(first.path), flavour, found.files, save_id)
    tensors = _joined(found, files)
    save_id = _checked_save_id(found, files)
    _warn_of_size(found, tensors)
    return Checkpoint(tensors, first.metadata, str(found.index), flavour, [*found.files, found.index], save_id)


def _flavour(file: WeightFile) -> str | None:
    if file.path.suffix in _OWNERS:
        return _OWNERS[file.path.suffix]
    said = file.metadata.get("format")
    if said not in (None, "mlx", *_FLAVOURS):
        raise UnsupportedFormatError(
            f"{file.path} says that its tensors are of an unknown format.",
            expected=f"the metadata format to be {', '.join(_FLAVOURS)}, mlx, or not there",
            received=repr(said)[:80],
            remedy="if names and layouts are those of PyTorch, write the file again with metadata={'format': 'pt'}",
        )
    return said if said in _FLAVOURS else None


def is_gguf(path: object) -> bool:
    """Return whether `path` is a file by name (`*.gguf`), and not a folder that happens to be called so."""
    return isinstance(path, (str, os.PathLike)) and Path(path).suffix.lower() == ".gguf" and not Path(path).is_dir()


def _joined(found: WeightFiles, files: Mapping[str, WeightFile]) -> dict[str, TensorRef]:
    weight_map = _in_shards(found.weight_map or {}, files)
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


def _warn_of_size(found: WeightFiles, tensors: Mapping[str, TensorRef]) -> None:
    """Warn if the index says another size than its shards have; nothing depends on it."""
    said, is_there = (found.metadata or {}).get("total_size"), sum(ref.nbytes for ref in tensors.values())
    if said is not None and said != is_there:
        logger.warning("%s says that its tensors are of %.80r bytes; they are of %d", found.index, said, is_there)


def _warn_of_index(found: WeightFiles, single: WeightFile) -> None:
    """Warn of an index beside a single file that goes before it, unless a save left it that was killed."""
    index = single.path.with_name(f"{single.path.name}.index.json")
    if SAVE_ID not in single.metadata and index.is_file():
        logger.warning("%s is read, and not the shards that %s names: one of them is old", single.path, index.name)


def _in_shards(weight_map: Mapping[str, str], files: Mapping[str, WeightFile]) -> dict[str, str]:
    """Return `weight_map` by the names in the shards: TensorFlow's index has the model's scope before each."""
    return {name if name in files[s].tensors else without_scope(name): s for name, s in weight_map.items()}


def _checked_save_id(found: WeightFiles, files: Mapping[str, WeightFile]) -> str | None:
    """Return the id of the save that index and shards are of; a shard without metadata tells it by its name."""
    expected = (found.metadata or {}).get(SAVE_ID)
    ids: dict[str, str | None] = {name: file.metadata.get(SAVE_ID) for name, file in files.items()}
    if expected is not None:
        ids |= {name: save_of_shard(name) for name in ids if name.endswith(MSGPACK.suffix)}
    strangers = sorted(name for name, save in ids.items() if save != expected)
    if strangers:
        raise InconsistentCheckpointError(
            f"{found.index} is of one save and some of its shards are of another.",
            expected=f"save {expected}",
            received=", ".join(f"{name} of save {ids[name]}" for name in strangers[:4]),
            remedy="save the checkpoint again, or restore index and shards from one save",
        )
    return expected if isinstance(expected, str) else None


def opened_files(paths: Sequence[Path]) -> Checkpoint:
    """Return the tensors of weight files that the caller names, without index: one file, or the shards of one save.

    Raises:
        InconsistentCheckpointError: two files hold one name. What `open_checkpoint` raises of a file.
    """
    files = [open_file(path) for path in paths]
    tensors: dict[str, TensorRef] = {}
    for file in files:
        twice = tensors.keys() & file.tensors.keys()
        if twice:
            raise InconsistentCheckpointError(
                f"{file.path} holds what a file before it holds too.",
                expected="each tensor in one file",
                received=", ".join(sorted(twice)[:4]),
                remedy="pass the shards of one save",
            )
        tensors |= file.tensors
    source = ", ".join(str(path) for path in paths)
    return Checkpoint(tensors, files[0].metadata if files else {}, source, _flavour(files[0]) if files else "pt", paths)
