"""What cannot be meant is refused by `generate`, in the same words in the three frameworks; nothing is passed over."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest

from generating import COMPILED, EAGER, sequences
from small_models import config_of, random_folder
from triptych import GenerationConfig, TriptychError
from triptych.generation.arguments import WITHOUT_EFFECT
from triptych.generation.checks import CHECKS
from triptych.generation.parameters import DEFAULTS
from triptych_conformance import BACKENDS, Backend

IDS = np.array([[3, 4, 5], [6, 7, 8]])
STATES = np.zeros((2, 3, 12), np.float32)
NAN = float("nan")
STEMS = {"gpt2": "GPT2LMHeadModel", "t5": "T5ForConditionalGeneration", "bert": "BertModel"}


@cache
def loaded(framework: str, variant: str) -> Any:
    backend = next(one for one in BACKENDS if one.name == framework)
    config = config_of(variant, eos_token_id=2)
    return backend.load(STEMS[variant], random_folder(Path(mkdtemp()), config, STEMS[variant]))


class Nonsense:
    def __call__(self, *args: Any, **kwargs: Any) -> str:
        return "nonsense"


class Streamer:
    def put(self, value: Any) -> None: ...

    def end(self) -> None: ...


SAMPLING = {"do_sample": True}
WRONG: dict[str, list[Any]] = {
    "max_length": [2.5, "9", -1, None, 2], "min_length": [-1, 2.5, "x", 99], "max_new_tokens": [0, -1, 2.5, "3", True],
    "min_new_tokens": [-1, 2.5, "x", 99], "max_time": [-1, "x", NAN], "stop_strings": [[], 5, "", "no tokenizer"],
    "do_sample": ["yes", 2], "early_stopping": ["x", 2], "num_beams": [0, -1, 2.5, "2", True],
    "num_beam_groups": [0, -1, 2.5, 2], "penalty_alpha": ["x", -1, NAN, 2.0], "dola_layers": ["low", [1], "x"],
    "use_cache": ["x", 2], "cache_implementation": ["x", 5], "cache_config": [5], "return_legacy_cache": ["x"],
    "prefill_chunk_size": ["x", 0], "temperature": [NAN, 0, -1.0, "x", float("inf")], "top_k": [-1, 2.5, "x"],
    "top_p": [-0.1, 1.5, NAN, "x"], "min_p": [-0.1, 1.5, "x"], "typical_p": [-1.0, 0.0, 2.0, NAN, "x"],
    "epsilon_cutoff": [-1.0, 2.0, "x"], "eta_cutoff": [-1.0, 2.0, "x"], "diversity_penalty": ["x", -1.0],
    "repetition_penalty": [0.0, -1.0, "x", NAN], "encoder_repetition_penalty": [0.0, -1.0, "x"],
    "length_penalty": ["x", NAN, None], "no_repeat_ngram_size": [-1, 2.5, "x"],
    "encoder_no_repeat_ngram_size": [-1, 2.5, "x"], "bad_words_ids": [5, [5], [[]], [["x"]], [[-1]], "x"],
    "force_words_ids": [[[5]], "x", []], "renormalize_logits": ["x"], "constraints": [[1], "x", []],
    "forced_bos_token_id": [99, -1, "x", 2.5], "forced_eos_token_id": [99, -1, "x", [3, 99]],
    "forced_decoder_ids": [5, [5], [[1, 2, 3]], "x", [[3, 99]]], "remove_invalid_values": ["x"],
    "exponential_decay_length_penalty": [5, (1,), ("a", 2)], "suppress_tokens": [5, "x", ["x"], [2.5]],
    "begin_suppress_tokens": [5, "x", ["x"]], "sequence_bias": [5, {}, {5: 1.0}, {(5,): "x"}, "x"],
    "token_healing": [True, "x"], "guidance_scale": ["x", NAN], "low_memory": ["x"],
    "watermarking_config": [5, "x", {"a": 1}], "num_return_sequences": [0, -1, 2, 2.5, "x"],
    "output_attentions": ["x"], "output_hidden_states": ["x"], "output_scores": ["x"], "output_logits": ["x"],
    "return_dict_in_generate": ["x", 2], "pad_token_id": [-1, 99, "x", 2.5, [1], True], "bos_token_id": ["x", 2.5],
    "eos_token_id": [-1, 99, "x", 2.5, [1, 99], [[1]], True], "decoder_start_token_id": [-2, "x", 2.5],
    "is_assistant": [True], "num_assistant_tokens": [0, "x"], "num_assistant_tokens_schedule": ["x"],
    "assistant_confidence_threshold": ["x", 2.0], "prompt_lookup_num_tokens": [0, -1, 2, 2.5, "x"],
    "max_matching_ngram_size": [0, "x"], "assistant_early_exit": [1, "x"], "assistant_lookbehind": ["x"],
    "target_lookbehind": ["x"], "compile_config": ["x", {}], "disable_compile": ["x"], "generation_kwargs": [5],
}  # fmt: skip
"""Of every parameter of a `GenerationConfig`, what it cannot be, for two prompts and greedy search or sampling."""
GROUPS = {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "a seed below 0": {**SAMPLING, "seed": -1},
    "a seed that is a text": {**SAMPLING, "seed": "x"},
    "a seed of fractions": {**SAMPLING, "seed": 2.5},
    "a seed beyond 64 bits": {**SAMPLING, "seed": 2**70},
    "a seed that is a flag": {**SAMPLING, "seed": True},
    "beams not of groups": {**GROUPS, "num_beams": 5},
    "groups that are drawn": {**GROUPS, **SAMPLING},
    "groups that do not differ": {**GROUPS, "diversity_penalty": 0.0},
    "more texts than beams": {"num_beams": 2, "num_return_sequences": 3},
    "no texts": {**SAMPLING, "num_return_sequences": 0},
    "contrastive search without a cache": {"penalty_alpha": 0.6, "top_k": 4, "use_cache": False},
    "guidance of beams": {"guidance_scale": 1.5, "num_beams": 2},
    "guidance by another batch": {"guidance_scale": 1.5, "negative_prompt_ids": IDS[:1]},
    "guidance by a text": {"guidance_scale": 1.5, "negative_prompt_ids": "x"},
    "guidance by unknown tokens": {"guidance_scale": 1.5, "negative_prompt_ids": IDS * 50},
    "guidance by a wrong mask": {
        "guidance_scale": 1.5, "negative_prompt_ids": IDS, "negative_prompt_attention_mask": np.ones((2, 9), int)},
    "criteria that are no list": {"stopping_criteria": lambda *args: False},
    "a number of criteria": {"stopping_criteria": 5},
    "criteria that are numbers": {"stopping_criteria": [5]},
    "criteria that say nothing": {"stopping_criteria": [lambda *args, **kwargs: None]},
    "criteria that talk nonsense": {"stopping_criteria": [Nonsense()]},
    "criteria of other rows": {"stopping_criteria": [lambda *args, **kwargs: np.zeros(7, bool)]},
    "processors that are no list": {"logits_processor": lambda ids, scores, *more: scores},
    "a number of processors": {"logits_processor": 5},
    "processors that are numbers": {"logits_processor": [5]},
    "processors that return nonsense": {"logits_processor": [lambda ids, scores, *more: "x"]},
    "processors that return nothing, beams": {"logits_processor": [lambda *args: None], "num_beams": 2},
    "processors of other tokens": {"logits_processor": [lambda ids, scores, *more: scores[:, :3]]},
    "processors of other rows": {"logits_processor": [lambda ids, scores, *more: scores[:1]]},
    "processors without arguments": {"logits_processor": [lambda: 1]},
    "a class of processors": {"logits_processor": [list]},
    "a number of prefixes": {"prefix_allowed_tokens_fn": 5},
    "prefixes without arguments": {"prefix_allowed_tokens_fn": lambda: [3]},
    "a number as streamer": {"streamer": 5},
    "a class as streamer": {"streamer": Streamer},
    "a streamer of beams": {"streamer": Streamer(), "num_beams": 2},
    "a streamer of several texts": {"streamer": Streamer(), **SAMPLING, "num_return_sequences": 2},
    "synced_gpus": {"synced_gpus": True},
    "custom_generate": {"custom_generate": "someone/code"},
    "a text as config": {"generation_config": "x"},
    "a class as config": {"generation_config": GenerationConfig},
    "a bad dict as config": {"generation_config": {"num_beams": 2.5}},
    "use_model_defaults": {"use_model_defaults": "x"},
    "an assistant that is a number": {"assistant_model": 5},
    "another tokenizer": {"assistant_tokenizer": 5},
    "return_dict": {"return_dict": True},
    "a cache that is a text": {"past_key_values": "x"},
    "a mask of more columns": {"attention_mask": np.ones((2, 5), int)},
    "a mask of more rows": {"attention_mask": np.ones((3, 3), int)},
    "a mask of one axis": {"attention_mask": np.ones(3, int)},
    "a mask of four axes": {"attention_mask": np.ones((2, 1, 3, 3), int)},
    "a mask of fractions": {"attention_mask": np.full((2, 3), 0.5)},
    "a mask of twos": {"attention_mask": np.full((2, 3), 2)},
    "a mask that is a text": {"attention_mask": "x"},
    "a mask of nothing": {"attention_mask": np.array([[0, 0, 0], [1, 1, 1]])},
    "types of another shape": {"token_type_ids": np.ones((2, 9), int)},
    "positions of another shape": {"position_ids": np.ones((2, 9), int)},
    "positions that are a number": {"position_ids": 5},
    "embeddings of other rows": {"inputs_embeds": np.zeros((3, 5, 12), np.float32)},
    "embeddings beside more tokens": {"inputs_embeds": STATES[:, :2]},
    "a decoder's tokens": {"decoder_input_ids": IDS},
    "an encoder's output": {"encoder_outputs": (STATES,)},
}  # fmt: skip
ENCODED: dict[str, dict[str, Any]] = {
    "first tokens of other rows": {"decoder_input_ids": np.array([[0, 3]])},
    "first tokens of one axis": {"decoder_input_ids": np.array([0, 3])},
    "first tokens beyond": {"decoder_input_ids": np.array([[0, 99], [0, 3]])},
    "first tokens that are a text": {"decoder_input_ids": "x"},
    "a start beyond": {"decoder_start_token_id": 99},
    "embeddings beside tokens": {"inputs_embeds": STATES},
    "states that are a text": {"encoder_outputs": "x"},
    "states that are a number": {"encoder_outputs": 5},
    "states that are nothing": {"encoder_outputs": ()},
    "states of two axes": {"encoder_outputs": (STATES[0],)},
    "states of other rows": {"encoder_outputs": (np.zeros((3, 3, 12), np.float32),)},
    "states without a name": {"encoder_outputs": {"a": 1}},
    "a mask of more columns": {"attention_mask": np.ones((2, 5), int)},
}
PROMPTS: dict[str, Any] = {
    "fractions": np.array([[3.0, 4.5]]), "no rows": np.zeros((0, 3), int), "no tokens": np.zeros((2, 0), int),
    "one axis": np.array([3, 4]), "three axes": np.zeros((1, 2, 3), int), "unknown tokens": np.array([[3, 99]]),
    "tokens below 0": np.array([[3, -5]]), "rows of several lengths": [[3, 4], [5]], "a text": "hello",
    "texts": ["hello", "a"], "an object": Nonsense(), "a number": 5, "a dict": {"input_ids": IDS},
    "more than the positions": np.full((1, 20), 4),
}  # fmt: skip


def as_framework(backend: Backend, value: Any) -> Any:
    if backend.name != "pt" or not isinstance(value, (np.ndarray, tuple)):
        return value
    import torch

    return tuple(torch.tensor(x) for x in value) if isinstance(value, tuple) else torch.tensor(value)


def refused(backend: Backend, model: Any, ids: Any, compiled: bool = False, **options: Any) -> str:
    """Return the text of the error that `generate` raises, which is one of this library's own."""
    how = (COMPILED if compiled or backend.name == "flax" else EAGER)[backend.name]  # each op of JAX compiles, too
    given = {n: as_framework(backend, x) if n not in CHECKS else x for n, x in options.items()}
    with pytest.raises(TriptychError) as caught:
        model.generate(as_framework(backend, ids), **{"max_new_tokens": 3, **given, **how})
    return str(caught.value)


