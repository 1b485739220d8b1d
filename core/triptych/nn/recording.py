"""The schema of a declaration: its `setup`, run with a `make` that records which weights each layer has.

The functions are those of a backend's `make`, under the same names. What they return declares the layer's weights, once
the attribute that names it is known.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from triptych.errors import ConfigError
from triptych.nn.parts import all_members
from triptych.weights.schema import MAX_WEIGHTS, Axis, Layout, Schema, SchemaBuilder


@dataclass(slots=True)
class Layer:
    """A layer, as what declares its weights under a name; `member`, if it is a whole model, says which."""

    declare: Callable[[SchemaBuilder, str], None]
    member: Any = None


class Recorded:
    """A part whose layers are only named."""

    make: Any = sys.modules[__name__]
    heads: Iterable[str] = ()
    part_names: Mapping[str, str] = {}
    whole = False

    def __init__(self, config: Any, index: int = 0, **fields: Any) -> None:
        self.__dict__.update(fields)
        self.config, self.index = config, index
        self.setup()

    def setup(self) -> None:
        """Name the layers."""

    def declare(self, build: SchemaBuilder, name: str) -> None:
        """Declare the weights of every layer under `name`."""
        self.declare_layers(build.under(name), dict.fromkeys(self.heads, False))

    def declare_layers(self, build: SchemaBuilder, backbone: Mapping[str, bool]) -> None:
        """Declare the weights of every layer; `backbone` says of some attributes whether theirs are the backbone's."""
        for attribute, name, layer in self.layers():
            layer.declare(build.under("", backbone[attribute]) if attribute in backbone else build, name)

    def layers(self) -> Iterator[tuple[str, str, Layer | Recorded]]:
        """Yield every layer, with the attribute that holds it and the name under which its weights are."""
        for attribute, value in vars(self).items():
            name = self.part_names.get(attribute, attribute)
            if isinstance(value, (Layer, Recorded)):
                yield attribute, name, value
            elif isinstance(value, list) and all(isinstance(part, (Layer, Recorded)) for part in value):
                yield from ((attribute, f"{name}.{number}", part) for number, part in enumerate(value))

    def whole_parts(self, path: str = "") -> Iterator[str]:
        """Yield the paths of the parts that are `whole`, but for those within others; this part is at `path`."""
        if self.whole:
            yield path
            return
        for _, name, layer in self.layers():
            inner = layer
            if isinstance(layer, Layer) and layer.member is not None:
                inner = _recorded(layer.member.part)(layer.member.config)
            if isinstance(inner, Recorded):
                yield from inner.whole_parts(f"{path}.{name}" if path else name)


@functools.cache
def _recorded(part: Any) -> type[Recorded]:
    return type(part.__name__, (Recorded,), all_members(part, "call"))


def recorded_schema(part: Any, config: Any, base_prefix: str, ignorable: Iterable[str] = (), **options: Any) -> Schema:
    """Return the weights that the model `part` of `config` has.

    Those below `base_prefix` are the backbone's, but for what a part names in `heads`. A model without that attribute
    is a backbone itself; where the prefix is "", it is one if it names no `heads`. `ignorable` are names in files of
    the backbone's own class that no model needs.
    """
    model, root = _recorded(part)(config, **options), SchemaBuilder()
    is_base = base_prefix not in vars(model) if base_prefix else not model.heads
    inside = {base_prefix} if base_prefix and not is_base else set(vars(model)) - set(model.heads)
    model.declare_layers(root, {attribute: attribute in inside for attribute in vars(model)})
    return root.build(base_prefix, is_base, ignorable)


def recorded_whole_parts(part: Any, config: Any, **options: Any) -> list[str]:
    """Return the paths of those parts of the model `part` of `config` that stay on one device."""
    return [*_recorded(part)(config, **options).whole_parts()]


def dense(owner: Any, width: Any, units: Any, bias: bool = True, std: float | None = None, wide: bool = False) -> Any:
    return Layer(lambda build, name: build.linear(name, _axis(units), _axis(width), bias))


def conv1d(owner: Any, width: Any, units: Any, std: float | None = None) -> Any:
    return Layer(lambda build, name: build.conv1d(name, _axis(width), _axis(units)))


def embedding(
    owner: Any, rows: Any, width: Any, std: float | None = None, padding: int | None = None, aliases: Iterable[str] = ()
) -> Any:
    return Layer(lambda build, name: build.embedding(name, _axis(rows), _axis(width), aliases=tuple(aliases)))


def layer_norm(owner: Any, width: Any, epsilon: float, affine: bool = True) -> Any:
    return Layer(lambda build, name: build.layer_norm(name, _axis(width))) if affine else None


def rms_norm(owner: Any, width: Any, epsilon: float) -> Any:
    return Layer(lambda build, name: build.rms_norm(name, _axis(width)))


def dropout(owner: Any, rate: float) -> Any:
    return None


def vector(owner: Any, name: str, length: Any) -> Any:
    return Layer(lambda build, name: build.add(name, (_axis(length),), Layout.BIAS))


def numbers(owner: Any, name: str, count: int) -> Any:
    return None


def vocab_head(owner: Any, width: Any, units: Any, bias: str | None = None, std: float | None = None) -> Any:
    tie = owner.config.tie_word_embeddings
    return Layer(lambda build, name: build.vocab_head(name, _axis(width), _axis(units), tie, bias))


def vocab_projector(owner: Any, width: Any, units: Any) -> Any:
    tie = owner.config.tie_word_embeddings

    def declare(build: SchemaBuilder, name: str) -> None:
        build.vocab_head(name, _axis(width), _axis(units), tie)
        build.add(f"{name}.bias", (_axis(units),), Layout.BIAS)

    return Layer(declare)


def block(owner: Any, kind: Any, **fields: Any) -> Any:
    return _recorded(kind)(owner.config, **fields)


def nested(owner: Any, member: Any, made: Any = None) -> Any:
    return Layer(lambda build, attribute: build.include(attribute, member.schema()), member)


def stacked(owner: Any, kind: Any, count: int, **fields: Any) -> Any:
    if count > MAX_WEIGHTS:
        raise ConfigError(
            "The config asks for too many layers.", expected=f"at most {MAX_WEIGHTS:,}", received=str(count)
        )
    return [_recorded(kind)(owner.config, index=index, **fields) for index in range(count)]


def listed(owner: Any, kinds: Iterable[Any], **fields: Any) -> Any:
    return [_recorded(kind)(owner.config, **fields) for kind in kinds]


def _axis(width: Any) -> Axis:
    return width if isinstance(width, Axis) else Axis("width", width)
