"""What `generate` returns: the classes, fields, shapes and values of transformers, and the scores of single tokens."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
import torch
import transformers

import triptych
from places import GOLDEN
from small_models import config_of, random_folder
from small_tokenizer import small_tokenizer
from triptych import ArgumentError
from triptych.names import BACKENDS
from triptych_conformance import assert_close

STEMS = {"gpt2-lm": "GPT2LMHeadModel", "llama-gqa": "LlamaForCausalLM", "t5-v11": "T5ForConditionalGeneration"}
INPUTS = {"input_ids": [[3, 5, 9, 14], [8, 21, 4, 17]]}
PADDED = {"input_ids": [[0, 0, 9, 14], [8, 21, 4, 17]], "attention_mask": [[0, 0, 1, 1], [1, 1, 1, 1]]}
FLAGS = {"return_dict_in_generate": True, "output_scores": True, "output_logits": True, "output_attentions": True,
         "output_hidden_states": True}  # fmt: skip
MODES: dict[str, dict[str, Any]] = {
    "greedy": {"do_sample": False},
    "sample": {"do_sample": True, "top_k": 1},
    "beam": {"do_sample": False, "num_beams": 3, "num_return_sequences": 2, "length_penalty": 1.7},
}
ALIKE = {"max_new_tokens": 6, "pad_token_id": 0}


@functools.cache
def model_of(backend: str, name: str) -> Any:
    stem = BACKENDS[backend][1] + STEMS[name]
    return getattr(triptych, stem).from_pretrained(GOLDEN / name / "pt-safetensors")


@functools.cache
def expected(name: str, mode: str, padded: bool) -> Any:
    model = getattr(transformers, STEMS[name]).from_pretrained(
        GOLDEN / name / "pt-safetensors", attn_implementation="eager"
    )
    inputs = {key: torch.tensor(value) for key, value in (PADDED if padded else INPUTS).items()}
    return model.generate(**inputs, **MODES[mode], **ALIKE, **FLAGS, eos_token_id=end_of(name))


def end_of(name: str) -> int:
    """Return a token that some text ends with, and others do not."""
    return {"gpt2-lm": 42, "llama-gqa": 83, "t5-v11": 44}[name]


def found(backend: str, name: str, mode: str, padded: bool = False, **changes: Any) -> Any:
    inputs = {key: np.asarray(value) for key, value in (PADDED if padded else INPUTS).items()}
    if backend == "pt":
        inputs = {key: torch.from_numpy(value) for key, value in inputs.items()}
    options = {**MODES[mode], **ALIKE, **FLAGS, "eos_token_id": end_of(name), **changes}
    return model_of(backend, name).generate(**inputs, **options)


def assert_equal(one: Any, other: Any, what: str) -> None:
    """Compare tuples of arrays, as deep as they are."""
    if isinstance(other, tuple):
        assert isinstance(one, tuple) and len(one) == len(other), what
        for number, pair in enumerate(zip(one, other, strict=True)):
            assert_equal(*pair, f"{what}[{number}]")
        return
    one, other = np.asarray(one), np.asarray(other)
    assert one.shape == other.shape, (what, one.shape, other.shape)
    if one.dtype.kind == "i":
        np.testing.assert_array_equal(one, other, what)
        return
    there = np.isfinite(other)
    np.testing.assert_array_equal(np.isfinite(one), there, what)
    assert_close(np.where(there, one, 0), np.where(there, other, 0), what=what)


OUTPUTS = [
    *(("pt", *case, mode) for case in (("gpt2-lm", True), ("llama-gqa", False), ("t5-v11", True)) for mode in MODES),
    *(("tf", *case, mode) for case in (("gpt2-lm", False), ("t5-v11", True)) for mode in ("greedy", "beam")),
]


@pytest.mark.parametrize(("backend", "name", "padded", "mode"), OUTPUTS)
def test_outputs_are_those_of_transformers(backend: str, name: str, padded: bool, mode: str) -> None:
    theirs, ours = expected(name, mode, padded), found(backend, name, mode, padded)
    kind = "EncoderDecoder" if name == "t5-v11" else "DecoderOnly"
    if backend == "pt":
        assert type(ours).__name__ == type(theirs).__name__
    else:
        stem = {"greedy": "GreedySearch", "sample": "Sample", "beam": "BeamSearch"}[mode]
        assert type(ours).__name__ == f"TF{stem}{kind}Output"
    assert list(ours) == list(theirs)
    for field in theirs:
        if field != "past_key_values":
            assert_equal(ours[field], theirs[field], field)
    assert len(ours.past_key_values) >= 2


@pytest.mark.parametrize(
    ("backend", "name", "mode"), [*(("pt", "gpt2-lm", mode) for mode in MODES), ("tf", "t5-v11", "beam")]
)
def test_the_scores_of_tokens_are_those_of_transformers(backend: str, name: str, mode: str) -> None:
    theirs, ours = expected(name, mode, True), found(backend, name, mode, True)
    teacher = getattr(transformers, STEMS[name]).from_pretrained(GOLDEN / name / "pt-safetensors")
    rows = (theirs.beam_indices,) if mode == "beam" else ()
    for normalize in (False, True):
        wanted = teacher.compute_transition_scores(theirs.sequences, theirs.scores, *rows, normalize_logits=normalize)
        own = (ours.beam_indices,) if mode == "beam" else ()
        single = model_of(backend, name).compute_transition_scores(
            ours.sequences, ours.scores, *own, normalize_logits=normalize
        )
        assert_equal(single, wanted.numpy(), f"{mode}, {normalize}")


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_scores_of_a_beam_are_those_of_its_tokens(backend: str) -> None:
    ours = found("pt" if backend == "flax" else backend, "gpt2-lm", "beam", eos_token_id=57, length_penalty=-1.0)
    rows = np.asarray(ours.beam_indices)
    given = ours.sequences, ours.scores, ours.beam_indices
    if backend == "flax":
        given = jnp.asarray(ours.sequences), tuple(map(jnp.asarray, ours.scores)), jnp.asarray(rows)
    single = np.asarray(model_of(backend, "gpt2-lm").compute_transition_scores(*given))
    assert_close(single.sum(1) / (rows >= 0).sum(1) ** -1.0, ours.sequences_scores, what="scores of texts")
    assert (rows < 0).any() and (single[rows < 0] == 0).all()


def test_scores_of_other_texts_are_refused() -> None:
    ours = found("pt", "gpt2-lm", "beam")
    model = model_of("pt", "gpt2-lm")
    texts, steps = ours.sequences, ours.scores
    for sequences, scores in ((texts[:, -1:], steps), (texts, ()), (texts[:1], steps), (texts, steps[:2])):
        with pytest.raises(ArgumentError, match="scores"):
            model.compute_transition_scores(sequences, scores, ours.beam_indices)


def test_scores_of_texts_and_their_rows_are_there_where_transformers_has_them() -> None:
    ours = found("pt", "gpt2-lm", "beam", output_scores=False, output_logits=False, output_attentions=False,
                 output_hidden_states=False)  # fmt: skip
    assert list(ours) == ["sequences", "beam_indices", "past_key_values"]


NAMES = {
    "utils": ["GenerationMixin", "GenerateDecoderOnlyOutput", "GenerateBeamEncoderDecoderOutput", "GreedySearchOutput",
              "GreedySearchDecoderOnlyOutput", "ContrastiveSearchEncoderDecoderOutput", "GenerateOutput"],
    "tf_utils": ["TFGenerationMixin", "TFGreedySearchDecoderOnlyOutput", "TFBeamSampleEncoderDecoderOutput",
                 "TFSampleOutput", "TFGenerateOutput"],
    "flax_utils": ["FlaxGenerationMixin", "FlaxGreedySearchOutput", "FlaxSampleOutput", "FlaxBeamSearchOutput"],
}  # fmt: skip


@pytest.mark.parametrize("module", NAMES)
def test_names_are_where_transformers_had_them(module: str) -> None:
    held = importlib.import_module(f"triptych.generation.{module}")
    for name in NAMES[module]:
        assert name in held.__all__ and getattr(triptych.generation, name) is getattr(held, name)
    mixin = NAMES[module][0]
    assert getattr(triptych, mixin) is getattr(held, mixin)


SEARCHES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "greedy_search": ({}, {}),
    "sample": ({"seed": (1, 2)}, {"do_sample": True, "top_k": 0, "seed": (1, 2)}),
    "contrastive_search": ({"penalty_alpha": 0.6, "top_k": 4}, {"penalty_alpha": 0.6, "top_k": 4}),
}


@pytest.mark.parametrize("method", SEARCHES)
def test_the_searches_of_keras_are_generate(method: str) -> None:
    model, ids = model_of("tf", "gpt2-lm"), tf.constant(INPUTS["input_ids"])
    own, options = SEARCHES[method]
    alike = {"max_length": 7, "pad_token_id": 0, "eos_token_id": 42}
    one, other = getattr(model, method)(ids, **own, **alike), model.generate(ids, **options, **alike)
    np.testing.assert_array_equal(one, other)


def test_the_beams_of_keras_are_those_of_generate() -> None:
    model, ids = model_of("tf", "gpt2-lm"), tf.constant(INPUTS["input_ids"])
    alike = {"max_length": 7, "pad_token_id": 0, "eos_token_id": 42, "length_penalty": 0.5, "num_return_sequences": 2}
    beams = tf.repeat(ids[:, None], 3, axis=1)
    np.testing.assert_array_equal(model.beam_search(beams, **alike), model.generate(ids, num_beams=3, **alike))
    with pytest.raises(ArgumentError, match="num_beams"):
        model.beam_search(ids, **alike)
    assert model.seed_generator is model.seed_generator and model.seed_generator.make_seeds(2).shape == (2, 2)


def test_what_does_not_generate_here_is_refused() -> None:
    model = model_of("pt", "gpt2-lm")
    with pytest.raises(ArgumentError, match="custom_generate"):
        model.generate(torch.tensor(INPUTS["input_ids"]), custom_generate="somebody/theirs")
    for method in ("load_custom_generate", "init_continuous_batching", "generate_batch"):
        with pytest.raises(triptych.MissingMethodError, match=method):
            getattr(model, method)()


@pytest.fixture(scope="module")
def healing(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any]:
    """A random GPT-2 of both libraries, and a tokenizer some of whose tokens begin like others."""
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=small_tokenizer(), bos_token="<s>", eos_token="</s>", pad_token="</s>", padding_side="left"
    )
    config = config_of("gpt2", vocab_size=len(tokenizer), bos_token_id=tokenizer.bos_token_id,
                       eos_token_id=tokenizer.eos_token_id)  # fmt: skip
    folder = random_folder(tmp_path_factory.mktemp("healing"), config, "GPT2LMHeadModel")
    ours = triptych.GPT2LMHeadModel.from_pretrained(folder)
    return ours, transformers.GPT2LMHeadModel.from_pretrained(folder), tokenizer


@pytest.mark.parametrize("texts", [["the la", " stop"], ["a st"], ["s"], ["top ne", "ne"]])
def test_prompts_are_healed_as_transformers_does(healing: tuple[Any, Any, Any], texts: list[str]) -> None:
    ours, theirs, tokenizer = healing
    ids = tokenizer(texts, return_tensors="pt", padding=True).input_ids
    healed = ours.heal_tokens(ids, tokenizer)
    np.testing.assert_array_equal(healed, theirs.heal_tokens(ids.clone(), tokenizer))
    mask = (healed != tokenizer.pad_token_id).long()
    np.testing.assert_array_equal(
        ours.generate(ids, tokenizer=tokenizer, token_healing=True, max_new_tokens=3),
        ours.generate(healed, attention_mask=mask, max_new_tokens=3),
    )


def test_prompts_are_healed_by_a_tokenizer(healing: tuple[Any, Any, Any]) -> None:
    ours, _, tokenizer = healing
    ids = tokenizer(["the la"], return_tensors="pt").input_ids
    assert (ours.heal_tokens(ids, tokenizer) != ids).any()
    with pytest.raises(ArgumentError, match="tokenizer"):
        ours.generate(ids, token_healing=True, max_new_tokens=3)
