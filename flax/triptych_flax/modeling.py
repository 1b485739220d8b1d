"""`FlaxPreTrainedModel`: the plans of core, carried out on a tree of parameters and a linen module."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import FrozenDict, unfreeze
from flax.traverse_util import unflatten_dict

from triptych.config import PretrainedConfig
from triptych.errors import ArgumentError
from triptych.modeling.base import ModelBase, refuse_unknown
from triptych.modeling.derived import LiveWeight, live_weights
from triptych.modeling.hooks import Answer
from triptych.nn.parts import Model
from triptych.tensors.arrays import permuted
from triptych.tensors.dtypes import parse_param_dtype
from triptych.weights import layouts
from triptych.weights.plan import Assignment, NewWeight
from triptych.weights.schema import Layout, Weight
from triptych_flax import arrays, internals, layers, make, ops

__all__ = ["FlaxPreTrainedModel"]


class FlaxPreTrainedModel(ModelBase):
    """Base class of Flax models: a config, a linen module and, unless `_do_init=False`, its parameters.

    Subclasses set `module_class`, a linen module with the fields `config` and `dtype`.

    Args:
        input_shape: shape of the ids with which the module is traced.
        seed: seed of new weights.
        dtype: dtype of the computation, by name or as a type; the parameters stay float32.
        _do_init: False makes no parameters and keeps none: they are yours, and every call takes `params`.
        kwargs: further fields of the module.

    Raises:
        ArgumentError: the config is not of `config_class`. ConfigError: a field of it was set to an impossible value,
            or the module has no such field.
    """

    framework = "flax"
    class_prefix = "Flax"
    ops: ClassVar[Any] = ops
    module_class: ClassVar[Any] = None
    _modules_stay = True

    def __init_subclass__(cls, part: type[Model] | None = None, **kwargs: Any) -> None:
        """Run the module of `part`, a declaration, if the class statement names one."""
        super().__init_subclass__(**kwargs)
        if part is not None:
            make.declare(cls, part)

    def __init__(
        self,
        config: PretrainedConfig,
        *,
        input_shape: tuple[int, ...] = (1, 1),
        seed: int = 0,
        dtype: Any = jnp.float32,
        _do_init: bool = True,
        **kwargs: Any,
    ) -> None:
        config = self._own_config(config)
        fields = self.module_class.__dataclass_fields__
        refuse_unknown({name: value for name, value in kwargs.items() if name not in fields}, type(self))
        self.config, self.seed, self.input_shape = config, seed, input_shape
        self.dtype = np.dtype(parse_param_dtype(dtype) or np.float32)
        self.module = self.module_class(config=config, dtype=self.dtype, **kwargs)
        for name in self.schema_options:
            setattr(self, name, getattr(self.module, name))
        self._do_init = _do_init
        self._shapes: Any = None
        self._params: Any = self.init_weights(self.key, input_shape) if _do_init else None

    def __call__(
        self, *inputs: Any, params: Any = None, dropout_rng: Any = None, train: bool = False, **options: Any
    ) -> Any:
        """Run the module: see `run_module`."""
        return self.run_module(*inputs, params=params, dropout_rng=dropout_rng, train=train, **options)

    def run_module(
        self, *inputs: Any, params: Any = None, dropout_rng: Any = None, train: bool = False, **options: Any
    ) -> Any:
        """Run the module on arrays of JAX or numpy.

        Args:
            params: used instead of `self.params`.
            dropout_rng: a random key, needed for `train=True`, which turns dropout on.

        Raises:
            ArgumentError: there are no parameters, or `train=True` without `dropout_rng`.
        """
        if train and dropout_rng is None:
            raise ArgumentError("train=True needs random numbers.", expected="dropout_rng, a key of jax.random")
        if "deterministic" in self._call_arguments():
            options["deterministic"] = not train
        inputs, options = jax.tree.map(layers.on_device, (inputs, options), is_leaf=lambda x: isinstance(x, list))
        variables = {"params": self.params if params is None else params}
        rngs = {"dropout": dropout_rng} if train else {}
        return self.module.apply(variables, *inputs, **options, rngs=rngs)

    # -- parameters ---------------------------------------------------------------------------------------------

    @property
    def key(self) -> Any:
        """The random key of `seed`; made when asked for, since making one compiles a program."""
        return jax.random.PRNGKey(self.seed)

    def init_weights(self, rng: Any, input_shape: tuple[int, ...], params: Any = None) -> dict[str, Any]:
        """Return a tree of parameters: those of `params`, and new ones for what it lacks."""
        held = {} if params is None else layers.flat(params)
        rngs = dict(zip(("params", "dropout"), jax.random.split(rng), strict=True))

        def lacking(ids: Any) -> dict[layers.Path, Any]:
            more = {"decoder_input_ids": ids} if self.takes_decoder_ids() else {}
            if getattr(self.config, "add_cross_attention", False) and "encoder_hidden_states" in self._call_arguments():
                more["encoder_hidden_states"] = jnp.zeros((*ids.shape, self.config.hidden_size), self.dtype)
            _, made = self.module.apply({"params": unflatten_dict(held)}, ids, **more, rngs=rngs, mutable=True)
            return {path: leaf for path, leaf in layers.flat(made["params"]).items() if path not in held}

        return unflatten_dict({**internals.evaluated(lacking, input_shape), **held})

    @property
    def params(self) -> dict[str, Any]:
        """The parameters, as nested dicts; setting them checks that none is missing.

        Raises:
            ArgumentError: a parameter is missing, or the model was made with `_do_init=False`.
        """
        self._refuse_without_params()
        return self._params

    @params.setter
    def params(self, params: Mapping[str, Any]) -> None:
        self._refuse_without_params()
        params = unfreeze(params) if isinstance(params, FrozenDict) else params
        missing = self.required_params - set(layers.flat(params))
        if missing:
            names = ", ".join(sorted("/".join(path) for path in missing))
            raise ArgumentError("The parameters are not complete.", received=f"no {names}")
        self._params = params

    def _refuse_without_params(self) -> None:
        if not self._do_init:
            raise ArgumentError(
                "A model made with _do_init=False keeps no parameters.",
                remedy="hold them yourself and pass params=, or make the model without _do_init=False",
            )

    @property
    def params_shape_tree(self) -> Any:
        """The tree of parameters with a `jax.ShapeDtypeStruct` at each leaf."""
        declared = self.declared_schema
        if declared is None:
            return self._traced_shapes()
        return layers.declared_shapes(declared)

    @property
    def required_params(self) -> set[layers.Path]:
        """The path of every parameter."""
        return set(layers.flat(self.params_shape_tree))

    def to_bf16(self, params: Any, mask: Any = None) -> Any:
        """Return `params` with floating leaves as bfloat16: all, or those where `mask`, a tree alike, is True."""
        return layers.cast(params, jnp.bfloat16, mask)

    def to_fp16(self, params: Any, mask: Any = None) -> Any:
        """As `to_bf16`, to float16."""
        return layers.cast(params, jnp.float16, mask)

    def to_fp32(self, params: Any, mask: Any = None) -> Any:
        """As `to_bf16`, to float32."""
        return layers.cast(params, jnp.float32, mask)

    # -- embeddings and ties ------------------------------------------------------------------------------------

    @property
    def base_model(self) -> FlaxPreTrainedModel:
        """The model itself: the backbone is a part of one tree, not a model of its own."""
        return self

    def get_input_embeddings(self) -> Any:
        """Return the token embeddings [vocab, hidden]."""
        return self._get(self._vocab_leaf(Layout.EMBEDDING))

    def set_input_embeddings(self, value: Any) -> None:
        """Replace the token embeddings."""
        self._set(self._vocab_leaf(Layout.EMBEDDING), value)

    def get_output_embeddings(self) -> Any:
        """Return the matrix that maps to the vocabulary, as [vocab, hidden], or None."""
        try:
            return self._get(self._vocab_leaf(Layout.LINEAR))
        except NotImplementedError:
            return None

    def set_output_embeddings(self, new_embeddings: Any) -> None:
        """Replace the matrix that maps to the vocabulary, given as [vocab, hidden]."""
        self._set(self._vocab_leaf(Layout.LINEAR), new_embeddings)

    def tie_weights(self) -> None:
        """Do nothing: a tied weight has no leaf of its own, the module reads the other one."""

    def _vocab_leaf(self, layout: Layout) -> Weight:
        """Return the weight that has a leaf of its own, and is or is shared by that of the vocabulary."""
        weight = self._vocab_weight(layout)
        if weight is None:
            raise NotImplementedError(f"{type(self).__name__} does not define its {layout.value} of the vocabulary")
        declared: Mapping[str, Weight] = self.declared_schema or {}
        return weight if weight.tied_to is None else declared[weight.tied_to]

    def _get(self, weight: Weight) -> Any:
        leaf = layers.leaf(self.params, weight)
        return leaf.T if weight.layout is Layout.LINEAR else leaf

    def _set(self, weight: Weight, value: Any) -> None:
        value = jnp.asarray(value)
        value = value.T if weight.layout is Layout.LINEAR else value
        self._params = unflatten_dict({**layers.flat(self.params), layouts.native_path(weight, "flax"): value})

    # -- hooks of ModelBase -------------------------------------------------------------------------------------

    @classmethod
    @contextmanager
    def _empty(cls, config: PretrainedConfig, inputs: Sequence[Any], **options: Any) -> Iterator[Any]:
        do_init = options.pop("_do_init", True)
        model = cls(config, *inputs, _do_init=False, **options)
        model._params = {}
        yield model
        model._params = unflatten_dict(model._params)
        model._do_init = do_init

    def _assign(
        self,
        assignment: Assignment,
        read: Callable[[Assignment], np.ndarray],
        done: Callable[[Assignment], None],
    ) -> None:
        path = layouts.native_path(assignment.weight, "flax")
        self._params[path] = arrays.to_native(read(assignment))
        done(assignment)

    def _initialise(self, new: Sequence[NewWeight]) -> None:
        if new:
            made = layers.flat(self.init_weights(self.key, self.input_shape, unflatten_dict(self._params)))
            for one in new:
                path = layouts.native_path(one.weight, "flax")
                self._params[path] = made[path].astype(arrays.native_dtype(one.dtype))

    def _handed_over(self, output_loading_info: bool) -> Any:
        result = super()._handed_over(output_loading_info)
        if self._do_init:
            return result
        params, self._params = self._params, None
        return (self, params, result[1]) if output_loading_info else (self, params)

    def _reader(self, params: Any = None) -> Callable[[Weight], np.ndarray]:
        tree = self.params if params is None else params

        def read(weight: Weight) -> np.ndarray:
            array = arrays.to_numpy(layers.leaf(tree, weight))
            return permuted(array, layouts.to_canonical(weight.layout, array.ndim, "flax"))

        return read

    def _dtype_of(self, weight: Weight, params: Any = None) -> np.dtype:
        return arrays.numpy_dtype(layers.leaf(self.params if params is None else params, weight).dtype)

    def _replace(self, new: Mapping[str, np.ndarray]) -> None:
        schema, flat = self.schema, layers.flat(self.params)
        for name, array in new.items():
            order = layouts.to_native(schema[name].layout, array.ndim, "flax")
            flat[layouts.native_path(schema[name], "flax")] = arrays.to_native(permuted(array, order))
        self._params, self._shapes = unflatten_dict(flat), None
        self.module = self.module.clone(config=self.config)

    def _traced_shapes(self) -> Any:
        if self._shapes is None:
            self._shapes = jax.eval_shape(lambda key: self.init_weights(key, self.input_shape), self.key)
        return self._shapes

    def _live_weights(self) -> list[LiveWeight]:
        return live_weights({path: leaf.shape for path, leaf in layers.flat(self._traced_shapes()).items()}, "flax")

    def _live_vocab(self) -> Collection[str]:
        vocab = layers.vocab_paths(self, layers.flat(self._traced_shapes()))
        return [weight.name for weight in self._live_weights() if weight.key in vocab]

    @classmethod
    def _look_at(cls, config: PretrainedConfig, arguments: Mapping[str, Any], ask: Callable[[Any], Answer]) -> Answer:
        return ask(cls(config, **{**arguments, "_do_init": False}))

    @classmethod
    def _is_its_part(cls) -> bool:
        part = cls.declared_part
        return part is not None and cls.module_class is make.binder.bound(part)

    @classmethod
    def _call_arguments(cls) -> Collection[str]:
        return inspect.signature(cls.module_class.__call__).parameters

    def _is_trainable(self, weight: Weight) -> bool:
        return True

    @staticmethod
    def _to_numpy(tensor: Any) -> np.ndarray:
        return arrays.to_numpy(tensor)

    def _cache_dtype(self) -> Any:
        return self.dtype
