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
    inputs = {"input_ids": rng.choice(allowed, (batch, length)), "attention_mask": mask}
    if config.is_encoder_decoder and not stem.endswith(("EncoderModel", "TokenClassification")):
        if stem.endswith("SequenceClassification"):  # reads where a text ends
            inputs["input_ids"][:, length - length // 4 - 1] = config.eos_token_id
        else:
            inputs["decoder_input_ids"] = rng.choice(allowed, (batch, max(2, length // 2)))
    if stem.endswith(("MultipleChoice", "DoubleHeadsModel")):
        return {name: array[None] for name, array in inputs.items()}
    return inputs
