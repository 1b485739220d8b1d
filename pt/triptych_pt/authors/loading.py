"""Weight files and shards, for code that reads them by itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from triptych.checkpoints.resolve import read_index
from triptych.errors import ArgumentError, IncompatibleWeightsError, MissingFileError
from triptych.formats.kinds import BIN, SAFETENSORS
from triptych.formats.opening import open_file
from triptych_pt import arrays


def expand_device_map(device_map: Mapping[str, Any], param_names: Iterable[str]) -> dict[str, Any]:
    """Return the device of every parameter that lies in, or is, one of the modules of `device_map`."""
    names = list(param_names)
    return {
        name: device
        for module, device in device_map.items()
        for name in names
        if name == module or name.startswith(f"{module}." if module else "")
    }


def get_disk_only_shard_files(
    device_map: Mapping[str, Any], weight_map: Mapping[str, Any], start_prefix: str = ""
) -> list[str]:
    """Return the shards all of whose weights are kept on the disk.

    `weight_map` is weight -> shard, or what `get_checkpoint_shard_files` says of an index.
    """
    places: dict[str, set[Any]] = {}
    for name, shard in weight_map.get("weight_map", weight_map).items():
        module = name.removeprefix(start_prefix)
        while module and module not in device_map:
            module = module.rpartition(".")[0]
        places.setdefault(shard, set()).add(device_map.get(module))
    return [shard for shard, devices in places.items() if devices == {"disk"}]


def load_state_dict(
    checkpoint_file: str | Path, is_quantized: bool = False, map_location: Any = "cpu", weights_only: bool = True
) -> dict[str, torch.Tensor]:
    """Return the tensors of one weight file, of any format, under the names that it has for them.

    Nothing is unpickled but tensors, whatever `weights_only` says.

    Args:
        map_location: a device; "meta" reads headers alone.

    Raises:
        MissingFileError: there is no such file. CorruptCheckpointError, UnsafeCheckpointError: of the file.
        ArgumentError: `map_location` is a function or a mapping, as `torch.load` takes them.
    """
    if not (map_location is None or isinstance(map_location, (str, int, torch.device))):
        received = type(map_location).__name__
        raise ArgumentError("map_location is no device.", expected="a device, such as 'cpu'", received=received)
    path = Path(checkpoint_file)
    if not path.is_file():
        raise MissingFileError(f"There is no file {path}.")
    tensors = open_file(path).tensors
    place = torch.device("cpu" if map_location is None else map_location)
    if place.type == "meta":
        return {
            name: torch.empty(ref.shape, dtype=arrays.native_dtype(ref.dtype), device="meta")
            for name, ref in tensors.items()
        }
    return {name: arrays.to_native(_own(ref.read())).to(place) for name, ref in tensors.items()}


load_shard_file = load_state_dict


def _own(array: np.ndarray) -> np.ndarray:
    """Return an array that may be written to: not the mapped file."""
    return array if array.flags.writeable else array.copy()


def load_sharded_checkpoint(model: nn.Module, folder: str | Path, strict: bool = True, prefer_safe: bool = True) -> Any:
    """Load the shards that the index in a folder names into a module of any kind, one after the other.

    Args:
        strict: refuse weights that the model has and the index does not, and the other way round. A weight that the
            model shares with one that is there is not missing.
        prefer_safe: take safetensors if there are shards of both formats.

    Returns:
        What `torch.nn.Module.load_state_dict` does: `missing_keys` and `unexpected_keys`.

    Raises:
        MissingFileError: the folder has no index. IncompatibleWeightsError, a RuntimeError: with `strict`, as said
        above, before anything is loaded. RuntimeError: a shape differs.
    """
    index = _index_in(Path(folder), prefer_safe)
    weight_map = read_index(index)[0]
    shared: dict[int, set[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        shared.setdefault(id(parameter), set()).add(name)
    held = set(weight_map)
    filled = held.union(*(names for names in shared.values() if names & held))
    expected = model.state_dict().keys()
    missing = [name for name in expected if name not in filled]
    unexpected = [name for name in weight_map if name not in expected]
    if strict and (missing or unexpected):
        lists = {"missing": missing, "unexpected": unexpected}
        received = "; ".join(f"{kind} {', '.join(names)}" for kind, names in lists.items() if names)
        raise IncompatibleWeightsError(
            f"{index} is not of a {type(model).__name__}.", expected="the weights of the model, and no others",
            received=received, remedy="pass strict=False to load what fits",
        )  # fmt: skip
    for shard in sorted(set(weight_map.values())):
        result = model.load_state_dict(load_state_dict(index.parent / shard), strict=False)
    return type(result)(missing, unexpected)


def _index_in(folder: Path, prefer_safe: bool) -> Path:
    order = (SAFETENSORS, BIN) if prefer_safe else (BIN, SAFETENSORS)
    found = [folder / format.index for format in order if (folder / format.index).is_file()]
    if not found:
        expected = " or ".join(format.index for format in order)
        raise MissingFileError(f"{folder} has no sharded checkpoint.", expected=expected)
    return found[0]
