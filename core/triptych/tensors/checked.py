"""Tensors whose bytes are compared with a digest when they are read."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from triptych.errors import IntegrityError
from triptych.tensors.ref import TensorRef


def digest_of(array: np.ndarray) -> str:
    """Return the SHA-256, in hexadecimal, of the elements of `array` in C order and little-endian bytes."""
    array = np.ascontiguousarray(array)
    if sys.byteorder == "big":
        array = array.byteswap()
    return hashlib.sha256(array.reshape(-1).view(np.uint8).data).hexdigest()


@dataclass(frozen=True)
class CheckedReader:
    """Reads a tensor into memory of its own and returns it if that has the digest `expected`: what is hashed is what
    the caller gets, whatever becomes of the file.

    - `read`: reads it; not as a view of a mapped file, which can still change.
    """

    read: Callable[[], np.ndarray]
    expected: str
    name: str
    source: str

    def __call__(self) -> np.ndarray:
        array = self.read()
        if (received := digest_of(array)) != self.expected:
            raise IntegrityError(
                f"Tensor {self.name!r} of {self.source} is not the one that the manifest records.",
                expected=f"SHA-256 {self.expected}",
                received=received,
                remedy="`triptych verify` names everything that differs; get the checkpoint again",
            )
        return array


def checked(ref: TensorRef, expected: str, source: str) -> TensorRef:
    """Return `ref`, which reads into memory of its own, so that reading compares it with `expected`."""
    return dataclasses.replace(ref, read=CheckedReader(ref.read, expected, ref.name, source), span=None, blocks=None)
