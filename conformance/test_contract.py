"""Every row of the contract that has a probe is in the state that `docs/contract.md` says."""

from __future__ import annotations

from pathlib import Path

import pytest

import walk
from triptych_conformance import BACKENDS

ROWS = walk.walked()
PROBED = [
    (number, framework, probe)
    for number, row in ROWS.items()
    for framework in row.probes
    for probe in row.probes[framework]
]


@pytest.mark.parametrize("number, framework, probe", PROBED, ids=lambda value: getattr(value, "__name__", value))
def test_row(number: str, framework: str, probe: walk.Probe, tmp_path: Path) -> None:
    probe(next(one for one in BACKENDS if one.name == framework), tmp_path)


def test_the_document_says_what_the_probes_show() -> None:
    assert walk.DOCUMENT.read_text() == walk.rendered(ROWS)
