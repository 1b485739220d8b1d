"""BERT as linen modules, whose names are the canonical names of `triptych.families.bert`."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from triptych import functional as fn
from triptych import outputs
from triptych.families.bert import BertConfig, heads_axis
from triptych.heads import task_output
from triptych_flax import ops


class FlaxBertPart(nn.Module):
    """Base of every module here; the shorthands are the layers of which BERT is made."""

    config: BertConfig
    dtype: Any = jnp.float32

    def dense(self, name: str, width: int) -> nn.Dense:
        init = nn.initializers.normal(self.config.initializer_range)
        return nn.Dense(width, dtype=self.dtype, kernel_init=init, name=name)

    def embed(self, name: str, rows: int) -> nn.Embed:
        init = nn.initializers.normal(self.config.initializer_range)
        return nn.Embed(rows, self.config.hidden_size, dtype=self.dtype, embedding_init=init, name=name)

    def norm(self) -> nn.LayerNorm:
        epsilon = self.config.layer_norm_eps
        return nn.LayerNorm(epsilon, dtype=self.dtype, use_fast_variance=False, name="LayerNorm")


class FlaxBertEmbeddings(FlaxBertPart):
    @nn.compact
    def __call__(
        self, input_ids: Any, token_type_ids: Any, position_ids: Any, inputs_embeds: Any, deterministic: bool
    ) -> Any:
        table = self.embed("word_embeddings", self.config.vocab_size)
        words = table(input_ids) if inputs_embeds is None else jnp.asarray(inputs_embeds, self.dtype)
        positions = fn.positions(ops, words) if position_ids is None else position_ids
        types = ops.zeros_like(positions) if token_type_ids is None else token_type_ids
        total = words + self.embed("token_type_embeddings", self.config.type_vocab_size)(types)
        total = total + self.embed("position_embeddings", self.config.max_position_embeddings)(positions)
        return nn.Dropout(self.config.hidden_dropout_prob)(self.norm()(total), deterministic)


class FlaxBertSelfAttention(FlaxBertPart):
    layer: int = 0

    @nn.compact
    def __call__(self, hidden: Any, bias: Any, head_mask: Any, deterministic: bool) -> tuple[Any, Any]:
        head_dim, width = self.config.head_dim, heads_axis(self.config, self.layer).length
        query, key, value = (
            fn.split_heads(ops, self.dense(name, width)(hidden), head_dim) for name in ("query", "key", "value")
        )
        dropout = nn.Dropout(self.config.attention_probs_dropout_prob, deterministic=deterministic)
        context, probabilities = fn.attend(ops, query, key, value, bias, head_dim**-0.5, dropout, head_mask)
        return fn.merge_heads(ops, context, width), probabilities


class FlaxBertResidual(FlaxBertPart):
    """Projection, dropout, and the norm of the sum with the residual."""

    @nn.compact
    def __call__(self, hidden: Any, residual: Any, deterministic: bool) -> Any:
        projected = self.dense("dense", self.config.hidden_size)(hidden)
        return self.norm()(nn.Dropout(self.config.hidden_dropout_prob)(projected, deterministic) + residual)


class FlaxBertAttention(FlaxBertPart):
    layer: int = 0

    @nn.compact
    def __call__(self, hidden: Any, bias: Any, head_mask: Any, deterministic: bool) -> tuple[Any, Any]:
        attention = FlaxBertSelfAttention(self.config, self.dtype, self.layer, name="self")
        context, probabilities = attention(hidden, bias, head_mask, deterministic)
        return FlaxBertResidual(self.config, self.dtype, name="output")(context, hidden, deterministic), probabilities


class FlaxBertActivated(FlaxBertPart):
    """Projection and activation."""

    width: int = 0
    activation: str = "gelu"

    @nn.compact
    def __call__(self, hidden: Any) -> Any:
        return fn.activation(ops, self.activation, self.dense("dense", self.width)(hidden))


class FlaxBertLayer(FlaxBertPart):
    layer: int = 0

    @nn.compact
    def __call__(self, hidden: Any, bias: Any, head_mask: Any, deterministic: bool) -> tuple[Any, Any]:
        config, dtype = self.config, self.dtype
        attention = FlaxBertAttention(config, dtype, self.layer, name="attention")
        intermediate = FlaxBertActivated(
            config, dtype, config.intermediate_size, config.hidden_act, name="intermediate"
        )
        attended, probabilities = attention(hidden, bias, head_mask, deterministic)
        output = FlaxBertResidual(config, dtype, name="output")
        return output(intermediate(attended), attended, deterministic), probabilities


class FlaxBertLayers(FlaxBertPart):
    @nn.compact
    def __call__(
        self, hidden: Any, bias: Any, head_masks: list[Any], deterministic: bool
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        states, attentions = [hidden], []
        for layer, head_mask in enumerate(head_masks):
            module = FlaxBertLayer(self.config, self.dtype, layer, name=str(layer))
            hidden, probabilities = module(hidden, bias, head_mask, deterministic)
            states.append(hidden)
            attentions.append(probabilities)
        return tuple(states), tuple(attentions)


class FlaxBertEncoder(FlaxBertPart):
    @nn.compact
    def __call__(self, *args: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        return FlaxBertLayers(self.config, self.dtype, name="layer")(*args)


class FlaxBertModule(FlaxBertPart):
    add_pooling_layer: bool = True

    @nn.compact
    def __call__(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        head_mask: Any = None,
        inputs_embeds: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        deterministic: bool = True,
    ) -> Any:
        fn.one_input(input_ids, inputs_embeds)
        config, dtype = self.config, self.dtype
        flags = fn.output_flags(config, output_attentions, output_hidden_states, return_dict)
        embeddings = FlaxBertEmbeddings(config, dtype, name="embeddings")
        hidden = embeddings(input_ids, token_type_ids, position_ids, inputs_embeds, deterministic)
        bias = fn.padding_bias(ops, attention_mask, hidden.dtype)
        masks = fn.head_masks(ops, head_mask, config, hidden.dtype)
        states, attentions = FlaxBertEncoder(config, dtype, name="encoder")(hidden, bias, masks, deterministic)
        pooled = None
        if self.add_pooling_layer:
            pooled = FlaxBertActivated(config, dtype, config.hidden_size, "tanh", name="pooler")(states[-1][:, 0])
        result = outputs.BaseModelOutputWithPooling(
            last_hidden_state=states[-1],
            pooler_output=pooled,
            hidden_states=states if flags[1] else None,
            attentions=attentions if flags[0] else None,
        )
        return result if flags[2] else result.to_tuple()


class FlaxBertWithHeadModule(FlaxBertPart):
    """A backbone and a head: `task` names the head, `score` turns the backbone's output into logits."""

    task = ""

    def score(self, backbone: Any, deterministic: bool) -> Any:
        return self.classify(backbone.last_hidden_state, deterministic)

    def classify(self, hidden: Any, deterministic: bool) -> Any:
        dropped = nn.Dropout(self.config.head_dropout)(hidden, deterministic)
        return self.dense("classifier", self.config.num_labels)(dropped)

    @nn.compact
    def __call__(
        self,
        *inputs: Any,
        labels: Any = None,
        return_dict: bool | None = None,
        deterministic: bool = True,
        **options: Any,
    ) -> Any:
        bert = FlaxBertModule(self.config, self.dtype, self.task == "SequenceClassification", name="bert")
        backbone = bert(*inputs, **options, return_dict=True, deterministic=deterministic)  # type: ignore[misc]
        logits = self.score(backbone, deterministic)
        return task_output(ops, self.config, self.task, logits, labels, backbone, return_dict)


