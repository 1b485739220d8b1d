"""From PyTorch to a live Keras model and back: the functions of transformers 4, carried out by the plans of core.

A checkpoint is read without PyTorch. Each function that takes `tf_inputs` ignores it: a model builds itself.
"""

from __future__ import annotations

import enum
import importlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from triptych.checkpoints.legacy import tf_levels
from triptych.checkpoints.opening import Checkpoint, opened_files
from triptych.errors import ArgumentError, ShapeMismatchError
from triptych.tensors.ref import TensorRef
from triptych.weights.plan import LoadReport, Policy, plan_load
from triptych_tf import arrays, internals
from triptych_tf.authors.checks import expect, expect_mapping, expect_model, path_of, paths_of, tensor_of
from triptych_tf.authors.loading import fill, refuse_shapes

__all__ = [
    "TransposeType", "apply_transpose", "convert_tf_weight_name_to_pt_weight_name",
    "load_pytorch_checkpoint_in_tf2_model", "load_pytorch_model_in_tf2_model", "load_pytorch_state_dict_in_tf2_model",
    "load_pytorch_weights_in_tf2_model", "load_sharded_pytorch_safetensors_in_tf2_model",
    "load_tf2_checkpoint_in_pytorch_model", "load_tf2_model_in_pytorch_model", "load_tf2_state_dict_in_pytorch_model",
    "load_tf2_weights_in_pytorch_model",
]  # fmt: skip

Renaming = Any
"""A function from a name to the names under which a PyTorch checkpoint may hold it, the best first; or None."""


class TransposeType(enum.Enum):
    """How the axes of a TensorFlow array change place on the way to PyTorch."""

    NO = "no"
    SIMPLE = "simple"
    CONV1D = "conv1d"
    CONV2D = "conv2d"


_TO_TF = {TransposeType.CONV1D: (2, 1, 0), TransposeType.CONV2D: (2, 3, 1, 0)}
_TO_PT = {TransposeType.CONV1D: (2, 1, 0), TransposeType.CONV2D: (3, 2, 0, 1)}
_LEAVES = {
    "kernel": "weight",
    "embeddings": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
    "pointwise_kernel": "pointwise.weight",
    "depthwise_kernel": "depthwise.weight",
}
_TURNED = {"kernel", "pointwise_kernel", "depthwise_kernel"}
_OF_RANK = {3: TransposeType.CONV1D, 4: TransposeType.CONV2D}


def convert_tf_weight_name_to_pt_weight_name(
    tf_name: str,
    start_prefix_to_remove: str = "",
    tf_weight_shape: Sequence[int] | None = None,
    name_scope: str | None = None,
) -> tuple[str, TransposeType]:
    """Return the name in PyTorch of a TensorFlow variable, and how its axes change place.

    Args:
        tf_name: with the scope of the model, which goes; `x_._0` are two levels, `x___y` is y.
        start_prefix_to_remove: goes from the name's start.
        tf_weight_shape: tells a convolution's kernel.
        name_scope: with which the name starts, and which goes.

    Raises:
        ArgumentError: the name does not start with `name_scope`, or is none.
    """
    expect(isinstance(tf_name, str) and any(map(_levels, tf_name.split("/"))), "tf_name", "a variable's name", tf_name)
    if name_scope is not None:
        if not tf_name.startswith(name_scope) and "final_logits_bias" not in tf_name:
            raise ArgumentError("The variable is of another scope.", expected=f"a name that starts with {name_scope}",
                                received=tf_name)  # fmt: skip
        tf_name = tf_name.removeprefix(name_scope).lstrip("/")
    levels = [part for level in tf_name.removesuffix(":0").split("/") for part in _levels(level)]
    *scope, leaf = levels[1:] if len(levels) > 1 else levels
    turned = leaf in _TURNED or {"emb_projs", "out_projs"} & {leaf, *scope}
    transpose = TransposeType.SIMPLE if turned else TransposeType.NO
    if leaf == "kernel" and tf_weight_shape is not None:
        transpose = _OF_RANK.get(len(tf_weight_shape), transpose)
    name = ".".join([*scope, _LEAVES.get(leaf, leaf)])
    return name.removeprefix(start_prefix_to_remove), transpose


