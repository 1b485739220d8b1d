"""The contract of the base classes of transformers 4, row by row: what triptych does, and a probe that shows it.

`rows.tsv` holds the rows as they were first looked at. The modules `rows_*.py` beside this one say what is true now:

    @row("2.12", pt="Y", note="...")
    def torchscript(backend, folder): ...       # fails unless the row is in that state

A probe is called with a `Backend` and an empty folder, once for each framework whose state it gives; rows of what is no
framework's own have theirs in the column pt. `state` gives a state that no probe can show, with its reason.
`python conformance/contract/walk.py` writes `docs/contract.md`.
"""

from __future__ import annotations

import csv
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs/contract.md"
FRAMEWORKS = ("pt", "tf", "flax")
STATES = {"Y": "works", "P": "partly", "N": "absent", "R": "refused, with an error made for it", "-": "no such row"}
Probe = Callable[[Any, Path], None]


@dataclass(frozen=True)
class Row:
    """One row of the contract: its number, what it is about, the state in each framework, and why."""

    number: str
    what: str
    states: dict[str, str]
    note: str = ""
    probes: dict[str, tuple[Probe, ...]] = field(default_factory=dict)


def _first_look() -> dict[str, Row]:
    with (HERE / "rows.tsv").open(newline="") as file:
        table = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return {r["row"]: Row(r["row"], r["what"], {f: r[f] for f in FRAMEWORKS}, r["note"]) for r in table}


ROWS = _first_look()
_said: dict[tuple[str, str], str] = {}


def state(number: str, note: str | None = None, probe: Probe | None = None, **states: str) -> None:
    """Say that row `number` is in these states by framework; an empty `note` takes the old one away."""
    old = ROWS[number]
    for framework, value in states.items():
        if framework not in FRAMEWORKS or value not in STATES or _said.setdefault((number, framework), value) != value:
            raise ValueError(f"row {number}: {framework}={value}, and {_said.get((number, framework))} elsewhere")
    more = {f: (*old.probes.get(f, ()), probe) for f in states} if probe is not None else {}
    probes = {**old.probes, **more}
    ROWS[number] = replace(old, states={**old.states, **states}, note=old.note if note is None else note, probes=probes)


def row(number: str, note: str | None = "", **states: str) -> Callable[[Probe], Probe]:
    """Say the state of a row, and show it by the function below, called with (`Backend`, an empty folder)."""

    def show(probe: Probe) -> Probe:
        state(number, note, probe, **states)
        return probe

    return show


def walked() -> dict[str, Row]:
    """Return every row, as the modules beside this one say."""
    for path in sorted(HERE.glob("rows_*.py")):
        importlib.import_module(path.stem)
    return ROWS


def rendered(rows: dict[str, Row]) -> str:
    """Return the text of `docs/contract.md`."""
    lines = [
        "# The contract",
        "",
        "What the base classes of transformers 4 did, row by row, and what triptych does:",
        ", ".join(f"{short} {long}" for short, long in STATES.items()) + ". Rows of what is no framework's own have",
        "their state in the first column. A state with a `*` is shown by a probe, which `conformance/test_contract.py`",
        "runs. Written by `python conformance/contract/walk.py`.",
    ]
    section = ""
    for each in rows.values():
        if (here := each.number.rpartition(".")[0]) != section:
            section = here
            lines += ["", f"## {section}", "", "| row | what | pt | tf | flax | |", "|---|---|---|---|---|---|"]
        shown = [value + "*" * (name in each.probes) for name, value in each.states.items()]
        cells = [each.number, each.what, *shown, each.note]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.modules.setdefault("walk", sys.modules[__name__])
    DOCUMENT.write_text(rendered(walked()))
