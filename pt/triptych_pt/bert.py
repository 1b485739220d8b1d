"""BERT in PyTorch: the public classes; `triptych_pt.encoder` has the blocks."""

from __future__ import annotations

from typing import Any

from torch import nn

from triptych import functional as fn
from triptych import outputs
from triptych.families.bert import BertConfig
from triptych.heads import task_output
from triptych_pt import ops
from triptych_pt.encoder import BertActivated, BertEmbeddings, BertEncoder, BertPredictions
from triptych_pt.modeling import PreTrainedModel

__all__ = [
    "BertPreTrainedModel",
    "BertModel",
    "BertForMaskedLM",
    "BertForSequenceClassification",
    "BertForTokenClassification",
    "BertForQuestionAnswering",
]


class BertPreTrainedModel(PreTrainedModel):
    """Base of the BERT classes."""

    config_class = BertConfig
    base_model_prefix = "bert"


class BertModel(BertPreTrainedModel):
    """The encoder, with a pooler unless `add_pooling_layer=False`."""

    schema_options = ("add_pooling_layer",)

    def __init__(self, config: BertConfig, add_pooling_layer: bool = True) -> None:
        super().__init__(config)
        self.add_pooling_layer = add_pooling_layer
        self.embeddings = BertEmbeddings(config)
        self.encoder = BertEncoder(config)
        self.pooler = BertActivated(config, config.hidden_size, "tanh") if add_pooling_layer else None
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: Any) -> None:
        self.embeddings.word_embeddings = value

    def forward(
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
    ) -> Any:
        """Return `BaseModelOutputWithPooling`. Ids are integers [B, Q], `inputs_embeds` [B, Q, H]."""
        fn.one_input(input_ids, inputs_embeds)
        flags = fn.output_flags(self.config, output_attentions, output_hidden_states, return_dict)
        hidden = self.embeddings(input_ids, token_type_ids, position_ids, inputs_embeds)
        bias = fn.padding_bias(ops, attention_mask, hidden.dtype)
        masks = fn.head_masks(ops, head_mask, self.config, hidden.dtype)
        states, attentions = self.encoder(hidden, bias, masks)
        result = outputs.BaseModelOutputWithPooling(
            last_hidden_state=states[-1],
            pooler_output=None if self.pooler is None else self.pooler(states[-1][:, 0]),
            hidden_states=states if flags[1] else None,
            attentions=attentions if flags[0] else None,
        )
        return result if flags[2] else result.to_tuple()


class BertWithHead(BertPreTrainedModel):
    """A backbone and a head: `task` names the head, `score` turns the backbone's output into logits."""

    task = ""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.bert = BertModel(config, add_pooling_layer=self.task == "SequenceClassification")
        self.dropout = nn.Dropout(config.head_dropout)
        self.build_head(config)
        self.post_init()

    def build_head(self, config: BertConfig) -> None:
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    def score(self, backbone: Any) -> Any:
        return self.classifier(self.dropout(backbone.last_hidden_state))

    def forward(
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
    ) -> Any:
        """Return logits, and with `labels` the loss; see `triptych.heads.task_output`."""
        backbone = self.bert(
            input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
            output_attentions, output_hidden_states, return_dict=True,
        )  # fmt: skip
        return task_output(ops, self.config, self.task, self.score(backbone), labels, backbone, return_dict)


class BertForMaskedLM(BertWithHead):
    """BERT that predicts masked tokens; the decoder is tied to the word embeddings unless the config says not."""

    task = "MaskedLM"

    def build_head(self, config: BertConfig) -> None:
        self.cls: Any = nn.Module()
        self.cls.predictions = BertPredictions(config)

    def score(self, backbone: Any) -> Any:
        return self.cls.predictions(backbone.last_hidden_state)

    def get_output_embeddings(self) -> nn.Module:
        return self.cls.predictions.decoder

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.cls.predictions.decoder = new_embeddings


class BertForSequenceClassification(BertWithHead):
    """BERT that classifies or scores a text, from the pooled first token."""

    task = "SequenceClassification"

    def score(self, backbone: Any) -> Any:
        return self.classifier(self.dropout(backbone.pooler_output))


class BertForTokenClassification(BertWithHead):
    """BERT that classifies every token."""

    task = "TokenClassification"


class BertForQuestionAnswering(BertWithHead):
    """BERT that finds a span."""

    task = "QuestionAnswering"

    def build_head(self, config: BertConfig) -> None:
        self.qa_outputs = nn.Linear(config.hidden_size, config.num_labels)

    def score(self, backbone: Any) -> Any:
        return self.qa_outputs(backbone.last_hidden_state)

    def forward(
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
    ) -> Any:
        """Return start and end logits, and with both positions the loss."""
        return super().forward(
            input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
            (start_positions, end_positions), output_attentions, output_hidden_states, return_dict,
        )  # fmt: skip
