"""GGUF models under their canonical names: a lazy reader that dequantises one tensor at a time.

The files of llama.cpp hold the same model as a Hugging Face folder, with other names, other row orders in the
projections of queries and keys, and metadata instead of a config.json. All three are turned back here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from triptych.errors import InconsistentCheckpointError, ShapeMismatchError, UnsupportedFormatError
from triptych.files.regular import OwnedBytes
from triptych.formats.gguf import types
from triptych.formats.gguf.families import FAMILIES, ROPE_FREQS, Family, Keys, Target, llama3_scaling
from triptych.formats.gguf.header import GgufHeader, TensorInfo, read_header
from triptych.tensors import arrays
from triptych.tensors.ref import StoredBlocks, TensorRef


@dataclass(frozen=True)
class GgufFile:
    """An opened model: references by canonical name, the metadata as it stands in the file, and a config.json."""

    path: Path
    tensors: dict[str, TensorRef]
    metadata: dict[str, Any]
    config: dict[str, Any]


def open_gguf(path: Path) -> GgufFile:
    """Read and check everything in `path` but its tensors.

    F32, F16, BF16 and F64 tensors are read in that dtype, quantised ones as float32. Architectures: llama (also of
    Mistral models), qwen2, qwen3, gpt2.

    Raises:
        MissingFileError, TruncatedCheckpointError, CorruptCheckpointError, LimitError: no whole GGUF file.
        UnsupportedFormatError: an architecture, setting, tensor or quantisation that is not known.
        InconsistentCheckpointError, ShapeMismatchError, ConfigError: metadata and tensors do not make a model.
        MissingBackendError: quantised tensors, and the package gguf is not installed.
    """
    header = read_header(path)
    architecture, family = _family(header)
    keys = Keys(header, architecture)
    present = frozenset(flag for flag, name in family.flags.items() if name in header.tensors)
    config, lengths = family.describe(keys, present)
    keys.check_all_asked()
    layers = config.get("num_hidden_layers") or config["n_layer"]
    targets = _targets(family, present, min(layers, len(header.tensors) + 1))
    _check_names(header, targets)
    tensors = {}
    for name, target in targets.items():
        shape = tuple(lengths[axis] for axis in target.axes)
        tensors[target.name] = _reference(header, header.tensors[name], target, shape, config)
    if ROPE_FREQS in header.tensors:
        config["rope_scaling"] = _scaling(header, config, lengths)
    return GgufFile(path, tensors, header.metadata, config)


def _family(header: GgufHeader) -> tuple[str, Family]:
    found = [header.metadata.get(key) for key in ("general.architecture", "general.type", "split.count")]
    architecture, kind, files = (value if isinstance(value, (str, int)) else None for value in found)
    family = FAMILIES.get(str(architecture))
    if family is None or kind not in (None, "model") or files not in (None, 0, 1):
        raise UnsupportedFormatError(
            f"{header.path} holds no model that can be read.",
            expected=f"a whole model of architecture {', '.join(FAMILIES)}",
            received=f"a {kind or 'file'!r:.40} of architecture {architecture!r:.40}, in {files or 1} files",
            remedy="merge split files with llama-gguf-split --merge; use the original model of other architectures",
        )
    if "token_embd.weight" not in header.tensors:
        raise InconsistentCheckpointError(f"{header.path} has no tensor 'token_embd.weight'.")
    return str(architecture), family


def _targets(family: Family, present: frozenset[str], layers: int) -> dict[str, Target]:
    """Return the target of every tensor that the model must have, by its name in the file."""
    targets = {name: target for name, target in family.outer.items() if not target.flag or target.flag in present}
    for number in range(layers):
        for name, target in family.layer.items():
            if not target.flag or target.flag in present:
                renamed = dataclasses.replace(target, name=target.name.format(number))
                targets[f"blk.{number}.{name}"] = renamed
    return targets


def _check_names(header: GgufHeader, targets: dict[str, Target]) -> None:
    known = {ROPE_FREQS} if header.metadata["general.architecture"] == "llama" else set()
    strangers = sorted(header.tensors.keys() - targets.keys() - known)
    if strangers:
        raise UnsupportedFormatError(
            f"{header.path} has tensors that are not known.",
            expected="the tensors of the model that its metadata describes",
            received=", ".join(map(repr, strangers[:6])),
            remedy="convert the original model instead of its GGUF file",
        )
    missing = sorted(targets.keys() - header.tensors.keys())
    if missing:
        raise InconsistentCheckpointError(
            f"{header.path} lacks tensors that its metadata calls for.",
            expected=f"{len(targets)} tensors",
            received=f"{len(header.tensors)}, without {', '.join(missing[:6])}",
        )


def _reference(
    header: GgufHeader, info: TensorInfo, target: Target, shape: tuple[int, ...], config: dict[str, Any]
) -> TensorRef:
    stored = shape[::-1] if target.order == "transposed" else shape
    if info.shape != stored:
        raise ShapeMismatchError(
            f"Tensor {info.name!r} of {header.path} has another shape than its metadata says.",
            expected=str(stored),
            received=str(info.shape),
        )
    heads = {"q": config.get("num_attention_heads", 0), "kv": config.get("num_key_value_heads", 0)}.get(target.order, 0)
    read = _Reader(header.source, info, _reorder(target.order, heads))
    return TensorRef(target.name, types.dtype_of(info.kind), shape, read, blocks=_blocks(read, target.order, heads))


@dataclass(frozen=True)
class _Reader:
    source: OwnedBytes
    info: TensorInfo
    reorder: Callable[[np.ndarray], np.ndarray] | None

    def __call__(self) -> np.ndarray:
        data = self.source.bytes_at(self.info.start, self.info.nbytes)
        array = types.decoded(data, self.info.kind, self.info.shape)
        return array if self.reorder is None else self.reorder(array)


def _blocks(read: _Reader, order: str, heads: int) -> StoredBlocks | None:
    """Return the rows of a quantised matrix as they stand in the file, in the order of Hugging Face's.

    A block is of one row, so that rows change their places as they are; one that is transposed stays as it is.
    """
    info, source = read.info, read.source
    if info.kind in types.PLAIN or len(info.shape) != 2:
        return None

    def rows() -> np.ndarray:
        stored = source.bytes_at(info.start, info.nbytes).reshape(info.shape[0], -1)
        return half_split(stored, heads) if heads else stored

    return StoredBlocks(info.kind, rows)


def _reorder(order: str, heads: int) -> Callable[[np.ndarray], np.ndarray] | None:
    if order == "transposed":
        return arrays.transposed
    return (lambda array: half_split(array, heads)) if heads else None


def half_split(array: np.ndarray, heads: int) -> np.ndarray:
    """Return `array` [heads * size, ...] with the rows of each head in the order of Hugging Face's rotary embedding.

    There, row i turns together with row i + size / 2; llama.cpp's files have the two next to each other.
    """
    pairs = array.reshape(heads, -1, 2, *array.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(array.shape)


def _scaling(header: GgufHeader, config: dict[str, Any], lengths: dict[str, int]) -> dict[str, Any] | None:
    info = header.tensors[ROPE_FREQS]
    if info.shape != (lengths["rope"],) or info.kind != 0 or config["rope_scaling"] is not None:
        raise UnsupportedFormatError(
            f"{header.path} has rotary frequencies that cannot be expressed in a config.",
            expected=f"{ROPE_FREQS!r} of type F32 and shape {(lengths['rope'],)}, and no other scaling",
            received=f"type {info.kind}, shape {info.shape}, and {config['rope_scaling']}",
        )
    factors = _Reader(header.source, info, None)()
    return llama3_scaling(factors, config["rope_theta"], config["head_dim"])
