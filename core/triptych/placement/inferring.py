"""A map that fills devices one after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from triptych.errors import ArgumentError
from triptych.placement.mapping import device_of, merged
from triptych.placement.memory import CPU, DISK, Device, Limits, main_device
from triptych.placement.outline import Outline


def infer_auto_device_map(outline: Outline, limits: Limits) -> dict[str, Device]:
    """Return path -> device so that no device keeps more than its limit, in the order of the limits.

    Modules are taken in the order of the model, and one that does not fit is split, unless it is whole: then it and
    what follows go to the next device. Modules that share an array go to the device that keeps it. The device on which
    layers run that another keeps has room left for the largest of them; and the CPU, through which they come, too.

    Raises:
        ArgumentError: the devices cannot keep the model, as the disk has a limit.
    """
    reserved: dict[Device, int] = {}
    while True:
        found = _Filling(outline, limits, reserved).run()
        needed = _largest_away(outline, limits, found)
        if all(size <= reserved.get(device, 0) for device, size in needed.items()):
            return merged(found, outline)
        reserved = {device: max(size, reserved.get(device, 0)) for device, size in needed.items()}


class _Filling:
    """One try, with room left on some devices."""

    def __init__(self, outline: Outline, limits: Limits, reserved: Mapping[Device, int]) -> None:
        self._outline = outline
        self._devices = list(limits)
        self._room = {d: None if size is None else size - reserved.get(d, 0) for d, size in limits.items()}
        self._found: dict[str, Device] = {}
        self._sharers: dict[str, list[str]] = {}
        for name, source in outline.ties.items():
            self._sharers.setdefault(source, []).append(name.rpartition(".")[0] or name)

    def run(self) -> dict[str, Device]:
        outline, number = self._outline, 0
        waiting = deque(outline.children(""))
        while waiting:
            path = waiting.popleft()
            if path in self._found:
                continue
            device = self._devices[number]
            if self._fits(path, device):
                self._place(path, device)
            elif outline.is_split(path):
                waiting.extendleft(reversed(outline.children(path)))
            elif number + 1 == len(self._devices):
                raise ArgumentError(
                    "The devices of max_memory cannot keep the model.", expected=f"{outline.size(''):,} bytes in sum",
                    received=f"no room for {path} ({outline.size(path):,} bytes)", remedy="leave out the limit of disk",
                )  # fmt: skip
            else:
                number += 1
                waiting.appendleft(path)
        return self._found

    def _fits(self, path: str, device: Device) -> bool:
        room = self._room[device]
        return room is None or self._size(path) <= max(room, 0)

    def _size(self, path: str) -> int:
        """Return the bytes of `path` that were not placed before."""
        placed = (key for key in self._found if f"{key}.".startswith(f"{path}."))
        return self._outline.size(path) - sum(self._outline.size(key) for key in placed)

    def _place(self, path: str, device: Device) -> None:
        """Give `path` to `device`, and with it the modules that compute with its arrays, while they fit."""
        room = self._room[device]
        self._room[device] = None if room is None else room - self._size(path)
        self._found[path] = device
        for name in self._outline.names(path):
            for sharer in self._sharers.get(name, ()):
                if device_of(self._found, sharer) is None:
                    self._place_beside(sharer, device)

    def _place_beside(self, sharer: str, device: Device) -> None:
        """Give `sharer` to `device` with all arrays that it shares, if they fit; else its turn comes."""
        ties, sizes = self._outline.ties, self._outline.sizes
        shared = dict.fromkeys(ties[name] for name in self._outline.names(sharer) if name in ties)
        waiting = [name for name in shared if device_of(self._found, name) is None]
        room, size = self._room[device], self._size(sharer) + sum(sizes[name] for name in waiting)
        if room is None or size <= max(room, 0):
            for path in (sharer, *waiting):
                if path not in self._found:
                    self._place(path, device)


def _largest_away(outline: Outline, limits: Limits, device_map: Mapping[str, Device]) -> dict[Device, int]:
    """Return device -> the bytes of the largest unit that comes to it or through it for a run."""
    main = main_device(limits)
    found: dict[Device, int] = {}
    for unit in outline.units():
        names = outline.names(unit)
        devices = {device_of(device_map, name) for name in names}
        size = outline.running_size(unit)
        if devices & {CPU, DISK} - {main}:
            found[main] = max(found.get(main, 0), size)
        if DISK in devices and CPU in limits:
            found[CPU] = max(found.get(CPU, 0), size)
    return found
