"""`TFPreTrainedModel`: the plans of core, carried out on a `keras.Model`."""

from __future__ import annotations

import dataclasses
import inspect
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import attrgetter
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from triptych.checkpoints.legacy import LegacyWeight, legacy_weights, without_prefix
from triptych.checkpoints.opening import Checkpoint
from triptych.config import PretrainedConfig
from triptych.errors import ArgumentError
from triptych.formats.kinds import Format
from triptych.modeling.base import ModelBase, refuse_unknown
from triptych.modeling.derived import LiveWeight, live_weights
from triptych.modeling.hooks import Answer
from triptych.nn.parts import Model
from triptych.tensors.arrays import permuted
from triptych.weights import layouts, surgery
from triptych.weights.packing import Packed
from triptych.weights.plan import Assignment, LoadPlan, NewWeight
from triptych.weights.schema import Layout, Schema, Weight
from triptych_tf import arrays, internals, layers, make, ops, packed
from triptych_tf.adapters import DESCRIPTION, Adapts
from triptych_tf.authors import states
from triptych_tf.authors.accessors import Accessors
from triptych_tf.authors.datasets import Datasets
from triptych_tf.authors.inputs import takes_more
from triptych_tf.authors.searches import Searches
from triptych_tf.authors.training import Training
from triptych_tf.generation import Generates
from triptych_tf.placement.placed import Placed
from triptych_tf.seeding import SeedsDropout
from triptych_tf.serving import Exports

__all__ = ["TFPreTrainedModel"]
logger = logging.getLogger("triptych")
_PACKED_LAYOUTS = (Layout.LINEAR, Layout.CONV1D, Layout.EMBEDDING)


def _unpickled(cls: type[keras.Model], read: Callable[..., Any], *arguments: Any) -> Any:
    """Return what `read` of Keras makes of a pickled or copied model of `cls`, a class that it does not know."""
    with keras.saving.custom_object_scope({cls.__name__: cls}):
        return read(*arguments)


