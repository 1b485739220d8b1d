"""Rows of the contract about what a live module holds: its weights, its buffers, its ties, its first values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from live_models import Around, Config, Headed, Trunk, assert_equal_states, load, saved, trained
from triptych import (
    ArgumentError,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    CheckpointError,
    PreTrainedModel,
    open_checkpoint,
)
from triptych_conformance import Backend
from walk import row

BERT = dict(vocab_size=31, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=10,
            max_position_embeddings=16)  # fmt: skip


@row("5.5.71", pt="Y")
@row("5.6.23", pt="Y")
@row("8.10", pt="Y")
def buffers_are_saved_and_loaded(backend: Backend, folder: Path) -> None:
    model = trained()
    model.save_pretrained(folder)
    assert {"bn.running_mean", "bn.num_batches_tracked", "seen"} <= set(open_checkpoint(folder))
    again = Trunk.from_pretrained(folder, strict=True)
    assert again.bn.num_batches_tracked == 1 and again.bn.running_var.mean() != 1
    assert_equal_states(model, again)
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(model(ids), again(ids))
    assert again.num_parameters() == sum(p.numel() for p in again.parameters())


@row("5.5.97", pt="Y")
def what_a_checkpoint_lacks_of_buffers_stays_as_it_was_made(backend: Backend, folder: Path) -> None:
    weights = {name: ref.read() for name, ref in saved(trained(), folder).items()}
    del weights["seen"], weights["bn.num_batches_tracked"]
    model, info = load(weights)
    assert info["missing_keys"] == ["seen"] and info["unexpected_keys"] == []
    assert model.seen.tolist() == [0, 0, 0]
    del weights["bn.running_mean"]
    with pytest.raises(CheckpointError, match="bn.running_mean"):
        load(weights)


class Shaped(Trunk):
    def __init__(self, config: Config, size: int, *inputs: Any, deep: bool = False, **kwargs: Any) -> None:
        super().__init__(config)
        self.more = nn.Linear(config.width, size)
        self.seen_inputs, self.seen_options = inputs, kwargs
        self.post_init()


@row("5.5.6", pt="Y")
@row("5.5.64", pt="Y")
def arguments_of_the_constructor_shape_weights(backend: Backend, folder: Path) -> None:
    Shaped(Config(), 5).save_pretrained(folder)
    model = Shaped.from_pretrained(folder, 5, "more", kind=1, strict=True)
    assert model.more.out_features == 5
    assert (model.seen_inputs, model.seen_options) == (("more",), {"kind": 1})
    assert Shaped.from_pretrained(folder, size=5, strict=True).more.out_features == 5


@row("5.4.30", pt="Y")
@row("5.4.74", pt="Y")
def each_module_is_initialised_once_by_its_own_model(backend: Backend, folder: Path) -> None:
    trunk = trained()
    trunk.save_pretrained(folder)
    Around.place = str(folder)
    model = Around(Config())
    assert_equal_states(model.back, trunk)
    assert model.head.weight.eq(9).all()
    Around.place = ""
    assert Around(Config()).back.embed.weight.eq(0.25).all()
    assert Around(Config()).back.raw.tolist() == [0, 1, 2, 3]
    model.fresh = nn.Linear(2, 2)
    model.init_weights()
    assert model.fresh.weight.eq(9).all() and not model.back.conv.weight.eq(9).any()


@row("5.5.72", pt="Y")
def frozen_parameters_stay_frozen(backend: Backend, folder: Path) -> None:
    trunk = trained()
    trunk.save_pretrained(folder / "trunk")
    Around.place = str(folder / "trunk")
    model = Around(Config())
    model.head.weight.data.fill_(3.0)
    model.save_pretrained(folder / "whole")
    for place in ("", str(folder / "trunk")):
        Around.place = place
        again = Around.from_pretrained(folder / "whole", strict=True)
        assert_equal_states(again, model)
        assert not any(p.requires_grad for p in again.back.parameters()) and again.head.weight.requires_grad
    Around.place = ""


@row("5.5.69", pt="Y")
def missing_weights_start_as_their_module_starts_them(backend: Backend, folder: Path) -> None:
    weights = {name: ref.read() for name, ref in saved(trained(), folder).items()}
    for name in ("raw", "bn.weight", "conv.weight", "embed.weight"):
        del weights[name]
    model, info = load(weights, strict=False)
    assert sorted(info["missing_keys"]) == ["bn.weight", "conv.weight", "embed.weight", "raw"]
    assert model.raw.tolist() == [0, 1, 2, 3] and model.bn.weight.eq(1).all() and model.embed.weight.eq(0.25).all()
    assert model.conv.weight.std() > 0.05
    assert np.array_equal(model.conv.bias.detach().numpy(), weights["conv.bias"])


@row("5.4.31", pt="Y", note="as 4.57: Linear, Embedding, convolutions, norms, attention; what it does not know stays")
def the_bases_own_initialisation(backend: Backend, folder: Path) -> None:
    class Plain(Trunk):
        _init_weights = PreTrainedModel._init_weights

    torch.manual_seed(0)
    model = Plain(Config(width=64, initializer_range=0.5))
    assert abs(model.conv.weight.std().item() - 0.5) < 0.05 and model.conv.bias.eq(0).all()
    assert model.bn.weight.eq(1).all() and model.raw.tolist() == list(range(64))


@row("5.4.16", pt="Y")
@row("5.4.35", pt="Y")
@row("5.6.18", pt="Y")
@row("5.5.96", pt="Y")
@row("2.15", pt="Y")
def a_list_of_tied_names(backend: Backend, folder: Path) -> None:
    model = trained(Headed)
    assert model.lm_head.weight is model.trunk.embed.weight
    assert "lm_head.weight" not in saved(model, folder)
    again, info = Headed.from_pretrained(folder, output_loading_info=True)
    assert info["missing_keys"] == [] and again.lm_head.weight is again.trunk.embed.weight
    assert_equal_states(model, again)
    again.resize_token_embeddings(11)
    assert again.lm_head.weight is again.trunk.embed.weight and again.lm_head.out_features == 11
    untied = Headed(Config(tie_word_embeddings=False))
    assert untied.lm_head.weight is not untied.trunk.embed.weight
    assert "lm_head.weight" in saved(untied, folder / "untied")
    assert not Headed.from_pretrained(folder / "untied").config.tie_word_embeddings


@row("5.4.36", pt="Y")
@row("5.4.18", pt="Y")
@row("5.4.76", pt="Y")
def hooks_that_tie(backend: Backend, folder: Path) -> None:
    class Hooked(Headed):
        _tied_weights_keys = None

        def _tie_weights(self) -> None:
            self.lm_head.bias = self.trunk.raw

        def get_output_embeddings(self) -> Any:
            return None

    model = Hooked(Config())
    assert model.lm_head.bias is model.trunk.raw and saved(model, folder)
    again = Hooked.from_pretrained(folder, strict=True)
    assert again.lm_head.bias is again.trunk.raw


@row("5.4.77", pt="Y", note="config.tie_encoder_decoder, within tie_weights")
@row("2.21", pt="Y")
def an_encoder_tied_to_its_decoder(backend: Backend, folder: Path) -> None:
    class Pair(PreTrainedModel):
        config_class = Config

        def __init__(self, config: Config) -> None:
            super().__init__(config)
            self.encoder, self.decoder = Trunk(config), Trunk(config)
            self.post_init()

    model = Pair(Config(tie_encoder_decoder=True))
    assert model.encoder.conv.weight is model.decoder.conv.weight
    assert not any(name.startswith("decoder.conv") for name in saved(model, folder))
    assert_equal_states(model, Pair.from_pretrained(folder))
    assert Pair(Config()).encoder.conv.weight is not Pair(Config()).decoder.conv.weight


@row("5.6.19", pt="Y", note="one array is saved once, under its first name, and shared again by a load")
def one_parameter_under_two_names(backend: Backend, folder: Path) -> None:
    class Sharing(Trunk):
        def __init__(self, config: Config) -> None:
            super().__init__(config)
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
            self.second.weight = self.first.weight
            self.third = self.first
            self.post_init()

    model = Sharing(Config())
    assert {"second.weight", "third.weight", "third.bias"}.isdisjoint(saved(model, folder))
    again = Sharing.from_pretrained(folder, strict=True)
    assert again.second.weight is again.first.weight and again.third is again.first
    assert_equal_states(model, again)


@row("5.4.38", pt="Y")
@row("5.4.39", pt="Y")
def ways_of_its_own_to_save_and_load(backend: Backend, folder: Path) -> None:
    class Renaming(Trunk):
        def state_dict(self, *args: Any, **kwargs: Any) -> Any:
            state = super().state_dict(*args, **kwargs)
            return {name.replace("conv", "convolution"): value for name, value in state.items()}

        def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
            for name in [name for name in state_dict if "convolution" in name]:
                state_dict[name.replace("convolution", "conv")] = state_dict.pop(name)
            super()._load_from_state_dict(state_dict, prefix, *args)

    model = trained(Renaming)
    assert "convolution.weight" in saved(model, folder) and "conv.weight" not in open_checkpoint(folder)
    again, info = Renaming.from_pretrained(folder, output_loading_info=True)
    assert info["missing_keys"] == [] and info["unexpected_keys"] == []
    assert torch.equal(again.conv.weight, model.conv.weight) and torch.equal(again.seen, model.seen)


@row("5.5.91", pt="Y")
@row("8.17", pt="Y", note="PyTorch's own two names; TensorFlow and Flax have no such layer")
def parametrised_weights(backend: Backend, folder: Path) -> None:
    class Normed(Trunk):
        def __init__(self, config: Config) -> None:
            super().__init__(config)
            self.wn = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
            self.post_init()

    model = trained(Normed)
    weights = {name: ref.read() for name, ref in saved(model, folder).items()}
    assert "wn.parametrizations.weight.original0" in weights
    assert_equal_states(model, Normed.from_pretrained(folder, strict=True))
    for new, old in (("original0", "weight_g"), ("original1", "weight_v")):
        weights[f"wn.{old}"] = weights.pop(f"wn.parametrizations.weight.{new}")
    assert_equal_states(model, load(weights, Normed)[0])


@row("5.5.90", pt="Y")
def old_names_of_norms(backend: Backend, folder: Path) -> None:
    weights = {name: ref.read() for name, ref in saved(trained(), folder).items()}
    weights["bn.gamma"], weights["bn.beta"] = weights.pop("bn.weight"), weights.pop("bn.bias")
    model, info = load(weights)
    assert info["missing_keys"] == [] and np.array_equal(model.bn.bias.detach().numpy(), weights["bn.beta"])


@row("5.5.75", pt="Y", note="None is torch's default dtype; config.dtype in memory stays what the file says")
def the_default_dtype_is_honoured(backend: Backend, folder: Path) -> None:
    trained().save_pretrained(folder)
    torch.set_default_dtype(torch.bfloat16)
    try:
        model = Trunk.from_pretrained(folder)
    finally:
        torch.set_default_dtype(torch.float32)
    assert model.conv.weight.dtype == torch.bfloat16 and model.seen.dtype == torch.int64


@row("5.5.88", pt="Y")
@row("5.5.89", pt="Y")
def contexts_of_devices(backend: Backend, folder: Path) -> None:
    trained().save_pretrained(folder)
    with torch.device("cpu"):
        assert Trunk.from_pretrained(folder).device.type == "cpu"
    with torch.device("meta"), pytest.raises(ArgumentError, match="meta device"):
        Trunk.from_pretrained(folder)


@row("5.6.24", pt="Y")
@row("5.6.25", pt="Y")
@row("5.2.3", pt="Y")
def layers_beside_and_instead_in_a_built_in_class(backend: Backend, folder: Path) -> None:
    model = BertForSequenceClassification(BertConfig(**BERT))
    before = model.num_parameters()
    model.extra = nn.Linear(3, 3)
    model.bert.encoder.layer[0].output.dense = nn.utils.parametrizations.weight_norm(nn.Linear(10, 12))
    model.register_buffer("mark", torch.ones(2))
    assert model.num_parameters() == before + 12 + 12
    names = set(saved(model, folder))
    assert {"extra.weight", "mark", "bert.encoder.layer.0.output.dense.parametrizations.weight.original1"} <= names

    class Own(BertForSequenceClassification):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.extra = nn.Linear(3, 3)
            self.bert.encoder.layer[0].output.dense = nn.utils.parametrizations.weight_norm(nn.Linear(10, 12))
            self.register_buffer("mark", torch.zeros(2))
            self.post_init()

    assert_equal_states(model, Own.from_pretrained(folder, strict=True))


class Wrapped(PreTrainedModel):
    config_class = BertConfig
    base_model_prefix = "bert"

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.bert = BertModel(config)
        self.top = nn.Linear(config.hidden_size, 2)
        self.post_init()

    def forward(self, input_ids: Any) -> Any:
        return self.top(self.bert(input_ids).pooler_output)


@row("5.8.7", pt="Y")
@row("5.8.4", pt="Y")
@row("2.14", pt="Y")
@row("5.4.53", pt="Y")
def a_wrapped_built_in_is_pruned_and_resized(backend: Backend, folder: Path) -> None:
    model, ids = Wrapped(BertConfig(**BERT)).eval(), torch.tensor([[1, 2, 3]])
    model.prune_heads({0: [1]})
    model.resize_token_embeddings(40)
    assert model.config.pruned_heads == {0: [1]} and model.bert.config.vocab_size == 40
    assert model.bert.encoder.layer[0].attention.self.query.weight.shape == (8, 12)
    model.save_pretrained(folder)
    again = Wrapped.from_pretrained(folder, strict=True)
    assert torch.equal(model(ids), again(ids))


class Pruning(PreTrainedModel):
    config_class = BertConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.layers = nn.ModuleList(nn.Linear(12, 12) for _ in range(2))
        self.post_init()

    def _prune_heads(self, heads_to_prune: Any) -> None:
        for layer, heads in heads_to_prune.items():
            old = self.layers[layer]
            self.layers[layer] = nn.Linear(12, old.out_features - 4 * len(heads))


@row("5.4.32", pt="Y")
@row("5.8.2", pt="Y")
def an_authors_own_pruning(backend: Backend, folder: Path) -> None:
    model = Pruning(BertConfig(**BERT))
    model.prune_heads({1: [0]})
    model.prune_heads({1: [2]})
    assert model.config.pruned_heads == {1: [0, 2]} and model.layers[1].out_features == 4
    model.save_pretrained(folder)
    again = Pruning.from_pretrained(folder, strict=True)
    assert again.layers[1].out_features == 4 and again.layers[0].out_features == 12
    assert_equal_states(model, again)


@row("5.7.6", pt="Y")
@row("5.7.18", pt="Y")
def a_resize_keeps_the_parameter(backend: Backend, folder: Path) -> None:
    model = trained(Headed)
    model.vocab_size = 7
    parameter = model.trunk.embed.weight
    model.resize_token_embeddings(9)
    assert model.trunk.embed.weight is parameter and parameter.shape == (9, 4) and model.vocab_size == 9


@row("5.4.13", pt="Y")
def ignored_missing_names_lift_the_refusal(backend: Backend, folder: Path) -> None:
    weights = {name: ref.read() for name, ref in saved(trained(), folder).items() if name != "raw"}
    with pytest.raises(CheckpointError, match="raw"):
        load(weights)

    class Ignoring(Trunk):
        _keys_to_ignore_on_load_missing = ["raw"]

    assert load(weights, Ignoring)[0].raw.tolist() == [0, 1, 2, 3]


@row("5.4.46", pt="Y")
def submodules_may_have_names_of_ours(backend: Backend, folder: Path) -> None:
    class Names(Trunk):
        def __init__(self, config: Config) -> None:
            super().__init__(config)
            for name in ("stem", "ops", "make", "part", "extra"):
                setattr(self, name, nn.Linear(2, 2))
            self.post_init()

    model = Names(Config())
    assert isinstance(model.stem, nn.Linear) and isinstance(model.ops, nn.Linear) and isinstance(model.make, nn.Linear)
    model.save_pretrained(folder)
    assert_equal_states(model, Names.from_pretrained(folder, strict=True))
