"""A report as text, JSON, JUnit XML and one self-contained HTML page."""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import math
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from triptych.backends import is_installed
from triptych.errors import ArgumentError, MissingBackendError
from triptych_conformance.checking import Report
from triptych_conformance.measuring import Measures

_HIDDEN = re.compile(r"(\w*hidden_states)\.(\d+)$")


def as_text(report: Report) -> str:
    """Return the report for a terminal: the outputs with their largest differences, findings, and the verdict."""
    names = list(dict.fromkeys(name for name, _ in report.outputs))
    table = [["output", *report.pairs]]
    table += [[name, *(_cell(report.outputs.get((name, pair))) for pair in report.pairs)] for name in names]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join((f"{row[0]:<{widths[0]}}", *(f"{cell:>{width}}" for cell, width in
                        zip(row[1:], widths[1:], strict=True)))) for row in table]  # fmt: skip
    for (name, pair), one in report.outputs.items():
        if one.divergence is not None:
            choice = f"the same first choice in {one.agreement:.1%}"
            lines.append(f"{name} {pair}: KL divergence {one.divergence:.2e}, {choice}")
    lines += [_of_gradients(report, pair) for pair in dict.fromkeys(pair for _, pair in report.gradients)]
    lines += [f"greedy tokens {pair}: {equal} of {of} equal" for pair, (equal, of) in report.tokens.items()]
    lines += [f"weights of {side} that are not the file's: {', '.join(names)}"
              for side, names in report.weights.items() if names]  # fmt: skip
    lines += [f"{pair} part first at {finding}" for pair, finding in report.findings.items()]
    if report.precise:
        lines.append(f"what was in doubt is measured against {next(iter(report.sides))} in float64")
    lines += [hidden] if (hidden := _hidden(report)) else []
    return "\n".join([*lines, verdict(report)])


def verdict(report: Report) -> str:
    """Return one sentence: whether the sides agree, and the largest part of the tolerance that was needed."""
    measured = {**{(f"the gradient of {name}", pair): one for (name, pair), one in report.gradients.items()},
                **report.outputs}  # fmt: skip
    name, pair = max(measured, key=lambda key: measured[key].fraction)
    worst = measured[name, pair]
    sides = ", ".join(report.sides)
    if report.passed:
        used = f"{worst.fraction:.1%} of what is allowed, {name} {pair}"
        if report.dtype != "float32":
            near = f"about as near to float32 in {report.dtype} as {next(iter(report.sides))} is"
            return f"PASSED: {report.stem} in {sides} is {near} ({used})"
        return f"PASSED: {report.stem} computes the same in {sides} ({used})"
    if worst.close:
        return f"FAILED: {report.stem} is not the same in {sides}: see its weights and tokens"
    return (f"FAILED: {report.stem} is not the same in {sides}: {name} {pair} is {worst.largest:.2e} apart, "
            f"where {worst.allowed:.2e} is allowed")  # fmt: skip


def _of_gradients(report: Report, pair: str) -> str:
    """Return one line: how many parameters, the furthest apart, and those that are too far."""
    found = {name: one for (name, of), one in report.gradients.items() if of == pair}
    worst = max(found, key=lambda name: found[name].fraction)
    apart = [name for name, one in found.items() if not one.close]
    line = f"gradients {pair}: of {len(found)} parameters {worst} is furthest apart, {_cell(found[worst])}"
    return line + (f"; {len(apart)} too far: {_some(apart)}" if apart else "")


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _cell(measures: Measures | None) -> str:
    if measures is None:
        return ""
    return f"{measures.largest:.2e} ({share(measures)}{'' if measures.close else ' !'})"


def as_json(report: Report) -> dict[str, Any]:
    """Return the whole report as plain values."""

    def rows(table: dict[tuple[str, str], Measures]) -> list[dict[str, Any]]:
        return [{"name": name, "pair": pair, **one.as_dict()} for (name, pair), one in table.items()]

    return {
        "model": report.model,
        "class": report.stem,
        "dtype": report.dtype,
        "passed": report.passed,
        "against_float64": report.precise,
        "verdict": verdict(report),
        "sides": report.sides,
        "outputs": rows(report.outputs),
        "parts": rows(report.parts),
        "gradients": rows(report.gradients),
        "tokens": {pair: {"equal": equal, "of": of} for pair, (equal, of) in report.tokens.items()},
        "weights": {"sha256": report.hashes, "departed": report.weights, "transforms": report.transforms},
        "findings": {pair: {**vars(found), "text": str(found)} for pair, found in report.findings.items()},
    }


