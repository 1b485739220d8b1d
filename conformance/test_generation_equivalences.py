"""Ways to the same text: with a cache and without, padded or alone, tokens or embeddings, compiled once or again."""

from __future__ import annotations

import copy
import pickle
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import jax
import keras
import numpy as np
import pytest
import tensorflow as tf
import torch

from generating import padded_equal, sequences
from small_models import config_of, random_folder
from triptych import EncoderDecoderConfig
from triptych.generation.job import Job
from triptych_conformance import BACKENDS, Backend

DECODERS = {
    "bert": "BertLMHeadModel", "roberta": "RobertaForCausalLM", "electra": "ElectraForCausalLM",
    "gpt2": "GPT2LMHeadModel", "opt": "OPTForCausalLM", "mistral": "MistralForCausalLM", "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM", "llama": "LlamaForCausalLM",
}  # fmt: skip
IDS = np.array([[5, 7, 9, 11, 4], [6, 8, 3, 12, 10]])
NEW = 6
ENDLESS: dict[str, Any] = {"eos_token_id": [], "pad_token_id": 0, "do_sample": False}
GREEDY = {**ENDLESS, "max_new_tokens": NEW}


@cache
def folder_of(variant: str) -> Path:
    folder = Path(mkdtemp())
    if variant == "encoder-decoder":
        encoder, decoder = config_of("bert"), config_of("bert", is_decoder=True, add_cross_attention=True)
        config = EncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder, decoder_start_token_id=1)
        return random_folder(folder, config, "EncoderDecoderModel")
    changes = {"is_decoder": True} if variant in ("bert", "roberta", "electra") else {}
    return random_folder(folder, config_of(variant, **changes), DECODERS[variant])


@cache
def loaded(framework: str, variant: str) -> Any:
    backend = next(one for one in BACKENDS if one.name == framework)
    return fresh(backend, variant)


def fresh(backend: Backend, variant: str) -> Any:
    return backend.load(DECODERS.get(variant, "EncoderDecoderModel"), folder_of(variant))


def given(backend: Backend, value: np.ndarray) -> Any:
    return torch.tensor(value) if backend.name == "pt" else value


@cache
def by_hand(variant: str) -> np.ndarray:
    """Return the likeliest texts, each token found by PyTorch from the whole text before it."""
    model, encodes = loaded("pt", variant), variant == "encoder-decoder"
    text = torch.full((2, 1), 1) if encodes else torch.tensor(IDS)
    for _ in range(NEW):
        inputs = {"input_ids": torch.tensor(IDS), "decoder_input_ids": text} if encodes else {"input_ids": text}
        with torch.no_grad():
            scores = model(**inputs, use_cache=False).logits[:, -1]
        text = torch.cat([text, scores.argmax(-1)[:, None]], 1)
    return np.asarray(text)


@pytest.mark.parametrize("variant", [*DECODERS, "encoder-decoder"])
def test_greedy_search_is_a_plain_loop(backend: Backend, variant: str) -> None:
    start = {"decoder_start_token_id": 1} if variant == "encoder-decoder" else {}
    model = loaded(backend.name, variant)
    found = sequences(backend, model, given(backend, IDS), compiled=backend.name == "flax", **GREEDY, **start)
    np.testing.assert_array_equal(found, by_hand(variant))


@pytest.mark.parametrize("variant", ["gpt2", "mistral"])
def test_a_cache_changes_nothing(backend: Backend, variant: str) -> None:
    model = loaded(backend.name, variant)
    compiled = backend.name == "flax"
    found = sequences(backend, model, given(backend, IDS), compiled=compiled, use_cache=False, **GREEDY)
    np.testing.assert_array_equal(found, by_hand(variant))


@pytest.mark.parametrize("variant", ["gpt2", "mistral", "opt"])
def test_padding_on_the_left_changes_nothing(backend: Backend, variant: str) -> None:
    model, pad = loaded(backend.name, variant), 3
    ids = np.stack([np.r_[np.zeros(pad, int), IDS[0]], np.r_[IDS[1], IDS[1, :pad]]])
    mask = np.ones_like(ids)
    mask[0, :pad] = 0
    options = {**GREEDY, "compiled": backend.name == "flax"}
    found = sequences(backend, model, given(backend, ids), attention_mask=given(backend, mask), **options)
    np.testing.assert_array_equal(found[0, pad:], by_hand(variant)[0])


@pytest.mark.parametrize("variant", ["gpt2", "mistral"])
def test_embeddings_of_a_prompt_are_the_prompt(backend: Backend, variant: str) -> None:
    table = loaded("pt", variant).get_input_embeddings().weight.detach().numpy()
    embeds = given(backend, table[IDS])
    found = sequences(backend, loaded(backend.name, variant), None, compiled=backend.name == "flax",
                      inputs_embeds=embeds, **GREEDY)  # fmt: skip
    np.testing.assert_array_equal(found, by_hand(variant)[:, IDS.shape[1] :])


