"""A model whose weights are on several devices, the CPU and the disk."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from triptych.errors import ArgumentError
from triptych.placement.mapping import device_of, homes
from triptych.placement.memory import CPU, DISK
from triptych.placement.outline import Outline
from triptych.tensors.ref import TensorRef
from triptych_pt import arrays, internals
from triptych_pt.make import Block
from triptych_pt.packed import PackedLayer
from triptych_pt.placement.asked import as_device, needs_accelerate
from triptych_pt.placement.stored import Stored, write_offloaded

if TYPE_CHECKING:
    from triptych_pt.placement.hooks import RunningHook

Place = tuple[nn.Module, str]
"""A module, and the name that it has for a parameter or buffer."""
_READ_BY_THEIR_OWNERS = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
"""Modules of PyTorch that compute with the weights of modules within them, without calling these."""


def whole_modules(model: nn.Module, not_split: Collection[str]) -> set[str]:
    """Return the paths of modules whose weights stay on one device: those of the classes `not_split`, and parts whose
    declaration says so."""
    return {
        path for path, module in model.named_modules()
        if path and (type(module).__name__ in not_split or isinstance(module, _READ_BY_THEIR_OWNERS)
                     or (isinstance(module, Block) and module.whole))
    }  # fmt: skip


def live_outline(
    model: nn.Module, not_split: Collection[str], planned: Mapping[str, int], ties: Mapping[str, str]
) -> Outline:
    """Return the outline of a live module.

    `planned` are the bytes that weights will take, and `ties` which share an array, by name; of others the module is
    asked.
    """
    sizes, ties = dict(planned), dict(ties)
    first: dict[torch.Tensor, str] = {}
    for name, tensor in named_tensors(model):
        source = first.setdefault(tensor, name)
        if name in sizes or name in ties:
            continue
        if source == name:
            sizes[name] = tensor.nbytes
        else:
            ties[name] = ties.get(source, source)
    return Outline(sizes, ties, whole_modules(model, not_split))


def named_tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield every parameter and buffer under each of its names."""
    for path, module in model.named_modules(remove_duplicate=False):
        dot = f"{path}." if path else ""
        yield from ((dot + leaf, tensor) for leaf, tensor in internals.own_tensors(module))


@dataclass
class _Held:
    """One tensor of a model: its names, and where it is held under each.

    `packed`: it is a buffer as a part of a packed matrix, and goes where matrices go.
    """

    names: list[str] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    buffer: bool = False
    packed: bool = False
    saved: bool = True

    @property
    def stays(self) -> bool:
        """Whether it is kept where it is used, unless `offload_buffers` says otherwise."""
        return self.buffer and not self.packed


