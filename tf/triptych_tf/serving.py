"""What a model is called with, what it returns where it is served, and SavedModels of TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from triptych.errors import ArgumentError
from triptych.modeling.serving import ServedInput, Serving
from triptych.nn.outputs import ModelOutput
from triptych_tf.authors.checks import expect


class Exports(Serving):
    """Part of `TFPreTrainedModel`: example inputs, and models for TensorFlow Serving."""

    main_input_name: Any

    @property
    def input_signature(self) -> dict[str, tf.TensorSpec]:
        """The inputs of a call, by name: ids and masks [batch, length] (int32), pixel_values [batch, channels, height,
        width] (float32). A class whose inputs are others overrides it.

        Raises:
            ArgumentError: the config does not tell the size of images; or the class takes sound.
        """
        return _specs(self._usual_inputs(self._called_with()))  # type: ignore[attr-defined]

    @property
    def dummy_inputs(self) -> dict[str, Any]:
        """Inputs on which a class without `build` is built: ones for each of `input_signature`, zeros as token types.

        A class of which no argument is known by its name gets ids as its first.
        """
        found = {}
        for name, spec in self.input_signature.items():
            shape = [1 if axis == 0 else 2 if length is None else length for axis, length in enumerate(spec.shape)]
            values = np.zeros if name == "token_type_ids" else np.ones
            found[name] = values(shape, spec.dtype.as_numpy_dtype)
        if not found:
            found = {self.main_input_name: np.zeros((2, 3), np.int32)}
        if getattr(self.config, "add_cross_attention", False) and "encoder_hidden_states" in self._called_with():  # type: ignore[attr-defined]
            found.setdefault("encoder_hidden_states", np.ones((1, 2, self.config.hidden_size), np.float32))
        return found

    @tf.function
    def serving(self, inputs: Mapping[str, tf.Tensor]) -> Any:
        """Return the output for a dict of inputs, as it is served."""
        return self.serving_output(self(inputs))  # type: ignore[operator]

    def serving_output(self, output: Any) -> Any:
        """Return an output without what the config does not ask for, and with tuples of equal shapes as one tensor."""
        if not isinstance(output, ModelOutput):
            return output
        kept = {name: value for name, value in output.items() if self._is_served(name)}
        return type(output)((name, _stacked(value)) for name, value in kept.items())

    def export(  # type: ignore[override]
        self,
        filepath: str | os.PathLike[str],
        format: str = "tf_saved_model",
        verbose: Any = None,
        input_signature: Any = None,
        *,
        inputs: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Write the model for inference, as Keras does, or with `inputs` as in the other frameworks: see
        `triptych.modeling.serving.Serving.export`.

        A SavedModel, which is the default, returns a dict of outputs; its inputs are those of the property
        `input_signature` by default. Other formats are Keras's own matter.

        Raises:
            ArgumentError: both `inputs` and `input_signature`; `inputs` that the class does not take; or arguments of
                Keras for other formats and backends.
        """
        expect(isinstance(filepath, (str, os.PathLike)), "filepath", "a path", filepath)
        if inputs is not None:
            expect(input_signature is None, "input_signature", "none beside inputs", input_signature)
            input_signature = [_specs(self.served_inputs(inputs))]
        if kwargs and format == "tf_saved_model":
            raise ArgumentError(
                "A SavedModel takes no further arguments.", expected="verbose, and input_signature or inputs",
                received=", ".join(kwargs),
            )  # fmt: skip
        signature = [dict(self.input_signature)] if input_signature is None else input_signature
        if format != "tf_saved_model":
            return super().export(filepath, format, verbose, signature, **kwargs)  # type: ignore[misc, call-arg]
        archive = self._archive()
        archive.add_endpoint("serve", self._served, signature)
        archive.write_out(os.fspath(filepath), verbose=verbose is not False)

    def _archive(self) -> Any:
        self.build_in_name_scope()  # type: ignore[attr-defined]
        # Not `archive.track(self)`: what functions use is written anyway, and would be written twice.
        return keras.export.ExportArchive()

    def write_saved_model(self, folder: str | os.PathLike[str], signatures: Any = None) -> None:
        """Write a SavedModel of TensorFlow, for TensorFlow Serving.

        Args:
            signatures: a function of TensorFlow, or names and functions. By default `serving_default` takes the inputs
                of `input_signature`, and `int64_serving` the same with ids of int64.
        """
        expect(isinstance(folder, (str, os.PathLike)), "folder", "a path", folder)
        archive = self._archive()
        if signatures is None:
            spec = dict(self.input_signature)
            wide = {n: tf.TensorSpec(s.shape, tf.int64 if s.dtype == tf.int32 else s.dtype, n) for n, s in spec.items()}
            archive.add_endpoint("serving_default", self._served, [spec])
            if wide != spec:
                archive.add_endpoint("int64_serving", self._served, [wide])
        else:
            named = signatures if isinstance(signatures, Mapping) else {"serving_default": signatures}
            for name, function in named.items():
                expect(hasattr(function, "get_concrete_function"), "signatures", "functions that tf.function made",
                       {name: function})  # fmt: skip
                archive.add_endpoint(name, function)
        archive.write_out(os.fspath(folder), verbose=False)

    def _served(self, *inputs: Any) -> dict[str, Any]:
        return self._served_outputs(self(*inputs, **self._call_to_serve()))  # type: ignore[operator]

    @staticmethod
    def _stacked(several: Any) -> Any:
        return tf.stack(several)


def _specs(inputs: Mapping[str, ServedInput]) -> dict[str, tf.TensorSpec]:
    """Return the inputs of an exported model as TensorFlow describes them."""

    def spec(name: str, one: ServedInput) -> tf.TensorSpec:
        axes = [None if isinstance(axis, str) else axis for axis in one.axes]
        return tf.TensorSpec(axes, tf.int32 if one.is_integer else tf.float32, name)

    return {name: spec(name, one) for name, one in inputs.items()}


def _stacked(value: Any) -> Any:
    if not isinstance(value, (tuple, list)) or len({tuple(one.shape) for one in value if tf.is_tensor(one)}) != 1:
        return value
    return tf.stack(value) if all(tf.is_tensor(one) for one in value) else value
