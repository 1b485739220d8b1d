"""`triptych parity`: what it finds in a model that is the same everywhere, and in models broken on purpose."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from small_models import config_of, random_folder
from triptych.cli import app
from triptych.errors import ArgumentError
from triptych_conformance import Backend
from triptych_conformance.checking import Report, check, is_in_doubt, report_of
from triptych_conformance.hub.client import running
from triptych_conformance.inputs import make_inputs
from triptych_conformance.measuring import measure
from triptych_conformance.reporting import as_html, as_junit, as_text
from triptych_conformance.running import Run, departed_weights
from triptych_conformance.tolerance import FLOAT32
from triptych_conformance.tracing import tracing_pt

CONFIG = config_of("bert", "BertForMaskedLM")
INPUTS = make_inputs(CONFIG, "BertForMaskedLM")
LAYER = "bert.encoder.layer.1."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_folder(tmp_path_factory.mktemp("model"), CONFIG, "BertForMaskedLM")


def test_the_command_says_what_is_the_same(folder: Path, tmp_path: Path) -> None:
    files = {name: tmp_path / f"report.{name}" for name in ("json", "junit", "html")}
    options = [word for name, file in files.items() for word in (f"--{name}", str(file))]
    done = CliRunner().invoke(app, ["parity", str(folder), *options])
    assert done.exit_code == 0, done.output
    assert "PASSED: BertForMaskedLM computes the same in pt, tf, flax" in done.output
    told = json.loads(files["json"].read_text())
    assert told["passed"] and len(told["weights"]["sha256"]) == 42 and not any(told["weights"]["departed"].values())
    assert {row["pair"] for row in told["outputs"]} == {"pt-tf", "pt-flax", "tf-flax"}
    query = [row for row in told["parts"] if row["name"] == LAYER + "attention.self.query"]
    assert len(query) == 3 and all(0 < row["fraction"] < 1 and row["cosine"] > 0.999 for row in query)
    assert {row["agreement"] for row in told["outputs"] if row["name"] == "logits"} == {1.0}
    suite = ElementTree.fromstring(files["junit"].read_bytes())
    assert suite.get("failures") == "0" and int(suite.get("tests") or 0) == len(told["outputs"]) + 3
    page = files["html"].read_text()
    assert "PASSED" in page and LAYER.rstrip(".") in page and "<script" not in page and "http" not in page


def transpose(model: Any) -> None:
    weight = model.bert.encoder.layer[1].attention.self.query.weight
    weight.data = weight.data.T.contiguous()


def swap(model: Any) -> None:
    norm = model.bert.encoder.layer[1].output.LayerNorm
    norm.weight.data, norm.bias.data = norm.bias.data.clone(), norm.weight.data.clone()


def permute(model: Any) -> None:
    weight = model.bert.encoder.layer[1].attention.self.value.weight
    weight.data = torch.cat([weight.data[4:], weight.data[:4]])


def untie(model: Any) -> None:
    decoder = model.cls.predictions.decoder
    decoder.weight = torch.nn.Parameter(decoder.weight.detach().roll(1, 0))


def drop_bias(model: Any) -> None:
    model.bert.encoder.layer[1].intermediate.dense.bias.data.zero_()


WEIGHTS: list[tuple[Callable[[Any], None], str, str]] = [
    (transpose, LAYER + "attention.self.query", "broken holds it transposed"),
    (swap, LAYER + "output.LayerNorm", "scale and shift are swapped"),
    (permute, LAYER + "attention.self.value", "broken holds it with its 3 heads shifted by 1, along axis 0"),
    (drop_bias, LAYER + "intermediate.dense", "broken computes the product as [out, in] without the bias"),
]
CALLS: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    ({"layer_norm_eps": 1e-3}, {}, "bert.embeddings.LayerNorm: ", "broken computes LayerNorm with epsilon 0.001"),
    ({"hidden_act": "relu"}, {},
     "between bert.encoder.layer.0.intermediate.dense and bert.encoder.layer.0.output.dense",
     "broken computes the activation relu"),
    ({}, {"attention_mask": None}, "between bert.encoder.layer.0.attention.self.value and",
     "pt computes attention with a mask of padding; broken computes attention with no mask at all"),
    ({}, {"position_ids": np.arange(1, 13)[None]},
     "between bert.embeddings.token_type_embeddings and bert.embeddings.position_embeddings",
     "broken reads ids that are +1 off"),
]  # fmt: skip


def run(folder: Path, side: str, change: Callable[[Any], None] | None = None, changes: Any = None,
        inputs: Any = None) -> Run:  # fmt: skip
    backend = Backend("pt")
    model = backend.load("BertForMaskedLM", folder, **(changes or {}))
    if change is not None:
        change(model)
    given = {name: value for name, value in {**INPUTS, **(inputs or {})}.items() if value is not None}
    with tracing_pt(model) as trace:
        outputs = backend.run(model, given, output_hidden_states=True)
    hashes, departed = departed_weights(backend, model, folder)
    return Run(side, outputs, tuple(trace.parts), hashes, departed)


def compared(folder: Path, broken: Run) -> Report:
    return report_of("model", folder, "BertForMaskedLM", [run(folder, "pt"), broken], INPUTS["attention_mask"],
                     config=CONFIG)  # fmt: skip


@pytest.mark.parametrize(("change", "place", "because"), WEIGHTS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_damaged_weight_is_named(folder: Path, change: Callable[[Any], None], place: str, because: str) -> None:
    report = compared(folder, run(folder, "broken", change))
    assert not report.passed and report.weights["broken"]
    found = str(report.findings["pt-broken"])
    assert found.startswith(place) and because in found, found


@pytest.mark.parametrize(("changes", "inputs", "place", "because"), CALLS)
def test_another_computation_is_named(
    folder: Path, changes: dict[str, Any], inputs: dict[str, Any], place: str, because: str
) -> None:
    report = compared(folder, run(folder, "broken", changes=changes, inputs=inputs))
    assert not report.passed and not report.weights["broken"]
    found = str(report.findings["pt-broken"])
    assert found.startswith(place) and because in found, found


def test_a_broken_tie_is_named(folder: Path) -> None:
    found = str(compared(folder, run(folder, "broken", untie)).findings["pt-broken"])
    assert found == ("cls.predictions.decoder: pt computes the product with bert.embeddings.word_embeddings.weight, "
                     "tied, and cls.predictions.bias; broken computes something else")  # fmt: skip


def test_a_failure_is_in_every_form(folder: Path) -> None:
    report = compared(folder, run(folder, "broken", swap))
    assert as_text(report).splitlines()[-1].startswith("FAILED: BertForMaskedLM is not the same in pt, broken: ")
    suite = ElementTree.fromstring(as_junit(report))
    failed = {case.get("name"): case[0].get("message") for case in suite if len(case)}
    assert set(failed) == {"logits pt-broken", "hidden_states.2 pt-broken", "weights broken"}
    assert "swapped" in as_html(report) and "FAILED" in as_html(report)


def test_sides(folder: Path) -> None:
    report = check(str(folder), ["pt", "transformers", "test_parity_report:ours"], tokens=0)
    assert report.passed and set(report.pairs) == {
        "pt-transformers", "pt-test_parity_report:ours", "transformers-test_parity_report:ours"}  # fmt: skip
    assert (LAYER + "attention.self.query", "pt-transformers") in report.parts


def test_another_checkpoint_is_a_side(folder: Path, tmp_path: Path) -> None:
    model = Backend("pt").load("BertForMaskedLM", folder)
    transpose(model)
    model.save_pretrained(tmp_path / "theirs")
    done = CliRunner().invoke(app, ["parity", str(folder), str(tmp_path / "theirs"), "--in", "pt"])
    assert done.exit_code == 1 and f"part first at {LAYER}attention.self.query: " in done.output
    assert "theirs holds it transposed" in done.output and "FAILED" in done.output
    assert check(str(folder), ["pt", f"pt={folder}"], tokens=0).passed


@pytest.mark.parametrize(
    ("sides", "options", "text"),
    [
        (["pt"], {}, "two different sides"),
        (["pt", "keras"], {}, "module:function"),
        (["pt", "os:nothing"], {}, "os:nothing"),
        (["pt", "math:sqrt"], {}, "math:sqrt failed.*TypeError"),
        (["pt", "test_parity_report:texts"], {}, "numbers"),
        (["pt", "flax"], {"stem": "FooModel"}, "no such class.*FooModel"),
        (["pt", "transformers"], {"stem": "BertForMultipleChoice"}, "lacks weights of BertForMultipleChoice"),
        (["pt", "flax"], {"length": 40}, "BertForMaskedLM in pt failed.*IndexError"),
    ],
)
def test_what_cannot_be_compared(folder: Path, sides: list[str], options: dict[str, Any], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        check(str(folder), sides, **options)


def test_files_are_looked_at_first(folder: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["parity", str(folder), "--html", str(tmp_path / "nowhere/page.html")])
    assert done.exit_code == 2 and "a folder that exists" in done.stderr


def test_low_precision_is_held_against_float32(folder: Path) -> None:
    report = check(str(folder), ["pt", "flax"], dtype="bfloat16", tokens=0)
    logits = report.outputs["logits", "pt-flax"]
    assert report.passed and logits.largest > 10 * FLOAT32
    assert "about as near to float32 in bfloat16 as pt is" in as_text(report)


def test_a_repository_is_a_model(folder: Path, tmp_path: Path) -> None:
    with running(tmp_path) as hub:
        hub.create("org/bert")
        hub.commit_folder("org/bert", folder)
        assert check("org/bert", ["pt", "flax"], tokens=0).passed


def texts(folder: Path) -> Any:
    """A side that returns no numbers."""
    return lambda inputs: {"logits": "many"}


def ours(folder: Path) -> Any:
    """A side of somebody's own: a function of the folder."""
    backend = Backend("pt")
    model = backend.load("BertForMaskedLM", folder)
    return lambda inputs: backend.run(model, inputs, output_hidden_states=True)


