"""An encoder and a decoder of different families as one model, alike in each framework and as transformers has it."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from small_models import config_of, random_folder
from triptych import (
    ArgumentError,
    ConfigError,
    EncoderDecoderConfig,
    PretrainedConfig,
    TensorRef,
    open_checkpoint,
    save_checkpoint,
)
from triptych.families import declared_schema
from triptych.nn import functional as fn
from triptych.tools.editing import open_draft
from triptych_conformance import BACKENDS, Backend, assert_close, compare, compare_folder
from witness import assert_none, declared, differences, reference, weights_of

PT = BACKENDS[0]
STEM = "EncoderDecoderModel"
LABELS = np.array([[5, 6, 7, 8], [4, 3, -100, -100]])
INPUTS = {
    "input_ids": np.array([[5, 6, 7, 8, 9], [4, 3, 12, 6, 7]]),
    "attention_mask": np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
}
PAIRS: dict[str, tuple[PretrainedConfig, PretrainedConfig]] = {
    "bert, bert": (config_of("bert"), config_of("bert")),
    "bert, gpt2 of another width": (config_of("bert"), config_of("gpt2", n_embd=8, n_head=2, vocab_size=29)),
    "distilbert, electra": (config_of("distilbert"), config_of("electra", num_hidden_layers=1)),
    "roberta, roberta": (config_of("roberta"), config_of("roberta")),
}


def pair(name: str, **fields: Any) -> EncoderDecoderConfig:
    fields = {"decoder_start_token_id": 1, "pad_token_id": 0, **fields}
    encoder, decoder = (type(c).from_dict(c.to_dict()) for c in PAIRS[name])
    return EncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder, **fields)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return random_folder(tmp_path / "pair", pair("bert, gpt2 of another width"), STEM)


@pytest.mark.parametrize("name", PAIRS)
def test_frameworks_agree_on_outputs_and_loss(name: str, tmp_path: Path) -> None:
    random_folder(tmp_path, pair(name), STEM)
    parity = compare_folder(tmp_path, STEM, {**INPUTS, "labels": LABELS}, output_attentions=True)
    assert {"loss", "logits", "cross_attentions.0", "encoder_last_hidden_state"} <= {n for n, _ in parity.comparisons}
    parity.assert_within()


@pytest.mark.filterwarnings("ignore:Version v4:FutureWarning")  # of transformers, whenever it is given labels
@pytest.mark.parametrize("name", PAIRS)
def test_transformers_computes_the_same_from_our_files(name: str, tmp_path: Path) -> None:
    import transformers

    folder, inputs = random_folder(tmp_path, pair(name), STEM), {**INPUTS, "labels": LABELS}
    theirs, info = getattr(transformers, STEM).from_pretrained(folder, output_loading_info=True)
    assert not any(info.values())
    expected, found = (PT.run(model, inputs) for model in (theirs.eval(), PT.load(STEM, folder)))
    for key in ("logits", "loss"):
        assert_close(found[key], expected[key], what=key)


@pytest.mark.parametrize("name", PAIRS)
def test_declared_are_the_weights_of_transformers(name: str) -> None:
    config = pair(name)
    theirs = weights_of(reference(STEM, config.to_json_string()))
    assert_none(differences(declared(declared_schema(config, STEM), theirs), theirs))


@pytest.mark.parametrize("format", ["safetensors", "bin", "h5", "msgpack"])
def test_every_format_comes_back(backend: Backend, folder: Path, format: str, tmp_path: Path) -> None:
    model = backend.load(STEM, folder, strict=True)
    model.save_pretrained(tmp_path / "saved", format=format)
    again = backend.load("AutoModelForSeq2SeqLM", tmp_path / "saved", strict=True)
    assert type(again) is type(model)
    expected, found = backend.weights(model), backend.weights(again)
    assert {n: a.tobytes() for n, a in found.items()} == {n: a.tobytes() for n, a in expected.items()}
    assert again.config.decoder.model_type == "gpt2" and again.config.is_encoder_decoder


def test_files_of_tensorflow_have_the_layers_of_each_backbone(folder: Path, tmp_path: Path) -> None:
    """As `TFEncoderDecoderModel` of transformers 4.48.3 named them."""
    PT.load(STEM, folder).save_pretrained(tmp_path / "saved", format="h5")
    names = {name.partition("/")[2] for name in open_checkpoint(tmp_path / "saved")}
    assert {
        "encoder/bert/encoder/layer_._1/output/dense/kernel:0",
        "decoder/transformer/h_._0/attn/c_attn/weight:0",
        "enc_to_dec_proj/kernel:0",
    } <= names | set(open_checkpoint(tmp_path / "saved"))


def test_two_checkpoints_become_one_model(backend: Backend, tmp_path: Path) -> None:
    encoder, decoder = PAIRS["bert, gpt2 of another width"]
    random_folder(tmp_path / "encoder", encoder, "BertModel")
    random_folder(tmp_path / "decoder", decoder, "GPT2LMHeadModel")
    model = backend.cls(STEM).from_encoder_decoder_pretrained(
        tmp_path / "encoder", tmp_path / "decoder", decoder_n_positions=16, decoder_start_token_id=1, pad_token_id=0
    )
    config, weights = model.config, backend.weights(model)
    assert config.decoder.add_cross_attention and config.decoder.is_decoder and not config.encoder.is_decoder
    assert config.decoder_start_token_id == 1
    for side in ("encoder", "decoder"):
        for name, ref in open_checkpoint(tmp_path / side).items():
            assert weights[f"{side}.{name}"].tobytes() == ref.read().tobytes(), name
    new = {name for name in weights if "cross" in name or name.startswith("enc_to_dec_proj")}
    assert set(weights) == set(declared_stored(config)) and new and np.std(weights["enc_to_dec_proj.weight"]) > 0
    model.save_pretrained(tmp_path / "saved")
    assert backend.run(backend.load(STEM, tmp_path / "saved", strict=True), {**INPUTS, "labels": LABELS})["loss"] > 0


def declared_stored(config: PretrainedConfig) -> list[str]:
    schema = declared_schema(config, STEM)
    assert schema is not None
    return [weight.name for weight in schema.stored()]


def test_models_that_are_there_are_used_as_they_are(tmp_path: Path) -> None:
    for backend in BACKENDS:
        if backend.name == "flax":
            continue
        random_folder(tmp_path / "encoder", config_of("bert"), "BertModel")
        random_folder(tmp_path / "decoder", config_of("bert, decoder"), "BertLMHeadModel")
        encoder = backend.load("BertModel", tmp_path / "encoder", add_pooling_layer=False)
        decoder = backend.load("BertLMHeadModel", tmp_path / "decoder")
        model = backend.cls(STEM)(encoder=encoder, decoder=decoder)
        assert model.get_encoder() is encoder and model.get_decoder() is decoder
        assert model.config.encoder is encoder.config and model.config.decoder is decoder.config
        names = set(model.schema)
        assert not any("pooler" in name for name in names)
        encoder.prune_heads({0: [1]})
        decoder.resize_token_embeddings(40)
        assert model.config.encoder.pruned_heads == {0: [1]} and model.config.decoder.vocab_size == 40
        model.save_pretrained(tmp_path / backend.name)
        inputs = {"input_ids": INPUTS["input_ids"], "decoder_input_ids": LABELS[:, :2]}
        expected = backend.run(model, inputs)["logits"]
        assert expected.shape == (2, 2, 40)
        assert_close(PT.run(PT.load(STEM, tmp_path / backend.name), inputs)["logits"], expected)


def test_labels_give_the_decoders_input_and_mask(backend: Backend, folder: Path) -> None:
    model = backend.load(STEM, folder)
    ids, mask = np.array([[1, 5, 6, 7], [1, 4, 3, 0]]), np.array([[1, 1, 1, 1], [1, 1, 1, 0]])
    said = backend.run(model, {**INPUTS, "decoder_input_ids": ids, "decoder_attention_mask": mask})
    assert_close(backend.run(model, {**INPUTS, "labels": LABELS})["logits"], said["logits"])
    unmasked = backend.run(model, {**INPUTS, "decoder_input_ids": ids})["logits"]
    assert compare(unmasked, said["logits"]).fraction > 1
    model.config.decoder_start_token_id = None
    with pytest.raises(ArgumentError, match="decoder_start_token_id"):
        backend.run(model, {**INPUTS, "labels": LABELS})


def test_a_tuple_begins_with_the_loss_and_the_logits(backend: Backend, folder: Path) -> None:
    model, inputs = backend.load(STEM, folder), {**INPUTS, "labels": LABELS}
    expected = backend.run(model, inputs)
    found = backend.call(model, inputs, return_dict=False)
    for value, name in zip(found, ("loss", "logits"), strict=False):
        assert_close(np.asarray(value.detach() if backend.name == "pt" else value), expected[name], what=name)


def test_labels_are_shifted_behind_the_start(backend: Backend) -> None:
    ops = importlib.import_module(f"triptych_{backend.name}.ops")
    config = pair("bert, bert", decoder_start_token_id=2, pad_token_id=3)
    found = fn.shifted_right(ops, config, ops.constant(LABELS, LABELS))
    assert np.asarray(found).tolist() == [[2, 5, 6, 7], [2, 4, 3, 3]]


def test_decoding_step_by_step_computes_the_same(backend: Backend, folder: Path) -> None:
    model = backend.load(STEM, folder)
    ids, mask = np.array([[1, 5, 6], [1, 4, 3]]), {"attention_mask": INPUTS["attention_mask"]}
    expected = backend.run(model, {**INPUTS, "decoder_input_ids": ids})["logits"]
    encoded = backend.run(model, {**INPUTS, "decoder_input_ids": ids[:, :1]})["encoder_last_hidden_state"]
    cache = model.init_cache(2, 5)
    for step in range(3):
        inputs = {**mask, "decoder_input_ids": ids[:, step : step + 1]}
        output = call(backend, model, inputs, encoder_outputs=(native(backend, encoded),), past_key_values=cache)
        cache = output.past_key_values
        assert_close(np.asarray(output.logits), expected[:, step : step + 1])


def call(backend: Backend, model: Any, inputs: dict[str, np.ndarray], **options: Any) -> Any:
    if backend.name != "pt":
        return model(**inputs, **options)
    import torch

    with torch.no_grad():
        return model(**{name: torch.tensor(array) for name, array in inputs.items()}, **options)


def native(backend: Backend, array: np.ndarray) -> Any:
    if backend.name != "pt":
        return array
    import torch

    return torch.tensor(array)


def test_arguments_of_one_side_reach_it(backend: Backend, folder: Path) -> None:
    model = backend.load(STEM, folder)
    inputs = {**INPUTS, "decoder_input_ids": LABELS[:, :2]}
    plain = backend.run(model, inputs)["logits"]
    ones = np.ones_like(INPUTS["input_ids"])
    assert compare(backend.run(model, {**inputs, "token_type_ids": ones})["logits"], plain).fraction > 1
    moved = backend.run(model, {**inputs, "decoder_position_ids": np.array([[3, 4], [3, 4]])})["logits"]
    assert compare(moved, plain).fraction > 1
    as_tuple = call(backend, model, inputs, return_dict=False)
    assert_close(np.asarray(as_tuple[0]), plain)
    assert as_tuple[-1].shape == (2, 12)  # the pooler's, as transformers 4 has it in a tuple


def test_flax_encodes_and_decodes_apart(folder: Path) -> None:
    flax = next((backend for backend in BACKENDS if backend.name == "flax"), None)
    if flax is None:
        pytest.skip("Flax is not among TRIPTYCH_BACKENDS")
    model = flax.load(STEM, folder)
    encoded = model.encode(**INPUTS)
    decoded = model.decode(LABELS[:, :2], encoded, INPUTS["attention_mask"])
    expected = model(**INPUTS, decoder_input_ids=LABELS[:, :2])
    assert_close(np.asarray(decoded.logits), np.asarray(expected.logits))
    with pytest.raises(ArgumentError, match="holds no model of the encoder"):
        model.get_encoder()


def test_a_tie_of_the_decoder_that_a_file_contradicts_is_ended_there(backend: Backend, folder: Path) -> None:
    tensors = {name: ref.read() for name, ref in open_checkpoint(folder).items()}
    tensors["decoder.lm_head.weight"] = tensors["decoder.transformer.wte.weight"] + np.float32(1)
    save_checkpoint(folder, [TensorRef.of(n, a) for n, a in tensors.items()], (folder / "config.json").read_text())
    model = backend.load(STEM, folder)
    assert model.config.decoder.tie_word_embeddings is False
    assert model.load_report.untied == ["decoder.lm_head.weight"]
    assert backend.weights(model)["decoder.lm_head.weight"].tobytes() == tensors["decoder.lm_head.weight"].tobytes()
    draft = open_draft(folder)
    assert draft.config is not None and draft.config["decoder"]["tie_word_embeddings"] is False


def test_tied_encoder_and_decoder(tmp_path: Path) -> None:
    """Names in the file are those that transformers 4.48.3 wrote: the decoder's, and what the encoder has alone."""
    config = pair("bert, bert", tie_encoder_decoder=True)
    random_folder(tmp_path / "first", config, STEM)
    held = {name for name in open_checkpoint(tmp_path / "first") if name.startswith("encoder.")}
    assert held == {"encoder.pooler.dense.weight", "encoder.pooler.dense.bias"}
    for backend in BACKENDS:
        if backend.name != "pt":
            with pytest.raises(ConfigError, match="tied in PyTorch alone"):
                backend.load(STEM, tmp_path / "first")
            continue
        model = backend.load(STEM, tmp_path / "first", strict=True)
        ours, theirs = model.encoder.embeddings.word_embeddings, model.decoder.bert.embeddings.word_embeddings
        assert ours.weight is theirs.weight
        model.config.tie_encoder_decoder = False
        model.save_pretrained(tmp_path / "second")
        inputs = {**INPUTS, "labels": LABELS}
        assert_close(
            backend.run(backend.load(STEM, tmp_path / "second", strict=True), inputs)["logits"],
            backend.run(model, inputs)["logits"],
        )