def _levels(level: str) -> list[str]:
    return [part for part in level.rpartition("___")[2].split("_._") if part]


def apply_transpose(
    transpose: TransposeType, weight: Any, match_shape: Sequence[int] | None = None, pt_to_tf: bool = True
) -> np.ndarray:
    """Return an array with its axes as the other framework has them, and axes of length 1 added or left out.

    Args:
        match_shape: the shape that the result has.

    Raises:
        ShapeMismatchError: it cannot have that shape; nothing is ever reshaped to fit.
        ArgumentError: an argument is of another kind.
    """
    expect(isinstance(transpose, TransposeType), "transpose", "a TransposeType", transpose)
    array = weight if isinstance(weight, np.ndarray) else _array_of(weight)
    rank = {kind: rank for rank, kind in _OF_RANK.items()}.get(transpose, array.ndim)
    expect(array.ndim == rank, "weight", f"an array of {rank} axes", array)
    expect(match_shape is None or isinstance(match_shape, Iterable), "match_shape", "a shape", match_shape)
    if transpose is TransposeType.SIMPLE:
        array = np.transpose(array)
    elif transpose is not TransposeType.NO:
        array = np.transpose(array, (_TO_TF if pt_to_tf else _TO_PT)[transpose])
    if match_shape is None or array.shape == tuple(match_shape):
        return array
    if [n for n in array.shape if n != 1] != [n for n in match_shape if n != 1]:
        raise ShapeMismatchError("The weight has another shape.", expected=str(tuple(match_shape)),
                                 received=str(array.shape))  # fmt: skip
    return array.reshape(tuple(match_shape))


# -- into Keras -------------------------------------------------------------------------------------------------------


def load_pytorch_checkpoint_in_tf2_model(
    tf_model: Any,
    pytorch_checkpoint_path: Any,
    tf_inputs: Any = None,
    allow_missing_keys: bool = False,
    output_loading_info: bool = False,
    _prefix: str | None = None,
    tf_to_pt_weight_rename: Renaming = None,
) -> Any:
    """Fill `tf_model` from a file of PyTorch weights (`.bin` or safetensors), or a list of its shards.

    Args:
        allow_missing_keys: weights that the file lacks keep their value; otherwise they are an error.
        output_loading_info: return the model and the keys missing_keys, unexpected_keys, mismatched_keys, error_msgs.
        tf_to_pt_weight_rename: from a name to those under which the file may hold it; by default the model's own.

    Returns:
        `tf_model`.

    Raises:
        CheckpointError: a weight is missing. ShapeMismatchError: one has another shape.
        UnsafeCheckpointError and others of reading a file. ArgumentError: an argument is of another kind.
    """
    several = isinstance(pytorch_checkpoint_path, (list, tuple))
    paths = pytorch_checkpoint_path if several else [pytorch_checkpoint_path]
    checkpoint = opened_files(paths_of("pytorch_checkpoint_path", paths))
    return _filled(tf_model, checkpoint, allow_missing_keys, output_loading_info, False, tf_to_pt_weight_rename)


def load_sharded_pytorch_safetensors_in_tf2_model(
    tf_model: Any,
    safetensors_shards: Sequence[Any],
    tf_inputs: Any = None,
    allow_missing_keys: bool = False,
    output_loading_info: bool = False,
    _prefix: str | None = None,
    tf_to_pt_weight_rename: Renaming = None,
    ignore_mismatched_sizes: bool = False,
) -> Any:
    """Fill `tf_model` from all shards of a checkpoint: see `load_pytorch_checkpoint_in_tf2_model`."""
    checkpoint = opened_files(paths_of("safetensors_shards", safetensors_shards))
    return _filled(tf_model, checkpoint, allow_missing_keys, output_loading_info, ignore_mismatched_sizes,
                   tf_to_pt_weight_rename)  # fmt: skip


