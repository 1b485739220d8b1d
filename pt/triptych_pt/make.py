"""The layers of which declarations make models, and the modules of PyTorch that are made of declared parts.

Widths are `triptych.weights.schema.Axis` objects, or numbers.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from triptych.errors import ArgumentError
from triptych.nn import functional as fn
from triptych.nn import seeding
from triptych.nn.parts import Binder, constructed
from triptych_pt import internals, ops


class Conv1D(nn.Module):
    """GPT-2's projection from `nx` to `nf`, whose weight is stored as [in, out]."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight = nn.Parameter(torch.empty(nx, nf))
        self.bias = nn.Parameter(torch.zeros(nf))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, x: Any) -> Any:
        rows, slices = x.reshape(-1, x.shape[-1]), math.gcd(self.weight.shape[1], 8)
        if slices > 1 and ops.is_few(rows, 2, 6):
            # Slices of the matrix are shared out among the threads, as the matrix itself is not where rows are few.
            parts = self.weight.reshape(self.weight.shape[0], slices, -1).transpose(0, 1)
            made = torch.matmul(rows, parts).transpose(0, 1).reshape(rows.shape[0], -1) + self.bias
        else:
            made = torch.addmm(self.bias, rows, self.weight)
        return made.reshape(*x.shape[:-1], made.shape[-1])


