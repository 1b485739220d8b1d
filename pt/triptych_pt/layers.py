"""What torch modules lack for triptych: the layout of a parameter, sizes that stay true, outputs as trees."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from triptych.errors import ArgumentError
from triptych.modeling.derived import LiveWeight
from triptych.nn.outputs import on_each_class
from triptych.tensors.ref import TensorRef
from triptych.weights.schema import Layout, Schema
from triptych_pt import arrays, internals
from triptych_pt.adapters import is_of_adapters
from triptych_pt.make import (  # noqa: F401  # families that write their classes out find them here
    Block,
    Conv1D,
    RMSNorm,
    block,
    conv1d,
    dense,
    dropout,
    embedding,
    layer_norm,
    listed,
    nested,
    numbers,
    rms_norm,
    stacked,
    vector,
    vocab_head,
    vocab_projector,
)
from triptych_pt.packed import PackedLayer

logger = logging.getLogger("triptych")
_NORM = {"weight": Layout.NORM, "bias": Layout.NORM_BIAS}
_LAYOUTS: tuple[tuple[Any, dict[str, Layout]], ...] = (
    (nn.Linear, {"weight": Layout.LINEAR}),
    (nn.Embedding, {"weight": Layout.EMBEDDING}),
    (Conv1D, {"weight": Layout.CONV1D}),
    ((nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, RMSNorm), _NORM),
    (internals.BATCH_NORMS, {**_NORM, "running_mean": Layout.MEAN, "running_var": Layout.VARIANCE}),
)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)

on_each_class(internals.make_known)


def layout_of(module: nn.Module, leaf: str) -> Layout:
    """Return the layout of parameter or buffer `leaf`, by the type of its module."""
    if isinstance(module, _CONVOLUTIONS) and leaf == "weight":
        alone = module.groups == module.in_channels == module.out_channels > 1 and not module.transposed
        return Layout.DEPTHWISE if alone else Layout.CONV
    return next((names[leaf] for kind, names in _LAYOUTS if isinstance(module, kind) and leaf in names),
                Layout.BIAS if leaf == "bias" else Layout.PARAMETER)  # fmt: skip


def live_weights(model: nn.Module) -> list[LiveWeight]:
    """Return every parameter and persistent buffer, once for each place, but not those of adapters."""
    found: list[LiveWeight] = []
    hidden = "."  # below which the weights of adapters are
    for scope, module in model.named_modules(remove_duplicate=False):
        dot = f"{scope}." if scope else ""
        hidden = dot if is_of_adapters(module) else hidden
        if dot.startswith(hidden):
            continue
        for leaf, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            _refuse_lazy(dot + leaf, parameter)
            found.append(LiveWeight(dot + leaf, tuple(parameter.shape), layout_of(module, leaf), id(parameter)))
        for leaf, buffer in internals.persistent_buffers(module):
            _refuse_lazy(dot + leaf, buffer)
            layout = layout_of(module, leaf)
            part = module.part_of(leaf) if isinstance(module, PackedLayer) else None
            found.append(LiveWeight(dot + leaf, tuple(buffer.shape), layout, id(buffer), buffer=True, packed=part))
    return found


def _refuse_lazy(name: str, tensor: torch.Tensor) -> None:
    if is_lazy(tensor):
        raise ArgumentError(
            "A lazy module has weights without a shape, which can be neither saved, counted nor loaded.",
            expected="modules that were called once, or know their sizes",
            received=name,
            remedy="call the model before it is saved; to load it, give the module its sizes in the class",
        )


def initialise(module: nn.Module, std: float) -> None:
    """Initialise a module of PyTorch's own kinds: normal matrices and kernels, zero biases, unit norms. Leave another
    as it is."""
    std, layer = getattr(module, "initial_std", None) or std, cast(Any, module)
    if any(map(is_lazy, module.parameters(recurse=False))):
        return  # it starts when it is first called
    if isinstance(module, nn.MultiheadAttention):
        internals.reset(module)
    elif isinstance(module, (nn.Linear, nn.Embedding, Conv1D, *_CONVOLUTIONS)):
        nn.init.normal_(layer.weight, std=std)
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(layer.bias)
        if isinstance(module, nn.Embedding) and layer.padding_idx is not None:
            with torch.no_grad():
                layer.weight[layer.padding_idx].zero_()
    elif isinstance(module, (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, RMSNorm, *internals.BATCH_NORMS)):
        for name, parameter in module.named_parameters(recurse=False):
            nn.init.zeros_(parameter) if name == "bias" else nn.init.ones_(parameter)


def refs_of_state(state: Mapping[str, Any], held: Mapping[str, TensorRef], schema: Schema) -> list[TensorRef]:
    """Return what a `state_dict` with its own ways holds: its tensors go before those `held` by the module.

    A tied weight is left out; what the state leaves out is told, and what is no tensor is refused.

    Raises:
        ArgumentError: a value is no tensor.
    """
    strange = sorted(name for name, value in state.items() if not isinstance(value, torch.Tensor))
    if strange:
        raise ArgumentError("The state of the model holds what is no tensor.", expected="tensors",
                            received=", ".join(strange), remedy="keep it in the config")  # fmt: skip
    if lacking := sorted(set(held) - set(state)):
        logger.warning("state_dict() leaves out, so they are not saved: %s", ", ".join(lacking))
    tied = {weight.name for weight in schema.values() if weight.tied_to in state}
    return [TensorRef.of(name, arrays.to_numpy(value)) for name, value in state.items() if name not in tied]


def describe(module: nn.Module) -> None:
    """Make a layer's own account of its sizes true again after its weight changed."""
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    if isinstance(module, Conv1D):
        module.nx, module.nf = module.weight.shape
    if callable(count := getattr(module, "count_heads", None)):
        count()
    if isinstance(module, nn.Embedding):
        module.num_embeddings = module.weight.shape[0]
        if module.padding_idx is not None and module.padding_idx >= module.num_embeddings:
            module.padding_idx = None
