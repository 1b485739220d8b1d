"""PyTorch models of an author for the probes: with statistics, buffers and a tied head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from triptych import (
    PretrainedConfig,
    PreTrainedModel,
    open_checkpoint,
)

IDS = torch.tensor([[1, 2, 3, 4, 5], [5, 4, 3, 2, 1]])


class Config(PretrainedConfig):
    model_type = "live"

    def __init__(self, width: int = 4, vocab_size: int = 7, **kwargs: Any) -> None:
        self.width, self.vocab_size = width, vocab_size
        super().__init__(**kwargs)


class Trunk(PreTrainedModel):
    config_class = Config
    base_model_prefix = "trunk"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.embed = nn.Embedding(config.vocab_size, config.width)
        self.conv = nn.Conv1d(config.width, config.width, 3, padding=1)
        self.bn = nn.BatchNorm1d(config.width)
        self.raw = nn.Parameter(torch.arange(float(config.width)))
        self.register_buffer("seen", torch.zeros(3, dtype=torch.int64))
        self.post_init()

    def get_input_embeddings(self) -> Any:
        return self.embed

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Embedding):
            module.weight.data.fill_(0.25)

    def forward(self, input_ids: Any) -> Any:
        return self.bn(self.conv(self.embed(input_ids).transpose(1, 2))).transpose(1, 2) + self.raw


class Headed(PreTrainedModel):
    """As authors tie: the output embeddings, and a list of names."""

    config_class = Config
    base_model_prefix = "trunk"
    _tied_weights_keys = ["lm_head.weight"]

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.lm_head = nn.Linear(config.width, config.vocab_size, bias=False)
        self.trunk = Trunk(config)
        self.post_init()

    def get_output_embeddings(self) -> Any:
        return self.lm_head

    def forward(self, input_ids: Any) -> Any:
        return self.lm_head(self.trunk(input_ids))


def trained(cls: type = Trunk, **fields: Any) -> Any:
    """Return a model whose statistics and buffers are those of a training."""
    torch.manual_seed(1)
    model = cls(Config(**fields))
    model.train()
    model(torch.arange(6).reshape(2, 3) % model.config.vocab_size)
    for module in model.modules():
        if isinstance(module, Trunk):
            module.seen.fill_(5)
    return model.eval()


def assert_equal_states(one: Any, other: Any) -> None:
    first, second = one.state_dict(), other.state_dict()
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]) and tensor.dtype == second[name].dtype, name


def saved(model: Any, folder: Path) -> Any:
    model.save_pretrained(folder)
    return open_checkpoint(folder)


def load(weights: Any, cls: Any = Trunk, **options: Any) -> Any:
    return cls.from_pretrained(None, config=Config(), state_dict=weights, output_loading_info=True, **options)


class Around(PreTrainedModel):
    """Loads its trunk itself."""

    config_class = Config
    place: str = ""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.back = Trunk.from_pretrained(self.place) if self.place else Trunk(config)
        self.head = nn.Linear(config.width, 2)
        for parameter in self.back.parameters():
            parameter.requires_grad = False
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        for parameter in module.parameters(recurse=False):
            parameter.data.fill_(9.0)


def own_class() -> Any:
    """Return a PyTorch class that declares nothing, with a norm and a linear layer."""

    class Plain(PreTrainedModel):
        config_class = PretrainedConfig
        base_model_prefix = ""

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.LayerNorm = nn.LayerNorm(3)
            self.line = nn.Linear(3, 3)
            self.post_init()

    return Plain
