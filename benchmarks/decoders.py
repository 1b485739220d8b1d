"""Greedy decoders for `generate.py`, each of which runs in a process, and perhaps an environment, of its own.

    python benchmarks/decoders.py NAME FOLDER [--cpu]

For every line `BATCH NEW` on standard input, the time of a call that decodes `NEW` tokens after a prompt of 16 is
written, and the tokens of its first row, as a line of JSON. With `--cpu` the process keeps to one core, and its time is
that of the processor: of use where others keep the cores busy. The names that end in `_peer` are those of transformers.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

PROMPT = 16
Decode = Callable[[np.ndarray], np.ndarray]
"""Ids [B, PROMPT] -> the same and the new ones, [B, PROMPT + NEW]."""


def class_of(package: str, name: str) -> Any:
    """Return a class of a package of this environment."""
    return getattr(importlib.import_module(package), name)


def options(new: int) -> dict[str, Any]:
    """Return parameters of greedy search for `new` tokens, which no token ends."""
    return {"max_new_tokens": new, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}


def pt(folder: Path, new: int) -> Decode:
    model = class_of("triptych", "AutoModelForCausalLM").from_pretrained(folder)
    return lambda prompt: model.generate(prompt, **options(new)).numpy()


def tf(folder: Path, new: int) -> Decode:
    model = class_of("triptych", "TFAutoModelForCausalLM").from_pretrained(folder)
    return lambda prompt: model.generate(prompt, jit_compile=True, **options(new)).numpy()


def flax(folder: Path, new: int) -> Decode:
    model = class_of("triptych", "FlaxAutoModelForCausalLM").from_pretrained(folder)
    return lambda prompt: np.asarray(model.generate(prompt, **options(new)).sequences)


def pt_peer(folder: Path, new: int) -> Decode:
    import torch

    model = class_of("transformers", "AutoModelForCausalLM").from_pretrained(folder, dtype="float32")
    model.generation_config.eos_token_id = None

    @torch.inference_mode()
    def decode(prompt: np.ndarray) -> np.ndarray:
        ids = torch.tensor(prompt)
        mask = torch.ones_like(ids)
        return model.generate(ids, attention_mask=mask, max_new_tokens=new, do_sample=False, pad_token_id=0).numpy()

    return decode


def tf_peer(folder: Path, new: int, compiled: bool = True) -> Decode:
    import tensorflow

    model = class_of("transformers", "TFGPT2LMHeadModel").from_pretrained(folder, from_pt=True)
    model.generation_config.eos_token_id = None

    def generate(prompt: Any) -> Any:
        mask = tensorflow.ones_like(prompt)
        return model.generate(prompt, attention_mask=mask, max_new_tokens=new, do_sample=False, pad_token_id=0)

    run = tensorflow.function(generate, jit_compile=True) if compiled else generate
    return lambda prompt: run(tensorflow.constant(prompt, "int32")).numpy()


def tf_eager_peer(folder: Path, new: int) -> Decode:
    return tf_peer(folder, new, compiled=False)


def flax_peer(folder: Path, new: int) -> Decode:
    import jax
    import jax.numpy as jnp

    model = class_of("transformers", "FlaxAutoModelForCausalLM").from_pretrained(folder, from_pt=True)
    model.generation_config.eos_token_id = 0  # which it needs, and never says

    @jax.jit
    def decode(params: Any, prompt: Any) -> Any:
        found = model.generate(
            prompt, attention_mask=jnp.ones_like(prompt), params=params, max_new_tokens=new, do_sample=False,
            pad_token_id=0,
        )  # fmt: skip
        return found.sequences

    return lambda prompt: np.asarray(decode(model.params, jnp.asarray(prompt, jnp.int32)))


def main(name: str, folder: str, kind: str = "") -> None:
    clock = time.process_time if kind == "--cpu" else time.perf_counter
    if kind == "--cpu":
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    answers, sys.stdout = sys.stdout, sys.stderr
    decoders: dict[int, Decode] = {}
    for line in sys.stdin:
        batch, new = map(int, line.split())
        if new not in decoders:
            decoders[new] = DECODERS[name](Path(folder), new)
        prompt = np.random.default_rng(batch).integers(1000, 30000, (batch, PROMPT))
        start = clock()
        ids = decoders[new](prompt)
        taken = clock() - start
        if ids.shape != (batch, PROMPT + new):
            raise SystemExit(f"{name} decoded ids of shape {ids.shape}")
        print(json.dumps({"seconds": taken, "ids": ids[0].tolist()}), file=answers, flush=True)


DECODERS: dict[str, Callable[[Path, int], Decode]] = {
    "pt": pt,
    "pt_peer": pt_peer,
    "tf": tf,
    "tf_peer": tf_peer,
    "tf_eager_peer": tf_eager_peer,
    "flax": flax,
    "flax_peer": flax_peer,
}

if __name__ == "__main__":
    main(*sys.argv[1:])
