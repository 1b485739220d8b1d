"""What is done for each name in a file looks at that name and not at all others: counted, not timed."""

from __future__ import annotations

import dataclasses
import re
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from triptych.checkpoints.legacy_generic import generic_canonical
from triptych.errors import ArgumentError, CorruptCheckpointError, LimitError, MissingFileError
from triptych.files.json import _no_duplicates
from triptych.formats.hdf5.file import _layers, open_hdf5
from triptych.formats.hdf5.walk import Contents
from triptych.formats.kinds import SAFETENSORS
from triptych.hub.snapshot import HubOptions, Snapshot
from triptych.tensors.ref import TensorRef
from triptych.tools import editing, inspecting

COUNT = 2000


class Name(str):
    """A text that counts how often one is compared with another one."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Name.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


class Unsearched(tuple):
    """A list of names that is too long to be searched for each of them."""

    def __contains__(self, name: object) -> bool:
        raise AssertionError(f"searched for {name}")


class Siblings(Unsearched):
    """As `Unsearched`, the other way round: a set that can be asked, and is too large to go through each time."""

    def __contains__(self, name: object) -> bool:
        return tuple.__contains__(self, name)

    def __iter__(self) -> Iterator[Any]:
        raise AssertionError("gone through")


def renamed(names: list[str]) -> object:
    refs = {name: TensorRef.of(name, np.zeros(1)) for name in names[:-1]}
    draft = editing.Draft(Path("x"), refs, None, None, SAFETENSORS)
    return editing.rename(draft, {names[0]: names[1]})


TWICE: dict[str, tuple[Callable[[list[str]], object], type[Exception]]] = {
    "json": (lambda names: _no_duplicates([(name, 1) for name in names]), ValueError),
    "hdf5": (
        lambda names: _layers(Contents({}, dict.fromkeys(names, []), names, frozenset(), {}), Path("tf_model.h5")),
        CorruptCheckpointError,
    ),
    "rename": (renamed, ArgumentError),
}


@pytest.mark.parametrize("place", TWICE)
def test_a_name_that_is_there_twice_is_found_in_one_pass(place: str) -> None:
    read, error = TWICE[place]
    names: list[str] = [Name(f"n{number}") for number in range(COUNT)] + [Name(f"n{COUNT - 1}")]
    Name.compared = 0
    with pytest.raises(error, match=rf"\bn{1 if place == 'rename' else COUNT - 1}\b"):
        read(names)
    assert Name.compared < 10 * COUNT


def test_layers_of_many_tensors_are_not_gone_through_for_each() -> None:
    weight = generic_canonical("a/kernel:0", (2, 3), Siblings(["kernel", *map(str, range(COUNT))]), "tf")
    assert weight.canonical == "a.weight"
    with pytest.raises(Exception, match="kernel and gamma in one layer"):
        generic_canonical("a/kernel:0", (2, 3), Siblings(["kernel", "gamma"]), "tf")
    with pytest.raises(Exception, match="kernel and weight in one layer"):
        generic_canonical("a/kernel", (2, 3), Siblings(["kernel", "weight"]), "flax")


def test_notes_of_tensors_are_not_searched_for_each(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = golden / "bert-mlm/pt-safetensors"
    source = inspecting.open_source(path)
    first, second, *_ = source.tensors
    noted = dataclasses.replace(source, generic=Unsearched([first]), unknown=Unsearched([second]))
    monkeypatch.setattr(inspecting, "open_source", lambda *_: noted)
    notes = {entry.name: entry.note for entry in inspecting.inspect(path).entries}
    assert notes[first] == "named by the rules of layers alone" and notes[second] == "no rule knows this name"


def test_files_of_a_repository_are_not_searched_for_each(tmp_path: Path) -> None:
    snapshot = Snapshot("org/model", "0" * 40, Unsearched(["a"]), tmp_path, HubOptions())
    with pytest.raises(MissingFileError, match="has no b"):
        snapshot.fetch(["b"])


def test_names_that_share_the_bytes_of_one_long_name_take_no_memory(tmp_path: Path) -> None:
    path, long, count = tmp_path / "tf_model.h5", 50_000, 500
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([b"w"])
        file["w"] = np.ones(3, np.float32)
        file.create_group(f"g/{'a' * long}")
        for number in range(count):
            file[f"g/b{number}"] = np.float32(1)
    data = bytearray(path.read_bytes())
    headers = [struct.unpack_from("<Q8xQ", data, match.start() + 8) for match in re.finditer(b"HEAP", data)]
    heap = next(start for size, start in headers if start <= data.index(b"a" * long) < start + size)
    tables = [(match.start() + 8, data[match.start() + 6]) for match in re.finditer(b"SNOD", data)]
    links = [start + 40 * number for start, size in tables for number in range(size)]
    short = [at for at in links if data[heap + int.from_bytes(data[at : at + 8], "little")] == ord("b")]
    assert len(short) == count
    for number, at in enumerate(short):
        struct.pack_into("<Q", data, at, data.index(b"a" * long) - heap + number + 1)
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(LimitError, match="too long a name"):
            open_hdf5(path)
        assert tracemalloc.get_traced_memory()[1] < 2 * len(data)
    finally:
        tracemalloc.stop()
