"""BERT (Devlin et al., 2018, https://arxiv.org/abs/1810.04805)."""

from __future__ import annotations

from typing import Any

from triptych.checks import part_count, positive_int, positive_number, probability
from triptych.config import PretrainedConfig
from triptych.errors import ArgumentError, ConfigError
from triptych.families import declared
from triptych.families.common import (
    optional_boolean,
    optional_probability,
    require_activation,
    require_built_in,
    require_divisor,
)
from triptych.nn import attention as at
from triptych.nn import cache as caches
from triptych.nn import functional as fn
from triptych.nn import outputs
from triptych.nn.axes import embedding_axis, heads_axis, hidden_axis, vocab_axis
from triptych.nn.encoder_heads import (
    ChoiceHead,
    EncoderWithHead,
    MaskedHead,
    NextTokenHead,
    PooledHead,
    SpanHead,
    decode,
)
from triptych.nn.heads import task_output
from triptych.nn.parts import Model, Part
from triptych.nn.stack import run_each
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
        "is_decoder": optional_boolean,
        "add_cross_attention": optional_boolean,
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
        require_built_in(self, "position_embedding_type")

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def learned_positions(self) -> int:
        """Number of positions that there is a vector for, and no further ones."""
        return int(self.max_position_embeddings)

    @property
    def cached_heads(self) -> tuple[int, ...] | None:
        """Number of key and value heads of each layer of a decoder."""
        if not self.is_decoder:
            return None
        return tuple(heads_axis(self, layer).units for layer in range(self.num_hidden_layers))

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

    whole = True

    def setup(self) -> None:
        make, config, width = self.make, self.config, embedding_axis(self.config)
        positions = Axis("positions", config.max_position_embeddings)
        self.word_embeddings = make.embedding(self, vocab_axis(config), width, padding=config.pad_token_id)
        self.position_embeddings = make.embedding(self, positions, width, padding=self.padded_position())
        self.token_type_embeddings = make.embedding(self, Axis("token_types", config.type_vocab_size), width)
        self.LayerNorm = make.layer_norm(self, width, config.layer_norm_eps)
        self.dropout = make.dropout(self, config.hidden_dropout_prob)
        self.position_ids = make.numbers(self, "position_ids", config.max_position_embeddings)

    def call(
        self, input_ids: Any = None, token_type_ids: Any = None, position_ids: Any = None, inputs_embeds: Any = None,
        past_key_values_length: Any = 0,
    ) -> Any:  # fmt: skip
        """Return [B, Q, H] for ids [B, Q] or `inputs_embeds` [B, Q, H], after `past_key_values_length` tokens."""
        words = inputs_embeds
        if words is None:
            words = fn.word_vectors(self.ops, self.config, self.word_embeddings, input_ids)
        places = self.positions(input_ids, words, past_key_values_length) if position_ids is None else position_ids
        types = self.ops.zeros_like(places) if token_type_ids is None else token_type_ids
        summed = words + self.token_type_embeddings(types) + self.vectors_of_positions(places)
        return self.dropout(self.LayerNorm(summed))

    def vectors_of_positions(self, places: Any) -> Any:
        """Return the vectors of positions."""
        rows = self.config.max_position_embeddings
        return fn.embedded(self.ops, self.position_embeddings, places, self.padded_position(), rows)

    def padded_position(self) -> int | None:
        """Return the position that padding has, if it has one of its own."""
        return None

    def positions(self, input_ids: Any, words: Any, past: Any) -> Any:
        """Return `past`, `past` + 1, ..."""
        return at.positions(self.ops, words) + past


