"""BERT (Devlin et al., 2018, https://arxiv.org/abs/1810.04805): config and schema."""

from __future__ import annotations

from typing import Any

from triptych.config import PretrainedConfig, positive_int, positive_number, probability
from triptych.errors import ConfigError
from triptych.families import Family
from triptych.functional import ACTIVATIONS
from triptych.schema import Axis, Layout, Schema, SchemaBuilder


class BertConfig(PretrainedConfig):
    """Configuration of BERT; the defaults are those of bert-base-uncased.

    Raises:
        ConfigError: a field has an impossible value, or the heads do not divide the hidden size.
    """

    model_type = "bert"
    checks = {
        "vocab_size": positive_int,
        "hidden_size": positive_int,
        "num_hidden_layers": positive_int,
        "num_attention_heads": positive_int,
        "intermediate_size": positive_int,
        "max_position_embeddings": positive_int,
        "type_vocab_size": positive_int,
        "hidden_dropout_prob": probability,
        "attention_probs_dropout_prob": probability,
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
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size
        self.hidden_act = hidden_act
        self.hidden_dropout_prob = hidden_dropout_prob
        self.attention_probs_dropout_prob = attention_probs_dropout_prob
        self.max_position_embeddings = max_position_embeddings
        self.type_vocab_size = type_vocab_size
        self.initializer_range = initializer_range
        self.layer_norm_eps = layer_norm_eps
        self.pad_token_id = pad_token_id
        self.position_embedding_type = position_embedding_type
        self.use_cache = use_cache
        self.classifier_dropout = classifier_dropout
        super().__init__(**kwargs)

    def validate(self) -> None:
        super().validate()
        if self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                "`num_attention_heads` does not divide `hidden_size`.",
                expected=f"a divisor of {self.hidden_size}",
                received=str(self.num_attention_heads),
            )
        if self.position_embedding_type != "absolute":
            raise ConfigError(
                "`position_embedding_type` is not supported.",
                expected="'absolute'",
                received=repr(self.position_embedding_type),
                remedy="relative position embeddings of BERT are not built in; register a class of your own",
            )
        if self.hidden_act not in ACTIVATIONS:
            raise ConfigError(
                "`hidden_act` is unknown.", expected=f"one of {list(ACTIVATIONS)}", received=repr(self.hidden_act)
            )

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def head_dropout(self) -> float:
        """Dropout before a classification head."""
        return self.hidden_dropout_prob if self.classifier_dropout is None else self.classifier_dropout


_WITH_POOLER = ("BertModel", "BertForSequenceClassification")


def _schema(config: PretrainedConfig, stem: str, add_pooling_layer: bool = True) -> Schema:
    is_base = stem == "BertModel"
    hidden = Axis("hidden", config.hidden_size)
    root = SchemaBuilder()
    base = root if is_base else root.under("bert")
    _embeddings(base.under("embeddings"), config, hidden)
    for layer in range(config.num_hidden_layers):
        _layer(base.under(f"encoder.layer.{layer}"), config, layer, hidden)
    if stem in _WITH_POOLER and add_pooling_layer:
        base.under("pooler", backbone=False).linear("dense", hidden, hidden)
    head = root.under("", backbone=False)
    if stem == "BertForMaskedLM":
        _masked_lm_head(head.under("cls.predictions"), config, hidden)
    elif stem == "BertForQuestionAnswering":
        head.linear("qa_outputs", Axis("labels", config.num_labels), hidden)
    elif not is_base:
        head.linear("classifier", Axis("labels", config.num_labels), hidden)
    return root.build("bert", is_base, ignorable=("embeddings.position_ids",))


def _embeddings(build: SchemaBuilder, config: PretrainedConfig, hidden: Axis) -> None:
    build.embedding("word_embeddings", Axis("vocab", config.vocab_size), hidden)
    build.embedding("position_embeddings", Axis("positions", config.max_position_embeddings), hidden)
    build.embedding("token_type_embeddings", Axis("token_types", config.type_vocab_size), hidden)
    build.layer_norm("LayerNorm", hidden)


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


def heads_axis(config: PretrainedConfig, layer: int) -> Axis:
    """Return the axis of the heads that layer `layer` still has."""
    gone = set(config.pruned_heads.get(layer, ()))
    kept = tuple(head for head in range(config.num_attention_heads) if head not in gone)
    if not kept or any(head >= config.num_attention_heads or head < 0 for head in gone):
        raise ConfigError(
            f"`pruned_heads` of layer {layer} is impossible.",
            expected=f"some of the heads 0 to {config.num_attention_heads - 1}, leaving at least one",
            received=str(sorted(gone)),
        )
    return Axis("heads", len(kept), block=config.head_dim, ids=kept, layer=layer)


def _masked_lm_head(build: SchemaBuilder, config: PretrainedConfig, hidden: Axis) -> None:
    """The decoder's matrix is the word embeddings, unless the config or the file says otherwise.

    transformers 5 reads the decoder's bias under `decoder.bias` and transformers 4 under `bias`. While the matrix is
    tied both find `bias`; once it is not, both names are stored.
    """
    vocab = Axis("vocab", config.vocab_size)
    build.add("bias", (vocab,), Layout.BIAS, aliases=("cls.predictions.decoder.bias",))
    build.linear("transform.dense", hidden, hidden)
    build.layer_norm("transform.LayerNorm", hidden)
    tied = bool(config.tie_word_embeddings)
    build.add(
        "decoder.weight",
        (vocab, hidden),
        Layout.LINEAR,
        tied_to="bert.embeddings.word_embeddings.weight" if tied else None,
        untie_flag="tie_word_embeddings",
    )
    tied_bias = {"tied_to": "cls.predictions.bias"} if tied else {"aliases": ("cls.predictions.bias",)}
    build.add("decoder.bias", (vocab,), Layout.BIAS, untie_flag="tie_word_embeddings", **tied_bias)


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