class TFPreTrainedModel(Accessors, Training, Exports, Datasets, Searches, Generates, keras.Model, Adapts,
                        SeedsDropout, Placed):  # fmt: skip
    """Base class of Keras models. Layers have the names of the canonical weights; `layer_._0` stands for `layer.0`.

    A class without `build` is built by a symbolic call on `dummy_inputs` when its weights are first asked for.

    Args:
        kwargs: `dtype` (a dtype policy; "bfloat16" and "float16" compute in that and keep parameters in float32),
            `name`, `trainable`.

    Raises:
        ArgumentError: the config is not of `config_class`. ConfigError: a field was set to an impossible value.
    """

    framework = "tf"
    class_prefix = "TF"
    _ops: ClassVar[Any] = ops
    _requires_load_weight_prefix: ClassVar[bool] = False
    """Whether the constructor takes `load_weight_prefix`, the scope of the variables of a model of models."""
    load_weight_prefix: ClassVar[str | None] = None
    supports_xla_generation: ClassVar[bool] = True
    _tried: set[int] | None = None
    """The layers that a symbolic call has left unbuilt; this and the next are kept from Keras, in `__dict__`."""
    _rename: Callable[[str], Sequence[str]] | None = None
    _plan: surgery.Surgery | None = None
    """The surgery that is going on; kept from Keras too."""

    def __init_subclass__(cls, part: type[Model] | None = None, **kwargs: Any) -> None:
        """Take over the layers and the arithmetic of `part`, a declaration, if the class statement names one."""
        super().__init_subclass__(**kwargs)
        if part is not None:
            make.declare(cls, part)
        if cls.__module__.partition(".")[0] == __package__:  # others register their own classes, as Keras has it
            keras.saving.register_keras_serializable(__package__)(cls)

    def __init__(self, config: PretrainedConfig, *inputs: Any, **kwargs: Any) -> None:
        config = self._own_config(config)
        kwargs.pop("dynamic", None)  # of Keras 2, which had graphs and calls without one
        options = {name: kwargs.pop(name) for name in ("name", "trainable", "autocast") if name in kwargs}
        policy = layers.parse_policy(kwargs.pop("dtype", None))
        refuse_unknown(kwargs, type(self))
        super().__init__(dtype=policy, **options)
        self.config = config if config._attn_implementation_autoset else self._autoset_attn_implementation(config)
        self.name_or_path = str(getattr(config, "name_or_path", "") or "")

    def post_init(self) -> None:
        """Build the variables, if the class says how; a load calls it too, while no weight has a value yet."""
        if type(self).build is not keras.Model.build and not self.built and not self._builds_more():
            self.build()
        self._checkpoint_as_configured()

    @classmethod
    def _builds_more(cls) -> bool:
        """Return whether `build` is that of a subclass of a built-in class: it builds layers that are made after those
        of the built-in class."""
        first = next(one for one in cls.__mro__ if {"build", "declared_part"} & vars(one).keys())
        return cls.declared_part is not None and "declared_part" not in vars(first)

    def build_in_name_scope(self) -> None:
        """Build every layer: by the `build` of the class, and by a symbolic call on `dummy_inputs` where there is none,
        or it leaves layers out. In a load the variables have no values yet."""
        if type(self).build is not keras.Model.build and not self.built:
            self.build(None)
        waiting = [layer for layer in internals.with_all_parts(self) if self._awaits_build(layer)]
        tried = {id(layer) for layer in waiting}
        if not waiting or tried == self._tried:
            return
        self.__dict__["_tried"] = tried  # some layers are never called, and so never built
        if not self.built:
            self._call_symbolically()
            return
        try:
            self._call_symbolically()
        except Exception as error:
            names = ", ".join(layer.name for layer in waiting)
            logger.warning("%s.build leaves layers unbuilt (%s), and a call on dummy_inputs fails: %s. Weights "
                           "of theirs are neither loaded nor saved.", type(self).__name__, names, error)  # fmt: skip

    def _awaits_build(self, layer: keras.layers.Layer) -> bool:
        return not layer.built if type(self).build is keras.Model.build else internals.awaits_variables(layer)

    def _call_symbolically(self) -> None:
        given = {n: v if hasattr(v, "dtype") else np.asarray(v) for n, v in self.dummy_inputs.items() if v is not None}
        inputs = {n: keras.KerasTensor(v.shape, keras.backend.standardize_dtype(v.dtype)) for n, v in given.items()}
        # By position: a class of the user's may call its first argument as it likes.
        first = inputs.pop(self.main_input_name, None)
        self(*(() if first is None else (first,)), **inputs)

    def __setattr__(self, name: str, value: Any) -> None:
        # A subclass of a built-in class has layers of its own, or others in the place of some, once that one is built.
        if not isinstance(value, keras.layers.Layer) or not vars(self).get("built"):
            super().__setattr__(name, value)
        else:
            with internals.open_for(self, vars(self).get(name)):
                super().__setattr__(name, value)
            self._forget_compiled()

    # -- what Keras asks for ------------------------------------------------------------------------------------

    def __reduce__(self) -> tuple[Any, ...]:
        read, arguments = super().__reduce__()
        return _unpickled, (type(self), read, *arguments)

    def get_config(self) -> dict[str, Any]:
        """Return the fields of `config`, and which adapters there are, for Keras's own serialisation.

        Raises:
            ArgumentError: an adapter has whole weights of its own.
        """
        return {**self.config.to_dict(), **self._adapters_described()}

    @classmethod
    def from_config(
        cls,
        config: PretrainedConfig | Mapping[str, Any],
        *,
        dtype: Any = None,
        torch_dtype: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Return a new model with freshly initialised weights, of a config or of what `get_config` returned."""
        kwargs.pop("custom_objects", None)  # Keras passes it; a config names no objects
        told = None
        if isinstance(config, Mapping) and cls.config_class is not None:
            told = config.get(DESCRIPTION)
            config = cls.config_class.from_dict({name: v for name, v in config.items() if name != DESCRIPTION})
        model = ModelBase.from_config.__func__(  # type: ignore[attr-defined]
            cls, config, dtype=dtype, torch_dtype=torch_dtype, **kwargs
        )
        if told is not None:
            model._hold_described(told)
        return model

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model. The first argument may be a dict of inputs, or a list of them in the order of the arguments;
        others may be given by position or name."""
        states.note_caller(self)
        names = self.call_signature_parameters
        if args and isinstance(args[0], Mapping) and set(args[0]) & set(names):
            left = [name for name in args[0] if name not in names and not takes_more(self.call)]
            if left:
                logger.warning("Not an argument of %s, and not used: %s", type(self).__name__, ", ".join(left))
            kwargs = {**{name: value for name, value in args[0].items() if name not in left}, **kwargs}
            args = (None, *args[1:])
        elif args and isinstance(args[0], (list, tuple)) and all(map(_is_input, args[0])):
            args = (*args[0], *args[1:])
        if len(args) > len(names):
            raise ArgumentError(f"{type(self).__name__} takes fewer inputs.", expected=f"at most {len(names)}: "
                                f"{', '.join(names)}", received=str(len(args)))  # fmt: skip
        given = {name: value for name, value in zip(names, args, strict=False) if value is not None}
        return super().__call__(**given, **kwargs)

    def __dir__(self) -> list[str]:
        # Keras saves whatever is listed here, and would never come back from a base_model that is the model itself.
        return [name for name in super().__dir__() if name != "base_model"]

    # -- embeddings and ties ------------------------------------------------------------------------------------

    def tie_weights(self) -> None:
        """Do nothing: a tied Keras head has no variable of its own, it computes with its source's in `call`."""

    # -- hooks of ModelBase -------------------------------------------------------------------------------------

    def _modules_inside(self) -> Iterator[keras.layers.Layer]:
        return internals.with_all_parts(self)

    def _set_gradient_checkpointing(
        self, enable: bool = True, gradient_checkpointing_func: Callable[..., Any] | None = None
    ) -> None:
        super()._set_gradient_checkpointing(enable, gradient_checkpointing_func)
        states.forget_compiled(self)  # compiled as it was before

    @classmethod
    @contextmanager
    def _empty(cls, config: PretrainedConfig, inputs: Sequence[Any], **options: Any) -> Iterator[Any]:
        options = {**options}
        rename = options.pop("tf_to_pt_weight_rename", None)
        prefix = options.pop("load_weight_prefix", None)
        if cls._requires_load_weight_prefix and prefix is not None:
            options["load_weight_prefix"] = f"{prefix}/{options['name']}" if "name" in options else prefix
        with internals.without_values():
            with layers.default_policy(options.pop("dtype", None)):
                model = cls(config, *inputs, **options)
            model.__dict__["_rename"] = rename
            loading = layers.Loading(model._variables())
            model.__dict__["_loading"] = loading  # not by setattr: Keras would track what is in it
            try:
                yield model
            except BaseException:
                layers.discard(loading.variables.values())
                raise
        del model.__dict__["_loading"], model.__dict__["_rename"]
        if loading.error is not None:
            raise loading.error
        layers.follow_variables(model)

    @contextmanager
    def refilling(self) -> Iterator[None]:
        """Let weights be assigned to the model as it is."""
        self.__dict__["_loading"] = layers.Refilling(self._variables())
        try:
            yield
        finally:
            del self.__dict__["_loading"]

    @contextmanager
    def renaming(self, rename: Callable[[str], Sequence[str]] | None) -> Iterator[None]:
        """Let `rename` say under which names checkpoints hold a weight, the best first, and not the class's own
        `tf_to_pt_weight_rename`; None changes nothing."""
        self.__dict__["_rename"] = rename
        try:
            yield
        finally:
            del self.__dict__["_rename"]

    def _fill(self, schema: Schema, checkpoint: Checkpoint, *args: Any) -> LoadPlan:
        rename = self._rename or getattr(self, "tf_to_pt_weight_rename", None)
        return super()._fill(schema, checkpoint if rename is None else _renamed(checkpoint, schema, rename), *args)

    def _assign(
        self,
        assignment: Assignment,
        read: Callable[[Assignment], np.ndarray],
        done: Callable[[Assignment], None],
    ) -> None:
        self._loading.assign(assignment, read, done)

    def _initialise(self, new: Sequence[NewWeight]) -> None:
        self._loading.initialise(new)

    def _reader(self, params: Any = None) -> Callable[[Weight], np.ndarray]:
        found = self._weights()

        def read(weight: Weight) -> np.ndarray:
            variable, _ = found[layouts.native_path(weight, "tf")]
            array = arrays.to_numpy(tf.convert_to_tensor(variable.value))
            return permuted(array, layouts.to_canonical(weight.layout, array.ndim, "tf"))

        return read

    def _dtype_reader(self, params: Any = None) -> Callable[[Weight], np.dtype]:
        held = self._variables()
        return lambda weight: arrays.numpy_dtype(tf.as_dtype(held[layouts.native_path(weight, "tf")].dtype))

    def _replace(self, new: Mapping[str, np.ndarray]) -> None:
        found, schema = self._weights(), self.schema
        rows: dict[int, int] = {}
        for name, array in new.items():
            variable, owner = found[layouts.native_path(schema[name], "tf")]
            if schema[name].axis_index(surgery.VOCAB) == 0 and schema[name].shape[0] != array.shape[0]:
                rows[schema[name].shape[0]] = array.shape[0]
            order = layouts.to_native(schema[name].layout, array.ndim, "tf")
            with states.following(self, variable, self._carried(schema[name])):
                layers.replace_value(variable, owner, permuted(array, order))
        for before, after in rows.items():
            self._say_rows(before, after)
        self._forget_compiled()  # it was for the old shapes

    def _operate(self, plan: surgery.Surgery) -> None:
        self.__dict__["_plan"] = plan
        try:
            super()._operate(plan)
        finally:
            del self.__dict__["_plan"]

    def _carried(self, weight: Weight) -> states.Carry | None:
        """Return what becomes, in the surgery that is going on, of an array that belongs to a weight, in Keras's order;
        None if there is no surgery."""
        plan = self._plan
        if plan is None:
            return None

        def carry(array: np.ndarray) -> np.ndarray:
            there, back = (way(weight.layout, array.ndim, "tf") for way in (layouts.to_canonical, layouts.to_native))
            return permuted(surgery.apply_to(weight, permuted(array, there), surgery.with_zeros(plan)), back)

        return carry

    def _packable(self) -> Collection[str]:
        found = self._weights()
        return [
            weight.name
            for weight in self._live_weights()
            if weight.layout in _PACKED_LAYOUTS and packed.can_hold(found[weight.key][1])
        ]

    def _hold_packed(self, weights: Mapping[str, Packed]) -> None:
        found = self._weights()
        for one in weights.values():
            packed.hold(found[layouts.native_path(one.weight, "tf")][1], one)
        if (loading := self.__dict__.get("_loading")) is not None:
            loading.variables = self._variables()
        self._forget_compiled()

    def _hold_whole(self, weights: Mapping[str, Packed]) -> None:
        found = self._weights()
        for one in weights.values():
            layer = found[layouts.native_path(one.parts[0], "tf")][1]
            packed.make_whole(layer, layouts.native_shape(one.weight, "tf"), layouts.native_path(one.weight, "tf")[-1])
        self._forget_compiled()

    def _put(self, new: Mapping[str, np.ndarray]) -> None:
        found, schema = self._weights(), self.schema
        for name, array in new.items():
            variable, _ = found[layouts.native_path(schema[name], "tf")]
            value = arrays.to_native(permuted(array, layouts.to_native(schema[name].layout, array.ndim, "tf")))
            variable.assign(tf.cast(value, internals.dtype_of(variable)))

    @classmethod
    def _check_library(cls, said: Mapping[str, Any]) -> None:
        """Do nothing: it is refused before."""

    def _forget_compiled(self) -> None:
        """Forget what was compiled for the layers, or the adapters, that there were."""
        states.forget_compiled(self)
        self.__dict__.pop("_generating", None)

    def _live_weights(self) -> list[LiveWeight]:
        found = self._weights()
        shapes = {path: tuple(variable.shape) for path, (variable, _) in found.items()}
        known = {path: told for path, pair in found.items() if (told := layers.layout_of(*pair)) is not None}
        live = live_weights(shapes, "tf", {path for path, pair in found.items() if internals.is_buffer(*pair)}, known)
        return [dataclasses.replace(weight, packed=layers.part_of(*found[weight.key])) for weight in live]

    def _stored_names(self, chosen: Format) -> dict[str, LegacyWeight]:
        """Return the names in TensorFlow's files of an author's backbone: those of its variables."""
        schema = self.schema
        if chosen.flavour != "tf" or not schema.is_base or self._is_of_a_part(self.config):
            return {}
        stored = legacy_weights(schema, "tf")
        return {n: dataclasses.replace(one, name=without_prefix(one.name, schema)) for n, one in stored.items()}

    def _own_dtypes(self, schema: Schema) -> Mapping[str, np.dtype]:
        if self._is_its_part() and self._is_of_a_part(self.config):
            return {}
        found, own = self._weights(), {}
        for weight in schema.stored():
            variable, owner = found[layouts.native_path(weight, "tf")]
            if internals.dtype_of(variable) != tf.as_dtype(owner.variable_dtype):
                own[weight.name] = arrays.numpy_dtype(internals.dtype_of(variable))
        return own

    def _nested_models(self) -> Mapping[str, Any]:
        return layers.models_within(self, TFPreTrainedModel)

    @classmethod
    def _look_at(cls, config: PretrainedConfig, arguments: Mapping[str, Any], ask: Callable[[Any], Answer]) -> Answer:
        with internals.without_values():
            model = cls(config, **arguments)
            answer = ask(model)
            layers.discard(model._variables().values())
        return answer

    @classmethod
    def _call_arguments(cls) -> Collection[str]:
        return inspect.signature(cls.call).parameters

    def _is_trainable(self, weight: Weight) -> bool:
        return self._weights()[layouts.native_path(weight, "tf")][0].trainable

    @staticmethod
    def _to_native(array: np.ndarray) -> Any:
        return arrays.to_native(array)

    @staticmethod
    def _to_numpy(tensor: Any) -> np.ndarray:
        return arrays.to_numpy(tensor)

    def _replace_part(self, path: str, value: Any) -> None:
        scope, _, name = path.rpartition(".")
        layers.replace_layer(attrgetter(scope)(self) if scope else self, name, value)
        self._forget_compiled()

    def _cache_dtype(self) -> Any:
        return self.compute_dtype

    def _variables(self) -> dict[tuple[str, ...], Any]:
        return {path: variable for path, (variable, _) in self._weights().items()}

    def _weights(self) -> dict[tuple[str, ...], tuple[Any, keras.layers.Layer]]:
        """Return path -> (variable, layer), building the model first if need be.

        Raises:
            ArgumentError: two variables have one name.
        """
        self.build_in_name_scope()
        found: dict[tuple[str, ...], tuple[Any, keras.layers.Layer]] = {}
        for path, variable, owner in layers.walk(self):
            if path in found:
                raise ArgumentError(
                    f"Two variables of {type(self).__name__} have one name, so that a file would hold only one.",
                    expected="a name of its own for each layer of a layer, and for each variable",
                    received="/".join(path),
                    remedy="pass another name= to one of the two",
                )
            internals.note_path(variable, path)
            found[path] = (variable, owner)
        return found


def _renamed(checkpoint: Checkpoint, schema: Schema, rename: Callable[[str], Sequence[str]]) -> Checkpoint:
    """Return `checkpoint` with each weight under its own name, whichever of the names that `rename` tells it has."""
    held: dict[str, str] = {}
    for name in schema:
        said = rename(name)
        if not isinstance(said, (str, Sequence)):
            raise ArgumentError("tf_to_pt_weight_rename returned no names.", expected="a text, or several",
                                received=type(said).__name__)  # fmt: skip
        found = [one for one in ((said,) if isinstance(said, str) else said) if one in checkpoint]
        held |= dict.fromkeys([name], found[0]) if found else {}
    used = {old for new, old in held.items() if old != new} - set(schema)
    refs = {name: ref for name, ref in checkpoint.items() if name not in used}
    refs |= {new: dataclasses.replace(checkpoint[old], name=new) for new, old in held.items()}
    return Checkpoint(refs, checkpoint.metadata, checkpoint.source, checkpoint.flavour, checkpoint.files)


def _is_input(value: Any) -> bool:
    return value is None or keras.ops.is_tensor(value) or isinstance(value, (np.ndarray, keras.KerasTensor))