def load_pytorch_model_in_tf2_model(
    tf_model: Any,
    pt_model: Any,
    tf_inputs: Any = None,
    allow_missing_keys: bool = False,
    output_loading_info: bool = False,
    _prefix: str | None = None,
    tf_to_pt_weight_rename: Renaming = None,
) -> Any:
    """Fill `tf_model` from a live model of PyTorch: see `load_pytorch_checkpoint_in_tf2_model`."""
    expect(callable(getattr(pt_model, "state_dict", None)), "pt_model", "a module of PyTorch", pt_model)
    return load_pytorch_state_dict_in_tf2_model(
        tf_model, pt_model.state_dict(), None, allow_missing_keys, output_loading_info, _prefix, tf_to_pt_weight_rename
    )


def load_pytorch_state_dict_in_tf2_model(
    tf_model: Any,
    pt_state_dict: Mapping[str, Any],
    tf_inputs: Any = None,
    allow_missing_keys: bool = False,
    output_loading_info: bool = False,
    _prefix: str | None = None,
    tf_to_pt_weight_rename: Renaming = None,
    ignore_mismatched_sizes: bool = False,
    skip_logger_warnings: bool = False,
) -> Any:
    """Fill `tf_model` from names and tensors of PyTorch, or arrays: see `load_pytorch_checkpoint_in_tf2_model`."""
    expect_mapping("pt_state_dict", pt_state_dict, "names and tensors")
    refs = {name: TensorRef.of(name, _array_of(tensor)) for name, tensor in pt_state_dict.items()}
    checkpoint = Checkpoint(refs, {}, "state_dict")
    return _filled(tf_model, checkpoint, allow_missing_keys, output_loading_info, ignore_mismatched_sizes,
                   tf_to_pt_weight_rename)  # fmt: skip


load_pytorch_weights_in_tf2_model = load_pytorch_state_dict_in_tf2_model


def _filled(
    model: Any, checkpoint: Checkpoint, allow_missing: bool, output_info: bool, mismatched: bool, rename: Renaming
) -> Any:
    expect_model("tf_model", model, "tf")
    expect(rename is None or callable(rename), "tf_to_pt_weight_rename", "a function", rename)
    with model.renaming(rename):
        report = fill(model, checkpoint, _policy(model, checkpoint, allow_missing, mismatched))
    return (model, report.as_loading_info()) if output_info else model


def _policy(model: Any, checkpoint: Checkpoint, allow_missing: bool, mismatched: bool) -> Policy:
    """Return what a fill tolerates: unexpected names always, missing ones if they are allowed."""
    if allow_missing:
        refuse_shapes(model, checkpoint, mismatched)
        return Policy(False, mismatched)
    unexpected = tuple(f"^{re.escape(name)}$" for name in checkpoint)
    return Policy(True, mismatched, tuple(model._keys_to_ignore_on_load_missing or ()), unexpected)


# -- into PyTorch -----------------------------------------------------------------------------------------------------


def load_tf2_checkpoint_in_pytorch_model(
    pt_model: Any,
    tf_checkpoint_path: Any,
    tf_inputs: Any = None,
    allow_missing_keys: bool = False,
    output_loading_info: bool = False,
) -> Any:
    """Fill `pt_model`, a `PreTrainedModel` of PyTorch, from a file of TensorFlow weights (`.h5` or safetensors).

    Args:
        allow_missing_keys, output_loading_info: as `load_pytorch_checkpoint_in_tf2_model`.

    Returns:
        `pt_model`.

    Raises:
        CheckpointError: a weight is missing. ShapeMismatchError: one has another shape.
        ArgumentError: an argument is of another kind.
    """
    checkpoint = opened_files([path_of("tf_checkpoint_path", tf_checkpoint_path)])
    return _filled_pytorch(pt_model, checkpoint, allow_missing_keys, output_loading_info)


