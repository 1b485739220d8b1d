"""Rows of the contract about resizing the vocabulary of a PyTorch model, and pruning heads."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

import live_models
from live_models import IDS, Headed, Trunk, assert_equal_states, trained
from probing import STEM, messages, same, shows, small
from triptych import (
    ArgumentError,
    PretrainedConfig,
    PreTrainedModel,
    open_checkpoint,
)
from triptych.modeling.operations import _warn_of_drawn_rows
from triptych_conformance import Backend
from walk import row


@row("5.4.78", note="see 5.7", pt="Y")
@shows("5.7.1 5.7.2 5.7.3 5.7.5 5.7.7 5.7.8 5.7.10 5.7.14 5.7.16")
def the_vocabulary_changes(backend: Backend, folder: Path) -> None:
    model = Headed(live_models.Config(tie_word_embeddings=False)).to(torch.bfloat16)
    model.lm_head.bias = nn.Parameter(torch.ones(7, dtype=torch.bfloat16))
    embed, head = model.trunk.embed, model.lm_head
    embed.weight.requires_grad, embed.padding_idx = False, 6
    old = embed.weight.clone()
    assert model.resize_token_embeddings(None) is embed and embed.num_embeddings == 7
    assert model.resize_token_embeddings(pad_to_multiple_of=4) is embed
    assert (embed.num_embeddings, model.config.vocab_size, head.out_features, head.bias.shape[0]) == (8, 8, 8, 8)
    assert model.lm_head is head and embed.weight.dtype == head.bias.dtype == torch.bfloat16
    assert not embed.weight.requires_grad and head.weight.requires_grad and torch.equal(embed.weight[:7], old)
    assert embed.padding_idx == 6 and model.resize_token_embeddings(5).padding_idx is None
    assert torch.equal(embed.weight, old[:5]) and head.weight.shape == (5, 4) and model.config.vocab_size == 5
    for bad in ({"pad_to_multiple_of": 1.5}, {"pad_to_multiple_of": "8"}):
        with pytest.raises(ArgumentError, match="pad_to_multiple_of"):
            model.resize_token_embeddings(9, **bad)


@row("5.7.20", note="a vocabulary has one token at least", pt="R")
def an_empty_vocabulary(backend: Backend, folder: Path) -> None:
    with pytest.raises(ArgumentError, match="new_num_tokens"):
        Headed(live_models.Config()).resize_token_embeddings(0)


@row("5.4.79", note="see 5.8", pt="Y")
@shows("5.8.1 5.8.3 5.8.5 6.69")
def heads_are_pruned(backend: Backend, folder: Path) -> None:
    model = small(backend)
    model.prune_heads({0: [1]})
    model.prune_heads({0: [1, 2], 1: [0]})
    assert model.config.pruned_heads == {0: [1, 2], 1: [0]}
    model.save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["pruned_heads"] == {"0": [1, 2], "1": [0]}
    again = backend.load(STEM, folder)
    assert again.config.pruned_heads == {0: [1, 2], 1: [0]} and same(backend, again, model)
    assert backend.weights(model)["bert.encoder.layer.0.attention.self.query.weight"].shape == (4, 12)


class WithBias(Headed):
    """A head with a bias of its own, tied."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.lm_head.bias = nn.Parameter(torch.ones(config.vocab_size))


@row("5.7.4", pt="Y", note="at INFO")
def tensor_cores(backend: Backend, folder: Path) -> None:
    model = Headed(live_models.Config())
    with messages(logging.INFO) as said:
        model.resize_token_embeddings(9)
    assert [text for text in said if "tensor cores" in text]
    with messages(logging.INFO) as said:
        model.resize_token_embeddings(9, pad_to_multiple_of=8)
    assert model.config.vocab_size == 16 and not [text for text in said if "tensor cores" in text]


@row("5.7.9", pt="Y", note="the layers are the same objects, with all that hangs on them")
def hooks_of_layers_are_kept(backend: Backend, folder: Path) -> None:
    model, seen = Headed(live_models.Config(tie_word_embeddings=False)), []
    for layer in (model.trunk.embed, model.lm_head):
        layer._hf_hook = "a hook of accelerate"
        layer.register_forward_hook(lambda *_: seen.append(1))
    model.resize_token_embeddings(9)
    model(IDS)
    assert model.trunk.embed._hf_hook == model.lm_head._hf_hook == "a hook of accelerate" and seen == [1, 1]