class BertSelfAttention(Part):
    """Attention to a text, or to the states of an encoder, before the projection out.

    In a model, `index` is the number of the layer; those of attentions to an encoder follow on the last layer's.
    """

    def setup(self) -> None:
        make, hidden, heads = self.make, hidden_axis(self.config), heads_axis(self.config, self.index)
        self.query = make.dense(self, hidden, heads)
        self.key = make.dense(self, hidden, heads)
        self.value = make.dense(self, hidden, heads)
        self.dropout = make.dropout(self, self.config.attention_probs_dropout_prob)
        self.is_decoder = self.config.is_decoder
        self.count_heads()

    def count_heads(self) -> None:
        """Say how many heads the config has left."""
        heads = heads_axis(self.config, self.index)
        self.num_attention_heads, self.attention_head_size = heads.units, heads.block
        self.all_head_size = heads.length

    def transpose_for_scores(self, x: Any) -> Any:
        """[B, Q, N * D] -> [B, N, Q, D]."""
        return at.heads_of(self.ops, x, self.attention_head_size)

    def call(
        self, hidden_states: Any, attention_mask: Any = None, head_mask: Any = None, encoder_hidden_states: Any = None,
        encoder_attention_mask: Any = None, past_key_value: Any = None, output_attentions: bool = False,
    ) -> tuple[Any, ...]:  # fmt: skip
        """Return [B, Q, N * D]; the probabilities [B, N, Q, K], if asked for; and of a decoder the cache, or None.

        Masks are added to the scores, or multiplied with the probabilities of heads: see `attend`. `past_key_value`
        is a cache that `triptych.nn.cache.opened` returned.
        """
        ops, crossed = self.ops, encoder_hidden_states is not None
        source, bias = (encoder_hidden_states, encoder_attention_mask) if crossed else (hidden_states, attention_mask)
        query = self.transpose_for_scores(self.query(hidden_states))

        def keys_and_values() -> tuple[Any, Any]:
            return self.transpose_for_scores(self.key(source)), self.transpose_for_scores(self.value(source))

        if past_key_value is None:
            key, value = keys_and_values()
        elif crossed:
            key, value = past_key_value.memory(self.index % self.config.num_hidden_layers, keys_and_values)
        else:
            key, value = past_key_value.extend(self.index, *keys_and_values())
        mask = at.mask_of_kept(ops, head_mask, self.config, self.index)
        scale = self.attention_head_size**-0.5
        config = None if output_attentions else self.config
        context, probabilities = at.attend(ops, query, key, value, bias, scale, self.dropout, mask, config)
        asked = (probabilities,) if output_attentions else ()
        return (context, *asked, past_key_value) if self.is_decoder else (context, *asked)


class BertResidual(Part):
    """A projection from `inner`, normed together with what was before."""

    def inner(self) -> Any:
        """Return the axis of what is projected."""
        raise NotImplementedError

    def setup(self) -> None:
        make, hidden = self.make, hidden_axis(self.config)
        self.dense = make.dense(self, self.inner(), hidden)
        self.LayerNorm = make.layer_norm(self, hidden, self.config.layer_norm_eps)
        self.dropout = make.dropout(self, self.config.hidden_dropout_prob)

    def call(self, hidden_states: Any, input_tensor: Any) -> Any:
        return self.LayerNorm(self.dropout(self.dense(hidden_states)) + input_tensor)


class BertSelfOutput(BertResidual):
    """What follows an attention."""

    def inner(self) -> Any:
        return heads_axis(self.config, self.index)


class BertOutput(BertResidual):
    """What follows `BertIntermediate`."""

    def inner(self) -> Any:
        return Axis("ffn", self.config.intermediate_size)


class BertAttention(Part):
    """Attention with the projection out; see `BertSelfAttention`."""

    def setup(self) -> None:
        self.self = self.make.block(self, BertSelfAttention, index=self.index)
        self.output = self.make.block(self, BertSelfOutput, index=self.index)
        self.count_heads()

    def count_heads(self) -> None:
        """Say which heads the config has not left."""
        self.pruned_heads = set(self.config.pruned_heads.get(self.index, ()))

    def prune_heads(self, heads: Any) -> None:
        """Remove heads, given by their original numbers; the config is the caller's.

        Raises:
            ArgumentError: an unknown head or all of them; or a framework whose layers their model alone changes.
        """
        inner = self.self
        left = self.make.prune_attention(self, (inner.query, inner.key, inner.value), self.output.dense, heads)
        inner.num_attention_heads, inner.all_head_size = left, left * inner.attention_head_size

    def call(
        self, hidden_states: Any, attention_mask: Any = None, head_mask: Any = None, encoder_hidden_states: Any = None,
        encoder_attention_mask: Any = None, past_key_value: Any = None, output_attentions: bool = False,
    ) -> tuple[Any, ...]:  # fmt: skip
        """Return hidden states [B, Q, H], and what else `BertSelfAttention` returns."""
        context, *more = self.self(
            hidden_states, attention_mask, head_mask, encoder_hidden_states, encoder_attention_mask,
            past_key_value=past_key_value, output_attentions=output_attentions,
        )  # fmt: skip
        return (self.output(context, hidden_states), *more)


class BertIntermediate(Part):
    """A projection to the width between, and an activation."""

    def setup(self) -> None:
        self.dense = self.make.dense(self, hidden_axis(self.config), Axis("ffn", self.config.intermediate_size))

    def call(self, hidden_states: Any) -> Any:
        return fn.activation(self.ops, self.config.hidden_act, self.dense(hidden_states))


