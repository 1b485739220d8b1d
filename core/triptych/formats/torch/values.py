"""What a pickle written by torch.save may name, and the inert values that are built in its place.

Nothing of torch is imported or called. A name stands for a function of this file, or only for itself; what no tensor
needs (sets, devices, layouts, ...) becomes `OPAQUE`. Source: torch 2.13, `torch/_utils.py` (`_rebuild_*`, for the order
of the arguments) and `torch/serialization.py`; names of storages since torch 0.1.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from triptych.errors import TriptychError, UnsafeCheckpointError, UnsupportedFormatError
from triptych.tensors.dtypes import SAFETENSORS
from triptych.tensors.limits import MAX_NAME, MAX_RANK


@dataclass(frozen=True, slots=True)
class Name:
    """A class, function or dtype that a pickle names. It is never imported."""

    module: str
    name: str


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of `count` elements of `dtype` under `key`; `view` is (first element, elements) of a part of it."""

    key: str
    dtype: np.dtype
    count: int
    view: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class TorchTensor:
    """A tensor over a storage; offset and strides count elements. Bounds are not checked yet."""

    storage: Storage
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Opaque:
    """A value that no tensor needs and nobody can look into."""


OPAQUE = _Opaque()

NOTES = ".data/"
"""Where an archive has records beside its tensors; torch keeps the id of a serialization there."""
KINDS = {
    "Double": "F64",
    "Float": "F32",
    "Half": "F16",
    "BFloat16": "BF16",
    "Long": "I64",
    "Int": "I32",
    "Short": "I16",
    "Char": "I8",
    "Byte": "U8",
    "Bool": "BOOL",
    "ComplexFloat": "C64",
}
_STORAGES = {f"{kind}Storage": SAFETENSORS[name] for kind, name in KINDS.items()}
_TENSORS = frozenset(f"{kind}Tensor" for kind in KINDS)
DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
    "complex64": "C64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e8m0fnu": "F8_E8M0",
}
_UNSUPPORTED = re.compile(r"_rebuild_\w+|\w+(Storage|Tensor)|q?u?(int|float|complex|bits)\w+")


def storage_dtype(value: object) -> np.dtype:
    """Return the dtype of a storage type; raises ValueError for anything else. Untyped storages count bytes."""
    if isinstance(value, Name) and value.name == "UntypedStorage":
        return SAFETENSORS["U8"]
    if isinstance(value, Name) and value.name in _STORAGES:
        return _STORAGES[value.name]
    raise ValueError("a storage without a storage type")


def is_natural(value: object) -> bool:
    return type(value) is int and value >= 0


def dimensions(value: object) -> tuple[int, ...]:
    """Return `value` as a tuple of at most 32 non-negative integers; raises ValueError for anything else."""
    if not isinstance(value, tuple) or len(value) > MAX_RANK or not all(map(is_natural, value)):
        raise ValueError(f"a shape or strides that are not up to {MAX_RANK} non-negative integers")
    return value


def make_tensor(storage: object, dtype: np.dtype | None, offset: object, shape: object, strides: object) -> TorchTensor:
    """Return a tensor over `storage`, with its dtype if `dtype` is None. Raises ValueError for wrong kinds."""
    shape, strides = dimensions(shape), dimensions(strides)
    if not isinstance(storage, Storage) or type(offset) is not int or offset < 0 or len(shape) != len(strides):
        raise ValueError("a tensor without storage, offset or as many strides as axes")
    return TorchTensor(storage, storage.dtype if dtype is None else dtype, offset, shape, strides)


def _tensor(*args: object) -> TorchTensor:
    storage, offset, shape, strides = args
    return make_tensor(storage, None, offset, shape, strides)


def _tensor_v2(*args: object) -> TorchTensor:
    (storage, offset, shape, strides, _, _), rest = args[:6], args[6:]
    _no_flags(rest)
    return make_tensor(storage, None, offset, shape, strides)


def _tensor_v3(*args: object) -> TorchTensor:
    (storage, offset, shape, strides, _, _, dtype), rest = args[:7], args[7:]
    _no_flags(rest)
    if not isinstance(dtype, Name) or dtype.module != "torch" or dtype.name not in DTYPES:
        raise ValueError("a tensor without dtype")
    return make_tensor(storage, SAFETENSORS[DTYPES[dtype.name]], offset, shape, strides)