def test_what_does_not_know_which_of_the_two_is_refused(backend: Backend, folder: Path) -> None:
    model = backend.load(STEM, folder)
    before = {name: array.tobytes() for name, array in backend.weights(model).items()}
    with pytest.raises(ArgumentError, match="which of the two vocabularies"):
        model.resize_token_embeddings(40)
    with pytest.raises(ArgumentError, match="of which of the two models"):
        model.prune_heads({0: [1]})
    assert {name: array.tobytes() for name, array in backend.weights(model).items()} == before
    rows = [model.get_input_embeddings(), model.get_output_embeddings()]
    shapes = [tuple(np.shape(r) if backend.name == "flax" else weight_of(r).shape) for r in rows]
    assert shapes == [(31, 12), (29, 8)]


def weight_of(layer: Any) -> Any:
    return layer.weight if hasattr(layer, "weight") else layer.weights[0]


def test_what_cannot_be_one_of_the_two_is_refused(tmp_path: Path) -> None:
    bert, decoder, llama, t5 = config_of("bert"), config_of("bert, decoder"), config_of("llama"), config_of("t5")
    cls = PT.cls(STEM)
    with pytest.raises(ConfigError, match="(?s)cannot attend.*llama"):
        cls(EncoderDecoderConfig(encoder=bert, decoder=llama))
    with pytest.raises(ConfigError, match="(?s)has a decoder already.*t5"):
        cls(EncoderDecoderConfig(encoder=t5, decoder=decoder))
    with pytest.raises(ConfigError, match="does not attend"):
        cls(EncoderDecoderConfig(encoder=bert, decoder=config_of("gpt2")))
    with pytest.raises(ArgumentError, match="without attention to an encoder"):
        cls(encoder=PT.cls("BertModel")(bert), decoder=PT.cls("BertLMHeadModel")(config_of("bert", is_decoder=True)))
    with pytest.raises(ArgumentError, match="a config, or of two models"):
        cls()
    with pytest.raises(ConfigError, match="has no decoder"):
        EncoderDecoderConfig(encoder=bert)
    with pytest.raises(ConfigError, match="has no decoder"):
        EncoderDecoderConfig(encoder=bert, decoder={"vocab_size": 3})
    with pytest.raises(ConfigError, match="not the width of the encoder"):
        EncoderDecoderConfig(encoder=bert, decoder={**decoder.to_dict(), "cross_attention_hidden_size": 5})
    whole = EncoderDecoderConfig.from_encoder_decoder_configs(bert, config_of("bert"))
    for given, named in (
        ({"encoder": 3, "decoder": 4}, "is no model"),
        ({"config": whole, "encoder": PT.cls("BertForMaskedLM")(bert)}, "another model"),
        ({"config": whole, "encoder": PT.cls("GPT2Model")(config_of("gpt2"))}, "another model"),
        ({"config": whole, "encoder": PT.cls("BertModel")(config_of("bert", intermediate_size=5))}, "another size"),
    ):
        with pytest.raises(ArgumentError, match=named):
            cls(**given)
    with pytest.raises(ConfigError, match="What is the decoder"):
        EncoderDecoderConfig.from_encoder_decoder_configs(bert, {})
    with pytest.raises(ArgumentError, match="Where is the decoder"):
        cls.from_encoder_decoder_pretrained(encoder_model=PT.cls("BertModel")(bert))


def test_the_config_comes_back(tmp_path: Path) -> None:
    config = pair("bert, gpt2 of another width")
    config.save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    assert values["model_type"] == "encoder-decoder" and values["is_encoder_decoder"] is True
    assert (values["encoder"]["model_type"], values["decoder"]["model_type"]) == ("bert", "gpt2")
    again, unused = EncoderDecoderConfig.from_pretrained(
        tmp_path, decoder={"vocab_size": 41}, return_unused_kwargs=True
    )
    assert again.decoder.vocab_size == 41 and again.decoder.n_embd == 8 and not unused
    assert EncoderDecoderConfig.from_pretrained(tmp_path) == config
