"""What transformers 4 had beside its base class of Flax, for code that imports it.

The conversions go the way of a load: canonical names of a schema, and `triptych.weights.plan` for what fills them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from triptych.checkpoints.legacy import FLAX_PARAMETERS
from triptych.checkpoints.naming import canonical
from triptych.checkpoints.opening import Checkpoint, opened_files
from triptych.checkpoints.saving import parse_size
from triptych.errors import ArgumentError, ShapeMismatchError
from triptych.formats.kinds import MSGPACK
from triptych.tensors.arrays import permuted
from triptych.tensors.ref import TensorRef
from triptych.weights import layouts
from triptych.weights.plan import matched
from triptych.weights.schema import Layout
from triptych_flax import arrays, layers

__all__ = [
    "ACT2FN",
    "append_call_sample_docstring",
    "append_replace_return_docstrings",
    "convert_pytorch_sharded_state_dict_to_flax",
    "convert_pytorch_state_dict_to_flax",
    "flax_shard_checkpoint",
    "load_flax_checkpoint_in_pytorch_model",
    "load_flax_weights_in_pytorch_model",
    "load_pytorch_checkpoint_in_flax_state_dict",
    "overwrite_call_docstring",
    "rename_key_and_reshape_tensor",
]
logger = logging.getLogger("triptych")


def _quick_gelu(x: Any) -> Any:
    return x * jax.nn.sigmoid(1.702 * x)


ACT2FN = {
    "gelu": partial(jax.nn.gelu, approximate=False),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "gelu_new": partial(jax.nn.gelu, approximate=True),
    "quick_gelu": _quick_gelu,
    "gelu_pytorch_tanh": partial(jax.nn.gelu, approximate=True),
    "tanh": jnp.tanh,
}
"""Activations by the names that configs have for them."""


def flax_shard_checkpoint(
    params: Mapping[str, Any], max_shard_size: int | str = "10GB"
) -> tuple[dict[str, dict[str, Any]], dict[str, Any] | None]:
    """Return the contents of each file of a checkpoint, and of its index; None where one file is enough.

    Names of weights are paths joined with "/". A weight that is larger than `max_shard_size`, in bytes or text such as
    "10GB", has a file of its own.

    Raises:
        ArgumentError: `params` is no tree of arrays, or `max_shard_size` no size.
    """
    limit, shards, used, total = parse_size(max_shard_size), [{}], 0, 0  # type: ignore[var-annotated]
    for path, leaf in layers.flat(layers.of_arrays(params)).items():
        if shards[-1] and used + leaf.nbytes > limit:
            shards.append({})
            used = 0
        shards[-1]["/".join(path)] = leaf
        used, total = used + leaf.nbytes, total + leaf.nbytes
    if len(shards) == 1:
        return {MSGPACK.single: shards[0]}, None
    names = [f"{MSGPACK.stem}-{n:05d}-of-{len(shards):05d}{MSGPACK.suffix}" for n in range(1, len(shards) + 1)]
    weight_map = {name: file for file, shard in zip(names, shards, strict=True) for name in shard}
    return dict(zip(names, shards, strict=True)), {"metadata": {"total_size": total}, "weight_map": weight_map}


def overwrite_call_docstring(model_class: Any, docstring: str) -> None:
    """Give the class a `__call__` of its own with this docstring."""
    _own_call(model_class).__doc__ = docstring


def append_call_sample_docstring(model_class: Any, *args: Any, **kwargs: Any) -> None:
    """Give the class a `__call__` of its own; no sample is added to its docstring."""
    _own_call(model_class)


def append_replace_return_docstrings(model_class: Any, output_type: Any, config_class: Any) -> None:
    """Give the class a `__call__` of its own; its docstring stays as it is."""
    _own_call(model_class)


def _own_call(model_class: Any) -> Any:
    old = model_class.__call__
    new = FunctionType(old.__code__, old.__globals__, old.__name__, old.__defaults__, old.__closure__)
    new.__kwdefaults__ = old.__kwdefaults__
    new.__dict__.update(old.__dict__)
    new.__doc__, new.__qualname__, new.__module__ = old.__doc__, old.__qualname__, old.__module__
    model_class.__call__ = new
    return new


def paths_of(files: Any) -> list[Path]:
    """Return the paths of several files; raise `ArgumentError` for anything else."""
    if isinstance(files, (str, bytes)) or not isinstance(files, Iterable):
        raise ArgumentError("These are no files.", expected="a list of paths", received=repr(files)[:80])
    listed = list(files)
    if strange := [file for file in listed if not isinstance(file, (str, os.PathLike))]:
        raise ArgumentError("A file has no path.", expected="the path of a weight file", received=repr(strange[0])[:80])
    return [Path(file) for file in listed]


# -- PyTorch to Flax ------------------------------------------------------------------------------------------------


def load_pytorch_checkpoint_in_flax_state_dict(
    flax_model: Any, pytorch_checkpoint_path: Any, is_sharded: bool, allow_missing_keys: bool = False
) -> dict[str, Any]:
    """Return the tree that a file of PyTorch's, or with `is_sharded` a list of them, holds for `flax_model`.

    See `convert_pytorch_state_dict_to_flax`; what the files lack is not in the tree, whatever `allow_missing_keys`.
    """
    files = pytorch_checkpoint_path if is_sharded else [pytorch_checkpoint_path]
    return convert_pytorch_sharded_state_dict_to_flax(files, flax_model)


def convert_pytorch_sharded_state_dict_to_flax(
    shard_filenames: Iterable[str | os.PathLike[str]], flax_model: Any
) -> dict[str, Any]:
    """Return the tree that files of PyTorch's, bin or safetensors, hold together for `flax_model`.

    Raises:
        ArgumentError: these are no paths. What `opened_files` raises.
    """
    return _tree_of(opened_files(paths_of(shard_filenames)), flax_model)


def convert_pytorch_state_dict_to_flax(pt_state_dict: Mapping[str, Any], flax_model: Any) -> dict[str, Any]:
    """Return the tree that canonical names to arrays, of torch, numpy or JAX, are for `flax_model`; dtypes stay.

    The tree is like `flax_model.params`, without what is lacking. A name that the model does not know is there as it
    is, with its parts for a path, to be found unexpected.

    Raises:
        ShapeMismatchError: an array has another shape than the model's. ArgumentError: this maps no names to arrays.
    """
    return _tree_of(_refs(pt_state_dict), flax_model)


def _tree_of(refs: Mapping[str, TensorRef], flax_model: Any) -> dict[str, Any]:
    schema = flax_model.schema
    present, rest = matched(schema, refs)
    _refuse_other_shapes({name: (ref.shape, schema[name].shape) for name, ref in present.items()})
    tree = {}
    for name, ref in present.items():
        order = layouts.to_native(schema[name].layout, len(ref.shape), "flax")
        tree[flax_model._path(schema[name])] = arrays.to_native(permuted(ref.read(), order))
    top = (FLAX_PARAMETERS,) if layers.has_collections(flax_model.params_shape_tree) else ()
    unknown = [name for name in rest if not name.endswith("num_batches_tracked")]
    tree |= {(*top, *name.split(".")): arrays.to_native(refs[name].read()) for name in unknown}
    return unflatten_dict(tree)


def _refuse_other_shapes(shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
    wrong = {name: pair for name, pair in shapes.items() if pair[0] != pair[1]}
    if wrong:
        raise ShapeMismatchError(
            "Weights have other shapes than the model's.",
            expected=", ".join(f"{name} {model}" for name, (_, model) in wrong.items()),
            received=", ".join(f"{name} {stored}" for name, (stored, _) in wrong.items()),
            remedy="make the config fit",
        )


def rename_key_and_reshape_tensor(
    pt_tuple_key: Sequence[str],
    pt_tensor: Any,
    random_flax_state_dict: Mapping[Sequence[str], Any],
    model_prefix: str,
) -> tuple[tuple[str, ...], Any]:
    """Return the path and the array that one tensor of PyTorch has in Flax, found by the paths of a flat tree.

    Args:
        random_flax_state_dict: path to anything; the paths may or may not start with `model_prefix`.
    """
    *scopes, leaf = pt_tuple_key

    def named(name: str) -> tuple[str, ...]:
        return (*scopes, name)

    def known(path: tuple[str, ...]) -> bool:
        return path in random_flax_state_dict or (model_prefix, *path) in random_flax_state_dict

    if scopes[-2:-1] == ["parametrizations"] and leaf in _WEIGHT_NORM:
        return (*scopes[:-2], scopes[-1] + _WEIGHT_NORM[leaf]), pt_tensor
    for name in _SAME_ORDER.get(leaf, ()):
        if known(named(name)):
            return named(name), pt_tensor
    if known(tuple(pt_tuple_key)):
        return tuple(pt_tuple_key), pt_tensor
    if leaf == "weight":
        layout = Layout.LINEAR if pt_tensor.ndim == 2 else Layout.CONV if pt_tensor.ndim > 2 else Layout.PARAMETER
        order = layouts.to_native(layout, pt_tensor.ndim, "flax")
        return named("kernel"), pt_tensor if order is None else pt_tensor.transpose(order)
    return named(_OLD_LEAVES.get(leaf, leaf)), pt_tensor


_SAME_ORDER = {
    "weight": ("scale", "embedding"),
    "gamma": ("scale",),
    "running_mean": ("mean",),
    "running_var": ("var",),
}
"""Leaf of PyTorch -> those of Flax that hold the same array, if the tree has one."""
_OLD_LEAVES = {"gamma": "weight", "beta": "bias", "running_mean": "mean", "running_var": "var"}
_WEIGHT_NORM = {"original0": "_g", "original1": "_v"}


# -- Flax to PyTorch ------------------------------------------------------------------------------------------------


def load_flax_checkpoint_in_pytorch_model(model: Any, flax_checkpoint_path: str | os.PathLike[str]) -> Any:
    """Give a model of PyTorch the weights of a file of Flax, msgpack or safetensors; return it.

    See `load_flax_weights_in_pytorch_model`.
    """
    return _fill(model, opened_files(paths_of([flax_checkpoint_path])))


def load_flax_weights_in_pytorch_model(pt_model: Any, flax_state: Mapping[str, Any]) -> Any:
    """Give a model of PyTorch the weights of a tree of Flax; return it. What is lacking or left over is logged.

    Raises:
        ShapeMismatchError: an array has another shape than the model's, of which nothing has changed then.
        ArgumentError: `flax_state` is no tree.
    """
    return _fill(pt_model, _refs({"/".join(path): leaf for path, leaf in layers.flat(flax_state).items()}))


def _fill(model: Any, refs: Mapping[str, TensorRef]) -> Any:
    from triptych_pt import arrays as torch_arrays  # a model of PyTorch is here, so the backend is

    schema = model.schema
    held = canonical(Checkpoint(refs, {}, "flax_state", "flax"), schema)
    present, rest = matched(schema, held)
    _refuse_other_shapes({name: (ref.shape, schema[name].shape) for name, ref in present.items()})
    state = {name: torch_arrays.to_native(np.array(ref.read())) for name, ref in present.items()}
    model.load_state_dict(state, strict=False)
    name = type(model).__name__
    if missing := [weight.name for weight in schema.stored() if weight.name not in present]:
        logger.warning("%s: %d weights are not in the Flax tree: %s", name, len(missing), ", ".join(missing))
    if rest:
        logger.warning("%s: %d weights of the Flax tree are not used: %s", name, len(rest), ", ".join(rest))
    return model


def _refs(arrays_by_name: Any) -> dict[str, TensorRef]:
    if not isinstance(arrays_by_name, Mapping):
        raise ArgumentError("This is no state.", expected="names to arrays", received=type(arrays_by_name).__name__)
    return {name: TensorRef.of(name, _as_numpy(value)) for name, value in arrays_by_name.items()}


def _as_numpy(value: Any) -> np.ndarray:
    if type(value).__module__.partition(".")[0] == "torch":
        from triptych_pt import arrays as torch_arrays

        return torch_arrays.to_numpy(value.detach().cpu())
    return value if isinstance(value, np.ndarray) else arrays.to_numpy(value)
