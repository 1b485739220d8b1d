"""Rows of the contract that sum up its other sections, framework beside framework."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from live_models import IDS, assert_equal_states
from probing import IN_ALL
from small_models import SMALL
from triptych import (
    ArgumentError,
    BertConfig,
    GPT2Config,
    open_checkpoint,
)
from triptych_conformance import Backend
from walk import row


@row("11.1", pt="Y")
@row("11.2", pt="Y")
@row("11.5", pt="Y", tf="Y")
@row("11.8", pt="Y", flax="Y", note="trainable, exclude_embeddings: in all three")
def surgery_and_counts(backend: Backend, folder: Path) -> None:
    model = backend.cls("BertModel")(BertConfig(**SMALL["bert"]))
    whole, without = model.num_parameters(), model.num_parameters(exclude_embeddings=True)
    assert whole - without == (31 + 16 + 2) * 12
    model.resize_token_embeddings(29, pad_to_multiple_of=8, mean_resizing=False)
    assert model.config.vocab_size == 32 and model.num_parameters() == whole + 12
    assert np.shape(backend.weights(model)["embeddings.word_embeddings.weight"]) == (32, 12)
    assert model.get_input_embeddings() is not None and model.get_output_embeddings() is None
    if backend.name == "pt":
        table = torch.nn.Embedding(32, 12)
        model.set_input_embeddings(table)
        assert model.get_input_embeddings() is table and model.embeddings.word_embeddings is table
    model.prune_heads({0: [1]})
    assert np.shape(backend.weights(model)["encoder.layer.0.attention.self.query.weight"]) == (8, 12)


@row("11.4", note="a dict or a list of names in PyTorch; an array that the module shares, in all three", **IN_ALL)
def ties(backend: Backend, folder: Path) -> None:
    cls = backend.cls("GPT2LMHeadModel")
    model = cls(GPT2Config(**SMALL["gpt2"]))
    model.save_pretrained(folder)
    assert "lm_head.weight" not in open_checkpoint(folder)
    model = cls.from_pretrained(folder, strict=True)
    model.resize_token_embeddings(33)
    assert model(IDS.numpy() if backend.name != "pt" else IDS).logits.shape[-1] == 33
    untied = cls(GPT2Config(**SMALL["gpt2"], tie_word_embeddings=False))
    untied.save_pretrained(folder)
    assert "lm_head.weight" in open_checkpoint(folder)


@row(
    "11.17",
    note="attn_implementation, adapters, GGUF and quantised weights work, in all three, device_map in PyTorch and "
    "TensorFlow, and in Flax device= and sharding=; the others are refused by name",
    pt="R",
    tf="R",
    flax="R",
)
def what_only_pytorch_had(backend: Backend, folder: Path) -> None:
    cls = backend.cls("BertModel")
    cls(BertConfig(**SMALL["bert"])).save_pretrained(folder)
    assert cls.from_pretrained(folder, attn_implementation="eager").config._attn_implementation == "eager"
    assert backend.name != "pt" or cls.from_pretrained(folder, device_map="auto").hf_device_map
    assert backend.name != "tf" or cls.from_pretrained(folder, device_map={"": "CPU:0"}).hf_device_map
    quantised = cls.from_pretrained(folder, quantization_config={"quant_method": "triptych", "codec": "int8"})
    assert quantised.is_quantized
    with pytest.raises(ArgumentError, match="tp_plan is not supported"):
        cls.from_pretrained(folder, tp_plan="auto")


@row("11.40", pt="Y")
@row("11.41", pt="Y")
def what_is_read_on_a_model(backend: Backend, folder: Path) -> None:
    model = backend.cls("BertModel")(BertConfig(**SMALL["bert"]))
    assert model(**model.dummy_inputs).last_hidden_state.shape == (3, 5, 12)
    model.set_attn_implementation("eager")
    assert model.config._attn_implementation == "eager" and callable(model.loss_function)
    assert model.get_decoder() is model


@row("11.50", pt="Y", note="strict is of what the model needs")
def shards_of_a_tied_model(backend: Backend, folder: Path) -> None:
    from triptych.modeling_utils import load_sharded_checkpoint

    cls = backend.cls("GPT2LMHeadModel")
    model, other = (cls(GPT2Config(**SMALL["gpt2"])) for _ in range(2))
    model.save_pretrained(folder, max_shard_size="5KB")
    load_sharded_checkpoint(other, folder, strict=True)
    assert_equal_states(model, other)
