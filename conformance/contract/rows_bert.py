"""Rows of the contract about encoders that decode, and about the parts of BERT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from small_models import config_of, inputs_of, random_folder, random_inputs
from triptych import ArgumentError, ConfigError, open_checkpoint
from triptych_conformance import Backend, assert_close, compare
from walk import row

DECODERS = {"bert": "BertLMHeadModel", "roberta": "RobertaForCausalLM", "electra": "ElectraForCausalLM"}
CROSS = "encoder.layer.1.crossattention.self.query.weight"


def logits(backend: Backend, model: Any, **inputs: Any) -> np.ndarray:
    return backend.run(model, inputs)["logits"]


@row("2.18", pt="Y")
def an_encoder_decodes(backend: Backend, folder: Path) -> None:
    for kind, stem in DECODERS.items():
        config = config_of(kind, is_decoder=True)
        model = backend.load(stem, random_folder(folder / kind, config, stem))
        ids = random_inputs(config)["input_ids"]
        whole, start = logits(backend, model, input_ids=ids), logits(backend, model, input_ids=ids[:, :6])
        assert_close(whole[:, :6], start)
        model.config.is_decoder = False
        assert compare(logits(backend, model, input_ids=ids)[:, :6], start).fraction > 1
    with pytest.raises(ArgumentError, match="does not decode"):
        backend.cls("BertModel")(config_of("bert")).init_cache(1, 4)


@row("2.20", pt="Y")
def a_decoder_attends_to_an_encoder(backend: Backend, folder: Path) -> None:
    for kind, stem in DECODERS.items():
        config = config_of(f"{kind}, decoder")
        model = backend.load(stem, random_folder(folder / kind, config, stem), strict=True)
        assert f"{kind}.{CROSS}" in open_checkpoint(folder / kind)
        inputs = inputs_of(stem, config)
        alone = {name: array for name, array in inputs.items() if not name.startswith("encoder")}
        assert compare(logits(backend, model, **inputs), logits(backend, model, **alone)).fraction > 1
        found = backend.run(model, inputs, output_attentions=True)
        assert found["cross_attentions.1"].shape == (2, 3, 11, 5)
        assert not found["cross_attentions.1"][1, :, :, 3:].any()
    with pytest.raises(ConfigError, match="(?s)for decoders.*is_decoder"):
        backend.cls("BertModel")(config_of("bert", add_cross_attention=True))
    plain = backend.cls("BertLMHeadModel")(config_of("bert", is_decoder=True))
    with pytest.raises(ArgumentError, match="(?s)does not attend.*add_cross_attention"):
        backend.run(plain, inputs_of("BertLMHeadModel", config_of("bert, decoder")))


@row("5.8.6", pt="Y")
def an_attention_says_which_heads_are_gone(backend: Backend, folder: Path) -> None:
    model = backend.cls("BertModel")(config_of("bert"))
    inputs = random_inputs(config_of("bert"))
    attention = model.encoder.layer[1].attention
    mask = torch.tensor([[1.0, 1, 1], [1, 0, 1]])
    with torch.no_grad():
        masked = model.eval()(torch.tensor(inputs["input_ids"]), head_mask=mask)[0]
    attention.prune_heads([1])
    assert attention.pruned_heads == {1} and attention.self.num_attention_heads == 2
    assert attention.self.all_head_size == attention.self.query.out_features == 8
    assert_close(backend.run(model, {"input_ids": inputs["input_ids"]})["last_hidden_state"], masked.numpy())
    attention.prune_heads({1, 2})
    assert attention.pruned_heads == {1, 2} and attention.output.dense.in_features == 4
    with pytest.raises(ArgumentError, match="leaving at least one"):
        attention.prune_heads([0])
    other = backend.cls("BertModel")(config_of("bert"))
    other.prune_heads({1: [0, 2]})
    assert other.encoder.layer[1].attention.pruned_heads == {0, 2}
    assert other.encoder.layer[1].attention.self.num_attention_heads == 1
    assert backend.cls("BertModel")(other.config).encoder.layer[1].attention.pruned_heads == {0, 2}
