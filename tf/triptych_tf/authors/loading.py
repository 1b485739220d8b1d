"""Loading weights into a model that is there: the functions of transformers 4, carried out by the plans of core."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from triptych.checkpoints.opening import Checkpoint, opened_files
from triptych.checkpoints.sharding import plan_shards
from triptych.errors import ShapeMismatchError
from triptych.tensors.ref import TensorRef
from triptych.weights.plan import LoadReport, Policy, plan_load
from triptych_tf import arrays
from triptych_tf.authors.checks import expect, expect_model, expect_whole, path_of, paths_of, tensor_of

__all__ = [
    "init_copy_embeddings", "load_tf_shard", "load_tf_sharded_weights", "load_tf_sharded_weights_from_safetensors",
    "load_tf_weights", "load_tf_weights_from_h5", "load_tf_weights_from_safetensors", "strip_model_name_and_prefix",
    "tf_shard_checkpoint",
]  # fmt: skip

Loaded = tuple[list[str], list[str], list[tuple[str, tuple[int, ...], tuple[int, ...]]]]
"""Names that are missing, names that are unexpected, and (name, shape in the file, shape in the model)."""


def fill(model: Any, checkpoint: Checkpoint, policy: Policy) -> LoadReport:
    """Give the weights of a live model the values of `checkpoint`; those that it lacks keep theirs.

    Raises:
        As `from_pretrained` does of weights that do not fit; the model may be filled in part then.
    """
    schema = model.schema
    report = model.load_report = LoadReport(checkpoint.source)
    with ExitStack() as readers, model.refilling():
        named = model._named(checkpoint, schema, policy)
        model._fill(schema, named, None, policy, checkpoint.source, readers, report)
    return report


def refuse_shapes(model: Any, checkpoint: Checkpoint, ignored: bool = False) -> None:
    """Raise `ShapeMismatchError` if a weight of `checkpoint` has another shape than in `model`, unless `ignored`."""
    schema, policy = model.schema, Policy(False)
    wrong = plan_load(schema, model._named(checkpoint, schema, policy), None, policy).mismatched
    if wrong and not ignored:
        raise ShapeMismatchError(
            f"{checkpoint.source} holds weights of other shapes than the model.",
            expected=", ".join(f"{name} {shape}" for name, _, shape in wrong),
            received=", ".join(f"{name} {shape}" for name, shape, _ in wrong),
            remedy="ignore_mismatched_sizes=True leaves these weights as they are",
        )


def load_tf_weights(
    model: Any, resolved_archive_file: Any, ignore_mismatched_sizes: bool = False, _prefix: str | None = None
) -> Loaded:
    """Fill `model` from one weight file of any format and framework.

    Args:
        _prefix: has no effect: the scope of a model is in no name here.

    Returns:
        Missing, unexpected and mismatched names: see `Loaded`. What is missing keeps its value.

    Raises:
        ShapeMismatchError: a weight has another shape, unless `ignore_mismatched_sizes`. What opening a file raises.
        ArgumentError: this is no model, or no path.
    """
    return _load(model, [path_of("resolved_archive_file", resolved_archive_file)], ignore_mismatched_sizes)


load_tf_weights_from_h5 = load_tf_weights_from_safetensors = load_tf_weights


def load_tf_sharded_weights(
    model: Any,
    shard_files: Sequence[Any],
    ignore_mismatched_sizes: bool = False,
    strict: bool = False,
    _prefix: str | None = None,
) -> Loaded:
    """Fill `model` from the shards of one checkpoint, as `load_tf_weights` does.

    Raises:
        CheckpointError: `strict`, and names are missing or unexpected. What `load_tf_weights` raises.
    """
    return _load(model, paths_of("shard_files", shard_files), ignore_mismatched_sizes, strict)


load_tf_sharded_weights_from_safetensors = load_tf_sharded_weights


def load_tf_shard(
    model: Any,
    model_layer_map: Any,
    resolved_archive_file: Any,
    ignore_mismatched_sizes: bool = False,
    _prefix: str | None = None,
) -> tuple[set[str], set[str], set[tuple[str, tuple[int, ...], tuple[int, ...]]]]:
    """Fill `model` from one shard, and return the names that it held, the unexpected and the mismatched ones.

    Args:
        model_layer_map: has no effect: the model knows where its weights are.
    """
    _, unexpected, mismatched = _load(
        model, [path_of("resolved_archive_file", resolved_archive_file)], ignore_mismatched_sizes
    )
    return set(model.load_report.assigned), set(unexpected), set(mismatched)


def _load(model: Any, files: Sequence[Path], ignore_mismatched_sizes: bool, strict: bool = False) -> Loaded:
    expect_model("model", model, "tf")
    checkpoint = opened_files(files)
    refuse_shapes(model, checkpoint, ignore_mismatched_sizes)
    report = fill(model, checkpoint, Policy(strict, ignore_mismatched_sizes))
    return report.missing_keys, report.unexpected_keys, report.mismatched_keys


def strip_model_name_and_prefix(name: str, _prefix: str | None = None) -> str:
    """Return the name of a TensorFlow variable without `_prefix`, and without the scope of its model.

    Raises:
        ArgumentError: `name` is no text.
    """
    expect(isinstance(name, str), "name", "the name of a variable", name)
    if _prefix is not None:
        name = name.removeprefix(_prefix).lstrip("/")
    return name if "model." in name or "/" not in name else name.partition("/")[2]


def tf_shard_checkpoint(
    weights: Iterable[Any], max_shard_size: int | str = "10GB", weights_name: str = "tf_model.h5"
) -> tuple[dict[str, list[Any]], dict[str, Any] | None]:
    """Return file name -> the variables that fit into it, in order, and the index; None for one file.

    Raises:
        ArgumentError: `max_shard_size` is no size; `weights` are no variables.
    """
    expect(isinstance(weights, Iterable), "weights", "variables", weights)
    every, refs = [*weights], []
    for weight in every:
        expect(hasattr(weight, "name"), "weights", "variables", weight)
        refs.append(TensorRef.of(weight.name, arrays.to_numpy(tensor_of("weights", weight))))
    planned, rest = plan_shards(refs, max_shard_size), iter(every)
    groups = [list(islice(rest, len(shard.tensors))) for shard in planned]
    if len(groups) == 1:
        return {weights_name: groups[0]}, None
    stem, suffix = os.path.splitext(weights_name)
    names = [f"{stem}-{number:05d}-of-{len(groups):05d}{suffix}" for number in range(1, len(groups) + 1)]
    shards = dict(zip(names, groups, strict=True))
    weight_map = {weight.name: name for name, group in shards.items() for weight in group}
    return shards, {"metadata": {"total_size": sum(ref.nbytes for ref in refs)}, "weight_map": weight_map}


def init_copy_embeddings(old_embeddings: Any, new_num_tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows of an embedding of `new_num_tokens` rows are old ones, [rows, 1] or [rows] for a vector, and
    the old values, filled up with -1 where it grows and cut where it shrinks.

    Raises:
        ArgumentError: there are no rows, or the new number is none.
    """
    old = np.array(arrays.to_numpy(tensor_of("old_embeddings", old_embeddings)))
    expect(old.ndim > 0, "old_embeddings", "a matrix or a vector", old)
    expect_whole("new_num_tokens", new_num_tokens, 0)
    kept = min(len(old), new_num_tokens)
    values = np.full((new_num_tokens, *old.shape[1:]), -1, old.dtype)
    values[:kept] = old[:kept]
    mask = np.arange(new_num_tokens) < kept
    return mask.reshape(-1, *[1] * (old.ndim - 1)), values
