"""DistilBERT (Sanh et al., 2019, https://arxiv.org/abs/1910.01108): BERT without token types and pooler."""

from __future__ import annotations

from typing import Any

from triptych.checks import part_count, positive_int, positive_number, probability
from triptych.config import PretrainedConfig
from triptych.families import declared
from triptych.families.bert import IGNORABLE
from triptych.families.common import require_activation, require_built_in, require_divisor
from triptych.nn import attention as at
from triptych.nn import functional as fn
from triptych.nn import outputs
from triptych.nn.axes import heads_axis, hidden_axis, labels_axis, vocab_axis
from triptych.nn.encoder_heads import EncoderWithHead, SpanHead
from triptych.nn.parts import Model, Part
from triptych.nn.stack import States, finish, finish_span, result, run_layers
from triptych.weights.schema import Axis


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


class DistilBertEmbeddings(Part):
    def setup(self) -> None:
        make, config, hidden = self.make, self.config, hidden_axis(self.config)
        positions = Axis("positions", config.max_position_embeddings)
        self.word_embeddings = make.embedding(self, vocab_axis(config), hidden, padding=config.pad_token_id)
        self.position_embeddings = make.embedding(self, positions, hidden)
        self.LayerNorm = make.layer_norm(self, hidden, config.layer_norm_eps)
        self.dropout = make.dropout(self, config.dropout)

    def call(self, input_ids: Any, inputs_embeds: Any) -> Any:
        words = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        return self.dropout(self.LayerNorm(words + self.position_embeddings(at.positions(self.ops, words))))


class DistilBertAttention(Part):
    def setup(self) -> None:
        make, hidden, heads = self.make, hidden_axis(self.config), heads_axis(self.config, self.index)
        self.q_lin = make.dense(self, hidden, heads)
        self.k_lin = make.dense(self, hidden, heads)
        self.v_lin = make.dense(self, hidden, heads)
        self.out_lin = make.dense(self, heads, hidden)
        self.dropout = make.dropout(self, self.config.attention_dropout)

    def call(self, hidden: Any, bias: Any, head_mask: Any) -> tuple[Any, Any]:
        projections, heads = (self.q_lin, self.k_lin, self.v_lin), heads_axis(self.config, self.index)
        query, key, value = (at.split_heads(self.ops, project(hidden), heads.units) for project in projections)
        scale = heads.block**-0.5
        context, probabilities = at.attend(
            self.ops, query, key, value, bias, scale, self.dropout, head_mask, self.config
        )
        return self.out_lin(context), probabilities


class DistilBertFFN(Part):
    def setup(self) -> None:
        hidden, ffn = hidden_axis(self.config), Axis("ffn", self.config.hidden_dim)
        self.lin1 = self.make.dense(self, hidden, ffn)
        self.lin2 = self.make.dense(self, ffn, hidden)
        self.dropout = self.make.dropout(self, self.config.dropout)

    def call(self, hidden: Any) -> Any:
        return self.dropout(self.lin2(fn.activation(self.ops, self.config.activation, self.lin1(hidden))))


class DistilBertLayer(Part):
    def setup(self) -> None:
        make, hidden, epsilon = self.make, hidden_axis(self.config), self.config.layer_norm_eps
        self.attention = make.block(self, DistilBertAttention, index=self.index)
        self.sa_layer_norm = make.layer_norm(self, hidden, epsilon)
        self.ffn = make.block(self, DistilBertFFN)
        self.output_layer_norm = make.layer_norm(self, hidden, epsilon)

    def call(self, hidden: Any, bias: Any, head_mask: Any) -> tuple[Any, Any]:
        attended, probabilities = self.attention(hidden, bias, head_mask)
        attended = self.sa_layer_norm(attended + hidden)
        return self.output_layer_norm(self.ffn(attended) + attended), probabilities


class DistilBertTransformer(Part):
    gradient_checkpointing = False

    def setup(self) -> None:
        self.layer = self.make.stacked(self, DistilBertLayer, self.config.n_layers)

    def call(self, hidden: Any, bias: Any, head_masks: list[Any]) -> States:
        return run_layers(self.layer, hidden, [(bias, mask) for mask in head_masks], stack=self)


