"""ELECTRA (Clark et al., 2020, https://arxiv.org/abs/2003.10555): BERT's encoder over narrower embeddings."""

from __future__ import annotations

from typing import Any

from triptych.config import PretrainedConfig, positive_int
from triptych.families import Family
from triptych.families.bert import IGNORABLE, BertConfig, backbone
from triptych.families.common import labels_axis, vocab_head, with_base
from triptych.weights.schema import Axis, Layout, Schema


class ElectraConfig(BertConfig):
    """Configuration of ELECTRA; `embedding_size` is the width of the embeddings.

    Raises:
        ConfigError: a field has an impossible value.
    """

    model_type = "electra"
    checks = {**BertConfig.checks, "embedding_size": positive_int}

    def __init__(
        self,
        vocab_size: int = 30522,
        embedding_size: int = 128,
        hidden_size: int = 256,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 4,
        intermediate_size: int = 1024,
        summary_type: str = "first",
        summary_use_proj: bool = True,
        summary_activation: str = "gelu",
        summary_last_dropout: float = 0.1,
        **kwargs: Any,
    ) -> None:
        self.embedding_size = embedding_size
        self.summary_type, self.summary_use_proj = summary_type, summary_use_proj
        self.summary_activation, self.summary_last_dropout = summary_activation, summary_last_dropout
        super().__init__(vocab_size, hidden_size, num_hidden_layers, num_attention_heads, intermediate_size, **kwargs)

    @property
    def embedding_width(self) -> int:
        return self.embedding_size


def _schema(config: PretrainedConfig, stem: str) -> Schema:
    hidden, width = Axis("hidden", config.hidden_size), Axis("hidden", config.embedding_width)
    root, base, head = with_base(stem, "ElectraModel", "electra")
    backbone(base, config)
    if stem == "ElectraForMaskedLM":
        head.layer_norm("generator_predictions.LayerNorm", width)
        head.linear("generator_predictions.dense", width, hidden)
        vocab_head(head, "generator_lm_head", config, width, "electra.embeddings.word_embeddings.weight")
        head.add("generator_lm_head.bias", (Axis("vocab", config.vocab_size),), Layout.BIAS)
    elif stem == "ElectraForPreTraining":
        head.linear("discriminator_predictions.dense", hidden, hidden)
        head.linear("discriminator_predictions.dense_prediction", Axis("labels", 1), hidden)
    elif stem == "ElectraForSequenceClassification":
        head.linear("classifier.dense", hidden, hidden)
        head.linear("classifier.out_proj", labels_axis(config), hidden)
    elif stem == "ElectraForQuestionAnswering":
        head.linear("qa_outputs", labels_axis(config), hidden)
    elif stem == "ElectraForTokenClassification":
        head.linear("classifier", labels_axis(config), hidden)
    return root.build("electra", stem == "ElectraModel", IGNORABLE)


FAMILIES = {
    "electra": Family(
        config_class=ElectraConfig,
        base_prefix="electra",
        classes={
            "": "ElectraModel",
            "PreTraining": "ElectraForPreTraining",
            "MaskedLM": "ElectraForMaskedLM",
            "SequenceClassification": "ElectraForSequenceClassification",
            "TokenClassification": "ElectraForTokenClassification",
            "QuestionAnswering": "ElectraForQuestionAnswering",
        },
        schema=_schema,
    )
}