def test_positions_may_be_given(backend: Backend) -> None:
    places = given(backend, np.array([[0, 1, 2, 3, 4]] * 2))
    found = sequences(backend, loaded(backend.name, "gpt2"), given(backend, IDS), compiled=backend.name == "flax",
                      position_ids=places, **GREEDY)  # fmt: skip
    np.testing.assert_array_equal(found, by_hand("gpt2"))


def test_any_of_several_tokens_ends_a_text(backend: Backend) -> None:
    text = by_hand("qwen2")[:, IDS.shape[1] :]
    ends = [int(text[0, 2]), int(text[1, 3])]
    options = {**GREEDY, "eos_token_id": ends, "compiled": backend.name == "flax"}
    found = sequences(backend, loaded(backend.name, "qwen2"), given(backend, IDS), **options)[:, IDS.shape[1] :]
    for row, expected in zip(found, text, strict=True):
        first = min(place for place, token in enumerate(expected) if token in ends)
        expected = np.r_[expected[: first + 1], np.zeros(NEW, int)][: len(row)]
        np.testing.assert_array_equal(row, expected)


def test_several_draws_of_a_prompt_differ_and_stand_together(backend: Backend) -> None:
    options = {"do_sample": True, "seed": 4, "num_return_sequences": 3, "top_k": 0, "temperature": 2.0}
    found = sequences(backend, loaded(backend.name, "gpt2"), given(backend, IDS),
                      compiled=backend.name == "flax", **{**GREEDY, **options})  # fmt: skip
    assert found.shape == (6, IDS.shape[1] + NEW)
    np.testing.assert_array_equal(found[:, : IDS.shape[1]], np.repeat(IDS, 3, 0))
    assert len({row.tobytes() for row in found}) == 6


# -- compiled searches ----------------------------------------------------------------------------------------------

COMPILING = [pytest.param(one, id=one.name) for one in BACKENDS if one.name != "pt"]


@pytest.mark.parametrize("backend", COMPILING)
def test_one_compilation_serves_a_bucket_and_all_seeds(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    model, run, traces = fresh(backend, "llama"), Job.run, []

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        traces.append(self.columns)
        return run(self, *args, **kwargs)

    monkeypatch.setattr(Job, "run", counted)
    options = {**GREEDY, "do_sample": True, "top_k": 5}
    texts = [sequences(backend, model, IDS[:, :length], seed=seed, **options) for length in (3, 5) for seed in (1, 2)]
    assert len(traces) == 1
    assert [text.shape[1] for text in texts] == [9, 9, 11, 11]
    assert (texts[0] != texts[1]).any()
    eager = [sequences(BACKENDS[0], loaded("pt", "llama"), torch.tensor(IDS), seed=seed, **options) for seed in (1, 2)]
    assert all(padded_equal(one, other, 0) for one, other in zip(texts[2:], eager, strict=True))


def copied(model: Any) -> Any:
    return copy.deepcopy(model)


def pickled(model: Any) -> Any:
    # Its own bytes, made here: that a model pickles after a compiled search is what is tested.
    return pickle.loads(pickle.dumps(model))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras's own way to save
@pytest.mark.parametrize("again", [copied, pickled])
@pytest.mark.parametrize("backend", COMPILING)
def test_a_model_is_copied_after_a_compiled_search(backend: Backend, again: Any) -> None:
    model = loaded(backend.name, "gpt2")
    sequences(backend, model, IDS, **GREEDY)
    with keras.saving.custom_object_scope({type(model).__name__: type(model)}):  # by which Keras copies models
        other = again(model)
    np.testing.assert_array_equal(sequences(backend, other, IDS, **GREEDY), by_hand("gpt2"))


@pytest.mark.parametrize("backend", COMPILING)
def test_a_new_vocabulary_is_heeded_after_a_compiled_search(backend: Backend) -> None:
    model = fresh(backend, "gpt2")
    before = sequences(backend, model, IDS, **GREEDY)
    model.resize_token_embeddings(40)
    bias = {(35,): 100.0}
    after = sequences(backend, model, IDS, sequence_bias=bias, **GREEDY)
    assert (after[:, IDS.shape[1] :] == 35).all() and (before != after).any()


def test_a_user_may_compile_generate_in_tensorflow() -> None:
    model = loaded("tf", "mistral")
    compiled = tf.function(model.generate, jit_compile=True)
    found = compiled(tf.constant(IDS, tf.int32), **GREEDY)
    np.testing.assert_array_equal(np.asarray(found), by_hand("mistral"))


def test_a_user_may_compile_generate_in_jax() -> None:
    model = loaded("flax", "mistral")
    found = jax.jit(lambda params, ids: model.generate(ids, params=params, **GREEDY).sequences)(model.params, IDS)
    np.testing.assert_array_equal(np.asarray(found), by_hand("mistral"))
