"""Rows of the contract about gradient checkpointing, implementations of attention, and what stays in float32."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
from torch import nn

from triptych import (
    ArgumentError,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    MissingBackendError,
    PretrainedConfig,
    PreTrainedModel,
)
from triptych_conformance import BACKENDS, Backend, assert_close
from triptych_pt.authors.attention import ALL_ATTENTION_FUNCTIONS, AttentionInterface
from walk import row, state

BERT = dict(vocab_size=31, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=10,
            max_position_embeddings=16)  # fmt: skip


class Config(PretrainedConfig):
    model_type = "checkpointed"

    def __init__(self, width: int = 4, vocab_size: int = 7, **kwargs: Any) -> None:
        self.width, self.vocab_size = width, vocab_size
        super().__init__(**kwargs)


class Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner, self.wo, self.calls = nn.Linear(width, width), nn.Linear(width, width), 0

    def forward(self, x: Any) -> Any:
        self.calls += 1
        return x + self.wo(nn.functional.dropout(torch.tanh(self.inner(x)), 0.5, self.training))


class Stack(nn.Module):
    """Runs its layers as classes for transformers 4 do."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(config.width) for _ in range(2))
        self.gradient_checkpointing = False

    def forward(self, x: Any) -> Any:
        for layer in self.layers:
            if self.gradient_checkpointing and self.training:
                x = self._gradient_checkpointing_func(layer.__call__, x)
            else:
                x = layer(x)
        return x


class Plain(PreTrainedModel):
    config_class = Config
    base_model_prefix = "stack"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.embed, self.stack = nn.Embedding(config.vocab_size, config.width), Stack(config)
        self.post_init()

    def get_input_embeddings(self) -> Any:
        return self.embed

    def forward(self, input_ids: Any) -> Any:
        return self.stack(self.embed(input_ids))


class Author(Plain):
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn_2 = True
    _keep_in_fp32_modules = ["wo"]


class Old(Author):
    def _set_gradient_checkpointing(self, module: Any, value: bool = False) -> None:
        if isinstance(module, Stack):
            module.gradient_checkpointing = value
            module._gradient_checkpointing_func = torch.utils.checkpoint.checkpoint


def _gradients(model: Any, ids: Any) -> dict[str, Any]:
    model.train().zero_grad()
    torch.manual_seed(0)
    model(ids).square().sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


IDS = torch.tensor([[1, 2, 3, 0]])


@row("5.4.7", pt="Y")
@row("5.9.1", pt="Y")
def a_class_says_whether_it_supports_it(backend: Backend, folder: Path) -> None:
    model = Plain(Config())
    with pytest.raises(ValueError, match="Plain does not support gradient checkpointing"):
        model.gradient_checkpointing_enable()
    model.gradient_checkpointing_disable()  # as in transformers 4, nothing to do
    assert BertModel.supports_gradient_checkpointing and not PreTrainedModel.supports_gradient_checkpointing


@row("5.9.2", pt="Y")
@row("5.4.80", pt="Y")
@row("5.4.81", pt="Y")
@row("5.4.60", pt="Y")
def it_sets_what_authors_read(backend: Backend, folder: Path) -> None:
    model = Author(Config())
    before = _gradients(model, IDS)
    model.gradient_checkpointing_enable()
    assert model.is_gradient_checkpointing and model.stack.gradient_checkpointing
    assert model.stack._gradient_checkpointing_func.keywords == {"use_reentrant": True}
    calls = model.stack.layers[0].calls
    after = _gradients(model, IDS)
    assert model.stack.layers[0].calls == calls + 2  # once for the result, once for the gradient
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    assert model.stack._gradient_checkpointing_func.keywords == {"use_reentrant": False}
    with pytest.raises(ArgumentError, match="reentrant_use"):
        model.gradient_checkpointing_enable({"reentrant_use": False})
    model.gradient_checkpointing_disable()
    assert not model.is_gradient_checkpointing
    model.save_pretrained(folder)
    assert "checkpointing" not in (folder / "config.json").read_text()
    with pytest.raises(ValueError, match="cannot compute its layers anew"):
        Headless(Config()).gradient_checkpointing_enable()


class Headless(PreTrainedModel):
    config_class = Config
    supports_gradient_checkpointing = True


@row("5.9.3", pt="Y")
@row("5.4.33", pt="Y")
def an_override_of_the_old_kind_is_called_for_each_module(backend: Backend, folder: Path) -> None:
    model = Old(Config())
    model.gradient_checkpointing_enable()
    assert model.is_gradient_checkpointing
    model.gradient_checkpointing_disable()
    assert not model.is_gradient_checkpointing


