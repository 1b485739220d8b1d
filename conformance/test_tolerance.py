"""The rule of tolerance itself, and that every comparison of floats goes through it."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from triptych_conformance import (
    Comparison,
    assert_close,
    assert_close_in_low_precision,
    compare,
    compare_low_precision,
    largest_difference,
    parity_of,
)
from triptych_conformance.__main__ import main

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the comparisons of these tests, many of which are to fail, out of a record of the suite's."""
    monkeypatch.delenv("TRIPTYCH_TOLERANCES", raising=False)


INF, NAN = float("inf"), float("nan")
MASK = np.array([[1, 1, 0], [1, 0, 0]])
COUNTED = MASK.astype(bool)


def array(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def hidden(counted: float, padding: float) -> np.ndarray:
    """Return [B, Q, 4] with one value where MASK is 1, and another where it is 0."""
    return np.where(COUNTED[:, :, None], counted, padding) * np.ones((2, 3, 4), np.float32)


def attention(counted: float, padding: float) -> np.ndarray:
    """Return [B, N, Q, K], the same by queries."""
    return np.where(COUNTED[:, None, :, None], counted, padding) * np.ones((2, 5, 3, 3), np.float32)


@pytest.mark.parametrize(
    ("found", "reference", "difference", "tolerance"),
    [
        (0.25, 0.0, 0.25, 1e-5),
        (0.0, 0.25, 0.25, 1e-5),
        (3.0, 4.0, 1.0, 1e-5 * 4),
        (4.0, 3.0, 1.0, 1e-5 * 3),
        (-4.0, -3.0, 1.0, 1e-5 * 3),
        (array(0, 8), array(0.5, 8), 0.5, 1e-5 * 8),
        (array(7, -40), array(7, -32), 8.0, 1e-5 * 32),
        (np.array([2**53, 1]), np.array([2**53, 3]), 2.0, 1e-5 * 2**53),
    ],
)
def test_the_tolerance_grows_with_the_reference(
    found: object, reference: object, difference: float, tolerance: float
) -> None:
    assert compare(found, reference) == Comparison(difference, tolerance)
    assert compare(found, reference).fraction == difference / tolerance


@pytest.mark.parametrize(
    ("found", "reference", "close"),
    [
        (1 + 0.9e-5, 1.0, True),
        (1 + 1.1e-5, 1.0, False),
        (1 - 1.1e-5, 1.0, False),
        (0.9e-5, 0.0, True),
        (1.1e-5, 0.0, False),
        (22 + 21e-5, 22.0, True),
        (22 + 23e-5, 22.0, False),
        (array(), array(), False),
        (array(1), array(1, 1), False),
        (array(1, 1), np.ones((1, 2)), False),
        (1.0, array(1), False),
        (array(NAN, 1), array(1, 1), False),
        (array(1, 1), array(NAN, 1), False),
        (array(NAN), array(NAN), False),
        (array(INF, 1), array(1, 1), False),
        (array(1, 1), array(INF, 1), False),
        (array(INF), array(INF), False),
        (array(-INF), array(-INF), False),
        (array(INF), array(-INF), False),
    ],
)
def test_what_is_close(found: object, reference: object, close: bool) -> None:
    assert (compare(found, reference).fraction <= 1) is close
    if close:
        assert_close(found, reference)
    else:
        with pytest.raises(AssertionError, match=r"(?s)the logits \(.*apart where .* is allowed"):
            assert_close(found, reference, what="the logits")


@pytest.mark.parametrize("shaped", [hidden, attention])
def test_masked_positions_count_neither_in_the_difference_nor_in_the_size(shaped: object) -> None:
    for padding in (1e6, NAN, INF):
        assert compare(shaped(2.5, padding), shaped(2, 0), MASK) == Comparison(0.5, 2e-5)
        assert compare(shaped(2.5, 0), shaped(2, padding), MASK) == Comparison(0.5, 2e-5)
        assert compare(shaped(2.5, padding), shaped(2, padding), MASK) == Comparison(0.5, 2e-5)
    for wrong in (NAN, INF):
        assert compare(shaped(wrong, 0), shaped(2, 0), MASK).fraction == INF
        assert compare(shaped(2, 0), shaped(wrong, 0), MASK).fraction == INF
    assert compare(shaped(2, 0), shaped(2, 5)).fraction == 1e5
    assert compare(shaped(2, 0), shaped(2, 0), 0 * MASK).fraction == INF, "nothing counts, so nothing was shown"
    assert compare(shaped(2, 0)[:, :, :2], shaped(2, 0), MASK).fraction == INF


def test_a_mask_of_other_positions_is_not_for_this_result() -> None:
    logits = np.ones((2, 7, 4), np.float32)
    assert compare(logits + 1, logits, MASK) == compare(logits + 1, logits) == Comparison(1, 1e-5)
    assert compare(array(2, 3), array(2, 4), MASK) == Comparison(1, 4e-5)


def test_the_largest_difference_knows_no_size() -> None:
    assert largest_difference(array(22.5), array(22)) == 0.5
    assert largest_difference(array(), array()) == 0
    assert largest_difference(hidden(2.5, 9), hidden(2, 0), MASK) == 0.5
    assert largest_difference(array(1), array(1, 1)) == largest_difference(array(NAN), array(NAN)) == INF


@pytest.mark.parametrize(
    ("found", "exact", "theirs", "difference", "tolerance"),
    [
        (array(1.5, 1), array(1, 1), array(1, 1.5), 0.125**0.5, 3 * 0.125**0.5),
        (array(1, 1), array(1, 1), array(1, 1), 0, 0),
        (array(1, 2, 1, 1), array(1, 1, 1, 1), array(2, 2, 0, 0), 0.5, 3),
        (array(NAN), array(1), array(1.5), INF, 1.5),
        (array(INF), array(1), array(1.5), INF, 1.5),
        (array(1.5), array(1), array(INF), 0.5, 0),
        (array(1.5), array(1), array(NAN), 0.5, 0),
        (array(1.5), array(NAN), array(1.5), INF, 0),
        (array(1, 1), array(1), array(1.5), INF, 1.5),
        (array(1.5), array(1), array(1, 1), 0.5, 0),
        (array(), array(), array(), INF, 0),
    ],
)
def test_low_precision_is_measured_by_the_reference_framework(
    found: object, exact: object, theirs: object, difference: float, tolerance: float
) -> None:
    comparison = compare_low_precision(found, exact, theirs)
    assert comparison == Comparison(difference, tolerance)
    if comparison.fraction <= 1:
        assert_close_in_low_precision(found, exact, theirs)
    else:
        with pytest.raises(AssertionError):
            assert_close_in_low_precision(found, exact, theirs)


def test_low_precision_leaves_out_what_is_masked() -> None:
    ours, exact, theirs = hidden(2.5, NAN), hidden(2, 0), hidden(2.25, INF)
    assert compare_low_precision(ours, exact, theirs, MASK) == Comparison(0.5, 0.75)
    assert compare_low_precision(ours, exact, theirs).fraction == INF


def test_parity_follows_the_rule() -> None:
    results = {"pt": {"logits": array(22)}, "tf": {"logits": array(22 + 2e-4)}, "flax": {"logits": array(22)}}
    parity = parity_of(results)
    assert list(parity.comparisons) == [("logits", pair) for pair in ("pt-tf", "pt-flax", "tf-flax")]
    assert parity.largest == parity.differences["logits", "pt-tf"] > 1e-4
    parity.assert_within()
    parity.assert_within(1e-5)
    with pytest.raises(AssertionError, match="logits pt-tf: .*\n.*logits tf-flax: "):
        parity.assert_within(1e-6)


@pytest.mark.parametrize("name", ["pt", "tf"])
def test_an_output_that_one_framework_lacks_is_not_close(name: str) -> None:
    """A loss of 0 as well, which has the shape and the value of an output that is not there."""
    results: dict[str, dict[str, np.ndarray]] = {"pt": {"logits": array(1)}, "tf": {"logits": array(1)}}
    results[name]["loss"] = np.zeros((), np.float32)
    with pytest.raises(AssertionError, match="^loss pt-tf: inf apart[^\n]*$"):
        parity_of(results).assert_within()


def test_comparisons_are_recorded_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "fractions.jsonl"
    monkeypatch.setenv("TRIPTYCH_TOLERANCES", str(file))
    assert_close(array(4 + 2**-16), array(4), what="close")
    assert_close_in_low_precision(array(1.5), array(1), array(1.5), what="low")
    with pytest.raises(AssertionError):
        assert_close(2.0, 1.0, what="far")
    parity_of({"pt": {"logits": array(1)}, "tf": {"logits": array(1)}}).assert_within()
    with pytest.raises(AssertionError):
        assert_close(array(NAN), array(1), what="no number")
    records = [json.loads(line) for line in file.read_text().splitlines()]
    assert [record["what"] for record in records] == ["close", "low", "far", "logits pt-tf", "no number"]
    assert {record["test"] for record in records} == {
        "conformance/test_tolerance.py::test_comparisons_are_recorded_and_shown"
    }
    assert records[0] | {"test": "", "what": ""} == {
        "test": "", "what": "", "difference": 2**-16, "tolerance": 4e-5, "fraction": 2**-16 / 4e-5,
    }  # fmt: skip
    assert main([str(file), "--top", "3"]) == 1
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("5 comparisons in 1 tests")
    assert [line.split()[-1] for line in shown[1:]] == ["number", "far", "close"]
    file.write_text("\n".join(json.dumps(record) for record in (records[0], records[1])) + "\n")
    assert main([str(file)]) == 0
    file.write_text("")
    assert main([str(file)]) == 1, "a run that compared nothing shows nothing"


# no comparison beside the rule

CLOSE = re.compile(r"^(is_?close|all_?close|assert_allclose|assert\w*_almost_equal\w*|assertAlmostEqual|approx|"
                   r"largest_difference)$")  # fmt: skip
SIZE = {"abs", "absolute", "fabs", "norm"}
OPTIONS = {"atol", "rtol", "abs_tol", "rel_tol"}
ALLOWED = {
    ("conformance/test_generation_processors.py", "test_what_is_drawn_is_distributed_as_the_warper_says"): (
        "statistics of random draws"
    ),
    ("conformance/test_surgery.py", "test_new_rows_lie_around_the_mean"): "statistics of random rows",
    ("conformance/contract/rows_live.py", "the_bases_own_initialisation"): "statistics of random weights",
    ("conformance/contract/rows_vocabulary.py", "new_rows_around_the_mean"): "statistics of random rows",
    ("examples/authors/show.py", "read"): "the rule itself, where the suite is not: beside transformers 4",
    ("tests/accept_author_files.py", "alike"): "statistics of random weights",
    ("tests/accept_author_files.py", "_equal"): "the rule itself, where the suite is not: beside transformers 4",
    ("tests/accept_author_files.py", "_checkpointing"): "nearer than the rule: the same sums",
    ("tests/mutation/faults.py", "_epsilon"): "no comparison: which constants of the source are epsilons",
    ("tests/formats/gguf/test_file.py", "test_each_quantisation_is_read_in_its_dtype"): (
        "that 4 and 8 bits are about the weight; the line before has what they stand for bit for bit"
    ),
    ("tests/weights/test_codecs.py", "test_a_matrix_comes_back_nearly"): "that a few bits are about the weight",
    ("conformance/test_adapters.py", "test_a_quantised_model_takes_adapters"): "that 8 bits are about the weight",
    ("tests/accept_big_adapters.py", "compare_gradients"): "the rule itself, at the largest of all gradients",
    ("tests/accept_big_adapters.py", "run_gpu"): "a GPU beside a CPU, whose sums are in another order",
    ("tests/accept_big_placement.py", "llama"): "a GPU beside a CPU, whose sums are in another order",
    ("tests/accept_big_placement.py", "gradients"): "a GPU beside a CPU, whose sums are in another order",
    ("tests/accept_big_quantised.py", "main"): "perplexities of three frameworks, nearer than was asked",
    ("tests/accept_train_seed.py", "gradients"): "the rule itself, at the largest of all gradients",
    ("tests/accept_train_torch.py", "ddp"): "sums of two processes, at the largest of all gradients",
    ("tests/accept_train_torch.py", "fsdp"): "sums of two processes, at the largest of all gradients",
    ("tests/accept_train_torch.py", "compiled"): "sums of another compiler, at the largest of all gradients",
    ("conformance/test_keras_training.py", "test_mixed_precision_trains_as_float32_does"): (
        "losses of low precision, in which no step went astray"
    ),
    ("conformance/test_seeded_dropout.py", "assert_same_run"): "losses of fifty steps, whose errors add up",
    ("conformance/test_seeded_dropout.py", "test_masks_are_the_same_and_means_stay"): "statistics of random masks",
    ("conformance/test_torch_training.py", "test_autocast_with_a_scaler_and_deterministic_algorithms"): (
        "a loss of low precision, in which no step went astray"
    ),
}
"""Comparisons of another kind than those that the rule is for: where they stand, and why."""


def by_hand(node: ast.AST) -> str:
    """Return what of a node compares floats beside the rule, or nothing."""
    if isinstance(node, ast.Name | ast.Attribute | ast.alias) and CLOSE.match(named(node)):
        return named(node)
    if isinstance(node, ast.Attribute) and node.attr == "assert_close":
        return "assert_close of another library"
    if isinstance(node, ast.ImportFrom) and node.module in ("numpy.testing", "torch.testing"):
        return node.module
    if isinstance(node, ast.Call):
        if named(node.func) == "assert_within" and (node.args or node.keywords):
            return "assert_within with a tolerance of its own"
        return ", ".join(sorted(OPTIONS & {keyword.arg or "" for keyword in node.keywords}))
    if isinstance(node, ast.Compare) and any(isinstance(op, ast.Lt | ast.LtE | ast.Gt | ast.GtE) for op in node.ops):
        parts = list(ast.walk(node))
        small = [
            str(p.value) for p in parts if isinstance(p, ast.Constant) and type(p.value) is float and p.value < 0.01
        ]
        sizes = [named(p.func) for p in parts if isinstance(p, ast.Call) and named(p.func) in SIZE]
        tolerances = [named(p) for p in parts if re.search("(?i)^(tolerance|eps(ilon)?)$", named(p))]
        loose = ["fraction"] if named(node.left) == "fraction" and not _is_of_the_rule(node) else []
        return ", ".join(small + sizes + tolerances + loose)
    return ""


def _is_of_the_rule(node: ast.Compare) -> bool:
    """Return whether a fraction is at most 1, or at least any number, which says that something differs."""
    limit = node.comparators[0]
    return isinstance(node.ops[0], ast.Gt) or (isinstance(limit, ast.Constant) and limit.value == 1)


def named(node: ast.AST) -> str:
    return str(getattr(node, "attr", "") or getattr(node, "id", "") or getattr(node, "name", ""))


def parsed(text: str) -> list[ast.stmt]:
    """Return the statements of a program; other texts have none."""
    try:
        return ast.parse(text).body
    except (SyntaxError, ValueError):
        return []


def nodes(statement: ast.AST) -> Iterator[ast.AST]:
    """Return every node of a statement, and those of programs that stand in it as text."""
    for node in ast.walk(statement):
        yield node
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" in node.value:
            for inner in parsed(node.value):
                yield from ast.walk(inner)


def programs() -> Iterator[tuple[str, str]]:
    """Return the tests, but for those of the rule, the examples and benchmarks, and the code in the documentation."""
    for folder in ("tests", "conformance", "examples", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "triptych_conformance" not in path.parts and path != Path(__file__):
                yield path.relative_to(ROOT).as_posix(), path.read_text()
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for block in re.findall(r"```python\n(.*?)```", path.read_text(), re.S):
            yield path.relative_to(ROOT).as_posix(), block


def test_every_comparison_of_floats_follows_the_rule() -> None:
    found: dict[tuple[str, str], list[str]] = {}
    for path, text in programs():
        for statement in parsed(text):
            for node in nodes(statement):
                if what := by_hand(node):
                    found.setdefault((path, named(statement)), []).append(what)
    assert {where: what for where, what in found.items() if where not in ALLOWED} == {}
    assert found.keys() >= ALLOWED.keys(), "what is allowed is still there"


@pytest.mark.parametrize(
    "text",
    [
        "assert np.allclose(a, b)",
        "np.testing.assert_allclose(a, b)",
        "from numpy.testing import assert_allclose",
        "torch.testing.assert_close(a, b)",
        "from torch.testing import assert_close",
        "assert a == pytest.approx(b)",
        "assert math.isclose(a, b)",
        "assert largest_difference(a, b) <= 1",
        "assert np.abs(a - b).max() < 0.5",
        "assert abs(a - b) <= bound",
        "assert (a - b).abs().max() < 1",
        "assert np.linalg.norm(a - b) < 1",
        "assert (a - b).max() < 1e-5",
        "assert (a - b).max() < TOLERANCE * 2",
        "assert largest <= 2e-5 * size",
        "assert compare(a, b).fraction <= 2",
        "assert compare(a, b).fraction < size",
        "parity.assert_within(1e-4)",
        "same(a, b, rtol=0.1)",
        "def test() -> None:\n    run('import numpy\\nassert numpy.allclose(a, b)\\n')",
    ],
)
def test_what_is_by_hand_is_seen(text: str) -> None:
    assert any(by_hand(node) for statement in parsed(text) for node in nodes(statement))


@pytest.mark.parametrize(
    "text",
    [
        "assert_close(a, b, mask, 'logits')",
        "parity.assert_within()",
        "assert compare(a, b).fraction > 100",
        "good = compare(a, b).fraction <= 1",
        "assert np.array_equal(a, b)",
        "assert a.std() > 0.1",
        "config = BertConfig(layer_norm_eps=1e-6)",
        "run('a text,\\nnot a program')",
    ],
)
def test_what_is_not_by_hand_is_left_alone(text: str) -> None:
    assert parsed(text) and not any(by_hand(node) for statement in parsed(text) for node in nodes(statement))
