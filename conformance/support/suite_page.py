"""The list of all tests in docs/suite.md, made of the suite: `python conformance/support/suite_page.py` writes it."""

from __future__ import annotations

import inspect
from pathlib import Path

from triptych_conformance.suite import ModelTests
from triptych_conformance.suite.base import SubjectTests
from triptych_conformance.suite.features import FEATURES

PAGE = Path(__file__).resolve().parents[2] / "docs/suite.md"
START, END = "<!-- made by conformance/support/suite_page.py -->\n", "<!-- end -->\n"


def tests_of(group: type) -> list[str]:
    return [name for name in vars(group) if name.startswith("test_")]


def listing() -> str:
    """Return features and tests as the page has them."""
    lines = ["The features, which `lacks` may name:", ""]
    lines += [f"- `{name}`: {what}" for name, (what, _) in FEATURES.items()]
    for group in ModelTests.__mro__[1:-1]:
        if group is SubjectTests or not tests_of(group):
            continue
        says = (inspect.getdoc(group) or "").partition("\n")[0]
        lines += ["", f"**`{group.__name__}`**: {says}", ""]
        for name in tests_of(group):
            needs = [mark for mark in getattr(vars(group)[name], "pytestmark", []) if mark.name == "triptych_needs"]
            features = ", ".join(feature for mark in needs for feature in mark.args)
            lines.append(f"- `{name}`" + (f" (needs {features})" if features else ""))
    return "\n".join(lines) + "\n"


def page() -> str:
    """Return the page with the list as it should be."""
    before, _, rest = PAGE.read_text().partition(START)
    return before + START + listing() + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(page())
