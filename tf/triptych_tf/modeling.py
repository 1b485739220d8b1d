"""`TFPreTrainedModel`: the plans of core, carried out on a `keras.Model`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import attrgetter
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from triptych.config import PretrainedConfig
from triptych.errors import ArgumentError
from triptych.modeling.base import ModelBase, refuse_unknown
from triptych.modeling.derived import LiveWeight, live_weights
from triptych.modeling.hooks import Answer
from triptych.nn.heads import TARGETS
from triptych.nn.outputs import ModelOutput
from triptych.nn.parts import Model
from triptych.tensors.arrays import permuted
from triptych.weights import layouts
from triptych.weights.plan import Assignment, NewWeight
from triptych.weights.schema import Weight
from triptych_tf import arrays, internals, layers, make, ops

__all__ = ["TFPreTrainedModel"]


class TFPreTrainedModel(keras.Model, ModelBase):
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
    ops: ClassVar[Any] = ops
    make: ClassVar[Any] = make

    def __init_subclass__(cls, part: type[Model] | None = None, **kwargs: Any) -> None:
        """Take over the layers and the arithmetic of `part`, a declaration, if the class statement names one."""
        super().__init_subclass__(**kwargs)
        if part is not None:
            make.declare(cls, part)

    def __init__(self, config: PretrainedConfig, *inputs: Any, **kwargs: Any) -> None:
        self._check_config(config)
        options = {name: kwargs.pop(name) for name in ("name", "trainable") if name in kwargs}
        policy = layers.parse_policy(kwargs.pop("dtype", None))
        refuse_unknown(kwargs, type(self))
        super().__init__(dtype=policy, **options)
        self.config = config

    def post_init(self) -> None:
        """Build the variables, if the class says how; a load calls it too, while no weight has a value yet."""
        if type(self).build is not keras.Model.build and not self.built:
            self.build()

    def __setattr__(self, name: str, value: Any) -> None:
        # A subclass of a built-in class has layers of its own, or others in the place of some, once that one is built.
        if self.declared_part is None or not isinstance(value, keras.layers.Layer) or not vars(self).get("built"):
            super().__setattr__(name, value)
        else:
            with internals.open_for(self, vars(self).get(name)):
                super().__setattr__(name, value)

    # -- what Keras asks for ------------------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """Return the fields of `config`, for Keras's own serialisation."""
        return self.config.to_dict()

    @classmethod
    def from_config(cls, config: PretrainedConfig | Mapping[str, Any], **kwargs: Any) -> Any:
        """Return a new model with freshly initialised weights, of a config or of what `get_config` returned."""
        kwargs.pop("custom_objects", None)  # Keras passes it; a config names no objects
        if isinstance(config, Mapping) and cls.config_class is not None:
            config = cls.config_class.from_dict(config)
        return ModelBase.from_config.__func__(cls, config, **kwargs)  # type: ignore[attr-defined]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model. The first argument may be a dict of inputs; others may be given by position or name."""
        names = self.call_signature_parameters
        if args and isinstance(args[0], Mapping) and set(args[0]) <= set(names):
            kwargs, args = {**args[0], **kwargs}, (None, *args[1:])
        given = {name: value for name, value in zip(names, args, strict=False) if value is not None}
        return super().__call__(*args[len(names) :], **given, **kwargs)

    # -- training -----------------------------------------------------------------------------------------------

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Prepare for `fit` and `evaluate`, as Keras does; without `loss` the model's own is used.

        The labels are among the inputs, or `y`: an array, or a dict by the names of the call's arguments. Metrics
        compare them, as they are, with the logits; in question answering each metric is there for start and end.
        """
        every, weighted = self._for_each_target(metrics), self._for_each_target(weighted_metrics)
        super().compile(optimizer, loss, loss_weights, every, weighted, *args, **kwargs)

    def train_step(self, data: Any) -> Any:
        return super().train_step(self._labelled(data))

    def test_step(self, data: Any) -> Any:
        return super().test_step(self._labelled(data))

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Return the loss of `fit`: the compiled one, or the model's own where there is none.

        Raises:
            ArgumentError: sample weights, and the loss is the model's own.
        """
        if self.loss is not None or not isinstance(y_pred, ModelOutput) or "loss" not in y_pred:
            return super().compute_loss(x, *self._compared(x, y, y_pred), sample_weight, training)
        if sample_weight is not None:
            raise ArgumentError("The model's own loss takes no weights.", received="sample_weight or class_weight",
                                remedy="compile the model with a loss")  # fmt: skip
        return y_pred["loss"] + sum(self.losses)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        return super().compute_metrics(x, *self._compared(x, y, y_pred), sample_weight)

    @property
    def _label_names(self) -> list[str]:
        return [name for name in TARGETS if name in self.call_signature_parameters]

    def _for_each_target(self, metrics: Any) -> Any:
        """Return a list of metrics for each of several targets, where Keras would ask for that; else as they are."""
        outputs = [TARGETS[name] for name in self._label_names]
        if not isinstance(metrics, (list, tuple)) or len(outputs) < 2 or len(metrics) == len(outputs):
            return metrics
        return {name: [_copy(metric) for metric in metrics] for name in outputs}

    def _labelled(self, data: Any) -> Any:
        """Return a batch of `fit`, with the targets among the inputs if the loss is the model's own."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        names = self._label_names
        if self.loss is not None or y is None or not names or isinstance(x, (list, tuple)):
            return data
        labels = {names[0]: y} if len(names) == 1 else {}
        if isinstance(y, Mapping):
            labels = {next((n for n in names if TARGETS[n] == name), name): value for name, value in y.items()}
        if not labels or not set(labels) <= set(names):
            raise ArgumentError("Which labels are these?", expected=f"a dict of {', '.join(names)}",
                                received=str(list(labels) or type(y).__name__))  # fmt: skip
        inputs = x if isinstance(x, Mapping) else {self.call_signature_parameters[0]: x}
        return {**labels, **inputs}, y, sample_weight

    def _compared(self, x: Any, y: Any, y_pred: Any) -> tuple[Any, Any]:
        """Return the targets, of `y` or else of the inputs `x`, and the parts of an output to compare with them."""
        if not isinstance(y_pred, ModelOutput):
            return y, y_pred
        names = self._label_names
        if y is None and isinstance(x, Mapping):
            y = {name: x[name] for name in names if name in x} or None
            y = y[names[0]] if y and len(names) == 1 else y
        if isinstance(y, Mapping):
            y = {TARGETS.get(name, name): value for name, value in y.items()}
            return y, {name: y_pred[name] for name in y}
        if len(names) == 1 and TARGETS[names[0]] in y_pred:
            return y, y_pred[TARGETS[names[0]]]
        parts = [value for name, value in y_pred.items() if name not in ("loss", "hidden_states", "attentions")]
        return y, parts[0] if len(parts) == 1 else parts

    def __dir__(self) -> list[str]:
        # Keras saves whatever is listed here, and would never come back from a base_model that is the model itself.
        return [name for name in super().__dir__() if name != "base_model"]

    @property
    def dummy_inputs(self) -> dict[str, Any]:
        """Inputs on which a class without `build` is built."""
        names = (self.main_input_name, *(("decoder_input_ids",) if self.takes_decoder_ids() else ()))
        return {name: np.zeros((2, 3), np.int32) for name in names}

    # -- embeddings and ties ------------------------------------------------------------------------------------

    def tie_weights(self) -> None:
        """Do nothing: a tied Keras head has no variable of its own, it computes with its source's in `call`."""

    # -- hooks of ModelBase -------------------------------------------------------------------------------------

    @classmethod
    @contextmanager
    def _empty(cls, config: PretrainedConfig, inputs: Sequence[Any], **options: Any) -> Iterator[Any]:
        with internals.without_values():
            with layers.default_policy(options.pop("dtype", None)):
                model = cls(config, *inputs, **options)
            loading = layers.Loading(model._variables())
            model.__dict__["_loading"] = loading  # not by setattr: Keras would track what is in it
            try:
                yield model
            except BaseException:
                layers.discard(loading.variables.values())
                raise
        del model.__dict__["_loading"]
        if loading.error is not None:
            raise loading.error
        layers.follow_variables(model)

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

    def _dtype_of(self, weight: Weight, params: Any = None) -> np.dtype:
        variable, _ = self._weights()[layouts.native_path(weight, "tf")]
        return arrays.numpy_dtype(tf.as_dtype(variable.dtype))

    def _replace(self, new: Mapping[str, np.ndarray]) -> None:
        found, schema = self._weights(), self.schema
        for name, array in new.items():
            variable, owner = found[layouts.native_path(schema[name], "tf")]
            order = layouts.to_native(schema[name].layout, array.ndim, "tf")
            layers.replace_value(variable, owner, permuted(array, order))
        self.train_function = self.test_function = self.predict_function = None  # compiled for the old shapes

    def _live_weights(self) -> list[LiveWeight]:
        found = self._weights()
        shapes = {path: tuple(variable.shape) for path, (variable, _) in found.items()}
        known = {path: told for path, pair in found.items() if (told := layers.layout_of(*pair)) is not None}
        return live_weights(shapes, "tf", {path for path, pair in found.items() if internals.is_buffer(*pair)}, known)

    def _nested_models(self) -> Mapping[str, Any]:
        return layers.models_within(self, TFPreTrainedModel)

    def _live_vocab(self) -> Collection[str]:
        vocab = {id(variable) for layer in self._vocab_parts() for _, variable, _ in layers.walk(layer)}
        variables = self._variables()
        return [weight.name for weight in self._live_weights() if id(variables[weight.key]) in vocab]

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
    def _to_numpy(tensor: Any) -> np.ndarray:
        return arrays.to_numpy(tensor)

    def _replace_part(self, path: str, value: Any) -> None:
        scope, _, name = path.rpartition(".")
        layers.replace_layer(attrgetter(scope)(self) if scope else self, name, value)

    def _cache_dtype(self) -> Any:
        return self.compute_dtype

    def _variables(self) -> dict[tuple[str, ...], Any]:
        return {path: variable for path, (variable, _) in self._weights().items()}

    def _weights(self) -> dict[tuple[str, ...], tuple[Any, keras.layers.Layer]]:
        """Return path -> (variable, layer), building the model first if need be."""
        if not all(layer.built for layer in internals.with_all_parts(self)):
            inputs = {n: keras.KerasTensor(v.shape, str(v.dtype)) for n, v in self.dummy_inputs.items()}
            # By position: a class of the user's may call its first argument as it likes.
            first = inputs.pop(self.main_input_name, None)
            self(*(() if first is None else (first,)), **inputs)
        return {path: (variable, owner) for path, variable, owner in layers.walk(self)}


def _copy(metric: Any) -> Any:
    """Return a metric with a state of its own."""
    return type(metric).from_config(metric.get_config()) if isinstance(metric, keras.metrics.Metric) else metric
