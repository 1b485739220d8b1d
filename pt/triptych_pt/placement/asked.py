"""What a call asks of the places of weights, and which devices there are."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from triptych.errors import ArgumentError, MissingBackendError
from triptych.placement.memory import CPU, DISK, Limits, parse_max_memory
from triptych.placement.planning import STRATEGIES

logger = logging.getLogger("triptych")
_NEEDS_A_MAP = ("max_memory", "offload_folder")
_HEADROOM = 0.9
"""The share of the free memory that weights may take, where `max_memory` does not say."""


@dataclass(frozen=True)
class Asked:
    """Where weights are to go: `device_map`, a strategy or a map, and how it is carried out."""

    device_map: Any
    max_memory: Mapping[Any, Any] | None = None
    offload_folder: Any = None
    offload_buffers: bool = False

    @classmethod
    def of(
        cls, device_map: Any, max_memory: Any = None, offload_folder: Any = None, offload_buffers: bool = False
    ) -> Asked:
        """Return the request, with the devices of its map checked.

        Raises:
            ArgumentError: `device_map` is none, or has a device that is not here.
        """
        if isinstance(device_map, Mapping):
            return cls({key: _known(device) for key, device in device_map.items()}, max_memory, offload_folder,
                       bool(offload_buffers))  # fmt: skip
        if not (isinstance(device_map, str) and device_map in STRATEGIES):
            device_map = {"": as_device(device_map) if isinstance(device_map, str) else _known(device_map)}
        return cls(device_map, max_memory, offload_folder, bool(offload_buffers))

    def limits(self) -> Limits:
        """Return how much each device may keep: what `max_memory` says, else most of what is free.

        Raises:
            ArgumentError: `max_memory` is none, or has a device that is not here.
        """
        given = self.max_memory
        if given is None:
            return parse_max_memory({d: int(size * _HEADROOM) for d, size in free_memory().items()})
        limits = parse_max_memory(given)
        for device, size in limits.items():
            if size != 0:
                _known(device)
        return limits


def take(arguments: dict[str, Any]) -> Asked | None:
    """Take the arguments of a load that say where weights go out of `arguments`; None if they say nothing.

    Raises:
        ArgumentError: as `Asked.of`.
    """
    names = ("device_map", "max_memory", "offload_folder", "offload_buffers")
    given = {name: arguments.pop(name) for name in names if name in arguments}
    if given.get("device_map") is None:
        alone = [name for name in _NEEDS_A_MAP if given.get(name)]
        if alone:
            logger.warning("%s has no effect without device_map", " and ".join(alone))
        return None
    return Asked.of(**given)


def as_device(device: Any) -> torch.device:
    """Return a device that is here.

    Raises:
        ArgumentError: it is no device, or there is none of that name.
    """
    if isinstance(device, bool) or not isinstance(device, (int, str, torch.device)):
        raise ArgumentError("This is no device.", expected=_EXPECTED, received=repr(device)[:80])
    if isinstance(device, int) and device < 0:
        raise ArgumentError("A device has no negative number.", expected=_EXPECTED, received=str(device),
                            remedy='the CPU is "cpu"')  # fmt: skip
    try:
        return torch.empty(0, device=device).device  # with its number, which "cuda" alone leaves open
    except Exception as cause:  # a RuntimeError, AssertionError or ImportError, by the kind of device
        raise ArgumentError(
            f"There is no device {device!r} here.", expected=_EXPECTED, received=str(cause).partition("\n")[0][:120]
        ) from cause


_EXPECTED = f"{', '.join(STRATEGIES)}, a device of PyTorch or its number, or a dict of modules to devices or 'disk'"


def _known(device: Any) -> Any:
    """Return `device` as it is, if it is the disk or one of PyTorch's."""
    if device != DISK:
        as_device(device)
    return device


def free_memory() -> dict[Any, int]:
    """Return device -> bytes that are free: of every accelerator, and the CPU.

    Raises:
        MissingBackendError: accelerate is not installed.
    """
    try:
        from accelerate.utils import get_max_memory
    except ImportError as cause:
        raise needs_accelerate() from cause
    found: dict[Any, int] = dict(get_max_memory())
    return {device: size for device, size in found.items() if device != DISK} or {CPU: 0}


def needs_accelerate() -> MissingBackendError:
    return MissingBackendError(
        "A device_map over several devices needs the package accelerate.", expected="accelerate", received="none",
        remedy="pip install 'triptych[big]'",
    )  # fmt: skip