class DistilBertModel(Model):
    """The encoder."""

    def setup(self) -> None:
        self.embeddings = self.make.block(self, DistilBertEmbeddings)
        self.transformer = self.make.block(self, DistilBertTransformer)

    def call(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        head_mask: Any = None,
        inputs_embeds: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Return `BaseModelOutput`. Ids are integers [B, Q], `inputs_embeds` [B, Q, H]."""
        ops, config = self.ops, self.config
        fn.one_input(input_ids, inputs_embeds)
        flags = fn.output_flags(config, output_attentions, output_hidden_states, return_dict)
        hidden = self.embeddings(input_ids, inputs_embeds)
        bias = at.padding_bias(ops, attention_mask, hidden.dtype)
        states = self.transformer(hidden, bias, at.head_masks(ops, head_mask, config, hidden.dtype, shown=flags[0]))
        return result(outputs.BaseModelOutput, flags, states, last_hidden_state=states[0][-1])


class DistilBertWithHead(EncoderWithHead):
    """A backbone and a head: `task` names the head, `score` turns the backbone's output into logits."""

    base_model_prefix = "distilbert"
    dropout_field = "dropout"

    def build_backbone(self) -> None:
        self.distilbert = self.make.block(self, DistilBertModel)

    def dropout_rate(self) -> float:
        return float(getattr(self.config, self.dropout_field))

    def call(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        head_mask: Any = None,
        inputs_embeds: Any = None,
        labels: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Return logits, and with `labels` the loss; see `triptych.nn.heads.task_output`."""
        backbone = self.distilbert(
            input_ids, attention_mask, head_mask, inputs_embeds, output_attentions, output_hidden_states,
            return_dict=True,
        )  # fmt: skip
        return finish(self, backbone, self.score(backbone), labels, return_dict)


class DistilBertForMaskedLM(DistilBertWithHead):
    """DistilBERT that predicts masked tokens; its matrix is tied unless the config says not."""

    task = "MaskedLM"

    def build_head(self, config: Any) -> None:
        make, hidden = self.make, hidden_axis(config)
        self.vocab_transform = make.dense(self, hidden, hidden)
        self.vocab_layer_norm = make.layer_norm(self, hidden, config.layer_norm_eps)
        self.vocab_projector = make.vocab_projector(self, hidden, vocab_axis(config))

    def score(self, backbone: Any) -> Any:
        hidden = fn.activation(self.ops, self.config.activation, self.vocab_transform(backbone.last_hidden_state))
        return self.vocab_projector(self.vocab_layer_norm(hidden), embeddings=self.words())


class DistilBertForSequenceClassification(DistilBertWithHead):
    """DistilBERT that classifies or scores a text, from its first token."""

    task = "SequenceClassification"
    dropout_field = "seq_classif_dropout"

    def build_head(self, config: Any) -> None:
        hidden = hidden_axis(config)
        self.pre_classifier = self.make.dense(self, hidden, hidden)
        self.classifier = self.make.dense(self, hidden, labels_axis(config))

    def score(self, backbone: Any) -> Any:
        pooled = fn.activation(self.ops, "relu", self.pre_classifier(backbone.last_hidden_state[:, 0]))
        return self.classifier(self.dropout(pooled))


class DistilBertForTokenClassification(DistilBertWithHead):
    """DistilBERT that classifies every token."""

    task = "TokenClassification"


class DistilBertForQuestionAnswering(SpanHead, DistilBertWithHead):
    """DistilBERT that finds a span."""

    dropout_field = "qa_dropout"

    def score(self, backbone: Any) -> Any:
        return self.qa_outputs(self.dropout(backbone.last_hidden_state))

    def call(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        head_mask: Any = None,
        inputs_embeds: Any = None,
        start_positions: Any = None,
        end_positions: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Return start and end logits, and with both positions the loss."""
        backbone = self.distilbert(
            input_ids, attention_mask, head_mask, inputs_embeds, output_attentions, output_hidden_states,
            return_dict=True,
        )  # fmt: skip
        return finish_span(self, backbone, self.score(backbone), start_positions, end_positions, return_dict)


FAMILIES = {
    "distilbert": declared(
        DistilBertConfig,
        DistilBertModel,
        DistilBertForMaskedLM,
        DistilBertForSequenceClassification,
        DistilBertForTokenClassification,
        DistilBertForQuestionAnswering,
        ignorable=IGNORABLE,
    )
}
