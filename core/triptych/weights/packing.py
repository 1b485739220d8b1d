"""Which weights of a model are kept packed, and the tensors of a checkpoint as such a model takes them."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from triptych.tensors.dtypes import FLOATING
from triptych.tensors.ref import TensorRef
from triptych.weights.codecs import on_numpy
from triptych.weights.codecs.base import Codec
from triptych.weights.codecs.gguf import BY_KIND, Blocks
from triptych.weights.codecs.integers import Int8
from triptych.weights.plan import is_below, sources
from triptych.weights.schema import Axis, Layout, PackedPart, Schema, Weight

VOCAB = "vocab"
_TRANSPOSED = Layout.CONV1D
_MATRICES = (Layout.LINEAR, Layout.CONV1D)


@dataclass(frozen=True)
class Packed:
    """A weight, as it would be in floating numbers, and the codec that keeps it packed."""

    weight: Weight
    codec: Codec

    @property
    def rows(self) -> int:
        """The number of rows that the codec sees: outputs of a layer, or tokens."""
        return self.weight.shape[self.weight.layout is _TRANSPOSED]

    @property
    def columns(self) -> int:
        return self.weight.shape[self.weight.layout is not _TRANSPOSED]

    @property
    def parts(self) -> tuple[Weight, ...]:
        """What the schema of a model has in place of the weight: one for each array, which is the same everywhere."""
        return tuple(_part(self, part) for part in self.codec.parts(self.rows, self.columns))

    def encode(self, array: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return the parts of the weight `array`, in canonical layout."""
        return self.codec.encode(array.T if self.weight.layout is _TRANSPOSED else array)

    def decode(self, parts: Iterable[np.ndarray]) -> np.ndarray:
        """Return the weight in float32 and canonical layout."""
        matrix = self.codec.decode(on_numpy, list(parts), self.columns)
        return np.ascontiguousarray(matrix.T) if self.weight.layout is _TRANSPOSED else matrix


def _part(packed: Packed, part: Any) -> Weight:
    weight, suffix = packed.weight, part.suffix
    axes = tuple(Axis(f"packed{place}", length) for place, length in enumerate(part.shape))
    return replace(
        weight,
        name=weight.name + suffix,
        axes=axes,
        layout=Layout.PARAMETER,
        tied_to=weight.tied_to and weight.tied_to + suffix,
        aliases=tuple(alias + suffix for alias in weight.aliases),
        buffer=True,
        packed=PackedPart(part.dtype, packed.codec, weight if not suffix else None),
    )


@dataclass(frozen=True)
class Packing:
    """Which weights are packed, and how.

    They are the matrices of linear layers but for new heads to train, and if `vocabulary` the embeddings of tokens and
    the matrix that scores them; and not modules that are `kept`: parts of dotted names of weights, or "re:" and a
    regular expression that names start with. `others` says of such parts which codec they have instead of `codec`; a
    matrix that does not fit its codec is packed as int8. Without a `codec`, weights are as the checkpoint packs them.
    """

    codec: Codec | None
    kept: tuple[str, ...] = ()
    others: Mapping[str, Codec] = field(default_factory=dict)
    vocabulary: bool = True

    def codec_of(self, weight: Weight, ref: TensorRef | None = None) -> Codec | None:
        """Return the codec of a weight, which a checkpoint holds as `ref`; None if it is not packed."""
        coded = ref is not None and ref.dtype not in FLOATING
        if not self._is_matrix(weight, coded) or any(_is_named(weight.name, module) for module in self.kept):
            return None
        if self.codec is None:
            return BY_KIND.get(ref.blocks.kind) if ref is not None and ref.blocks is not None else None
        chosen = next((c for module, c in self.others.items() if _is_named(weight.name, module)), self.codec)
        packed = Packed(weight, chosen)
        return chosen if chosen.fits(packed.rows, packed.columns) else Int8()

    def _is_matrix(self, weight: Weight, coded: bool) -> bool:
        """Return whether a weight may be packed; `coded` is one that its file holds in codes, whatever it is of."""
        if len(weight.axes) != 2 or weight.packed is not None:
            return False
        of_tokens = weight.axes[0].name.rpartition(".")[2] == VOCAB
        if weight.layout is Layout.EMBEDDING:
            return self.vocabulary and of_tokens
        if weight.layout not in _MATRICES:
            return False
        return coded or (self.vocabulary if of_tokens else weight.backbone)

    def chosen(self, schema: Schema, able: Collection[str] | None = None) -> dict[str, Packed]:
        """Return the weights of `schema` that are packed, by name; with `able`, only of these."""
        return {
            weight.name: Packed(weight, codec)
            for weight in schema.stored()
            if (able is None or weight.name in able) and (codec := self.codec_of(weight)) is not None
        }

    def taken(
        self, schema: Schema, checkpoint: Mapping[str, TensorRef], encode: bool, able: Collection[str] | None = None
    ) -> tuple[dict[str, Packed], dict[str, TensorRef]]:
        """Return the weights that are packed when `checkpoint` is loaded, and its tensors as they are taken then.

        A weight that the checkpoint holds in floating numbers is packed when it is read, if `encode`, and else left as
        it is; one that it lacks is no packed one either.
        """
        found, refs, packed = sources(schema, checkpoint), dict(checkpoint), {}
        copies: dict[str, list[str]] = {}
        for weight in schema.values():
            if weight.tied_to is not None:
                copies.setdefault(weight.tied_to, []).extend(found[weight.name])
        for weight in schema.stored():
            names = [*found[weight.name], *copies.get(weight.name, ())]
            if not names or (able is not None and weight.name not in able):
                continue
            ref = checkpoint[names[0]]
            codec = self.codec_of(weight, ref)
            if codec is None or (ref.dtype in FLOATING and not encode):
                continue
            packed[weight.name] = Packed(weight, codec)
            if ref.dtype in FLOATING:
                for name in names:
                    del refs[name]
                refs |= _packed_refs(packed[weight.name], ref)
        return packed, refs

    def described(self, packed: Mapping[str, Packed], prefix: str = "") -> tuple[Codec, dict[str, Codec]]:
        """Return the codec that most weights of a model have, and the others by the name of their module."""
        count = Counter(one.codec for one in packed.values())
        most = count.most_common(1)[0][0]
        modules = {name.removeprefix(f"{prefix}.").removesuffix(".weight"): one.codec for name, one in packed.items()}
        return most, {name: codec for name, codec in modules.items() if codec != most}