def beside(name: str) -> dict[str, Any]:
    """Return what a parameter needs to be heeded at all."""
    if name in ("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"):
        return SAMPLING
    if name == "max_length":
        return {"max_new_tokens": None}
    return {"max_length": 7, "max_new_tokens": None} if name == "forced_bos_token_id" else {}


def test_every_parameter_is_checked_and_tried_here() -> None:
    assert set(CHECKS) == set(DEFAULTS) == set(WRONG)


@pytest.mark.parametrize("name", WRONG)
def test_impossible_parameters(backend: Backend, name: str) -> None:
    model, ids = loaded(backend.name, "gpt2"), IDS
    if name == "forced_bos_token_id":  # which is heeded behind one token
        ids = IDS[:, :1]
    for value in WRONG[name]:
        if name == "num_beam_groups" and value == 2:
            continue  # without effect on one beam, which is warned of
        assert refused(backend, model, ids, **{**beside(name), name: value}), value


@pytest.mark.parametrize("name", ARGUMENTS)
def test_impossible_arguments(backend: Backend, name: str) -> None:
    refused(backend, loaded(backend.name, "gpt2"), IDS, **ARGUMENTS[name])


@pytest.mark.parametrize("name", ENCODED)
def test_impossible_arguments_of_an_encoder_and_decoder(backend: Backend, name: str) -> None:
    options = {"decoder_start_token_id": 0, **ENCODED[name]}
    refused(backend, loaded(backend.name, "t5"), IDS, **options)
    if "encoder_outputs" in options and "rows" not in name:
        refused(backend, loaded(backend.name, "t5"), None, **options)


