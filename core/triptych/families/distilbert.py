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
from triptych.nn.encoder_heads import EncoderWithHead, SpanHead, of_each_choice, texts_in_a_row
from triptych.nn.parts import Model, Part
from triptych.nn.stack import finish, finish_span, result, run_each
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


class Embeddings(Part):
    """The normed sum of the embeddings of words and positions."""

    whole = True

    def setup(self) -> None:
        make, config, hidden = self.make, self.config, hidden_axis(self.config)
        positions = Axis("positions", config.max_position_embeddings)
        self.word_embeddings = make.embedding(self, vocab_axis(config), hidden, padding=config.pad_token_id)
        self.position_embeddings = make.embedding(self, positions, hidden)
        self.LayerNorm = make.layer_norm(self, hidden, _epsilon(config))
        self.dropout = make.dropout(self, config.dropout)
        self.position_ids = make.numbers(self, "position_ids", config.max_position_embeddings)

    def call(self, input_ids: Any = None, input_embeds: Any = None) -> Any:
        """Return [B, Q, H] for ids [B, Q] or `input_embeds` [B, Q, H]."""
        words = input_embeds
        if words is None:
            words = fn.word_vectors(self.ops, self.config, self.word_embeddings, input_ids)
        return self.dropout(self.LayerNorm(words + self.position_embeddings(at.positions(self.ops, words))))


def _epsilon(config: Any) -> float:
    """Return the epsilon of every norm, which configs do not name."""
    return float(getattr(config, "layer_norm_eps", DistilBertConfig.layer_norm_eps))


class MultiHeadSelfAttention(Part):
    """Attention, with the projection out."""

    def setup(self) -> None:
        make, hidden, heads = self.make, hidden_axis(self.config), heads_axis(self.config, self.index)
        self.q_lin = make.dense(self, hidden, heads)
        self.k_lin = make.dense(self, hidden, heads)
        self.v_lin = make.dense(self, hidden, heads)
        self.out_lin = make.dense(self, heads, hidden)
        self.dropout = make.dropout(self, self.config.attention_dropout)
        self.count_heads()

    def count_heads(self) -> None:
        """Say how many heads the config has left."""
        heads = heads_axis(self.config, self.index)
        self.n_heads, self.attention_head_size, self.dim = heads.units, heads.block, heads.length
        self.pruned_heads = set(self.config.pruned_heads.get(self.index, ()))

    def prune_heads(self, heads: Any) -> None:
        """Remove heads, given by their original numbers; the config is the caller's.

        Raises:
            ArgumentError: an unknown head or all of them; or a framework whose layers their model alone changes.
        """
        self.n_heads = self.make.prune_attention(self, (self.q_lin, self.k_lin, self.v_lin), self.out_lin, heads)
        self.dim = self.n_heads * self.attention_head_size

    def call(
        self, query: Any, key: Any, value: Any, mask: Any = None, head_mask: Any = None,
        output_attentions: bool = False,
    ) -> tuple[Any, ...]:  # fmt: skip
        """Return [B, Q, H] and, if asked for, the probabilities [B, N, Q, K].

        `mask` is 1 for the keys that count and 0 for others, [B, K] or [B, Q, K]; of four axes, it is added to scores.
        """
        ops, size = self.ops, self.attention_head_size
        pairs = ((self.q_lin, query), (self.k_lin, key), (self.v_lin, value))
        query, key, value = (at.heads_of(ops, project(x), size) for project, x in pairs)
        bias = mask if mask is None or len(mask.shape) == 4 else at.padding_bias(ops, mask, query.dtype)
        heads = at.mask_of_kept(ops, head_mask, self.config, self.index)
        config = None if output_attentions else self.config
        context, probabilities = at.attend(ops, query, key, value, bias, size**-0.5, self.dropout, heads, config)
        return (self.out_lin(context), probabilities) if output_attentions else (self.out_lin(context),)


class FFN(Part):
    """Two projections, with an activation between them."""

    def setup(self) -> None:
        hidden, ffn = hidden_axis(self.config), Axis("ffn", self.config.hidden_dim)
        self.lin1 = self.make.dense(self, hidden, ffn)
        self.lin2 = self.make.dense(self, ffn, hidden)
        self.dropout = self.make.dropout(self, self.config.dropout)

    def call(self, input: Any) -> Any:
        return self.dropout(self.lin2(fn.activation(self.ops, self.config.activation, self.lin1(input))))


