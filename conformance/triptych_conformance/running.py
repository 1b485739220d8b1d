"""One run of one model on given inputs, kept as arrays: what two sides are compared by once their models are gone."""

from __future__ import annotations

import ctypes
import gc
import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from triptych.errors import ArgumentError, TriptychError
from triptych.tools.editing import open_draft
from triptych.weights import layouts
from triptych_conformance import keras_hub_side
from triptych_conformance.gradients import loss_and_gradients
from triptych_conformance.parity import Backend
from triptych_conformance.sides import Side
from triptych_conformance.tracing import TRACING, Part

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Run:
    """What one side computed.

    `outputs` by name, float32; `parts` in the order of their calls; `weights` are SHA-256 of each weight in canonical
    layout, `departed` those weights that are not what the model's file holds; `tokens` what greedy search wrote, or
    None. Of a side that is not `whole`, a user's function, the outputs that it does not give are not missed.
    `gradients` by name, or None where none were asked for; `transforms` how weights lie in the side's framework.
    """

    side: str
    outputs: dict[str, np.ndarray]
    parts: tuple[Part, ...] = ()
    weights: dict[str, str] = field(default_factory=dict)
    departed: dict[str, np.ndarray] = field(default_factory=dict)
    tokens: np.ndarray | None = None
    version: str = ""
    whole: bool = True
    gradients: dict[str, np.ndarray] | None = None
    transforms: dict[str, str] = field(default_factory=dict)


Told = Callable[[str], None]
"""Is told each step before it is taken."""


def run_side(side: Side, stem: str, inputs: Arrays, *, dtype: str = "float32", tokens: int = 0,
             labels: Arrays | None = None, stored: Path | None = None, told: Told = lambda step: None,
             ) -> Run:  # fmt: skip
    """Load what a side computes with, run `inputs`, and give it back: nothing of it is held when this returns.

    Args:
        stem: the class, as it is called in PyTorch; of a function it says nothing.
        dtype: that of from_pretrained, in which to compute.
        tokens: how many greedy tokens to write after the inputs; 0 for none.
        labels: with which to compute a loss and its gradients; an empty dict for those of an objective, None for none.
        stored: the folder with whose weights those of the model are compared; default: its own.
        told: is called before each of `steps_of`.

    Raises:
        ArgumentError: the folder lacks weights of the class, which each side would draw anew; or it fails on these
            inputs. What a load raises.
    """
    if side.function is not None:
        told("running")
        return _run_function(side, inputs)
    if side.is_keras_hub:
        return _run_keras_hub(side, stem, inputs, dtype, told)
    told("loading")
    model = _load(side, dtype)
    backend = Backend(side.framework)
    asked = {"output_hidden_states": True} if side.takes("output_hidden_states") else {}
    told("running")
    with TRACING[side.framework](model) as trace, _failures(f"{stem} in {side.name}", "inputs that the model reads"):
        outputs = backend.run(model, inputs, **asked)
    weights: dict[str, str] = {}
    departed: dict[str, np.ndarray] = {}
    transforms: dict[str, str] = {}
    if side.is_ours and dtype == "float32":
        weights, departed = departed_weights(backend, model, stored or side.folder)
        transforms = transforms_of(side.framework, model)
    gradients = None
    if labels is not None:
        told("gradients")
        with _failures(f"The gradient of {stem} in {side.name}", "labels that the model reads"):
            losses, gradients = loss_and_gradients(side.framework, model, {**inputs, **labels})
        if dtype in ("float32", "float64"):  # of one number the distance in low precision is chance, and no yardstick
            outputs = {**outputs, **losses}
    written = None
    if tokens:
        told("greedy tokens")
        with _failures(f"generate of {stem} in {side.name}", "room for the tokens, or fewer of them"):
            written = _greedy(backend, model, inputs, tokens)
    run = Run(side.name, outputs, tuple(trace.parts), weights, departed, written, side.version(), True, gradients,
              transforms)  # fmt: skip
    del model, trace
    _give_back()
    return run


def steps_of(side: Side, tokens: int, gradients: bool) -> list[str]:
    """Return what `run_side` tells of, in that order."""
    if side.function is not None:
        return ["running"]
    if side.is_keras_hub:
        return ["loading", "running"]
    return ["loading", "running"] + ["gradients"] * gradients + ["greedy tokens"] * bool(tokens)


