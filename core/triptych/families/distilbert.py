"""DistilBERT (Sanh et al., 2019, https://arxiv.org/abs/1910.01108): BERT without token types and pooler."""

from __future__ import annotations

from typing import Any

from triptych.config import PretrainedConfig, part_count, positive_int, positive_number, probability
from triptych.families import Family
from triptych.families.bert import IGNORABLE
from triptych.families.common import (
    heads_axis,
    labels_axis,
    require_activation,
    require_built_in,
    require_divisor,
    vocab_head,
    with_base,
)
from triptych.weights.schema import Axis, Layout, Schema, SchemaBuilder


class DistilBertConfig(PretrainedConfig):
    """Configuration of DistilBERT; the defaults are those of distilbert-base-uncased.

    Raises:
        ConfigError: a field has an impossible value.
    """

    model_type = "distilbert"
    attribute_map = {"hidden_size": "dim", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"}
    checks = {
        "vocab_size": positive_int,
        "max_position_embeddings": positive_int,
        "n_layers": part_count,
        "n_heads": part_count,
        "dim": positive_int,
        "hidden_dim": positive_int,
        "dropout": probability,
        "attention_dropout": probability,
        "qa_dropout": probability,
        "seq_classif_dropout": probability,
        "initializer_range": positive_number,
    }
    layer_norm_eps = 1e-12

    def __init__(
        self,
        vocab_size: int = 30522,
        max_position_embeddings: int = 512,
        sinusoidal_pos_embds: bool = False,
        n_layers: int = 6,
        n_heads: int = 12,
        dim: int = 768,
        hidden_dim: int = 3072,
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        activation: str = "gelu",
        initializer_range: float = 0.02,
        qa_dropout: float = 0.1,
        seq_classif_dropout: float = 0.2,
        pad_token_id: int | None = 0,
        **kwargs: Any,
    ) -> None:
        self._set_fields(locals())
        super().__init__(**kwargs)

    def validate(self) -> None:
        super().validate()
        require_divisor(self, "n_heads", "dim")
        require_activation(self, "activation")
        require_built_in(self)

    @property
    def head_dim(self) -> int:
        return self.dim // self.n_heads


def _schema(config: PretrainedConfig, stem: str) -> Schema:
    hidden = Axis("hidden", config.dim)
    root, base, head = with_base(stem, "DistilBertModel", "distilbert")
    base.embedding("embeddings.word_embeddings", Axis("vocab", config.vocab_size), hidden)
    base.embedding("embeddings.position_embeddings", Axis("positions", config.max_position_embeddings), hidden)
    base.layer_norm("embeddings.LayerNorm", hidden)
    for layer in range(config.n_layers):
        _layer(base.under(f"transformer.layer.{layer}"), config, layer, hidden)
    if stem == "DistilBertForMaskedLM":
        head.linear("vocab_transform", hidden, hidden)
        head.layer_norm("vocab_layer_norm", hidden)
        vocab_head(head, "vocab_projector", config, hidden, "distilbert.embeddings.word_embeddings.weight")
        head.add("vocab_projector.bias", (Axis("vocab", config.vocab_size),), Layout.BIAS)
    elif stem == "DistilBertForSequenceClassification":
        head.linear("pre_classifier", hidden, hidden)
        head.linear("classifier", labels_axis(config), hidden)
    elif stem == "DistilBertForQuestionAnswering":
        head.linear("qa_outputs", labels_axis(config), hidden)
    elif stem == "DistilBertForTokenClassification":
        head.linear("classifier", labels_axis(config), hidden)
    return root.build("distilbert", stem == "DistilBertModel", IGNORABLE)


def _layer(build: SchemaBuilder, config: PretrainedConfig, layer: int, hidden: Axis) -> None:
    heads, ffn = heads_axis(config, layer), Axis("ffn", config.hidden_dim)
    for name in ("q_lin", "k_lin", "v_lin"):
        build.linear(f"attention.{name}", heads, hidden)
    build.linear("attention.out_lin", hidden, heads)
    build.layer_norm("sa_layer_norm", hidden)
    build.linear("ffn.lin1", ffn, hidden)
    build.linear("ffn.lin2", hidden, ffn)
    build.layer_norm("output_layer_norm", hidden)


FAMILIES = {
    "distilbert": Family(
        config_class=DistilBertConfig,
        base_prefix="distilbert",
        classes={
            "": "DistilBertModel",
            "MaskedLM": "DistilBertForMaskedLM",
            "SequenceClassification": "DistilBertForSequenceClassification",
            "TokenClassification": "DistilBertForTokenClassification",
            "QuestionAnswering": "DistilBertForQuestionAnswering",
        },
        schema=_schema,
    )
}