class FlaxBertPredictionTransform(FlaxBertPart):
    @nn.compact
    def __call__(self, hidden: Any) -> Any:
        projected = self.dense("dense", self.config.hidden_size)(hidden)
        return self.norm()(fn.activation(ops, self.config.hidden_act, projected))


class FlaxBertPredictions(FlaxBertPart):
    @nn.compact
    def __call__(self, hidden: Any, embedding: Any) -> Any:
        bias = self.param("bias", nn.initializers.zeros, (self.config.vocab_size,))
        hidden = FlaxBertPredictionTransform(self.config, self.dtype, name="transform")(hidden)
        if not self.config.tie_word_embeddings:
            return self.dense("decoder", self.config.vocab_size)(hidden)
        return ops.matmul(hidden, jnp.asarray(embedding, self.dtype).T) + jnp.asarray(bias, self.dtype)


class FlaxBertPretrainingHead(FlaxBertPart):
    @nn.compact
    def __call__(self, hidden: Any, embedding: Any) -> Any:
        return FlaxBertPredictions(self.config, self.dtype, name="predictions")(hidden, embedding)


class FlaxBertForMaskedLMModule(FlaxBertWithHeadModule):
    task = "MaskedLM"

    def score(self, backbone: Any, deterministic: bool) -> Any:
        embedding = self.variables["params"]["bert"]["embeddings"]["word_embeddings"]["embedding"]
        return FlaxBertPretrainingHead(self.config, self.dtype, name="cls")(backbone.last_hidden_state, embedding)


class FlaxBertForSequenceClassificationModule(FlaxBertWithHeadModule):
    task = "SequenceClassification"

    def score(self, backbone: Any, deterministic: bool) -> Any:
        return self.classify(backbone.pooler_output, deterministic)


class FlaxBertForTokenClassificationModule(FlaxBertWithHeadModule):
    task = "TokenClassification"


class FlaxBertForQuestionAnsweringModule(FlaxBertWithHeadModule):
    task = "QuestionAnswering"

    def score(self, backbone: Any, deterministic: bool) -> Any:
        return self.dense("qa_outputs", self.config.num_labels)(backbone.last_hidden_state)
