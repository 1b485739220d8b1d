"""The pytest plugin: which frameworks are tested, what the tests of `ModelTests` are given, and how gaps are held.

    pytest --triptych-backends pt,tf,flax

A framework that is asked for and not installed fails the run.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from triptych_conformance.suite.base import SubjectTests
    from triptych_conformance.suite.subject import Origin, Subject

pytest.register_assert_rewrite("triptych_conformance.suite")
OPTION = "--triptych-backends"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("triptych", "models in three frameworks")
    group.addoption(OPTION, metavar="pt,tf,flax", help="The frameworks to test; the first is the reference. Default: "
                    "TRIPTYCH_BACKENDS, or all three. One that is not installed fails the run.")  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "triptych_needs(*features): run only for models that have them.")
    chosen = config.getoption(OPTION)
    if chosen:
        os.environ["TRIPTYCH_BACKENDS"] = chosen


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of each framework ("backend"), of each but the reference ("other"), of each two ("pair")."""
    if not is_of_models(metafunc.cls):
        return
    from triptych_conformance.suite.subject import backends_of

    backends = backends_of(metafunc.cls)
    choices: dict[str, list[Any]] = {
        "backend": backends,
        "other": backends[1:],
        "pair": list(itertools.combinations(backends, 2)),
        "saver": backends,
        "feature": sorted(metafunc.cls.lacks),
    }
    for name, values in choices.items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, values, ids=[_id(value) for value in values])


def _id(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "-".join(one.name for one in (value if isinstance(value, tuple) else [value]))


def is_of_models(kind: Any) -> bool:
    """Return whether a class holds tests of the suite."""
    return kind is not None and any(base.__module__.startswith("triptych_conformance.suite") for base in kind.__mro__)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests of models that are not of the frameworks asked for, and of what one lacks or has no origin for;
    hold the gaps, which must fail."""
    kept: list[pytest.Item] = []
    left: list[pytest.Item] = []
    found: dict[type[SubjectTests], None] = {}
    for item in items:
        kind = getattr(item, "cls", None)
        if not isinstance(item, pytest.Function) or kind is None or not is_of_models(kind):
            kept.append(item)
            continue
        found[kind] = None
        needed = {feature for mark in item.iter_markers("triptych_needs") for feature in mark.args}
        absent = not _is_asked_for(kind) or ("origin" in item.fixturenames and kind.origin is None)
        (left if absent or needed & kind.lacks.keys() or _has_no_choice(item) else kept).append(item)
        for gap, reason in kind.gaps.items():
            if gap in (item.originalname, item.name):
                item.add_marker(pytest.mark.xfail(reason=reason, strict=True))
    for kind in found:
        check_names(kind)
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = kept


def _is_asked_for(kind: type[SubjectTests]) -> bool:
    from triptych_conformance.suite.subject import backends_of

    return bool(backends_of(kind))


def _has_no_choice(item: pytest.Function) -> bool:
    """Return whether a test has no run, of one framework alone, or of no feature that is lacked."""
    return "NOTSET" in item.name


def check_names(kind: type[SubjectTests]) -> None:
    """Raise `pytest.UsageError` if a class names a feature or a test that there is not."""
    from triptych_conformance.suite.features import FEATURES

    unknown = [f"lacks {name!r}" for name in kind.lacks if name not in FEATURES]
    unknown += [f"a gap {name!r}" for name in kind.gaps if not hasattr(kind, name.partition("[")[0])]
    if unknown:
        raise pytest.UsageError(f"{kind.__name__} has {', '.join(unknown)}, which triptych does not know: "
                                f"expected a test of it, or one of {', '.join(FEATURES)}")  # fmt: skip


@pytest.fixture(scope="class")
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    """The model that a class of tests is about."""
    from triptych_conformance.suite.subject import Subject

    yield Subject(request.cls, tmp_path_factory.mktemp(request.cls.__name__))


@pytest.fixture(scope="class")
def origin(request: pytest.FixtureRequest, subject: Subject) -> Origin:
    """What the model computes in the class that it is a port of."""
    from triptych_conformance.suite.subject import Origin

    return Origin(subject, request.cls.origin)
