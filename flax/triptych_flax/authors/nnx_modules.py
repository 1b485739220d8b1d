"""A module of nnx as a function of its variables: what `FlaxPreTrainedModel` asks of a linen module.

Variables are in collections, as linen has them: those of `nnx.Param` in "params", those of `nnx.BatchStat` in
"batch_stats", those of any other type under the name that flax has for it. Keys are texts, those of lists too. Random
keys and what belongs to a call alone (`layers.PASSING`) are no variables of a model; arrays that are held without an
`nnx.Variable` are made by the constructor, and no weights.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.core.scope import in_filter
from flax.traverse_util import unflatten_dict

from triptych.errors import ArgumentError
from triptych.weights.schema import Layout
from triptych_flax import internals, layers

Path = tuple[str, ...]
_Key = tuple[Any, ...]
_TAKEN = ("self", "config", "dtype", "rngs")
_INTERMEDIATES = "intermediates"


class Functional:
    """A module of nnx, made anew of its variables for each call.

    Args:
        kind: the class, called as `kind(config=..., rngs=..., dtype=..., **fields)`, without what it does not take.
        config: the model's config; None for an `instance`.
        dtype: dtype of the computation.
        fields: further arguments of the class.
        seed: of the random keys with which arrays that are no variables are made.
        instance: a module that was made already, whose values are the first ones.

    Raises:
        ArgumentError: the class takes no `dtype`, and another than float32 is asked for.
    """

    def __init__(
        self, kind: type, config: Any, dtype: Any, fields: Mapping[str, Any], seed: int = 0, instance: Any = None
    ) -> None:
        self.kind, self.config, self.dtype, self.fields = kind, config, dtype, dict(fields)
        self.seed, self.instance = seed, instance
        self._attributes: dict[str, bool] = {}
        self._made: _Blueprint | None = None
        if instance is None and dtype != jnp.float32 and "dtype" not in _arguments(kind):
            raise ArgumentError(
                f"{kind.__name__} has no dtype.",
                expected="a constructor with an argument dtype, or float32",
                received=str(dtype),
            )

    @classmethod
    def of(cls, module: nnx.Module, dtype: Any) -> Functional:
        """Return a module that was made already as a function of its variables."""
        return cls(type(module), getattr(module, "config", None), dtype, {}, instance=module)

    def __getattr__(self, name: str) -> Any:
        fields = vars(self).get("fields", {})
        if name not in fields:
            raise AttributeError(f"{type(self).__name__} of {vars(self).get('kind')} has no {name}")
        return fields[name]

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_made": None}

    def clone(self, **changes: Any) -> Functional:
        """Return this with another config or other fields."""
        new = copy.copy(self)
        new._made = None
        new.config = changes.pop("config", self.config)
        new.fields = {**self.fields, **changes}
        return new

    def in_mode(self, train: bool) -> Functional:
        """Return this as it is trained, or not: as `nnx.Module.train` and `eval` have it."""
        return self._with(deterministic=not train, use_running_average=not train)

    @property
    def gradient_checkpointing(self) -> bool:
        """Whether a module computes its layers anew for the gradient."""
        named = self.fields.get("gradient_checkpointing", False)
        return bool(self._attributes.get("gradient_checkpointing", named))

    def checkpointed(self, enable: bool) -> Functional:
        """Return this with `gradient_checkpointing` so: the argument of the constructor or, without one, the attribute
        of every module that has it.

        Raises:
            ArgumentError: there is neither.
        """
        name = "gradient_checkpointing"
        if self.instance is None and name in _arguments(self.kind):
            return self.clone(**{name: enable})
        if not any(hasattr(module, name) for _, module in nnx.iter_modules(self._blueprint().module)):
            raise ArgumentError(
                f"{self.kind.__name__} cannot compute its layers anew for the gradient.",
                expected="a module with an attribute gradient_checkpointing, which it heeds where it calls its layers",
                received="none",
            )
        return self._with(**{name: enable})

    def _with(self, **attributes: bool) -> Functional:
        """Return this with attributes of all modules that have them."""
        new = copy.copy(self)
        new._attributes = {**self._attributes, **attributes}
        new._made = None if self._made is None else self._made.with_attributes(attributes)
        return new

    # -- as linen's ---------------------------------------------------------------------------------------------

    def resized(self, config: Any, variables: Mapping[str, Any]) -> Functional:
        """Return this with `config`, whose variables have other shapes now."""
        new = self.clone(config=config)
        if self.instance is not None:
            new.instance = self.bind(variables)  # its layers cannot be made anew
        return new

    def lacking(self, rngs: Mapping[str, Any], held: Collection[Path]) -> dict[Path, Any]:
        """Return path -> new value of the variables that are not in `held`, without computing those that are."""

        def made(rngs: Mapping[str, Any]) -> dict[Path, Any]:
            found = layers.flat(layers.without_empty(self.init(rngs)))
            return {path: leaf for path, leaf in found.items() if path not in held}

        return (jax.jit(made) if held and self.instance is None else made)(rngs)

    def init(self, rngs: Mapping[str, Any]) -> dict[str, Any]:
        """Return new variables, by collection.

        Raises:
            ArgumentError: a module that was made already, without values.
        """
        if self.instance is None:
            return variables_of(self._new(rngs))
        made = variables_of(self.instance)
        if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(made)):
            raise ArgumentError(
                "The module has no values.",
                expected="a module of nnx that was not made by nnx.eval_shape, or module_class and no module",
                received=self.kind.__name__,
            )
        return made

    def apply(
        self,
        variables: Mapping[str, Any],
        *inputs: Any,
        rngs: Mapping[str, Any] | None = None,
        mutable: Any = False,
        method: Callable[..., Any] | None = None,
        **options: Any,
    ) -> Any:
        """Call the module; with `mutable`, return what it returned and the collections that this names."""
        module: Any = self.bind(variables, rngs)
        call = type(module).__call__ if method is None else method
        if mutable is False:
            return call(module, *inputs, **options)
        if in_filter(mutable, _INTERMEDIATES):
            output, seen = nnx.capture(call, nnx.Intermediate)(module, *inputs, **options)
            new = {**variables_of(module), **_by_collection(seen)}
        else:
            output, new = call(module, *inputs, **options), variables_of(module)
        return output, {name: tree for name, tree in new.items() if in_filter(mutable, name)}

    def bind(self, variables: Mapping[str, Any], rngs: Mapping[str, Any] | None = None) -> Any:
        """Return a module of nnx that holds these variables.

        Args:
            variables: collections of nested dicts.
            rngs: name of a stream of random numbers -> key. A stream of another name has keys of "dropout"; without
                that, those of `seed`.

        Raises:
            ArgumentError: a variable is missing, or of another shape.
        """
        made = self._blueprint()
        given = layers.flat(variables)
        keys = _Keys(rngs or {}, self.seed)
        leaves = []
        for path, leaf in made.leaves.items():
            if isinstance(leaf, nnx.RngState):
                leaves.append((path, leaf.replace(keys.of(leaf))))
            elif (place := _place(path, leaf)) is not None:
                leaves.append((path, leaf.replace(self._fitting(given, place, leaf))))
            else:
                leaves.append((path, made.rest(self)[path]))
        return nnx.merge(made.graph, nnx.from_flat_state(leaves))

    def _fitting(self, given: Mapping[Path, Any], place: Path, leaf: Any) -> Any:
        if place not in given:
            raise ArgumentError("The parameters do not fit the module.", received=f"no {'/'.join(place)}")
        if self.instance is None and jnp.shape(given[place]) != leaf.get_value().shape:
            raise ArgumentError(
                "The parameters do not fit the module.",
                expected=f"{'/'.join(place)} {leaf.get_value().shape}",
                received=str(jnp.shape(given[place])),
            )
        return given[place]

    # -- what it is made of -------------------------------------------------------------------------------------

    @property
    def layouts(self) -> dict[Path, Layout]:
        """Path -> layout of the kernels whose leaf does not tell it: see `layers.noting_layouts`."""
        found: dict[Path, Layout] = {}
        for scope, module in nnx.iter_modules(self._blueprint().module):
            kernel = getattr(module, "kernel", None)
            rank = _rank(module)
            if rank is not None and isinstance(kernel, nnx.Variable) and len(kernel.get_value().shape) != rank:
                found[(*map(str, scope), "kernel")] = Layout.PARAMETER
        return found

    @property
    def shared(self) -> dict[Path, Path]:
        """Another place of a variable that the module holds at several -> its place in the tree, without collection."""
        return self._blueprint().shared

    def _new(self, rngs: Mapping[str, Any]) -> Any:
        known = _arguments(self.kind)
        named = {"config": self.config, "dtype": self.dtype}
        if "rngs" in known:
            named["rngs"] = nnx.Rngs(**{"default": rngs["params"], **rngs})
        return self.kind(**{name: value for name, value in named.items() if name in known}, **self.fields)

    def _blueprint(self) -> _Blueprint:
        if self._made is None:
            made = _traced(self) if self.instance is None else None
            self._made = (made or _built(self)).with_attributes(self._attributes)
        return self._made


class _Blueprint:
    """A module without values: its graph, and by path its variables and other arrays, as shapes."""

    def __init__(self, graph: Any, leaves: dict[_Key, Any], rest: dict[_Key, Any] | None = None) -> None:
        self.graph, self.leaves, self._rest = graph, leaves, rest

    def with_attributes(self, attributes: Mapping[str, bool]) -> _Blueprint:
        """Return the blueprint of the module after `nnx.Module.set_attributes`."""
        if not attributes:
            return self
        module = self.module
        module.set_attributes(raise_if_not_found=False, **attributes)
        graph, state = nnx.split(module)
        return _Blueprint(graph, dict(nnx.to_flat_state(state)), self._rest)

    @property
    def module(self) -> Any:
        """The module."""
        return nnx.merge(self.graph, nnx.from_flat_state(self.leaves.items()))

    @cached_property
    def shared(self) -> dict[Path, Path]:
        """See `Functional.shared`."""
        found: dict[Path, Path] = {}
        for first, *others in nnx.find_duplicates(self.module):
            for path in self.leaves:
                if path[: len(first)] == first:
                    found |= {_texts((*other, *path[len(first) :])): _texts(path) for other in others}
        return found

    def rest(self, owner: Functional) -> dict[_Key, Any]:
        """Return path -> what a call begins with and no checkpoint holds, as the constructor makes it."""
        if self._rest is None:
            self._rest = _built(owner)._rest
            assert self._rest is not None
        return self._rest


def _traced(owner: Functional) -> _Blueprint | None:
    """Return a blueprint for which no array was made; None where the module holds arrays beside its variables, which
    flax takes for constants while it is traced."""
    graphs, holds_arrays = [], False

    def trace() -> Any:
        nonlocal holds_arrays
        module = owner._new(_first_keys(owner.seed))
        parts = (part for _, inner in nnx.iter_modules(module) for part in vars(inner).values())
        holds_arrays = any(internals.is_traced(part) for part in parts)
        graph, state = nnx.split(module)
        graphs.append(graph)
        return state

    state = jax.eval_shape(trace)
    return None if holds_arrays else _Blueprint(graphs[0], dict(nnx.to_flat_state(state)))


def _built(owner: Functional) -> _Blueprint:
    """Return the blueprint of a module that is made for it."""
    with jax.ensure_compile_time_eval():  # a call may be traced, and this is for every call
        module = owner._new(_first_keys(owner.seed)) if owner.instance is None else owner.instance
    graph, state = nnx.split(module)
    leaves = nnx.to_flat_state(state)
    rest = {p: x for p, x in leaves if not isinstance(x, nnx.RngState) and _place(p, x) is None}
    return _Blueprint(graph, dict(nnx.to_flat_state(jax.eval_shape(lambda: state))), rest)


class _Keys:
    """Random keys for the streams of a module, another for each."""

    def __init__(self, given: Mapping[str, Any], seed: int) -> None:
        self.given, self.seed, self.number = given, seed, 0

    def of(self, leaf: Any) -> Any:
        """Return the value of a key or of a count of what was drawn."""
        shape = leaf.get_value().shape
        if isinstance(leaf, nnx.RngCount):
            return jnp.zeros(shape, jnp.uint32)
        key = self.given.get(leaf.tag, self.given.get("dropout"))
        key = jax.random.key(self.seed) if key is None else _typed(key)
        self.number += 1
        key = jax.random.fold_in(key, self.number)
        return jax.random.split(key, shape) if shape else key


def _typed(key: Any) -> Any:
    is_typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return key if is_typed else jax.random.wrap_key_data(key)


def _first_keys(seed: int) -> dict[str, Any]:
    return dict(zip(("params", "dropout"), jax.random.split(jax.random.key(seed)), strict=True))


def _arguments(kind: Any) -> Collection[str]:
    return inspect.signature(kind.__init__).parameters


def fields_of(kind: type) -> Collection[str]:
    """Return the names of the arguments of a class beside `config`, `dtype` and `rngs`."""
    return [name for name in _arguments(kind) if name not in _TAKEN]


def _texts(path: tuple[Any, ...]) -> Path:
    return tuple(map(str, path))


def _place(path: tuple[Any, ...], leaf: Any) -> Path | None:
    """Return where a variable is in a tree of collections; None for what is no variable of a model."""
    if not isinstance(leaf, nnx.Variable) or isinstance(leaf, nnx.RngState):
        return None
    collection = _collection(type(leaf))
    return None if collection in layers.PASSING else (collection, *_texts(path))


def _collection(kind: type) -> str:
    for known, name in ((nnx.Param, layers.PARAMETERS), (nnx.BatchStat, "batch_stats")):
        if issubclass(kind, known):
            return name
    return nnx.variable_name_from_type(kind, allow_register=True)


def variables_of(source: Any) -> dict[str, Any]:
    """Return the variables of a module of nnx, or of its state, by collection, as nested dicts of arrays."""
    state = nnx.state(source) if isinstance(source, nnx.Module) else source
    placed = ((_place(path, leaf), leaf) for path, leaf in nnx.to_flat_state(state))
    return unflatten_dict({place: leaf.get_value() for place, leaf in placed if place is not None})


def _by_collection(state: Any) -> dict[str, Any]:
    found = {(_collection(type(x)), *_texts(path)): x.get_value() for path, x in nnx.to_flat_state(state)}
    return unflatten_dict(found)


def _rank(module: Any) -> int | None:
    """Return how many axes the kernel of a layer has where it is one of PyTorch's; None of what is no such layer."""
    if isinstance(module, nnx.ConvTranspose):
        return len(module.kernel_size) + 2 if module.transpose_kernel else -1
    if isinstance(module, nnx.Conv):
        return len(module.kernel_size) + 2
    return 2 if isinstance(module, (nnx.Linear, nnx.LinearGeneral)) else None


def as_nnx(module: Any, variables: Mapping[str, Any], rngs: Mapping[str, Any]) -> nnx.Module:
    """Return a module of nnx that holds `variables`: of a `Functional`, or of linen by `nnx.bridge.ToNNX`."""
    if isinstance(module, Functional):
        return module.bind(variables, rngs)
    made = nnx.bridge.ToNNX(module, nnx.Rngs(**rngs) if rngs else None)
    for name, value in nnx.bridge.variables.linen_vars_to_nnx_attrs(dict(variables)).items():
        setattr(made, name, nnx.data(value))
    return made


def is_state(value: Any) -> bool:
    """Return whether `value` is a module of nnx or the state of one."""
    return isinstance(value, (nnx.Module, nnx.State))
