"""`check`: a model run in every framework asked for, and how far each output and part lies from the reference's."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from triptych.errors import ArgumentError
from triptych.hub.fetching import fetch_model
from triptych.modeling.auto import AutoConfig
from triptych.names import BACKENDS
from triptych.tools.editing import open_draft
from triptych_conformance.diagnosing import Finding, find, fitting
from triptych_conformance.inputs import make_inputs
from triptych_conformance.measuring import SCORES, Measures, measure
from triptych_conformance.running import TRANSFORMERS, Run, run_folder, run_function
from triptych_conformance.tolerance import compare, compare_low_precision
from triptych_conformance.tracing import Part

LOW = ("bfloat16", "float16")


@dataclass(frozen=True)
class Report:
    """How a model's sides compare: `outputs` and `parts` by (name, "pt-tf"), the parts in the order of their calls.

    `tokens` says by pair how many greedy tokens are equal, of how many; `weights` the names whose values differ, by
    side, from the file's, of sides that load that file; `findings` what departs first, and what it points to.
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

    @property
    def passed(self) -> bool:
        """Whether every output is close, every weight is the file's, and every token equal where dtype is float32."""
        same = all(equal == of for equal, of in self.tokens.values()) or self.dtype in LOW
        return all(one.close for one in self.outputs.values()) and not any(self.weights.values()) and same

    @property
    def pairs(self) -> list[str]:
        return list(dict.fromkeys(pair for _, pair in (*self.outputs, *self.parts)))


def check(model: str, sides: Sequence[str] = ("pt", "tf", "flax"), *, stem: str | None = None, dtype: str = "float32",
          inputs: Mapping[str, np.ndarray] | None = None, batch: int = 2, length: int = 12, seed: int = 0,
          tokens: int = 32, progress: Callable[[str], None] = lambda side: None) -> Report:  # fmt: skip
    """Run a model on every side and compare: outputs, parts, weights, greedy tokens. One model is held at a time.

    Args:
        model: a folder, or the name of a Hub repository.
        sides: two or more of "pt", "tf", "flax", "transformers" (its own class), "module:function" (a function of the
            folder that returns one of arrays by name that returns arrays by name); or "SIDE=FOLDER", another
            checkpoint on that side. The first is the reference.
        stem: the class, as it is called in PyTorch; default: the one in the config's architectures.
        dtype: "float32", or "bfloat16" or "float16": then as near to float32 as the reference is.
        inputs: arrays by argument; default: `make_inputs` of batch, length and seed.
        tokens: how many greedy tokens to compare, of models that generate; 0 for none.
        progress: is told each side before it runs.

    Raises:
        ArgumentError: an argument is not as above. What loading the model raises.
    """
    if len(sides) < 2 or len(set(sides)) < len(sides):
        raise ArgumentError("There is nothing to compare.", expected="two different sides or more",
                            received=", ".join(sides) or "none")  # fmt: skip
    folder = Path(fetch_model(model, "", {}))
    config = AutoConfig.from_pretrained(folder)
    stem = stem or next(iter(config.architectures or ()), None)
    if stem is None:
        raise ArgumentError("The config does not say which class the model is of.", expected="architectures",
                            received="none", remedy="pass stem=, or --class")  # fmt: skip
    given = dict(inputs) if inputs is not None else make_inputs(config, stem, batch=batch, length=length, seed=seed)

    def run(side: str, dtype: str) -> Run:
        progress(side if dtype == "float32" else f"{side}, {dtype}")
        kind, _, other = side.partition("=")
        where = Path(fetch_model(other, "", {})) if other else folder
        if kind in BACKENDS or kind == TRANSFORMERS:
            made = run_folder(
                kind, where, stem, given, dtype=dtype, tokens=tokens if dtype == "float32" else 0, stored=folder
            )
        elif ":" in kind:
            made = run_function(kind, where, given)
        else:
            raise ArgumentError("It is not known what to compare.", expected=f"{', '.join(BACKENDS)}, {TRANSFORMERS} "
                                "or module:function", received=side)  # fmt: skip
        return replace(made, side=side)

    runs = [run(side, dtype) for side in sides]
    exact = run(sides[0], "float32") if dtype in LOW else None
    mask = given.get("attention_mask")
    return report_of(model, folder, stem, runs, None if mask is None else mask.reshape(-1, mask.shape[-1]),
                     dtype=dtype, exact=exact, config=config)  # fmt: skip


def report_of(model: str, folder: Path, stem: str, runs: Sequence[Run], mask: np.ndarray | None, *,
              dtype: str = "float32", exact: Run | None = None, config: Any = None) -> Report:  # fmt: skip
    """Compare runs of one model; the first is the reference.

    Args:
        exact: in low precision, the reference's run in float32, of which the others are to be about as near as
            the reference is.
    """
    outputs: dict[tuple[str, str], Measures] = {}
    parts: dict[tuple[str, str], Measures] = {}
    reference = runs[0]
    for one, other in itertools.combinations(runs, 2):
        pair = f"{one.side}-{other.side}"
        if exact is not None and one is not reference:
            continue
        for name in _names(one, other):
            outputs[name, pair] = _measured(name, one, other, mask, exact)
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
                    reference.weights)  # fmt: skip
    if exact is None and not report.passed:
        stored = _Stored(folder)
        report.findings.update({
            f"{reference.side}-{run.side}": found
            for run in runs[1:] if (found := find(reference, run, mask, stored, config)) is not None
        })  # fmt: skip
    return report


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


def _measured(name: str, one: Run, other: Run, mask: np.ndarray | None, exact: Run | None) -> Measures:
    if name not in one.outputs or name not in other.outputs:
        return measure(np.zeros(0), np.zeros(1))
    found, reference = other.outputs[name], one.outputs[name]
    mask = fitting(mask, reference)
    comparison = compare(found, reference, mask)
    if exact is not None:
        comparison = compare_low_precision(found, exact.outputs[name], reference, mask)
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
