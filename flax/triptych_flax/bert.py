"""BERT in Flax: the public classes; `triptych_flax.encoder` has what they run."""

from __future__ import annotations

from typing import Any

from triptych.families.bert import BertConfig
from triptych_flax import encoder
from triptych_flax.modeling import FlaxPreTrainedModel

__all__ = [
    "FlaxBertPreTrainedModel",
    "FlaxBertModel",
    "FlaxBertForMaskedLM",
    "FlaxBertForSequenceClassification",
    "FlaxBertForTokenClassification",
    "FlaxBertForQuestionAnswering",
]


class FlaxBertPreTrainedModel(FlaxPreTrainedModel):
    """Base of the BERT classes."""

    config_class = BertConfig
    base_model_prefix = "bert"


class FlaxBertModel(FlaxBertPreTrainedModel):
    """The encoder, with a pooler unless `add_pooling_layer=False`."""

    schema_options = ("add_pooling_layer",)
    module_class = encoder.FlaxBertModule

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
        *,
        params: Any = None,
        dropout_rng: Any = None,
        train: bool = False,
    ) -> Any:
        """Return `BaseModelOutputWithPooling`. Ids are integers [B, Q], `inputs_embeds` [B, Q, H]."""
        return super().__call__(
            input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
            output_attentions=output_attentions, output_hidden_states=output_hidden_states, return_dict=return_dict,
            params=params, dropout_rng=dropout_rng, train=train,
        )  # fmt: skip


class FlaxBertWithHead(FlaxBertPreTrainedModel):
    """A backbone and a head."""

    def __call__(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        head_mask: Any = None,
        inputs_embeds: Any = None,
        labels: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        *,
        params: Any = None,
        dropout_rng: Any = None,
        train: bool = False,
    ) -> Any:
        """Return logits, and with `labels` the loss; see `triptych.heads.task_output`."""
        return super().__call__(
            input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds, labels=labels,
            output_attentions=output_attentions, output_hidden_states=output_hidden_states, return_dict=return_dict,
            params=params, dropout_rng=dropout_rng, train=train,
        )  # fmt: skip


class FlaxBertForMaskedLM(FlaxBertWithHead):
    """BERT that predicts masked tokens; the decoder is tied to the word embeddings unless the config says not."""

    module_class = encoder.FlaxBertForMaskedLMModule


class FlaxBertForSequenceClassification(FlaxBertWithHead):
    """BERT that classifies or scores a text, from the pooled first token."""

    module_class = encoder.FlaxBertForSequenceClassificationModule


class FlaxBertForTokenClassification(FlaxBertWithHead):
    """BERT that classifies every token."""

    module_class = encoder.FlaxBertForTokenClassificationModule


class FlaxBertForQuestionAnswering(FlaxBertWithHead):
    """BERT that finds a span."""

    module_class = encoder.FlaxBertForQuestionAnsweringModule

    def __call__(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        head_mask: Any = None,
        inputs_embeds: Any = None,
        start_positions: Any = None,
        end_positions: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        *,
        params: Any = None,
        dropout_rng: Any = None,
        train: bool = False,
    ) -> Any:
        """Return start and end logits, and with both positions the loss."""
        return super().__call__(
            input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
            (start_positions, end_positions), output_attentions, output_hidden_states, return_dict,
            params=params, dropout_rng=dropout_rng, train=train,
        )  # fmt: skip