def load_tf2_model_in_pytorch_model(
    pt_model: Any, tf_model: Any, allow_missing_keys: bool = False, output_loading_info: bool = False
) -> Any:
    """Fill `pt_model` from a live model of Keras: see `load_tf2_checkpoint_in_pytorch_model`."""
    expect_model("tf_model", tf_model, "tf")
    refs = {ref.name: ref for ref in tf_model._tensor_refs()}
    checkpoint = Checkpoint(refs, {}, type(tf_model).__name__)
    return _filled_pytorch(pt_model, checkpoint, allow_missing_keys, output_loading_info)


def load_tf2_weights_in_pytorch_model(
    pt_model: Any, tf_weights: Iterable[Any], allow_missing_keys: bool = False, output_loading_info: bool = False
) -> Any:
    """Fill `pt_model` from variables of a Keras model: see `load_tf2_checkpoint_in_pytorch_model`."""
    weights = [*tf_weights] if isinstance(tf_weights, Iterable) else [tf_weights]
    for one in weights:
        expect(isinstance(one, keras.Variable), "tf_weights", "variables of a Keras model", one)
    named = {_scoped_name(variable): variable for variable in weights}
    return load_tf2_state_dict_in_pytorch_model(pt_model, named, allow_missing_keys, output_loading_info)


def load_tf2_state_dict_in_pytorch_model(
    pt_model: Any,
    tf_state_dict: Mapping[str, Any],
    allow_missing_keys: bool = False,
    output_loading_info: bool = False,
) -> Any:
    """Fill `pt_model` from names and arrays as TensorFlow has them: see `load_tf2_checkpoint_in_pytorch_model`."""
    expect_mapping("tf_state_dict", tf_state_dict, "names and arrays")
    refs = {name: TensorRef.of(name, _array_of(value)) for name, value in tf_state_dict.items()}
    checkpoint = Checkpoint(refs, {}, "state_dict", "tf")
    return _filled_pytorch(pt_model, checkpoint, allow_missing_keys, output_loading_info)


def _filled_pytorch(model: Any, checkpoint: Checkpoint, allow_missing: bool, output_info: bool) -> Any:
    """Plan the load, and let PyTorch copy the values into the tensors that the model has."""
    expect_model("pt_model", model, "pt")
    schema = model.schema
    policy = _policy(model, checkpoint, allow_missing, False)
    named = model._named(checkpoint, schema, policy)
    if not allow_missing:
        policy = _policy(model, named, allow_missing, False)
    plan = plan_load(schema, named, None, policy, checkpoint.source)
    native = importlib.import_module("triptych_pt.arrays").to_native
    model.load_state_dict({a.weight.name: native(np.array(a.read("pt"))) for a in plan.assignments}, strict=False)
    report = model.load_report = LoadReport(checkpoint.source)
    for assignment in plan.assignments:
        report.record(assignment)
    report.missing_keys = [weight.name for weight in plan.missing]
    report.unexpected_keys, report.mismatched_keys = list(plan.unexpected), list(plan.mismatched)
    return (model, report.as_loading_info()) if output_info else model


def _scoped_name(variable: Any) -> str:
    """Return the name that a variable of Keras 3 has in TensorFlow's files, in the scope of some model."""
    *levels, leaf = internals.noted_path(variable)
    return "/".join(["model", *tf_levels(".".join(levels)), leaf]) + ":0"


def _array_of(value: Any) -> np.ndarray:
    """Return a tensor of PyTorch or TensorFlow, or an array, as an array."""
    if isinstance(value, np.ndarray):
        return value
    if any(cls.__module__ == "torch" for cls in type(value).__mro__):  # it is imported then
        return np.array(importlib.import_module("triptych_pt.arrays").to_numpy(value.detach()))
    return np.array(arrays.to_numpy(tensor_of("a weight", value)))
