"""The tree of parameters that a model of Flax holds, or that its caller does."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import unflatten_dict

from triptych.errors import ArgumentError
from triptych.formats.kinds import MSGPACK
from triptych.formats.opening import open_file
from triptych.modeling.base import ModelBase
from triptych.weights import layouts
from triptych.weights.schema import Layout, Weight
from triptych_flax import arrays, internals, layers, packed
from triptych_flax.utilities import paths_of


class Parameters(ModelBase):
    """Part of `FlaxPreTrainedModel`: its parameters, their shapes, and where in the tree each weight is."""

    module: Any
    dtype: np.dtype
    seed: int
    input_shape: Any
    _is_initialized: bool
    """Whether the model holds parameters, and not its caller."""
    _params: Any
    _shapes: Any
    """What `_traced_shapes` found; None before."""
    _layouts: dict[layers.Path, Layout]
    """What was noted of the module's kernels when it was last traced: see `layers.noting_layouts`."""
    _dense: Collection[layers.Path] = frozenset()
    """What was noted then of modules that can be packed: see `packed.noting_dense`."""

    @property
    def key(self) -> Any:
        """The random key of `seed`; made when asked for, since making one compiles a program.

        Raises:
            ArgumentError: `seed` is no whole number that JAX takes.
        """
        try:
            return jax.random.PRNGKey(self.seed)
        except (TypeError, ValueError, OverflowError) as cause:
            raise ArgumentError("seed is impossible.", expected="a whole number", received=repr(self.seed)) from cause

    def init_weights(self, rng: Any, input_shape: Any, params: Any = None) -> Any:
        """Return a tree of parameters: those of `params`, and new ones for what it lacks.

        A class of your own may override this, to trace its module with other inputs.

        Raises:
            ArgumentError: `input_shape` is no shape, or `params` is no tree.
        """
        shape = _shape(input_shape)
        held = {} if params is None else layers.flat(params)
        rngs = dict(zip(("params", "dropout"), jax.random.split(rng), strict=True))
        if (functional := self._functional) is not None:  # it need not be called
            return unflatten_dict({**functional.lacking(rngs, held), **held})
        known = self._module_arguments()
        calm = {name: value for name, value in (("deterministic", True), ("train", False)) if name in known}
        state = nn.DenyList(layers.PASSING)

        def lacking(inputs: Any) -> dict[layers.Path, Any]:
            more = calm | ({"decoder_input_ids": inputs} if self.takes_decoder_ids() else {})
            if getattr(self.config, "add_cross_attention", False) and "encoder_hidden_states" in known:
                more["encoder_hidden_states"] = jnp.zeros((*inputs.shape, self.config.hidden_size), self.dtype)
            if held:
                variables = layers.collections(unflatten_dict(held))
                _, made = self.module.apply(variables, inputs, **more, rngs=rngs, mutable=state)
            else:
                made = self.module.init(rngs, inputs, **more, mutable=state)
            made = nn.unbox(made)  # of what `nn.with_partitioning` says beside the values
            return {p: leaf for p, leaf in layers.flat(layers.without_empty(made)).items() if p not in held}

        dtype = jnp.int32 if self.main_input_name.endswith("_ids") else jnp.float32
        return unflatten_dict({**internals.evaluated(lacking, shape, dtype), **held})

    @property
    def _functional(self) -> Any:
        """The module if it is one of nnx, an `nnx_modules.Functional`, else None."""
        return None if isinstance(self.module, nn.Module) else self.module

    def _module_arguments(self) -> Collection[str]:
        """Return the names of the arguments with which the module is called."""
        functional = self._functional
        kind = type(self.module) if functional is None else functional.kind
        return inspect.signature(kind.__call__).parameters

    def _made(self, key: Any) -> Any:
        """Return new parameters, as nested dicts.

        Raises:
            ArgumentError: `init_weights` of the class returns something else.
        """
        with layers.noting_layouts() as noted, packed.noting_dense() as self._dense:
            made = layers.of_arrays(self.init_weights(key, self.input_shape))
        self._layouts = noted.layouts(made)
        if (functional := self._functional) is not None:
            self._layouts |= functional.layouts
        return made

    @property
    def params(self) -> dict[str, Any]:
        """The parameters, as nested dicts; setting them checks that none is missing.

        Raises:
            ArgumentError: a parameter is missing or no array, or the model was made with `_do_init=False`.
        """
        self._refuse_without_params()
        if self._params is None:  # it is being loaded, and its constructor asks already
            self._params = self._made(self.key)
        return self._params

    @params.setter
    def params(self, params: Mapping[str, Any]) -> None:
        self._refuse_without_params()
        params = layers.of_arrays(params)
        missing = self.required_params - set(layers.flat(params))
        if missing:
            names = ", ".join(sorted("/".join(path) for path in missing))
            kinds = sorted({path[0] for path in missing}) if layers.has_collections(self.params_shape_tree) else []
            raise ArgumentError(
                "The parameters are not complete.",
                expected=f"the collections {', '.join(self.params_shape_tree)}" if kinds else "every parameter",
                received=f"no {names}",
                remedy="pass {**model.params, 'params': ...} to keep the others" if kinds else "",
            )
        self._params = params

    def _refuse_without_params(self) -> None:
        if not self._is_initialized:
            raise ArgumentError(
                "A model made with _do_init=False keeps no parameters.",
                remedy="hold them yourself and pass params=, or make the model without _do_init=False",
            )

    @property
    def params_shape_tree(self) -> Any:
        """The tree of parameters with a `jax.ShapeDtypeStruct` at each leaf."""
        declared = self.declared_schema
        if declared is not None and self._is_as_declared():
            return layers.declared_shapes(declared)
        return self._traced_shapes()

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

    # -- files --------------------------------------------------------------------------------------------------

    @classmethod
    def load_flax_weights(cls, resolved_archive_file: Any) -> dict[str, Any]:
        """Return the tree of arrays that one file holds, msgpack or safetensors, under the names that they have there.

        Raises:
            ArgumentError: it is no path. As `open_checkpoint`.
        """
        return cls.load_flax_sharded_weights([resolved_archive_file])

    @classmethod
    def load_flax_sharded_weights(cls, shard_files: Sequence[Any]) -> dict[str, Any]:
        """Return the tree of arrays that several files hold together; see `load_flax_weights`."""
        found: dict[layers.Path, Any] = {}
        for file in paths_of(shard_files):
            separator = "/" if file.suffix == MSGPACK.suffix else "."
            found |= {tuple(n.split(separator)): arrays.to_native(r.read()) for n, r in open_file(file).tensors.items()}
        return unflatten_dict(found)

    # -- the tree -----------------------------------------------------------------------------------------------

    def _path(self, weight: Weight) -> layers.Path:
        """Return the path of `weight` in the tree of parameters."""
        path = layouts.native_path(weight, "flax")
        if self._is_as_declared():
            return path
        path = self._shared_places().get(path, path)
        if not layers.has_collections(self._traced_shapes()):
            return path
        statistics = layouts.BATCH_STATISTICS if weight.is_statistic else layers.PARAMETERS
        return (weight.collection or statistics, *path)

    def _is_as_declared(self) -> bool:
        """Return whether the module holds just the weights of a declared part, so that it need not be traced."""
        return self._is_its_part() and self._is_of_a_part(self.config)

    def _traced_shapes(self) -> Any:
        if self._shapes is None:
            self._shapes = self._packed_shapes(jax.eval_shape(self._made, self.key))
        return self._shapes

    def _tied_names(self) -> Iterable[str]:
        keys = self._tied_weights_keys
        return () if keys is None or isinstance(keys, Mapping) else keys

    def _shared_places(self) -> Mapping[layers.Path, layers.Path]:
        """Return another place of a variable that the module holds at several -> its path in the tree."""
        return {} if (functional := self._functional) is None else functional.shared

    def _packed_shapes(self, shapes: Any) -> Any:
        """Return a tree of shapes with the parts of each packed weight in its place."""
        if not self._packed:
            return shapes
        top = (layers.PARAMETERS,) if layers.has_collections(shapes) else ()
        flat = layers.flat(shapes)
        for one in self._packed.values():
            del flat[(*top, *layouts.native_path(one.weight, "flax"))]
            for part in one.parts:
                path = layouts.native_path(part, "flax")
                flat[(*top, *path)] = jax.ShapeDtypeStruct(part.shape, part.packed.dtype)  # type: ignore[union-attr]
                self._layouts[path] = Layout.PARAMETER
        return unflatten_dict(flat)

    @contextmanager
    def _holding(self, params: Any) -> Iterator[SimpleNamespace]:
        """Let the model hold `params`, unless None, while the context lasts; what it holds in the end is yielded."""
        held, before = SimpleNamespace(params=params), (self._is_initialized, self._params)
        if params is not None:
            self._is_initialized, self._params = True, layers.unfrozen(params)
        try:
            yield held
            held.params, before = self._params, (before[0], self._params if before[0] else None)
        finally:
            self._is_initialized, self._params = before


def _shape(input_shape: Any) -> tuple[int, ...]:
    """Return the shape of an array with which a module is traced, (1, 1) for None."""
    shape = input_shape or (1, 1)
    if not (isinstance(shape, Sequence) and all(isinstance(n, (int, np.integer)) for n in shape)):
        raise ArgumentError(
            "input_shape is no shape.", expected="whole numbers such as (1, 1)", received=repr(shape)[:80]
        )
    return tuple(shape)
