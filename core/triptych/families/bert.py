"""BERT (Devlin et al., 2018, https://arxiv.org/abs/1810.04805)."""

from __future__ import annotations

from typing import Any

from triptych.checks import part_count, positive_int, positive_number, probability
from triptych.config import PretrainedConfig
from triptych.families import declared
from triptych.families.common import optional_probability, require_activation, require_built_in, require_divisor
from triptych.nn import attention as at
from triptych.nn import functional as fn
from triptych.nn import outputs
from triptych.nn.axes import embedding_axis, heads_axis, hidden_axis, vocab_axis
from triptych.nn.encoder_heads import EncoderWithHead, SpanHead, decode
from triptych.nn.parts import Model, Part
from triptych.nn.stack import States, result, run_layers
from triptych.weights.schema import Axis


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


class BertEmbeddings(Part):
    """The normed sum of the embeddings of words, token types and positions."""

    def setup(self) -> None:
        make, config, width = self.make, self.config, embedding_axis(self.config)
        positions = Axis("positions", config.max_position_embeddings)
        self.word_embeddings = make.embedding(self, vocab_axis(config), width, padding=config.pad_token_id)
        self.position_embeddings = make.embedding(self, positions, width)
        self.token_type_embeddings = make.embedding(self, Axis("token_types", config.type_vocab_size), width)
        self.LayerNorm = make.layer_norm(self, width, config.layer_norm_eps)
        self.dropout = make.dropout(self, config.hidden_dropout_prob)

    def call(self, input_ids: Any, token_type_ids: Any, position_ids: Any, inputs_embeds: Any) -> Any:
        words = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        places = self.positions(input_ids, words) if position_ids is None else position_ids
        types = self.ops.zeros_like(places) if token_type_ids is None else token_type_ids
        summed = words + self.token_type_embeddings(types) + self.position_embeddings(places)
        return self.dropout(self.LayerNorm(summed))

    def positions(self, input_ids: Any, words: Any) -> Any:
        """Return 0, 1, 2, ..."""
        return at.positions(self.ops, words)


class BertSelfAttention(Part):
    def setup(self) -> None:
        make, hidden, heads = self.make, hidden_axis(self.config), heads_axis(self.config, self.index)
        self.query = make.dense(self, hidden, heads)
        self.key = make.dense(self, hidden, heads)
        self.value = make.dense(self, hidden, heads)
        self.dropout = make.dropout(self, self.config.attention_probs_dropout_prob)

    def call(self, hidden: Any, bias: Any, head_mask: Any) -> tuple[Any, Any]:
        heads = heads_axis(self.config, self.index)
        query, key, value = (
            at.split_heads(self.ops, project(hidden), heads.units) for project in (self.query, self.key, self.value)
        )
        return at.attend(self.ops, query, key, value, bias, heads.block**-0.5, self.dropout, head_mask, self.config)


class BertResidual(Part):
    """A projection from `width`, normed together with what was before."""

    width: Any = 0

    def setup(self) -> None:
        make, hidden = self.make, hidden_axis(self.config)
        self.dense = make.dense(self, self.width, hidden)
        self.LayerNorm = make.layer_norm(self, hidden, self.config.layer_norm_eps)
        self.dropout = make.dropout(self, self.config.hidden_dropout_prob)

    def call(self, hidden: Any, before: Any) -> Any:
        return self.LayerNorm(self.dropout(self.dense(hidden)) + before)


class BertAttention(Part):
    def setup(self) -> None:
        heads = heads_axis(self.config, self.index)
        self.self = self.make.block(self, BertSelfAttention, index=self.index)
        self.output = self.make.block(self, BertResidual, width=heads)

    def call(self, hidden: Any, bias: Any, head_mask: Any) -> tuple[Any, Any]:
        context, probabilities = self.self(hidden, bias, head_mask)
        return self.output(context, hidden), probabilities


class BertActivated(Part):
    """A projection to `width`, and an activation."""

    width: Any = 0
    activation: str = ""

    def setup(self) -> None:
        self.dense = self.make.dense(self, hidden_axis(self.config), self.width)

    def call(self, hidden: Any) -> Any:
        return fn.activation(self.ops, self.activation, self.dense(hidden))


class BertLayer(Part):
    def setup(self) -> None:
        make, ffn = self.make, Axis("ffn", self.config.intermediate_size)
        self.attention = make.block(self, BertAttention, index=self.index)
        self.intermediate = make.block(self, BertActivated, width=ffn, activation=self.config.hidden_act)
        self.output = make.block(self, BertResidual, width=ffn)

    def call(self, hidden: Any, bias: Any, head_mask: Any) -> tuple[Any, Any]:
        attended, probabilities = self.attention(hidden, bias, head_mask)
        return self.output(self.intermediate(attended), attended), probabilities