@pytest.mark.parametrize("name", PROMPTS)
def test_impossible_prompts(backend: Backend, name: str) -> None:
    refused(backend, loaded(backend.name, "gpt2"), PROMPTS[name])
    if "position" not in name and name != "no tokens":
        refused(backend, loaded(backend.name, "t5"), PROMPTS[name], decoder_start_token_id=0)


def test_compiled_calls_are_checked_too(backend: Backend) -> None:
    model = loaded(backend.name, "gpt2")
    for options in ({"num_beams": 0}, {"top_p": 2.0, **SAMPLING}, {"attention_mask": np.zeros((2, 3), int)}):
        refused(backend, model, IDS, compiled=True, **options)
    refused(backend, model, np.array([[3, 99]]), compiled=True)


def test_embeddings_that_are_none(backend: Backend) -> None:
    for wrong in ("x", STATES[0], STATES[..., :5], STATES.astype(int), STATES[:0], STATES[:, :0]):
        for variant in ("gpt2", "t5"):
            refused(backend, loaded(backend.name, variant), None, inputs_embeds=wrong, decoder_start_token_id=0)


def test_unknown_arguments_have_a_likely_name(backend: Backend) -> None:
    model = loaded(backend.name, "gpt2")
    for wrong, meant in (("max_new_token", "max_new_tokens"), ("temprature", "temperature"), ("num_beam", "num_beams"),
                         ("attention_masks", "attention_mask")):  # fmt: skip
        assert f"{meant} for {wrong}" in refused(backend, model, IDS, **{wrong: 2})


