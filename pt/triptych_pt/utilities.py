"""What transformers 4 had beside its base class of PyTorch, for code that imports it."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from triptych.checkpoints.resolve import read_index
from triptych.errors import ArgumentError, IncompatibleWeightsError, MissingFileError
from triptych.formats.kinds import BIN, SAFETENSORS
from triptych.formats.opening import open_file
from triptych.nn import rotary
from triptych_pt import arrays
from triptych_pt.authors.masks import AttentionMaskConverter as AttentionMaskConverter
from triptych_pt.authors.masks import create_4d_causal_attention_mask as create_4d_causal_attention_mask
from triptych_pt.authors.masks import prepare_4d_attention_mask as prepare_4d_attention_mask
from triptych_pt.authors.masks import prepare_4d_attention_mask_for_sdpa as prepare_4d_attention_mask_for_sdpa
from triptych_pt.authors.masks import prepare_4d_causal_attention_mask as prepare_4d_causal_attention_mask
from triptych_pt.authors.masks import (
    prepare_4d_causal_attention_mask_for_sdpa as prepare_4d_causal_attention_mask_for_sdpa,
)
from triptych_pt.authors.pooling import PoolerAnswerClass as PoolerAnswerClass
from triptych_pt.authors.pooling import PoolerEndLogits as PoolerEndLogits
from triptych_pt.authors.pooling import PoolerStartLogits as PoolerStartLogits
from triptych_pt.authors.pooling import SequenceSummary as SequenceSummary
from triptych_pt.authors.pooling import SQuADHead as SQuADHead
from triptych_pt.authors.pooling import SquadHeadOutput as SquadHeadOutput
from triptych_pt.internals import without_fills, wrapped
from triptych_pt.make import Conv1D as Conv1D
from triptych_pt.make import RMSNorm

ALL_LAYERNORM_LAYERS: list[type[nn.Module]] = [nn.LayerNorm, RMSNorm]
"""Norms whose weights training does not decay; classes of others are appended."""

parsed_torch_version_base = tuple(int(part) for part in torch.__version__.partition("+")[0].split(".")[:2])
for _minor in ("1.9", "1.10", "1.12", "1.13", "2.0", "2.1", "2.2", "2.3", "2.4", "2.6"):
    globals()[f"is_torch_greater_or_equal_than_{_minor.replace('.', '_')}"] = True  # triptych needs 2.6


# -- pruning ----------------------------------------------------------------------------------------------------


def find_pruneable_heads_and_indices(
    heads: Iterable[int], n_heads: int, head_size: int, already_pruned_heads: set[int]
) -> tuple[set[int], torch.Tensor]:
    """Return those of `heads` that are not pruned yet, and which of a layer's `n_heads * head_size` rows stay.

    Heads are numbered as they were before any was pruned.
    """
    new = set(heads) - already_pruned_heads
    keep = torch.ones(n_heads, head_size, dtype=torch.bool)
    for head in new:
        keep[head - sum(1 for gone in already_pruned_heads if gone < head)] = False
    return new, keep.flatten().nonzero().squeeze(-1)


def prune_linear_layer(layer: nn.Linear, index: torch.Tensor, dim: int = 0) -> nn.Linear:
    """Return a layer with the outputs (`dim` 0) or inputs (`dim` 1) `index` alone, of the same dtype and device."""
    weight = layer.weight.index_select(dim, index.to(layer.weight.device)).detach()
    bias = layer.bias if layer.bias is None or dim == 1 else layer.bias[index.to(layer.bias.device)]
    made = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    return _filled(made, weight, bias)


def prune_conv1d_layer(layer: Conv1D, index: torch.Tensor, dim: int = 1) -> Conv1D:
    """Return a layer with the inputs (`dim` 0) or outputs (`dim` 1) `index` alone, of the same dtype and device."""
    weight = layer.weight.index_select(dim, index.to(layer.weight.device)).detach()
    bias = layer.bias if dim == 0 else layer.bias[index.to(layer.bias.device)]
    return _filled(Conv1D(weight.shape[1], weight.shape[0]), weight, bias)


def prune_layer(layer: Any, index: torch.Tensor, dim: int | None = None) -> Any:
    """Return a linear layer or a `Conv1D` with the units `index` alone; `dim` is that of the outputs by default.

    Raises:
        ArgumentError: another kind of layer.
    """
    if isinstance(layer, nn.Linear):
        return prune_linear_layer(layer, index, 0 if dim is None else dim)
    if isinstance(layer, Conv1D):
        return prune_conv1d_layer(layer, index, 1 if dim is None else dim)
    raise ArgumentError("Layers of this kind are not pruned.", expected="Linear or Conv1D", received=str(type(layer)))


def _filled(layer: Any, weight: torch.Tensor, bias: torch.Tensor | None) -> Any:
    layer.weight = nn.Parameter(weight.contiguous())
    layer.bias = None if bias is None else nn.Parameter(bias.detach().clone().contiguous())
    return layer


# -- tensors ----------------------------------------------------------------------------------------------------


def apply_chunking_to_forward(
    forward_fn: Callable[..., torch.Tensor], chunk_size: int, chunk_dim: int, *input_tensors: torch.Tensor
) -> torch.Tensor:
    """Return `forward_fn(*input_tensors)`, computed for `chunk_size` places of `chunk_dim` at a time; 0: for all.

    Raises:
        ArgumentError: no tensors, other tensors than the function takes, tensors of several sizes, or a size that the
            chunks do not divide.
    """
    takes = len(inspect.signature(forward_fn).parameters)
    if not input_tensors or takes != len(input_tensors):
        raise ArgumentError(
            "The tensors are not those that the function takes.", expected=f"{takes}", received=str(len(input_tensors))
        )
    if chunk_size <= 0:
        return forward_fn(*input_tensors)
    sizes = {tensor.shape[chunk_dim] for tensor in input_tensors}
    if len(sizes) > 1 or next(iter(sizes)) % chunk_size:
        raise ArgumentError(
            "The tensors cannot be cut into chunks.", expected=f"one size, a multiple of {chunk_size}",
            received=", ".join(map(str, sorted(sizes))),
        )  # fmt: skip
    pieces = [tensor.split(chunk_size, dim=chunk_dim) for tensor in input_tensors]
    return torch.cat([forward_fn(*chunk) for chunk in zip(*pieces, strict=True)], dim=chunk_dim)


def softmax_backward_data(
    parent: Any, grad_output: torch.Tensor, output: torch.Tensor, dim: int, self: torch.Tensor
) -> torch.Tensor:
    """Return the gradient of a softmax over `parent.dim`, whose result was `output`, in the dtype of its input."""
    weighted = grad_output * output
    return (weighted - output * weighted.sum(parent.dim, keepdim=True)).to(self.dtype)


def meshgrid(*tensors: Any, indexing: str | None = None) -> tuple[torch.Tensor, ...]:
    """As `torch.meshgrid`, "ij" by default."""
    return torch.meshgrid(*tensors, indexing=indexing or "ij")


def isin_mps_friendly(elements: torch.Tensor, test_elements: Any) -> torch.Tensor:
    """Return which of `elements` are among `test_elements`."""
    return torch.isin(elements, torch.as_tensor(test_elements, device=elements.device))


def id_tensor_storage(tensor: torch.Tensor) -> tuple[torch.device, int, int]:
    """Return what tells one storage from another: device, address, bytes."""
    storage = tensor.untyped_storage()
    return tensor.device, storage.data_ptr(), storage.nbytes()


def torch_int(x: Any) -> Any:
    """Return `x` as an integer; a tensor stays one while `torch.jit` traces."""
    return x.to(torch.int64) if torch.jit.is_tracing() and isinstance(x, torch.Tensor) else int(x)


def torch_float(x: Any) -> Any:
    """Return `x` as a float; a tensor stays one while `torch.jit` traces."""
    return x.to(torch.float32) if torch.jit.is_tracing() and isinstance(x, torch.Tensor) else float(x)


def compile_compatible_method_lru_cache(*lru_args: Any, **lru_kwargs: Any) -> Callable[..., Any]:
    """As `functools.lru_cache`, for a method: each object has its own, which goes with it; none while compiling."""

    def decorate(method: Callable[..., Any]) -> Callable[..., Any]:
        name = f"_cached_{method.__name__}"

        @functools.wraps(method)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            if torch.compiler.is_compiling():
                return method(self, *args, **kwargs)
            if name not in self.__dict__:
                self.__dict__[name] = functools.lru_cache(*lru_args, **lru_kwargs)(functools.partial(method, self))
            return self.__dict__[name](*args, **kwargs)

        return call

    return decorate


# -- dtypes and devices -----------------------------------------------------------------------------------------


def get_parameter_device(parameter: nn.Module) -> torch.device:
    """Return the device of a module's first parameter, else of its first buffer, else the default device."""
    first = next(iter([*parameter.parameters(), *parameter.buffers()]), None)
    return torch.get_default_device() if first is None else first.device