class TransformerBlock(Part):
    """One layer."""

    whole = True

    def setup(self) -> None:
        make, hidden, epsilon = self.make, hidden_axis(self.config), _epsilon(self.config)
        self.attention = make.block(self, MultiHeadSelfAttention, index=self.index)
        self.sa_layer_norm = make.layer_norm(self, hidden, epsilon)
        self.ffn = make.block(self, FFN)
        self.output_layer_norm = make.layer_norm(self, hidden, epsilon)

    def call(
        self, x: Any, attn_mask: Any = None, head_mask: Any = None, output_attentions: bool = False
    ) -> tuple[Any, ...]:  # fmt: skip
        """Return, if asked for, the probabilities, and hidden states [B, Q, H]: in this order. Masks are those of
        `MultiHeadSelfAttention`."""
        attended, *asked = self.attention(x, x, x, attn_mask, head_mask, output_attentions=output_attentions)
        attended = self.sa_layer_norm(attended + x)
        return (*asked, self.output_layer_norm(self.ffn(attended) + attended))


class Transformer(Part):
    """The layers in a row."""

    gradient_checkpointing = False

    def setup(self) -> None:
        self.layer = self.make.stacked(self, TransformerBlock, self.config.n_layers)

    def call(
        self, x: Any, attn_mask: Any = None, head_mask: Any = None, output_attentions: bool = False,
        output_hidden_states: bool = False, return_dict: bool | None = None,
    ) -> Any:  # fmt: skip
        """Return `BaseModelOutput`, or a tuple unless `return_dict`, for embeddings [B, Q, H].

        `head_mask` has an entry for each layer, None or broadcastable to [B, N, Q, K].
        """
        layers = list(self.layer)
        masks = [None] * len(layers) if head_mask is None else head_mask
        arguments = [(attn_mask, masks[number]) for number in range(len(layers))]
        shared = {"hidden_last": True, "output_attentions": output_attentions}
        states, more = run_each(layers, x, arguments, stack=self, keep=output_hidden_states, **shared)
        attentions = [found[0] for found in more] if output_attentions else []
        flags = (output_attentions, output_hidden_states, bool(return_dict))
        return result(outputs.BaseModelOutput, flags, (states, attentions), last_hidden_state=states[-1])


class DistilBertModel(Model):
    """The encoder."""

    other_tasks = ("TextEncoding",)

    def setup(self) -> None:
        self.embeddings = self.make.block(self, Embeddings)
        self.transformer = self.make.block(self, Transformer)

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
        attentions, states, by_name = fn.output_flags(config, output_attentions, output_hidden_states, return_dict)
        hidden = self.embeddings(input_ids, inputs_embeds)
        bias = at.padding_bias(ops, attention_mask, hidden.dtype, hidden)
        masks = at.whole_head_masks(ops, head_mask, config, hidden.dtype, config.n_layers)
        return self.transformer(
            hidden, bias, masks, output_attentions=attentions, output_hidden_states=states, return_dict=by_name
        )


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
    other_tasks = ("PreTraining",)

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


class DistilBertForMultipleChoice(DistilBertForSequenceClassification):
    """DistilBERT that chooses one of several texts, from the first token of each."""

    task = "MultipleChoice"

    def build_head(self, config: Any) -> None:
        hidden = hidden_axis(config)
        self.pre_classifier = self.make.dense(self, hidden, hidden)
        self.classifier = self.make.dense(self, hidden, Axis("labels", 1))

    def call(
        self, input_ids: Any = None, attention_mask: Any = None, head_mask: Any = None, inputs_embeds: Any = None,
        labels: Any = None, output_attentions: bool | None = None, output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:  # fmt: skip
        """Return logits [B, N] for N texts each, ids and mask [B, N, Q], and with `labels` [B] the loss."""
        ops = self.ops
        ids, mask = (texts_in_a_row(ops, x, 1) for x in (input_ids, attention_mask))
        backbone = self.distilbert(
            ids, mask, head_mask, texts_in_a_row(ops, inputs_embeds, 2),
            output_attentions=output_attentions, output_hidden_states=output_hidden_states, return_dict=True,
        )  # fmt: skip
        logits = of_each_choice(ops, self.score(backbone), input_ids if inputs_embeds is None else inputs_embeds)
        return finish(self, backbone, logits, labels, return_dict)


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
        DistilBertForMultipleChoice,
        DistilBertForTokenClassification,
        DistilBertForQuestionAnswering,
        ignorable=IGNORABLE,
    )
}
