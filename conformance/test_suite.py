"""The plugin of the suite: what a gap, a lacked feature and a missing framework do to a run; and the suite's page."""

from __future__ import annotations

import pytest

from suite_page import PAGE, page
from triptych_conformance.plugin import check_names
from triptych_conformance.suite import ModelTests

MODEL = """
import torch
from triptych import PretrainedConfig, PreTrainedModel
from triptych.nn.outputs import BaseModelOutput
from triptych_conformance.suite.construction import ConstructionTests


class TinyConfig(PretrainedConfig):
    model_type = "tiny-of-the-suite"

    def __init__(self, vocab_size=11, **kwargs):
        self.vocab_size = vocab_size
        super().__init__(**kwargs)


class TinyModel(PreTrainedModel):
    config_class = TinyConfig

    def __init__(self, config):
        super().__init__(config)
        self.embed = torch.nn.Embedding(config.vocab_size, 3)
        self.post_init()

    def get_input_embeddings(self):
        return self.embed

    def forward(self, input_ids, attention_mask=None):
        return BaseModelOutput(last_hidden_state=self.embed(input_ids))


class Tiny(ConstructionTests):
    models = {"pt": TinyModel}
    config = TinyConfig()

    def test_that_fails(self, subject, backend):
        assert subject.cls(backend) is None
"""
FAILS = {"test_that_fails": "it never held"}
CLASSES: dict[str, dict[str, dict[str, str]]] = {
    "TestTrue": {"lacks": {"heads": "none"}, "gaps": FAILS},
    "TestWithoutGap": {},
    "TestGapThatHolds": {"gaps": {**FAILS, "test_new_models_compute[pt]": "it holds"}},
    "TestWrongLack": {"lacks": {"vocabulary": "it has"}, "gaps": FAILS},
}
FAILURES = (
    "E * take 'vocabulary' out of `lacks`",
    "FAILED *::TestWithoutGap::test_that_fails[[]pt[]] *",
    "FAILED *::TestGapThatHolds::test_new_models_compute[[]pt[]] * [[]XPASS(*",
    "FAILED *::TestWrongLack::test_lacks[[]pt-vocabulary[]] *",
)


def test_what_runs_come_to(pytester: pytest.Pytester) -> None:
    """In a process of its own: what a run within this one imports first is forgotten after it."""
    classes = [f"\n\nclass {name}(Tiny):\n    lacks = {said.get('lacks', {})}\n    gaps = {said.get('gaps', {})}\n"
               for name, said in CLASSES.items()]  # fmt: skip
    pytester.makepyfile(test_tiny=MODEL + "".join(classes))
    found = pytester.runpytest_subprocess("-rf", "--tb=line")
    # Each class has 15 tests that pass, one that fails, one of two frameworks and one of what is lacked.
    found.assert_outcomes(passed=56, failed=3, xfailed=3, deselected=6)
    for line in FAILURES:
        found.stdout.fnmatch_lines([line])


@pytest.mark.parametrize("said", [{"lacks": {"wings": "none"}}, {"gaps": {"test_no_such": "x"}}])
def test_unknown_names_are_errors_of_usage(said: dict[str, dict[str, str]]) -> None:
    kind = type("TestTiny", (ModelTests,), said)
    with pytest.raises(pytest.UsageError, match=f"{next(iter(*said.values()))}.*which triptych does not know"):
        check_names(kind)


def test_a_framework_that_is_not_there_fails_the_run(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_tiny=MODEL + "\n\nclass TestTiny(Tiny):\n    pass\n")
    pytester.makepyfile(
        conftest="import triptych.backends; triptych.backends.is_installed = lambda name: name == 'torch'"
    )
    found = pytester.runpytest_subprocess("--triptych-backends", "pt,flax")
    assert found.ret != 0
    found.stdout.fnmatch_lines(["*triptych[[]flax[]]*"])


def test_the_page_names_every_test_and_feature() -> None:
    assert PAGE.read_text() == page(), "python conformance/support/suite_page.py"


def test_there_are_some_hundred_tests_for_three_frameworks() -> None:
    names = [name for name in dir(ModelTests) if name.startswith("test_")]
    assert len(names) > 90
