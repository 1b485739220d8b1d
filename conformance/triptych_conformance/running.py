"""One run of one model on given inputs, kept as arrays: what two frameworks are compared by once they are gone again.

A side is a framework's class on a folder, transformers' own class on it ("transformers"), or any function
("module:function") that returns what computes outputs from arrays.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import importlib.metadata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from triptych.backends import is_installed
from triptych.errors import ArgumentError, MissingBackendError, TriptychError
from triptych.tools.editing import open_draft
from triptych_conformance.parity import Backend
from triptych_conformance.tracing import TRACING, Part, tracing_pt

Arrays = Mapping[str, np.ndarray]
TRANSFORMERS = "transformers"
PACKAGES = {"pt": "torch", "tf": "tensorflow", "flax": "jax"}


@dataclass(frozen=True)
class Run:
    """What one side computed.

    `outputs` by name, float32; `parts` in the order of their calls; `weights` are SHA-256 of each weight in canonical
    layout, `departed` those weights that are not what the model's file holds; `tokens` what greedy search wrote, or
    None. Of a side that is not `whole`, a user's function, the outputs that it does not give are not missed.
    """

    side: str
    outputs: dict[str, np.ndarray]
    parts: tuple[Part, ...] = ()
    weights: dict[str, str] = field(default_factory=dict)
    departed: dict[str, np.ndarray] = field(default_factory=dict)
    tokens: np.ndarray | None = None
    version: str = ""
    whole: bool = True


def run_folder(side: str, folder: Path, stem: str, inputs: Arrays, *, dtype: str = "float32", tokens: int = 0,
               stored: Path | None = None) -> Run:  # fmt: skip
    """Load `folder` on one side, run `inputs`, and give the model back.

    Args:
        side: "pt", "tf", "flax" or "transformers".
        stem: the class, as it is called in PyTorch.
        dtype: that of from_pretrained, in which to compute.
        tokens: how many greedy tokens to write after `input_ids`; 0 for none.
        stored: the folder with whose weights those of the model are compared; default: its own.

    Raises:
        ArgumentError: there is no such class; the folder lacks weights of it, which each side would draw anew; or it
            fails on these inputs. MissingBackendError: the side's package is not installed. What a load raises.
    """
    loaded = _load_transformers if side == TRANSFORMERS else _load
    model, info, backend, tracing = loaded(side, folder, stem, dtype)
    if missing := sorted(info["missing_keys"]):
        raise ArgumentError(
            f"{folder} lacks weights of {stem}, which each side would draw anew.", expected="every weight",
            received=f"none for {len(missing)} of them: {', '.join(missing[:3])}", remedy="pass stem=, or --class",
        )  # fmt: skip
    knows = side == TRANSFORMERS or backend.takes(model, "output_hidden_states")
    asked = {"output_hidden_states": True} if knows else {}
    with tracing(model) as trace, _failures(f"{stem} in {side}", "inputs that the model reads"):
        outputs = backend.run(model, inputs, **asked)
    compared = side != TRANSFORMERS and dtype == "float32"
    weights, departed = departed_weights(backend, model, stored or folder) if compared else ({}, {})
    with _failures(f"generate of {stem} in {side}", "room for the tokens, or fewer of them"):
        written = _greedy(backend, model, inputs, tokens) if tokens else None
    package = PACKAGES.get(side, TRANSFORMERS)
    run = Run(side, outputs, tuple(trace.parts), weights, departed, written,
              f"{package} {importlib.metadata.version(package_of(package))}")  # fmt: skip
    del model
    gc.collect()
    return run


@contextmanager
def _failures(what: str, expected: str) -> Iterator[None]:
    """Say of whatever a framework, or a function of the user's, raises whose it is."""
    try:
        yield
    except TriptychError:
        raise
    except Exception as cause:
        raise ArgumentError(f"{what} failed.", expected=expected,
                            received=f"{type(cause).__name__}: {str(cause)[:300]}") from cause  # fmt: skip


def package_of(module: str) -> str:
    """Return the distribution that has `module`."""
    return importlib.metadata.packages_distributions()[module][0]


def run_function(side: str, folder: Path, inputs: Arrays) -> Run:
    """Run what a function of the user's makes of `folder`.

    Args:
        side: "module:function"; `function(folder)` returns what computes a dict of arrays from a dict of arrays.

    Raises:
        ArgumentError: there is no such function, it fails, or it is not as above.
    """
    name, _, function = side.partition(":")
    try:
        make = getattr(importlib.import_module(name), function)
    except (ImportError, AttributeError) as error:
        raise ArgumentError(
            f"There is no {side}.", expected="module:function, to be imported here", received=str(error),
            remedy="put the module's folder onto PYTHONPATH",
        ) from error  # fmt: skip
    with _failures(side, "a function of the folder that returns one of a dict of arrays"):
        outputs = make(folder)(dict(inputs))
    if not isinstance(outputs, Mapping):
        raise ArgumentError(f"{side} computed no outputs.", expected="a dict of arrays by the names of the outputs",
                            received=type(outputs).__name__)  # fmt: skip
    with _failures(f"What {side} returns", "numbers"):
        return Run(side, {key: np.asarray(value, np.float32) for key, value in outputs.items()}, whole=False)


Loaded = tuple[Any, Mapping[str, Any], Backend, Any]
"""A model, what its load says, whose it is, and what traces it."""


def _load(side: str, folder: Path, stem: str, dtype: str) -> Loaded:
    backend = Backend(side)
    try:
        kind = backend.cls(stem)
    except AttributeError as error:
        raise _no_class(stem, side) from error
    model, info = kind.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    return model, info, backend, TRACING[side]


def _load_transformers(side: str, folder: Path, stem: str, dtype: str) -> Loaded:
    if not is_installed(TRANSFORMERS):
        raise MissingBackendError(f"{TRANSFORMERS} cannot be imported.", expected=TRANSFORMERS, received="none",
                                  remedy=f"pip install {TRANSFORMERS}")  # fmt: skip
    kind = getattr(importlib.import_module(TRANSFORMERS), stem, None)
    if kind is None:
        raise _no_class(stem, side)
    model, info = kind.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    return model.eval(), info, Backend("pt"), tracing_pt


def _no_class(stem: str, side: str) -> ArgumentError:
    return ArgumentError("There is no such class.", expected=f"one of {side}, as it is called in PyTorch",
                         received=stem, remedy="pass stem=, or --class")  # fmt: skip


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
    first = {name: inputs[name][:1] for name in ("input_ids", "attention_mask")}
    given: dict[str, Any] = dict(first)
    if backend.name == "pt":
        import torch

        given = {name: torch.tensor(value) for name, value in first.items()}
    made = model.generate(**given, max_new_tokens=tokens, do_sample=False, num_beams=1)
    return np.asarray(made.sequences if hasattr(made, "sequences") else made)
