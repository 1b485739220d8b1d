"""Adapters in Flax: leaves beside those of the layer that they change, and an interceptor of calls that adds them.

The tree of parameters has `lora_A` and `lora_B` where a layer has its `kernel`, each a dict from the name of an adapter
to an array, [rank, ins] and [outs, rank]. So one tree goes through `jax.jit`, `jax.grad` and files; `adapter_params`
takes out what is trained, for optax.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import unflatten_dict

from triptych.adapters.held import of_scale
from triptych.adapters.targets import Target
from triptych.errors import ArgumentError
from triptych.modeling.adapting import Adapting
from triptych.nn import seeding
from triptych.tensors.ref import TensorRef
from triptych.weights.schema import Weight
from triptych_flax import arrays, layers, ops
from triptych_flax.make import FlaxConv1D, FlaxEmbed, drops, stream

A, B = "lora_A", "lora_B"
_KINDS = (nn.Dense, nn.Embed, FlaxEmbed, FlaxConv1D)


def adding(scales: Mapping[str, Mapping[str, float]], rates: Mapping[str, float]) -> AbstractContextManager[Any]:
    """Let modules that are called in this context add the changes of adapters to their outputs.

    Args:
        scales: adapter -> layer -> by what its change is multiplied.
        rates: adapter -> rate of its dropout, where the call drops values.
    """

    running: set[layers.Path] = set()

    def add(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        is_layer = context.method_name == "__call__" and isinstance(module, _KINDS) and module.path not in running
        own = of_scale(scales, ".".join(module.path)) if is_layer else {}
        if not own:
            return call(*args, **kwargs)
        running.add(module.path)  # a class may call that of its base, which is intercepted too
        try:
            output = call(*args, **kwargs)
        finally:
            running.discard(module.path)
        inputs = args[0] if args else next(iter(kwargs.values()))
        for name, scale in own.items():
            a, b = (_leaf(module, which, name) for which in (A, B))
            if isinstance(module, nn.Embed):
                inner = jnp.take(a.T, inputs, axis=0)
            else:
                inner = _dropped(module, inputs.astype(a.dtype), name, rates[name]) @ a.T
            output = output + (inner @ b.T * scale).astype(output.dtype)
        return output

    return nn.intercept_methods(add)


def _leaf(module: nn.Module, which: str, name: str) -> Any:
    held: Any = module.get_variable(layers.PARAMETERS, which) if module.has_variable(layers.PARAMETERS, which) else {}
    if name not in held:
        raise ArgumentError(
            "The parameters lack an adapter of the model.",
            expected=f"{'/'.join(module.path)}/{which}/{name}",
            received="none",
            remedy="take model.params as they are since the adapter was loaded, or disable_adapters()",
        )
    return held[name]


def _dropped(module: nn.Module, x: jax.Array, name: str, rate: float) -> jax.Array:
    if rate == 0 or not drops(module):
        return x
    if (drawn := stream()) is not None:
        place = seeding.place_of(".".join((*module.path, "lora_dropout", name)))  # as peft calls it
        return seeding.dropped(ops, x, rate, drawn, place)
    kept = jax.random.bernoulli(module.make_rng("dropout"), 1 - rate, x.shape)
    return jnp.where(kept, x / (1 - rate), 0)


class Adapts(Adapting):
    """Part of `FlaxPreTrainedModel`."""

    params: Any
    key: Any
    _params: Any
    _path: Callable[[Weight], layers.Path]
    _made: Callable[[Any], Any]
    _holding: Any

    # -- what is trained ----------------------------------------------------------------------------------------

    def adapter_params(self, params: Any = None) -> dict[str, Any]:
        """Return of a tree, by default the model's own, what is trained while adapters act: their leaves, and the
        weights of the model that are trained with them; nested dicts without anything else.

        Raises:
            ArgumentError: no adapter acts that was added to be trained.
        """
        flat = layers.flat(self.params if params is None else params)
        return unflatten_dict({path: flat[path] for path in self._trained_paths()})

    def with_adapter_params(self, adapters: Any, params: Any = None) -> dict[str, Any]:
        """Return a tree, by default the model's own, with the leaves `adapters` in the place of its own: a whole tree
        to call the model with."""
        return unflatten_dict({**layers.flat(self.params if params is None else params), **layers.flat(adapters)})

    def adapter_mask(self, params: Any = None) -> dict[str, Any]:
        """Return a tree like the parameters, with True where `adapter_params` has a leaf: for `optax.masked`."""
        trained = set(self._trained_paths())
        return unflatten_dict(
            {path: path in trained for path in layers.flat(self.params if params is None else params)}
        )

    def _trained_paths(self) -> list[layers.Path]:
        state, schema = self._some_adapters(), self.schema
        names, weights = state.trained()
        paths = [path for name in names for one in state.held[name].targets for path in self._places(name, one)]
        if not paths and not weights:
            raise ArgumentError(
                "No adapter is trained.",
                expected="an acting adapter that add_adapter made, or that was loaded with is_trainable=True",
                received=", ".join(state.active),
            )
        return paths + [self._path(schema[weight]) for weight in weights]

    def acting_adapters(self) -> AbstractContextManager[Any]:
        """Return a context in which `model.module.apply` computes with the adapters that act, as a call of the model
        does by itself. Dropout of adapters is as of other modules: on where random numbers are brought along."""
        state = self._adapters_held()
        scales = {} if state is None else state.scales()
        if not scales:
            return nullcontext()
        assert state is not None
        return adding(scales, {name: state.held[name].config.lora_dropout for name in scales})

    # -- hooks --------------------------------------------------------------------------------------------------

    def _adapter_paths(self) -> set[layers.Path]:
        """Return the path of A and B of every adapter that the model holds."""
        state = self._adapters_held()
        every = [] if state is None else [(name, one) for name, a in state.held.items() for one in a.targets]
        return {path for name, one in every for path in self._places(name, one)}

    def _places(self, name: str, target: Target) -> tuple[layers.Path, layers.Path]:
        """Return the paths of A and B of an adapter of a layer."""
        scope = self._path(self.schema[target.weight])[:-1]
        return (*scope, A, name), (*scope, B, name)

    def _hold_adapter(self, name: str, factors: Mapping[Target, tuple[np.ndarray, np.ndarray]], rate: float) -> None:
        flat = layers.flat(self.params)
        self._refuse_other_layers(factors)
        for one, pair in factors.items():
            flat |= {path: arrays.to_native(x) for path, x in zip(self._places(name, one), pair, strict=True)}
        self._params = unflatten_dict(flat)

    def _refuse_other_layers(self, adapted: Collection[Target]) -> None:
        """Raise `ArgumentError` unless each layer is of a kind whose call computes with its matrix and nothing else."""
        with _noting_kinds() as kinds:
            jax.eval_shape(self._made, self.key)
        for one in adapted:
            kind = kinds.get(one.module)
            if kind not in _KINDS:
                raise ArgumentError(
                    f"{one.module} cannot be adapted.",
                    expected="a module of nn.Dense, nn.Embed or FlaxConv1D that is called",
                    received="none that is" if kind is None else kind.__name__,
                    remedy="leave it out of target_modules",
                )

    def _drop_adapter(self, name: str) -> None:
        flat = layers.flat(self.params)
        for one in self._some_adapters().held[name].targets:
            for path in self._places(name, one):
                del flat[path]
        self._params = unflatten_dict(flat)
        self.__dict__.pop("_generating", None)

    def _adapter_factors(self, name: str) -> dict[str, tuple[Any, Any]]:
        flat = layers.flat(self.params)
        held = self._some_adapters().held[name].targets
        return {one.module: tuple(flat[path] for path in self._places(name, one)) for one in held}  # type: ignore[misc]

    def _act_adapters(self, scales: Mapping[str, Mapping[str, float]]) -> None:
        self.__dict__.pop("_generating", None)  # compiled for those that acted before

    def _train_adapters(self, adapters: Collection[str], weights: Collection[str]) -> None:
        """Do nothing: `adapter_params` says what is trained."""

    def _is_trainable(self, weight: Weight) -> bool:
        state = self._adapters_held()
        return state is None or weight.name in state.trained()[1]

    def _refs_of_params(self, name: str, params: Any) -> dict[str, TensorRef]:
        with self._holding(params):
            return self._adapter_refs(name)


@contextmanager
def _noting_kinds() -> Iterator[dict[str, type]]:
    """Yield the names of the modules that are called in this context, and their classes."""
    found: dict[str, type] = {}

    def note(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if context.method_name == "__call__":
            found[".".join(context.module.path)] = type(context.module)
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        yield found
