"""Layers whose matrices are packed: the bytes are buffers, decoded in `forward`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from triptych.nn import packed as px
from triptych.weights.packing import Packed
from triptych.weights.schema import PackedPart, Schema
from triptych_pt import arrays, make, ops


class PackedLayer(nn.Module):
    """A layer with the parts of a packed matrix: codes as the buffer `weight`, scales and the like as `weight_...`.

    `like` is the layer in whose place it is, and `source` the one whose parts it shares, if they are not its own. Both
    are in tuples, where they are no modules of this one.
    """

    def __init__(self, like: nn.Module, packed: Packed, source: PackedLayer | None = None) -> None:
        super().__init__()
        like.register_parameter("weight", nn.Parameter(like.weight.detach().to("meta")))  # type: ignore[operator]
        self.like = (like,)
        self.training = like.training
        self.matrix = px.Matrix(packed.codec, packed.rows, packed.columns)
        self.packed_parts = {part.name.rpartition(".")[2]: part for part in packed.parts}
        self.source = () if source is None else (source,)
        for name, part in {} if source else self.packed_parts.items():
            dtype = arrays.native_dtype(part.packed.dtype)  # type: ignore[union-attr]
            self.register_buffer(name, torch.empty(part.shape, dtype=dtype, device="meta"))

    def part_of(self, name: str) -> PackedPart | None:
        """Return what the buffer `name` is, of the matrix."""
        return self.packed_parts[name].packed if name in self.packed_parts else None

    def parts(self) -> list[torch.Tensor]:
        """Return the parts of the matrix."""
        (owner,) = self.source or (self,)
        return [owner.get_buffer(name) for name in self.packed_parts]

    def num_elements(self) -> int:
        """Return how many numbers the matrix stands for; 0 where it is that of another layer."""
        return 0 if self.source else self.matrix.rows * self.matrix.columns

    def is_table(self) -> bool:
        """Return whether it is a matrix of embeddings."""
        return False

    def dequantized(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Return the matrix [rows, columns] in floating numbers."""
        return px.whole(ops, self.matrix, self.parts(), dtype)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> PackedLayer:
        """Move the parts to another device; their dtypes stay, whatever that of the model becomes."""
        before = {name: old for name, old in self.named_buffers(recurse=False) if name in self.packed_parts}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, old in before.items():
            new = self.get_buffer(name)
            if new.dtype != old.dtype:
                setattr(self, name, old.to(new.device))
        return self

    def extra_repr(self) -> str:
        return f"{self.matrix.columns}, {self.matrix.rows}, codec={self.matrix.codec.name}"


class PackedLinear(PackedLayer):
    """A projection, in place of `nn.Linear` or of GPT-2's `Conv1D`."""

    def __init__(self, like: Any, packed: Packed, source: PackedLayer | None = None) -> None:
        super().__init__(like, packed, source)
        self.in_features, self.out_features = packed.columns, packed.rows
        self.register_parameter("bias", like.bias)

    def forward(self, input: Any) -> Any:
        made = px.project(ops, self.matrix, self.parts(), input)
        return made if self.bias is None else made + self.bias.to(made.dtype)


class PackedProjector(PackedLinear):
    """A `PackedLinear` that is called with the embeddings too, as `make.VocabProjector`."""

    def forward(self, input: Any, embeddings: Any = None) -> Any:
        return PackedLinear.forward(self, input)


class PackedEmbedding(PackedLayer):
    """A table, in place of `nn.Embedding`. Its vectors are of `dtype`."""

    def __init__(self, like: Any, packed: Packed, source: PackedLayer | None = None) -> None:
        super().__init__(like, packed, source)
        self.num_embeddings, self.embedding_dim, self.padding_idx = packed.rows, packed.columns, like.padding_idx
        self.dtype = like.weight.dtype

    def forward(self, input: Any) -> Any:
        return px.vectors(ops, self.matrix, self.parts(), input, self.dtype)

    def is_table(self) -> bool:
        return True

    def score(self, hidden: Any) -> Any:
        """Return the products with each vector of the table."""
        return px.project(ops, self.matrix, self.parts(), hidden)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> PackedLayer:
        self.dtype = fn(torch.empty(0, dtype=self.dtype)).dtype
        return super()._apply(fn, recurse)


_REPLACED: dict[type, type] = {
    nn.Linear: PackedLinear,
    make.VocabHead: PackedLinear,
    make.Conv1D: PackedLinear,
    make.VocabProjector: PackedProjector,
    nn.Embedding: PackedEmbedding,
}


def can_hold(layer: nn.Module) -> bool:
    """Return whether a layer can be packed: not one of a class derived from PyTorch's, which may compute otherwise."""
    return type(layer) in _REPLACED


def holding(layer: nn.Module, packed: Packed, source: PackedLayer | None = None) -> PackedLayer:
    """Return a layer like `layer` whose matrix is packed and has no values yet, or is that of `source`."""
    return _REPLACED[type(layer)](layer, packed, source)


def whole(layer: PackedLayer) -> nn.Module:
    """Return the layer in whose place a packed one is, as that is now, with a matrix that has no values yet."""
    (like,) = layer.like
    if isinstance(layer, PackedLinear):
        like.register_parameter("bias", layer.bias)  # type: ignore[arg-type]
    return like.train(layer.training)


def places(schema: Schema, packed: Mapping[str, Packed]) -> dict[str, tuple[str | None, Packed]]:
    """Return for each weight that is packed, or tied to one, the name of that whose parts it shares, and its codec."""
    tied = {w.name: (w.tied_to, packed[w.tied_to]) for w in schema.values() if w.tied_to and w.tied_to in packed}
    return {**{name: (None, one) for name, one in packed.items()}, **tied}


def shares(model: nn.Module, name: str) -> bool:
    """Return whether `name` is a part of a packed matrix that its layer has of another one."""
    scope, _, leaf = name.rpartition(".")
    layer = model.get_submodule(scope)
    return isinstance(layer, PackedLayer) and bool(layer.source) and leaf in layer.packed_parts


def follow_dtype(model: nn.Module) -> None:
    """Let packed tables give vectors of the dtype that the parameters of `model` have."""
    tables = [module for module in model.modules() if isinstance(module, PackedEmbedding)]
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), None) if tables else None
    for table in tables:
        table.dtype = dtype or table.dtype
