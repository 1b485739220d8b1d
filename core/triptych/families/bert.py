"""BERT (Devlin et al., 2018, https://arxiv.org/abs/1810.04805): config and schema."""

from __future__ import annotations

from typing import Any

from triptych.config import PretrainedConfig, part_count, positive_int, positive_number, probability
from triptych.families import Family
from triptych.families.common import (
    heads_axis,
    labels_axis,
    optional_probability,
    require_activation,
    require_built_in,
    require_divisor,
    vocab_head,
    with_base,
)
from triptych.weights.schema import Axis, Layout, Schema, SchemaBuilder


class BertConfig(PretrainedConfig):
    """Configuration of BERT; the defaults are those of bert-base-uncased.

    Raises:
        ConfigError: a field has an impossible value, or the heads do not divide the hidden size.
    """

    model_type = "bert"
    checks = {
        "vocab_size": positive_int,
        "hidden_size": positive_int,
        "num_hidden_layers": part_count,
        "num_attention_heads": part_count,
        "intermediate_size": positive_int,
        "max_position_embeddings": positive_int,
        "type_vocab_size": positive_int,
        "hidden_dropout_prob": probability,
        "attention_probs_dropout_prob": probability,
        "classifier_dropout": optional_probability,
        "layer_norm_eps": positive_number,
        "initializer_range": positive_number,
    }

    def __init__(
        self,
        vocab_size: int = 30522,
        hidden_size: int = 768,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 12,
        intermediate_size: int = 3072,
        hidden_act: str = "gelu",
        hidden_dropout_prob: float = 0.1,
        attention_probs_dropout_prob: float = 0.1,
        max_position_embeddings: int = 512,
        type_vocab_size: int = 2,
        initializer_range: float = 0.02,
        layer_norm_eps: float = 1e-12,
        pad_token_id: int | None = 0,
        position_embedding_type: str = "absolute",
        use_cache: bool = True,
        classifier_dropout: float | None = None,
        **kwargs: Any,
    ) -> None:
        self._set_fields(locals())
        super().__init__(**kwargs)

    def validate(self) -> None:
        super().validate()
        require_divisor(self, "num_attention_heads", "hidden_size")
        require_activation(self, "hidden_act")
        require_built_in(self, "position_embedding_type", "is_decoder", "add_cross_attention")

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def head_dropout(self) -> float:
        """Dropout before a classification head."""
        return self.hidden_dropout_prob if self.classifier_dropout is None else self.classifier_dropout

    @property
    def embedding_width(self) -> int:
        """Width of the embeddings, before any projection to the hidden size."""
        return self.hidden_size


def _schema(config: PretrainedConfig, stem: str, add_pooling_layer: bool = True) -> Schema:
    hidden = Axis("hidden", config.hidden_size)
    root, base, head = with_base(stem, "BertModel", "bert")
    backbone(base, config)
    if stem in ("BertModel", "BertForSequenceClassification") and add_pooling_layer:
        base.under("pooler", backbone=False).linear("dense", hidden, hidden)
    if stem == "BertForMaskedLM":
        _masked_lm_head(head.under("cls.predictions"), config, hidden)
    elif stem == "BertForQuestionAnswering":
        head.linear("qa_outputs", labels_axis(config), hidden)
    elif stem != "BertModel":
        head.linear("classifier", labels_axis(config), hidden)
    return root.build("bert", stem == "BertModel", IGNORABLE)


IGNORABLE = ("embeddings.position_ids", "embeddings.token_type_ids")
"""Buffers that transformers once saved."""


def backbone(build: SchemaBuilder, config: PretrainedConfig) -> None:
    """Declare embeddings and encoder; ELECTRA's embeddings may be narrower, and are then projected."""
    hidden, width = Axis("hidden", config.hidden_size), Axis("hidden", config.embedding_width)
    embeddings = build.under("embeddings")
    embeddings.embedding("word_embeddings", Axis("vocab", config.vocab_size), width)
    embeddings.embedding("position_embeddings", Axis("positions", config.max_position_embeddings), width)
    embeddings.embedding("token_type_embeddings", Axis("token_types", config.type_vocab_size), width)
    embeddings.layer_norm("LayerNorm", width)
    if width.length != hidden.length:
        build.linear("embeddings_project", hidden, width)
    for layer in range(config.num_hidden_layers):
        _layer(build.under(f"encoder.layer.{layer}"), config, layer, hidden)


def _layer(build: SchemaBuilder, config: PretrainedConfig, layer: int, hidden: Axis) -> None:
    heads = heads_axis(config, layer)
    ffn = Axis("ffn", config.intermediate_size)
    for name in ("query", "key", "value"):
        build.linear(f"attention.self.{name}", heads, hidden)
    build.linear("attention.output.dense", hidden, heads)
    build.layer_norm("attention.output.LayerNorm", hidden)
    build.linear("intermediate.dense", ffn, hidden)
    build.linear("output.dense", hidden, ffn)
    build.layer_norm("output.LayerNorm", hidden)


def _masked_lm_head(build: SchemaBuilder, config: PretrainedConfig, hidden: Axis) -> None:
    build.add("bias", (Axis("vocab", config.vocab_size),), Layout.BIAS, aliases=("cls.predictions.decoder.bias",))
    build.linear("transform.dense", hidden, hidden)
    build.layer_norm("transform.LayerNorm", hidden)
    decoder(build, "cls.predictions", config, hidden, "bert.embeddings.word_embeddings.weight")


def decoder(build: SchemaBuilder, scope: str, config: PretrainedConfig, hidden: Axis, embeddings: str) -> None:
    """Declare the decoder below `scope`, whose matrix is the word embeddings unless config or file say otherwise.

    transformers 5 reads the decoder's bias under `decoder.bias` and transformers 4 under `bias`. While the matrix is
    tied both find `bias`; once it is not, both names are stored.
    """
    vocab_head(build, "decoder", config, hidden, embeddings)
    bias = f"{scope}.bias"
    tied: dict[str, Any] = {"tied_to": bias} if config.tie_word_embeddings else {"aliases": (bias,)}
    vocab = Axis("vocab", config.vocab_size)
    build.add("decoder.bias", (vocab,), Layout.BIAS, untie_flag="tie_word_embeddings", **tied)


FAMILIES = {
    "bert": Family(
        config_class=BertConfig,
        base_prefix="bert",
        classes={
            "": "BertModel",
            "MaskedLM": "BertForMaskedLM",
            "SequenceClassification": "BertForSequenceClassification",
            "TokenClassification": "BertForTokenClassification",
            "QuestionAnswering": "BertForQuestionAnswering",
        },
        schema=_schema,
    )
}
