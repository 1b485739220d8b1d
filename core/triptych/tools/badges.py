"""The results of tests, as JUnit XML has them, as one small SVG image: a badge, which needs no service to be drawn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from triptych.errors import TriptychError

GREEN, RED, GREY = "#1a7f37", "#b3261e", "#444"
_HEIGHT, _PADDING = 20, 8
_WIDTHS = {"fijlrtI.,:;'|!()[]/ ": 4.3, "mwMW%@": 10.0}
_UPPER, _OTHER = 7.7, 6.8
"""Pixels of characters in a text of 11 pixels. It is stretched to their sum, whatever font there is."""


class ResultsError(TriptychError, ValueError):
    """A file is no JUnit XML."""


@dataclass(frozen=True)
class Results:
    """How many tests passed, failed (with those that broke off) and were skipped, known gaps among them; and the files
    that are not there, since what should have written them broke off."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    missing: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether there are tests, all passed, and no file is missing."""
        return self.passed > 0 and not self.failed and not self.missing

    def __str__(self) -> str:
        if self.missing:
            return "no result"
        if self.failed:
            return f"{self.failed} of {self.passed + self.failed} failed"
        return f"{self.passed} passed" if self.passed else "no tests"


def read_results(files: Iterable[Path]) -> Results:
    """Return the results of all `files` together.

    Raises:
        ResultsError: a file is no JUnit XML.
    """
    counts, missing = {"passed": 0, "failed": 0, "skipped": 0}, []
    for file in files:
        if not file.is_file():
            missing.append(str(file))
            continue
        for case in _root(file).iter("testcase"):
            counts[_outcome(case)] += 1
    return Results(missing=tuple(missing), **counts)


def _root(file: Path) -> ElementTree.Element:
    try:
        root = ElementTree.parse(file).getroot()
    except ElementTree.ParseError as cause:
        raise _no_results(file, str(cause)) from cause
    if root.tag not in ("testsuites", "testsuite"):
        raise _no_results(file, f"an element {root.tag}")
    return root


def _no_results(file: Path, received: str) -> ResultsError:
    return ResultsError(
        f"{file} is no JUnit XML.",
        expected="an element testsuites or testsuite",
        received=received,
        remedy="write it by pytest --junitxml, or triptych parity --junit",
    )


def _outcome(case: ElementTree.Element) -> str:
    kinds = {child.tag for child in case}
    return "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"


def badge(label: str, text: str, good: bool) -> str:
    """Return an SVG image with `label` on grey and `text` on green, or on red unless it is `good`."""
    left, right = _width(label), _width(text)
    middle = left + 2 * _PADDING
    width = middle + right + 2 * _PADDING
    title = escape(f"{label}: {text}", {'"': "&quot;"})
    size = f'width="{width}" height="{_HEIGHT}"'
    return f"""<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{title}">
<title>{title}</title>
<rect {size} rx="3" fill="{GREEN if good else RED}"/>
<rect width="{middle}" height="{_HEIGHT}" rx="3" fill="{GREY}"/>
<rect x="{middle - 3}" width="3" height="{_HEIGHT}" fill="{GREY}"/>
<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">
<text x="{_PADDING}" y="14" textLength="{left}">{escape(label)}</text>
<text x="{middle + _PADDING}" y="14" textLength="{right}">{escape(text)}</text>
</g>
</svg>
"""


def _width(text: str) -> int:
    def of(character: str) -> float:
        listed = (width for characters, width in _WIDTHS.items() if character in characters)
        return next(listed, _UPPER if character.isupper() else _OTHER)

    return round(sum(map(of, text)))
