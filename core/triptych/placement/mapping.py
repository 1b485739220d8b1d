"""A map from modules to devices: what it says of a weight, and whether it fits a model.

A key is the path of a module or the name of a weight, "" the whole model; of several that fit, the longest counts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from triptych.errors import ArgumentError
from triptych.placement.memory import DISK
from triptych.placement.outline import Outline

logger = logging.getLogger("triptych")


def device_of(device_map: Mapping[str, Any], path: str) -> Any:
    """Return the device of a module or weight; None if the map does not say."""
    while path not in device_map:
        if not path:
            return None
        path = path.rpartition(".")[0]
    return device_map[path]


def homes(device_map: Mapping[str, Any], outline: Outline) -> dict[str, Any]:
    """Return weight -> the device that keeps its array. One that is tied is kept where the map has the first of its
    names that is not on the disk."""
    names: dict[str, list[str]] = {name: [name] for name in outline.sizes}
    for name, source in outline.ties.items():
        names[source].append(name)
    found = {}
    for source, group in names.items():
        devices = [device_of(device_map, name) for name in group]
        found[source] = next((device for device in devices if device != DISK), DISK)
    return found


def bytes_by_device(device_map: Mapping[str, Any], outline: Outline) -> dict[Any, int]:
    """Return device -> the bytes that it keeps."""
    found: dict[Any, int] = dict.fromkeys(device_map.values(), 0)
    for name, device in homes(device_map, outline).items():
        found[device] += outline.sizes[name]
    return found


def check_device_map(device_map: Mapping[str, Any], outline: Outline, more: Iterable[str] = ()) -> None:
    """Raise unless the map says of every weight where it goes; warn of modules that the model has not.

    `more` are paths of modules without weights, which a map may name.

    Raises:
        ArgumentError: it names weights that the map leaves out.
    """
    lacking = [name for name in (*outline.sizes, *outline.ties) if device_of(device_map, name) is None]
    if lacking:
        raise ArgumentError(
            "device_map does not say where all weights go.", expected='a device for every module, or for "", the rest',
            received=f"none for {len(lacking)}: {', '.join(lacking[:8])}",
        )  # fmt: skip
    known = set(more)
    strange = [str(key) for key in device_map if key not in outline and key not in known]
    if strange:  # a map that was made for another version of the model's class has them
        logger.warning("device_map names modules that the model has not: %s", ", ".join(strange[:8]))


def merged(device_map: Mapping[str, Any], outline: Outline, path: str = "") -> dict[str, Any]:
    """Return the same map with one key for each largest module that is on one device, in the order of the model."""
    devices = {device_of(device_map, name) for name in outline.names(path)}
    if len(devices) == 1:
        return {path: devices.pop()}
    parts = [merged(device_map, outline, child) for child in outline.children(path)]
    return {key: device for part in parts for key, device in part.items()}
