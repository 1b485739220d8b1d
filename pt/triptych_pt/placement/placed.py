"""The part of `PreTrainedModel` by which weights go to several devices, the CPU and the disk."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from triptych.errors import ArgumentError, DispatchedModelError
from triptych.placement.memory import DISK
from triptych.placement.outline import Outline, planned
from triptych.placement.planning import mapped
from triptych.tensors.ref import TensorRef
from triptych.weights.plan import Assignment, LoadPlan
from triptych.weights.schema import Weight
from triptych_pt import internals
from triptych_pt.placement import asked
from triptych_pt.placement.dispatch import Dispatch, live_outline
from triptych_pt.placement.stored import Stored, stays_in_its_file, write_offloaded

logger = logging.getLogger("triptych")


class Placed:
    """Weights on several devices: loading and dispatching.

    `hf_device_map`, path -> device, is there if a map was given.
    """

    _no_split_modules: ClassVar[Sequence[str] | None] = None
    _skip_keys_device_placement: ClassVar[Any] = None
    _placement: Dispatch | None = None
    _asked_places: asked.Asked | None = None  # while the model is loaded

    def dispatch(
        self,
        device_map: Any = "auto",
        max_memory: Mapping[Any, Any] | None = None,
        offload_folder: Any = None,
        offload_buffers: bool = False,
    ) -> Any:
        """Move the weights of a loaded model to where `device_map` says, and return the model.

        `from_pretrained` has the same arguments, and never holds in memory what goes to the disk. Each module runs on
        its device, one of the CPU or the disk on the first accelerator, if the map has one: it gets copies of its
        weights then. The gradient of a weight on the CPU is computed as ever; one on the disk is not trained.

        Args:
            device_map: "auto", which is "balanced"; "balanced_low_0"; "sequential"; a device or its number; or a dict
                of paths of modules, "" for the rest, to devices, "cpu" and "disk". Modules of the classes
                `_no_split_modules` are not split, and what shares an array is kept together.
            max_memory: device -> bytes or text such as "8GB": what the weights may take, with the largest layer that
                has to come to a device. By default 0.9 of what is free.
            offload_folder: where weights of the disk are written, unless they lie in safetensors already.
            offload_buffers: keep buffers where their modules' weights are kept, too.

        Raises:
            ArgumentError: as `from_pretrained`; the model is dispatched already; or `device_map` has the meta device.
            SaveError: the folder cannot be written to. MissingBackendError: accelerate is not installed.
        """
        if self._placement is not None:
            raise ArgumentError(
                "The model is dispatched already.", received=str(self._placement.device_map)[:80],
                remedy="end that first: accelerate.hooks.remove_hook_from_module(model, recurse=True)",
            )  # fmt: skip
        wanted = asked.Asked.of(device_map, max_memory, offload_folder, offload_buffers)
        outline = live_outline(self._itself(), self._not_split(), {}, {})
        self._carry_out(self._planned(wanted, outline), keeps_values=True)
        return self

    @property
    def device(self) -> torch.device:
        """Device of the first parameter; if that is kept elsewhere, the device on which it is used."""
        for module in self._itself().modules():
            if next(module.parameters(recurse=False), None) is not None:
                return internals.running_device(module)
        return super().device  # type: ignore[misc,no-any-return]

    def _apply(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Refuse `to`, `cuda`, `half` and whatever else changes all tensors of a dispatched model."""
        if self._placement is not None:
            raise DispatchedModelError(
                "A dispatched model is neither moved nor cast.", expected="weights on one device",
                received=str(self._placement.device_map)[:160], remedy="load it with another device_map or dtype",
            )  # fmt: skip
        return super()._apply(fn, *args, **kwargs)  # type: ignore[misc]

    # -- a load -------------------------------------------------------------------------------------------------

    @classmethod
    def _take_placement(cls, arguments: dict[str, Any]) -> asked.Asked | None:
        return asked.take(arguments)

    def _keep_elsewhere(self, plan: LoadPlan) -> Collection[str]:
        """Plan where the weights go; return those that are not read into memory."""
        wanted = vars(self).pop("_asked_places", None)
        if wanted is None:
            return ()
        dispatch = self._planned(wanted, live_outline(self._itself(), self._not_split(), *planned(plan)))
        self._placement = dispatch
        away = [a for a in plan.assignments if dispatch.keeps_on_disk(a.weight.name, _stays(a.weight))]
        dispatch.stored |= {a.weight.name: Stored(a.ref, a.dtype) for a in away if stays_in_its_file(a)}
        others = [_as_loaded(a) for a in away if a.weight.name not in dispatch.stored]
        dispatch.stored |= write_offloaded(others, wanted.offload_folder)
        without = [a.weight.name for a in plan.assignments if dispatch.device_for(a.weight.name).type == "meta"]
        return {*dispatch.stored, *without}

    def _settle(self) -> None:
        """Carry out the map, once every weight has a value or stays in its file."""
        wanted = vars(self).pop("_asked_places", None)
        if wanted is not None:  # a module that loads its own way was asked to
            self._placement = self._planned(wanted, live_outline(self._itself(), self._not_split(), {}, {}))
        if self._placement is not None:
            self._carry_out(self._placement)

    def _planned(self, wanted: asked.Asked, outline: Outline) -> Dispatch:
        modules = [path for path, _ in self._itself().named_modules()]
        limits = {} if isinstance(wanted.device_map, Mapping) else wanted.limits()
        device_map = mapped(wanted.device_map, outline, limits, modules)
        skipped = self._skip_keys_device_placement or "past_key_values"
        return Dispatch(device_map, outline, wanted.offload_folder, wanted.offload_buffers, skipped)

    def _carry_out(self, dispatch: Dispatch, keeps_values: bool = False) -> None:
        places = {str(device) for device in dispatch.device_map.values()}
        if keeps_values and "meta" in places:
            raise ArgumentError("On the meta device the weights would be lost.", received=str(dispatch.device_map)[:80])
        dispatch.settle(self._itself())
        self._placement = dispatch if dispatch.is_spread else None
        self.hf_device_map = dict(dispatch.device_map)
        if DISK in places:
            logger.warning("Weights that device_map puts on the disk are read when their layers run, and not trained.")

    def _itself(self) -> nn.Module:
        return self  # type: ignore[return-value]

    def _not_split(self) -> set[str]:
        """Return the names of classes that are not split: of this model, and of those within."""
        models = [module for module in self._itself().modules() if isinstance(module, Placed)]
        return {name for model in models for name in model._no_split_modules or ()}

    # -- weights that are elsewhere -----------------------------------------------------------------------------

    def _value_of(self, owner: nn.Module, leaf: str) -> torch.Tensor:
        """Return the parameter or buffer `leaf`, read from its file or from wherever a hook of accelerate has it."""
        held: torch.Tensor = internals.own_tensor(owner, leaf)
        if not held.is_meta:
            return held
        elsewhere = internals.weights_elsewhere(owner)
        return held if elsewhere is None else elsewhere[leaf]

    def _give_value(self, held: torch.Tensor, value: torch.Tensor) -> bool:
        """Let a weight that stays in a file have a new value in memory; return whether it did stay in one."""
        if self._placement is None or self._placement.stored_for(held) is None:
            return False
        self._placement.replace(held, value)
        return True


def _stays(weight: Weight) -> bool:
    """Return whether it is a buffer, and no part of a packed matrix."""
    return weight.buffer and weight.packed is None


def _as_loaded(assignment: Assignment) -> TensorRef:
    """Return a reference to the array that a load would give the module."""

    def read() -> np.ndarray:
        return assignment.read("pt")

    return TensorRef(assignment.weight.name, assignment.dtype, assignment.weight.shape, read)
