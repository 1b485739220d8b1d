"""`FlaxPreTrainedModel`: the plans of core, carried out on a tree of parameters and a linen module."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, ClassVar

import flax.errors
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from triptych.checkpoints.legacy import LegacyWeight
from triptych.checkpoints.opening import Checkpoint
from triptych.config import PretrainedConfig
from triptych.errors import ArgumentError
from triptych.formats.kinds import Format
from triptych.modeling.base import logger, refuse_unknown
from triptych.modeling.derived import LiveWeight
from triptych.modeling.hooks import Answer
from triptych.nn.parts import Model
from triptych.tensors.arrays import permuted
from triptych.tensors.dtypes import FLOATING, is_auto, parse_param_dtype
from triptych.tensors.ref import TensorRef
from triptych.weights import layouts
from triptych.weights.packing import Packed
from triptych.weights.plan import Assignment, NewWeight, Policy
from triptych.weights.schema import Layout, Weight
from triptych_flax import arrays, internals, layers, make, ops, packed
from triptych_flax.adapters import Adapts
from triptych_flax.base.modules import Modules
from triptych_flax.generation import Generates
from triptych_flax.placement.placed import Placed, on_device, put_like
from triptych_flax.seeding import SeedsDropout
from triptych_flax.serving import Exports

__all__ = ["FlaxPreTrainedModel"]


class FlaxPreTrainedModel(Placed, Generates, Adapts, SeedsDropout, Exports, Modules):
    """Base class of Flax models: a config, a module and, unless `_do_init=False`, its parameters.

    A class sets `module_class`, a linen module with the fields `config` and `dtype`, and is then called as
    `(config, input_shape, seed, dtype, _do_init, **fields)`. Or it makes the module itself and passes it on, as classes
    for transformers 4 do: `super().__init__(config, module, input_shape=..., seed=..., dtype=..., _do_init=...)`.
    `module_class` may be a module of nnx too, called as `module_class(config=config, rngs=rngs, dtype=dtype, **fields)`
    without those that it does not take.

    `params` are nested dicts: the parameters or, where the module has other collections such as the `batch_stats` of a
    BatchNorm, `{"params": ..., "batch_stats": ...}`. All of them are saved, loaded and converted. Where something takes
    `params`, a module or a state of nnx will do as well.

    Args:
        module: made already; without it, one of `module_class`.
        input_shape: what `init_weights` is called with: here, the shape of the ids with which the module is traced.
        seed: seed of new weights.
        dtype: dtype of the computation, by name or as a type; the parameters stay float32.
        _do_init: False makes no parameters and keeps none: they are yours, and every call takes `params`.
        kwargs: further fields of the module, where it is made here.

    Raises:
        ArgumentError: the config is not of `config_class`, the module none, or seed or input_shape impossible.
        ConfigError: a field of it was set to an impossible value,
            or the module has no such field.
    """

    framework = "flax"
    class_prefix = "Flax"
    _ops: ClassVar[Any] = ops
    call_order: ClassVar[Sequence[str]] = ()
    """Names of the positional arguments of a call, of a class that is made of a part; see `make.declared_call`."""
    _modules_stay = True
    _missing_keys: Collection[layers.Path] = frozenset()
    """Paths of the parameters that the load of this model did not find."""

    def __init_subclass__(cls, part: type[Model] | None = None, **kwargs: Any) -> None:
        """Run the module of `part`, a declaration, if the class statement names one."""
        super().__init_subclass__(**kwargs)
        if part is not None:
            make.declare(cls, part)

    def __init__(self, config: PretrainedConfig, *args: Any, **kwargs: Any) -> None:
        has_module = "module" in kwargs or (bool(args) and layers.is_module(args[0]))
        self._set_up(config, *(args if has_module else (None, *args)), **kwargs)

    __init__.__signature__ = make.constructor_signature()  # type: ignore[attr-defined]

    def _set_up(
        self,
        config: PretrainedConfig,
        module: Any = None,
        input_shape: Any = (1, 1),
        seed: int = 0,
        dtype: Any = jnp.float32,
        _do_init: bool = True,
        **fields: Any,
    ) -> None:
        config = self._own_config(config)
        config = config if config._attn_implementation_autoset else self._autoset_attn_implementation(config)
        self.dtype = computation_dtype(dtype)
        known = () if module is not None else self._known_fields()
        refuse_unknown({name: value for name, value in fields.items() if name not in known}, type(self))
        self._config, self.seed, self.input_shape = config, seed, input_shape
        self.module = self._new_module(config, fields) if module is None else module
        for name in self.schema_options:
            setattr(self, name, getattr(self._module, name, getattr(self.declared_part, name, None)))
        self._is_initialized = _do_init
        self._shapes: Any = None
        self._layouts: dict[layers.Path, Layout] = {}
        self._params: Any = None
        if _do_init and not _UNFILLED.get():
            self._params = self._made(self.key)
            self._shapes = jax.eval_shape(lambda tree: tree, self._params)

    @property
    def config(self) -> Any:
        """The config."""
        return self._config

    @config.setter
    def config(self, config: PretrainedConfig) -> None:
        self._config = config

    def __call__(
        self, *inputs: Any, params: Any = None, dropout_rng: Any = None, train: bool = False, **options: Any
    ) -> Any:
        """Run the module: see `run_module`."""
        return self.run_module(*inputs, params=params, dropout_rng=dropout_rng, train=train, **options)

    def run_module(
        self,
        *inputs: Any,
        params: Any = None,
        dropout_rng: Any = None,
        train: bool = False,
        method: Any = None,
        mutable: Any = None,
        **options: Any,
    ) -> Any:
        """Run the module on arrays of JAX or numpy.

        Args:
            params: used instead of `self.params`.
            dropout_rng: a random key, needed for `train=True`, which turns dropout on; or a dict, name of a stream of
                random numbers -> key, where the module has others beside "dropout". Within `seeded_dropout` layers of
                triptych's do not use it.
            method: what to call instead of the module itself, with the module first.
            mutable: names of the collections that the call may change, or add, such as the "intermediates" of `sow`,
                as linen's `apply` takes them. None: with `train=True` those that there are beside the parameters.

        Returns:
            What the module does; with `mutable`, that and the new values of these collections, so with `train=True`,
            where there are some beside the parameters, as in transformers 4: `(output, {"batch_stats": ...})`.

        Raises:
            ArgumentError: there are no parameters, or they do not fit the module; `train=True` without `dropout_rng`;
                `method` is no function; `dropout_rng` is no key, `mutable` no names.
        """
        variables = on_device(layers.collections(self.params if params is None else params))
        changing = [name for name in variables if name != layers.PARAMETERS] if train else []
        changing = changing if mutable is None else mutable
        stream = self._stream() if train else None
        if train and dropout_rng is None and stream is None and not changing:
            raise ArgumentError("train=True needs random numbers.", expected="dropout_rng, a key of jax.random; or a "
                                "call within `model.seeded_dropout(seed, step)`", received="none")  # fmt: skip
        if not _is_filter(mutable):
            raise ArgumentError("mutable names no collections.", expected="names, True or False",
                                received=repr(mutable)[:80])  # fmt: skip
        if not (method is None or callable(method)):
            raise ArgumentError(
                "method is no function.", expected="a function of the module", received=repr(method)[:80]
            )
        known = self._module_arguments() if method is None else inspect.signature(method).parameters
        options |= {name: v for name, v in (("deterministic", not train), ("train", train)) if name in known}
        inputs, options = jax.tree.map(layers.on_device, (inputs, options), is_leaf=lambda x: isinstance(x, list))
        rngs = {} if dropout_rng is None or not train else _streams(dropout_rng)
        try:
            with self._drawing(stream), self.acting_adapters(), packed.holding(self._held_packed()):
                return self._in_mode(train).apply(
                    variables, *inputs, **options, rngs=rngs, mutable=changing or False, method=method
                )
        except _OTHER_PARAMETERS as cause:
            raise ArgumentError("The parameters do not fit the module.", received=str(cause)) from cause
        except RuntimeError as cause:
            if any(map(internals.is_deleted, jax.tree.leaves(variables))):
                raise ArgumentError(**arrays.DONATED) from cause
            raise

    @property
    def required_params(self) -> set[layers.Path]:
        """The path of every parameter, those of adapters too."""
        return super().required_params | self._adapter_paths()

    @classmethod
    def _from_config(cls, config: PretrainedConfig, **kwargs: Any) -> Any:
        """Return a new model of `config`, which is not copied."""
        return cls(config, **kwargs)

    # -- hooks of ModelBase -------------------------------------------------------------------------------------

    @classmethod
    def _by_name(cls, model_args: Sequence[Any]) -> tuple[dict[str, Any], Sequence[Any]]:
        """Return positional arguments after the path: the dtype first, then those of the constructor."""
        named, inputs = super()._by_name(model_args[1:])
        return (named | {"dtype": model_args[0]} if model_args else named), inputs

    @classmethod
    def _loaded(
        cls,
        path: Any,
        checkpoint: Checkpoint,
        config: Any,
        subfolder: str,
        policy: Policy,
        dtype: Any,
        param_dtype: Any,
        inputs: Sequence[Any],
        arguments: Mapping[str, Any],
        placement: Any = None,
    ) -> Any:
        """As in the other frameworks; warn where transformers 4 would have loaded something else."""
        if arguments.get("_do_init") is False:  # what is lacking is new, and named, for the caller to deal with
            policy = replace(policy, allow_missing=policy.strict is None)
        others = {ref.dtype.name for ref in checkpoint.values() if ref.dtype in FLOATING} - {"float32"}
        if others and param_dtype is None and not is_auto(dtype):
            logger.warning(
                "%s: the weights are stored in %s and become float32; param_dtype='auto' keeps what is stored",
                checkpoint.source, ", ".join(sorted(others)),
            )  # fmt: skip
        return super()._loaded(
            path, checkpoint, config, subfolder, policy, dtype, param_dtype, inputs, arguments, placement
        )

    @classmethod
    @contextmanager
    def _empty(cls, config: PretrainedConfig, inputs: Sequence[Any], **options: Any) -> Iterator[Any]:
        with _unfilled():
            model = cls(config, *inputs, **{**options, "dtype": computation_dtype(options.get("dtype"))})
        keeps = model._is_initialized
        model._is_initialized, model._params = True, {}
        yield model
        model._params = unflatten_dict(model._params)
        model._is_initialized, model._shardings = keeps, None

    def _assign(
        self,
        assignment: Assignment,
        read: Callable[[Assignment], np.ndarray],
        done: Callable[[Assignment], None],
    ) -> None:
        arrays.native_dtype(assignment.dtype)
        self._params[self._path(assignment.weight)] = self._placed(assignment.weight.name, read(assignment))
        done(assignment)

    def _initialise(self, new: Sequence[NewWeight]) -> None:
        if not new:
            return
        own = type(self).init_weights is FlaxPreTrainedModel.init_weights
        held = unflatten_dict(self._params) if own else None  # of others only `_missing_keys` would be made
        made = layers.of_arrays(self.init_weights(self.key, self.input_shape, held))
        for one in new:
            path = self._path(one.weight)
            value = layers.leaf(made, path, one.weight.name)
            is_floating = jnp.issubdtype(value.dtype, jnp.floating) and not one.weight.buffer
            value = value.astype(arrays.native_dtype(one.dtype)) if is_floating else value
            self._params[path] = value if self._shardings is None else self._placed(one.weight.name, value)
        self._missing_keys = {self._path(one.weight) for one in new}

    def _handed_over(self, output_loading_info: bool) -> Any:
        result = super()._handed_over(output_loading_info)
        if self._is_initialized:
            return result
        params, self._params = self._params, None
        return (self, params, result[1]) if output_loading_info else (self, params)

    def _stored_names(self, chosen: Format) -> dict[str, LegacyWeight]:
        """Return the names in files of Flax of what no declaration knows: those of the tree, as in transformers 4."""
        if chosen.flavour != "flax" or self._is_as_declared():
            return {}
        own = [weight for weight in self.schema.stored() if weight.name not in (self.declared_schema or {})]
        return {
            w.name: LegacyWeight(
                w.name, "/".join(self._path(w)), w.shape, layouts.to_canonical(w.layout, len(w.axes), "flax")
            )
            for w in own
        }

    def _reader(self, params: Any = None) -> Callable[[Weight], np.ndarray]:
        tree = self.params if params is None else params

        def read(weight: Weight) -> np.ndarray:
            array = arrays.to_numpy(layers.leaf(tree, self._path(weight), weight.name))
            array = permuted(array, layouts.to_canonical(weight.layout, array.ndim, "flax"))
            if array.shape != weight.shape:
                raise ArgumentError(
                    f"{weight.name} has another shape than the model's.",
                    expected=str(weight.shape),
                    received=str(array.shape),
                )
            return array

        return read

    def _tensor_refs(self, params: Any = None) -> list[TensorRef]:
        return super()._tensor_refs(None if params is None else layers.unfrozen(params))

    def _weights_to_save(self, params: Any) -> list[Weight]:
        """Return the weights that a tree holds; warn of those that it lacks, and of leaves that are no weights."""
        weights = {self._path(weight): weight for weight in self.schema.stored()}
        held = set(layers.flat(self.params if params is None else params))
        lacking, strange = ["/".join(path) for path in weights if path not in held], held - set(weights)
        if lacking and (params is None or len(lacking) == len(weights)):
            raise ArgumentError("The parameters lack weights of the model.", received=f"no {', '.join(lacking)}")
        if lacking:
            logger.warning("%s: the parameters lack %s, which are not saved", type(self).__name__, ", ".join(lacking))
        if strange:
            names = ", ".join(sorted("/".join(path) for path in strange))
            logger.warning("%s: %s are no weights of the module, and are not saved", type(self).__name__, names)
        return [weight for path, weight in weights.items() if path in held]

    def _dtype_reader(self, params: Any = None) -> Callable[[Weight], np.dtype]:
        tree = self.params if params is None else params
        return lambda weight: arrays.numpy_dtype(layers.leaf(tree, self._path(weight), weight.name).dtype)

    def _replace(self, new: Mapping[str, np.ndarray]) -> None:
        schema, flat = self.schema, layers.flat(self.params)
        for name, array in new.items():
            order = layouts.to_native(schema[name].layout, array.ndim, "flax")
            path = self._path(schema[name])
            flat[path] = put_like(permuted(array, order), flat[path])
        self._params, self._shapes = unflatten_dict(flat), None
        if (functional := self._functional) is not None:
            self._module = functional.resized(self.config, layers.collections(self._params))
        else:
            changes = {"config": self.config} if hasattr(self._module, "config") else {}
            self._module = self._module.clone(**changes)

    def _packable(self) -> Collection[str]:
        shapes = self._traced_shapes()
        top = 1 if layers.has_collections(shapes) else 0
        dense = {(*path, "kernel") for path in self._dense}
        return [weight.name for weight in self._live_weights() if weight.key[top:] in dense]

    def _hold_packed(self, weights: Mapping[str, Packed]) -> None:
        self._drop([one.weight for one in weights.values()])

    def _hold_whole(self, weights: Mapping[str, Packed]) -> None:
        self._drop([part for one in weights.values() for part in one.parts])

    def _drop(self, weights: Iterable[Weight]) -> None:
        """Remove leaves of the tree, if it is filled already."""
        flat = layers.flat(self._params)
        gone = {self._path(weight) for weight in weights} & set(flat)
        if gone:
            self._params = unflatten_dict({path: leaf for path, leaf in flat.items() if path not in gone})
        self._shapes = None

    def _put(self, new: Mapping[str, np.ndarray]) -> None:
        flat, schema = layers.flat(self._params), self.schema
        for name, array in new.items():
            order = layouts.to_native(schema[name].layout, array.ndim, "flax")
            flat[self._path(schema[name])] = arrays.to_native(permuted(array, order))
        self._params, self._shapes = unflatten_dict(flat), None

    @classmethod
    def _check_library(cls, said: Mapping[str, Any]) -> None:
        """Do nothing: it is refused before."""

    def _held_packed(self) -> dict[layers.Path, Packed]:
        """Return path of a module -> the packed weight that it holds."""
        return {layouts.native_path(one.weight, "flax")[:-1]: one for one in self._packed.values()}

    def _live_weights(self) -> list[LiveWeight]:
        parts = {part.name: part.packed for one in self._packed.values() for part in one.parts}
        live = layers.live(self._traced_shapes(), self._layouts, self._shared_places())
        return [replace(weight, packed=parts.get(weight.name)) for weight in live]

    def _live_vocab(self) -> Collection[str]:
        vocab = layers.vocab_paths(self, layers.flat(self._traced_shapes()))
        return [weight.name for weight in self._live_weights() if weight.key in vocab]

    @classmethod
    def _look_at(cls, config: PretrainedConfig, arguments: Mapping[str, Any], ask: Callable[[Any], Answer]) -> Answer:
        with _unfilled():
            model = cls(config, **arguments)
        return ask(model)

    @classmethod
    def _is_its_part(cls) -> bool:
        part = cls.declared_part
        own = (FlaxPreTrainedModel.__init__, FlaxPreTrainedModel.init_weights)
        is_plain = (cls.__init__, cls.init_weights) == own  # another constructor may make another module
        return is_plain and part is not None and cls.module_class is make.binder.bound(part)

    @staticmethod
    def _to_native(array: np.ndarray) -> Any:
        return arrays.to_native(array)

    @staticmethod
    def _to_numpy(tensor: Any) -> np.ndarray:
        return arrays.to_numpy(tensor)

    def _cache_dtype(self) -> Any:
        return self.dtype

    # -- gradient checkpointing ---------------------------------------------------------------------------------

    def enable_gradient_checkpointing(self, gradient_checkpointing_kwargs: Mapping[str, Any] | None = None) -> None:
        """Call `gradient_checkpointing_enable`, under the name that it has in Flax in transformers 4.

        The argument `gradient_checkpointing=True` of a built-in class does the same from the start.

        Args:
            gradient_checkpointing_kwargs: of a built-in class, arguments of `flax.linen.remat`: `policy`, such as
                `jax.checkpoint_policies.dots_saveable`, says what is kept nevertheless; `prevent_cse`.

        Raises:
            ArgumentError: as `gradient_checkpointing_enable`.
        """
        self.gradient_checkpointing_enable(gradient_checkpointing_kwargs)

    def _checkpoint_function(self, options: Mapping[str, Any] | None) -> Callable[..., Any]:
        known = ops.Recomputed.fields() if self.declared_part is not None else ()
        if strange := [name for name in options or {} if name not in known]:
            raise ArgumentError(
                "Gradient checkpointing does not take these arguments here.",
                expected=", ".join(known) or "none: the module calls nn.remat itself",
                received=", ".join(strange),
            )
        return ops.checkpointing(options)

    def _set_gradient_checkpointing(
        self, enable: bool = True, gradient_checkpointing_func: Callable[..., Any] | None = None
    ) -> None:
        if (functional := self._functional) is not None:
            self.module = functional.checkpointed(enable)
        elif hasattr(self.module, "gradient_checkpointing"):
            options = isinstance(gradient_checkpointing_func, ops.Recomputed) and self.declared_part is not None
            how = gradient_checkpointing_func if enable and options else enable
            self.module = self.module.clone(gradient_checkpointing=how)
        else:
            raise ArgumentError(
                f"{type(self.module).__name__} cannot compute its layers anew for the gradient.",
                expected="a module with a field gradient_checkpointing, which it heeds where it makes its layers",
                received="none",
            )


def _streams(dropout_rng: Any) -> dict[str, Any]:
    """Return name of a stream of random numbers -> key.

    Raises:
        ArgumentError: one is no key.
    """
    streams = dict(dropout_rng) if isinstance(dropout_rng, Mapping) else {"dropout": dropout_rng}
    for name, key in streams.items():
        if not (isinstance(name, str) and internals.is_key(key)):
            raise ArgumentError("dropout_rng is no random key.", expected="a key of jax.random, or a dict of "
                                "them by name", received=f"{name!r}: {key!r}"[:120])  # fmt: skip
    return streams


def _is_filter(mutable: Any) -> bool:
    """Return whether linen knows which collections are meant."""
    if isinstance(mutable, (list, tuple, set, frozenset)):
        return all(isinstance(name, str) for name in mutable)
    return mutable is None or isinstance(mutable, (bool, str, flax.core.DenyList))


_OTHER_PARAMETERS = (
    flax.errors.ScopeCollectionNotFound, flax.errors.ScopeParamNotFoundError, flax.errors.ScopeParamShapeError
)  # fmt: skip
_UNFILLED: ContextVar[bool] = ContextVar("unfilled", default=False)


@contextmanager
def _unfilled() -> Iterator[None]:
    """Let the models that are made in the context have no parameters yet, whatever their constructors say."""
    token = _UNFILLED.set(True)
    try:
        yield
    finally:
        _UNFILLED.reset(token)


def computation_dtype(dtype: Any) -> np.dtype:
    """Return what `dtype`, a name or a type, says of the computation; None says float32, and "auto" without a file."""
    return np.dtype(parse_param_dtype(dtype) or np.float32)
