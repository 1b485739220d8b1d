"""A model as a file that its framework runs without triptych: what goes into it, and what comes out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from triptych.errors import ArgumentError, SaveError, TriptychError
from triptych.modeling.hooks import Hooks
from triptych.nn.outputs import ModelOutput

BATCH, CHOICES, LENGTH = "batch", "choices", "length"
IDS_AND_MASKS = ("input_ids", "attention_mask", "token_type_ids", "decoder_input_ids", "decoder_attention_mask")


@dataclass(frozen=True)
class ServedInput:
    """An input of an exported model: an axis is a length, or a name for one that may differ from call to call."""

    axes: tuple[str | int, ...]
    is_integer: bool


class Serving(Hooks):
    """Part of `ModelBase`: `export`."""

    config: Any
    export_options: ClassVar[tuple[str, ...]] = ()
    """What `export` takes in this framework beside the inputs."""

    def export(self, filepath: str | os.PathLike[str], *, inputs: Any = None, **options: Any) -> None:
        """Write the model for inference, with its weights, as what the framework alone loads and runs.

        What is loaded takes a dict of inputs and returns a dict of outputs, under the names that a call has for them:

            PyTorch    torch.export.load(filepath).module()(**inputs), with ids and masks of int64
            Keras      loaded = tf.saved_model.load(filepath); loaded.serve(inputs), of int32: a SavedModel, a folder
            Flax       jax.export.deserialize(bytearray(Path(filepath).read_bytes())).call(inputs), of int32

        Hidden states and attentions are among the outputs if the config asks for them, those of all layers as one
        array [layers, ...]. Caches are not, and neither are dropout and losses.

        Args:
            filepath: the file, which appears whole or not at all, and in PyTorch has a name that ends in `.pt2`; in
                Keras a folder.
            inputs: which arguments of a call there are; all of them must be given to what is loaded. Names of ids and
                masks; or a dict from name to shape, in which a name stands for a length that may differ from call to
                call: `{"input_ids": ("batch", 128)}`. By default ids, masks and token types as far as the class takes
                them: [batch, length], [batch, choices, length] or, of a decoder beside an encoder,
                [batch, decoder_length]; and pixel_values as large as the config says.
            options: Flax: `platforms`, such as ("cpu", "cuda"), by default the one at hand; `params`, used in place of
                `self.params`; `bake_params`: False leaves the parameters out of the file, and `call(params, inputs)`
                takes them. Keras: what `keras.Model.export` takes.

        Raises:
            ArgumentError: an unknown argument, input or length; there is no folder for the file; or the model's weights
                are not all in memory. SaveError: the system refuses to write the file.
        """
        if not isinstance(filepath, (str, os.PathLike)):
            raise ArgumentError("filepath is none.", expected="a path", received=repr(filepath)[:80])
        if strange := [name for name in options if name not in self.export_options]:
            raise ArgumentError(
                f"{type(self).__name__}.export does not know these arguments.",
                expected=", ".join(("inputs", *self.export_options)),
                received=", ".join(strange),
            )
        file = Path(filepath)
        if file.is_dir():
            raise ArgumentError("There is a folder of this name.", expected="the path of a file", received=str(file))
        if not file.absolute().parent.is_dir():
            raise ArgumentError("There is no folder for the file.", expected="a folder that exists",
                                received=str(file.absolute().parent))  # fmt: skip
        try:
            self._export(file, self.served_inputs(inputs), **options)
        except OSError as cause:
            if isinstance(cause, TriptychError):
                raise
            error = SaveError(f"{file} could not be written.", received=str(cause))
            error.errno = cause.errno
            raise error from cause

    def served_inputs(self, inputs: Any = None) -> dict[str, ServedInput]:
        """Return the inputs of an exported model, as the argument `inputs` of `export` says them."""
        known = self._call_arguments()
        if inputs is None:
            return self._usual_inputs(known)
        named = {inputs: None} if isinstance(inputs, str) else inputs
        if not (isinstance(named, (Mapping, Sequence)) and named and all(isinstance(name, str) for name in named)):
            raise ArgumentError("inputs: which?", expected="names of arguments, or a dict from them to shapes",
                                received=repr(inputs)[:80])  # fmt: skip
        if strange := [name for name in named if name not in known]:
            raise ArgumentError(
                f"{type(self).__name__} is not called with these inputs.",
                expected=", ".join(name for name in known if name != "self"),
                received=", ".join(strange),
            )
        shapes = named if isinstance(named, Mapping) else dict.fromkeys(named)
        return {name: self._stated(name, axes) for name, axes in shapes.items()}

    def _stated(self, name: str, axes: Any) -> ServedInput:
        if axes is None and not _is_integer(name):
            raise ArgumentError(
                f"inputs: of which shape is {name}?",
                expected='a dict from name to shape, such as {"inputs_embeds": ("batch", "length", 768)}',
                received="its name alone",
            )
        axes = self._axes(name) if axes is None else axes
        if not isinstance(axes, (tuple, list)) or not all(_is_length(axis) for axis in axes):
            raise ArgumentError(
                f"inputs: the shape of {name} is none.",
                expected="a tuple of lengths, and of names for those that differ from call to call",
                received=repr(axes)[:80],
            )
        return ServedInput(tuple(axes), _is_integer(name))

    def _usual_inputs(self, known: Any) -> dict[str, ServedInput]:
        found = {}
        if "input_ids" in known:
            found = {name: ServedInput(self._axes(name), True) for name in IDS_AND_MASKS if name in known}
        if "pixel_values" in known:
            found["pixel_values"] = ServedInput((BATCH, *self._size_of_images()), False)
        if "input_features" in known:
            raise ArgumentError(f"{type(self).__name__} takes input_features, whose size no config tells.",
                                remedy="pass inputs to export, or override the property input_signature")  # fmt: skip
        return found

    def _axes(self, name: str) -> tuple[str | int, ...]:
        """Return the axes of ids or a mask."""
        part = next((part for part in ("decoder", "encoder") if name.startswith(f"{part}_")), "")
        length = f"{part}_{LENGTH}" if part else LENGTH
        return (BATCH, CHOICES, length) if type(self).__name__.endswith("ForMultipleChoice") else (BATCH, length)

    def _size_of_images(self) -> list[int]:
        config = getattr(self.config, "vision_config", self.config)
        size = getattr(config, "image_size", getattr(config, "input_size", None))
        channels = getattr(config, "num_channels", None)
        if size is None or channels is None:
            raise ArgumentError(
                f"{type(self).__name__} takes pixel_values, and its config does not tell their size.",
                expected="num_channels, and image_size or input_size",
                remedy="override the property input_signature, or pass inputs to export",
            )
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        return [channels, height, width]

    def _is_served(self, name: str) -> bool:
        """Return whether the field `name` of an output is served, by what the config asks for."""
        asked = lambda flag: bool(getattr(self.config, flag, False))  # noqa: E731
        if name.endswith("hidden_states"):
            return asked("output_hidden_states")
        if name == "cross_attentions":
            return asked("output_attentions") and asked("add_cross_attention")
        if name.endswith("attentions"):
            return asked("output_attentions")
        return name != "past_key_values" or asked("use_cache")

    def _call_to_serve(self) -> dict[str, bool]:
        """Return the flags with which an exported model is called."""
        known = self._call_arguments()
        return {name: flag for name, flag in (("return_dict", True), ("use_cache", False)) if name in known}

    def _served_outputs(self, output: Any) -> dict[str, Any]:
        """Return the arrays of an output by name; tuples of arrays of one shape as one array."""
        if isinstance(output, ModelOutput):
            output = {name: value for name, value in output.items() if self._is_served(name)}
        elif not isinstance(output, Mapping):
            several = output if isinstance(output, (tuple, list)) else (output,)
            output = {f"output_{place}": value for place, value in enumerate(several)}
        found: dict[str, Any] = {}
        for name, value in output.items():
            if hasattr(value, "shape"):
                found[name] = value
            elif isinstance(value, (tuple, list)) and value and all(hasattr(one, "shape") for one in value):
                alike = all(tuple(one.shape) == tuple(value[0].shape) for one in value)
                parts = {f"{name}_{place}": one for place, one in enumerate(value)}
                found |= {name: self._stacked(value)} if alike else parts
        return found


def _is_integer(name: str) -> bool:
    return name.endswith(("_ids", "attention_mask"))


def _is_length(axis: Any) -> bool:
    return axis.isidentifier() if isinstance(axis, str) else type(axis) is int and axis > 0
