"""The folder of an adapter, as peft has it: adapter_config.json, and adapter_model.safetensors or adapter_model.bin."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from triptych.adapters.config import ADAPTER_CONFIG_NAME, LoraConfig
from triptych.adapters.state import PREFIX
from triptych.checkpoints import staging
from triptych.checkpoints.holding import PAUSES, in_motion
from triptych.checkpoints.resolve import preferred
from triptych.errors import ArgumentError, MissingFileError, SaveError, TriptychError
from triptych.files.atomic import Access, create, flush, flush_folder
from triptych.files.json import json_text
from triptych.files.paths import check_inside, local_folder, path_of
from triptych.files.regular import Identity
from triptych.formats.opening import open_file
from triptych.formats.safetensors import write_safetensors
from triptych.formats.torch.writer import write_torch
from triptych.hub.fetching import fetch_files
from triptych.tensors.ref import TensorRef

SAFETENSORS_NAME, BIN_NAME = "adapter_model.safetensors", "adapter_model.bin"
WEIGHTS_NAMES = (SAFETENSORS_NAME, BIN_NAME)


def is_adapter(names: Collection[str]) -> bool:
    """Return whether a folder or repository with the files `names` holds an adapter, and no weights of a model."""
    return ADAPTER_CONFIG_NAME in names and preferred(names, None) is None


def place_of(folder: Path, name: str) -> Path:
    """Return where the file `name` of an adapter is: in `folder`, or for the moment in which a save puts it there, or
    that a killed one left, in its staging folder."""
    pair = staging.pending_pair(folder)
    return pair.path if pair is not None and name in pair.files and os.path.lexists(pair.path / name) else folder


def local_names(folder: Path) -> set[str]:
    """Return the names of the files in `folder`, as they will be once a save is finished that has committed."""
    pair, there = staging.pending_pair(folder), set(os.listdir(folder))
    return there if pair is None else (there - {*pair.removes}) | {*pair.files}


def read_lora_config(folder: Path) -> LoraConfig:
    """Return the config of the adapter in `folder`; raises as `LoraConfig.read`."""
    return LoraConfig.read(place_of(folder, ADAPTER_CONFIG_NAME))


def fetch_adapter(place: Any, subfolder: str, hub: Mapping[str, Any]) -> Any:
    """Return `place` if it is local, else the cached folder of the repository of that name, with its adapter.

    Raises:
        MissingFileError: it holds none. HubError and its subclasses, ArgumentError.
    """
    return fetch_files(place, subfolder, hub, ((ADAPTER_CONFIG_NAME,), WEIGHTS_NAMES))


def base_of(place: Any, subfolder: str) -> str:
    """Return of which model the adapter in a folder is one, as its config says.

    Raises:
        ArgumentError: it does not say. As `LoraConfig.read`.
    """
    folder = local_folder(place, subfolder)
    named = read_lora_config(folder).base_model_name_or_path
    if not named:
        raise ArgumentError(
            f"{place} holds an adapter, whose config does not say of which model.",
            expected=f"base_model_name_or_path in {ADAPTER_CONFIG_NAME}",
            received="none",
            remedy="load the model, and then the adapter: model.load_adapter(path)",
        )
    return named


def open_adapter(
    place: Any, subfolder: str, hub: Mapping[str, Any], order: Iterable[str] = WEIGHTS_NAMES, mmap: bool = True
) -> tuple[LoraConfig, dict[str, TensorRef]]:
    """Return config and tensors, by their names in the file, of the adapter in a folder or a repository.

    Raises:
        MissingFileError: it is not there, or none of the files `order`. As `LoraConfig.of` and `open_checkpoint`.
    """
    found = fetch_adapter(place, subfolder, hub)
    folder = local_folder(found, subfolder)
    for pause in PAUSES:
        before = _identities(folder)
        try:
            opened = _opened(place, folder, tuple(order), mmap)
        except (TriptychError, OSError):
            if _identities(folder) == before:
                raise
        else:
            if _identities(folder) == before:
                return opened
        time.sleep(pause)
    raise in_motion(folder)


def _opened(place: Any, folder: Path, order: Sequence[str], mmap: bool) -> tuple[LoraConfig, dict[str, TensorRef]]:
    present = local_names(folder)
    if ADAPTER_CONFIG_NAME not in present:
        raise MissingFileError(f"{place} holds no adapter.", expected=ADAPTER_CONFIG_NAME,
                               received=", ".join(sorted(present)[:8]) or "no files")  # fmt: skip
    config = read_lora_config(folder)
    name = next((name for name in order if name in present), None)
    if name is None:
        raise MissingFileError(f"{place} holds no weights of an adapter.", expected=" or ".join(order),
                               received=", ".join(sorted(present)[:8]))  # fmt: skip
    holder = place_of(folder, name)
    check_inside(holder, holder / name)
    return config, open_file(holder / name, mmap).tensors


def _identities(folder: Path) -> list[object]:
    """Return by what the files of the adapter in `folder` are known, and what a save is about to put there."""
    found: list[object] = [staging.pending_pair(folder)]
    for name in (ADAPTER_CONFIG_NAME, *WEIGHTS_NAMES):
        try:
            found.append(Identity.of(os.stat(folder / name)))
        except OSError:
            found.append(None)
    return found


def write_adapter(
    folder: str | os.PathLike[str],
    config: LoraConfig,
    tensors: Mapping[str, TensorRef],
    safe: bool = True,
    prefix: str = PREFIX,
) -> list[Path]:
    """Write an adapter, its tensors named without `PREFIX`, so that peft reads it; return the files.

    Both files change as one step. A config that stays as it is is left alone; else its name is free while weights and
    config are renamed, so that peft finds the old adapter, the new one, or none, and triptych the old one or the new;
    see `staging.Area.commit_pair`. Weights of the other format are removed, which a reader would take in their place.

    Raises:
        SaveError: what was there before is still there, or the new adapter is.
    """
    target = path_of(folder, "save_directory", "folder")
    name, other = WEIGHTS_NAMES if safe else WEIGHTS_NAMES[::-1]
    refs = [replace(ref, name=prefix + key) for key, ref in tensors.items()]
    text = json_text(config.to_dict()).encode()

    try:
        target.mkdir(parents=True, exist_ok=True)
        with staging.area(target) as area, staging.locked(target):
            staged = area.path / name
            with create(staged, Access.like(target / one for one in WEIGHTS_NAMES)) as file:
                if safe:
                    write_safetensors(file, refs, {"format": "pt"})
                else:
                    write_torch(file, refs)
                flush(file)
            staging.collect(area)
            config_file = target / ADAPTER_CONFIG_NAME
            there = config_file.read_bytes() if config_file.is_file() else None
            said = area.stage(ADAPTER_CONFIG_NAME, text, Access.like([config_file]))
            if there not in (None, text):
                area.commit_pair((name, ADAPTER_CONFIG_NAME), (other,))
            else:
                os.replace(staged, target / name)  # the step, unless there are safetensors before a file of torch
                (target / other).unlink(missing_ok=True)
                flush_folder(target)
                if there is None:
                    os.replace(said, config_file)
            flush_folder(target)
    except OSError as cause:
        if isinstance(cause, TriptychError):
            raise
        error = SaveError(f"The adapter could not be saved in {target}.", received=str(cause), remedy="see the cause")
        error.errno = cause.errno
        raise error from cause
    return [target / name, target / ADAPTER_CONFIG_NAME]
