"""Contrastive search: the tokens of transformers 4.48.3, in three frameworks, eager and compiled."""

from __future__ import annotations

import functools
import json
from typing import Any

import numpy as np
import pytest
import torch

import triptych
from places import GOLDEN
from triptych import ArgumentError
from triptych.names import BACKENDS
from triptych_conformance import assert_close

CASES = json.loads((GOLDEN / "contrastive_4_48.json").read_text())
STEMS = {"gpt2-lm": "GPT2LMHeadModel", "llama-gqa": "LlamaForCausalLM", "t5-v11": "T5ForConditionalGeneration"}
PARALLEL = pytest.mark.parametrize("backend", BACKENDS)
IDS = [[5, 9, 14, 7], [3, 8, 2, 11]]
OPTIONS = {"penalty_alpha": 0.6, "top_k": 4, "max_new_tokens": 5, "pad_token_id": 0, "eos_token_id": None}


@functools.cache
def model_of(backend: str, name: str) -> Any:
    stem = BACKENDS[backend][1] + STEMS[name]
    return getattr(triptych, stem).from_pretrained(GOLDEN / name / "pt-safetensors")


def arrays(backend: str, inputs: dict[str, Any]) -> dict[str, Any]:
    made = {name: np.asarray(value) for name, value in inputs.items()}
    return {name: torch.from_numpy(value) for name, value in made.items()} if backend == "pt" else made


def found(backend: str, name: str, inputs: dict[str, Any], **options: Any) -> np.ndarray:
    if backend == "flax":
        options = {"trace": False, **options}
    texts = model_of(backend, name).generate(**arrays(backend, inputs), **options)
    return np.asarray(texts.sequences if backend == "flax" else texts)


def assert_same(texts: np.ndarray, expected: list[list[int]], pad: int) -> None:
    """Compare texts, which may be padded further."""
    wanted = np.asarray(expected)
    np.testing.assert_array_equal(texts[:, : wanted.shape[1]], wanted)
    assert (texts[:, wanted.shape[1] :] == pad).all()


def cases_of(name: str, whole: bool = True) -> list[dict[str, Any]]:
    """Return the cases of a model; else only the one of padded prompts that end."""
    cases = [case for case in CASES if case["model"] == name]
    ending = [case for case in cases if case["options"]["eos_token_id"] is not None]
    return cases if whole else [case for case in ending if "attention_mask" in case["inputs"]][:1]


@pytest.mark.parametrize(("backend", "name"), [*(("pt", name) for name in STEMS), *(("tf", name) for name in STEMS)])
def test_it_finds_the_tokens_of_transformers_4(backend: str, name: str) -> None:
    for case in cases_of(name, whole=backend == "pt"):
        assert_same(found(backend, name, case["inputs"], **case["options"]), case["sequences"], 0)


@pytest.mark.parametrize(("backend", "name"), [("tf", "t5-v11"), ("flax", "llama-gqa"), ("flax", "t5-v11")])
def test_compiled_it_finds_the_same(backend: str, name: str) -> None:
    (case,) = cases_of(name, whole=False)
    compiled = {"jit_compile": True} if backend == "tf" else {"trace": True}
    assert_same(found(backend, name, case["inputs"], **case["options"], **compiled), case["sequences"], 0)


@pytest.mark.parametrize("backend", ["pt", "tf"])
def test_without_likeness_it_is_greedy(backend: str) -> None:
    nearly = found(backend, "gpt2-lm", {"input_ids": IDS}, **{**OPTIONS, "penalty_alpha": 1e-9})
    greedy = found(backend, "gpt2-lm", {"input_ids": IDS}, max_new_tokens=5, pad_token_id=0, eos_token_id=None)
    np.testing.assert_array_equal(nearly, greedy)


@pytest.mark.parametrize("name", ["llama-gqa", "t5-v11"])
def test_what_it_returns_is_of_the_tokens_that_were_chosen(name: str) -> None:
    model = model_of("pt", name)
    ids = torch.tensor(IDS)
    flags = {"output_scores": True, "output_logits": True, "output_hidden_states": True, "output_attentions": True}
    out = model.generate(ids, **OPTIONS, return_dict_in_generate=True, **flags)
    encodes = model.config.is_encoder_decoder
    assert type(out).__name__ == ("GenerateEncoderDecoderOutput" if encodes else "GenerateDecoderOnlyOutput")
    inputs = {"input_ids": ids, "decoder_input_ids": out.sequences} if encodes else {"input_ids": out.sequences}
    with torch.no_grad():
        whole = model(**inputs, output_hidden_states=True)
    first = out.sequences.shape[1] - 5 - 1
    logits = torch.stack(out.logits, 1)
    assert_close(logits, whole.logits[:, first:-1], what="logits of the chosen tokens")
    states = out.decoder_hidden_states if encodes else out.hidden_states
    every = whole.decoder_hidden_states if encodes else whole.hidden_states
    assert_close(torch.cat([step[-1] for step in states], 1), every[-1][:, :-1], what="states of the chosen tokens")
    attentions = out.decoder_attentions if encodes else out.attentions
    assert [step[0].shape[0] for step in attentions] == [2] * 5
    assert out.past_key_values.get_seq_length() == out.sequences.shape[1] - 1
    assert_close(out.past_key_values[0][0], whole.past_key_values[0][0][:, :, :-1], what="keys of the chosen tokens")


@PARALLEL
def test_it_needs_a_cache(backend: str) -> None:
    with pytest.raises(ArgumentError, match="use_cache"):
        found(backend, "gpt2-lm", {"input_ids": IDS}, **OPTIONS, use_cache=False)