def _give_back() -> None:
    """Free what nothing holds, and return it to the system: glibc would keep as much as a model for the next."""
    gc.collect()
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


@contextmanager
def _failures(what: str, expected: str) -> Iterator[None]:
    """Say of whatever a framework, or a function of the user's, raises whose it is."""
    try:
        yield
    except TriptychError:
        raise
    except Exception as cause:
        raise ArgumentError(f"{what} failed.", expected=expected,
                            received=f"{type(cause).__name__}: {str(cause)[:300]}",
                            remedy="see inputs=, or --inputs FILE.npz, for others" if "inputs" in expected else "",
                            ) from cause  # fmt: skip


def _run_function(side: Side, inputs: Arrays) -> Run:
    """Run what a function of the user's makes of the folder."""
    with _failures(side.name, "a function of the folder that returns one of a dict of arrays"):
        outputs = side.function(side.folder)(dict(inputs))
    if not isinstance(outputs, Mapping):
        raise ArgumentError(f"{side.name} computed no outputs.", received=type(outputs).__name__,
                            expected="a dict of arrays by the names of the outputs")  # fmt: skip
    with _failures(f"What {side.name} returns", "numbers"):
        return Run(side.name, {key: np.asarray(value, np.float32) for key, value in outputs.items()}, whole=False)


def _run_keras_hub(side: Side, stem: str, inputs: Arrays, dtype: str, told: Told) -> Run:
    told("loading")
    with _failures(f"The load of {stem} by keras-hub", "a folder that keras-hub reads"):
        model = keras_hub_side.load(side.folder, stem, dtype)
    told("running")
    with _failures(f"{stem} in keras-hub", "inputs that the model reads"):
        outputs = keras_hub_side.run(model, inputs)
    del model
    _give_back()
    return Run(side.name, outputs, version=side.version(), whole=False)


def _load(side: Side, dtype: str) -> Any:
    with _failures(f"The load of {side.cls.__name__} by {side.name}", "a folder that the class loads"):
        model, info = side.cls.from_pretrained(side.folder, dtype=dtype, output_loading_info=True)
    if missing := sorted(info["missing_keys"]):
        raise ArgumentError(
            f"{side.folder} lacks weights of {type(model).__name__}, which each side would draw anew.",
            expected="every weight", received=f"none for {len(missing)} of them: {', '.join(missing[:3])}",
            remedy="pass stem=, or --class",
        )  # fmt: skip
    return model.eval() if side.framework == "pt" else model


def transforms_of(framework: str, model: Any) -> dict[str, str]:
    """Return by canonical name how a weight lies in this framework: "as stored", or the stored axes in its order."""
    found = {}
    for weight in model.schema.stored():
        order = layouts.to_native(weight.layout, len(weight.shape), framework)
        found[weight.name] = "as stored" if order is None else f"axes {', '.join(map(str, order))}"
    return found


def departed_weights(backend: Backend, model: Any, folder: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Return the hash of every weight, and those weights that differ from what the file holds."""
    stored, hashes, departed = open_draft(folder).tensors, {}, {}
    for ref in model._tensor_refs():
        array = np.ascontiguousarray(ref.read())
        hashes[ref.name] = hashlib.sha256(array.tobytes()).hexdigest()
        if ref.name in stored and not np.array_equal(array, stored[ref.name].read().astype(array.dtype)):
            departed[ref.name] = array
    return hashes, departed


def _greedy(backend: Backend, model: Any, inputs: Arrays, tokens: int) -> np.ndarray | None:
    if not getattr(model, "can_generate", lambda: False)():
        return None
    main = getattr(model, "main_input_name", "input_ids")
    if main not in inputs:
        return None
    first = {name: inputs[name][:1] for name in (main, "attention_mask") if name in inputs}
    given: dict[str, Any] = dict(first)
    if backend.name == "pt":
        import torch

        given = {name: torch.tensor(value) for name, value in first.items()}
    made = model.generate(**given, max_new_tokens=tokens, do_sample=False, num_beams=1)
    return np.asarray(made.sequences if hasattr(made, "sequences") else made)