class BertLayer(Part):
    """Attention to the text, in a decoder to an encoder's states too, and two projections.

    Raises:
        ConfigError: `add_cross_attention` without `is_decoder`.
    """

    whole = True
    heads = ("crossattention",)

    def setup(self) -> None:
        make, config = self.make, self.config
        self.is_decoder, self.add_cross_attention = config.is_decoder, config.add_cross_attention
        self.chunk_size_feed_forward, self.seq_len_dim = config.chunk_size_feed_forward, 1
        self.attention = make.block(self, BertAttention, index=self.index)
        if config.add_cross_attention:
            if not config.is_decoder:
                remedy = "set config.is_decoder to True"
                raise ConfigError("`add_cross_attention` is for decoders.", received="is_decoder False", remedy=remedy)
            # Its number is none of those that prune_heads knows, as transformers prunes the other attention alone.
            self.crossattention = make.block(self, BertAttention, index=config.num_hidden_layers + self.index)
        self.intermediate = make.block(self, BertIntermediate)
        self.output = make.block(self, BertOutput)

    def call(
        self, hidden_states: Any, attention_mask: Any = None, head_mask: Any = None, encoder_hidden_states: Any = None,
        encoder_attention_mask: Any = None, past_key_value: Any = None, output_attentions: bool = False,
    ) -> tuple[Any, ...]:  # fmt: skip
        """Return hidden states [B, Q, H]; if asked for the probabilities of each attention; of a decoder the cache.

        Raises:
            ArgumentError: a decoder is given states of an encoder, and has no attention to them.
        """
        options = {"past_key_value": past_key_value, "output_attentions": output_attentions}
        hidden, *more = self.attention(hidden_states, attention_mask, head_mask, **options)
        asked = more[:1] if output_attentions else []
        if self.is_decoder and encoder_hidden_states is not None:
            if not self.add_cross_attention:
                raise ArgumentError(
                    "This decoder does not attend to an encoder.",
                    expected="a model whose config has add_cross_attention=True",
                    received="encoder_hidden_states",
                )
            memory = (encoder_hidden_states, encoder_attention_mask)
            hidden, *more = self.crossattention(hidden, attention_mask, head_mask, *memory, **options)
            asked += more[:1] if output_attentions else []
        hidden = self.feed_forward_chunk(hidden)
        return (hidden, *asked, past_key_value) if self.is_decoder else (hidden, *asked)

    def feed_forward_chunk(self, attention_output: Any) -> Any:
        """Return what follows the attention."""
        return self.output(self.intermediate(attention_output), attention_output)


class BertEncoder(Part):
    """The layers in a row."""

    gradient_checkpointing = False

    def setup(self) -> None:
        self.layer = self.make.stacked(self, BertLayer, self.config.num_hidden_layers)

    def call(
        self, hidden_states: Any, attention_mask: Any = None, head_mask: Any = None, encoder_hidden_states: Any = None,
        encoder_attention_mask: Any = None, past_key_values: Any = None, use_cache: bool | None = None,
        output_attentions: bool = False, output_hidden_states: bool = False, return_dict: bool = True,
    ) -> Any:  # fmt: skip
        """Return `BaseModelOutputWithPastAndCrossAttentions` for embeddings [B, Q, H].

        Masks are added to the scores: 0 where attended, the dtype's lowest value where not, broadcastable to
        [B, N, Q, K]. `head_mask` has an entry for each layer, None or broadcastable to [B, N, Q, K].
        """
        cache, layers = caches.opened(self.ops, past_key_values, use_cache), list(self.layer)
        masks = [None] * len(layers) if head_mask is None else head_mask
        each = [(attention_mask, masks[n], encoder_hidden_states, encoder_attention_mask) for n in range(len(layers))]
        shared = {"past_key_value": cache, "output_attentions": output_attentions}
        states, more = run_each(layers, hidden_states, each, stack=self, keep=output_hidden_states, **shared)
        crossed = output_attentions and self.config.add_cross_attention and encoder_hidden_states is not None
        made = outputs.BaseModelOutputWithPastAndCrossAttentions(
            last_hidden_state=states[-1],
            past_key_values=None if cache is None else cache.after(self.ops.shape(hidden_states)[1]),
            hidden_states=tuple(states) if output_hidden_states else None,
            attentions=tuple(found[0] for found in more) if output_attentions else None,
            cross_attentions=tuple(found[1] for found in more) if crossed else None,
        )
        return made if return_dict else made.to_tuple()