@row("5.4.82", pt="Y")
@row("5.4.83", pt="Y")
def frozen_embeddings_may_have_a_gradient(backend: Backend, folder: Path) -> None:
    model = Author(Config())
    model.embed.requires_grad_(False)
    model.gradient_checkpointing_enable()
    model.enable_input_require_grads()
    assert model.embed(IDS).requires_grad and "stack.layers.0.wo.weight" in _gradients(model, IDS)
    model.disable_input_require_grads()
    assert not model.embed(IDS).requires_grad


@row("5.4.54", pt="Y")
@row("2.40", pt="Y", note="the config warns, the model heeds it")
def the_old_field_of_a_config_is_heeded_once(backend: Backend, folder: Path) -> None:
    with pytest.warns(UserWarning, match="gradient_checkpointing"):
        model = BertForMaskedLM(BertConfig(**BERT, gradient_checkpointing=True))
    assert model.is_gradient_checkpointing and not hasattr(model.config, "gradient_checkpointing")
    model.save_pretrained(folder)
    assert "gradient_checkpointing" not in json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**json.loads((folder / "config.json").read_text()), "gradient_checkpointing": True})
    )
    with pytest.warns(UserWarning, match="gradient_checkpointing"):
        assert BertForMaskedLM.from_pretrained(folder).is_gradient_checkpointing


@row("11.10", pt="Y", tf="Y", flax="Y")
def built_in_layers_are_computed_anew(backend: Backend, folder: Path) -> None:
    config = backend.cls("BertModel").config_class(**BERT)
    model = backend.cls("BertModel")(config)
    model.gradient_checkpointing_enable()
    assert model.is_gradient_checkpointing
    model.gradient_checkpointing_disable()
    assert not model.is_gradient_checkpointing


@row("7.30", flax="Y")
@row("7.31", flax="Y")
def flax_has_names_of_its_own(backend: Backend, folder: Path) -> None:
    cls, config = backend.cls("BertModel"), BertConfig(**BERT)
    model, told = cls(config), cls(config, gradient_checkpointing=True)
    model.enable_gradient_checkpointing()
    ids = np.array([[1, 2, 3]])
    for one in (model, told):
        text = str(jax.make_jaxpr(lambda p, m=one: m(ids, params=p).last_hidden_state)(one.params))
        assert one.is_gradient_checkpointing and text.count("remat") == 2
    assert str(jax.make_jaxpr(lambda p: cls(config)(ids, params=p).last_hidden_state)(told.params)).count("remat") == 0


@row("5.4.21", pt="Y")
@row("5.4.51", pt="Y")
@row("2.51", pt="Y")
def a_model_takes_the_best_attention_of_its_class(backend: Backend, folder: Path) -> None:
    assert BertModel(BertConfig(**BERT)).config._attn_implementation == "sdpa"
    assert Author(Config()).config._attn_implementation == "sdpa"
    assert Plain(Config()).config._attn_implementation == "eager"
    asked = BertConfig(**BERT, attn_implementation="eager")
    assert BertModel(asked).config._attn_implementation == "eager"
    model = BertForMaskedLM(BertConfig(**BERT))
    model.save_pretrained(folder)
    assert "attn" not in (folder / "config.json").read_text()


@row("5.5.44", pt="Y")
@row("5.4.88", pt="Y")
@row("5.4.89", pt="Y")
def attention_is_chosen_by_name(backend: Backend, folder: Path) -> None:
    GPT2LMHeadModel(GPT2Config(vocab_size=31, n_embd=12, n_layer=2, n_head=3, n_positions=16)).save_pretrained(folder)
    fused = GPT2LMHeadModel.from_pretrained(folder, attn_implementation="sdpa")
    plain = GPT2LMHeadModel.from_pretrained(folder, attn_implementation="eager")
    mask = torch.tensor([[0, 1, 1, 1]])
    first, second = (one(IDS, attention_mask=mask).logits for one in (fused, plain))
    assert_close(first.detach(), second.detach())
    shown = fused(IDS, attention_mask=mask, output_attentions=True)
    assert torch.equal(shown.logits, second) and len(shown.attentions) == 2  # no kernel keeps the probabilities
    called: list[Any] = []
    original = torch.nn.functional.scaled_dot_product_attention
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            torch.nn.functional, "scaled_dot_product_attention", lambda *a, **k: called.append(1) or original(*a, **k)
        )
        fused(IDS), plain(IDS)
        assert len(called) == 2
        fused.set_attn_implementation("eager")
        fused(IDS)
        assert len(called) == 2 and fused.config._attn_implementation == "eager"
    assert plain.get_correct_attn_implementation(None) == "sdpa"
    with pytest.raises(ValueError, match="nonsense"):
        GPT2LMHeadModel.from_pretrained(folder, attn_implementation="nonsense")
    with pytest.raises(ValueError, match="Plain does not compute attention"):
        Plain._from_config(Config(), attn_implementation="sdpa")
    assert Author._from_config(Config(), torch_dtype=torch.bfloat16).dtype == torch.bfloat16
    assert torch.get_default_dtype() == torch.float32


