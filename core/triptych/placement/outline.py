"""What a map of devices is planned from: the weights of a model as a tree of modules, their sizes and ties."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from triptych.weights.plan import LoadPlan
from triptych.weights.schema import Schema, Weight


@dataclass(frozen=True)
class Outline:
    """The weights of a model, in its order.

    - `sizes`: name -> bytes, of every weight that has an array of its own, and of every buffer.
    - `ties`: name -> the name in `sizes` whose array it shares.
    - `whole`: the paths of modules whose weights stay on one device.

    Its items are modules and weights, by their paths; "" is the model. A module holds items one name longer.
    """

    sizes: Mapping[str, int]
    ties: Mapping[str, str] = field(default_factory=dict)
    whole: Collection[str] = ()

    @classmethod
    def of(cls, schema: Schema, dtype_of: Callable[[Weight], np.dtype], whole: Iterable[str] | None = None) -> Outline:
        """Return that of a schema. Without `whole`, the members of lists stay on one device: `layers.0`, ..."""
        sizes = {weight.name: weight.size * dtype_of(weight).itemsize for weight in schema.stored()}
        ties = {weight.name: weight.tied_to for weight in schema.values() if weight.tied_to is not None}
        return cls(sizes, ties, frozenset(members_of_lists(schema) if whole is None else whole))

    @cached_property
    def _inside(self) -> Mapping[str, list[str]]:
        """Path of a module -> the items in it, in order."""
        found: dict[str, dict[str, None]] = {"": {}}
        for name in (*self.sizes, *self.ties):
            for path in _prefixes(name):
                above = path.rpartition(".")[0]
                found.setdefault(above, {})[path] = None
        return {path: list(items) for path, items in found.items()}

    @cached_property
    def _names(self) -> Mapping[str, list[str]]:
        """Path of an item -> the names of the weights in it."""
        found: dict[str, list[str]] = {"": []}
        for name in (*self.sizes, *self.ties):
            for path in ("", *_prefixes(name)):
                found.setdefault(path, []).append(name)
        return found

    def __contains__(self, path: str) -> bool:
        return path in self._names

    def children(self, path: str) -> list[str]:
        """Return the items in a module, in order; none in a weight."""
        return self._inside.get(path, [])

    def names(self, path: str) -> list[str]:
        """Return the weights in an item, tied ones too."""
        return self._names.get(path, [])

    def is_split(self, path: str) -> bool:
        """Return whether the items of a module may be on several devices: it is not whole, and holds modules."""
        return path not in self.whole and any(self.children(child) for child in self.children(path))

    def size(self, path: str) -> int:
        """Return the bytes of the arrays in an item; a tied weight has none."""
        return sum(self.sizes.get(name, 0) for name in self.names(path))

    def running_size(self, path: str) -> int:
        """Return the bytes of the arrays with which an item computes: of tied weights too, each array once."""
        return sum(self.sizes[name] for name in {self.ties.get(name, name) for name in self.names(path)})

    def units(self, path: str = "") -> Iterator[str]:
        """Yield the items in `path` that are not split, in order: what is loaded for a run is one of them."""
        if not self.is_split(path):
            yield path
            return
        for child in self.children(path):
            yield from self.units(child)


def members_of_lists(names: Iterable[str]) -> set[str]:
    """Return the paths of the outermost modules that are called by a number."""
    found = set()
    for name in names:
        numbered = (path for path in _prefixes(name.rpartition(".")[0]) if path.rpartition(".")[2].isdigit())
        found |= {next(numbered, "")} - {""}
    return found


def _prefixes(name: str) -> list[str]:
    """Return the paths of the modules around a weight, the outermost first, and its own."""
    parts = name.split(".") if name else []
    return [".".join(parts[: count + 1]) for count in range(len(parts))]


def planned(plan: LoadPlan) -> tuple[dict[str, int], dict[str, str]]:
    """Return how many bytes each weight takes that a load fills, by name, and which share the array of another."""
    dtypes = {one.weight.name: one.dtype for one in plan.to_initialise}
    dtypes |= {assignment.weight.name: assignment.dtype for assignment in plan.assignments}
    sizes = {w.name: w.size * dtypes[w.name].itemsize for w in plan.schema.stored() if w.name in dtypes}
    ties = {w.name: w.tied_to for w in plan.schema.values() if w.tied_to is not None and w.tied_to in sizes}
    return sizes, ties