def _is_named(name: str, module: str) -> bool:
    return bool(re.match(module[3:], name)) if module.startswith("re:") else is_below(name, module)


def _packed_refs(packed: Packed, ref: TensorRef) -> dict[str, TensorRef]:
    """Return the parts of a weight that is stored as `ref`: as they stand there, or packed when they are read."""
    encoder = _Encoder(packed, ref)
    parts = packed.codec.parts(packed.rows, packed.columns)
    return {
        name: TensorRef(name, part.dtype, part.shape, lambda place=place: encoder.read(place))  # type: ignore[misc]
        for place, part in enumerate(parts)
        for name in [ref.name + part.suffix]
    }


class _Encoder:
    """Packs one weight when a part of it is read, and keeps of the others the small ones, until they are read too.

    A writer may ask for the scales of all weights before the first codes, of which only one is in memory at a time:
    these are then made twice.
    """

    def __init__(self, packed: Packed, ref: TensorRef) -> None:
        self._packed, self._ref = packed, ref
        self._left: dict[int, np.ndarray] = {}
        self._given: set[int] = set()
        self._lock = threading.Lock()

    def read(self, place: int) -> np.ndarray:
        with self._lock:
            self._given.add(place)
            if place in self._left:
                return self._left.pop(place)
            parts = dict(enumerate(self._made()))
            self._left = {other: part for other, part in parts.items() if other not in {0, *self._given}}
            return parts[place]

    def _made(self) -> tuple[np.ndarray, ...]:
        codec, blocks = self._packed.codec, self._ref.blocks
        if blocks is not None and isinstance(codec, Blocks) and codec.kind == blocks.kind:
            return codec.taken_apart(blocks.read())
        return self._packed.encode(self._ref.read())


def applied(schema: Schema, packed: Mapping[str, Packed]) -> Schema:
    """Return `schema` with the parts of each weight that is packed in its place, and of what is tied to it."""
    if not packed:
        return schema
    weights: dict[str, Weight] = {}
    for weight in schema.values():
        source = packed.get(weight.tied_to or weight.name)
        parts = (weight,) if source is None else Packed(weight, source.codec).parts
        weights |= {part.name: part for part in parts}
    return replace(schema, weights=weights)


def unpacked_refs(packed: Mapping[str, Packed], tensors: Mapping[str, TensorRef]) -> Iterator[TensorRef]:
    """Yield `tensors` with each packed weight as one of float32, decoded when it is read."""
    inner = {part.name for one in packed.values() for part in one.parts} - packed.keys()
    for name, ref in tensors.items():
        if name in packed:
            one = packed[name]
            parts = [tensors[part.name] for part in one.parts]
            yield TensorRef(name, np.dtype(np.float32), one.weight.shape, _Decoder(one, parts))
        elif name not in inner:
            yield ref


@dataclass(frozen=True)
class _Decoder:
    packed: Packed
    parts: list[TensorRef]

    def __call__(self) -> np.ndarray:
        return self.packed.decode(ref.read() for ref in self.parts)
