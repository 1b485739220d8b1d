"""Wrong files are read right or refused: a few for each reader, the same ones in each run; many by `make fuzz`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fuzzing import READERS, Finding, Reader

INPUTS = 150


@pytest.mark.parametrize("name", READERS)
def test_wrong_files_are_read_right_or_refused(name: str, tmp_path: Path) -> None:
    reader, rng = READERS[name], random.Random(name)
    assert reader.examine(reader.right, tmp_path) == "read"
    outcomes = {reader.examine(reader.mutate(rng), tmp_path) for _ in range(INPUTS)}
    assert len(outcomes) > 1


def test_what_is_found(tmp_path: Path) -> None:
    def fail(folder: Path) -> dict[str, int]:
        raise KeyError("of the reader")

    with pytest.raises(Finding, match="KeyError"):
        Reader("bad", "file", fail, lambda folder: b"").examine(b"", tmp_path)
