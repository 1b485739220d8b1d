"""What transformers 4 had beside its base class of PyTorch, for code that imports it."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from triptych.errors import ArgumentError, ConfigError
from triptych.nn import rotary
from triptych_pt.authors.loading import expand_device_map as expand_device_map
from triptych_pt.authors.loading import get_disk_only_shard_files as get_disk_only_shard_files
from triptych_pt.authors.loading import load_shard_file as load_shard_file
from triptych_pt.authors.loading import load_sharded_checkpoint as load_sharded_checkpoint
from triptych_pt.authors.loading import load_state_dict as load_state_dict
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
from triptych_pt.authors.pruning import find_pruneable_heads_and_indices as find_pruneable_heads_and_indices
from triptych_pt.authors.pruning import prune_conv1d_layer as prune_conv1d_layer
from triptych_pt.authors.pruning import prune_layer as prune_layer
from triptych_pt.authors.pruning import prune_linear_layer as prune_linear_layer
from triptych_pt.internals import all_tensors, without_fills, wrapped
from triptych_pt.make import Conv1D as Conv1D
from triptych_pt.make import RMSNorm

ALL_LAYERNORM_LAYERS: list[type[nn.Module]] = [nn.LayerNorm, RMSNorm]
"""Norms whose weights training does not decay; classes of others are appended."""

parsed_torch_version_base = tuple(int(part) for part in torch.__version__.partition("+")[0].split(".")[:2])
for _minor in ("1.9", "1.10", "1.12", "1.13", "2.0", "2.1", "2.2", "2.3", "2.4", "2.6"):
    globals()[f"is_torch_greater_or_equal_than_{_minor.replace('.', '_')}"] = True  # triptych needs 2.6


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
    first = next(iter(all_tensors(parameter)), None)
    return torch.get_default_device() if first is None else first.device


def get_first_parameter_dtype(parameter: nn.Module) -> torch.dtype:
    """Return the dtype of a module's first parameter, else of its first buffer, else the default dtype."""
    first = next(iter(all_tensors(parameter)), None)
    return torch.get_default_dtype() if first is None else first.dtype


def get_parameter_dtype(parameter: nn.Module) -> torch.dtype:
    """Return the dtype of a module: of its first floating parameter, else of its first floating buffer, else of its
    last parameter or buffer, else the default dtype."""
    every = [tensor.dtype for tensor in all_tensors(parameter)]
    floating = (dtype for dtype in every if dtype.is_floating_point)
    return next(floating, every[-1] if every else torch.get_default_dtype())


def get_state_dict_dtype(state_dict: Mapping[str, torch.Tensor]) -> torch.dtype:
    """Return the dtype of the first floating tensor, else of the first tensor.

    Raises:
        ArgumentError: there is no tensor.
    """
    every = [tensor.dtype for tensor in state_dict.values()]
    if not every:
        raise ArgumentError("There is no tensor, so no dtype.")
    return next((dtype for dtype in every if dtype.is_floating_point), every[0])


def get_state_dict_float_dtype(state_dict: Mapping[str, torch.Tensor]) -> torch.dtype:
    """Return the dtype of the first floating tensor.

    Raises:
        ArgumentError: there is none.
    """
    found = get_state_dict_dtype(state_dict)
    if not found.is_floating_point:
        raise ArgumentError("There is no floating tensor.")
    return found


def dtype_byte_size(dtype: torch.dtype | str) -> float:
    """Return the bytes of one element; of a truth value 1/8, as it is one bit.

    Raises:
        ArgumentError: there is no such dtype.
    """
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype):
        raise ArgumentError("This is no dtype of PyTorch.", expected="such as torch.float32", received=repr(dtype))
    return 1 / 8 if found is torch.bool else found.itemsize


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


# -- modules ----------------------------------------------------------------------------------------------------


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


# -- rotary positions -------------------------------------------------------------------------------------------


def _rotary(kind: str) -> Callable[..., tuple[torch.Tensor, float]]:
    def frequencies(
        config: Any, device: Any = None, seq_len: int | None = None, **kwargs: Any
    ) -> tuple[torch.Tensor, float]:
        """Return the angle per position of each pair of dimensions, and the factor of cosines and sines, 1.

        Raises:
            ConfigError: fields of the config are missing or impossible.
        """
        inverse = rotary.frequencies(_Rotated(config, kind), seq_len)
        return torch.from_numpy(inverse).to(device), 1.0

    return frequencies


class _Rotated:
    """What `triptych.nn.rotary` reads, of a config of any kind."""

    def __init__(self, config: Any, kind: str) -> None:
        self.rope_theta = getattr(config, "rope_theta", 10000.0)
        scaling = rotary.parse_rope(self.rope_theta, getattr(config, "rope_scaling", None), None)[1]
        self.rope_scaling = {**(scaling or {}), "rope_type": kind}
        self.max_position_embeddings = getattr(config, "max_position_embeddings", None)
        try:
            width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
            self.head_dim = int(math.floor(width * getattr(config, "partial_rotary_factor", 1.0)))
        except (AttributeError, TypeError, ZeroDivisionError) as error:
            raise ConfigError(
                "How wide is a head?", expected="head_dim, or hidden_size and num_attention_heads", received=str(error)
            ) from error
        rotary.check_rope(self)


ROPE_INIT_FUNCTIONS = {kind: _rotary(kind) for kind in ("default", "linear", "dynamic", "llama3")}
"""Kind of scaling -> a function from a config to the frequencies."""
