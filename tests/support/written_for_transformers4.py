"""A small model as authors write them for transformers 4; it runs there as it is, and here with its imports changed."""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.modeling_utils import apply_chunking_to_forward, find_pruneable_heads_and_indices, prune_linear_layer
from transformers.utils import ModelOutput, add_start_docstrings, logging

logger = logging.get_logger(__name__)


class TinyConfig(PretrainedConfig):
    model_type = "tiny-of-others"

    def __init__(self, vocab_size=11, hidden_size=8, num_attention_heads=2, hidden_act="gelu_new", **kwargs):
        super().__init__(**kwargs)
        self.vocab_size, self.hidden_size = vocab_size, hidden_size
        self.num_attention_heads, self.hidden_act = num_attention_heads, hidden_act


@dataclass
class TinyOutput(ModelOutput):
    last_hidden_state: torch.FloatTensor | None = None
    pooled: torch.FloatTensor | None = None


class TinyPreTrainedModel(PreTrainedModel):
    config_class = TinyConfig
    base_model_prefix = "tiny"

    def _init_weights(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            module.weight.data.normal_(mean=0.0, std=0.02)


@add_start_docstrings("A trunk.")
class TinyModel(TinyPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.act = ACT2FN[config.hidden_act]
        self.post_init()

    def forward(self, input_ids, attention_mask=None):
        mask = self.get_extended_attention_mask(attention_mask, input_ids.shape)
        hidden = apply_chunking_to_forward(lambda x: self.act(self.query(x)), 0, 1, self.embed_tokens(input_ids))
        weights = (mask[:, 0, 0, :] == 0).to(hidden.dtype)
        return TinyOutput(last_hidden_state=hidden, pooled=(hidden * weights[..., None]).sum(1))


class TinyForSequenceClassification(TinyPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.tiny = TinyModel(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, input_ids, attention_mask=None, labels=None):
        pooled = self.tiny(input_ids, attention_mask)[1]
        logits = self.classifier(pooled)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


def round_trip(folder):
    model = TinyForSequenceClassification(TinyConfig(num_labels=3)).eval()
    ids, mask = torch.tensor([[1, 2, 3], [4, 5, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    expected = model(ids, mask, labels=torch.tensor([0, 2]))
    assert expected.loss > 0 and expected[1].shape == (2, 3)
    assert model.get_input_embeddings() is model.tiny.embed_tokens
    model.save_pretrained(folder)
    loaded, info = TinyForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and torch.equal(loaded(ids, mask).logits, expected.logits)
    heads, index = find_pruneable_heads_and_indices([1], 2, 4, set())
    assert heads == {1} and prune_linear_layer(model.tiny.query, index).out_features == 4
    logger.warning_once("done")
