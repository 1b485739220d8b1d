"""A device for each layer: variables are kept there, and calls of the layer run in its `tf.device` scope."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from triptych.errors import ArgumentError
from triptych.modeling.base import ModelBase
from triptych.placement import Outline, device_of, parse_max_memory
from triptych.placement.mapping import homes
from triptych.placement.memory import CPU, DISK, Limits
from triptych.placement.outline import members_of_lists, planned
from triptych.placement.planning import STRATEGIES, mapped
from triptych.weights import layouts
from triptych.weights.plan import LoadPlan
from triptych_tf import internals, layers

logger = logging.getLogger("triptych")
_EXPECTED = "a name such as 'CPU:0' or 'GPU:1', a number of a GPU, or a dict from modules to them"


@dataclass(frozen=True)
class Asked:
    """Where layers are to be: `device_map`, a strategy within `limits`, or a map from modules to names of devices."""

    device_map: Any
    limits: Limits


class Placed(ModelBase):
    """Part of `TFPreTrainedModel`: layers on devices of their own.

    `from_pretrained` takes `device_map`: a device for all (`"GPU:0"`, "cpu", a number of a GPU), or a dict from paths
    of modules, "" the whole model, to devices; or "auto", "balanced", "balanced_low_0" or "sequential" with
    `max_memory`, device -> bytes or text such as "8GB". What a layer gets from another device is copied there.
    """

    hf_device_map: Mapping[str, str] | None = None
    """Path of a module -> its device, by TensorFlow's name; None of a model that was not spread."""

    @classmethod
    def _take_placement(cls, arguments: dict[str, Any]) -> Asked | None:
        device_map, max_memory = arguments.pop("device_map", None), arguments.pop("max_memory", None)
        if device_map is None and max_memory is not None:
            logger.warning("max_memory has no effect without device_map")
        return None if device_map is None else asked(device_map, max_memory)

    def _keep_elsewhere(self, plan: LoadPlan) -> Collection[str]:
        wanted = self.__dict__.pop("_asked_places", None)
        if wanted is None:
            return ()
        sizes, ties = planned(plan)
        within = dict(layers.layers_within(self))  # type: ignore[arg-type]
        outline = Outline(sizes, ties, frozenset(members_of_lists(plan.schema)))
        device_map = mapped(wanted.device_map, outline, wanted.limits, within)
        if DISK in device_map.values():
            raise ArgumentError(
                "There is no room for the model on these devices; TensorFlow keeps nothing on the disk.",
                expected=f"{outline.size(''):,} bytes in sum", received=f"max_memory {wanted.limits}",
                remedy="allow more, or load it in a smaller dtype: dtype='auto', param_dtype='bfloat16'",
            )  # fmt: skip
        named = {path: as_device(device) for path, device in device_map.items()}
        found = self._weights()  # type: ignore[attr-defined]
        for name, device in homes(named, outline).items():
            internals.keep_on(found[layouts.native_path(plan.schema[name], "tf")][0], device)
        before = {"": named.get("")}
        internals.run_on(self, before[""])  # type: ignore[arg-type]
        for path, layer in within.items():
            around = path
            while (around := around.rpartition(".")[0]) not in before:
                pass
            device = before[path] = device_of(named, path)
            if device != before[around]:
                internals.run_on(layer, device)
        self.__dict__["hf_device_map"] = named  # not by setattr: Keras would track it
        self.__dict__["_read_ahead"] = _AHEAD
        self.supports_jit = len(set(named.values())) == 1
        return ()


def one_device(model: Any) -> AbstractContextManager[Any]:
    """Return a scope of the device of a model, in which XLA can compile it.

    Raises:
        ArgumentError: its layers are on several: XLA compiles for one.
    """
    devices = set((getattr(model, "hf_device_map", None) or {}).values())
    if len(devices) > 1:
        raise ArgumentError(
            "A model over several devices cannot be compiled by XLA.", expected="jit_compile=False",
            received=", ".join(sorted(devices)),
        )  # fmt: skip
    return tf.device(devices.pop()) if devices else nullcontext()


_AHEAD = 2**28
"""How many bytes are read ahead of variables that may be on other devices."""


def asked(device_map: Any, max_memory: Any = None) -> Asked:
    """Return what a call asks, with its devices checked.

    Raises:
        ArgumentError: there is no such device, or the disk is one; or a strategy without `max_memory`.
    """
    if isinstance(device_map, str) and device_map in STRATEGIES:
        if max_memory is None:
            raise ArgumentError(
                f"How much may each device keep? TensorFlow does not say what is free for device_map={device_map!r}.",
                expected="max_memory", received="None",
                remedy='pass for instance max_memory={0: "8GB", "cpu": "30GB"}, or a map of modules to devices',
            )  # fmt: skip
        limits = parse_max_memory(max_memory)
        for device, size in limits.items():
            if device != DISK and size != 0:
                as_device(device)
        return Asked(device_map, limits)
    if max_memory is not None:
        logger.warning("max_memory has no effect: device_map says already where layers go")
    if isinstance(device_map, Mapping):
        return Asked({path: as_device(device) for path, device in device_map.items()}, {})
    return Asked({"": as_device(device_map)}, {})


def as_device(device: Any) -> str:
    """Return the name of a device of TensorFlow, such as "/device:GPU:0".

    Raises:
        ArgumentError: there is none of that name, or it is the disk.
    """
    if device == DISK:
        raise ArgumentError(
            "TensorFlow keeps nothing on the disk: a layer's variables are on the device on which it runs.",
            expected=_EXPECTED, received=repr(device),
        )  # fmt: skip
    name = getattr(device, "name", device)
    name = f"GPU:{name}" if isinstance(name, int) and not isinstance(name, bool) else name
    name = {CPU: "CPU:0", "gpu": "GPU:0", "cuda": "GPU:0"}.get(name, name) if isinstance(name, str) else name
    known = [one.name for one in tf.config.list_logical_devices()]
    try:
        spec = tf.DeviceSpec.from_string(name if "/" in name else f"/device:{name}")
        made = f"/device:{spec.device_type.replace('CUDA', 'GPU')}:{spec.device_index or 0}"
    except (TypeError, ValueError, AttributeError) as cause:
        raise ArgumentError("This is no device.", expected=_EXPECTED, received=repr(device)[:80]) from cause
    if made not in known:
        raise ArgumentError("TensorFlow has no such device.", expected=", ".join(known), received=repr(device)[:80])
    return made