def as_junit(report: Report) -> bytes:
    """Return JUnit XML: a test for each output and pair, each gradient and pair, one for weights, one for tokens."""
    suite = ElementTree.Element("testsuite", name=f"parity of {report.model}")
    failures = 0
    for name, problem in _cases(report):
        case = ElementTree.SubElement(suite, "testcase", classname=f"{report.stem}.{report.dtype}", name=name)
        if problem:
            failures += 1
            ElementTree.SubElement(case, "failure", message=problem.splitlines()[0]).text = problem
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(failures))
    return ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True)


def _cases(report: Report) -> Iterator[tuple[str, str]]:
    for (name, pair), one in report.outputs.items():
        finding = report.findings.get(pair)
        apart = f"{one.largest:.2e} apart, where {one.allowed:.2e} is allowed"
        yield f"{name} {pair}", "" if one.close else apart + (f"\nfirst at {finding}" if finding else "")
    for (name, pair), one in report.gradients.items():
        apart = f"{one.largest:.2e} apart, where {one.allowed:.2e} is allowed"
        yield f"gradient {name} {pair}", "" if one.close else apart
    for side, names in report.weights.items():
        yield f"weights {side}", f"not the file's: {', '.join(names)}" if names else ""
    for pair, (equal, of) in report.tokens.items():
        different = equal != of and report.dtype == "float32"
        yield f"tokens {pair}", f"{equal} of {of} greedy tokens are equal" if different else ""


def as_html(report: Report) -> str:
    """Return one page that needs no other file. Needs jinja2.

    Raises:
        MissingBackendError: jinja2 is not installed.
    """
    _require_jinja2()
    import jinja2

    template = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        Path(__file__).with_name("report.html.jinja").read_text(encoding="utf-8")
    )
    named = [name for name, _ in report.outputs if not _HIDDEN.search(name)]
    states = _rows(report.outputs, report, [name for name, _ in report.outputs if _HIDDEN.search(name)])
    shown = {f"{one}-{other}": f"{one} ↔ {other}" for one, other in itertools.combinations(report.sides, 2)}
    return str(template.render(
        report=report, verdict=verdict(report), hidden=_hidden(report), outputs=_rows(report.outputs, report, named),
        layers=_layers(report.parts, report), curves=_curves(report),
        gradients=_layers(report.gradients, report, leaves=2), shown=shown,
        states=states, far=sum(any(one is not None and not one.close for one in row.cells) for row in states),
        has_loss="loss" in named, pairs={pair: place for place, pair in enumerate(report.pairs)}, versions=_versions(),
        shade=shade, share=share, number=_number,
    ))  # fmt: skip


def _versions() -> str:
    packages = (f"{name} {importlib.metadata.version(name)}" for name in ("triptych", "numpy"))
    return f"Made by {', '.join(packages)} and Python {platform.python_version()}, on {platform.machine()}."


def _hidden(report: Report) -> str:
    """Return a sentence where parts depart though what the model gives does not: none has failed for it."""
    apart = list(dict.fromkeys(name for (name, _), one in report.parts.items() if not one.close))
    if not apart or not all(one.close for one in report.outputs.values()):
        return ""
    return f"No output shows it, but {len(apart)} of the parts within depart, {apart[0]} first"


def _require_jinja2() -> None:
    if not is_installed("jinja2"):
        raise MissingBackendError("The page cannot be written.", expected="the package jinja2", received="none",
                                  remedy="pip install 'triptych[parity]'")  # fmt: skip


def check_writable(json_file: Path | None, junit: Path | None, html: Path | None) -> None:
    """Raise, before anything is computed, where `write` could not.

    Raises:
        ArgumentError: a file in a folder that is not there. MissingBackendError: jinja2 is not installed.
    """
    for file in (json_file, junit, html):
        if file is not None and not file.absolute().parent.is_dir():
            raise ArgumentError(f"{file} cannot be written.", expected="a file in a folder that exists",
                                received=str(file.absolute().parent))  # fmt: skip
    if html is not None:
        _require_jinja2()


def write(report: Report, json_file: Path | None, junit: Path | None, html: Path | None) -> None:
    """Write the report to the files that are given."""
    if json_file is not None:
        json_file.write_text(json.dumps(as_json(report), indent=1), encoding="utf-8")
    if junit is not None:
        junit.write_bytes(as_junit(report))
    if html is not None:
        html.write_text(as_html(report), encoding="utf-8")


