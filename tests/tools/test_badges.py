"""`triptych badge`: it is green only where there were tests and all of them passed."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from triptych.cli import app
from triptych.tools.badges import GREEN, RED

INSIDE = ("", "<failure/>", "<error/>", "<skipped type='pytest.xfail'/>")
PASSED, FAILED, BROKEN, GAP = (f"<testcase name='a'>{inside}</testcase>" for inside in INSIDE)


def drawn(tmp_path: Path, *files: str | None, label: str = "parity") -> tuple[str, str]:
    names = []
    for number, cases in enumerate(files):
        names.append(str(tmp_path / f"{number}.xml"))
        if cases is not None:
            Path(names[-1]).write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    image = tmp_path / "badge.svg"
    done = CliRunner().invoke(app, ["badge", *names, "--out", str(image), "--label", label])
    assert done.exit_code == 0, done.output
    root = ElementTree.parse(image).getroot()
    return root.get("aria-label") or "", GREEN if GREEN in image.read_text() else RED


@pytest.mark.parametrize(("files", "says", "colour"), [
    ([PASSED * 3 + GAP, PASSED], "4 passed", GREEN),
    ([PASSED * 3, FAILED + BROKEN], "2 of 5 failed", RED),
    ([PASSED, None], "no result", RED),
    ([GAP], "no tests", RED),
    ([""], "no tests", RED),
])  # fmt: skip
def test_a_badge_says_how_the_tests_went(files: list[str | None], says: str, colour: str, tmp_path: Path) -> None:
    assert drawn(tmp_path, *files) == (f"parity: {says}", colour)


def test_labels_are_text(tmp_path: Path) -> None:
    assert drawn(tmp_path, PASSED, label='<b> & "c"')[0] == '<b> & "c": 1 passed'


@pytest.mark.parametrize("content", ["", "<html/>", "{"])
def test_other_files_are_refused(content: str, tmp_path: Path) -> None:
    file = tmp_path / "r.xml"
    file.write_text(content)
    done = CliRunner().invoke(app, ["badge", str(file), "--out", str(tmp_path / "b.svg")])
    assert done.exit_code == 1 and "is no JUnit XML" in done.stderr and not (tmp_path / "b.svg").exists()