def get_first_parameter_dtype(parameter: nn.Module) -> torch.dtype:
    """Return the dtype of a module's first parameter, else of its first buffer, else the default dtype."""
    first = next(iter([*parameter.parameters(), *parameter.buffers()]), None)
    return torch.get_default_dtype() if first is None else first.dtype


def get_parameter_dtype(parameter: nn.Module) -> torch.dtype:
    """Return the dtype of a module: of its first floating parameter, else of its first floating buffer, else of its
    last parameter or buffer, else the default dtype."""
    every = [tensor.dtype for tensor in (*parameter.parameters(), *parameter.buffers())]
    floating = (dtype for dtype in every if dtype.is_floating_point)
    return next(floating, every[-1] if every else torch.get_default_dtype())


def get_state_dict_dtype(state_dict: Mapping[str, torch.Tensor]) -> torch.dtype:
    """Return the dtype of the first floating tensor, else of the first tensor."""
    floating = (tensor.dtype for tensor in state_dict.values() if tensor.is_floating_point())
    return next(floating, next(iter(state_dict.values())).dtype)


def get_state_dict_float_dtype(state_dict: Mapping[str, torch.Tensor]) -> torch.dtype:
    """Return the dtype of the first floating tensor.

    Raises:
        ArgumentError: there is none.
    """
    found = get_state_dict_dtype(state_dict)
    if not found.is_floating_point:
        raise ArgumentError("There is no floating tensor.")
    return found


