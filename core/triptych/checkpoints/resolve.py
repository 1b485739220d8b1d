"""Which files of a folder are the weights. Nothing here opens a weight file or the network."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.errors import (
    CorruptCheckpointError,
    MissingFileError,
    TriptychError,
    UnsupportedFormatError,
)
from triptych.files.json import read_json
from triptych.files.paths import CONFIG_NAME, check_inside, regular_inside, safe_name, tensorflow_1
from triptych.files.regular import unreadable
from triptych.formats.kinds import LAYOUTS, MSGPACK, SAFETENSORS, SAVE_ID, WEIGHT_SUFFIXES, Format

POINTER = "transformers_weights"
"""The config key by which transformers 4.57 and 5, and triptych, find weights under another name."""

VARIANT_POINTER = "triptych_variant_weights"
"""The config key by which triptych finds the weights of a variant, for the moment of their commit: {variant: file}."""

OF_A_FOLDER = (SAVE_ID, POINTER, VARIANT_POINTER)
"""The keys of config.json that are about the files beside it, and not about the model."""

_VARIANT = r"(?:\.(?P<variant>[A-Za-z0-9_-]{1,64}))?"
_KINDS = [
    (re.compile(rf"{format.stem}{_VARIANT}\.g(?P<save>[0-9a-f]{{8}})\{format.suffix}(?P<index>\.index\.json)?"), format)
    for format in LAYOUTS
]
_SHARD = re.compile(r".*\.g([0-9a-f]{8})-\d{5}-of-\d{5}\.[a-z0-9]+")


@dataclass(frozen=True)
class Pointer:
    """The weights that a config.json names, where a triptych save made them: a file of its own, or its index.

    - `final`: the usual name of `target`, which it gets when the save is finished.
    """

    target: str
    format: Format
    variant: str | None

    @property
    def final(self) -> str:
        return self.format.names(self.variant)[self.target.endswith(".json")]

    @property
    def outranked(self) -> list[str]:
        """The files that readers could take for the weights instead, once `final` is there."""
        return rivals(self.format, self.variant, self.final.endswith(".json"))


def rivals(format: Format, variant: str | None, sharded: bool) -> list[str]:
    """Return the files that some reader would take for the weights of `variant` in place of a single file of `format`,
    or of an index if it is `sharded`; those that go before the most of all come last.

    Safetensors go before everything, for every reader but the Flax classes of transformers 4, which take msgpack first.
    Each older format is behind all others for some framework. A single file goes before its index.
    """
    single, index = format.names(variant)
    if format.suffix == SAFETENSORS.suffix:
        return [single] * sharded + list(reversed(MSGPACK.names(variant)))
    heads = [name for other in reversed(LAYOUTS) for name in reversed(other.names(variant))]
    return [name for name in heads if name != index and (sharded or name != single)]


def pointer_in(config: Mapping[str, Any], variant: str | None = None) -> object:
    """Return which file `config` names as the weights of `variant`, unchecked; None if it names none."""
    if variant is None:
        return config.get(POINTER)
    named = config.get(VARIANT_POINTER)
    return named.get(variant) if isinstance(named, Mapping) else None


def own_pointer(config: Mapping[str, Any]) -> Pointer | None:
    """Return the pointer in `config` that a triptych save made, if there is one."""
    named = config.get(VARIANT_POINTER)
    for variant in (None, *(named if isinstance(named, Mapping) else ())):
        pointer = pointer_to(pointer_in(config, variant), variant)
        if pointer is not None:
            return pointer
    return None


def pointer_to(target: object, variant: str | None = None) -> Pointer | None:
    """Return `target` as a pointer if it is a name that only a triptych save gives."""
    if isinstance(target, str):
        for kind, format in _KINDS:
            match = kind.fullmatch(target)
            if match and match["variant"] == variant:
                return Pointer(target, format, variant)
    return None


def is_of_one_save(name: str) -> bool:
    """Return whether only a triptych save gives this name, to weights or an index of its own."""
    return save_of_shard(name) is not None or any(kind.fullmatch(name) for kind, _ in _KINDS)


def save_of_shard(name: str) -> str | None:
    """Return the id of the save that made the shard `name`, if its name tells."""
    match = _SHARD.fullmatch(name)
    return match[1] if match else None


@dataclass(frozen=True)
class WeightFiles:
    """The files to read: `index` is None for a single file; `weight_map` is then empty."""

    folder: Path
    files: tuple[Path, ...]
    index: Path | None = None
    weight_map: Mapping[str, str] | None = None
    metadata: Mapping[str, Any] | None = None


def find_weights(
    folder: Path, variant: str | None = None, pointer: object = None, order: Sequence[Format] = LAYOUTS
) -> WeightFiles:
    """Return the weight files of `folder`: those `pointer` (from the config) names, else of the first format of `order`
    that is there; a single file goes before an index, as in transformers.

    Raises:
        MissingFileError: none there, or shards named by the index missing (all are listed).
        UnsafeCheckpointError: a name or a link leads outside the folder. CorruptCheckpointError: a bad index.
        UnsupportedFormatError: under the only name there is no regular file. UnreadableFileError: the system refuses.
        ArgumentError: `variant` is no name.
    """
    if pointer is not None:
        return _named(folder, pointer, order)
    try:
        present = {path.name for path in folder.iterdir() if path.is_file()}
    except OSError as cause:
        raise unreadable(folder, "read", cause) from cause
    name = preferred(present, variant, order)
    if name is None:
        for each in (name for format in order for name in format.names(variant)):
            regular_inside(folder, each)  # what is there and is no file
        raise nothing_found(folder, present, variant, order)
    check_inside(folder, folder / name)
    return _from_index(folder, folder / name) if name.endswith(".json") else WeightFiles(folder, (folder / name,))


def preferred(present: Container[str], variant: str | None, order: Sequence[Format] = LAYOUTS) -> str | None:
    """Return which of the files `present` holds the weights, or is the index of those that do; None if there is none.

    Raises:
        ArgumentError: `variant` is no name.
    """
    names = [name for format in order for name in format.names(variant)]
    return next((name for name in names if name in present), None)


def _named(folder: Path, name: object, order: Sequence[Format]) -> WeightFiles:
    file = folder / pointed_at(name, folder / CONFIG_NAME, order)
    if not file.is_file():
        raise MissingFileError(f"{folder} has no {file.name}, which its config.json names as {POINTER}.")
    check_inside(folder, file)
    return _from_index(folder, file) if file.suffix == ".json" else WeightFiles(folder, (file,))


def pointed_at(name: object, config: Path, order: Sequence[Format] = LAYOUTS) -> str:
    """Return what `config` names as the weights, if it may be opened: a plain name, of a format of `order`.

    Raises:
        UnsafeCheckpointError.
    """
    return safe_name(name, config, tuple(f"{format.suffix}{end}" for format in order for end in ("", ".index.json")))


def nothing_found(where: object, names: Iterable[str], variant: str | None, order: Sequence[Format]) -> TriptychError:
    """Return the error for a folder or repository `where` that has the files `names`, and no weights among them."""
    present = sorted(names)
    first = next((name for name in present if name.endswith(".ckpt.index")), None)
    if first is not None:
        return tensorflow_1(f"{first} of {where}")
    if any(name.startswith("adapter_model.") for name in present):
        return UnsupportedFormatError(
            f"{where} holds an adapter, and no weights of a model.",
            expected="the weights of a whole model",
            received=", ".join(present[:8]),
            remedy="add its adapter_config.json; or load its model, and then the adapter: model.load_adapter(path)",
        )
    if ".metadata" in present and any(name.endswith(".distcp") for name in present):
        return UnsupportedFormatError(
            f"{where} holds a distributed checkpoint of PyTorch.",
            expected=" or ".join(format.names(variant)[0] for format in order),
            received=", ".join(present[:8]),
            remedy="make a file of it by torch.distributed.checkpoint.format_utils.dcp_to_torch_save(folder, "
            "'pytorch_model.bin'); or make the model, and torch.distributed.checkpoint.load into its state_dict()",
        )
    plain = None if variant is None else preferred(present, None, order)
    stems = tuple(format.stem for format in LAYOUTS)
    weights = [name for name in present if name.startswith(stems) and name.endswith((".json", *WEIGHT_SUFFIXES))]
    return MissingFileError(
        f"{where} holds no weights" + (f" of variant {variant!r}." if variant else "."),
        expected=" or ".join(format.names(variant)[0] for format in order) + ", or the index of one",
        received=", ".join(weights[:8] or present[:8]) or "no files",
        remedy=f"leave variant out: there is {plain}"
        if plain
        else "check path, subfolder, variant and revision" + (", and which formats you allow" if weights else ""),
    )


def read_index(index: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Return weight_map and metadata of an index file, with every shard name checked.

    Raises:
        CorruptCheckpointError, UnsafeCheckpointError.
    """
    content = read_json(index, CorruptCheckpointError)
    weight_map, metadata = content.get("weight_map"), content.get("metadata", {})
    if not isinstance(weight_map, dict) or not weight_map or not isinstance(metadata, dict):
        raise CorruptCheckpointError(
            f"{index} is no index.", expected="a weight_map with at least one tensor", received=repr(content)[:80]
        )
    suffix = "." + index.name.partition(".index.")[0].rpartition(".")[2]
    for name in set(map(str, weight_map.values())) if all(map(_is_text, weight_map.values())) else {None}:
        safe_name(name, index, (suffix,))
    return weight_map, metadata


def _from_index(folder: Path, index: Path) -> WeightFiles:
    weight_map, metadata = read_index(index)
    names = sorted(set(weight_map.values()))
    if len({name.lower() for name in names}) != len(names):
        raise CorruptCheckpointError(f"{index} names shards that differ only in case.", received=f"{names[:4]}")
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        raise MissingFileError(
            f"{index} names shards that are not there.",
            expected=f"{len(names)} shards",
            received=f"without {', '.join(missing)}",
            remedy="get the missing shards, or save the checkpoint again",
        )
    for name in names:
        check_inside(folder, folder / name)
    return WeightFiles(folder, tuple(folder / name for name in names), index, weight_map, metadata)


def _is_text(value: object) -> bool:
    return isinstance(value, str)
