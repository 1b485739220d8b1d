"""How tensors are split over the files of a checkpoint, and what these are called."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from triptych.errors import ArgumentError
from triptych.formats.kinds import Format
from triptych.tensors.ref import TensorRef, check_to_write


@dataclass(frozen=True)
class Shard:
    """The tensors of one file."""

    tensors: tuple[TensorRef, ...]

    @property
    def nbytes(self) -> int:
        return sum(ref.nbytes for ref in self.tensors)


def plan_shards(tensors: Iterable[TensorRef], max_shard_size: int | str) -> tuple[Shard, ...]:
    """Split `tensors`, in order, into shards of at most `max_shard_size` bytes.

    A tensor that is larger than the limit gets a shard of its own. Without tensors there is one empty shard.

    Raises:
        ArgumentError: no size. SaveError: a tensor that no file can hold.
    """
    limit = parse_size(max_shard_size)
    shards: list[list[TensorRef]] = [[]]
    used = 0
    for ref in tensors:
        check_to_write(ref)
        if shards[-1] and used + ref.nbytes > limit:
            shards.append([])
            used = 0
        shards[-1].append(ref)
        used += ref.nbytes
    return tuple(Shard(tuple(shard)) for shard in shards)


def with_free_names(folder: Path, shards: tuple[Shard, ...], format: Format, variant: str | None) -> tuple[Shard, ...]:
    """Return `shards`, or the same tensors in one or two more, so that their conventional names are not in use.

    Names of the old checkpoint are not given to the new one at once: a reader that knows no save ids, and has read half
    of the old shards, would go on with new ones. As long as a shard can be divided, another number of them will do.
    """
    more: tuple[Shard, ...] | None = shards
    for _ in range(3):
        if more is None or len(more) == 1:
            break
        if not any(os.path.lexists(folder / name) for name in conventional_names(len(more), format, variant)):
            return more
        more = _one_more(more)
    return shards


def _one_more(shards: tuple[Shard, ...]) -> tuple[Shard, ...] | None:
    """Return `shards` with the largest that has several tensors cut in the middle; None if there is none."""
    largest = max(range(len(shards)), key=lambda i: (len(shards[i].tensors) > 1, shards[i].nbytes))
    tensors = shards[largest].tensors
    if len(tensors) == 1:
        return None
    half = shards[largest].nbytes / 2
    cut = next(i for i in range(1, len(tensors)) if i == len(tensors) - 1 or Shard(tensors[: i + 1]).nbytes > half)
    return (*shards[:largest], Shard(tensors[:cut]), Shard(tensors[cut:]), *shards[largest + 1 :])


def conventional_names(count: int, format: Format, variant: str | None) -> list[str]:
    """Return the names by which every library calls `count` shards."""
    stem = format.names(variant)[0].removesuffix(format.suffix)
    return [f"{stem}-{k:05d}-of-{count:05d}{format.suffix}" for k in range(1, count + 1)]


def parse_size(value: int | str, argument: str = "max_shard_size") -> int:
    """Return a number of bytes from `value`: an int, or text such as "5GB" (10^9), "1.5GiB" (2^30), "200MB", or "8Gb"
    (10^9 bytes: bits). `argument` is how an error calls it.

    Raises:
        ArgumentError: no size, or not positive.
    """
    binary = {"TIB": 2**40, "GIB": 2**30, "MIB": 2**20, "KIB": 2**10}
    units = binary | {"TB": 10**12, "GB": 10**9, "MB": 10**6, "KB": 10**3}
    try:
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
        text = str(value).strip()
        unit = next(u for u in units if text.upper().endswith(u))
        bits = text.endswith("b")
        size = int(float(text[: -len(unit)]) * units[unit] / (8 if bits else 1))
        if size > 0 and not (bits and unit in binary):
            return size
    except (StopIteration, ValueError, OverflowError):
        pass
    raise ArgumentError(
        f"{argument} is no size.", expected='bytes or text such as "5GB" or "200MiB"', received=repr(value)
    )
