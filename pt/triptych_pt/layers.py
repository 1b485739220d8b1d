"""What torch modules lack for triptych: the layout of a parameter, sizes that stay true, outputs as trees."""

from __future__ import annotations

from torch import nn

from triptych.nn.outputs import on_each_class
from triptych.weights.schema import Layout
from triptych_pt import internals
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
    rms_norm,
    stacked,
    vector,
    vocab_head,
    vocab_projector,
)

_LAYOUTS: dict[type, dict[str, Layout]] = {
    nn.Linear: {"weight": Layout.LINEAR, "bias": Layout.BIAS},
    nn.Embedding: {"weight": Layout.EMBEDDING},
    nn.LayerNorm: {"weight": Layout.NORM, "bias": Layout.NORM_BIAS},
    Conv1D: {"weight": Layout.CONV1D, "bias": Layout.BIAS},
    RMSNorm: {"weight": Layout.NORM},
}


on_each_class(internals.make_known)


def layout_of(module: nn.Module, leaf: str) -> Layout:
    """Return the layout of parameter `leaf`, by the type of its module."""
    return next((names[leaf] for kind, names in _LAYOUTS.items() if isinstance(module, kind) and leaf in names),
                Layout.BIAS if leaf == "bias" else Layout.PARAMETER)  # fmt: skip


def describe(module: nn.Module) -> None:
    """Make a layer's own account of its sizes true again after its weight changed."""
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    if isinstance(module, Conv1D):
        module.nx, module.nf = module.weight.shape
    if isinstance(module, nn.Embedding):
        module.num_embeddings = module.weight.shape[0]
        if module.padding_idx is not None and module.padding_idx >= module.num_embeddings:
            module.padding_idx = None
