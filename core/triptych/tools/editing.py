"""Changing a checkpoint as a file: plans over tensors that have not been read, and one atomic save at the end.

A `Draft` is what is going to be written. Each operation returns a new draft and reads nothing; a tensor is read,
changed and written when its turn comes, so memory holds one at a time. The numbers are those of the same operation on a
live model, since both are the plans of `triptych.weights.surgery`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from triptych.checkpoints.legacy import tf_scope
from triptych.checkpoints.naming import stored
from triptych.checkpoints.saving import save_checkpoint
from triptych.config import PretrainedConfig
from triptych.errors import ArgumentError, ShapeMismatchError, UnsupportedFormatError
from triptych.files.json import json_text, repeated
from triptych.files.paths import check_inside
from triptych.formats.gguf.tokenizer import tokenizer_files, tokenizer_kind
from triptych.formats.kinds import COMPANIONS, LAYOUTS, Format
from triptych.modeling.quantised import FIELD, packing_of, quantised_by
from triptych.modeling.quantization_configs import QuantizationConfig
from triptych.tensors import arrays
from triptych.tensors.dtypes import FLOATING, parse_param_dtype
from triptych.tensors.ref import TensorRef
from triptych.tools.source import Source, file_config, file_schema, open_source
from triptych.weights import surgery
from triptych.weights.packing import applied
from triptych.weights.plan import differing_ties, matched, refuse_differing_copies
from triptych.weights.quantised import REMEDY, with_scales
from triptych.weights.schema import Schema


@dataclass(frozen=True)
class Draft:
    """A checkpoint that is going to be written.

    - `tensors`: by canonical name, in canonical layout.
    - `config`: the values of config.json; None if there is none.
    - `schema`: the weights that the family knows; None for an unknown architecture.
    - `format`: in which it is written unless told otherwise: that of the source.
    - `notes`: what a user should know about the result.
    - `described`: files to write beside the weights, made of the metadata of a GGUF file: those of its tokenizer.
    """

    source: Path
    tensors: Mapping[str, TensorRef]
    config: Mapping[str, Any] | None
    schema: Schema | None
    format: Format
    notes: tuple[str, ...] = ()
    described: Mapping[str, bytes] = dataclasses.field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        return sum(ref.nbytes for ref in self.tensors.values())

    @property
    def num_parameters(self) -> int:
        return sum(math.prod(ref.shape) for ref in self.tensors.values())


def open_draft(path: Path, variant: str | None = None, order: Sequence[Format] = LAYOUTS) -> Draft:
    """Open `path` (see `open_source`), with every weight once and under its canonical name.

    Copies of tied weights are left out. A tie that the file contradicts is ended in the config, as when it is loaded.

    Raises:
        InconsistentCheckpointError: copies of one weight differ. What `open_source` raises.
    """
    source = open_source(path, variant, order)
    described = tokenizer_files(source.metadata)
    notes = _notes(source)
    if (kind := tokenizer_kind(source.metadata)) and not described:
        notes += (f"the tokenizer ({kind}) is not written: take tokenizer.json from the original model",)
    if source.schema is None or source.config is None:
        return Draft(path, source.tensors, source.config, None, source.format, notes, described)
    config, schema = dict(source.config), source.schema
    untied = [weight for weight in differing_ties(schema, source.tensors) if weight.untie_flag is not None]
    if untied:
        for weight in untied:
            config = _without_tie(config, weight.untie_flag or "")
        schema = file_schema(config, source.tensors) or schema
        notes += (f"stored with values of its own, so not tied: {_listed(weight.name for weight in untied)}",)
    refuse_differing_copies(schema, source.tensors, str(path))
    weights, rest = matched(schema, source.tensors)
    tensors = {name: dataclasses.replace(ref, name=name) for name, ref in weights.items()}
    tensors |= {name: source.tensors[name] for name in rest}
    return Draft(path, tensors, config, schema, source.format, notes, described)


def _without_tie(config: Mapping[str, Any], flag: str) -> dict[str, Any]:
    """Return `config` with its field `flag`, which may be one of a config within it, as False."""
    name, _, inside = flag.partition(".")
    return {**config, name: _without_tie(config[name], inside) if inside else False}


def _notes(source: Source) -> tuple[str, ...]:
    notes = []
    if source.config is None:
        notes.append("there is no config.json")
    elif source.schema is None:
        notes.append(f"model_type {source.config.get('model_type')!r} is unknown: no names are checked")
    if method := quantised_by(source.config):
        notes.append(f"quantised with {method}: names and shapes are not checked")
    if source.generic:
        notes.append(f"named by the rules of layers alone: {_listed(source.generic)}")
    if source.unknown:
        notes.append(f"kept as they are, for no rule knows them: {_listed(source.unknown)}")
    return tuple(notes)


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    return ", ".join(every[:4]) + (f" and {len(every) - 4} more" if len(every) > 4 else "")


def cast(draft: Draft, dtype: object) -> Draft:
    """Return `draft` with its floating tensors as `dtype`: "float32", "bfloat16", "float16" or "float64".

    Integers, bool and float8 keep theirs. Reading raises `ArgumentError` for a finite value that overflows.

    Raises:
        UnsupportedFormatError: one of them belongs to a quantised weight.
    """
    wanted = parse_param_dtype(dtype)
    if wanted is None:
        return draft
    changed = [name for name, ref in draft.tensors.items() if ref.dtype in FLOATING and ref.dtype != wanted]
    refuse_quantised(draft, changed, "cast")
    tensors = {name: _cast(ref, wanted) for name, ref in draft.tensors.items()}
    config = draft.config
    if config is not None:
        config = {**config, "torch_dtype" if "torch_dtype" in config else "dtype": wanted.name}
    return dataclasses.replace(draft, tensors=tensors, config=config)


def _cast(ref: TensorRef, dtype: np.dtype) -> TensorRef:
    if ref.dtype not in FLOATING or ref.dtype == dtype:
        return ref

    def read() -> np.ndarray:
        array = ref.read()
        with np.errstate(over="ignore"):
            result = arrays.converted(array, dtype)
        if dtype.itemsize <= array.dtype.itemsize and _overflowed(array, result):
            raise ArgumentError(
                f"Tensor {ref.name!r} has values that do not fit the new dtype.",
                received=f"dtype {dtype.name}",
                remedy="convert to bfloat16 or float32",
            )
        return result

    return dataclasses.replace(ref, dtype=dtype, read=read, blocks=None)


def _overflowed(before: np.ndarray, after: np.ndarray, block: int = 2**20) -> bool:
    """Return whether a finite value has become infinite; looks at a block at a time to use little memory."""
    old, new = before.reshape(-1), after.reshape(-1)
    starts = range(0, new.size, block)
    return any(
        not (finite := np.isfinite(new[s : s + block])).all() and bool(np.isfinite(old[s : s + block][~finite]).any())
        for s in starts
    )


def quantize(
    draft: Draft,
    codec: str = "int8",
    group_size: int | None = None,
    kept: Iterable[str] = (),
    embeddings: bool = True,
) -> Draft:
    """Return `draft` with its matrices packed, as `quantize_weights` of the live model makes them, bit for bit.

    Args:
        codec, group_size, kept, embeddings: those of `QuantizationConfig`, `kept` being `modules_to_not_convert`.

    Raises:
        ArgumentError: an impossible value, or there is nothing to pack. UnsupportedFormatError: an unknown
        architecture, or quantised weights.
    """
    said = QuantizationConfig(codec, group_size, [*kept] or None, embeddings).to_dict()
    schema, _ = _known(draft, "quantised")
    refuse_quantised(draft, list(draft.tensors), "quantised again")
    packing = packing_of(said)
    packed, tensors = packing.taken(schema, draft.tensors, encode=True) if packing else ({}, {})
    if not packed:
        raise ArgumentError(f"{draft.source} has nothing to pack.", expected="matrices of linear layers",
                            received="none that are not kept")  # fmt: skip
    config = {**(draft.config or {}), FIELD: said}
    return dataclasses.replace(draft, tensors=tensors, config=config, schema=applied(schema, packed))


def resize(
    draft: Draft,
    new_num_tokens: int | None = None,
    pad_to_multiple_of: int | None = None,
    mean_resizing: bool = True,
    seed: int = 0,
) -> Draft:
    """Return `draft` with another vocabulary, as `resize_token_embeddings` of the live model makes it, bit for bit.

    Raises:
        ArgumentError: an impossible size, or a model without vocabulary. UnsupportedFormatError: an unknown
        architecture, or quantised weights. ShapeMismatchError: a tensor has another shape than config.json says.
    """
    schema, config = _known(draft, "resized")
    return _operated(
        draft, surgery.plan_resize(schema, config, new_num_tokens, pad_to_multiple_of, mean_resizing, seed)
    )


def prune(draft: Draft, heads_to_prune: Mapping[int, Iterable[int]]) -> Draft:
    """Return `draft` without these attention heads, as `prune_heads` of the live model makes it, bit for bit.

    Raises:
        As `resize`; ArgumentError also for unknown layers or heads.
    """
    schema, config = _known(draft, "pruned")
    return _operated(draft, surgery.plan_prune(schema, config, heads_to_prune))


def _known(draft: Draft, done: str) -> tuple[Schema, PretrainedConfig]:
    config = None if draft.config is None else file_config(draft.config)
    if draft.schema is None or config is None:
        raise UnsupportedFormatError(
            f"{draft.source} cannot be {done}: its architecture is unknown.",
            expected="config.json with a model_type whose family is known",
            received="no config.json" if draft.config is None else repr(draft.config.get("model_type")),
            remedy="register the family with its schema (docs/new-family.md), and use triptych.tools.editing in Python",
        )
    return draft.schema, config


def _operated(draft: Draft, plan: surgery.Surgery) -> Draft:
    schema, config = _known(draft, "changed")
    refuse_quantised(draft, [edit.weight for edit in plan.edits], "changed")
    changed = {edit.weight for edit in plan.edits} & draft.tensors.keys()
    wrong = [name for name in changed if draft.tensors[name].shape != schema[name].shape]
    if wrong:
        raise ShapeMismatchError(
            f"{draft.source} holds weights of other shapes than config.json says.",
            expected=", ".join(f"{name} {schema[name].shape}" for name in wrong[:4]),
            received=", ".join(f"{name} {draft.tensors[name].shape}" for name in wrong[:4]),
            remedy="correct config.json",
        )
    edited = {name: _edited(schema, draft.tensors[name], plan) for name in changed}
    tensors = {name: edited.get(name, ref) for name, ref in draft.tensors.items()}
    config.update(plan.config_changes)
    written = json.loads(config.to_json_string(use_diff=False))
    values = {**(draft.config or {}), **{key: written[key] for key in plan.config_changes}}
    return dataclasses.replace(draft, tensors=tensors, config=values, schema=file_schema(values, tensors))


def refuse_quantised(draft: Draft, names: list[str], done: str) -> None:
    """Raise if tensors or weights of `names` are quantised, by the config and by what is stored beside them."""
    method = quantised_by(draft.config)
    if method is None:
        return
    tensors = draft.tensors
    weights: Collection[str] = draft.schema or ()
    strange = [n for n in names if n in tensors and (n not in weights or tensors[n].dtype not in FLOATING)]
    if coded := strange or with_scales(names, tensors, weights):
        raise UnsupportedFormatError(
            f"{draft.source} cannot be {done}: it is quantised with {method}.",
            expected="floating numbers, with no scales beside them",
            received=_listed(coded),
            remedy=REMEDY,
        )


def _edited(schema: Schema, ref: TensorRef, plan: surgery.Surgery) -> TensorRef:
    weight = schema[ref.name]
    shape = surgery.shape_after(weight, plan)
    return TensorRef(ref.name, ref.dtype, shape, lambda: surgery.apply_to(weight, ref.read(), plan))


def rename(draft: Draft, names: Mapping[str, str]) -> Draft:
    """Return `draft` with tensors under new canonical names, in their places.

    Raises:
        ArgumentError: a name is not there, or a new one is taken.
    """
    strange = [name for name in names if name not in draft.tensors]
    after = [names.get(name, name) for name in draft.tensors]
    if strange or len(set(after)) != len(after):
        raise ArgumentError("These tensors cannot be renamed.", expected="names that are there, to names that are free",
                            received=", ".join(strange or sorted(repeated(after))))  # fmt: skip
    renamed = {names.get(n, n): dataclasses.replace(r, name=names.get(n, n)) for n, r in draft.tensors.items()}
    return dataclasses.replace(draft, tensors=renamed)


def extract(draft: Draft, patterns: Iterable[str]) -> Draft:
    """Return `draft` with only the tensors whose canonical names match one of the shell-style `patterns`.

    Raises:
        ArgumentError: a pattern matches none.
    """
    wanted = _matching(draft, patterns)
    return dataclasses.replace(draft, tensors={n: ref for n, ref in draft.tensors.items() if n in wanted})


def drop(draft: Draft, patterns: Iterable[str]) -> Draft:
    """Return `draft` without the tensors whose canonical names match one of the shell-style `patterns`.

    Raises:
        ArgumentError: a pattern matches none, or all tensors would go.
    """
    gone = _matching(draft, patterns)
    if len(gone) == len(draft.tensors):
        raise ArgumentError("Nothing would be left.", received=f"{len(gone)} tensors to drop")
    return dataclasses.replace(draft, tensors={n: ref for n, ref in draft.tensors.items() if n not in gone})


def _matching(draft: Draft, patterns: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for pattern in patterns:
        matches = {name for name in draft.tensors if fnmatchcase(name, pattern)}
        if not matches:
            raise ArgumentError(
                "A pattern matches no tensor.",
                expected=f"names such as {_listed(draft.tensors)}",
                received=repr(pattern),
                remedy="list the names with: triptych inspect",
            )
        found |= matches
    return found


def write(
    draft: Draft,
    destination: Path,
    format: Format | None = None,
    *,
    max_shard_size: int | str = "5GB",
    manifest: bool = False,
    advance: Callable[[int], None] = lambda nbytes: None,
) -> list[Path]:
    """Write `draft` into the folder `destination` in one atomic step and return its weight files.

    Tokenizer files and the like (`COMPANIONS`) are copied beside them; those of a GGUF file's tokenizer are made of its
    metadata.

    Args:
        format: None for that of the source.
        manifest: as of `save_checkpoint`.
        advance: called after each tensor with its number of bytes.

    Raises:
        ArgumentError: `destination` is the source. UnsupportedFormatError: the format cannot hold a name or dtype.
        SaveError, CorruptCheckpointError: the destination is then what it was before.
    """
    _check_apart(draft.source, destination)
    chosen = format or draft.format
    refs = list(draft.tensors.values())
    if chosen.flavour != "pt":
        refs = _storable(draft, refs, chosen)
    beside = [draft.source / name for name in COMPANIONS] if draft.source.is_dir() else []
    beside = [file for file in beside if file.is_file()]
    for file in beside:
        check_inside(draft.source, file)
    return save_checkpoint(
        destination,
        [_counted(ref, advance) for ref in refs],
        None if draft.config is None else json_text(dict(draft.config)),
        max_shard_size=max_shard_size,
        format=chosen,
        scope=tf_scope(_stem(draft)),
        also={**draft.described, **{file.name: file.read_bytes() for file in beside}},
        manifest=manifest,
    )


def _storable(draft: Draft, refs: list[TensorRef], format: Format) -> list[TensorRef]:
    if draft.schema is None:
        raise UnsupportedFormatError(
            f"{draft.source} cannot be written as {format.name}: its architecture is unknown.",
            expected="config.json with a model_type whose family is known",
            received="no config.json" if draft.config is None else repr(draft.config.get("model_type")),
            remedy="write safetensors or bin, whose names are those of the tensors",
        )
    ignorable = draft.schema.ignorable
    return stored([ref for ref in refs if ref.name not in ignorable], draft.schema, format)


def _stem(draft: Draft) -> str:
    names = (draft.config or {}).get("architectures")
    return str(names[0]) if isinstance(names, list) and names else "Model"


def _check_apart(source: Path, destination: Path) -> None:
    if source.exists() and destination.exists() and source.samefile(destination):
        raise ArgumentError(
            "The destination is the source, which is never changed.",
            expected="another folder",
            received=str(destination),
            remedy="name a new folder",
        )


def _counted(ref: TensorRef, advance: Callable[[int], None]) -> TensorRef:
    def read() -> np.ndarray:
        array = ref.read()
        advance(ref.nbytes)
        return array

    return dataclasses.replace(ref, read=read)
