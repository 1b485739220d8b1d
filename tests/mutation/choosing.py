"""Which faults are put in: as many of each kind and of each area as there are, spread over the files, by a seed."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

from mutation.faults import KINDS, Fault, faults_of

AREAS: dict[str, tuple[str, ...]] = {
    "declarations": ("core/triptych/families", "core/triptych/nn", "core/triptych/forward"),
    "make": ("pt/triptych_pt/make.py", "tf/triptych_tf/make.py", "flax/triptych_flax/make.py"),
    "ops": ("pt/triptych_pt/ops.py", "tf/triptych_tf/ops.py", "flax/triptych_flax/ops.py"),
    "readers": (
        "core/triptych/formats",
        "core/triptych/checkpoints",
        "core/triptych/weights/layouts.py",
        "core/triptych/tensors",
    ),
}
EQUIVALENT = Path(__file__).with_name("equivalent.tsv")


def area_of(path: str) -> str:
    """Return the area that a file belongs to."""
    return next(area for area, places in AREAS.items() if any(Path(path).is_relative_to(place) for place in places))


def all_faults(root: Path) -> list[Fault]:
    """Return every fault that can be put into the areas of the source tree `root`."""
    paths = [path for places in AREAS.values() for place in places for path in _files(root / place)]
    return [fault for path in paths for fault in faults_of(path.relative_to(root).as_posix(), path.read_bytes())]


def _files(place: Path) -> list[Path]:
    return sorted(place.rglob("*.py")) if place.is_dir() else [place]


def equivalents() -> dict[str, str]:
    """Return why a fault changes nothing that anyone was promised, by its key: see the head of the table."""
    rows = [line.split("\t") for line in EQUIVALENT.read_text().splitlines() if line and line[0] != "#"]
    return {"\t".join(row[:6]): row[6] for row in rows}


def shown(key: str) -> str:
    """Return a key as it stands in a table, in one line."""
    return key.replace("\\", "\\\\").replace("\n", "\\n")


def chosen(root: Path, count: int, seed: int) -> list[Fault]:
    """Return `count` of the faults of the source tree `root`, at most one on a line."""
    out = equivalents()
    pools: dict[tuple[str, str], list[Fault]] = {}
    for fault in sorted(all_faults(root), key=lambda fault: _rank(fault, seed)):
        if shown(fault.key) not in out:
            pools.setdefault((area_of(fault.path), fault.kind), []).append(fault)
    pools = {cell: _in_turns(pool) for cell, pool in pools.items()}
    cells = [(area, kind) for kind in KINDS for area in AREAS if (area, kind) in pools]
    taken: list[Fault] = []
    lines: set[tuple[str, int]] = set()
    of_kind: Counter[str] = Counter()
    of_cell: Counter[tuple[str, str]] = Counter()
    while len(taken) < count and any(pools.values()):
        cell = min((c for c in cells if pools[c]), key=lambda c: (of_kind[c[1]], of_cell[c], cells.index(c)))
        fault = pools[cell].pop(0)
        if (fault.path, fault.line) not in lines and fault.compiles((root / fault.path).read_bytes()):
            lines.add((fault.path, fault.line))
            taken.append(fault)
            of_kind[cell[1]] += 1
            of_cell[cell] += 1
    return sorted(taken, key=lambda fault: (list(AREAS).index(area_of(fault.path)), fault.path, fault.start))


def _rank(fault: Fault, seed: int) -> str:
    return hashlib.sha256(f"{seed}\t{fault.key}".encode()).hexdigest()


def _in_turns(faults: list[Fault]) -> list[Fault]:
    """Return the first of each function, then the second of each, and so on."""
    turn: Counter[tuple[str, str]] = Counter()
    placed = []
    for fault in faults:
        place = fault.path, fault.where
        placed.append((turn[place], len(placed), fault))
        turn[place] += 1
    return [fault for *_, fault in sorted(placed, key=lambda one: one[:2])]