@pytest.mark.parametrize("allowed", [[], None, [99], 3], ids=str)
@pytest.mark.parametrize("backend", [pytest.param(one, id=one.name) for one in BACKENDS if one.name != "flax"])
def test_prefixes_that_allow_no_token(backend: Backend, allowed: Any) -> None:
    """In a loop of Python, which JAX has the same."""
    refused(backend, loaded(backend.name, "gpt2"), IDS, prefix_allowed_tokens_fn=lambda number, ids: allowed)


def test_a_model_that_does_not_generate(backend: Backend) -> None:
    assert "BertModel" in refused(backend, loaded(backend.name, "bert"), IDS)


def test_what_has_no_effect_is_warned_of(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    values = {"cache_config": {"a": 1}, "prefill_chunk_size": 2, "assistant_lookbehind": 5, "target_lookbehind": 5,
              "generation_kwargs": {"a": 1}, "compile_config": None, "num_assistant_tokens": 5,
              "assistant_confidence_threshold": 0.5, "penalty_alpha": 0.6, "return_legacy_cache": True}  # fmt: skip
    asked = {name: values.get(name, True) for name in {*WITHOUT_EFFECT, *values} - {"compile_config"}}
    options = {**asked, "top_k": 1, "negative_prompt_ids": as_framework(backend, IDS), "output_scores": True}
    with caplog.at_level(logging.WARNING, "triptych"):
        sequences(backend, loaded(backend.name, "gpt2"), as_framework(backend, IDS), backend.name == "flax",
                  max_new_tokens=1, **options)  # fmt: skip
    said = [record.getMessage() for record in caplog.records]
    for name in (*asked, "negative_prompt_ids", "output_scores"):
        assert any(name in text for text in said), name


def test_positions_end_a_text(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    prompt = as_framework(backend, np.full((1, 14), 4))
    with caplog.at_level(logging.WARNING, "triptych"):
        model = loaded(backend.name, "gpt2")
        found = sequences(backend, model, prompt, backend.name == "flax", max_new_tokens=9, eos_token_id=[])
    assert found.shape == (1, 17)
    assert "16 positions" in caplog.text


def test_numbers_of_numpy_are_numbers(backend: Backend) -> None:
    options = {"max_new_tokens": np.int64(2), "eos_token_id": np.array([1, 2]), "seed": np.int64(3), "do_sample": True}
    model, compiled = loaded(backend.name, "gpt2"), backend.name == "flax"
    plain = {"max_new_tokens": 2, "eos_token_id": [1, 2], "seed": 3, "do_sample": True}
    one, other = (sequences(backend, model, as_framework(backend, IDS), compiled, **x) for x in (options, plain))
    assert np.array_equal(one, other)
