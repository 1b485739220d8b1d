"""Rows of the contract about generation, which is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from live_models import IDS
from probing import refuses
from small_models import SMALL
from triptych import (
    ArgumentError,
    GPT2Config,
    MissingMethodError,
    MissingNameError,
)
from triptych_conformance import Backend, assert_close
from walk import row

LATER = "a later release generates"
NO_GENERATE = f"False of built-in classes, whose `generate` is refused: {LATER}; True of a class that has its own"


@row("5.4.71", note=NO_GENERATE, pt="R")
@row("6.60", note=NO_GENERATE, tf="R")
@row("7.37", note=NO_GENERATE, flax="R")
@row("11.31", note=NO_GENERATE, pt="R", tf="R", flax="R")
def can_generate(backend: Backend, folder: Path) -> None:
    built_in = backend.cls("GPT2LMHeadModel")
    assert built_in.can_generate() is False
    with pytest.raises(MissingMethodError, match="init_cache"):
        built_in.generate(None)

    class Generating(built_in):  # type: ignore[misc, valid-type]
        def generate(self) -> int:
            return 1

    assert Generating.can_generate() and Generating._may_generate()
    assert not backend.cls("BertModel").can_generate() and not backend.cls("BertModel")._may_generate()


@row("5.5.68", pt="R", note=f"the code is not run: {LATER}, and `generate` says so")
def code_that_generates(backend: Backend, folder: Path) -> None:
    GPT2 = backend.cls("GPT2LMHeadModel")
    GPT2(GPT2Config(**SMALL["gpt2"])).save_pretrained(folder)
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate/generate.py").write_text("raise SystemExit('run')")
    model = GPT2.from_pretrained(folder)
    for act in (model.generate, model.load_custom_generate):
        with pytest.raises(MissingMethodError, match="does not generate yet"):
            act(IDS, custom_generate=str(folder))


GENERATION = {
    "5.10.1": ("pt", "generate"), "5.10.2": ("pt", "prepare_inputs_for_generation"),
    "5.10.3": ("pt", "compute_transition_scores"), "5.10.4": ("pt", "heal_tokens"),
    "5.10.5": ("pt", "load_custom_generate"), "5.10.6": ("pt", "init_continuous_batching"),
    "5.10.7": ("pt", "generate_batch"), "6.114": ("tf", "generate"), "6.115": ("tf", "prepare_inputs_for_generation"),
    "6.116": ("tf", "compute_transition_scores"),
    "6.117": ("tf", "greedy_search sample beam_search contrastive_search"), "6.118": ("tf", "seed_generator"),
    "7.72": ("flax", "generate"), "7.73": ("flax", "prepare_inputs_for_generation"),
    "7.74": ("flax", "update_inputs_for_generation"),
    **{f"5.10.{number}": ("pt", "generate") for number in range(8, 23)},
    **{number: ("tf", "generate") for number in ("6.119", "6.120", "6.121")},
    **{number: ("flax", "generate") for number in ("7.75", "7.76", "7.77")},
}  # fmt: skip
"""Row -> the framework, and the methods that are refused: of a hook or a mode, `generate`, which alone calls it."""
for _number, (_framework, _names) in GENERATION.items():
    row(_number, note=f"{LATER}; a call is refused, with what to do", **{_framework: "R"})(
        refuses(*_names.split(), match="init_cache")
    )


@row("11.32", note=f"{LATER}; the import is refused", pt="R", tf="R", flax="R")
@row("11.33", note=f"{LATER}; a call is refused", pt="R", tf="R", flax="R")
@row("9.56", note=f"{LATER}; a call is refused", pt="R")
def generation_is_refused(backend: Backend, folder: Path) -> None:
    prefix = backend.cls("BertModel").class_prefix
    for place in ("triptych", "triptych.generation"):
        with pytest.raises(MissingNameError, match="does not generate yet"):
            # A statement of our own: what `from` makes of a missing name is shown, which importlib would not.
            exec(f"from {place} import {prefix}GenerationMixin")
    model = backend.cls("GPT2LMHeadModel")(GPT2Config(**SMALL["gpt2"]))
    with pytest.raises(MissingMethodError, match="does not generate yet"):
        model.generate(np.ones((1, 2), np.int32), max_new_tokens=2)


@row("6.122", note="a cache of a fixed size is made first, by init_cache; without it, and for tuples, an error", tf="R")
def caches_in_keras(backend: Backend, folder: Path) -> None:
    model = backend.cls("GPT2LMHeadModel")(GPT2Config(**SMALL["gpt2"]))
    ids = IDS.numpy()
    with pytest.raises(ArgumentError, match="init_cache"):
        model(ids, use_cache=True)
    with pytest.raises(ArgumentError, match="init_cache"):
        model(ids, past_key_values=[(np.zeros((2, 3, 1, 4), np.float32),) * 2] * 2)
    first = model(ids[:, :3], past_key_values=model.init_cache(2, 5), use_cache=True)
    then = model(ids[:, 3:], past_key_values=first.past_key_values).logits
    assert_close(then, np.asarray(model(ids).logits)[:, 3:])
