"""Where the arrays of a model go: to a device, or over several as shardings of JAX say."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from triptych.errors import ArgumentError
from triptych.modeling.base import ModelBase
from triptych.placement.memory import DISK
from triptych.placement.planning import STRATEGIES
from triptych.weights import layouts
from triptych.weights.plan import LoadPlan
from triptych.weights.schema import Weight

logger = logging.getLogger("triptych")
Rule = Callable[[str, tuple[int, ...]], Any]
_AHEAD = 2**28
"""How many bytes are read ahead of what goes to another place than the memory that they were read into."""
_WHERE = "a jax.Device, a name such as 'gpu' or 'cpu:1', or a number"


class Placed(ModelBase):
    """Part of `FlaxPreTrainedModel`: arrays that a load puts where it is told, each at once.

    `from_pretrained` takes beside what all frameworks do:

    - `device`: a `jax.Device`, a platform ("gpu") or one of its devices ("gpu:1"), or a number of `jax.devices()`.
    - `sharding`: a `jax.sharding.Sharding` for all arrays; or a dict from regular expressions, the first of which that
      is found in the canonical name of a weight counts, to shardings; or a function of that name and the array's shape
      that returns one. A `PartitionSpec` stands for a sharding over `mesh`. Axes are those of the array as Flax has it,
      a kernel's [in, out]. What nothing is said of, or None, is whole on every device of the mesh, else on `device`.
    - `mesh`: a `jax.sharding.Mesh`.
    - `device_map`: one device for all, as `device`.

    With `memory_kind="pinned_host"` in a sharding, arrays stay in the host's memory, and a call copies them to the
    device for as long as it runs.
    """

    _shardings: Mapping[str, Sharding] | None = None
    """Name -> where the weight goes, while a model is loaded."""

    @classmethod
    def _take_placement(cls, arguments: dict[str, Any]) -> Rule | None:
        own = getattr(cls.module_class, "__dataclass_fields__", ())  # type: ignore[attr-defined]
        names = [name for name in ("device", "sharding", "mesh") if name in arguments and name not in own]
        given = {name: arguments.pop(name) for name in names}
        device_map, max_memory = arguments.pop("device_map", None), arguments.pop("max_memory", None)
        if max_memory is not None:
            logger.warning("max_memory has no effect: pass sharding= to say where the arrays go")
        if device_map is not None:
            if given.get("device") is not None:
                raise ArgumentError("Where do the arrays go?", expected="device or device_map", received="both")
            given["device"] = _only_device(device_map)
        return rule_of(**given) if any(value is not None for value in given.values()) else None

    def _keep_elsewhere(self, plan: LoadPlan) -> Collection[str]:
        rule = vars(self).pop("_asked_places", None)
        if rule is None:
            self._read_ahead = None if jax.default_backend() == "cpu" else _AHEAD
            return ()
        self._shardings, self._read_ahead = places(rule, plan.schema.stored()), _AHEAD
        return ()

    def _placed(self, name: str, array: Any) -> Any:
        """Return an array of numpy or JAX where the weight `name` goes."""
        try:
            return jax.device_put(array, None if self._shardings is None else self._shardings[name])
        except ValueError as cause:  # of a quantised weight, whose codes have another shape
            raise ArgumentError(f"{name} cannot be sharded so.", received=str(cause)[:300]) from cause


def rule_of(device: Any = None, sharding: Any = None, mesh: Any = None) -> Rule:
    """Return a function from the name of a weight and its shape in Flax to its sharding.

    Raises:
        ArgumentError: there is no such device, or the arguments are none of those that `Placed` names.
    """
    if not (mesh is None or isinstance(mesh, Mesh)):
        raise ArgumentError("mesh is none.", expected="a jax.sharding.Mesh", received=repr(mesh)[:80])
    if device is not None and mesh is not None:
        raise ArgumentError("Where do the arrays go?", expected="device or mesh", received="both")
    single = SingleDeviceSharding(jax.devices()[0] if device is None else as_device(device))
    rest: Sharding = single if mesh is None else NamedSharding(mesh, PartitionSpec())
    choose = _choice(sharding)

    def rule(name: str, shape: tuple[int, ...]) -> Any:
        return _as_sharding(name, choose(name, shape), mesh, rest)

    return rule


def _choice(sharding: Any) -> Rule:
    if sharding is None or isinstance(sharding, (Sharding, PartitionSpec)):
        return lambda name, shape: sharding
    if isinstance(sharding, Mapping):
        try:
            patterns = [(re.compile(pattern), chosen) for pattern, chosen in sharding.items()]
        except (re.error, TypeError) as cause:
            raise ArgumentError("A key of sharding is no pattern.", expected="regular expressions of names of weights",
                                received=str(cause)) from cause  # fmt: skip
        return lambda name, shape: next((chosen for pattern, chosen in patterns if pattern.search(name)), None)
    if callable(sharding):
        return sharding  # type: ignore[no-any-return]
    raise ArgumentError(
        "This is no sharding.",
        expected="a jax.sharding.Sharding or PartitionSpec, a dict from patterns to them, or a function",
        received=repr(sharding)[:80],
    )


def _as_sharding(name: str, chosen: Any, mesh: Mesh | None, rest: Sharding) -> Sharding:
    if chosen is None:
        return rest
    if isinstance(chosen, Sharding):
        return chosen
    if isinstance(chosen, PartitionSpec) and mesh is not None:
        try:
            return NamedSharding(mesh, chosen)
        except ValueError as cause:
            raise ArgumentError(f"{name} cannot be sharded so.", received=str(cause)) from cause
    raise ArgumentError(
        f"Where does {name} go?",
        expected="a Sharding, or a PartitionSpec with mesh=",
        received=f"{chosen!r:.80}{'' if mesh is not None else ', and no mesh'}",
    )


def places(rule: Rule, weights: list[Weight]) -> dict[str, Sharding]:
    """Return the sharding of each weight by its name.

    Raises:
        ArgumentError: an axis cannot be divided so; or the arrays are on different devices, over which JAX does not
            compute.
    """
    found: dict[str, Sharding] = {}
    for weight in weights:
        shape = layouts.native_shape(weight, "flax")
        found[weight.name] = rule(weight.name, shape)
        try:
            found[weight.name].shard_shape(shape)
        except (ValueError, IndexError) as cause:
            raise ArgumentError(
                f"{weight.name} cannot be sharded so.", expected=f"axes that divide {shape}",
                received=f"{found[weight.name]}: {cause}"[:300],
            ) from cause  # fmt: skip
    kinds = {frozenset(one.device_set): name for name, one in found.items()}
    if len(kinds) > 1:
        raise ArgumentError(
            "The arrays are on different devices, and JAX computes with arrays of one set of devices.",
            expected="shardings over one mesh: P() keeps an array whole on each of its devices",
            received="; ".join(f"{name} on {sorted(map(str, devices))}" for devices, name in list(kinds.items())[:3]),
            remedy="load it in PyTorch or TensorFlow for layers on devices of their own, by device_map",
        )
    return found


def as_device(device: Any) -> jax.Device:
    """Return a device of JAX by what names it.

    Raises:
        ArgumentError: it names none.
    """
    if isinstance(device, jax.Device):
        return device
    try:
        if isinstance(device, int) and not isinstance(device, bool) and device >= 0:
            return jax.devices()[device]
        if isinstance(device, str):
            platform, _, number = device.partition(":")
            return jax.devices(platform)[int(number or 0)]
    except (RuntimeError, ValueError, IndexError) as cause:
        raise ArgumentError("JAX has no such device.", expected=f"one of {jax.devices()}"[:200],
                            received=f"{device!r}: {cause}"[:200]) from cause  # fmt: skip
    raise ArgumentError("This is no device.", expected=_WHERE, received=repr(device)[:80])


def _only_device(device_map: Any) -> Any:
    """Return the one device of a `device_map`."""
    devices = list(device_map.values()) if isinstance(device_map, Mapping) else [device_map]
    if len({str(device) for device in devices}) != 1 or devices[0] in (*STRATEGIES, DISK):
        raise ArgumentError(
            "Flax has no device for each layer: JAX computes with arrays of one set of devices.",
            expected="one device, or None",
            received=f"device_map={device_map!r:.80}",
            remedy="pass sharding= and mesh= to spread the arrays over devices, or a memory_kind to keep them in host "
            "memory: see triptych_flax.placement.placed.Placed",
        )
    return devices[0]


def on_device(tree: Any) -> Any:
    """Return a tree of arrays with those that are in the host's memory copied to their device."""
    return jax.tree.map(_on_device, tree)


def _on_device(array: Any) -> Any:
    if isinstance(array, jax.core.Tracer):
        space = getattr(jax.typeof(array), "memory_space", None)
        return array if space in (None, jax.memory.Space.Device) else jax.device_put(array, jax.memory.Space.Device)
    sharding = getattr(array, "sharding", None)
    if sharding is None or sharding.memory_kind in (None, "device"):
        return array
    default = next(iter(sharding.device_set)).default_memory().kind
    return array if sharding.memory_kind == default else jax.device_put(array, sharding.with_memory_kind(default))


def put_like(array: np.ndarray, other: Any) -> jax.Array:
    """Return an array of numpy as JAX's, where `other` is; whole on each of its devices if the shape cannot be divided
    as that of `other` is."""
    sharding = getattr(other, "sharding", None)
    if isinstance(sharding, NamedSharding):
        try:
            sharding.shard_shape(array.shape)
        except (ValueError, IndexError):
            sharding = NamedSharding(sharding.mesh, PartitionSpec(), memory_kind=sharding.memory_kind)
    return jax.device_put(array, sharding)
