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

A config is new if it differs in more than the id of its save; that one is put in by a rename of its own, afterwards. An
older format (`formats.OWN`) over another one has no commit of its own where there is no config.json, or with a variant:
each file that would go before the new ones is taken out of the way, and every reader finds the old weights or the new.

Only then the files that the old checkpoint of the same format named are deleted (`staging.settle`). Weights of other
formats stay, unless some reader would take them in place of the new ones; see `beside`. A crash leaves the staging
folder with a list of what the save made and replaced; the next save removes those of them that no checkpoint names.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from triptych.checkpoints import beside, staging
from triptych.checkpoints.manifest import HashedStream, Recorder, current, manifest_name, outdate, text_of
from triptych.checkpoints.resolve import OF_A_FOLDER, POINTER, VARIANT_POINTER, Pointer, own_pointer, rivals
from triptych.checkpoints.sharding import Shard, conventional_names, plan_shards, with_free_names
from triptych.checkpoints.sharding import parse_size as parse_size
from triptych.checkpoints.staging import Area
from triptych.checkpoints.writing import name_in_index, write_weights
from triptych.errors import ArgumentError, SaveError, TriptychError, UnreadableFileError
from triptych.files.atomic import Access, create, flush, flush_folder
from triptych.files.json import json_text, parse_config, read_config
from triptych.files.paths import CONFIG_NAME, local_folder, path_of
from triptych.formats.kinds import LAYOUTS, SAFETENSORS, SAVE_ID, Format, refuse_reserved
from triptych.formats.opening import open_file
from triptych.tensors.ref import TensorRef


def save_checkpoint(
    folder: str | os.PathLike[str],
    tensors: Iterable[TensorRef],
    config: str | None = None,
    *,
    max_shard_size: int | str = "5GB",
    variant: str | None = None,
    format: Format = SAFETENSORS,
    scope: str = "",
    also: Mapping[str, bytes] | None = None,
    remove_stale: bool = False,
    writer: Callable[[Sequence[TensorRef], Path], None] | None = None,
    manifest: bool = False,
) -> list[Path]:
    """Make `tensors` and `config` (text of config.json) the checkpoint in `folder`.

    The tensors have the names and layouts of the format's flavour, which are the canonical ones for safetensors; see
    `naming.stored`. `scope` is that of the variables in TensorFlow's formats, see `legacy.tf_scope`. `also` are other
    files by name, such as a class's code, each replaced atomically just before the checkpoint is.

    Weights of the same variant and format are replaced. Those of other formats stay, unless some reader would take them
    in place of the new ones: then, what a save of triptych wrote is deleted, and anything else gets another name
    (`beside.clear`). `remove_stale` deletes all of them.

    `writer` writes the tensors of one file to a path, where that exists already, empty; it is then read back like any
    other. Files that it writes do not say of which save they are, so the index does not either.

    `manifest` records the SHA-256 of each file and tensor beside them, in triptych_manifest.json, or for a variant in
    triptych_manifest.<variant>.json, which changes with the weights; without it the one of the weights that are
    replaced goes. See `triptych.checkpoints.manifest`.

    A file may be read by those who could read the one that it replaces; weights by those who could read all weights
    that they replace.

    Returns the weight files written, the index last if there is one. Tensors are read one at a time; memory beyond them
    does not grow with the checkpoint.

    Raises:
        SaveError: the folder is a file, is not writable, the disk is full, ...: what was there before still loads.
        ArgumentError, ConfigError, UnsupportedFormatError: before anything is written.
    """
    target = path_of(folder, "save_directory", "folder")
    if not isinstance(manifest, bool):
        raise ArgumentError("manifest is neither True nor False.", received=repr(manifest)[:80])
    recorder = Recorder() if manifest else None
    shards = plan_shards(tensors if recorder is None else recorder.watched(tensors), max_shard_size)
    values = None if config is None else parse_config(config.encode(), "The config to save")
    format.names(variant)  # refuses a bad variant before anything is written
    refuse_reserved(variant)
    with ExitStack() as ends, _saving(target) as area:
        if recorder is not None:
            ends.enter_context(recorder)
        _refuse_strange(
            target, [*format.names(variant), CONFIG_NAME, *[manifest_name(variant)] * manifest, *(also or {})]
        )
        shards = with_free_names(target, shards, format, variant)
        save = _Save(area, shards, values, variant, format, scope, remove_stale, writer, recorder, also or {})
        save.write()
        with staging.locked(target):
            roll_forward(area)  # before collecting: what a pointer outranks is garbage only afterwards
            staging.collect(area)
            for name, data in (also or {}).items():
                area.put(name, data)
            try:
                files = save.publish()
                outdate(target, save.others, area.put, variant=variant, committed=area.id)
                return files
            except BaseException:
                with suppress(OSError, TriptychError):
                    roll_forward(area)  # what is committed is finished if it can be, and not left to the next save
                    outdate(target, {}, area.put)
                raise
            finally:
                staging.settle(target, area.path)


