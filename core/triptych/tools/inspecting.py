"""What a checkpoint holds, from its headers alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.modeling.quantised import quantised_by
from triptych.tools.source import Source, class_schema, open_source
from triptych.weights.plan import matched


@dataclass(frozen=True)
class Entry:
    """One tensor: `note` says what is special about it, such as a tie or that no class knows it."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    tied_to: str | None = None
    note: str = ""


@dataclass(frozen=True)
class Inspection:
    """What `inspect` found: files with sizes in bytes, tensors by canonical name, and weights that are not there."""

    source: Source
    files: dict[str, int]
    entries: tuple[Entry, ...]
    missing: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        return sum(entry.nbytes for entry in self.entries)

    @property
    def num_parameters(self) -> int:
        """Elements of all tensors but copies of tied weights."""
        return sum(math.prod(entry.shape) for entry in self.entries if entry.tied_to is None)

    @property
    def bytes_by_dtype(self) -> dict[str, int]:
        result: dict[str, int] = {}
        for entry in self.entries:
            result[entry.dtype] = result.get(entry.dtype, 0) + entry.nbytes
        return result

    def as_dict(self) -> dict[str, Any]:
        """Return everything, JSON-ready."""
        config = self.source.config or {}
        return {
            "path": str(self.source.path),
            "format": self.source.format.name,
            "model_type": config.get("model_type"),
            "architectures": config.get("architectures"),
            "files": self.files,
            "tensors": len(self.entries),
            "parameters": self.num_parameters,
            "bytes": self.nbytes,
            "bytes_by_dtype": self.bytes_by_dtype,
            "missing": list(self.missing),
            "named_by_layer_rules": list(self.source.generic),
            "unknown": list(self.source.unknown),
            "entries": [{**vars(entry), "shape": list(entry.shape)} for entry in self.entries],
        }


def inspect(path: Path, variant: str | None = None) -> Inspection:
    """Return what the folder or GGUF file `path` holds; no tensor is read.

    Raises:
        What `source.open_source` raises.
    """
    source = open_source(path, variant)
    notes = _notes(source)
    entries = tuple(
        Entry(name, ref.shape, ref.dtype.name, ref.nbytes, *_about(source, name, notes))
        for name, ref in source.tensors.items()
    )
    config = None if quantised_by(source.config) else source.config
    schema = None if config is None else class_schema(config, source.tensors)
    missing: tuple[str, ...] = ()
    if schema is not None:
        present, _ = matched(schema, source.tensors)
        missing = tuple(weight.name for weight in schema.stored() if weight.name not in present)
    return Inspection(source, {file.name: file.stat().st_size for file in source.raw.files}, entries, missing)


def _notes(source: Source) -> dict[str, str]:
    """Return what is special about tensors, by name; what is said last counts."""
    strange = [] if source.schema is None else matched(source.schema, source.tensors)[1]
    notes = dict.fromkeys(strange, "no class of the family has it")
    notes |= dict.fromkeys(source.generic, "named by the rules of layers alone")
    notes |= dict.fromkeys(source.unknown, "no rule knows this name")
    return notes | dict.fromkeys(() if source.schema is None else source.schema.ignorable, "not needed by any model")


def _about(source: Source, name: str, notes: dict[str, str]) -> tuple[str | None, str]:
    """Return what a tensor is tied to, and a note."""
    weight = None if source.schema is None else source.schema.get(name)
    if weight is not None and weight.tied_to is not None:
        return weight.tied_to, "tied"
    return None, notes.get(name, "")