class BertPooler(Part):
    """A projection of the first token."""

    def setup(self) -> None:
        hidden = hidden_axis(self.config)
        self.dense = self.make.dense(self, hidden, hidden)

    def call(self, hidden_states: Any) -> Any:
        """Return [B, H] from [B, Q, H]."""
        return self.ops.tanh(self.dense(hidden_states[:, 0]))


class BertModel(Model):
    """The encoder, with a pooler unless `add_pooling_layer=False`; a decoder if the config says `is_decoder`."""

    other_tasks = ("TextEncoding",)
    schema_options = ("add_pooling_layer",)
    heads = ("pooler",)
    embeddings_part = BertEmbeddings
    add_pooling_layer: bool = True

    def setup(self) -> None:
        make = self.make
        self.embeddings = make.block(self, self.embeddings_part)
        self.embeddings_project = None
        self.encoder = make.block(self, BertEncoder)
        self.pooler = make.block(self, BertPooler) if self.add_pooling_layer else None

    def call(
        self, input_ids: Any = None, attention_mask: Any = None, token_type_ids: Any = None, position_ids: Any = None,
        head_mask: Any = None, inputs_embeds: Any = None, encoder_hidden_states: Any = None,
        encoder_attention_mask: Any = None, past_key_values: Any = None, use_cache: bool | None = None,
        output_attentions: bool | None = None, output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:  # fmt: skip
        """Return `BaseModelOutputWithPoolingAndCrossAttentions`. Ids are integers [B, Q], `inputs_embeds` [B, Q, H].

        A decoder whose config says `add_cross_attention` attends to `encoder_hidden_states` [B, K, H] as
        `encoder_attention_mask` [B, K] says; models that are none heed neither. A decoder has a cache if
        `past_key_values` is given, or `use_cache`, by default the config's, where caches grow.
        """
        ops, config = self.ops, self.config
        fn.one_input(input_ids, inputs_embeds)
        flags = fn.output_flags(config, output_attentions, output_hidden_states, return_dict)
        cache = caches.opened(ops, past_key_values, use_cache if config.is_decoder else False, config)
        past = 0 if cache is None else cache.position
        texts = (input_ids, token_type_ids, position_ids, inputs_embeds)
        hidden = self.embeddings(*texts, past_key_values_length=past)
        hidden = hidden if self.embeddings_project is None else self.embeddings_project(hidden)
        each_query = attention_mask is not None and len(attention_mask.shape) == 3
        if config.is_decoder and not each_query:
            bias = at.causal_bias(ops, attention_mask, hidden, cache)
        else:
            bias = at.padding_bias(ops, attention_mask, hidden.dtype, hidden if cache is None else None)
        memory = encoder_hidden_states if config.is_decoder else None
        memory_bias = None if memory is None else at.memory_bias(ops, memory, encoder_attention_mask, hidden)
        masks = at.whole_head_masks(ops, head_mask, config, hidden.dtype, config.num_hidden_layers)
        encoded = self.encoder(
            hidden, bias, masks, memory, memory_bias, past_key_values=cache,
            output_attentions=flags[0], output_hidden_states=flags[1],
        )  # fmt: skip
        return self.finished(encoded, flags[2])

    def finished(self, encoded: Any, by_name: bool) -> Any:
        """Return the encoder's output with that of the pooler; a tuple has a place for the latter in any case."""
        last = encoded.last_hidden_state
        pooled = None if self.pooler is None else self.pooler(last)
        if by_name:
            names = ("hidden_states", "past_key_values", "attentions", "cross_attentions")
            rest = {name: encoded[name] for name in names if name in encoded}
            kind = outputs.BaseModelOutputWithPoolingAndCrossAttentions
            return kind(last_hidden_state=last, pooler_output=pooled, **rest)
        return (last, pooled, *encoded.to_tuple()[1:])


class BertWithHead(EncoderWithHead):
    """A backbone and a head: `task` names the head, `score` turns the backbone's output into logits."""

    base_model_prefix = "bert"

    def build_backbone(self) -> None:
        self.bert = self.make.block(self, BertModel, add_pooling_layer=self.pooled)


class BertPredictionHeadTransform(Part):
    def setup(self) -> None:
        hidden = hidden_axis(self.config)
        self.dense = self.make.dense(self, hidden, hidden)
        self.LayerNorm = self.make.layer_norm(self, hidden, self.config.layer_norm_eps)

    def call(self, hidden_states: Any) -> Any:
        return self.LayerNorm(fn.activation(self.ops, self.config.hidden_act, self.dense(hidden_states)))


class BertLMPredictionHead(Part):
    """Scores of the vocabulary. `table` is the word embeddings, for a framework where a tied decoder has no weights."""

    def setup(self) -> None:
        vocab = vocab_axis(self.config)
        self.bias = self.make.vector(self, "bias", vocab)
        self.transform = self.make.block(self, BertPredictionHeadTransform)
        self.decoder = self.make.vocab_head(self, hidden_axis(self.config), vocab, bias="bias")

    def call(self, hidden_states: Any, table: Any = None) -> Any:
        """Return [B, Q, vocab] from [B, Q, H]."""
        return decode(self, self.transform(hidden_states), table)


class BertOnlyMLMHead(Part):
    """Predicts tokens; see `BertLMPredictionHead`."""

    def setup(self) -> None:
        self.predictions = self.make.block(self, BertLMPredictionHead)

    def call(self, sequence_output: Any, table: Any = None) -> Any:
        return self.predictions(sequence_output, table=table)


class BertOnlyNSPHead(Part):
    """Whether the second of two texts follows the first, from the pooled first token."""

    def setup(self) -> None:
        self.seq_relationship = self.make.dense(self, hidden_axis(self.config), Axis("labels", 2))

    def call(self, pooled_output: Any) -> Any:
        """Return [B, 2]: it does, it is a random one."""
        return self.seq_relationship(pooled_output)


class BertPreTrainingHeads(Part):
    """Both that BERT was trained with; see `BertLMPredictionHead`."""

    def setup(self) -> None:
        self.predictions = self.make.block(self, BertLMPredictionHead)
        self.seq_relationship = self.make.dense(self, hidden_axis(self.config), Axis("labels", 2))

    def call(self, sequence_output: Any, pooled_output: Any, table: Any = None) -> tuple[Any, Any]:
        return self.predictions(sequence_output, table=table), self.seq_relationship(pooled_output)


class BertForPreTraining(BertWithHead):
    """BERT as it was trained: it predicts masked tokens, and whether the second of two texts follows the first."""

    task = "PreTraining"
    pooled = True

    def build_head(self, config: Any) -> None:
        self.cls = self.make.block(self, BertPreTrainingHeads)

    def score(self, backbone: Any) -> Any:
        return self.cls(backbone.last_hidden_state, backbone.pooler_output, table=self.words())

    def call(
        self, input_ids: Any = None, attention_mask: Any = None, token_type_ids: Any = None, position_ids: Any = None,
        head_mask: Any = None, inputs_embeds: Any = None, labels: Any = None, next_sentence_label: Any = None,
        output_attentions: bool | None = None, output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:  # fmt: skip
        """Return `BertForPreTrainingOutput`; the loss is for `labels` [B, Q] and `next_sentence_label` [B] together."""
        backbone = self.encoded(
            input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
            output_attentions=output_attentions, output_hidden_states=output_hidden_states,
        )  # fmt: skip
        targets, logits = (labels, next_sentence_label), self.score(backbone)
        return task_output(self.ops, self.config, "SentencePairs", logits, targets, backbone, return_dict)


class BertForMaskedLM(MaskedHead, BertWithHead):
    """BERT that predicts masked tokens; the decoder is tied to the word embeddings unless the config says not."""

    def build_head(self, config: Any) -> None:
        self.cls = self.make.block(self, BertOnlyMLMHead)

    def score(self, backbone: Any) -> Any:
        return self.cls(backbone.last_hidden_state, table=self.words())


class BertLMHeadModel(NextTokenHead, BertWithHead):
    """BERT that predicts the next token; its head is that of `BertForMaskedLM`."""

    def build_head(self, config: Any) -> None:
        self.cls = self.make.block(self, BertOnlyMLMHead)

    def score(self, backbone: Any) -> Any:
        return self.cls(backbone.last_hidden_state, table=self.words())


class BertForNextSentencePrediction(BertWithHead):
    """BERT that says whether the second of two texts follows the first."""

    task = "NextSentencePrediction"
    pooled = True

    def build_head(self, config: Any) -> None:
        self.cls = self.make.block(self, BertOnlyNSPHead)

    def score(self, backbone: Any) -> Any:
        return self.cls(backbone.pooler_output)


class BertForSequenceClassification(PooledHead, BertWithHead):
    """BERT that classifies or scores a text, from the pooled first token."""


class BertForMultipleChoice(ChoiceHead, BertWithHead):
    """BERT that chooses one of several texts, from the pooled first token of each."""


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
        BertForPreTraining,
        BertLMHeadModel,
        BertForMaskedLM,
        BertForNextSentencePrediction,
        BertForSequenceClassification,
        BertForMultipleChoice,
        BertForTokenClassification,
        BertForQuestionAnswering,
        ignorable=IGNORABLE,
    )
}
