"""Rows of the contract about methods of a PyTorch model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import live_models
from live_models import IDS, Headed, Trunk, trained
from probing import refuses
from small_models import SMALL
from triptych import (
    ArgumentError,
    BertConfig,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
)
from triptych.generation import CompileConfig
from triptych_conformance import Backend
from walk import row


@row("5.4.70", pt="Y", note="from_config, under its older name too")
def from_config(backend: Backend, folder: Path) -> None:
    for options in ({"torch_dtype": torch.bfloat16}, {"dtype": "bfloat16"}, {"torch_dtype": "bfloat16"}):
        model = backend.cls("BertModel")._from_config(
            BertConfig(**SMALL["bert"]), attn_implementation="eager", **options
        )
        assert model.dtype == torch.bfloat16 and model.config._attn_implementation == "eager"
    assert torch.get_default_dtype() == torch.float32
    with pytest.raises(ArgumentError, match="attention"):
        backend.cls("BertModel")._from_config(BertConfig(**SMALL["bert"]), attn_implementation="flash_attention_2")


@row("5.4.75", pt="Y")
def modules_are_initialised_once(backend: Backend, folder: Path) -> None:
    model = live_models.Around(live_models.Config())
    model.fresh = nn.Linear(2, 2)
    model.initialize_weights()
    assert model.fresh.weight.eq(9).all() and not model.back.conv.weight.eq(9).any()
    model.fresh.weight.data.zero_()
    model.initialize_weights()
    assert model.fresh.weight.eq(0).all()


@row("5.4.84", pt="Y", note="the backbone of a model that is one stack")
def stacks(backend: Backend, folder: Path) -> None:
    t5 = backend.cls("T5ForConditionalGeneration")(T5Config(**SMALL["t5"]))
    assert t5.get_encoder() is t5.encoder and t5.get_decoder() is t5.decoder
    llama = LlamaForCausalLM(LlamaConfig(**SMALL["llama"]))
    assert llama.get_decoder() is llama.model and llama.model.get_decoder() is llama.model
    headed = Headed(live_models.Config())
    assert headed.get_decoder() is headed.trunk
    other = Trunk(live_models.Config())
    headed.set_decoder(other)
    assert headed.trunk is other
    with pytest.raises(ArgumentError, match="decoder itself"):
        other.set_decoder(other)
    decoder = t5.decoder
    t5.set_decoder(decoder)
    assert t5.decoder is decoder


@row("5.4.90", pt="Y")
def contexts_without_values(backend: Backend, folder: Path) -> None:
    from contextlib import ExitStack

    with ExitStack() as contexts:
        for context in Trunk.get_init_context(False, False):
            contexts.enter_context(context)
        model = Trunk(live_models.Config())
    assert model.conv.weight.is_meta
    with pytest.raises(ArgumentError, match="quantised"):
        Trunk.get_init_context(True)


@row("5.4.91", pt="Y")
@row("5.4.92", pt="Y")
def modules_and_weights_by_name(backend: Backend, folder: Path) -> None:
    model = Headed(live_models.Config())
    trunk = model.trunk
    assert model.retrieve_modules_from_names(["trunk.conv.weight", "trunk.raw", "lm_head.weight"]) == [
        model.lm_head, trunk, trunk.conv,
    ]  # fmt: skip
    assert trunk.retrieve_modules_from_names(["trunk.conv.bias"], add_prefix=True) == [trunk.conv]
    assert model.retrieve_modules_from_names(["conv.bias"], remove_prefix=True) == [trunk.conv]
    model.lists = nn.ModuleDict({"a": nn.ParameterList([nn.Parameter(torch.ones(1))])})
    assert model.retrieve_modules_from_names(["lists.a.0"]) == [model.lists, model.lists["a"]]
    assert model.get_parameter_or_buffer("trunk.seen") is trunk.seen
    assert model.get_parameter_or_buffer("trunk.conv.weight") is trunk.conv.weight
    for bad in ("trunk.nothing", "nothing.weight"):
        with pytest.raises(AttributeError):
            model.get_parameter_or_buffer(bad)


@row("5.4.94", pt="Y")
def a_compiled_call(backend: Backend, folder: Path) -> None:
    model = trained()
    plain = CompileConfig(backend="eager", mode=None)
    call = model.get_compiled_call(plain)
    assert call is model.get_compiled_call(CompileConfig(backend="eager", mode=None))
    assert call is not model.get_compiled_call(CompileConfig(backend="eager", mode=None, dynamic=True))
    assert torch.equal(call(IDS), model(IDS))


@row("5.4.97", pt="Y")
def classes_for_any_attention(backend: Backend, folder: Path) -> None:
    class Calling(Trunk):
        _supports_attention_backend = True

    assert Calling.is_backend_compatible() and not Trunk.is_backend_compatible()


row("5.4.95", note="the layers of a model are used as they are", pt="R")(refuses("kernelize"))
row("5.4.96", note="attn_implementation='sdpa' is what it became", pt="R")(
    refuses("to_bettertransformer", "reverse_bettertransformer", match="sdpa")
)