@row("5.7.11", pt="Y", note="ArgumentError, a ValueError; any layer with a matrix [vocabulary, width] is resized")
@row("5.7.15", pt="Y", note="ArgumentError, a ValueError; any layer with a matrix [vocabulary, width] is resized")
def other_layers_are_not_resized(backend: Backend, folder: Path) -> None:
    class Odd(Headed):
        def get_input_embeddings(self) -> Any:
            return self.trunk.conv

    class OddHead(Headed):
        def get_output_embeddings(self) -> Any:
            return self.trunk.conv

    for cls in (Odd, OddHead):
        model = cls(live_models.Config(tie_word_embeddings=False))
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        with pytest.raises(ArgumentError, match="cannot be resized.*Conv1d"):
            model.resize_token_embeddings(9)
        after = model.state_dict()
        assert all(torch.equal(after[name], tensor) for name, tensor in before.items()) and model.config.vocab_size == 7


@row("5.7.12", pt="Y", note="warned of once; drawn by `seed=`, not by the framework's own, so that all three agree")
def new_rows_around_the_mean(backend: Backend, folder: Path) -> None:
    first, other = trained(Headed), trained(Headed)
    first.trunk.embed.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    other.load_state_dict(first.state_dict())
    mean = first.trunk.embed.weight.mean(0)
    _warn_of_drawn_rows.cache_clear()
    with messages() as said:
        new = first.resize_token_embeddings(9).weight[7:]
        other.resize_token_embeddings(9, seed=1)
    assert len(said) == 1 and "mean_resizing=False" in said[0]
    torch.testing.assert_close(new, mean.expand(2, -1), atol=1e-3, rtol=0)
    assert not torch.equal(new, other.trunk.embed.weight[7:])


@row("5.7.13", pt="Y")
def new_rows_of_an_authors_own(backend: Backend, folder: Path) -> None:
    class Headful(Headed):
        def _init_weights(self, module: nn.Module) -> None:
            if isinstance(module, nn.Linear):
                module.weight.data.fill_(4.0)

    model = Headful(live_models.Config(tie_word_embeddings=False))
    old = torch.randn(7, 4)
    model.trunk.embed.weight.data.copy_(old)
    model.lm_head.weight.data.copy_(old)
    model.resize_token_embeddings(9, mean_resizing=False)
    for layer, value in ((model.trunk.embed, 0.25), (model.lm_head, 4.0)):
        assert torch.equal(layer.weight[:7], old) and layer.weight[7:].eq(value).all()


class CompositeConfig(PretrainedConfig):
    model_type = "rest_composite"
    sub_configs: ClassVar[Any] = {"text_config": live_models.Config}

    def __init__(self, text_config: Any = None, **kwargs: Any) -> None:
        made = live_models.Config(**text_config) if isinstance(text_config, dict) else text_config
        self.text_config = made or live_models.Config()
        super().__init__(**kwargs)


class Composite(PreTrainedModel):
    config_class = CompositeConfig

    def __init__(self, config: CompositeConfig) -> None:
        super().__init__(config)
        self.text = Trunk(config.text_config)
        self.post_init()

    def get_input_embeddings(self) -> Any:
        return self.text.embed


@row("5.7.17", pt="Y")
def the_vocabulary_is_of_the_text(backend: Backend, folder: Path) -> None:
    model = Composite(CompositeConfig())
    model.resize_token_embeddings(9)
    assert (model.text.embed.num_embeddings, model.config.text_config.vocab_size) == (9, 9)
    assert model.text.config.vocab_size == 9
    model.save_pretrained(folder)
    assert_equal_states(model, Composite.from_pretrained(folder, strict=True))


@row("5.7.19", pt="Y")
def a_tied_head_stays_tied(backend: Backend, folder: Path) -> None:
    model = WithBias(live_models.Config())
    model.resize_token_embeddings(9)
    assert model.lm_head.weight is model.trunk.embed.weight and model.lm_head.out_features == 9
    assert model.lm_head.bias.tolist() == [1] * 7 + [0] * 2
    model.save_pretrained(folder)
    again = WithBias.from_pretrained(folder, strict=True)
    assert again.lm_head.weight is again.trunk.embed.weight
    assert_equal_states(model, again)
    assert "lm_head.weight" not in open_checkpoint(folder)
