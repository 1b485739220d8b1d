"""keras-hub's own model of a folder of transformers' format, run on inputs that are called as transformers calls them.

It is a backbone, or for a class that continues texts the CausalLM: keras-hub fills no heads of other tasks from
such folders. Its outputs are called as ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from triptych.errors import ArgumentError

Arrays = Mapping[str, np.ndarray]
_TASK = ("LMHeadModel", "ForCausalLM")
_OUTPUTS = {"sequence_output": "last_hidden_state", "pooled_output": "pooler_output",
            "encoder_sequence_output": "encoder_last_hidden_state",
            "decoder_sequence_output": "last_hidden_state"}  # fmt: skip


def load(folder: Path, stem: str, dtype: str) -> Any:
    """Return keras-hub's model for the class `stem`. What keras-hub raises where it knows no such folder."""
    import keras_hub

    if stem.endswith(_TASK):
        return keras_hub.models.CausalLM.from_preset(str(folder.absolute()), preprocessor=None, dtype=dtype)
    return keras_hub.models.Backbone.from_preset(str(folder.absolute()), dtype=dtype)


def run(model: Any, inputs: Arrays) -> dict[str, np.ndarray]:
    """Return the outputs, float32, by our names: logits of a task; last_hidden_state, pooler_output of a backbone.

    The last of the hidden_states is the same array as last_hidden_state, under the name that classes with a head give
    it.

    Raises:
        ArgumentError: the model reads what `inputs` do not hold, or they hold what it does not read.
    """
    wanted = list(model.input) if isinstance(model.input, Mapping) else [model.input.name]
    readable = _readable(inputs)
    given = {theirs: array for theirs, array in readable.values() if theirs in wanted}
    lacking = [name for name in wanted if name not in given]
    read = [name for name, (theirs, _) in readable.items() if theirs in wanted]
    unread = [name for name in inputs if name not in read]
    if lacking or unread:
        raise ArgumentError(
            f"{type(model).__name__} of keras-hub reads other inputs.", expected=", ".join(wanted),
            received=f"{', '.join(inputs)}", remedy="write a function of the folder (module:function) that maps them",
        )  # fmt: skip
    outputs = model(given if isinstance(model.input, Mapping) else given[wanted[0]], training=False)
    if not isinstance(outputs, Mapping):
        outputs = {"logits" if hasattr(model, "backbone") else "sequence_output": outputs}
    found = {_OUTPUTS.get(name, name): _array(value) for name, value in outputs.items()}
    last, layers = found.get("last_hidden_state"), getattr(model, "num_layers", None)
    if last is not None and isinstance(layers, int):
        found[f"hidden_states.{layers}"] = last
    return found


def _readable(inputs: Arrays) -> dict[str, tuple[str, np.ndarray]]:
    """Return by our name what keras-hub calls an input, and the array as it reads it."""
    ids = inputs.get("input_ids", np.zeros((1, 1), np.int64))
    both = "decoder_input_ids" in inputs
    encoder = "encoder_" if both else ""
    named = {
        "input_ids": (f"{encoder}token_ids", ids),
        "attention_mask": (f"{encoder}padding_mask", np.ones_like(ids)),
        "token_type_ids": ("segment_ids", np.zeros_like(ids)),
    }
    if both:
        decoder = inputs["decoder_input_ids"]
        named["decoder_input_ids"] = "decoder_token_ids", decoder
        named["decoder_attention_mask"] = "decoder_padding_mask", np.ones_like(decoder)
    if "pixel_values" in inputs:
        return {"pixel_values": ("images", np.moveaxis(inputs["pixel_values"], 1, -1))}
    return {name: (theirs, inputs.get(name, default)) for name, (theirs, default) in named.items()}


def _array(value: Any) -> np.ndarray:
    import keras

    return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(value, "float32")))
