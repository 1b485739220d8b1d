"""The blocks of BERT in PyTorch. Names of modules are the canonical names of `triptych.families.bert`."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from triptych import functional as fn
from triptych.families.bert import BertConfig, heads_axis
from triptych_pt import ops


class BertEmbeddings(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Any, token_type_ids: Any, position_ids: Any, inputs_embeds: Any) -> Any:
        words = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        positions = fn.positions(ops, words) if position_ids is None else position_ids
        types = ops.zeros_like(positions) if token_type_ids is None else token_type_ids
        total = words + self.token_type_embeddings(types) + self.position_embeddings(positions)
        return self.dropout(self.LayerNorm(total))


class BertSelfAttention(nn.Module):
    def __init__(self, config: BertConfig, layer: int) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        width = heads_axis(config, layer).length
        self.query = nn.Linear(config.hidden_size, width)
        self.key = nn.Linear(config.hidden_size, width)
        self.value = nn.Linear(config.hidden_size, width)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    def forward(self, hidden: Any, bias: Any, head_mask: Any) -> tuple[Any, Any]:
        query, key, value = (fn.split_heads(ops, f(hidden), self.head_dim) for f in (self.query, self.key, self.value))
        scale = self.head_dim**-0.5
        context, probabilities = fn.attend(ops, query, key, value, bias, scale, self.dropout, head_mask)
        return fn.merge_heads(ops, context, self.query.out_features), probabilities


class BertResidual(nn.Module):
    """Projection, dropout, and the norm of the sum with the residual."""

    def __init__(self, config: BertConfig, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden: Any, residual: Any) -> Any:
        return self.LayerNorm(self.dropout(self.dense(hidden)) + residual)


class BertAttention(nn.Module):
    def __init__(self, config: BertConfig, layer: int) -> None:
        super().__init__()
        self.self = BertSelfAttention(config, layer)
        self.output = BertResidual(config, heads_axis(config, layer).length)

    def forward(self, hidden: Any, bias: Any, head_mask: Any) -> tuple[Any, Any]:
        context, probabilities = self.self(hidden, bias, head_mask)
        return self.output(context, hidden), probabilities


class BertActivated(nn.Module):
    """Projection and activation."""

    def __init__(self, config: BertConfig, width: int, activation: str) -> None:
        super().__init__()
        self.activation = activation
        self.dense = nn.Linear(config.hidden_size, width)

    def forward(self, hidden: Any) -> Any:
        return fn.activation(ops, self.activation, self.dense(hidden))


class BertLayer(nn.Module):
    def __init__(self, config: BertConfig, layer: int) -> None:
        super().__init__()
        self.attention = BertAttention(config, layer)
        self.intermediate = BertActivated(config, config.intermediate_size, config.hidden_act)
        self.output = BertResidual(config, config.intermediate_size)

    def forward(self, hidden: Any, bias: Any, head_mask: Any) -> tuple[Any, Any]:
        attended, probabilities = self.attention(hidden, bias, head_mask)
        return self.output(self.intermediate(attended), attended), probabilities


class BertEncoder(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(BertLayer(config, layer) for layer in range(config.num_hidden_layers))

    def forward(self, hidden: Any, bias: Any, head_masks: list[Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        states, attentions = [hidden], []
        for layer, head_mask in zip(self.layer, head_masks, strict=True):
            hidden, probabilities = layer(hidden, bias, head_mask)
            states.append(hidden)
            attentions.append(probabilities)
        return tuple(states), tuple(attentions)


class BertPredictionTransform(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.activation = config.hidden_act
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden: Any) -> Any:
        return self.LayerNorm(fn.activation(ops, self.activation, self.dense(hidden)))


class BertPredictions(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.transform = BertPredictionTransform(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)

    def forward(self, hidden: Any) -> Any:
        return self.decoder(self.transform(hidden))
