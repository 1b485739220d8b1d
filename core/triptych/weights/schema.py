"""What a model's weights are: names, named axes, layouts and ties, from a config alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np

from triptych.errors import ArgumentError, ConfigError
from triptych.weights.codecs.base import Codec

MAX_WEIGHTS = 2**18
"""More weights than any model has; to declare 2^31 layers would take forever."""


class Layout(StrEnum):
    """How an array is stored, which decides its leaf name and axis order in each framework."""

    LINEAR = "linear"  # [out, in]
    CONV1D = "conv1d"  # GPT-2's projection, [in, out]
    EMBEDDING = "embedding"  # [rows, width]
    BIAS = "bias"  # [out]
    NORM = "norm"  # scale of a LayerNorm
    NORM_BIAS = "norm_bias"  # shift of a LayerNorm
    CONV = "conv"  # [out, in, *kernel]; of a transposed convolution [in, out, *kernel]
    DEPTHWISE = "depthwise"  # a convolution of each channel for itself, [channels, 1, *kernel]
    MEAN = "mean"  # running mean of a BatchNorm
    VARIANCE = "variance"  # running variance of a BatchNorm
    PARAMETER = "parameter"  # anything else: kept as it is


@dataclass(frozen=True)
class Axis:
    """One named axis.

    Its length is `repeat * units * block`: `block` elements belong to one unit (the `head_dim` of a head), and
    `repeat` projections stand one after the other (3 in GPT-2's fused query-key-value).

    `ids` are the original numbers of the units still there, when some were pruned; `layer` says which layer's heads
    the axis counts. `group` is the number of query heads that shared one unit before pruning, on the axis of key and
    value heads (Ainslie et al., 2023, https://arxiv.org/abs/2305.13245).
    """

    name: str
    units: int
    block: int = 1
    repeat: int = 1
    ids: tuple[int, ...] | None = None
    layer: int | None = None
    group: int = 1

    @property
    def length(self) -> int:
        return self.repeat * self.units * self.block

    def __index__(self) -> int:
        return self.length

    @property
    def unit_ids(self) -> tuple[int, ...]:
        return tuple(range(self.units)) if self.ids is None else self.ids


@dataclass(frozen=True)
class PackedPart:
    """What a weight is that is an array of a packed one: its only dtype, the codec, and, of the codes, the weight that
    they stand for, as it would be in floating numbers."""

    dtype: np.dtype
    codec: Codec
    whole: Weight | None = None


@dataclass(frozen=True)
class Weight:
    """One weight under its canonical name (that of the Hugging Face PyTorch files).

    - `tied_to`: the weight whose values this one shares; it is then neither counted nor saved.
    - `untie_flag`: the config attribute that, when False, ends the tie, dotted where it is one of a config within;
      None for a tie that is part of the family.
    - `aliases`: other exact names under which old files hold the same array.
    - `backbone`: False where a missing weight is a new head to train, not damage.
    - `buffer`: not trained, but saved: the statistics of a BatchNorm, a persistent buffer of PyTorch, a variable of
      another collection in Flax, whose name is `collection`. Where a checkpoint lacks it, it stays as it was made.
    - `packed`: it is the codes or scales of a quantised weight (`triptych.weights.packing`).
    """

    name: str
    axes: tuple[Axis, ...]
    layout: Layout
    tied_to: str | None = None
    untie_flag: str | None = None
    aliases: tuple[str, ...] = ()
    backbone: bool = True
    buffer: bool = False
    collection: str = ""
    packed: PackedPart | None = None

    @property
    def is_statistic(self) -> bool:
        """Whether it was computed from the data of a training."""
        return self.layout in (Layout.MEAN, Layout.VARIANCE)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(axis.length for axis in self.axes)

    @property
    def size(self) -> int:
        count = 1
        for length in self.shape:
            count *= length
        return count

    def axis_index(self, name: str) -> int | None:
        return next((i for i, axis in enumerate(self.axes) if axis.name == name), None)


@dataclass(frozen=True)
class Schema(Mapping[str, Weight]):
    """An ordered mapping from canonical name to `Weight`.

    `base_prefix` is the attribute under which head models hold the backbone; `is_base` is True for the backbone's own
    class, whose names do not carry the prefix. `ignorable` are exact names (with and without prefix) that files of the
    family carry although no model needs them. `inner` are the schemas of whole models within, by the paths to them.
    """

    weights: dict[str, Weight]
    base_prefix: str = ""
    is_base: bool = False
    ignorable: frozenset[str] = field(default_factory=frozenset)
    inner: Mapping[str, Schema] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Weight:
        return self.weights[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)

    def stored(self) -> list[Weight]:
        """Return the weights that have an array of their own, in order."""
        return [weight for weight in self.weights.values() if weight.tied_to is None]

    def summary(self) -> dict[str, tuple[tuple[int, ...], str, str | None]]:
        """Return name -> (shape, layout, tie): what a live module can be asked for, for comparison."""
        return {w.name: (w.shape, w.layout.value, w.tied_to) for w in self.weights.values()}

    def num_parameters(self, exclude_embeddings: bool = False, only: Callable[[Weight], bool] | None = None) -> int:
        """Return the number of elements, each tie counted once, without buffers; those of packed weights as if these
        were none."""
        return sum(
            weight.size
            for weight in map(_whole, self.stored())
            if not weight.buffer
            and not (exclude_embeddings and weight.layout is Layout.EMBEDDING)
            and (only is None or only(weight))
        )


def _whole(weight: Weight) -> Weight:
    """Return the weight that codes stand for."""
    return (weight.packed and weight.packed.whole) or weight


def vocab_weight(schema: Mapping[str, Weight], layout: Layout) -> Weight | None:
    """Return the weight of `layout` whose rows are tokens: the embeddings, or the matrix of the head; None without."""
    return next((w for w in schema.values() if w.layout is layout and w.axis_index("vocab") == 0), None)


class SchemaBuilder:
    """Collects weights under a moving prefix. The shorthands are the layers of which every family is made."""

    def __init__(self, prefix: str = "", backbone: bool = True) -> None:
        self.weights: dict[str, Weight] = {}
        self.inner: dict[str, Schema] = {}
        self._prefix = prefix
        self._backbone = backbone

    def under(self, prefix: str, backbone: bool | None = None) -> SchemaBuilder:
        """Return a builder that writes to the same schema below `prefix`."""
        child = SchemaBuilder(self._full(prefix), self._backbone if backbone is None else backbone)
        child.weights, child.inner = self.weights, self.inner
        return child

    def add(self, name: str, axes: Iterable[Axis], layout: Layout, **options: Any) -> None:
        full = self._full(name)
        if full in self.weights:
            raise ArgumentError(f"The schema declares {full!r} twice.")
        if len(self.weights) == MAX_WEIGHTS:
            raise ConfigError(
                "The config asks for too many weights.",
                expected=f"at most {MAX_WEIGHTS:,}",
                received=f"more, the next of them {full!r}",
                remedy="correct its number of layers",
            )
        options.setdefault("backbone", self._backbone)
        self.weights[full] = Weight(full, tuple(axes), layout, **options)

    def linear(self, name: str, out: Axis, inp: Axis, bias: bool = True, **options: Any) -> None:
        self.add(f"{name}.weight", (out, inp), Layout.LINEAR, **options)
        if bias:
            self.add(f"{name}.bias", (out,), Layout.BIAS)

    def embedding(self, name: str, rows: Axis, width: Axis, aliases: Iterable[str] = (), **options: Any) -> None:
        """A table; `aliases` are other names of it, below the same prefix."""
        others = tuple(map(self._full, aliases))
        self.add(f"{name}.weight", (rows, width), Layout.EMBEDDING, aliases=others, **options)

    def vocab_head(self, name: str, width: Axis, vocab: Axis, tied: bool, bias: str | None = None) -> None:
        """A matrix that maps to the vocabulary: that of the embeddings, declared before it, unless not `tied`.

        `bias` names the weight beside it that is its bias. transformers 5 reads that as `bias` of this layer and
        transformers 4 under its own name. While the matrix is tied both find the latter; else both names are stored.
        """
        flag = "tie_word_embeddings"
        table = vocab_weight(self.weights, Layout.EMBEDDING)
        if table is None:
            raise ArgumentError(f"{self._full(name)} has no embeddings to be tied to.",
                                expected="an embedding with a `vocab` axis, declared before it")  # fmt: skip
        source = table.name if tied else None
        self.add(f"{name}.weight", (vocab, width), Layout.LINEAR, tied_to=source, untie_flag=flag)
        if not bias:
            return
        own, beside = f"{name}.bias", self._full(bias)
        if beside not in self.weights:
            raise ArgumentError(
                f"{self._full(name)} has no such bias beside it.",
                expected=f"a vector {bias!r} of the same part, declared before it",
                received=f"no {beside}",
            )
        self.weights[beside] = replace(self.weights[beside], aliases=(self._full(own),))
        self.add(
            own, (vocab,), Layout.BIAS, untie_flag=flag, **({"tied_to": beside} if tied else {"aliases": (beside,)})
        )

    def include(self, name: str, schema: Schema) -> None:
        """The weights of a whole model of a config of its own, the field `name`. Its axes are not those of this model:
        a vocabulary or heads of one of the two are changed where that one is asked for it."""
        full = self._full(name)
        self.inner[full] = schema
        for weight in schema.values():
            axes = (replace(axis, name=f"{full}.{axis.name}") for axis in weight.axes)
            self.add(
                f"{name}.{weight.name}",
                axes,
                weight.layout,
                tied_to=weight.tied_to and f"{full}.{weight.tied_to}",
                untie_flag=weight.untie_flag and f"{full}.{weight.untie_flag}",
                aliases=tuple(f"{full}.{alias}" for alias in weight.aliases),
                backbone=weight.backbone and self._backbone,
                buffer=weight.buffer,
                collection=weight.collection,
            )

    def conv1d(self, name: str, inp: Axis, out: Axis) -> None:
        """GPT-2's projection: stored as [in, out], unlike every other."""
        self.add(f"{name}.weight", (inp, out), Layout.CONV1D)
        self.add(f"{name}.bias", (out,), Layout.BIAS)

    def rms_norm(self, name: str, width: Axis) -> None:
        """Scale without shift."""
        self.add(f"{name}.weight", (width,), Layout.NORM)

    def layer_norm(self, name: str, width: Axis) -> None:
        """Scale and shift; files converted from TensorFlow 1 call them gamma and beta."""
        full = self._full(name)
        self.add(f"{name}.weight", (width,), Layout.NORM, aliases=(f"{full}.gamma",))
        self.add(f"{name}.bias", (width,), Layout.NORM_BIAS, aliases=(f"{full}.beta",))

    def build(self, base_prefix: str, is_base: bool, ignorable: Iterable[str] = ()) -> Schema:
        names = set(ignorable)
        both = names | {f"{base_prefix}.{name}" for name in names if base_prefix}
        both |= {f"{path}.{name}" for path, schema in self.inner.items() for name in schema.ignorable}
        return Schema(dict(self.weights), base_prefix, is_base, frozenset(both), dict(self.inner))

    def _full(self, name: str) -> str:
        return f"{self._prefix}.{name}" if self._prefix and name else self._prefix or name
