"""`check`: a model run in every framework asked for, and how far each output and part lies from the reference's."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from triptych.config import PretrainedConfig
from triptych.errors import ArgumentError, ConfigError
from triptych.hub.fetching import fetch_model
from triptych.modeling.auto import AutoConfig
from triptych.names import BACKENDS
from triptych.tools.editing import open_draft
from triptych_conformance.diagnosing import Finding, find, find_in_gradients, fitting
from triptych_conformance.gradients import compared_gradients, compared_in_low_precision
from triptych_conformance.inputs import make_inputs, make_labels
from triptych_conformance.measuring import SCORES, Measures, measure
from triptych_conformance.running import Run, run_side, steps_of
from triptych_conformance.sides import Side, class_at, find_side, stem_of
from triptych_conformance.tolerance import compare, compare_low_precision
from triptych_conformance.tracing import Part

LOW = ("bfloat16", "float16")
DOUBT = 10.0
"""As many times too far apart is no more the rounding of the reference."""


@dataclass(frozen=True)
class Report:
    """How a model's sides compare: `outputs` and `parts` by (name, "pt-tf"), the parts in the order of their calls.

    `tokens` says by pair how many greedy tokens are equal, of how many; `weights` the names whose values differ, by
    side, from the file's, of sides that load that file; `findings` what departs first, and what it points to.
    `gradients` are by (parameter, pair), where they were asked for; `transforms` say by side how each weight lies.
    `precise`: outputs that were in doubt are measured against the reference in float64.
    """

    model: str
    stem: str
    dtype: str
    sides: dict[str, str]
    outputs: dict[tuple[str, str], Measures]
    parts: dict[tuple[str, str], Measures]
    tokens: dict[str, tuple[int, int]]
    weights: dict[str, list[str]]
    hashes: dict[str, str]
    findings: dict[str, Finding] = field(default_factory=dict)
    gradients: dict[tuple[str, str], Measures] = field(default_factory=dict)
    transforms: dict[str, dict[str, str]] = field(default_factory=dict)
    precise: bool = False

    @property
    def passed(self) -> bool:
        """Whether every output and gradient is close, every weight is the file's, and every token equal where dtype
        is float32."""
        same = all(equal == of for equal, of in self.tokens.values()) or self.dtype in LOW
        close = all(one.close for one in (*self.outputs.values(), *self.gradients.values()))
        return close and not any(self.weights.values()) and same

    @property
    def pairs(self) -> list[str]:
        return list(dict.fromkeys(pair for _, pair in (*self.outputs, *self.parts)))


Progress = Callable[[str, int, int], None]
"""Is told a step before it is taken, how many are done, and of how many."""


def check(model: str, sides: Sequence[str] = ("pt", "tf", "flax"), *, stem: str | None = None, dtype: str = "float32",
          inputs: Mapping[str, np.ndarray] | None = None, batch: int | None = None, length: int | None = None,
          seed: int = 0, tokens: int = 32, gradients: bool = False, progress: Progress = lambda step, done, of: None,
          ) -> Report:  # fmt: skip
    """Run a model on every side and compare: outputs, parts, weights, greedy tokens, gradients.

    One model is in memory at a time: each side is loaded, run, and given back, and what it computed is kept as arrays.

    Args:
        model: a folder, or the name of a Hub repository.
        sides: two or more of "pt", "tf", "flax", "transformers" and "keras_hub" (their own classes, as installed),
            "module:Class" (of triptych in any framework, or of torch with from_pretrained), "module:function" (a
            function of the folder that returns one of arrays by name that returns arrays by name); or "SIDE=FOLDER",
            another checkpoint on that side. The first is the reference.
        stem: the class, as it is called in PyTorch; default: the one in the config's architectures, or that of
            a "module:Class".
        dtype: "float32", or "bfloat16" or "float16": then as near to float32 as the reference is.
        inputs: arrays by argument; default: `make_inputs` of batch (2), length (12) and seed, for the main input of the
            class.
        tokens: how many greedy tokens to compare, of models that generate; 0 for none.
        gradients: also compare the gradient of each parameter, in float32 within 1e-5 of the largest in the model.
            Without dropout; of the loss with `make_labels` where every class takes labels, unless `inputs` has them;
            else of a fixed weighted mean of the outputs.
        progress: see `Progress`.

    Raises:
        ArgumentError: an argument is not as above. What loading the model raises.
    """
    if len(sides) < 2 or len(set(sides)) < len(sides):
        raise ArgumentError("There is nothing to compare.", expected="two different sides or more",
                            received=", ".join(sides) or "none")  # fmt: skip
    if inputs is not None and (batch is not None or length is not None):
        raise ArgumentError("Inputs have the size that they have.", expected="inputs, or batch and length",
                            received="both")  # fmt: skip
    if dtype not in ("float32", *LOW):
        raise ArgumentError("It is not known how to compare in this dtype.", expected=f"float32, {' or '.join(LOW)}",
                            received=dtype)  # fmt: skip
    folder = Path(fetch_model(model, "", {}))
    config = _config_of(folder, sides)
    named = next(iter(getattr(config, "architectures", None) or ()), None)
    found = [find_side(text, folder, stem or named, config) for text in sides]
    stem = stem or named or next((stem_of(side) for side in found if side.cls is not None), None)
    if stem is None:
        raise ArgumentError("The config does not say which class the model is of.", expected="architectures",
                            received="none", remedy="pass stem=, or --class")  # fmt: skip
    _refuse(found, gradients, dtype)
    main = next((side.main_input for side in found if side.cls is not None), "input_ids")
    size = {"batch": batch or 2, "length": length or 12, "seed": seed}
    given = dict(inputs) if inputs is not None else make_inputs(config, stem, main=main, **size)
    labels = _labels(config, stem, given, found, seed) if gradients else None
    mask = given.get("attention_mask")
    whole = [(side, dtype, tokens if dtype == "float32" else 0) for side in found]
    whole += [(found[0], "float32", 0)] if dtype in LOW else []
    total, done = sum(len(steps_of(side, written, gradients)) for side, _, written in whole), itertools.count()

    def run(side: Side, dtype: str, written: int) -> Run:
        called = side.name if dtype == "float32" else f"{side.name}, {dtype}"
        return run_side(side, stem, given, dtype=dtype, tokens=written, labels=labels, stored=folder,
                        told=lambda step: progress(f"{called}: {step}", next(done), total))  # fmt: skip

    runs = [run(*one) for one in whole]
    exact = runs.pop() if dtype in LOW else None
    progress("comparing", total, total)
    name = folder.absolute().name if Path(model).exists() else model
    about = {"mask": None if mask is None else mask.reshape(-1, mask.shape[-1]), "config": config, "dtype": dtype}
    report = report_of(name, folder, stem, runs, exact=exact, **about)
    if exact is None and is_in_doubt(report) and found[0].framework == "pt":
        total += len(steps_of(found[0], 0, gradients))
        report = report_of(name, folder, stem, runs, precise=run(found[0], "float64", 0), **about)
    return report


def is_in_doubt(report: Report) -> bool:
    """Return whether a model fails by outputs alone which lie so little too far apart that the reference's own rounding
    may be what parts them."""
    beyond = [one.fraction for one in report.outputs.values() if not one.close]
    return bool(beyond) and max(beyond) <= DOUBT


def _config_of(folder: Path, sides: Sequence[str]) -> Any:
    """Return the folder's config: of the class that a side's class says, else by its model_type."""
    for text in sides:
        kind = getattr(class_at(text), "config_class", None)
        if kind is not None:
            return kind.from_pretrained(folder)
    if any(text.partition("=")[0] in BACKENDS for text in sides):
        return AutoConfig.from_pretrained(folder)
    try:
        return AutoConfig.from_pretrained(folder)
    except ConfigError:  # a model that others know, not triptych
        return PretrainedConfig.from_pretrained(folder)


def _refuse(sides: Sequence[Side], gradients: bool, dtype: str) -> None:
    """Raise where a side cannot do what is asked for."""
    for side in sides:
        if gradients and side.cls is None:
            raise ArgumentError(
                f"{side.name} gives outputs, and no gradients.", expected="sides that are classes, where gradients are "
                "asked for", received=side.name, remedy="leave out --gradients (gradients=True), or that side",
            )  # fmt: skip
        if side.function is not None and dtype != "float32":
            raise ArgumentError(f"{side.name} is a function, which is not told a dtype.", expected="float32",
                                received=dtype)  # fmt: skip


def _labels(config: Any, stem: str, inputs: Mapping[str, np.ndarray], sides: Sequence[Side],
            seed: int) -> dict[str, np.ndarray]:  # fmt: skip
    """Return labels that every side takes, and the inputs do not have; none if one of them is not taken by all."""
    labels = make_labels(config, stem, inputs, seed)
    taken = all(side.takes(name) for side in sides for name in labels)
    return labels if taken and not set(labels) & set(inputs) else {}


def report_of(model: str, folder: Path, stem: str, runs: Sequence[Run], mask: np.ndarray | None, *,
              dtype: str = "float32", exact: Run | None = None, precise: Run | None = None,
              config: Any = None) -> Report:  # fmt: skip
    """Compare runs of one model; the first is the reference.

    Args:
        exact: in low precision, the reference's run in float32, of which the others are to be about as near as
            the reference is.
        precise: where two sides in float32 part, the reference's run in float64, to which each of them but the
            reference is to be close.
    """
    outputs: dict[tuple[str, str], Measures] = {}
    parts: dict[tuple[str, str], Measures] = {}
    reference = runs[0]
    for one, other in itertools.combinations(runs, 2):
        pair = f"{one.side}-{other.side}"
        if exact is not None and one is not reference:
            continue
        for name in _names(one, other):
            outputs[name, pair] = _measured(name, one, other, mask, exact, precise, one is reference)
        theirs = {part.name: part.gave for part in other.parts}
        exactly = {part.name: part.gave for part in exact.parts} if exact is not None else None
        for part in one.parts:
            if part.name in theirs:
                parts[part.name, pair] = _measured_part(part, theirs[part.name], mask, exactly)
    if not outputs:
        raise ArgumentError("There is nothing to compare.", expected="two sides at least", received=reference.side)
    tokens = {
        f"{reference.side}-{run.side}": _equal(reference.tokens, run.tokens)
        for run in runs[1:]
        if reference.tokens is not None and run.tokens is not None
    }
    report = Report(model, stem, dtype, {run.side: run.version for run in runs}, outputs, parts, tokens,
                    {run.side: sorted(run.departed) for run in runs if run.weights and "=" not in run.side},
                    reference.weights, gradients=_gradients(runs, exact),
                    transforms={run.side: run.transforms for run in runs if run.transforms},
                    precise=precise is not None)  # fmt: skip
    if exact is None and not report.passed:
        stored = _Stored(folder)
        for run in runs[1:]:
            found = find(reference, run, mask, stored, config) or find_in_gradients(reference, run)
            if found is not None:
                report.findings[f"{reference.side}-{run.side}"] = found
    return report


def _gradients(runs: Sequence[Run], exact: Run | None) -> dict[tuple[str, str], Measures]:
    """Return how far each gradient is from that of a side before; in low precision from the reference's alone."""
    result = {}
    for one, other in itertools.combinations(runs, 2):
        if one.gradients is None or other.gradients is None or (exact is not None and one is not runs[0]):
            continue
        if exact is None:
            compared = compared_gradients(other.gradients, one.gradients)
        else:
            compared = compared_in_low_precision(other.gradients, exact.gradients or {}, one.gradients)
        none = np.zeros(0)
        for name, comparison in compared.items():
            found, reference = other.gradients.get(name, none), one.gradients.get(name, none)
            result[name, f"{one.side}-{other.side}"] = measure(found, reference, comparison=comparison)
    return result


