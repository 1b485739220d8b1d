"""BERT in Keras: the public classes; `triptych_tf.encoder` has the blocks."""

from __future__ import annotations

from typing import Any

import keras

from triptych import functional as fn
from triptych import outputs
from triptych.families.bert import BertConfig
from triptych.heads import task_output
from triptych_tf import ops
from triptych_tf.encoder import TFBertActivated, TFBertEmbeddings, TFBertEncoder, TFBertOnlyMLMHead
from triptych_tf.layers import build_parts, dense, replace_layer
from triptych_tf.modeling import TFPreTrainedModel

__all__ = [
    "TFBertPreTrainedModel",
    "TFBertModel",
    "TFBertForMaskedLM",
    "TFBertForSequenceClassification",
    "TFBertForTokenClassification",
    "TFBertForQuestionAnswering",
]


class TFBertPreTrainedModel(TFPreTrainedModel):
    """Base of the BERT classes."""

    config_class = BertConfig
    base_model_prefix = "bert"

    def build(self, input_shape: Any = None) -> None:
        build_parts(self)


class TFBertModel(TFBertPreTrainedModel):
    """The encoder, with a pooler unless `add_pooling_layer=False`."""

    schema_options = ("add_pooling_layer",)

    def __init__(self, config: BertConfig, add_pooling_layer: bool = True, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.add_pooling_layer = add_pooling_layer
        self.embeddings = TFBertEmbeddings(config, "embeddings")
        self.encoder = TFBertEncoder(config, "encoder")
        self.pooler = TFBertActivated(config, config.hidden_size, "tanh", "pooler") if add_pooling_layer else None
        self.post_init()

    def get_input_embeddings(self) -> keras.layers.Layer:
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: keras.layers.Layer) -> None:
        replace_layer(self.embeddings, "word_embeddings", value)

    def call(
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
        training: bool | None = None,
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


class TFBertWithHead(TFBertPreTrainedModel):
    """A backbone and a head: `task` names the head, `score` turns the backbone's output into logits."""

    task = ""

    def __init__(self, config: BertConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        pooler = self.task == "SequenceClassification"
        self.bert = TFBertModel(config, add_pooling_layer=pooler, name="bert", dtype=self.dtype_policy)
        self.dropout = keras.layers.Dropout(config.head_dropout)
        self.build_head(config)
        self.post_init()

    def build_head(self, config: BertConfig) -> None:
        self.classifier = dense(config.hidden_size, config.num_labels, config.initializer_range, "classifier")

    def score(self, backbone: Any) -> Any:
        return self.classifier(self.dropout(backbone.last_hidden_state))

    def call(
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
        training: bool | None = None,
    ) -> Any:
        """Return logits, and with `labels` the loss; see `triptych.heads.task_output`."""
        backbone = self.bert(
            input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
            output_attentions, output_hidden_states, return_dict=True,
        )  # fmt: skip
        return task_output(ops, self.config, self.task, self.score(backbone), labels, backbone, return_dict)


class TFBertForMaskedLM(TFBertWithHead):
    """BERT that predicts masked tokens; the decoder is tied to the word embeddings unless the config says not."""

    task = "MaskedLM"

    def build_head(self, config: BertConfig) -> None:
        self.cls = TFBertOnlyMLMHead(config, "cls")

    def score(self, backbone: Any) -> Any:
        table = keras.ops.convert_to_tensor(self.get_input_embeddings().embeddings)
        return self.cls(backbone.last_hidden_state, table)

    def get_output_embeddings(self) -> keras.layers.Layer:
        return self.cls.predictions.decoder or self.get_input_embeddings()

    def set_output_embeddings(self, new_embeddings: keras.layers.Layer) -> None:
        if self.cls.predictions.decoder is None:
            self.set_input_embeddings(new_embeddings)
        else:
            replace_layer(self.cls.predictions, "decoder", new_embeddings)


class TFBertForSequenceClassification(TFBertWithHead):
    """BERT that classifies or scores a text, from the pooled first token."""

    task = "SequenceClassification"

    def score(self, backbone: Any) -> Any:
        return self.classifier(self.dropout(backbone.pooler_output))


class TFBertForTokenClassification(TFBertWithHead):
    """BERT that classifies every token."""

    task = "TokenClassification"


class TFBertForQuestionAnswering(TFBertWithHead):
    """BERT that finds a span."""

    task = "QuestionAnswering"

    def build_head(self, config: BertConfig) -> None:
        self.qa_outputs = dense(config.hidden_size, config.num_labels, config.initializer_range, "qa_outputs")

    def score(self, backbone: Any) -> Any:
        return self.qa_outputs(backbone.last_hidden_state)

    def call(
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
        training: bool | None = None,
    ) -> Any:
        """Return start and end logits, and with both positions the loss."""
        # int32: TensorFlow compares only equal types, and a length known only at run time is an int32.
        start, end = (p if p is None else ops.cast(p, "int32") for p in (start_positions, end_positions))
        return super().call(
            input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
            (start, end), output_attentions, output_hidden_states, return_dict,
        )  # fmt: skip
