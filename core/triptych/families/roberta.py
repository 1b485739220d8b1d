"""RoBERTa (Liu et al., 2019, https://arxiv.org/abs/1907.11692): BERT's blocks with other positions and heads."""

from __future__ import annotations

from typing import Any

from triptych.config import PretrainedConfig
from triptych.families import Family
from triptych.families.bert import IGNORABLE, BertConfig, backbone, decoder
from triptych.families.common import labels_axis, with_base
from triptych.weights.schema import Axis, Layout, Schema


class RobertaConfig(BertConfig):
    """Configuration of RoBERTa. Positions are counted from `pad_token_id` + 1, and the padding has position
    `pad_token_id`, so 512 tokens need `max_position_embeddings` 514.

    Raises:
        ConfigError: a field has an impossible value.
    """

    model_type = "roberta"

    def __init__(
        self,
        vocab_size: int = 50265,
        *,
        max_position_embeddings: int = 512,
        pad_token_id: int | None = 1,
        bos_token_id: int | None = 0,
        eos_token_id: int | None = 2,
        **kwargs: Any,
    ) -> None:
        self.bos_token_id, self.eos_token_id = bos_token_id, eos_token_id
        super().__init__(
            vocab_size, max_position_embeddings=max_position_embeddings, pad_token_id=pad_token_id, **kwargs
        )


def _schema(config: PretrainedConfig, stem: str, add_pooling_layer: bool = True) -> Schema:
    hidden = Axis("hidden", config.hidden_size)
    root, base, head = with_base(stem, "RobertaModel", "roberta")
    backbone(base, config)
    if stem == "RobertaModel" and add_pooling_layer:
        base.under("pooler", backbone=False).linear("dense", hidden, hidden)
    if stem == "RobertaForMaskedLM":
        lm_head = head.under("lm_head")
        vocab = Axis("vocab", config.vocab_size)
        lm_head.add("bias", (vocab,), Layout.BIAS, aliases=("lm_head.decoder.bias",))
        lm_head.linear("dense", hidden, hidden)
        lm_head.layer_norm("layer_norm", hidden)
        decoder(lm_head, "lm_head", config, hidden, "roberta.embeddings.word_embeddings.weight")
    elif stem == "RobertaForSequenceClassification":
        head.linear("classifier.dense", hidden, hidden)
        head.linear("classifier.out_proj", labels_axis(config), hidden)
    elif stem == "RobertaForQuestionAnswering":
        head.linear("qa_outputs", labels_axis(config), hidden)
    elif stem == "RobertaForTokenClassification":
        head.linear("classifier", labels_axis(config), hidden)
    return root.build("roberta", stem == "RobertaModel", IGNORABLE)


FAMILIES = {
    "roberta": Family(
        config_class=RobertaConfig,
        base_prefix="roberta",
        classes={
            "": "RobertaModel",
            "MaskedLM": "RobertaForMaskedLM",
            "SequenceClassification": "RobertaForSequenceClassification",
            "TokenClassification": "RobertaForTokenClassification",
            "QuestionAnswering": "RobertaForQuestionAnswering",
        },
        schema=_schema,
    )
}