def _names(one: Run, other: Run) -> list[str]:
    names = list(dict.fromkeys((*one.outputs, *other.outputs)))
    if one.whole and other.whole:
        return names
    given = [name for name in names if name in one.outputs and name in other.outputs]
    if not given:
        raise ArgumentError(f"{one.side} and {other.side} have no output in common.", expected=", ".join(one.outputs),
                            received=", ".join(other.outputs))  # fmt: skip
    return given


class _Stored(Mapping[str, np.ndarray]):
    """What a folder's weights are, each read when it is asked for."""

    def __init__(self, folder: Path) -> None:
        self._refs = open_draft(folder).tensors if folder.exists() else {}

    def __getitem__(self, name: str) -> np.ndarray:
        return np.asarray(self._refs[name].read(), np.float32)

    def __iter__(self) -> Iterator[str]:
        return iter(self._refs)

    def __len__(self) -> int:
        return len(self._refs)


def _measured(name: str, one: Run, other: Run, mask: np.ndarray | None, exact: Run | None, precise: Run | None,
              of_reference: bool) -> Measures:  # fmt: skip
    if name not in one.outputs or name not in other.outputs:
        return measure(np.zeros(0), np.zeros(1))
    found, reference = other.outputs[name], one.outputs[name]
    mask = fitting(mask, reference)
    comparison = compare(found, reference, mask)
    if exact is not None:
        comparison = compare_low_precision(found, exact.outputs[name], reference, mask)
    if precise is not None and comparison.fraction > 1:
        sides = [found] if of_reference else [found, reference]
        comparison = max((compare(side, precise.outputs[name], mask) for side in sides), key=lambda c: c.fraction)
    return measure(found, reference, mask, scores=name in SCORES, comparison=comparison)


def _measured_part(part: Part, found: np.ndarray, mask: np.ndarray | None,
                   exactly: Mapping[str, np.ndarray] | None) -> Measures:  # fmt: skip
    mask = fitting(mask, part.gave)
    if exactly is None:
        return measure(found, part.gave, mask)
    return measure(found, part.gave, mask, comparison=compare_low_precision(found, exactly[part.name], part.gave, mask))


def _equal(one: np.ndarray, other: np.ndarray) -> tuple[int, int]:
    length = max(one.shape[-1], other.shape[-1])
    shared = min(one.shape[-1], other.shape[-1])
    same = one[..., :shared] == other[..., :shared]
    return int(np.cumprod(same, -1).sum()), int(length * one.shape[0])