def save_config(folder: str | os.PathLike[str], config: str, also: Mapping[str, bytes] | None = None) -> None:
    """Make `config` the config of the checkpoint in `folder`, in one step; its weights stay what they are. A manifest
    that records another config goes.

    A save that was killed after its commit is finished first: its config.json is what names its weights.

    Args:
        also: other files by name, each replaced atomically just before.

    Raises:
        SaveError: the folder is a file, is not writable, the disk is full, ...: what was there before is still there.
        ArgumentError, ConfigError: before anything is written.
    """
    target = path_of(folder, "save_directory", "folder")
    values = parse_config(config.encode(), "The config to save")
    with _saving(target) as area, staging.locked(target):
        _refuse_strange(target, [CONFIG_NAME, *(also or {})])
        roll_forward(area)
        before = _values(target / CONFIG_NAME) or {}
        kept = {key: before[key] for key in OF_A_FOLDER if key in before}
        text = json_text(_of_the_model(values) | kept).encode()
        outdate(target, {CONFIG_NAME: text, **(also or {})}, area.put)
        for name, data in (also or {}).items():
            area.put(name, data)
        area.put(CONFIG_NAME, text)
        flush_folder(target)


def collect_garbage(folder: str | os.PathLike[str]) -> list[str]:
    """Remove what saves that were killed have left in `folder`, and finish one that had committed; return the names of
    what is gone.

    The next save does the same, but for weights whose names say that a save gave them, and that no checkpoint names:
    those of the last hour may be of a save that runs, and stay.

    Raises:
        MissingFileError: there is no such folder. SaveError: it is not writable, ...
    """
    target = local_folder(folder)
    before = set(os.listdir(target))
    with _saving(target) as area, staging.locked(target):
        roll_forward(area)
        staging.collect(area)
        staging.remove_orphans(target)
        outdate(target, {}, area.put)
    return sorted(before - set(os.listdir(target)))