@row("5.4.20", pt="Y")
@row("5.4.22", pt="Y")
def what_is_not_there_is_refused(backend: Backend, folder: Path) -> None:
    with pytest.raises(ImportError, match="flash_attn") as caught:
        Author._from_config(Config(), attn_implementation="flash_attention_2")
    assert isinstance(caught.value, MissingBackendError)
    for name in ("flash_attention_2", "flex_attention"):
        with pytest.raises(ValueError, match=name):
            BertModel._from_config(BertConfig(**BERT), attn_implementation=name)


@row("5.4.23", pt="Y")
@row(
    "5.1.16",
    pt="Y",
    note='built-in classes compute "eager" and, but T5, "sdpa", in every framework; other names are refused',
)
def functions_of_attention_are_registered(backend: Backend, folder: Path) -> None:
    def mine(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **kwargs: Any) -> Any:
        return value.transpose(1, 2), None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AttentionInterface, "_global_mapping", dict(AttentionInterface._global_mapping))
        AttentionInterface.register("mine", mine)
        assert ALL_ATTENTION_FUNCTIONS["mine"] is mine and "sdpa" in ALL_ATTENTION_FUNCTIONS
        model = Author._from_config(Config(), attn_implementation="mine")
        assert model.config._attn_implementation == "mine"
        with pytest.raises(ValueError, match="mine"):
            BertModel._from_config(BertConfig(**BERT), attn_implementation="mine")
    for one in BACKENDS:
        assert one.cls("ElectraModel")._supports_sdpa and not one.cls("T5Model")._supports_sdpa
    x = torch.randn(1, 4, 5, 8)
    seen, _ = ALL_ATTENTION_FUNCTIONS["sdpa"](nn.Identity(), x, x[:, :2], x[:, :2], None, scaling=0.3)
    scores = (x @ x[:, [0, 0, 1, 1]].transpose(2, 3) * 0.3).masked_fill(~torch.ones(5, 5).tril().bool(), -torch.inf)
    assert_close(seen, (scores.softmax(-1) @ x[:, [0, 0, 1, 1]]).transpose(1, 2))


state("5.4.24", pt="Y", note="an author's own attribute: nothing reads it, and in transformers 4 only `generate` did")
state("5.4.25", pt="Y", note="an author's own attribute: nothing reads it, and in transformers 4 only `generate` did")


@row("5.4.11", pt="Y")
@row("5.4.12", pt="Y")
@row("5.4.55", pt="Y")
def modules_stay_in_float32(backend: Backend, folder: Path) -> None:
    class Strict(Author):
        _keep_in_fp32_modules = None
        _keep_in_fp32_modules_strict = ["layers.1", "embed"]

    class Wrong(Author):
        _keep_in_fp32_modules = ["no_such"]

    def wide(cls: Any, dtype: Any) -> set[str]:
        model = cls.from_pretrained(folder, torch_dtype=dtype)
        return {name for name, p in model.named_parameters() if p.dtype == torch.float32}

    Author(Config()).save_pretrained(folder)
    wo = {f"stack.layers.{n}.wo.{leaf}" for n in (0, 1) for leaf in ("weight", "bias")}
    assert wide(Author, torch.float16) == wo and wide(Author, torch.bfloat16) == set()
    strict = {"embed.weight"} | {f"stack.layers.1.{x}.{leaf}" for x in ("wo", "inner") for leaf in ("weight", "bias")}
    assert wide(Strict, torch.float16) == wide(Strict, torch.bfloat16) == strict
    Author(Config()).half().save_pretrained(folder)
    assert wide(Author, "auto") == wo  # as for float16 that was asked for
    with pytest.raises(ValueError, match="no_such"):
        Wrong(Config())
