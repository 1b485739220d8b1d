"""Inputs that fit a model, the same on every machine: ids, masks, and what a decoder reads, by its config."""

from __future__ import annotations

from typing import Any

import numpy as np

from triptych.errors import ArgumentError

Inputs = dict[str, np.ndarray]


def make_inputs(config: Any, stem: str, *, batch: int = 2, length: int = 12, seed: int = 0) -> Inputs:
    """Return arguments of a call of the class `stem` of `config`.

    `input_ids` int64 [batch, length] holds no padding; `attention_mask` ends with some zeros in the last row. Of an
    encoder-decoder there are `decoder_input_ids` as well; for multiple choice the batch is that of one question.

    Raises:
        ArgumentError: the config has no vocab_size, so that it is not known what the model reads.
    """
    words = getattr(config, "vocab_size", None) or getattr(getattr(config, "encoder", None), "vocab_size", None)
    if not isinstance(words, int):
        raise ArgumentError(
            f"It is not known what {stem} reads.",
            expected="a config with vocab_size",
            received=f"one of model_type {config.model_type!r} without",
            remedy="pass inputs=, arrays by argument name",
        )
    rng = np.random.default_rng(seed)
    special = [config.pad_token_id, config.eos_token_id, config.bos_token_id]
    several = [one for value in special for one in (value if isinstance(value, list) else [value])]
    allowed = np.setdiff1d(np.arange(min(words, 50000)), [one for one in several if one is not None])
    mask = np.ones((batch, length), np.int64)
    mask[-1, length - length // 4 :] = 0
    if length > 3:  # of a text that is read from left to right nothing sees what is masked at its end
        mask[-1, length // 3] = 0
    inputs = {"input_ids": rng.choice(allowed, (batch, length)), "attention_mask": mask}
    if config.is_encoder_decoder and not stem.endswith(("EncoderModel", "TokenClassification")):
        if stem.endswith("SequenceClassification"):  # reads where a text ends
            inputs["input_ids"][:, length - length // 4 - 1] = config.eos_token_id
        else:
            inputs["decoder_input_ids"] = rng.choice(allowed, (batch, max(2, length // 2)))
    if stem.endswith(("MultipleChoice", "DoubleHeadsModel")):
        return {name: array[None] for name, array in inputs.items()}
    return inputs


def make_labels(config: Any, stem: str, inputs: Inputs, *, seed: int = 5) -> Inputs:
    """Return labels for the class `stem`, by argument name, as its head is in transformers; without a head none.

    Some labels of tokens are -100, which no loss counts. Those of texts are numbers [B] float32 where num_labels is 1,
    or as `config.problem_type` asks.

    Args:
        inputs: the other arguments of the call.
    """
    rng = np.random.default_rng(seed)
    ids = inputs.get("decoder_input_ids", inputs.get("input_ids"))
    if ids is None:
        return {}

    def of_tokens(count: int) -> np.ndarray:
        return np.where(rng.random(ids.shape) < 0.3, -100, rng.integers(0, count, ids.shape))

    def of_texts(count: int, texts: int = len(ids)) -> np.ndarray:
        return rng.integers(0, count, texts)

    words = getattr(config, "vocab_size", None) or config.decoder.vocab_size
    if stem.endswith("QuestionAnswering"):
        first = of_texts(ids.shape[-1] // 2)
        return {"start_positions": first, "end_positions": first + of_texts(ids.shape[-1] // 2)}
    if stem.endswith("MultipleChoice"):
        return {"labels": of_texts(ids.shape[1])}
    if stem.endswith("NextSentencePrediction"):
        return {"labels": of_texts(2)}
    if stem.endswith("SequenceClassification"):
        return {"labels": _of_texts(rng, config, len(ids))}
    if stem.endswith("TokenClassification"):
        return {"labels": of_tokens(config.num_labels)}
    if stem == "BertForPreTraining":
        return {"labels": of_tokens(words), "next_sentence_label": of_texts(2)}
    if stem == "ElectraForPreTraining":
        return {"labels": rng.integers(0, 2, ids.shape)}
    if stem.endswith("DoubleHeadsModel"):
        return {"labels": of_tokens(words), "mc_labels": of_texts(ids.shape[1])}
    language = ("LM", "LMHeadModel", "ConditionalGeneration", "EncoderDecoderModel")
    return {"labels": of_tokens(words)} if stem.endswith(language) else {}


def _of_texts(rng: np.random.Generator, config: Any, texts: int) -> np.ndarray:
    """Return the labels of texts, as the loss that a config asks for compares with."""
    if config.num_labels == 1:
        return rng.standard_normal(texts).astype(np.float32)
    if config.problem_type == "multi_label_classification":
        return rng.integers(0, 2, (texts, config.num_labels)).astype(np.float32)
    return rng.integers(0, config.num_labels, texts)
