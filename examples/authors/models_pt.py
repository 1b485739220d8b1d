"""Three PyTorch models as authors wrote them for transformers 4. Only the lines that import them name a library."""

from typing import Optional

import torch
from torch import nn
from triptych.modeling_outputs import BaseModelOutput, CausalLMOutput, SequenceClassifierOutput

from triptych import BertForSequenceClassification, BertModel, PretrainedConfig, PreTrainedModel


class SignalConfig(PretrainedConfig):
    model_type = "signal"

    def __init__(self, channels=3, hidden_size=8, num_hidden_layers=2, initializer_range=0.2, **kwargs):
        self.channels = channels
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.initializer_range = initializer_range
        super().__init__(**kwargs)


class SignalBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv1d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm1d(width, eps=1e-3)

    def forward(self, hidden):
        return hidden + torch.relu(self.norm(self.conv(hidden)))


class SignalEncoder(PreTrainedModel):
    """An encoder with BatchNorm, and a buffer that is saved."""

    config_class = SignalConfig
    base_model_prefix = "signal"
    main_input_name = "values"
    supports_gradient_checkpointing = True

    def __init__(self, config):
        super().__init__(config)
        self.stem = nn.Linear(config.channels, config.hidden_size)
        self.blocks = nn.ModuleList(SignalBlock(config.hidden_size) for _ in range(config.num_hidden_layers))
        self.register_buffer("shift", torch.zeros(config.hidden_size))
        self.gradient_checkpointing = False
        self.post_init()

    def _init_weights(self, module):
        if isinstance(module, (nn.Linear, nn.Conv1d)):
            module.weight.data.normal_(mean=0.0, std=self.config.initializer_range)
            module.bias.data.zero_()

    def forward(self, values: torch.Tensor) -> BaseModelOutput:
        hidden = (self.stem(values) + self.shift).transpose(1, 2)
        for block in self.blocks:
            if self.gradient_checkpointing and self.training:
                hidden = self._gradient_checkpointing_func(block.__call__, hidden)
            else:
                hidden = block(hidden)
        return BaseModelOutput(last_hidden_state=hidden.transpose(1, 2))


class RecurrentConfig(PretrainedConfig):
    model_type = "recurrent"

    def __init__(self, vocab_size=19, hidden_size=8, **kwargs):
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        super().__init__(**kwargs)


class RecurrentModel(PreTrainedModel):
    config_class = RecurrentConfig
    base_model_prefix = "model"

    def __init__(self, config):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.mix = nn.Linear(2 * config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=1e-6)
        self.post_init()

    def get_input_embeddings(self):
        return self.embed_tokens

    def set_input_embeddings(self, value):
        self.embed_tokens = value

    def forward(self, input_ids):
        embedded, states = self.embed_tokens(input_ids), []
        state = torch.zeros_like(embedded[:, 0])
        for step in range(embedded.shape[1]):
            state = torch.tanh(self.mix(torch.cat([state, embedded[:, step]], dim=-1)))
            states.append(state)
        return self.norm(torch.stack(states, dim=1))


class RecurrentForCausalLM(PreTrainedModel):
    """A causal model with a list of tied keys."""

    config_class = RecurrentConfig
    base_model_prefix = "model"
    _tied_weights_keys = ["lm_head.weight"]

    def __init__(self, config):
        super().__init__(config)
        self.model = RecurrentModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_output_embeddings(self):
        return self.lm_head

    def set_output_embeddings(self, new_embeddings):
        self.lm_head = new_embeddings

    def forward(self, input_ids: torch.Tensor, labels: Optional[torch.Tensor] = None) -> CausalLMOutput:
        logits = self.lm_head(self.model(input_ids))
        loss = None
        if labels is not None:
            loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return CausalLMOutput(loss=loss, logits=logits)


class BertForScoring(BertForSequenceClassification):
    """A built-in class with another head, around a backbone that may have been loaded."""

    def __init__(self, config, backbone=None):
        super().__init__(config)
        if backbone is not None:
            self.bert = BertModel.from_pretrained(backbone)
            for parameter in self.bert.embeddings.parameters():
                parameter.requires_grad = False
        self.squeeze = nn.Linear(config.hidden_size, 4)
        self.classifier = nn.Linear(4, config.num_labels)
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, **kwargs):
        pooled = self.bert(input_ids, attention_mask=attention_mask)[1]
        return SequenceClassifierOutput(logits=self.classifier(torch.tanh(self.squeeze(pooled))))
