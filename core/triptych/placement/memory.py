"""How many bytes of each device a model may take: `max_memory`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from triptych.checkpoints.sharding import parse_size
from triptych.errors import ArgumentError

Device = int | str
"""A number of an accelerator, "cpu", "disk", or a name of the framework's, such as "cuda:1"."""
Limits = dict[Device, int | None]
"""Device -> bytes, None without a limit. The order is that in which devices are filled."""
CPU, DISK = "cpu", "disk"


def parse_max_memory(max_memory: Mapping[Any, Any]) -> Limits:
    """Return the limits of `max_memory`, device -> bytes or text such as "10GiB": accelerators first, then the CPU
    and the disk, which is there without a limit if it is not named.

    Raises:
        ArgumentError: it is no mapping, or has a key that is no device or a value that is no size.
    """
    if not isinstance(max_memory, Mapping):
        raise ArgumentError("max_memory is no mapping.", expected='such as {0: "8GB", "cpu": "30GB"}',
                            received=repr(max_memory)[:80])  # fmt: skip
    strange = [key for key in max_memory if not _is_device(key)]
    if strange:
        raise ArgumentError("max_memory has a key that is no device.", expected='a number, "cpu", "disk" or a name',
                            received=repr(strange[0])[:80])  # fmt: skip
    limits: Limits = {key: _bytes(key, size) for key, size in max_memory.items()}
    limits.setdefault(DISK, None)
    return dict(sorted(limits.items(), key=lambda item: (item[0] == CPU) + 2 * (item[0] == DISK)))


def main_device(limits: Mapping[Device, Any]) -> Device:
    """Return where layers run that the CPU or the disk keeps: the first accelerator, else the CPU."""
    return next(iter(accelerators(limits)), CPU)


def accelerators(limits: Mapping[Device, Any]) -> list[Device]:
    """Return the devices that are neither the CPU nor the disk, and may be used."""
    return [device for device, size in limits.items() if device not in (CPU, DISK) and size != 0]


def memory_of_the_cpu() -> int:
    """Return the bytes of memory that are free or can be freed, as Linux says; elsewhere those of the machine."""
    try:
        with open("/proc/meminfo") as file:
            line = next(line for line in file if line.startswith("MemAvailable:"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _is_device(key: object) -> bool:
    return (isinstance(key, int) and not isinstance(key, bool) and key >= 0) or (isinstance(key, str) and bool(key))


def _bytes(device: Device, size: Any) -> int:
    if isinstance(size, int) and not isinstance(size, bool) and size == 0:
        return 0
    return parse_size(size, f"max_memory of {device}")
