"""Every framework computes the same, and that of the origin: outputs, hidden states, attentions, losses, dtypes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from triptych_conformance.checking import report_of
from triptych_conformance.parity import Backend
from triptych_conformance.reporting import as_text
from triptych_conformance.running import Run, departed_weights
from triptych_conformance.suite.arrays import assert_close_outputs
from triptych_conformance.suite.base import SubjectTests, needs
from triptych_conformance.suite.features import FEATURES
from triptych_conformance.suite.subject import Subject
from triptych_conformance.tolerance import assert_close, assert_close_in_low_precision, compare_all_in_low_precision

ENOUGH = 64
"""Of so many values the root of the mean square says something."""


class AgreementTests(SubjectTests):
    """Every framework computes the same."""

    def test_outputs_agree(self, subject: Subject, pair: tuple[Backend, Backend]) -> None:
        """Each output, hidden state and attention; where they part, the failure says at which layer, and why."""
        report = report_of(subject.stem, subject.folder, subject.stem, [_run(subject, backend) for backend in pair],
                           subject.mask, config=subject.config)  # fmt: skip
        first = "; ".join(f"{sides} first at {finding}" for sides, finding in report.findings.items())
        assert report.passed, f"{first}\n{as_text(report)}"

    def test_outputs_are_those_of_the_origin(self, subject: Subject, backend: Backend, origin: Any) -> None:
        """Each output, hidden state and attention; where they part, the failure says at which part of the model."""
        report = report_of(subject.stem, subject.folder, subject.stem, [origin.run, _run(subject, backend)],
                           subject.mask, config=subject.config)  # fmt: skip
        assert report.passed, "\n" + as_text(report)

    @needs("loss")
    def test_losses_agree(self, subject: Subject, pair: tuple[Backend, Backend]) -> None:
        one, other = (_losses(subject, backend) for backend in pair)
        assert one, "make_labels gives labels, and no output is a loss"
        assert other.keys() == one.keys(), f"losses {sorted(other)}, where the reference gives {sorted(one)}"
        assert_close_outputs(other, one)

    @needs("loss")
    def test_losses_are_those_of_the_origin(self, subject: Subject, backend: Backend, origin: Any) -> None:
        found, expected = _losses(subject, backend), origin.losses
        assert expected and set(found) == set(expected)
        assert_close_outputs(found, expected)


class ForwardTests(AgreementTests):
    """What a call computes, however it is called."""

    def test_every_output_is_finite(self, subject: Subject, backend: Backend) -> None:
        outputs = subject.outputs(backend)
        assert outputs and all(np.isfinite(value).all() for value in outputs.values())

    def test_inference_draws_nothing(self, subject: Subject, backend: Backend) -> None:
        model = subject.model(backend)
        outputs = backend.run(model, subject.inputs, **subject.everything(backend, model))
        assert all(np.array_equal(value, outputs[name]) for name, value in subject.outputs(backend).items())

    @needs("dropout")
    def test_training_drops(self, subject: Subject, backend: Backend) -> None:
        assert FEATURES["dropout"][1](subject, backend)

    @needs("attention_mask")
    def test_padding_changes_nothing(self, subject: Subject, backend: Backend) -> None:
        """Nor does what is masked between others: what is at the end no text sees that is read from left to right."""
        inputs = subject.inputs
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        assert not mask.all(), "no position of make_inputs is masked"
        mask[..., max(1, mask.shape[-1] // 3)] = 0
        others = np.where(ids == ids.flat[0], ids.flat[1], ids.flat[0])
        changed = {**inputs, "input_ids": np.where(mask == 0, others, ids)}
        assert not np.array_equal(changed["input_ids"], ids)
        found, expected = (backend.run(subject.model(backend), given) for given in (changed, inputs))
        assert_close_outputs(found, expected, mask.reshape(-1, mask.shape[-1]))

    @needs("attention_mask")
    def test_no_mask_is_a_mask_of_ones(self, subject: Subject, backend: Backend) -> None:
        inputs = subject.inputs
        ones = np.ones_like(inputs.pop("attention_mask"))
        model = subject.model(backend)
        assert_close_outputs(backend.run(model, inputs), backend.run(model, {**inputs, "attention_mask": ones}))

    @needs("attention_mask")
    @pytest.mark.parametrize("dtype", ["bool", "int32", "float32"])
    def test_masks_of_other_dtypes(self, subject: Subject, backend: Backend, dtype: str) -> None:
        inputs = subject.inputs
        inputs["attention_mask"] = inputs["attention_mask"].astype(dtype)
        assert_close_outputs(backend.run(subject.model(backend), inputs), subject.outputs(backend), subject.mask)

    def test_rows_do_not_see_each_other(self, subject: Subject, backend: Backend) -> None:
        twice = {name: np.concatenate([value, value]) for name, value in subject.inputs.items()}
        plain, mask = subject.outputs(backend), subject.mask
        outputs = backend.run(subject.model(backend), twice)
        expected = {name: np.concatenate([plain[name], plain[name]]) for name in outputs}
        assert_close_outputs(outputs, expected, None if mask is None else np.concatenate([mask, mask]))

    @needs("return_dict")
    def test_outputs_as_a_tuple(self, subject: Subject, backend: Backend) -> None:
        model, inputs = subject.model(backend), subject.inputs
        plain = backend.call(model, inputs)
        found = backend.call(model, inputs, return_dict=False)
        assert isinstance(found, tuple) and len(found) == len(plain.to_tuple())
        first = next(iter(backend.run(model, inputs)))
        assert_close_outputs({first: np.asarray(_numpy(found[0]))}, subject.outputs(backend), subject.mask)

    @needs("hidden_states")
    def test_hidden_states_only_where_asked_for(self, subject: Subject, backend: Backend) -> None:
        outputs = backend.run(subject.model(backend), subject.inputs)
        assert not any("hidden_states" in name for name in outputs)
        assert (
            sum(name.startswith(("hidden_states.", "decoder_hidden_states.")) for name in subject.outputs(backend)) > 1
        )

    @needs("attentions")
    def test_attentions_are_probabilities(self, subject: Subject, backend: Backend) -> None:
        found = {name: value for name, value in subject.outputs(backend).items() if "attentions" in name}
        assert found
        for name, value in found.items():
            assert_close(value.sum(-1), np.ones(value.shape[:-1]), what=name)

    @pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
    def test_low_precision_is_as_near_as_the_references(self, subject: Subject, other: Backend, dtype: str) -> None:
        theirs, found = subject.low(subject.reference, dtype), subject.low(other, dtype)
        exact = {name: subject.outputs(subject.reference)[name] for name in theirs}
        comparison = compare_all_in_low_precision(found, exact, theirs, subject.mask)
        comparison.record("all outputs")
        assert comparison.fraction <= 1, str(comparison)
        for name in (name for name, value in exact.items() if value.size >= ENOUGH):
            assert_close_in_low_precision(found[name], exact[name], theirs[name], subject.mask, name)

    @needs("loss")
    def test_labels_change_no_other_output(self, subject: Subject, backend: Backend) -> None:
        plain = subject.outputs(backend)
        outputs = {name: value for name, value in subject.losses(backend).items() if not name.endswith("loss")}
        assert_close_outputs({name: value for name, value in outputs.items() if name in plain}, plain, subject.mask)


def _run(subject: Subject, backend: Backend) -> Run:
    hashes, departed = departed_weights(backend, subject.model(backend), subject.folder)
    return Run(backend.name, subject.outputs(backend), tuple(subject.parts(backend)), hashes, departed)


def _losses(subject: Subject, backend: Backend) -> dict[str, np.ndarray]:
    return {name: value for name, value in subject.losses(backend).items() if name.endswith("loss")}


def _numpy(value: Any) -> np.ndarray:
    return value.detach().numpy() if hasattr(value, "detach") else np.asarray(value)
