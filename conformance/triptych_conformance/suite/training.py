"""Training: gradients that are those of the call, and the same steps and dropout in every framework."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

import numpy as np

from triptych_conformance.gradients import gradient_parity, without_dropout
from triptych_conformance.parity import Backend
from triptych_conformance.stepping import held_by, losses_of_steps, numbers_kept, objective_of
from triptych_conformance.suite.arrays import are_others, assert_close_outputs
from triptych_conformance.suite.base import SubjectTests, needs
from triptych_conformance.suite.subject import Subject
from triptych_conformance.tolerance import FLOAT32, assert_close

LENGTH = 3e-3
"""Of a step, over all parameters: so short that what it does to the loss is what the gradient says."""


class TrainingTests(SubjectTests):
    """What a loss, or else a weighted mean of the outputs, is lowered by; see `gradients_of`."""

    def test_gradients_agree(self, subject: Subject, pair: tuple[Backend, Backend]) -> None:
        gradient_parity({backend.name: subject.gradients(backend) for backend in pair}).assert_within()

    def test_every_parameter_has_a_gradient(self, subject: Subject, backend: Backend) -> None:
        gradients = subject.gradients(backend)
        trained = {weight.name for weight in subject.still(backend).schema.stored() if not weight.buffer}
        assert gradients.keys() == trained, "these are not the parameters of the schema"
        none = [name for name, gradient in gradients.items() if not gradient.any()]
        lost = [name for name in none if not _fits(name, subject.no_gradient)]
        assert not lost, f"the loss does not depend on these: {', '.join(lost)}: a mistake, or one for `no_gradient`"
        rounding = FLOAT32 * np.abs(_flat(gradients)).max()
        said = [name for name in gradients if _fits(name, subject.no_gradient)]
        found = [name for name in said if np.abs(gradients[name]).max() > rounding]
        idle = [pattern for pattern in subject.no_gradient if not any(fnmatch(name, pattern) for name in said)]
        assert not idle and not found, f"of `no_gradient`, {idle} fits no parameter, and {found} have a gradient"

    def test_gradients_are_those_of_the_call(self, subject: Subject, backend: Backend) -> None:
        """A step down the gradient lowers the loss by about as much as its length says."""
        before, after, _ = _two_steps(subject, backend).losses
        expected = LENGTH * _size(subject.gradients(subject.reference))
        assert after < before, f"a step of SGD raised the loss from {before} to {after}"
        found = before - after
        assert 0.75 * expected < found < 1.25 * expected, (
            f"a step of SGD lowers the loss by {found:.3e}, and by its gradient {expected:.3e}: does a part of the "
            "call stop the gradient, or change it?"
        )

    def test_two_steps_agree(self, subject: Subject, pair: tuple[Backend, Backend]) -> None:
        one, other = (_two_steps(subject, backend).losses for backend in pair)
        for when, value, expected in zip(("before", "after one step", "after two steps"), other, one, strict=True):
            assert_close(value, expected, what=f"the loss {when}")

    def test_frozen_parameters_stay(self, subject: Subject, backend: Backend) -> None:
        """In the second step every second one is frozen; the others are trained all the same."""
        steps, gradients = _two_steps(subject, backend), subject.gradients(subject.reference)
        same = {name for name, array in steps.after.items() if np.array_equal(array, steps.before[name])}
        moved = [name for name in steps.frozen if name not in same]
        assert not moved, f"frozen, and changed by a step: {', '.join(moved)}"
        large = 1e-2 * np.abs(_flat(gradients)).max()
        stuck = [
            name for name in gradients if name in same - set(steps.frozen) and np.abs(gradients[name]).max() > large
        ]
        assert not stuck, f"not frozen, and a step left them as they are: {', '.join(stuck)}"

    @needs("checkpointing")
    def test_gradients_of_layers_computed_anew(self, subject: Subject, backend: Backend) -> None:
        plain, anew = subject.gradients(backend), subject.gradients(backend, checkpointing=True)
        gradient_parity({"plain": plain, "anew": anew}).assert_within()
        assert not subject.still(backend).is_gradient_checkpointing, "gradient_checkpointing_disable left it on"
        if backend.name == "pt":
            much, little = (numbers_kept(subject.still(backend), subject.training_inputs, on) for on in (False, True))
            assert little < much, f"{little} numbers are kept for the gradient, where {much} are without checkpointing"

    def test_inference_changes_nothing(self, subject: Subject, backend: Backend) -> None:
        model = subject.fresh(backend)
        before = held_by(backend, model)
        backend.run(model, subject.inputs)
        after = held_by(backend, model)
        changed = [name for name, array in before.items() if not np.array_equal(array, after[name], equal_nan=True)]
        assert after.keys() == before.keys() and not changed, f"a call for inference changes {', '.join(changed)}"

    @needs("dropout", "seeded_dropout")
    def test_seeded_dropout_agrees(self, subject: Subject, pair: tuple[Backend, Backend]) -> None:
        one, other = (_seeded(subject, backend) for backend in pair)
        assert one.keys() == other.keys()
        assert_close_outputs(other, one, subject.mask, ", trained with seed 1")
        assert are_others(one, subject.outputs(pair[0]), subject.mask), "nothing is dropped"


@dataclass(frozen=True)
class Steps:
    """Losses before and after each of two steps, and weights before and after the second, in which some are frozen."""

    losses: list[float]
    before: dict[str, np.ndarray]
    after: dict[str, np.ndarray]
    frozen: list[str]


def _two_steps(subject: Subject, backend: Backend) -> Steps:
    gradients, inputs = subject.gradients(subject.reference), subject.training_inputs
    rate, frozen = LENGTH / _size(gradients), list(gradients)[::2]

    def compute() -> Steps:
        model = subject.fresh(backend, config=without_dropout(subject.config))
        losses = losses_of_steps(backend, model, inputs, rate, 1)
        before = subject.weights(backend, model)
        losses += losses_of_steps(backend, model, inputs, rate, 1, frozen)
        return Steps([*losses, objective_of(backend, model, inputs)], before, subject.weights(backend, model), frozen)

    return subject.once("two steps", backend, compute)


def _seeded(subject: Subject, backend: Backend) -> dict[str, np.ndarray]:
    return subject.once("seeded", backend, lambda: subject.seeded_outputs(backend, 1))


def _size(gradients: dict[str, np.ndarray]) -> float:
    return float(np.sqrt(np.square(_flat(gradients)).sum()))


def _flat(gradients: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([gradient.astype(np.float64).reshape(-1) for gradient in gradients.values()])


def _fits(name: str, patterns: Any) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)