class Dispatch:
    """How a model runs whose weights are where a map says.

    Attributes:
        device_map: path -> device or "disk".
        stored: weight -> the file in which it stays. The model has a meta tensor for it, which is not trained.
        main: the device on which layers run that the CPU or the disk keeps.
        hooks: what lends the modules their weights.
    """

    def __init__(
        self,
        device_map: Mapping[str, Any],
        outline: Outline,
        offload_folder: Any = None,
        offload_buffers: bool = False,
        skip_keys: Any = None,
    ) -> None:
        self.device_map, self.outline, self.skip_keys = device_map, outline, skip_keys
        self.stored: dict[str, Stored] = {}
        self.hooks: list[RunningHook] = []
        devices = [as_device(device) for device in device_map.values() if device != DISK]
        self.main = next((device for device in devices if device.type not in (CPU, "meta")), torch.device(CPU))
        self._folder, self._offload_buffers = offload_folder, offload_buffers
        self._homes = homes(device_map, outline)
        self._held: dict[torch.Tensor, _Held] = {}
        self._files: dict[torch.Tensor, Stored] = {}
        self._lent: set[torch.Tensor] = set()
        self._ahead = _Ahead()

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise ArgumentError(
            "A dispatched model is neither copied nor pickled: its weights are elsewhere.",
            remedy="save it by save_pretrained, and load it again",
        )

    # -- what the map says --------------------------------------------------------------------------------------

    @property
    def is_spread(self) -> bool:
        """Whether there is more than one device, or the disk, so that modules are lent weights."""
        kept = {DISK if device == DISK else as_device(device) for device in self.device_map.values()}
        return len(kept) > 1 or DISK in kept

    def runs_on(self, path: str) -> torch.device:
        """Return the device on which a module, or what has a weight, runs."""
        device = device_of(self.device_map, path)
        found = self.main if device in (None, DISK) else as_device(device)
        return self.main if found.type == CPU else found

    def keeps_on_disk(self, name: str, buffer: bool) -> bool:
        """Return whether a weight stays in a file; a buffer only with `offload_buffers`."""
        return bool(self._home_of(name) == DISK) and (self._offload_buffers or not buffer)

    def device_for(self, name: str, buffer: bool = False) -> torch.device:
        """Return the device that keeps a weight which is not on the disk."""
        home = self._home_of(name)
        stays = home in (None, DISK) or (buffer and not self._offload_buffers)
        return self.runs_on(name) if stays else as_device(home)

    def _home_of(self, name: str) -> Any:
        source = self.outline.ties.get(name, name)
        return self._homes[source] if source in self._homes else device_of(self.device_map, name)

    # -- carrying it out ----------------------------------------------------------------------------------------

    def settle(self, model: nn.Module) -> None:
        """Put every weight into its place, and let hooks lend them to the modules that run elsewhere.

        Raises:
            ArgumentError: weights are to go to the disk, and there is no folder for them. SaveError.
            MissingBackendError: accelerate is not installed.
        """
        self._held = _held_in(model)
        self._store()
        for tensor, held in list(self._held.items()):
            stored = next((self.stored[name] for name in held.names if name in self.stored), None)
            if stored is not None:
                self._leave_out(tensor, stored)
            elif not tensor.is_meta:
                self._move(tensor, self.device_for(held.names[0], held.stays))
        if self.is_spread:
            self._attach(model)

    def _store(self) -> None:
        """Write what is to go to the disk and does not lie there yet."""
        leaving = {
            held.names[0]: tensor for tensor, held in self._held.items()
            if not tensor.is_meta and held.saved and self.keeps_on_disk(held.names[0], held.stays)
            and self.stored.keys().isdisjoint(held.names)
        }  # fmt: skip
        refs = [
            TensorRef(name, arrays.numpy_dtype(t.dtype), tuple(t.shape), lambda t=t: arrays.to_numpy(t))  # type: ignore[misc]
            for name, t in leaving.items()
        ]
        self.stored |= write_offloaded(refs, self._folder)

    def _leave_out(self, tensor: torch.Tensor, stored: Stored) -> None:
        """Let the model have a meta tensor for one that is in a file."""
        held = self._held.pop(tensor)
        meta = torch.empty(tensor.shape, dtype=arrays.native_dtype(stored.dtype), device="meta")
        new = meta if held.buffer else nn.Parameter(meta, requires_grad=False)
        for owner, leaf in held.places:
            internals.share(owner, leaf, new)
        self._held[new], self._files[new] = held, stored

    def _move(self, tensor: torch.Tensor, device: torch.device) -> None:
        """Put a tensor onto another device: the same one, for an optimizer that has it."""
        if device.type == "meta":  # a buffer: no value of it is needed
            for place in self._held[tensor].places:
                internals.share(*place, tensor.to(device))
        elif tensor.device != device:
            tensor.data = tensor.data.to(device)

    def _attach(self, model: nn.Module) -> None:
        try:
            from triptych_pt.placement import hooks
        except ImportError as cause:
            raise needs_accelerate() from cause
        several = len({self.runs_on(path) for path in self.device_map}) > 1
        moves = several or self.main.type != CPU
        reading = []
        for path, module in model.named_modules():
            places = self._borrowed(path, module)
            if places or not path or (moves and path in self.device_map):
                hook = hooks.RunningHook(self, self.runs_on(path), places, moves_inputs=moves, outermost=not path)
                hooks.attach(module, hook)
                self.hooks.append(hook)
                inside = any(path.startswith(f"{whole}.") for whole in self.outline.whole)
                reading += [hook] if not inside and self.files_of(hook.places) else []
        self._ahead.follow(reading)

    def _borrowed(self, path: str, module: nn.Module) -> list[Place]:
        """Return what a module computes with that is kept elsewhere."""
        device = self.runs_on(path)
        members = [*module.modules()] if path in self.outline.whole else [module]
        sources = [source for one in members if isinstance(one, PackedLayer) for source in one.source]
        owners = dict.fromkeys((*members, *sources))
        return [
            (owner, leaf) for owner in owners for leaf, tensor in internals.own_tensors(owner)
            if tensor in self._files or (tensor.device != device and not tensor.is_meta)
        ]  # fmt: skip

    # -- what hooks ask -----------------------------------------------------------------------------------------

    def stored_for(self, tensor: torch.Tensor) -> Stored | None:
        """Return the file that keeps a tensor of the model; None if it has values."""
        return self._files.get(tensor)

    def files_of(self, places: Sequence[Place]) -> dict[torch.Tensor, Stored]:
        """Return the files of what is held at `places` and stays in one."""
        held = [internals.own_tensor(*place) for place in places]
        return {tensor: self._files[tensor] for tensor in held if tensor in self._files}

    def lend(self, hook: RunningHook, places: Sequence[Place]) -> list[tuple[Place, torch.Tensor]]:
        """Put tensors on the device of `hook` into `places`, and return what they held.

        What another hook has lent already stays. The files that are likely to be needed next are read meanwhile.
        """
        held = [(place, internals.own_tensor(*place)) for place in places]
        held = [(place, tensor) for place, tensor in held if tensor not in self._lent]
        files = {tensor: self._files[tensor] for _, tensor in held if tensor in self._files}
        values = self._ahead.read(hook, files, self.files_of) if files else {}
        lent = [values.get(tensor, tensor).to(hook.execution_device) for _, tensor in held]
        self._lent.update(lent)
        for (place, _), tensor in zip(held, lent, strict=True):
            internals.lend(*place, tensor)
        return held

    def take_back(self, held: Sequence[tuple[Place, torch.Tensor]]) -> None:
        """Undo `lend`, which returned `held`."""
        for place, tensor in held:
            self._lent.discard(internals.own_tensor(*place))
            internals.lend(*place, tensor)

    # -- changes ------------------------------------------------------------------------------------------------

    def replace(self, tensor: torch.Tensor, value: torch.Tensor) -> None:
        """Let a weight that stays in a file have a value of its own from now on, which is trained."""
        held, _ = self._held.pop(tensor), self._files.pop(tensor)
        value = value.to(self.runs_on(held.names[0]))
        trained = value.is_floating_point() and not held.buffer
        new = value if held.buffer else nn.Parameter(value, requires_grad=trained)
        for owner, leaf in held.places:
            internals.share(owner, leaf, new)
        self._held[new] = held
        self.stored = {name: file for name, file in self.stored.items() if name not in held.names}

    def end(self, module: nn.Module) -> None:
        """Give the weights of a module that are in files values of their own: its hook goes."""
        for _, tensor in internals.own_tensors(module):
            if (stored := self._files.get(tensor)) is not None:
                self.replace(tensor, stored.read())


