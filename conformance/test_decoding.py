"""Decoding with a cache gives what decoding without one does, compiled once; a real model answers in all three."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from calls import run_raw
from gguf_tokenizer import build_tokenizer, smollm2_path
from golden_models import Golden
from small_models import config_of, decoder_inputs, random_folder, random_inputs
from triptych import ArgumentError
from triptych.cli import app
from triptych.formats.gguf.file import open_gguf
from triptych_conformance import BACKENDS, Backend, assert_close, compare
from triptych_conformance.decoding import greedy, step_of

DECODERS = [
    ("gpt2", "GPT2LMHeadModel"), ("llama", "LlamaForCausalLM"), ("mistral", "MistralForCausalLM"),
    ("qwen2", "Qwen2ForCausalLM"), ("qwen3", "Qwen3ForCausalLM"), ("llama, llama3", "LlamaForCausalLM"),
    ("opt", "OPTForCausalLM"), ("opt, norms after", "OPTForCausalLM"), ("bert, decoder", "BertLMHeadModel"),
    ("roberta, decoder", "RobertaForCausalLM"), ("electra, decoder", "ElectraForCausalLM"),
]  # fmt: skip


@pytest.mark.parametrize(("variant", "stem"), DECODERS)
def test_a_cache_changes_nothing_and_is_compiled_once(
    backend: Backend, variant: str, stem: str, tmp_path: Path
) -> None:
    config = config_of(variant)
    folder = random_folder(tmp_path, config, stem)
    model = backend.load(stem, folder)
    ids = random_inputs(config)["input_ids"][:, :5]
    step, compiled = step_of(backend.name, model)
    text = greedy(step, model.init_cache(2, 12), ids, 6)
    logits = backend.run(model, {"input_ids": text[:, :-1]})["logits"]
    assert np.array_equal(logits[:, 4:].argmax(-1), text[:, 5:])
    if backend.name != "pt":
        assert compiled == [(2, 5), (2, 1)]


@pytest.mark.parametrize(("variant", "stem"), DECODERS)
def test_cached_logits_are_those_of_the_whole_text(backend: Backend, variant: str, stem: str, tmp_path: Path) -> None:
    config = config_of(variant)
    model = backend.load(stem, random_folder(tmp_path, config, stem))
    inputs = random_inputs(config)
    inputs["attention_mask"][:] = 1
    inputs["attention_mask"][1, :2] = 0  # left padding, as decoding uses it
    whole = backend.run(model, inputs)["logits"]
    cache, found = model.init_cache(2, 16), []
    for start, end in ((0, 4), (4, 5), (5, 11)):
        part = {"input_ids": inputs["input_ids"][:, start:end], "attention_mask": inputs["attention_mask"][:, :end]}
        output = run_raw(backend, model, part, cache)
        cache = output.past_key_values
        found.append(np.asarray(output.logits.detach() if backend.name == "pt" else output.logits))
    mask = inputs["attention_mask"]
    assert_close(np.concatenate(found, 1), whole, mask)


@pytest.mark.parametrize("framework", [b for b in BACKENDS if b.name != "pt"], ids=lambda b: b.name)
@pytest.mark.parametrize("variant", ["opt", "opt, norms after"])
def test_a_compiled_call_counts_positions_over_a_mask_of_the_whole_cache(
    framework: Backend, variant: str, tmp_path: Path
) -> None:
    config = config_of(variant)
    model = framework.load("OPTForCausalLM", random_folder(tmp_path, config, "OPTForCausalLM"))
    ids, mask = random_inputs(config)["input_ids"], np.ones((2, 16), np.int64)
    mask[1, :2] = 0

    def call(part: object, cache: object) -> tuple[object, object]:
        output = model(input_ids=part, attention_mask=mask, past_key_values=cache)
        return output.logits, output.past_key_values

    if framework.name == "tf":
        import tensorflow as tf

        step = tf.function(call)
    else:
        import jax

        step = jax.jit(call)
    cache, found = model.init_cache(2, 16), []
    for start, end in ((0, 4), (4, 5), (5, 11)):
        logits, cache = step(ids[:, start:end], cache)
        found.append(np.asarray(logits))
    whole = framework.run(model, {"input_ids": ids, "attention_mask": mask[:, :11]})["logits"]
    assert_close(np.concatenate(found, 1), whole, mask[:, :11])


@pytest.mark.parametrize("name", ["t5-tied", "t5-v11"])
def test_t5_decodes_with_a_cache(backend: Backend, name: str) -> None:
    golden = Golden(name)
    model = backend.load(golden.stem, golden.folder)
    cache, found = model.init_cache(2, 7), []
    decoder_ids = golden.inputs["decoder_input_ids"]
    for start, end in ((0, 3), (3, 4), (4, 7)):
        inputs = {**golden.inputs, "decoder_input_ids": decoder_ids[:, start:end]}
        output = run_raw(backend, model, inputs, cache)
        cache = output.past_key_values
        found.append(np.asarray(output.logits.detach() if backend.name == "pt" else output.logits))
    assert_close(np.concatenate(found, 1), golden.expected["out.logits"])


BRANCHED = [("gpt2", "GPT2LMHeadModel"), ("llama", "LlamaForCausalLM"), ("opt", "OPTForCausalLM"),
            ("t5", "T5ForConditionalGeneration")]  # fmt: skip


@pytest.mark.parametrize(("variant", "stem"), BRANCHED)
def test_one_text_is_continued_in_two_ways(backend: Backend, variant: str, stem: str, tmp_path: Path) -> None:
    config = config_of(variant)
    model = backend.load(stem, random_folder(tmp_path, config, stem))
    ids = random_inputs(config)["input_ids"]
    read, encoded = ("decoder_input_ids", {"input_ids": ids}) if config.is_encoder_decoder else ("input_ids", {})

    def logits(text: np.ndarray, cache: object) -> tuple[np.ndarray, object]:
        output = run_raw(backend, model, {**encoded, read: text}, cache)
        return np.asarray(output.logits.detach() if backend.name == "pt" else output.logits), output.past_key_values

    empty, prefix, ways = model.init_cache(2, 16), ids[:, :5], (ids[:, 5:8], ids[:, 8:11])
    start, cache = logits(prefix, empty)
    for text in (*ways, ways[0]):
        whole, _ = logits(np.concatenate([prefix, text], 1), None)
        assert_close(np.concatenate([start, logits(text, cache)[0]], 1), whole)
        assert_close(logits(text, empty)[0], logits(text, None)[0])
    assert compare(*(logits(text, cache)[0] for text in ways)).fraction > 1


def test_a_text_read_in_two_parts_is_searched_for_a_span(backend: Backend, tmp_path: Path) -> None:
    config = config_of("opt")
    ids = random_inputs(config)["input_ids"]
    backbone = backend.load("OPTModel", random_folder(tmp_path, config, "OPTForQuestionAnswering"))
    cache = run_raw(backend, backbone, {"input_ids": ids[:, :5]}, backbone.init_cache(2, 11)).past_key_values
    model = backend.load("OPTForQuestionAnswering", tmp_path)
    rest, whole = run_raw(backend, model, {"input_ids": ids[:, 5:]}, cache), backend.run(model, {"input_ids": ids})
    assert list(rest) == ["start_logits", "end_logits"]
    for name, logits in rest.items():
        assert_close(np.asarray(logits.detach() if backend.name == "pt" else logits), whole[name][:, 5:])


def test_encoder_outputs_stand_for_the_input(backend: Backend) -> None:
    golden = Golden("t5-tied")
    model = backend.load(golden.stem, golden.folder)
    first = run_raw(backend, model, golden.inputs, None)
    rest = {name: golden.inputs[name] for name in ("attention_mask", "decoder_input_ids")}
    if backend.name == "pt":
        import torch

        rest = {name: torch.tensor(value) for name, value in rest.items()}
    again = model(**rest, encoder_outputs=(first.encoder_last_hidden_state,))
    assert_close(*(np.asarray(o.logits.detach() if backend.name == "pt" else o.logits) for o in (again, first)))


@pytest.mark.parametrize("stem", ["GPT2LMHeadModel", "LlamaForCausalLM", "OPTForCausalLM", "T5ForConditionalGeneration",
                                  "BertLMHeadModel"])  # fmt: skip
def test_a_growing_cache_is_made_unless_config_or_call_say_no(stem: str, tmp_path: Path) -> None:
    family = {"GPT2": "gpt2", "Llam": "llama", "OPTF": "opt", "T5Fo": "t5", "Bert": "bert"}[stem[:4]]
    config = config_of(family, **({"is_decoder": True} if family == "bert" else {}))
    backend = next(b for b in BACKENDS if b.name == "pt")
    model = backend.load(stem, random_folder(tmp_path, config, stem)).eval()
    ids = torch.tensor(random_inputs(config)["input_ids"])
    inputs = {"input_ids": ids, **({"decoder_input_ids": ids} if family == "t5" else {})}
    assert model(**inputs).past_key_values.get_seq_length() == ids.shape[1]
    assert model(**inputs, return_dict=False)[1].get_seq_length() == ids.shape[1]
    assert model(**inputs, use_cache=False).past_key_values is None
    model.config.use_cache = False
    assert model(**inputs).past_key_values is None


def test_caches_of_other_models_are_refused(backend: Backend) -> None:
    ids = np.ones((2, 3), np.int64)
    fields: list[dict[str, int]] = [{"num_hidden_layers": 4}, {"num_hidden_layers": 1}, {"num_key_value_heads": 1}]
    model, *others = (backend.cls("LlamaForCausalLM")(config_of("llama", **one)) for one in ({}, *fields))
    for other in others:
        if backend.name != "pt" and other.config.num_hidden_layers == 4:
            continue  # which has room for all that is computed
        held = run_raw(backend, other, {"input_ids": ids}, other.init_cache(2, 8)).past_key_values
        with pytest.raises(ArgumentError, match="another model or batch"):
            run_raw(backend, model, {"input_ids": ids[:, :1]}, held)
    held = run_raw(backend, model, {"input_ids": ids}, model.init_cache(2, 8)).past_key_values
    with pytest.raises(ArgumentError, match="another model or batch"):
        run_raw(backend, model, {"input_ids": ids[:1, :1]}, held)


def test_caches_are_asked_for(backend: Backend, tmp_path: Path) -> None:
    config = config_of("llama", use_cache=backend.name != "pt")
    model = backend.load("LlamaForCausalLM", random_folder(tmp_path, config, "LlamaForCausalLM"))
    inputs = {"input_ids": random_inputs(config)["input_ids"]}
    assert run_raw(backend, model, inputs, None).past_key_values is None
    with pytest.raises(ArgumentError, match="no cache of triptych"):
        run_raw(backend, model, inputs, [1, 2])
    with pytest.raises(ArgumentError, match="does not decode"):
        backend.cls("BertModel")(config_of("bert")).init_cache(2, 12)
    for sizes in ((0, 5), (2, -1), (2, 1.5)):
        with pytest.raises(ArgumentError, match="positive integer"):
            model.init_cache(*sizes)
    if backend.name == "pt":
        assert run_raw(backend, model, inputs, model.init_cache(2, 3)).past_key_values.get_seq_length() == 11
        return
    with pytest.raises(ArgumentError, match="init_cache"):
        model(**inputs, use_cache=True)
    with pytest.raises(ArgumentError, match="(?s)cache is full.*at most 10"):
        run_raw(backend, model, inputs, model.init_cache(2, 10))


@pytest.mark.parametrize("framework", [b for b in BACKENDS if b.name != "pt"], ids=lambda b: b.name)
def test_a_full_cache_is_seen_in_a_compiled_call(framework: Backend, tmp_path: Path) -> None:
    config = config_of("gpt2")
    model = framework.load("GPT2LMHeadModel", random_folder(tmp_path, config, "GPT2LMHeadModel"))
    step, _ = step_of(framework.name, model)
    cache = model.init_cache(1, 3)
    _, cache = step(cache, np.array([[4, 5, 6]]))
    logits, _ = step(cache, np.array([[7]]))
    assert np.isnan(logits).all()


def test_t5_labels_give_the_decoder_input(backend: Backend, tmp_path: Path) -> None:
    config = config_of("t5")
    model = backend.load("T5ForConditionalGeneration", random_folder(tmp_path, config, "T5ForConditionalGeneration"))
    inputs = random_inputs(config)
    labels = decoder_inputs("T5ForConditionalGeneration", config)["decoder_input_ids"]
    labels[0, -2:] = -100
    shifted = np.concatenate([np.zeros((2, 1), np.int64), np.where(labels == -100, 0, labels)[:, :-1]], 1)
    given = backend.run(model, {**inputs, "labels": labels})
    spelled = backend.run(model, {**inputs, "labels": labels, "decoder_input_ids": shifted})
    assert np.array_equal(given["logits"], spelled["logits"])
    assert given["loss"] == spelled["loss"]


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2-135M, converted by the command line from the GGUF file of a package."""
    folder = tmp_path_factory.mktemp("smollm2") / "model"
    done = CliRunner().invoke(app, ["convert", str(smollm2_path()), str(folder)])
    assert done.exit_code == 0, done.output
    return folder


def test_a_real_model_names_the_capital_of_france(backend: Backend, smollm2: Path) -> None:
    tokenizer = build_tokenizer(open_gguf(smollm2_path()).metadata)
    prompt = np.array([tokenizer.encode("The capital of France is").ids])
    model = backend.load("AutoModelForCausalLM", smollm2, strict=True)
    assert type(model) is backend.cls("LlamaForCausalLM")
    step, compiled = step_of(backend.name, model)
    text = greedy(step, model.init_cache(1, 16), prompt, 4, model.config.eos_token_id)
    assert tokenizer.decode(text[0]).startswith("The capital of France is Paris")
    if backend.name != "pt":
        assert len(compiled) == 2


def test_the_command_line_goes_on_with_a_text(backend: Backend, smollm2: Path) -> None:
    options = ["--no-chat", "--max-new-tokens", "3", "--framework", backend.name]
    done = CliRunner().invoke(app, ["generate", str(smollm2), "The capital of France is", *options])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("The capital of France is Paris")
