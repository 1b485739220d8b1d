"""`transformers.utils.model_parallel_utils`: which device has which layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from triptych.errors import ArgumentError
from triptych.transformers4 import exports


def get_device_map(n_layers: int, devices: Sequence[Any]) -> dict[Any, list[int]]:
    """Return device -> numbers of layers, in order, as many for each as can be."""
    each = -(-n_layers // len(devices))
    return {device: list(range(n_layers))[number * each : (number + 1) * each] for number, device in enumerate(devices)}


def assert_device_map(device_map: Mapping[Any, Sequence[int]], num_blocks: int) -> None:
    """Raise unless every layer is on one device.

    Raises:
        ArgumentError: a layer is on none or on several, or there is no such layer.
    """
    placed = sorted(layer for layers in device_map.values() for layer in layers)
    if placed != list(range(num_blocks)):
        raise ArgumentError("The device map is impossible.", expected=f"each of {num_blocks} layers once",
                            received=str(dict(device_map)))  # fmt: skip


exports(globals())