class _Ahead:
    """Reads the files that are needed next on a thread, in the order in which they were needed before."""

    def __init__(self) -> None:
        self._following: dict[RunningHook, RunningHook] = {}
        self._last: RunningHook | None = None
        self._begun: dict[RunningHook, Future[dict[torch.Tensor, torch.Tensor]]] = {}
        self._thread: ThreadPoolExecutor | None = None

    def follow(self, hooks: Sequence[RunningHook]) -> None:
        """Expect this order at first."""
        self._following = dict(zip(hooks, [*hooks[1:], *hooks[:1]], strict=True))

    def read(self, hook: RunningHook, files: Mapping[torch.Tensor, Stored], files_of: Any) -> Any:
        """Return the values of `files`, which `hook` needs now."""
        begun = self._begun.pop(hook, None)
        values = begun.result() if begun is not None else {}
        if self._last is not None:
            self._following[self._last] = hook
        self._last = hook
        following = self._following.get(hook)
        if following is not None and following is not hook:
            self._begin(following, files_of(following.places))
        for source in {stored.mapped_from for stored in files.values() if stored.mapped_from is not None}:
            source.check()
        return {tensor: stored.read() for tensor, stored in files.items() if tensor not in values} | values

    def _begin(self, hook: RunningHook, files: Mapping[torch.Tensor, Stored]) -> None:
        waiting = {tensor: stored for tensor, stored in files.items() if not stored.is_at_hand()}
        if waiting:
            self._thread = self._thread or ThreadPoolExecutor(1)
            self._begun = {hook: self._thread.submit(_read_ahead, waiting)}  # of one, no more


def _read_ahead(files: Mapping[torch.Tensor, Stored]) -> dict[torch.Tensor, torch.Tensor]:
    return {tensor: stored.read_ahead() for tensor, stored in files.items()}


def _held_in(model: nn.Module) -> dict[torch.Tensor, _Held]:
    found: dict[torch.Tensor, _Held] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        for leaf, tensor in internals.own_tensors(module):
            held = found.setdefault(tensor, _Held())
            held.names.append(f"{path}.{leaf}" if path else leaf)
            held.places.append((module, leaf))
            held.buffer = leaf in dict(module.named_buffers(recurse=False))
            held.packed = isinstance(module, PackedLayer) and module.part_of(leaf) is not None
            held.saved = not held.buffer or leaf in dict(internals.persistent_buffers(module))
    return found