class RMSNorm(nn.Module):
    """See `triptych.nn.functional.rms_norm`."""

    def __init__(self, hidden_size: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.variance_epsilon = eps

    def forward(self, hidden_states: Any) -> Any:
        if hidden_states.dtype == self.weight.dtype == torch.float32:
            return F.rms_norm(hidden_states, self.weight.shape, self.weight, self.variance_epsilon)
        kept = self.weight if ops.is_half(self.weight) else hidden_states
        return fn.rms_norm(ops, hidden_states, self.weight, self.variance_epsilon, kept.dtype)

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, eps={self.variance_epsilon}"


class Dropout(nn.Dropout):
    """`nn.Dropout`, unless the model was told to draw by a seed: see `triptych.modeling.seeding`."""

    stream: seeding.Stream | None = None
    place: int = 0

    def forward(self, input: Any) -> Any:
        return self._dropped(input, 0)

    def again(self, input: Any) -> Any:
        """See `triptych.nn.seeding.again`."""
        return self._dropped(input, 1)

    def _dropped(self, input: Any, use: int) -> Any:
        if self.stream is None or not self.training:
            return super().forward(input)
        if internals.is_replica(self):
            raise ArgumentError(
                "Replicas of DataParallel would all drop the same values.", expected="a process for each device",
                received="nn.DataParallel", remedy="use DistributedDataParallel, with shard= the rank",
            )  # fmt: skip
        return seeding.dropped(ops, input, self.p, self.stream, self.place, use)


class Block(nn.Module):
    """A part of a model. Subclasses declare their layers in `setup`; `fields` become attributes.

    It is made of a config and the number of its layer; the class's `arguments` say in which order it takes what.
    """

    ops = ops
    make: Any = sys.modules[__name__]
    whole = False

    def __init__(self, *args: Any, **fields: Any) -> None:
        super().__init__()
        self.config, self.index, fields = constructed(type(self), args, fields)
        for name, value in fields.items():
            setattr(self, name, value)
        self.setup()

    def setup(self) -> None:
        """Declare the layers."""

    @property
    def layer_idx(self) -> int:
        """The number of the layer, as transformers calls it."""
        return self.index


binder = Binder("pt", Block, "forward")


def dense(owner: Any, width: Any, units: Any, bias: bool = True, std: float | None = None, wide: bool = False) -> Any:
    """Return a projection from `width` to `units`.

    `wide`: in a model of float16 it is computed in float32, and its result stays so.
    """
    return _initialised((WideLinear if wide else nn.Linear)(int(width), int(units), bias=bias), std)


class WideLinear(nn.Linear):
    """A projection that is computed in the dtype of its weight, which a load in float16 keeps in float32."""

    def forward(self, input: Any) -> Any:
        return super().forward(input.to(self.weight.dtype))


def conv1d(owner: Any, width: Any, units: Any, std: float | None = None) -> Any:
    """Return GPT-2's projection from `width` to `units`."""
    return _initialised(Conv1D(int(units), int(width)), std)


def embedding(
    owner: Any, rows: Any, width: Any, std: float | None = None, padding: int | None = None, aliases: Iterable[str] = ()
) -> Any:
    """Return a table of `rows` vectors; that of `padding` starts as zeros and gets no gradient.

    `aliases` are other names under which files hold the table.
    """
    return _initialised(nn.Embedding(int(rows), int(width), padding_idx=padding), std)


def layer_norm(owner: Any, width: Any, epsilon: float, affine: bool = True) -> Any:
    """Return a layer norm over the last axis, with a scale and a shift if `affine`."""
    return nn.LayerNorm(int(width), eps=epsilon, elementwise_affine=affine)


def rms_norm(owner: Any, width: Any, epsilon: float) -> Any:
    """Return a norm without shift over the last axis."""
    return RMSNorm(int(width), epsilon)


def dropout(owner: Any, rate: float) -> Any:
    """Return a layer that drops values while training."""
    return Dropout(rate)


def vector(owner: Any, name: str, length: Any) -> Any:
    """Return a parameter `name` of zeros."""
    return nn.Parameter(torch.zeros(int(length)))


def numbers(owner: Any, name: str, count: int) -> Any:
    """Return the numbers from 0 to `count` - 1, [1, count], a buffer `name` that is in no file."""
    owner.register_buffer(name, torch.arange(count)[None], persistent=False)
    return getattr(owner, name)


def vocab_head(owner: Any, width: Any, units: Any, bias: str | None = None, std: float | None = None) -> Any:
    """Return the projection to the vocabulary, whose matrix is the embeddings' unless the config says no.

    `bias` names the owner's vector that is its bias, too. `tie_weights` makes it share both.
    """
    head = _initialised(VocabHead(int(width), int(units), bool(bias)), std)
    if bias and owner.config.tie_word_embeddings:
        head.bias = getattr(owner, bias)
    return head


class VocabHead(nn.Linear):
    """A projection to the vocabulary."""

    def forward(self, input: Any) -> Any:
        scores = ops.project(input, self.weight)
        return scores if self.bias is None else scores + self.bias


class VocabProjector(VocabHead):
    """A projection to the vocabulary with a bias, called with the embeddings, whose matrix it may share."""

    def forward(self, hidden: Any, embeddings: Any) -> Any:
        return super().forward(hidden)


def vocab_projector(owner: Any, width: Any, units: Any) -> Any:
    """Return a projection to the vocabulary with a bias of its own."""
    return VocabProjector(int(width), int(units))


def block(owner: Any, kind: type, **fields: Any) -> Any:
    """Return a module of the owner's config: of a part, or of a class of PyTorch like it."""
    cls: Any = binder.class_of(kind)
    return cls(config=owner.config, **fields) if issubclass(cls, Block) else cls(owner.config, **fields)


def nested(owner: Any, member: Any, made: Any = None) -> Any:
    """Return the model `made`, or one of a config of its own: of `member`, a `triptych.families.Member`."""
    return binder.class_of(member.part)(member.config) if made is None else made


def stacked(owner: Any, kind: type, count: int, **fields: Any) -> Any:
    """Return `count` blocks of one kind, numbered by `index`."""
    return nn.ModuleList(block(owner, kind, index=index, **fields) for index in range(count))


def listed(owner: Any, kinds: Iterable[type], **fields: Any) -> Any:
    """Return a list of blocks of several kinds."""
    return nn.ModuleList(block(owner, kind, **fields) for kind in kinds)


def prune_attention(owner: Any, inner: Iterable[nn.Linear], outer: nn.Linear, heads: Iterable[int]) -> int:
    """Remove heads of the attention `owner`, by their original numbers, and return how many are left.

    `inner` are its projections to heads, `outer` the one from them; `owner.pruned_heads` says which are gone already.

    Raises:
        ArgumentError: an unknown head, or all of them; nothing is changed.
    """
    count, gone = owner.config.num_attention_heads, owner.pruned_heads
    asked, before = set(heads), [head for head in range(count) if head not in gone]
    places = [place for place, head in enumerate(before) if head not in asked]
    if not asked <= set(range(count)) or not places:
        expected = f"some of the heads 0 to {count - 1}, leaving at least one"
        raise ArgumentError("These heads cannot be pruned.", expected=expected, received=str(sorted(asked))[:80])
    size = outer.in_features // len(before)
    kept = torch.tensor([place * size + offset for place in places for offset in range(size)])
    for layer in inner:
        _keep(layer, "weight", kept, 0)
        _keep(layer, "bias", kept, 0)
    _keep(outer, "weight", kept, 1)
    owner.pruned_heads = gone | asked
    return len(places)


def _keep(layer: nn.Linear, name: str, indices: torch.Tensor, axis: int) -> None:
    """Keep a part of a parameter."""
    old = getattr(layer, name)
    if old is not None:
        new = old.detach().index_select(axis, indices.to(old.device)).contiguous()
        setattr(layer, name, nn.Parameter(new, requires_grad=old.requires_grad))
    layer.out_features, layer.in_features = layer.weight.shape


def _initialised(layer: Any, std: float | None) -> Any:
    layer.initial_std = std
    return layer