def dtype_byte_size(dtype: torch.dtype) -> float:
    """Return the bytes of one element; of a truth value 1/8, as it is one bit."""
    return 1 / 8 if dtype is torch.bool else dtype.itemsize


def is_accelerator_device(device: str | int | torch.device) -> bool:
    """Return whether a device is neither the CPU nor a place without values."""
    return device != "disk" and torch.device(device).type not in ("cpu", "meta")


def infer_device() -> str:
    """Return the kind of device that PyTorch computes on here."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return "cpu" if found is None else found.type


def restore_default_dtype(func: Callable[..., Any]) -> Callable[..., Any]:
    """Let the default dtype after `func` be what it was before."""

    @functools.wraps(func)
    def call(*args: Any, **kwargs: Any) -> Any:
        before = torch.get_default_dtype()
        try:
            return func(*args, **kwargs)
        finally:
            torch.set_default_dtype(before)

    return call


@contextmanager
def no_init_weights(_enable: bool = True) -> Iterator[None]:
    """Leave new parameters without the values that PyTorch and `_init_weights` would fill in, in this thread."""
    if not _enable:
        yield
    else:
        with without_fills():
            yield


# -- modules and files ------------------------------------------------------------------------------------------


def unwrap_model(model: nn.Module, recursive: bool = False) -> nn.Module:
    """Return the model within wrappers for parallel training (`module`), and compiled ones (`_orig_mod`).

    With `recursive`, modules within it that are wrapped are put in the place of their wrappers, too.
    """
    while isinstance(inner := wrapped(model), nn.Module):
        model = inner
    if recursive:
        for name, child in list(model.named_children()):
            if (inner := unwrap_model(child, recursive)) is not child:
                setattr(model, name, inner)
    return model


def set_initialized_submodules(model: nn.Module, state_dict_keys: Iterable[str]) -> dict[str, nn.Module]:
    """Mark each module all of whose weights are among the names as initialised, and return the others."""
    names, others = set(state_dict_keys), {}
    for name, module in model.named_modules():
        held = {f"{name}.{key}" if name else key for key in module.state_dict()}
        if held <= names:
            module._is_hf_initialized = True  # type: ignore[assignment]
        else:
            others[name] = module
    return others


def expand_device_map(device_map: Mapping[str, Any], param_names: Iterable[str]) -> dict[str, Any]:
    """Return the device of every parameter that lies in, or is, one of the modules of `device_map`."""
    names = list(param_names)
    return {
        name: device
        for module, device in device_map.items()
        for name in names
        if name == module or name.startswith(f"{module}." if module else "")
    }


def get_disk_only_shard_files(
    device_map: Mapping[str, Any], weight_map: Mapping[str, Any], start_prefix: str = ""
) -> list[str]:
    """Return the shards all of whose weights are kept on the disk.

    `weight_map` is weight -> shard, or what `get_checkpoint_shard_files` says of an index.
    """
    places: dict[str, set[Any]] = {}
    for name, shard in weight_map.get("weight_map", weight_map).items():
        module = name.removeprefix(start_prefix)
        while module and module not in device_map:
            module = module.rpartition(".")[0]
        places.setdefault(shard, set()).add(device_map.get(module))
    return [shard for shard, devices in places.items() if devices == {"disk"}]


def load_state_dict(
    checkpoint_file: str | Path, is_quantized: bool = False, map_location: Any = "cpu", weights_only: bool = True
) -> dict[str, torch.Tensor]:
    """Return the tensors of one weight file, of any format, under the names that it has for them.

    Nothing is unpickled but tensors, whatever `weights_only` says.

    Args:
        map_location: a device; "meta" reads headers alone.

    Raises:
        MissingFileError: there is no such file. CorruptCheckpointError, UnsafeCheckpointError: of the file.
    """
    path = Path(checkpoint_file)
    if not path.is_file():
        raise MissingFileError(f"There is no file {path}.")
    tensors = open_file(path).tensors
    if map_location == "meta":
        return {
            name: torch.empty(ref.shape, dtype=arrays.native_dtype(ref.dtype), device="meta")
            for name, ref in tensors.items()
        }
    place = torch.device("cpu" if map_location is None else map_location)
    return {name: arrays.to_native(_own(ref.read())).to(place) for name, ref in tensors.items()}


load_shard_file = load_state_dict


def _own(array: np.ndarray) -> np.ndarray:
    """Return an array that may be written to: not the mapped file."""
    return array if array.flags.writeable else array.copy()


def load_sharded_checkpoint(model: nn.Module, folder: str | Path, strict: bool = True, prefer_safe: bool = True) -> Any:
    """Load the shards that the index in a folder names into a module of any kind, one after the other.

    Args:
        strict: refuse weights that the model has and the index does not, and the other way round. A weight that the
            model shares with one that is there is not missing.
        prefer_safe: take safetensors if there are shards of both formats.

    Returns:
        What `torch.nn.Module.load_state_dict` does: `missing_keys` and `unexpected_keys`.

    Raises:
        MissingFileError: the folder has no index. IncompatibleWeightsError, a RuntimeError: with `strict`, as said
        above, before anything is loaded. RuntimeError: a shape differs.
    """
    index = _index_in(Path(folder), prefer_safe)
    weight_map = read_index(index)[0]
    shared: dict[int, set[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        shared.setdefault(id(parameter), set()).add(name)
    held = set(weight_map)
    filled = held.union(*(names for names in shared.values() if names & held))
    expected = model.state_dict().keys()
    missing = [name for name in expected if name not in filled]
    unexpected = [name for name in weight_map if name not in expected]
    if strict and (missing or unexpected):
        lists = {"missing": missing, "unexpected": unexpected}
        received = "; ".join(f"{kind} {', '.join(names)}" for kind, names in lists.items() if names)
        raise IncompatibleWeightsError(
            f"{index} is not of a {type(model).__name__}.", expected="the weights of the model, and no others",
            received=received, remedy="pass strict=False to load what fits",
        )  # fmt: skip
    for shard in sorted(set(weight_map.values())):
        result = model.load_state_dict(load_state_dict(index.parent / shard), strict=False)
    return type(result)(missing, unexpected)


def _index_in(folder: Path, prefer_safe: bool) -> Path:
    order = (SAFETENSORS, BIN) if prefer_safe else (BIN, SAFETENSORS)
    found = [folder / format.index for format in order if (folder / format.index).is_file()]
    if not found:
        expected = " or ".join(format.index for format in order)
        raise MissingFileError(f"{folder} has no sharded checkpoint.", expected=expected)
    return found[0]


# -- rotary positions -------------------------------------------------------------------------------------------


def _rotary(kind: str) -> Callable[..., tuple[torch.Tensor, float]]:
    def frequencies(
        config: Any, device: Any = None, seq_len: int | None = None, **kwargs: Any
    ) -> tuple[torch.Tensor, float]:
        """Return the angle per position of each pair of dimensions, and the factor of cosines and sines, 1."""
        inverse = rotary.frequencies(_Rotated(config, kind), seq_len)
        return torch.from_numpy(inverse).to(device), 1.0

    return frequencies


class _Rotated:
    """What `triptych.nn.rotary` reads, of a config of any kind."""

    def __init__(self, config: Any, kind: str) -> None:
        scaling = dict(getattr(config, "rope_scaling", None) or {})
        self.rope_theta = getattr(config, "rope_theta", 10000.0)
        self.rope_scaling = {**scaling, "rope_type": kind}
        self.max_position_embeddings = getattr(config, "max_position_embeddings", None)
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.head_dim = int(math.floor(width * getattr(config, "partial_rotary_factor", 1.0)))


ROPE_INIT_FUNCTIONS = {kind: _rotary(kind) for kind in ("default", "linear", "dynamic", "llama3")}
"""Kind of scaling -> a function from a config to the frequencies."""