@contextmanager
def _saving(folder: Path) -> Iterator[Area]:
    """Make `folder` and a staging folder in it; whatever the system refuses is a `SaveError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with staging.area(folder) as area:
            yield area
    except OSError as cause:
        if isinstance(cause, TriptychError) and not isinstance(cause, UnreadableFileError):
            raise
        error = SaveError(
            f"{folder} could not be saved.",
            received=str(cause),
            remedy="see the cause; the folder is whole: it holds the old checkpoint, or the new one if all but its "
            "tidying was done",
        )
        error.errno = cause.errno
        raise error from cause


def _refuse_strange(folder: Path, names: Iterable[str]) -> None:
    """Raise `OSError` if anything but a file, or a link in the place of one, has a name that is to be given away."""
    for file in (folder / name for name in names):
        with suppress(FileNotFoundError):
            mode = file.lstat().st_mode
            if stat.S_ISDIR(mode):
                raise IsADirectoryError(errno.EISDIR, "There is a folder in the place of a file", str(file))
            if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
                raise FileExistsError(errno.EEXIST, "There is something else in the place of a file", str(file))


class _Save:
    def __init__(
        self,
        area: Area,
        shards: Sequence[Shard],
        config: dict[str, Any] | None,
        variant: str | None,
        format: Format,
        scope: str,
        remove_stale: bool,
        writer: Callable[[Sequence[TensorRef], Path], None] | None,
        recorder: Recorder | None,
        also: Mapping[str, bytes],
    ) -> None:
        self.area, self.folder, self.shards = area, area.folder, shards
        self.config = None if config is None else _of_the_model(config) | {SAVE_ID: area.id}
        self.variant, self.format, self.scope, self.remove_stale = variant, format, scope, remove_stale
        self.writer, self.recorder = writer, recorder
        self.others = dict(also)
        if self.config is not None:
            self.others[CONFIG_NAME] = json_text(self.config).encode()
        self.single, self.index = format.names(variant)
        self.stem = self.single.removesuffix(format.suffix)
        self.staged = [area.path / f"{number}{format.suffix}" for number in range(len(shards))]
        self.access = Access()
        self.usual_names = format.has_metadata

    def write(self) -> None:
        """Write every shard into the staging folder, flush it, and read it back by header."""
        self.access = Access.like(self.folder / name for name in staging.named_files(self.folder, self.variant))
        for file, shard in zip(self.staged, self.shards, strict=True):
            hashed = None
            with create(file, self.access) as stream:
                if self.writer is None:
                    alone, target = len(self.shards) == 1, stream
                    if self.recorder is not None:
                        target = hashed = HashedStream(stream)  # type: ignore[assignment]
                    write_weights(target, shard.tensors, self.format, self.scope, self.area.id, alone)
                    flush(stream)
            if self.writer is not None:
                self.writer(shard.tensors, file)
                with file.open("rb+") as stream:
                    flush(stream)
            _verify(file, shard)
            if self.recorder is not None:
                self.recorder.written(file, hashed)

    def publish(self) -> list[Path]:
        """Give the staged files their names; return those of the weights.

        Where locks do not work, another save may take the usual names of the shards first.
        """
        try:
            return self._publish()
        except FileExistsError:
            self.usual_names = False
            return self._publish()

    def _publish(self) -> list[Path]:
        """Stage everything that is left to write, then rename."""
        old = staging.named_files(self.folder, self.variant)
        replaced = beside.replaced(self.folder, self.format, self.variant, self._rivals(), self.remove_stale)
        before = _values(self.folder / CONFIG_NAME)
        new_config = self.config is not None and _of_the_model(self.config) != _of_the_model(before or {})
        config = before if self.config is None else self.config
        pointing = bool(old) and (new_config or (self._outranked() and self.variant is None))
        names = self._names(pointing and config is not None)
        if len(names) > 1:
            self.area.stage("index.json", self._index_text(names).encode(), self.access)
        self._record(names, replaced)
        if self.recorder is not None:
            self._put_manifest(names, self.recorder)
        if pointing and config is not None:
            self._commit_by_config(names, config)
        else:
            self._commit_by_name(names, first=not old and POINTER not in (before or {}))
        if self.remove_stale:
            self._clear(beside.other_heads(self.format, self.variant))
        return [self.folder / name for name in ([*names, self.index] if len(names) > 1 else [self.single])]

    def _record(self, names: list[str], replaced: list[str]) -> None:
        creates = dict(zip(names, self.staged, strict=True))
        if len(names) > 1:
            index = self.area.path / "index.json"
            creates |= {self.index: index, self._own_name(self.index): index}
        else:
            creates[self.single] = self.staged[0]
        self.area.record(creates, replaced)

    def _put_manifest(self, names: list[str], recorder: Recorder) -> None:
        """Put the manifest where it is looked for: it says what is there now, too, until that is replaced."""
        staged = dict(zip(names if len(names) > 1 else [self.single], self.staged, strict=True))
        index = {self.index: self._index_text(names).encode()} if len(names) > 1 else {}
        tensors = [ref for shard in self.shards for ref in shard.tensors]
        head, flavour, others = next(iter(index), self.single), self.format.flavour, {**index, **self.others}
        entry = recorder.entry(self.area.id, head, flavour, staged, tensors, others)
        there = [one for one in current(self.folder, self.variant, {}) if one.save != entry.save]
        self.area.put(manifest_name(self.variant), text_of([entry, *there]))

    def _own_name(self, name: str) -> str:
        """Return a name of this save alone, in place of that of the single file or the index."""
        own = f"{self.stem}.g{self.area.id}{self.format.suffix}"
        return own if name == self.single else f"{own}.index.json"

    def _rivals(self) -> list[str]:
        """Return the existing files that some reader would take for the weights in place of the new ones."""
        names = rivals(self.format, self.variant, len(self.shards) > 1)
        files = ((name, self.folder / name) for name in names)
        return [name for name, file in files if os.path.lexists(file) and not os.path.isdir(file)]

    def _outranked(self) -> bool:
        """Return whether triptych would take another file for the weights while the new ones are there."""
        older = self.format.suffix != SAFETENSORS.suffix
        return any(older or name == self.single for name in self._rivals())

    def _clear(self, names: Iterable[str]) -> None:
        beside.clear(self.folder, names, self.format, self.variant, self.remove_stale)

    def _names(self, pointing: bool) -> list[str]:
        if len(self.shards) == 1:
            return [self._own_name(self.single) if pointing else self.single]
        plain = conventional_names(len(self.shards), self.format, self.variant)
        if self.usual_names and not any(os.path.lexists(self.folder / name) for name in plain):
            return plain
        return [name.replace(self.stem, f"{self.stem}.g{self.area.id}", 1) for name in plain]

    def _commit_by_name(self, names: list[str], first: bool) -> None:
        """Put single file or index under its usual name, and the config after it, or before it if it is to be `first`:
        where there are no weights that it would not fit."""
        config = None
        if self.config is not None:
            config = self._stage_config("config.json", self.config)
        if config is not None and first:
            os.replace(config, self.folder / CONFIG_NAME)
        if len(names) == 1:
            flush_folder(self.area.path)
            os.replace(self.staged[0], self.folder / self.single)  # the commit, unless other files outrank it
        else:
            self._link_shards(names)
            os.replace(self.area.path / "index.json", self.folder / self.index)  # the same
        self._clear(self._rivals())  # if they outrank it, the last of them is the commit
        flush_folder(self.folder)
        if config is not None and not first:
            os.replace(config, self.folder / CONFIG_NAME)
            flush_folder(self.folder)

    def _commit_by_config(self, names: list[str], config: Mapping[str, Any]) -> None:
        """Let config.json name the weights, and then give these their usual names; see `roll_forward`."""
        usual = self.single if len(names) == 1 else self.index
        layout = next(format for format in LAYOUTS if format.suffix == self.format.suffix)  # as it is read back
        pointer = Pointer(self._own_name(usual), layout, self.variant)
        if len(names) > 1:
            self._link_shards(names)
        head = self.staged[0] if len(names) == 1 else self.area.path / "index.json"
        staging.link(head, self.folder / pointer.target)
        twin = self.area.twin(self.folder / pointer.target)
        plain = _of_the_model(config) | {SAVE_ID: self.area.id}
        key: dict[str, Any] = {POINTER: pointer.target}
        if self.variant is not None:
            key = {VARIANT_POINTER: {self.variant: pointer.target}}
        pointing, final = self._stage_config("pointing.json", plain | key), self._stage_config("config.json", plain)
        flush_folder(self.folder)
        os.replace(pointing, self.folder / CONFIG_NAME)  # the commit
        _finish(self.folder, pointer, twin, final, self.remove_stale)

    def _stage_config(self, name: str, values: Mapping[str, Any]) -> Path:
        file = self.folder / CONFIG_NAME
        access = Access.like([file]) if file.is_file() else self.access
        return self.area.stage(name, json_text(values).encode(), access)

    def _link_shards(self, names: list[str]) -> None:
        linked: list[tuple[Path, Path]] = []
        try:
            for file, name in zip(self.staged, names, strict=True):
                staging.link(file, self.folder / name)
                linked.append((file, self.folder / name))
        except FileExistsError:
            for file, final in linked:
                os.replace(final, file)
                final.unlink(missing_ok=True)  # a rename onto another name of the same file does nothing
            raise
        flush_folder(self.folder)

    def _index_text(self, names: list[str]) -> str:
        weight_map = {
            name_in_index(ref.name, self.format, self.scope): file
            for file, shard in zip(names, self.shards, strict=True)
            for ref in shard.tensors
        }
        metadata: dict[str, object] = {"total_size": sum(shard.nbytes for shard in self.shards)}
        metadata["total_parameters"] = sum(r.nbytes // r.dtype.itemsize for s in self.shards for r in s.tensors)
        if self.writer is None:
            metadata[SAVE_ID] = self.area.id
        return json_text({"metadata": metadata, "weight_map": weight_map})


def roll_forward(area: Area) -> None:
    """Finish a save that was committed by the config's pointer: move the weights to their usual names.

    Every state on the way loads the same weights; killed anywhere, it can be run again. Does nothing when the config
    points nowhere, or at a file that triptych did not make.
    """
    config = area.folder / CONFIG_NAME
    values = _values(config) or {}
    pointer = own_pointer(values)
    if pointer is None or not (area.folder / pointer.target).is_file():
        return
    values = {key: value for key, value in values.items() if key not in (POINTER, VARIANT_POINTER)}
    final = area.stage("rolled.json", json_text(values).encode(), Access.like([config]))
    _finish(area.folder, pointer, area.twin(area.folder / pointer.target), final)


def _finish(folder: Path, pointer: Pointer, twin: Path, config: Path, remove_stale: bool = False) -> None:
    """Rename the weights' second name `twin` to the usual one and put in the `config` without pointer."""
    os.replace(twin, folder / pointer.final)
    beside.clear(folder, pointer.outranked, pointer.format, pointer.variant, remove_stale)
    flush_folder(folder)
    if staging.pending(folder) != pointer:  # locks do not work here, and another save has committed
        return
    os.replace(config, folder / CONFIG_NAME)
    flush_folder(folder)
    (folder / pointer.target).unlink(missing_ok=True)


def _values(config: Path) -> dict[str, Any] | None:
    """Return what the existing `config` says; None if there is none, or a damaged one.

    Raises:
        UnreadableFileError: the system refuses to tell.
    """
    try:
        return read_config(config)
    except UnreadableFileError:
        raise
    except TriptychError:
        return None


def _of_the_model(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in OF_A_FOLDER}


def _verify(file: Path, shard: Shard) -> None:
    """Raise `SaveError` unless the reader, and for safetensors the format's own parser, finds what was meant."""
    remedy = "check the disk and save again"
    try:
        read = {ref.name: (ref.dtype, ref.shape) for ref in open_file(file).tensors.values()}
    except TriptychError as cause:
        error = SaveError(f"{file} cannot be read back.", received=str(cause), remedy=remedy)
        error.errno = cause.errno if isinstance(cause, OSError) else None
        raise error from cause
    meant = {ref.name: (ref.dtype.newbyteorder("="), ref.shape) for ref in shard.tensors}
    if read != meant:
        raise SaveError(f"{file} does not read back as it was written.", remedy=remedy)