def _no_flags(rest: tuple[object, ...]) -> None:
    """Refuse the conjugate and negative bits, by which the stored values are not the tensor's values."""
    if len(rest) > 1 or any(flags is not None and flags != {} for flags in rest):
        raise UnsupportedFormatError(
            "A tensor is stored as the conjugate or negative of its values.",
            expected="plain values",
            remedy="save it again after tensor.resolve_conj() and tensor.resolve_neg()",
        )


def _parameter(*args: object) -> TorchTensor:
    """requires_grad, hooks and Python attributes are no part of the values."""
    if not 1 <= len(args) <= 4 or not isinstance(args[0], TorchTensor):
        raise ValueError("a parameter that holds no tensor")
    return args[0]


def _size(*args: object) -> tuple[int, ...]:
    (lengths,) = args
    return dimensions(tuple(lengths) if isinstance(lengths, list) else lengths)


def _ordered_dict(*args: object) -> dict[object, object]:
    """Python 2 passes the items as one list of lists; Python 3 sets them afterwards."""
    result: dict[object, object] = {}
    pairs = args[0] if len(args) == 1 else []
    if len(args) > 1 or not isinstance(pairs, list):
        raise ValueError("an OrderedDict that is not made of a list of pairs")
    for pair in pairs:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise ValueError("an OrderedDict that is not made of pairs")
        set_item(result, pair[0], pair[1])
    return result


def set_item(target: dict[object, object], key: object, value: object) -> None:
    """Set an item whose key is new and a scalar; raises ValueError otherwise.

    Keys that are containers are refused because hashing nested ones recurses in C without a limit, integers beyond 64
    bits because they can be made to have equal hashes.
    """
    if type(key) not in (str, int, float, bool, bytes, type(None)) or (isinstance(key, int) and abs(key) >= 2**64):
        raise ValueError("a dict key that is neither text nor a number")
    if isinstance(key, (str, bytes)) and len(key) > MAX_NAME:
        raise ValueError(f"a dict key of {len(key)} characters")
    if key in target:
        raise ValueError(f"the dict key {key!r:.80} twice")
    target[key] = value


def _opaque(*args: object) -> _Opaque:
    return OPAQUE


CALLS: dict[tuple[str, str], Callable[..., object]] = {
    ("collections", "OrderedDict"): _ordered_dict,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor_v2,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_v3,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch.nn.parameter", "Parameter"): _parameter,
    ("torch", "Size"): _size,
    ("torch", "device"): _opaque,
    ("torch.serialization", "_get_layout"): _opaque,
    ("_codecs", "encode"): _opaque,  # how protocol 2 writes bytes
}
_BUILTINS = ("set", "frozenset", "complex", "bytearray", "bytes")
CALLS |= {(module, name): _opaque for module in ("__builtin__", "builtins") for name in _BUILTINS}
"""What a pickle may call; each raises ValueError for arguments that torch.save does not write."""

_ALLOWED = frozenset(
    [*CALLS, ("torch", "UntypedStorage"), ("torch.storage", "UntypedStorage")]
    + [("torch", name) for name in DTYPES]
    + [(module, name) for module in ("torch", "torch.cuda") for name in (*_STORAGES, *_TENSORS)]
)


def resolve_name(module: str, name: str, source: str) -> Name:
    """Return a stand-in for an allowed name.

    Raises:
        UnsupportedFormatError: a kind of tensor that is not read (sparse, quantised, complex128, ...).
        UnsafeCheckpointError: any other name.
    """
    if (module, name) in _ALLOWED:
        return Name(module, name)
    full = ascii(f"{module}.{name}"[:120])
    error: type[TriptychError] = UnsafeCheckpointError
    problem = "asks for code that reading weights never needs"
    remedy = "do not use this file; if you trust its origin, save its state dict as safetensors with what wrote it"
    if module.split(".")[0] == "torch" and _UNSUPPORTED.fullmatch(name):
        error, problem = UnsupportedFormatError, "holds a kind of tensor that is not read"
        remedy = "convert the tensor to a dense one of a usual dtype with torch, and save it again"
    expected = "dense tensors, containers, text and numbers"
    raise error(f"{source} {problem}.", expected=expected, received=full, remedy=remedy)