def test_measures() -> None:
    reference = np.array([[1.0, 2.0, 4.0]])
    same = measure(reference, reference, scores=True)
    assert (same.largest, same.cosine, same.divergence, same.agreement, same.fraction) == (0, 1, 0, 1, 0)
    other = measure(np.array([[1.0, 5.0, 4.0]]), reference, scores=True)
    assert (other.largest, other.mean, other.relative_largest, other.agreement) == (3, 1, 0.75, 0)
    assert not other.close and measure(np.zeros(2), reference).fraction == np.inf


def test_a_reference_in_doubt_is_measured_by_float64(folder: Path) -> None:
    right = run(folder, "tf")
    off = replace(right, side="pt", outputs={**right.outputs, "logits": right.outputs["logits"] * (1 + 5e-5)})
    precise = run(folder, "pt", changes={"dtype": "float64"})

    def told(*runs: Run, precise: Run | None = None) -> Report:
        return report_of("model", folder, "BertForMaskedLM", list(runs), INPUTS["attention_mask"], precise=precise)

    assert is_in_doubt(told(off, right)) and not is_in_doubt(told(right, right))
    measured = told(off, right, precise=precise)
    assert measured.passed and "in float64" in as_text(measured)
    wrong = replace(off, side="flax")
    assert not told(replace(right, side="pt"), wrong, precise=precise).passed
    assert not told(off, right, wrong, precise=precise).passed
    far = replace(off, outputs={**off.outputs, "logits": off.outputs["logits"] + 1})
    assert not is_in_doubt(told(far, right))
