"""The model in PyTorch."""

import torch

from triptych import PreTrainedModel

from .configuration_tiny import TinyConfig
from .scale_tiny import SCALE


class TinyModel(PreTrainedModel):
    config_class = TinyConfig

    def __init__(self, config: TinyConfig) -> None:
        super().__init__(config)
        self.embed = torch.nn.Embedding(config.vocab_size, config.hidden_size)
        self.head = torch.nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.head(SCALE * self.embed(input_ids))
