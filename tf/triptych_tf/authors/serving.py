"""What a model is called with, what it returns where it is served, and SavedModels of TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from triptych.errors import ArgumentError
from triptych.nn.outputs import ModelOutput
from triptych_tf.authors.checks import expect

IDS_AND_MASKS = ("input_ids", "attention_mask", "token_type_ids", "decoder_input_ids", "decoder_attention_mask")


class Serving:
    """Part of `TFPreTrainedModel`: example inputs, and models for TensorFlow Serving."""

    config: Any
    main_input_name: Any

    @property
    def input_signature(self) -> dict[str, tf.TensorSpec]:
        """The inputs of a call, by name: ids and masks [batch, length] (int32), pixel_values [batch, channels, height,
        width] (float32). A class whose inputs are others overrides it.

        Raises:
            ArgumentError: the config does not tell the size of images; or the class takes sound.
        """
        called_with, found = self._called_with(), {}  # type: ignore[attr-defined]
        lengths = [None] * (3 if type(self).__name__.endswith("ForMultipleChoice") else 2)
        if "input_ids" in called_with:
            found = {name: tf.TensorSpec(lengths, tf.int32, name) for name in IDS_AND_MASKS if name in called_with}
        if "pixel_values" in called_with:
            found["pixel_values"] = tf.TensorSpec(self._size_of_images(), tf.float32, "pixel_values")
        if "input_features" in called_with:
            raise ArgumentError(f"{type(self).__name__} takes input_features, whose size no config tells.",
                                remedy="override the property input_signature")  # fmt: skip
        return found

    def _size_of_images(self) -> list[int | None]:
        config = getattr(self.config, "vision_config", self.config)
        size = getattr(config, "image_size", getattr(config, "input_size", None))
        channels = getattr(config, "num_channels", None)
        if size is None or channels is None:
            raise ArgumentError(
                f"{type(self).__name__} takes pixel_values, and its config does not tell their size.",
                expected="num_channels, and image_size or input_size",
                remedy="override the property input_signature",
            )
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        return [None, channels, height, width]

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

    def _is_served(self, name: str) -> bool:
        asked: Callable[[str], bool] = lambda flag: bool(getattr(self.config, flag, False))  # noqa: E731
        if name.endswith("hidden_states"):
            return asked("output_hidden_states")
        if name == "cross_attentions":
            return asked("output_attentions") and asked("add_cross_attention")
        if name.endswith("attentions"):
            return asked("output_attentions")
        return name != "past_key_values" or asked("use_cache")

    def export(self, filepath: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Any:
        """Write the model for inference, as Keras does; its inputs are those of `input_signature` by default."""
        if kwargs.get("input_signature") is None and len(args) < 3:
            kwargs["input_signature"] = [dict(self.input_signature)]
        return super().export(filepath, *args, **kwargs)  # type: ignore[misc]

    def write_saved_model(self, folder: str | os.PathLike[str], signatures: Any = None) -> None:
        """Write a SavedModel of TensorFlow, for TensorFlow Serving.

        Args:
            signatures: a function of TensorFlow, or names and functions. By default `serving_default` takes the inputs
                of `input_signature`, and `int64_serving` the same with ids of int64.
        """
        expect(isinstance(folder, (str, os.PathLike)), "folder", "a path", folder)
        archive = keras.export.ExportArchive()
        archive.track(self)
        if signatures is None:
            spec = dict(self.input_signature)
            wide = {n: tf.TensorSpec(s.shape, tf.int64 if s.dtype == tf.int32 else s.dtype, n) for n, s in spec.items()}
            archive.add_endpoint("serving_default", self._served, [spec])
            if wide != spec:
                archive.add_endpoint("int64_serving", self._served, [wide])
        else:
            named = signatures if isinstance(signatures, Mapping) else {"serving_default": signatures}
            for name, function in named.items():
                archive.add_endpoint(name, function)
        archive.write_out(os.fspath(folder), verbose=False)

    def _served(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, Any]:
        output = self.serving_output(self(inputs))  # type: ignore[operator]
        return {n: v for n, v in output.items() if tf.is_tensor(v)} if isinstance(output, ModelOutput) else output


def _stacked(value: Any) -> Any:
    if not isinstance(value, (tuple, list)) or len({tuple(one.shape) for one in value if tf.is_tensor(one)}) != 1:
        return value
    return tf.stack(value) if all(tf.is_tensor(one) for one in value) else value
