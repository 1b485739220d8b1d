"""The folder of an adapter, as peft has it: adapter_config.json, and adapter_model.safetensors or adapter_model.bin."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from triptych.adapters.config import ADAPTER_CONFIG_NAME, LoraConfig
from triptych.adapters.state import PREFIX
from triptych.checkpoints import staging
from triptych.checkpoints.resolve import preferred
from triptych.errors import ArgumentError, MissingFileError, SaveError, TriptychError
from triptych.files.atomic import Access, create, flush, flush_folder
from triptych.files.json import json_text
from triptych.files.paths import check_inside, local_folder, path_of
from triptych.formats.opening import open_file
from triptych.formats.safetensors import write_safetensors
from triptych.formats.torch.writer import write_torch
from triptych.hub.fetching import fetch_files, names_in
from triptych.tensors.ref import TensorRef

SAFETENSORS_NAME, BIN_NAME = "adapter_model.safetensors", "adapter_model.bin"
WEIGHTS_NAMES = (SAFETENSORS_NAME, BIN_NAME)


def is_adapter(names: Collection[str]) -> bool:
    """Return whether a folder or repository with the files `names` holds an adapter, and no weights of a model."""
    return ADAPTER_CONFIG_NAME in names and preferred(names, None) is None


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
    named = LoraConfig.read(folder).base_model_name_or_path
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
    folder, present = local_folder(found, subfolder), names_in(found, subfolder)
    if ADAPTER_CONFIG_NAME not in present:
        raise MissingFileError(f"{place} holds no adapter.", expected=ADAPTER_CONFIG_NAME,
                               received=", ".join(sorted(present)[:8]) or "no files")  # fmt: skip
    config = LoraConfig.read(folder)
    name = next((name for name in order if name in present), None)
    if name is None:
        raise MissingFileError(f"{place} holds no weights of an adapter.", expected=" or ".join(order),
                               received=", ".join(sorted(present)[:8]))  # fmt: skip
    check_inside(folder, folder / name)
    return config, open_file(folder / name, mmap).tensors


def write_adapter(
    folder: str | os.PathLike[str],
    config: LoraConfig,
    tensors: Mapping[str, TensorRef],
    safe: bool = True,
    prefix: str = PREFIX,
) -> list[Path]:
    """Write an adapter, its tensors named without `PREFIX`, so that peft reads it; return the files.

    Both files are written and flushed beside what is there, and then renamed, the weights first. Weights of the other
    format are removed, which a reader would take in their place.

    Raises:
        SaveError: what was there before is still there, but for a failure between the two renames.
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
            said = area.stage(ADAPTER_CONFIG_NAME, text, Access.like([target / ADAPTER_CONFIG_NAME]))
            os.replace(staged, target / name)
            os.replace(said, target / ADAPTER_CONFIG_NAME)
            (target / other).unlink(missing_ok=True)
            flush_folder(target)
    except OSError as cause:
        if isinstance(cause, TriptychError):
            raise
        error = SaveError(f"The adapter could not be saved in {target}.", received=str(cause), remedy="see the cause")
        error.errno = cause.errno
        raise error from cause
    return [target / name, target / ADAPTER_CONFIG_NAME]
