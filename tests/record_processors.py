"""Record what the processors of transformers 4.48.3 make of the scores of `processor_cases`, and which it makes.

    PYTHONPATH=conformance/support python tests/record_processors.py tests/golden/processors_4_48

Run it in an environment with torch 2.13.0 and transformers 4.48.3, and nothing of triptych. It writes scores.npz, with
[lengths, rows, vocabulary] for each case, and order.json into the folder.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import transformers
from transformers.generation import logits_process
from transformers.generation.utils import GenerationMixin

from processor_cases import CASES, INPUTS, LENGTHS, SYNTHID, TABLE, Case
from processor_configs import ATTRIBUTES, CONFIGS, EOS, PROMPT_LENGTH


def native(value: Any) -> Any:
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def scores_of(case: Case) -> np.ndarray:
    arguments = {name: native(value) for name, value in case.arguments.items()}
    if case.stem == "WatermarkLogitsProcessor":
        arguments["device"] = "cpu"
    processor = getattr(logits_process, case.stem)(**arguments)
    call = {name: native(value) for name, value in case.call.items()}
    ids, scores = native(INPUTS[case.ids]), native(INPUTS[case.scores])
    return np.stack([processor(ids[:, :length], scores.clone(), **call).numpy() for length in LENGTHS])


def in_steps(processor: Any) -> np.ndarray:
    """Return the scores of a processor that remembers, called with one token more in each step."""
    ids, scores = native(INPUTS["few"]), native(INPUTS["plain"])
    return np.stack([processor(ids[:, :length], scores.clone()).numpy() for length in range(1, max(LENGTHS) + 1)])


class Model(GenerationMixin):
    """Looks at the last token alone."""

    config = SimpleNamespace(vocab_size=100)

    def __call__(self, input_ids: Any, **kwargs: Any) -> Any:
        return transformers.utils.ModelOutput(logits=native(TABLE)[input_ids])


def order_of(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    mark = parameters.get("watermarking_config", {})
    if "ngram_len" in mark:  # 4.48.3 takes dicts of the other kind alone
        parameters = {**parameters, "watermarking_config": transformers.SynthIDTextWatermarkingConfig(**mark)}
    config = transformers.GenerationConfig(**parameters)
    config._eos_token_tensor = None if parameters.get("eos_token_id") is None else torch.tensor(EOS)
    found = GenerationMixin._get_logits_processor(
        Model(),
        config,
        PROMPT_LENGTH,
        torch.ones((2, 3), dtype=torch.long),
        lambda number, text: [0],
        logits_process.LogitsProcessorList([SimpleNamespace(custom=True)]),
        device="cpu",
    )
    return [
        {"name": type(one).__name__, **{a: getattr(one, a) for a in ATTRIBUTES if hasattr(one, a)}} for one in found
    ]


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    scores = {name: scores_of(case) for name, case in CASES.items()}
    synthid = logits_process.SynthIDTextWatermarkLogitsProcessor(**SYNTHID, device="cpu")
    scores["synthid"] = in_steps(synthid)
    scores["synthid later"] = in_steps(
        logits_process.SynthIDTextWatermarkLogitsProcessor(**SYNTHID, device="cpu", skip_first_ngram_calls=True)
    )
    few = native(INPUTS["few"])
    scores["synthid bits"] = synthid.compute_g_values(few).numpy()
    scores["synthid fresh"] = synthid.compute_context_repetition_mask(few).numpy()
    scores["synthid before the end"] = synthid.compute_eos_token_mask(few, 2).numpy()
    for use_cache in (True, False):
        scores[f"guided by a model {use_cache}"] = in_steps(
            logits_process.UnbatchedClassifierFreeGuidanceLogitsProcessor(1.5, Model(), use_cache=use_cache)
        )
    selfhash = logits_process.WatermarkLogitsProcessor(100, "cpu", seeding_scheme="selfhash", context_width=3)
    scores["selfhash"] = selfhash(few, torch.arange(400).reshape(4, 100).flip(1).float()).numpy()
    np.savez_compressed(folder / "scores.npz", **scores)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        orders = [order_of(parameters) for parameters in CONFIGS]
    made_with = f"transformers {transformers.__version__}, torch {torch.__version__.partition('+')[0]}"
    (folder / "order.json").write_text(json.dumps({"made_with": made_with, "orders": orders}, indent=1) + "\n")
