"""The plugin of the suite: what a gap, a lacked feature and a missing framework do to a run; and the suite's page."""

from __future__ import annotations

import subprocess
import sys

import pytest

from suite_page import PAGE, page
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


class TestTiny(ConstructionTests):
    models = {"pt": TinyModel}
    config = TinyConfig()
    lacks = LACKS
    gaps = GAPS

    def test_that_fails(self, subject, backend):
        assert subject.cls(backend) is None
"""
FAILS = {"test_that_fails": "it never held"}
RUNS = [
    ({"heads": "none"}, FAILS, dict(passed=15, xfailed=1, deselected=1)),
    ({}, {}, dict(passed=14, failed=1, deselected=2)),
    ({}, {**FAILS, "test_new_models_compute[pt]": "it holds"}, dict(passed=13, failed=1, xfailed=1, deselected=2)),
    ({"vocabulary": "it has"}, FAILS, dict(passed=14, failed=1, xfailed=1, deselected=1)),
]
"""Lacks and gaps, and what pytest counts: one test is of two frameworks, one of what is lacked."""


def collected(pytester: pytest.Pytester, lacks: dict[str, str], gaps: dict[str, str]) -> pytest.RunResult:
    text = MODEL.replace("LACKS", repr(lacks)).replace("GAPS", repr(gaps))
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", str(pytester.makepyfile(test_tiny=text)))


@pytest.mark.parametrize(("lacks", "gaps", "counts"), RUNS)
def test_what_a_run_comes_to(
    lacks: dict[str, str], gaps: dict[str, str], counts: dict[str, int], pytester: pytest.Pytester
) -> None:
    collected(pytester, lacks, gaps).assert_outcomes(**counts)


@pytest.mark.parametrize(("lacks", "gaps"), [({"wings": "none"}, {}), ({}, {"test_no_such": "x"})])
def test_unknown_names_are_errors_of_usage(
    lacks: dict[str, str], gaps: dict[str, str], pytester: pytest.Pytester
) -> None:
    found = collected(pytester, lacks, gaps)
    assert found.ret == pytest.ExitCode.USAGE_ERROR
    found.stderr.fnmatch_lines([f"*{next(iter(lacks or gaps))}*which triptych does not know*"])


def test_a_framework_that_is_not_there_fails_the_run(pytester: pytest.Pytester) -> None:
    text = MODEL.replace("LACKS", "{}").replace("GAPS", "{}")
    pytester.makepyfile(test_tiny=text)
    pytester.makepyfile(
        conftest="import triptych.backends; triptych.backends.is_installed = lambda name: name == 'torch'"
    )
    command = [sys.executable, "-m", "pytest", "--triptych-backends", "pt,flax"]
    done = subprocess.run(command, cwd=pytester.path, capture_output=True, text=True)
    assert done.returncode != 0 and "triptych[flax]" in done.stdout + done.stderr


def test_the_page_names_every_test_and_feature() -> None:
    assert PAGE.read_text() == page(), "python conformance/support/suite_page.py"


def test_there_are_some_hundred_tests_for_three_frameworks() -> None:
    names = [name for name in dir(ModelTests) if name.startswith("test_")]
    assert len(names) > 90
