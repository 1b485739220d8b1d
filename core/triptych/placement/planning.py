"""The plan for a class of a config, and for a `device_map` as it is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from triptych import families
from triptych.config import PretrainedConfig
from triptych.errors import ArgumentError
from triptych.placement.balance import balanced_memory
from triptych.placement.inferring import infer_auto_device_map
from triptych.placement.mapping import bytes_by_device, check_device_map
from triptych.placement.memory import CPU, DISK, Limits
from triptych.placement.outline import Outline
from triptych.weights.schema import Schema

STRATEGIES = ("auto", "balanced", "balanced_low_0", "sequential")


@dataclass(frozen=True)
class Plan:
    """Where the weights of a model go: `device_map`, path -> device, of what `outline` says of them."""

    outline: Outline
    device_map: Mapping[str, Any]
    limits: Limits

    @property
    def by_device(self) -> dict[Any, int]:
        """Device -> the bytes that it keeps."""
        return bytes_by_device(self.device_map, self.outline)

    def as_dict(self) -> dict[str, Any]:
        """Return everything, JSON-ready."""
        modules = [
            {"module": path, "device": device, "bytes": self.own_bytes(path)}
            for path, device in self.device_map.items()
        ]
        kept = self.by_device
        devices = [{"device": device, "bytes": kept.get(device, 0), "limit": size}
                   for device, size in self.limits.items()]  # fmt: skip
        return {"bytes": self.outline.size(""), "device_map": dict(self.device_map), "modules": modules,
                "devices": devices}  # fmt: skip

    def own_bytes(self, path: str) -> int:
        """Return the bytes of the arrays in a module of the map, without modules in it that the map has beside it."""
        inner = [key for key in self.device_map if key != path and (not path or key.startswith(f"{path}."))]
        apart = {name for key in inner for name in self.outline.names(key)}
        return sum(self.outline.sizes.get(name, 0) for name in self.outline.names(path) if name not in apart)


def mapped(device_map: Any, outline: Outline, limits: Limits, modules: Iterable[str] = ()) -> dict[str, Any]:
    """Return the map that `device_map` asks for: a strategy, planned within `limits`, or a map itself.

    `modules` are paths of modules, with weights or without, that a map may name.

    Raises:
        ArgumentError: neither; or a map that does not fit the model.
    """
    if isinstance(device_map, Mapping):
        found = dict(device_map)
        check_device_map(found, outline, modules)
        return found
    if device_map not in STRATEGIES:
        raise ArgumentError("device_map is none.", expected=f"{', '.join(STRATEGIES)}, or a dict of modules to devices",
                            received=repr(device_map)[:80])  # fmt: skip
    filled = infer_auto_device_map(outline, limits)
    if device_map == "sequential":
        return filled
    even = infer_auto_device_map(outline, balanced_memory(outline, limits, low_zero=device_map == "balanced_low_0"))
    return filled if _kept_away(filled, outline) < _kept_away(even, outline) else even


def _kept_away(device_map: Mapping[str, Any], outline: Outline) -> int:
    """Return the bytes that no accelerator keeps."""
    return sum(size for device, size in bytes_by_device(device_map, outline).items() if device in (CPU, DISK))


def plan_placement(
    config: PretrainedConfig, stem: str, limits: Limits, device_map: Any = "auto", dtype: np.dtype | None = None
) -> Plan:
    """Plan where the weights of the class `stem` of `config` go, from the config alone.

    Args:
        limits: what `parse_max_memory` returned.
        device_map: a strategy, or a map.
        dtype: of the weights; float32 by default.

    Raises:
        ArgumentError, ConfigError.
    """
    family = families.family(config.model_type)
    kind = np.dtype(np.float32) if dtype is None else dtype
    schema: Schema = family.schema(config, stem)
    recorded = family.schema
    whole = recorded.whole_parts(config, stem) if isinstance(recorded, families.RecordedSchema) else None
    outline = Outline.of(schema, lambda weight: kind, whole)
    return Plan(outline, mapped(device_map, outline, limits), limits)
