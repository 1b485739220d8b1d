"""Adapters on live layers of Keras: an adapted layer has a layer for each below it, and its call adds what they say."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from triptych.adapters.held import Adapters, of_scale
from triptych.adapters.targets import Target
from triptych.errors import ArgumentError
from triptych.modeling.adapting import Adapting
from triptych.weights import layouts
from triptych_tf import arrays, internals
from triptych_tf.make import LEVEL, TFConv1D, TFDropout
from triptych_tf.packed import TFPackedConv1D, TFPackedDense, TFPackedEmbedding, TFPackedLayer

DESCRIPTION = "triptych_adapters"
"""The key of a model's config, as Keras saves it, for the adapters that it holds."""
_PREFIX = "lora_"
_CALLS = (keras.layers.Dense.call, keras.layers.Embedding.call, TFConv1D.call,
          TFPackedDense.call, TFPackedEmbedding.call, TFPackedConv1D.call)  # fmt: skip
"""What computes with the matrix of a layer and nothing else, so that a change can be added to its output."""


class TFLora(keras.layers.Layer):
    """The change of one layer by one adapter: `B(A(drop(x)))`, in the dtype of A and B; of an embedding, without drop.

    Args:
        a, b: the first values, [rank, ins] and [outs, rank].
        rate: of the dropout.
        is_embedding: whether the layer is called with the numbers of rows.
    """

    is_level = False

    def __init__(self, a: np.ndarray, b: np.ndarray, rate: float, is_embedding: bool, name: str) -> None:
        super().__init__(dtype=a.dtype.name, name=name)
        self.is_embedding = is_embedding
        self.a, self.b = (
            self.add_weight(shape=value.shape, name=leaf, initializer=lambda shape, dtype, v=value: arrays.to_native(v))
            for leaf, value in (("lora_A", a), ("lora_B", b))
        )
        # Under the path that peft gives it, since that says what a seed draws.
        path = f"lora_dropout{LEVEL}{name.removeprefix(_PREFIX)}"
        self.dropout = TFDropout(rate, dtype=a.dtype.name, name=path)
        self.built = True

    def call(self, x: Any) -> Any:
        inner = keras.ops.transpose(self.a)
        if self.is_embedding:
            found = keras.ops.take(inner, keras.ops.cast(x, "int32"), axis=0)
        else:
            found = keras.ops.matmul(self.dropout(x), inner)
        return keras.ops.matmul(found, keras.ops.transpose(self.b))


class Adapts(Adapting):
    """Part of `TFPreTrainedModel`."""

    _weights: Callable[[], Mapping[tuple[str, ...], Any]]
    _forget_compiled: Callable[[], None]

    def _hold_adapter(self, name: str, factors: Mapping[Target, tuple[np.ndarray, np.ndarray]], rate: float) -> None:
        owners = self._owners()
        layers = {one: _adaptable(one, owners[one.module]) for one in factors}
        for one, (a, b) in factors.items():
            layer = layers[one]
            if "call" not in vars(layer):
                layer.__dict__["lora_scales"] = {}
                layer.call = _adapted_call(layer)
            with internals.open_for(layer, None):
                setattr(layer, _PREFIX + name, TFLora(a, b, rate, one.is_embedding, _PREFIX + name))

    def _drop_adapter(self, name: str) -> None:
        for _, layer in self._adapted():
            part = getattr(layer, _PREFIX + name, None)
            if part is not None:
                with internals.open_for(layer, part):
                    delattr(layer, _PREFIX + name)
                layer.lora_scales.pop(name, None)
            if not any(isinstance(one, TFLora) for one in internals.parts_of(layer)):
                del layer.call, layer.__dict__["lora_scales"]
        self._forget_compiled()

    def _adapted(self) -> Iterator[tuple[str, Any]]:
        """Yield every layer with adapters, and its canonical name."""
        for name, layer in self._owners().items():
            if "lora_scales" in vars(layer):
                yield name, layer

    def _owners(self) -> dict[str, Any]:
        """Return the layers that have weights of their own, by their canonical names."""
        return {".".join(path[:-1]): owner for path, (_, owner) in self._weights().items()}

    def _adapter_factors(self, name: str) -> dict[str, tuple[Any, Any]]:
        owners, found = self._owners(), {}
        for one in self._some_adapters().held[name].targets:
            part = getattr(owners[one.module], _PREFIX + name)
            found[one.module] = (internals.tensor_of(part.a), internals.tensor_of(part.b))
        return found

    def _act_adapters(self, scales: Mapping[str, Mapping[str, float]]) -> None:
        for module, layer in self._adapted():
            layer.__dict__["lora_scales"] = of_scale(scales, module)
        self._forget_compiled()

    def _train_adapters(self, adapters: Collection[str], weights: Collection[str]) -> None:
        held, owners, state = self._weights(), self._owners(), self._adapters_held()
        for weight in self.schema.stored():
            variable, owner = held[layouts.native_path(weight, "tf")]
            if not internals.is_buffer(variable, owner):
                variable.trainable = weight.name in weights
        for name, one in () if state is None else state.held.items():
            for target in one.targets:
                getattr(owners[target.module], _PREFIX + name).trainable = name in adapters
        self._forget_compiled()

    def _adapters_described(self) -> dict[str, Any]:
        """Return what Keras's own files say of the adapters; nothing where there are none."""
        state = self._adapters_held()
        return {} if state is None else {DESCRIPTION: state.described()}

    def _hold_described(self, told: Mapping[str, Any]) -> None:
        """Add adapters that such a file tells of, without values: it has these among its variables."""
        state = self.__dict__["_adapters"] = Adapters.of_description(told)
        for name, adapter in state.held.items():
            zeros = {one: tuple(np.zeros(shape, np.float32) for shape in one.shapes) for one in adapter.targets}
            self._hold_adapter(name, zeros, adapter.config.lora_dropout)  # type: ignore[arg-type]
        self._follow_adapters()


def _adaptable(target: Target, layer: Any) -> Any:
    """Return `layer`, which has the matrix of `target`.

    Raises:
        ArgumentError: it is of no kind whose call computes with its matrix and nothing else.
    """
    if type(layer).call not in _CALLS:
        raise ArgumentError(
            f"{target.module} cannot be adapted.",
            expected="a layer of keras.layers.Dense, keras.layers.Embedding or TFConv1D, with their own call",
            received=type(layer).__name__,
            remedy="leave it out of target_modules",
        )
    return layer


def _adapted_call(layer: Any) -> Callable[..., Any]:
    """Return the `call` of an adapted layer."""

    def call(*args: Any, **kwargs: Any) -> Any:
        inputs = args[0] if args else next(iter(kwargs.values()))
        parts = [(getattr(layer, _PREFIX + name), scale) for name, scale in layer.lora_scales.items()]
        activation = getattr(layer, "activation", None)
        if not parts or activation in (None, keras.activations.linear):
            output = type(layer).call(layer, *args, **kwargs)
        else:
            packed = isinstance(layer, TFPackedLayer)
            output = layer.score(inputs) if packed else keras.ops.matmul(inputs, layer.kernel)
            output = output if layer.bias is None else keras.ops.add(output, layer.bias)
        for part, scale in parts:
            output = output + keras.ops.cast(part(inputs) * scale, output.dtype)
        return activation(output) if parts and activation is not None else output

    return call