class BertEncoder(Part):
    gradient_checkpointing = False

    def setup(self) -> None:
        self.layer = self.make.stacked(self, BertLayer, self.config.num_hidden_layers)

    def call(self, hidden: Any, bias: Any, head_masks: list[Any]) -> States:
        return run_layers(self.layer, hidden, [(bias, mask) for mask in head_masks], stack=self)


class BertModel(Model):
    """The encoder, with a pooler unless `add_pooling_layer=False`."""

    schema_options = ("add_pooling_layer",)
    heads = ("pooler",)
    embeddings_part = BertEmbeddings
    add_pooling_layer: bool = True

    def setup(self) -> None:
        make, hidden = self.make, hidden_axis(self.config)
        self.embeddings = make.block(self, self.embeddings_part)
        self.embeddings_project = None
        self.encoder = make.block(self, BertEncoder)
        pooler = {"width": hidden, "activation": "tanh"}
        self.pooler = make.block(self, BertActivated, **pooler) if self.add_pooling_layer else None

    def call(
        self, input_ids: Any = None, attention_mask: Any = None, token_type_ids: Any = None, position_ids: Any = None,
        head_mask: Any = None, inputs_embeds: Any = None, output_attentions: bool | None = None,
        output_hidden_states: bool | None = None, return_dict: bool | None = None,
    ) -> Any:  # fmt: skip
        """Return `BaseModelOutputWithPooling`. Ids are integers [B, Q], `inputs_embeds` [B, Q, H]."""
        ops, config = self.ops, self.config
        fn.one_input(input_ids, inputs_embeds)
        flags = fn.output_flags(config, output_attentions, output_hidden_states, return_dict)
        hidden = self.embeddings(input_ids, token_type_ids, position_ids, inputs_embeds)
        hidden = hidden if self.embeddings_project is None else self.embeddings_project(hidden)
        bias = at.padding_bias(ops, attention_mask, hidden.dtype)
        states = self.encoder(hidden, bias, at.head_masks(ops, head_mask, config, hidden.dtype, shown=flags[0]))
        last = states[0][-1]
        pooled = None if self.pooler is None else self.pooler(last[:, 0])
        return result(outputs.BaseModelOutputWithPooling, flags, states, last_hidden_state=last, pooler_output=pooled)


class BertWithHead(EncoderWithHead):
    """A backbone and a head: `task` names the head, `score` turns the backbone's output into logits."""

    base_model_prefix = "bert"

    def build_backbone(self) -> None:
        self.bert = self.make.block(self, BertModel, add_pooling_layer=self.task == "SequenceClassification")


class BertPredictionTransform(Part):
    def setup(self) -> None:
        hidden = hidden_axis(self.config)
        self.dense = self.make.dense(self, hidden, hidden)
        self.LayerNorm = self.make.layer_norm(self, hidden, self.config.layer_norm_eps)

    def call(self, hidden: Any) -> Any:
        return self.LayerNorm(fn.activation(self.ops, self.config.hidden_act, self.dense(hidden)))


class BertPredictions(Part):
    def setup(self) -> None:
        vocab = vocab_axis(self.config)
        self.bias = self.make.vector(self, "bias", vocab)
        self.transform = self.make.block(self, BertPredictionTransform)
        self.decoder = self.make.vocab_head(self, hidden_axis(self.config), vocab, bias="bias")

    def call(self, hidden: Any, table: Any) -> Any:
        return decode(self, self.transform(hidden), table)


class BertOnlyMLMHead(Part):
    def setup(self) -> None:
        self.predictions = self.make.block(self, BertPredictions)

    def call(self, hidden: Any, table: Any) -> Any:
        return self.predictions(hidden, table=table)


class BertForMaskedLM(BertWithHead):
    """BERT that predicts masked tokens; the decoder is tied to the word embeddings unless the config says not."""

    task = "MaskedLM"

    def build_head(self, config: Any) -> None:
        self.cls = self.make.block(self, BertOnlyMLMHead)

    def score(self, backbone: Any) -> Any:
        return self.cls(backbone.last_hidden_state, table=self.words())


class BertForSequenceClassification(BertWithHead):
    """BERT that classifies or scores a text, from the pooled first token."""

    task = "SequenceClassification"

    def score(self, backbone: Any) -> Any:
        return self.classifier(self.dropout(backbone.pooler_output))


class BertForTokenClassification(BertWithHead):
    """BERT that classifies every token."""

    task = "TokenClassification"


class BertForQuestionAnswering(SpanHead, BertWithHead):
    """BERT that finds a span."""


IGNORABLE = ("embeddings.position_ids", "embeddings.token_type_ids")
"""Buffers that transformers once saved."""

FAMILIES = {
    "bert": declared(
        BertConfig,
        BertModel,
        BertForMaskedLM,
        BertForSequenceClassification,
        BertForTokenClassification,
        BertForQuestionAnswering,
        ignorable=IGNORABLE,
    )
}
