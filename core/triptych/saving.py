"""Saving a checkpoint as one step that cannot lose or mix what was there before.

New files are written in a staging folder, flushed and read back by header. They are then linked under names that are
not in use, and exactly one atomic rename or unlink makes them the checkpoint that readers find:

| before -> after                          | the committing operation                                              |
|------------------------------------------|-----------------------------------------------------------------------|
| anything -> single                       | rename onto `model.safetensors`                                       |
| shards or nothing -> shards              | rename onto `model.safetensors.index.json`                            |
| single -> shards                         | unlink of `model.safetensors`, which outranks it                      |
| nothing, or the same -> older format     | the same three, under the format's own names                          |
| these with a new config, any -> older    | rename onto `config.json`, which then names its weights: `roll_forward` |

An older format (`formats.OWN`) over another one has no commit of its own where there is no config.json, or with a
variant: each file that would go before the new ones is unlinked, and every reader finds the old weights or the new.

Only then the files that the old checkpoint named are deleted (`staging.settle`). A crash leaves the staging folder with
a list of what the save made and replaced; the next save removes those of them that no checkpoint names.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from triptych import staging, strictjson
from triptych.checkpoint import open_file
from triptych.errors import ArgumentError, ConfigError, SaveError, TriptychError
from triptych.formats import LAYOUTS, SAFETENSORS, Format
from triptych.resolve import POINTER
from triptych.safetensors_file import TensorRef, parse_size
from triptych.writing import SAVE_ID, name_in_index, write_weights


@dataclass(frozen=True)
class Shard:
    """The tensors of one file."""

    tensors: tuple[TensorRef, ...]

    @property
    def nbytes(self) -> int:
        return sum(ref.nbytes for ref in self.tensors)


def plan_shards(tensors: Iterable[TensorRef], max_shard_size: int | str) -> tuple[Shard, ...]:
    """Split `tensors`, in order, into shards of at most `max_shard_size` bytes.

    A tensor that is larger than the limit gets a shard of its own. Without tensors there is one empty shard.
    """
    limit = parse_size(max_shard_size)
    shards: list[list[TensorRef]] = [[]]
    used = 0
    for ref in tensors:
        if shards[-1] and used + ref.nbytes > limit:
            shards.append([])
            used = 0
        shards[-1].append(ref)
        used += ref.nbytes
    return tuple(Shard(tuple(shard)) for shard in shards)


def save_checkpoint(
    folder: str | os.PathLike[str],
    tensors: Iterable[TensorRef],
    config: str | None = None,
    *,
    max_shard_size: int | str = "5GB",
    variant: str | None = None,
    format: Format = SAFETENSORS,
    scope: str = "",
    beside: Mapping[str, bytes] | None = None,
) -> list[Path]:
    """Make `tensors` and `config` (text of config.json) the checkpoint in `folder`.

    The tensors have the names and layouts of the format's flavour, which are the canonical ones for safetensors; see
    `naming.stored`. `scope` is that of the variables in TensorFlow's formats, see `legacy.tf_scope`. `beside` are other
    files by name, such as a class's code, each replaced atomically just before the checkpoint is.

    Returns the weight files written, the index last if there is one. Tensors are read one at a time; memory beyond them
    does not grow with the checkpoint.

    Raises:
        SaveError: the folder is a file, is not writable, the disk is full, ...: what was there before still loads.
        ArgumentError, ConfigError, UnsupportedFormatError: before anything is written.
    """
    if not isinstance(folder, (str, os.PathLike)) or not os.fspath(folder):
        raise ArgumentError(
            "save_directory is no path.", expected="the path of a folder", received=repr(folder), remedy="pass a folder"
        )
    target = Path(folder)
    shards = plan_shards(tensors, max_shard_size)
    if config is not None:
        strictjson.parse(config.encode(), "The config to save", ConfigError)
    format.names(variant)  # refuses a bad variant before anything is written
    try:
        target.mkdir(parents=True, exist_ok=True)
        save = _Save(target, secrets.token_hex(4), variant, format, scope)
        with staging.area(target, save.id) as area:
            save.write(area, shards)
            with staging.locked(target):
                roll_forward(target)  # before collecting: what a pointer outranks is garbage only afterwards
                staging.collect(target)
                for name, data in (beside or {}).items():
                    write_atomically(target / name, data)
                try:
                    return save.publish(area, config)
                finally:
                    staging.settle(target, area.path)
    except TriptychError:
        raise
    except OSError as cause:
        error = SaveError(
            f"{target} could not be saved.",
            received=str(cause),
            remedy="see the cause; the folder is whole: it holds the old checkpoint, or the new one if all but its "
            "tidying was done",
        )
        error.errno = cause.errno
        raise error from cause


class _Save:
    def __init__(self, folder: Path, save_id: str, variant: str | None, format: Format, scope: str) -> None:
        self.folder, self.id, self.variant, self.format, self.scope = folder, save_id, variant, format, scope
        self.single, self.index = format.names(variant)
        self.stem = self.single.removesuffix(format.suffix)
        self.shards: Sequence[Shard] = ()

    def write(self, area: staging.Area, shards: Sequence[Shard]) -> None:
        """Write every shard into the staging folder, flush it, and read it back by header."""
        self.shards = shards
        for number, shard in enumerate(shards):
            file = area.path / f"{number}{self.format.suffix}"
            with file.open("x+b") as stream:
                write_weights(stream, shard.tensors, self.format, self.scope, self.id, alone=len(shards) == 1)
                flush(stream)
            _verify(file, shard)

    def publish(self, area: staging.Area, config: str | None) -> list[Path]:
        old = staging.named_files(self.folder, self.variant)
        new_config = config is not None and _differs(self.folder / "config.json", config)
        pointed = self._config_to_point_with(config) if old and (new_config or self._outranking()) else None
        names = self._free_names(pointed is not None)
        area.record(creates=[*names, self.generation_index, self.index, self.single], supersedes=old)
        staged = [area.path / f"{number}{self.format.suffix}" for number in range(len(names))]
        if new_config and not old:
            write_atomically(self.folder / "config.json", (config or "").encode())
        if len(names) == 1 and pointed is None:
            flush_folder(area.path)
            os.replace(staged[0], self.folder / self.single)  # the commit, unless other files outrank it
        else:
            for file, name in zip(staged, names, strict=True):
                staging.link(file, self.folder / name)
            flush_folder(self.folder)
            self._commit_named(names, pointed)
        if pointed is None:
            for name in self._outranking():
                (self.folder / name).unlink()  # the last of them is the commit then
        flush_folder(self.folder)
        if new_config and old and pointed is None:
            write_atomically(self.folder / "config.json", (config or "").encode())
        return [self.folder / name for name in ([*names, self.index] if len(names) > 1 else [self.single])]

    @property
    def generation_index(self) -> str:
        return f"{self.stem}.g{self.id}{self.format.suffix}.index.json"

    def _config_to_point_with(self, config: str | None) -> str | None:
        """Return the text of the config that is to name the weights; None where no config can."""
        file = self.folder / "config.json"
        if self.variant is not None or (config is None and not file.is_file()):
            return None
        return file.read_text() if config is None else config

    def _outranking(self) -> list[str]:
        """Return the existing files that readers would take for the weights instead, those they take first last."""
        heads = [name for format in LAYOUTS for name in format.names(self.variant)]
        own = self.single if len(self.shards) == 1 else self.index
        older = self.format.suffix != SAFETENSORS.suffix
        others = [name for name in heads if name != own] if older else heads[: heads.index(own)]
        return [name for name in reversed(others) if os.path.lexists(self.folder / name)]

    def _free_names(self, by_pointer: bool) -> list[str]:
        count, suffix = len(self.shards), self.format.suffix
        if count == 1:
            return [f"{self.stem}.g{self.id}{suffix}" if by_pointer else self.single]
        plain = [f"{self.stem}-{k:05d}-of-{count:05d}{suffix}" for k in range(1, count + 1)]
        if not any(os.path.lexists(self.folder / name) for name in plain):
            return plain
        return [name.replace(self.stem, f"{self.stem}.g{self.id}", 1) for name in plain]

    def _commit_named(self, names: list[str], pointed: str | None) -> None:
        """Write the index of the shards `names`, or the config `pointed` with a pointer to the weights."""
        index = self._index_text(names).encode()
        if pointed is None:
            write_atomically(self.folder / self.index, index)  # the commit, unless other files outrank it
            return
        target = names[0] if len(names) == 1 else self.generation_index
        if len(names) > 1:
            write_atomically(self.folder / target, index)
        text = config_text({**json.loads(pointed), POINTER: target})
        write_atomically(self.folder / "config.json", text.encode())  # the commit
        roll_forward(self.folder)

    def _index_text(self, names: list[str]) -> str:
        weight_map = {
            name_in_index(ref.name, self.format, self.scope): file
            for file, shard in zip(names, self.shards, strict=True)
            for ref in shard.tensors
        }
        metadata: dict[str, object] = {"total_size": sum(shard.nbytes for shard in self.shards)}
        metadata["total_parameters"] = sum(r.nbytes // r.dtype.itemsize for s in self.shards for r in s.tensors)
        metadata |= {SAVE_ID: self.id} if self.format.has_metadata else {}
        return json.dumps({"metadata": metadata, "weight_map": weight_map}, indent=2, sort_keys=True) + "\n"


def roll_forward(folder: Path) -> None:
    """Finish a save that was committed by the config's pointer: move the weights to their usual names.

    Every state on the way loads the same weights; killed anywhere, it can be run again. Does nothing when the config
    points nowhere, or at a file that triptych did not make.
    """
    file = folder / "config.json"
    target = staging.own_pointer(folder)
    if target is None:
        return
    format = next(format for format in LAYOUTS if target.startswith(f"{format.stem}.g"))
    if target.endswith(".json"):
        write_atomically(folder / format.index, (folder / target).read_bytes())
        (folder / format.single).unlink(missing_ok=True)
    else:
        with _twin(folder / target) as twin:
            os.replace(twin, folder / format.single)
    for name in (name for other in LAYOUTS if other is not format for name in other.names()):
        (folder / name).unlink(missing_ok=True)
    flush_folder(folder)
    config = json.loads(file.read_bytes())
    del config[POINTER]
    write_atomically(file, config_text(config).encode())
    (folder / target).unlink()


@contextmanager
def _twin(file: Path) -> Iterator[Path]:
    """Yield a second name of `file`: a hard link, or a copy where the file system has none."""
    twin = file.with_name(f"{file.name}{staging.TEMPORARY}")
    twin.unlink(missing_ok=True)
    try:
        os.link(file, twin)
    except OSError:
        shutil.copyfile(file, twin)
        with twin.open("rb") as stream:
            flush(stream)
    try:
        yield twin
    finally:
        twin.unlink(missing_ok=True)


def config_text(values: dict[str, object]) -> str:
    """Return the text of a config.json: sorted keys, indent 2, one newline at the end."""
    return json.dumps(values, indent=2, sort_keys=True) + "\n"


def write_atomically(file: Path, data: bytes) -> None:
    """Replace `file` by `data` in one rename; a reader sees the old or the new contents, never a part."""
    temporary = file.with_name(f"{file.name}.{secrets.token_hex(4)}{staging.TEMPORARY}")
    try:
        with temporary.open("xb") as stream:
            stream.write(data)
            flush(stream)
        os.replace(temporary, file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush_folder(file.parent)


def flush(stream: BinaryIO) -> None:
    """Write an open file through to the disk: Python's own buffer first."""
    stream.flush()
    os.fsync(stream.fileno())


def flush_folder(folder: Path) -> None:
    """Write the names in `folder` through to the disk, where the system can (Windows cannot)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _verify(file: Path, shard: Shard) -> None:
    read = {ref.name: (ref.dtype, ref.shape) for ref in open_file(file).tensors.values()}
    meant = {ref.name: (ref.dtype.newbyteorder("="), ref.shape) for ref in shard.tensors}
    if read != meant:
        raise SaveError(f"{file} does not read back as it was written.", remedy="check the disk and save again")


def _differs(file: Path, text: str) -> bool:
    return not file.is_file() or file.read_bytes() != text.encode()
