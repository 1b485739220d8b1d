"""`examples/third_party`: a family without a schema passes the suite, and its wrong twins fail as they should."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

FOLDER = Path(__file__).parents[1] / "examples" / "third_party"
AGREE = "test_outputs_agree"
PAIRS = f"(TestSprigForCausalLM and ({AGREE} or test_losses_agree or test_gradients_agree or test_greedy_texts_agree))"
BLOCK = r"first at sprig\.blocks\.1\."
WRONG = {
    "DroppingAlways": ("test_inference_draws_nothing[tf]", "array_equal"),
    "ForgottenBuffer": (
        "test_new_weights_have_the_names_and_shapes_of_the_reference[pt-flax]",
        r"AssertionError: flax alone has sprig\.shift$",
    ),
    "LaterPositions": (
        f"{AGREE}[pt-tf]", r"first at between sprig\.words and sprig\.places: tf reads ids that are \+1 off"
    ),
    "MissingMask": (
        f"{AGREE}[pt-flax]", r"first at between sprig\.blocks\.0\.attention\.value and sprig\.blocks\.0\.attention\."
        "output: pt computes attention with a causal mask and one of padding; "
        "flax computes attention with a causal mask alone, that of padding is missing",
    ),
    "OtherActivation": (
        f"{AGREE}[pt-tf]", r"first at between sprig\.blocks\.0\.up and sprig\.blocks\.0\.down: "
        "pt computes the activation quick_gelu; tf computes the activation gelu$"
    ),
    "OtherEpsilon": (
        f"{AGREE}[pt-flax]", r"first at sprig\.blocks\.0\.attention_norm: pt computes LayerNorm with epsilon 0\.02; "
        "flax computes LayerNorm with epsilon 1e-06$",
    ),
    "PermutedHeads": (
        f"{AGREE}[pt-flax]", r"first at between sprig\.blocks\.1\.attention\.value and sprig\.blocks\.1\.attention\."
        "output: pt computes attention with a causal mask and one of padding, its heads reversed; "
        "flax computes attention with a causal mask and one of padding$",
    ),
    "StalePositions": ("test_a_cache_changes_nothing[pt]", r"row \d departs at token \d|scores of tokens .* apart"),
    "StoppedGradient": ("test_gradients_agree[pt-tf]", r"sprig\.places\.weight pt-tf: .* apart"),
    "SwappedNorm": (
        f"{AGREE}[pt-flax]", BLOCK + r"norm: pt computes LayerNorm with epsilon 0\.02, scale and shift swapped; "
        r"flax computes LayerNorm with epsilon 0\.02$",
    ),
    "TransposedKernel": (
        f"{AGREE}[pt-tf]", BLOCK + r"attention\.query: the kernel of one is transposed; "
        r"pt computes the product with the weight as \[out, in\]; "
        r"tf computes the product with the weight as \[in, out\]$",
    ),
    "UntiedHead": (
        "test_new_weights_have_the_names_and_shapes_of_the_reference[pt-tf]",
        r"AssertionError: tf alone has lm_head\.weight$",
    ),
    "WrongCast": (f"{AGREE}[pt-flax]", r"first at sprig\.blocks\.0\.up: pt computes in bfloat16"),
}  # fmt: skip
"""By class of tests: the test that fails, and what it says."""


def run(folder: Path, *tests: str) -> dict[tuple[str, str], str]:
    """Run tests as an author does; return (class, test) -> what its failure says, "" of one that passed."""
    file = folder / "results.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junit-xml={file}", *tests]
    done = subprocess.run(
        [*command, "--triptych-backends", "pt,tf,flax"], cwd=FOLDER, capture_output=True, text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    )  # fmt: skip
    assert done.returncode in (0, 1) and file.exists(), done.stdout + done.stderr
    found = {}
    for case in ElementTree.parse(file).iter("testcase"):
        told = "\n".join(str(one.text) for one in case if one.tag in ("failure", "error"))
        found[str(case.get("classname")).rpartition(".")[2], str(case.get("name"))] = told
    return found


def test_the_family_passes(tmp_path: Path) -> None:
    """In what compares frameworks; all of its tests take two minutes: `pytest` in that folder runs them."""
    found = run(tmp_path, "test_third_party.py", "-k", f"{PAIRS} or (TestSprigModel and {AGREE})")
    assert len(found) > 14 and not {case: told for case, told in found.items() if told}


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], str]:
    tests = [f"wrong/test_wrong.py::Test{twin}::{test}" for twin, (test, _) in WRONG.items()]
    return run(tmp_path_factory.mktemp("wrong"), *tests)


def test_every_twin_is_tested() -> None:
    words = {re.sub("(?<!^)([A-Z])", r"_\1", twin).lower() for twin in WRONG}
    assert words == {file.stem for file in (FOLDER / "wrong").glob("*.py")} - {"test_wrong"}


@pytest.mark.parametrize("twin", WRONG)
def test_a_wrong_twin_is_caught(twin: str, wrong: dict[tuple[str, str], str]) -> None:
    test, message = WRONG[twin]
    assert re.search(message, wrong[f"Test{twin}", test], re.MULTILINE), wrong[f"Test{twin}", test]
