"""The hooks of accelerate by which modules run whose weights are elsewhere."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from torch import nn

from triptych_pt import internals

if TYPE_CHECKING:
    from triptych_pt.placement.dispatch import Dispatch, Place


class RunningHook(AlignDevicesHook):  # type: ignore[misc]
    """Lends a module the weights of `places`, which are kept elsewhere, for as long as it runs.

    A weight of another device is lent as a copy through which its gradient comes back. One on the disk is read.
    """

    def __init__(
        self, dispatch: Dispatch, device: torch.device, places: Sequence[Place], moves_inputs: bool, outermost: bool
    ) -> None:
        super().__init__(device, offload=bool(places), io_same_device=outermost, skip_keys=dispatch.skip_keys)
        self.dispatch, self.places, self.moves_inputs, self.outermost = dispatch, places, moves_inputs, outermost
        self._lock = threading.Lock()
        self._runs: dict[int, int] = {}  # of each thread
        self._held: list[tuple[Place, torch.Tensor]] = []
        self._inputs_from: dict[int, torch.device | None] = {}

    def init_hook(self, module: nn.Module) -> nn.Module:
        self.weights_map = _Elsewhere(self.dispatch, module)
        return module

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        if self.outermost:
            self._inputs_from[threading.get_ident()] = _device_in((args, kwargs))
        self.enter()
        if self.moves_inputs:
            args, kwargs = moved(args, self.execution_device), moved(kwargs, self.execution_device, self.skip_keys)
        return args, kwargs

    def post_forward(self, module: nn.Module, output: Any) -> Any:
        self.leave()
        device = self._inputs_from.pop(threading.get_ident(), None)
        moves_back = self.moves_inputs and device not in (None, self.execution_device)
        return moved(output, device, self.skip_keys) if moves_back else output

    def detach_hook(self, module: nn.Module) -> nn.Module:
        self.dispatch.end(module)
        if self.outermost:
            vars(module).pop("_placement", None)
        return module

    def runs(self) -> int:
        """Return how many runs of the module this thread is in."""
        return self._runs.get(threading.get_ident(), 0)

    def enter(self) -> None:
        """Lend the module its weights, unless it runs in another thread and has them."""
        if self.places:
            with self._lock:
                if not self._runs:
                    self._held = self.dispatch.lend(self, self.places)
                self._runs[threading.get_ident()] = self.runs() + 1

    def leave(self) -> None:
        """Let the module hold its own tensors again, unless it still runs."""
        if self.places:
            with self._lock:
                me, left = threading.get_ident(), self.runs() - 1
                self._runs = {**self._runs, me: left} if left > 0 else {k: n for k, n in self._runs.items() if k != me}
                if not self._runs:
                    held, self._held = self._held, []
                    self.dispatch.take_back(held)


class _Elsewhere(Mapping[str, torch.Tensor]):
    """The tensors of a module by name, with values: for code that asks accelerate's hooks for them."""

    def __init__(self, dispatch: Dispatch, module: nn.Module) -> None:
        self._dispatch, self._module = dispatch, module

    def __getitem__(self, name: str) -> torch.Tensor:
        scope, _, leaf = name.rpartition(".")
        held: torch.Tensor = internals.own_tensor(self._module.get_submodule(scope), leaf)
        stored = self._dispatch.stored_for(held)
        return held if stored is None else stored.read()

    def __iter__(self) -> Iterator[str]:
        return iter(self._module.state_dict())

    def __len__(self) -> int:
        return len(self._module.state_dict())


def attach(module: nn.Module, hook: RunningHook) -> None:
    """Let `hook` be called before and after `module`, be the run ended by an error or not: accelerate's hooks are not
    told of errors, and gradient checkpointing ends what it computes anew by one."""
    add_hook_to_module(module, hook)
    run = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        before = hook.runs()
        try:
            return run(*args, **kwargs)
        except BaseException:
            if hook.runs() > before:
                hook.leave()
            raise

    module.forward = functools.update_wrapper(forward, run)  # type: ignore[method-assign]


def moved(value: Any, device: torch.device | None, skipped: Any = None) -> Any:
    """Return what holds tensors, in tuples, lists and mappings, with those on `device`; anything else as it is."""
    if isinstance(value, torch.Tensor):
        return value if value.is_meta or value.device == device else value.to(device)
    if isinstance(value, Mapping):
        names = {skipped} if isinstance(skipped, str) else set(skipped or ())
        made = {name: one if name in names else moved(one, device) for name, one in value.items()}
        return made if type(value) is dict else type(value)(made)  # type: ignore[call-arg]
    return type(value)(moved(one, device) for one in value) if type(value) in (tuple, list) else value


def _device_in(value: Any) -> torch.device | None:
    """Return the device of the first tensor that has values."""
    if isinstance(value, torch.Tensor):
        return None if value.is_meta else value.device
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, (tuple, list)) else ()
    return next((found for one in inside if (found := _device_in(one)) is not None), None)
