"""Texts are those that transformers recorded, and the same in the three frameworks, eager and compiled."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from generating import padded_equal, sequences
from golden_models import Golden
from small_models import config_of, random_folder
from triptych.errors import ArgumentError
from triptych_conformance import BACKENDS, Backend

RECORDED: dict[str, dict[str, Any]] = {
    "greedy": {},
    "beam4": {"num_beams": 4},
    "beam3_return2": {"num_beams": 3, "num_return_sequences": 2},
    "norepeat2_minlen_reppen": {"no_repeat_ngram_size": 2, "min_length": 5, "repetition_penalty": 1.3},
}
STEMS = ["gpt2-lm", "llama-gqa", "t5-tied", "t5-v11"]
FAMILIES = {"gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM", "t5": "T5ForConditionalGeneration"}
PROMPTS = np.random.default_rng(5).integers(3, 30, (2, 5))


@cache
def loaded(framework: str, stem: str) -> Any:
    golden = Golden(stem)
    backend = next(one for one in BACKENDS if one.name == framework)
    return backend.load(golden.stem, golden.folder)


@pytest.mark.parametrize("mode", RECORDED)
@pytest.mark.parametrize("stem", STEMS)
def test_recorded_texts(backend: Backend, stem: str, mode: str) -> None:
    golden = Golden(stem)
    ids, mask = (golden.inputs[name] for name in ("input_ids", "attention_mask"))
    options = {**RECORDED[mode], "attention_mask": mask, "max_new_tokens": 9}
    found = sequences(backend, loaded(backend.name, stem), ids, compiled=backend.name == "flax", **options)
    assert np.array_equal(found, golden.expected[f"generate.{mode}"])


@pytest.mark.parametrize("mode", ["beam3_return2", "norepeat2_minlen_reppen"])
@pytest.mark.parametrize("stem", ["llama-gqa", "t5-v11"])
def test_recorded_texts_in_a_compiled_function_of_tensorflow(stem: str, mode: str) -> None:
    golden, model = Golden(stem), loaded("tf", stem)
    ids, mask = (golden.inputs[name] for name in ("input_ids", "attention_mask"))
    options = {**RECORDED[mode], "attention_mask": mask, "max_new_tokens": 9}
    backend = next(one for one in BACKENDS if one.name == "tf")
    assert np.array_equal(sequences(backend, model, ids, **options), golden.expected[f"generate.{mode}"])


@pytest.fixture(scope="module")
def random_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Return family -> framework -> a model of the same random weights."""
    made = {}
    for variant, stem in FAMILIES.items():
        config = config_of(variant)
        folder = random_folder(tmp_path_factory.mktemp(variant), config, stem)
        made[variant] = {one.name: one.load(stem, folder) for one in BACKENDS}
    return made


@pytest.mark.parametrize("options", [{"top_k": 9, "temperature": 1.5}, {"num_beams": 3, "top_k": 0}], ids=str)
@pytest.mark.parametrize("variant", FAMILIES)
def test_one_seed_gives_one_text_everywhere(
    variant: str, options: dict[str, Any], random_models: dict[str, dict[str, Any]]
) -> None:
    start = {"decoder_start_token_id": 0} if variant == "t5" else {}
    found = {}
    for backend in BACKENDS:
        model = random_models[variant][backend.name]
        settings = {"do_sample": True, "max_new_tokens": 6, "eos_token_id": 2, "pad_token_id": 0, **options, **start}
        found[backend.name] = [sequences(backend, model, PROMPTS, seed=seed, **settings) for seed in range(12)]
    for number, text in enumerate(found["pt"]):
        assert padded_equal(text, found["tf"][number], 0) and padded_equal(text, found["flax"][number], 0)
    assert len({text.tobytes() for text in found["pt"]}) > 6


def test_pairs_of_tensorflow_seed_a_compiled_search(random_models: dict[str, dict[str, Any]]) -> None:
    model, options = random_models["gpt2"]["tf"], {"do_sample": True, "max_new_tokens": 6, "jit_compile": True}
    texts = [np.asarray(model.generate(PROMPTS, seed=seed, **options)) for seed in ((1, 2), (3, 4), (1, 2))]
    assert np.array_equal(texts[0], texts[2]) and not np.array_equal(texts[0], texts[1])


def test_a_function_of_allowed_tokens_is_refused_by_a_search_that_was_compiled_without(
    random_models: dict[str, dict[str, Any]],
) -> None:
    model = random_models["gpt2"]["flax"]
    model.generate(PROMPTS, max_new_tokens=6)
    with pytest.raises(ArgumentError, match="PrefixConstrained"):
        model.generate(PROMPTS, max_new_tokens=6, prefix_allowed_tokens_fn=lambda number, text: [3])