def shade(measures: Measures | None) -> str:
    """Return the class of a cell: s0 (nothing of what is allowed) to s4 (all of it), then f1 to f3, which fail."""
    if measures is None:
        return "none"
    fraction = measures.fraction
    if fraction > 1:
        return "f3" if fraction > 1e4 else "f2" if fraction > 100 else "f1"
    return "s0" if fraction < 1e-3 else f"s{min(4, int(math.log10(fraction)) + 4)}"


def share(measures: Measures) -> str:
    """Return how much of what is allowed a difference is: "12 %" or "340 times"."""
    fraction = measures.fraction
    if not math.isfinite(fraction):
        return "not comparable"
    return f"{fraction:,.0f} times" if fraction >= 10 else f"{_number(round(100 * fraction, 1))} %"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    if not math.isfinite(value):
        return "∞" if value == math.inf else "not a number"
    return "0" if value == 0 else f"{value:.1e}" if abs(value) < 0.01 or abs(value) >= 1e4 else f"{value:.3g}"


@dataclass
class Row:
    """What one output or part measured, a cell for each pair."""

    name: str
    cells: list[Measures | None]


@dataclass
class Layer(Row):
    """A layer with its parts; its cells are the worst of theirs. `opened` is that of the first that fails."""

    parts: list[Row]
    opened: bool = False


Table = Mapping[tuple[str, str], Measures]
"""Measures by name and pair."""


def _rows(table: Table, report: Report, names: list[str]) -> list[Row]:
    return [Row(name, [table.get((name, pair)) for pair in report.pairs]) for name in dict.fromkeys(names)]


def _layers(table: Table, report: Report, leaves: int = 1) -> list[Layer]:
    """Return the layers of parts, or of parameters, in their order.

    Args:
        leaves: how many words at the end of a name are not those of what it is in, where that is no numbered layer.
    """
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for name, _ in table):
        match = re.match(r"(.*?\.(?:layers?|h|blocks?)\.\d+)\.", name)
        groups.setdefault(match[1] if match else _stem(name, leaves), []).append(name)
    layers = []
    for title, names in groups.items():
        rows = [
            Row(name.removeprefix(title + ".") or name, [table.get((name, pair)) for pair in report.pairs])
            for name in names
        ]
        layers.append(Layer(title, [_worst(rows, place) for place in range(len(report.pairs))], rows))
    failing = (layer for layer in layers if any(one is not None and not one.close for one in layer.cells))
    if first := next(failing, None):
        first.opened = True
    return layers


def _worst(rows: list[Row], place: int) -> Measures | None:
    cells = [cell for row in rows if (cell := row.cells[place]) is not None]
    return max(cells, default=None, key=lambda one: one.fraction)


def _stem(name: str, leaves: int) -> str:
    words = name.split(".")
    return ".".join(words[: max(len(words) - leaves, 1)])


def _curves(report: Report) -> dict[str, Any]:
    """Return how much of what is allowed every layer needs, as lines of an SVG of 1000 by 300, over log10."""
    layers = _layers(report.parts, report)
    if not layers:
        return {}
    series: dict[str, list[tuple[int, float]]] = {}
    for place, pair in enumerate(report.pairs):
        found = [(i, cell.fraction) for i, layer in enumerate(layers) if (cell := layer.cells[place]) is not None]
        series[pair] = [(i, value) for i, value in found if math.isfinite(value)]
    values = [value for points in series.values() for _, value in points if value]
    low = math.floor(math.log10(min(values, default=0.1))) - 1  # a zero is at the bottom
    high = max(math.ceil(math.log10(max(values, default=1.0))), 1)
    steps, last = high - low, max(len(layers) - 1, 1)

    def at(value: float) -> float:
        return (high - math.log10(max(value, 10.0**low))) / steps * 300

    def line(points: list[tuple[int, float]]) -> str:
        return " ".join(f"{i / last * 1000:.1f},{at(value):.1f}" for i, value in points)

    every = max(1, round(steps / 6))
    ticks = [{"y": at(10.0**power), "text": f"{100 * 10.0**power:g} %" if power <= 0 else f"{10**power:,} ×",
              "labelled": power % every == 0} for power in range(low, high + 1)]  # fmt: skip
    return {"lines": {pair: line(points) for pair, points in series.items()}, "limit": at(1.0), "ticks": ticks,
            "first": layers[0].name, "last": layers[-1].name}  # fmt: skip
