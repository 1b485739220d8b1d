"""Processors of scores with arguments and inputs: what transformers 4.48.3 was recorded on, and triptych is held to.

This module imports numpy alone: `tests/record_processors.py` runs it where there is no triptych.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

ROWS, VOCABULARY = 4, 16
LENGTHS = (1, 2, 5, 9)
"""How many of the ids each processor is called with."""

_random = np.random.RandomState(0)
INPUTS: dict[str, np.ndarray] = {
    "few": _random.randint(0, 3, (ROWS, max(LENGTHS))),
    "many": _random.randint(0, VOCABULARY, (ROWS, max(LENGTHS))),
    "plain": (_random.randn(ROWS, VOCABULARY) * 3).astype(np.float32),
    "double": (_random.randn(2 * ROWS, VOCABULARY) * 3).astype(np.float32),
}
INPUTS["filtered"] = np.where(_random.rand(ROWS, VOCABULARY) < 0.3, -np.inf, INPUTS["plain"]).astype(np.float32)
INPUTS["invalid"] = INPUTS["filtered"].copy()
INPUTS["invalid"][0, 0], INPUTS["invalid"][1, 1] = np.nan, np.inf
ENCODER = {"of each row": _random.randint(0, VOCABULARY, (ROWS, 6)), "of beams": _random.randint(0, 3, (ROWS // 2, 20))}
TABLE = (_random.randn(VOCABULARY, VOCABULARY) * 3).astype(np.float32)
"""Logits of a model that looks at the last token alone."""
WHISPER = SimpleNamespace(no_timestamps_token_id=9, eos_token_id=8, bos_token_id=7, forced_decoder_ids=None,
                          max_initial_timestamp_index=2, is_multilingual=False)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A processor by its name in transformers, its arguments, and which inputs it gets.

    `call` is what it gets by name beside them; `eager` says that no compiled loop can have it.
    """

    stem: str
    arguments: dict[str, Any] = field(default_factory=dict)
    ids: str = "many"
    scores: str = "plain"
    call: dict[str, Any] = field(default_factory=dict)
    eager: bool = False


def allowed(number: int, text: Any) -> list[int]:
    """Return the tokens that may come after a text: its length, its last token, and the number of the input."""
    return [len(text), int(text[-1]), number]


SYNTHID = dict(ngram_len=3, keys=[654, 400, 836], sampling_table_size=2**10, sampling_table_seed=7,
               context_history_size=4)  # fmt: skip
ENDS = [3, 5]
CASES: dict[str, Case] = {
    "temperature": Case("TemperatureLogitsWarper", {"temperature": 0.7}),
    "top_k": Case("TopKLogitsWarper", {"top_k": 3}),
    "top_k above all": Case("TopKLogitsWarper", {"top_k": 50}),
    "top_k keeps": Case("TopKLogitsWarper", {"top_k": 1, "min_tokens_to_keep": 4, "filter_value": -7.0}),
    "top_k filtered": Case("TopKLogitsWarper", {"top_k": 14}, scores="filtered"),
    "top_p": Case("TopPLogitsWarper", {"top_p": 0.8}),
    "top_p 0": Case("TopPLogitsWarper", {"top_p": 0.0}),
    "top_p keeps": Case("TopPLogitsWarper", {"top_p": 0.2, "min_tokens_to_keep": 3}),
    "top_p filtered": Case("TopPLogitsWarper", {"top_p": 0.9}, scores="filtered"),
    "min_p": Case("MinPLogitsWarper", {"min_p": 0.05}),
    "min_p keeps": Case("MinPLogitsWarper", {"min_p": 0.9, "min_tokens_to_keep": 3}),
    "min_p filtered": Case("MinPLogitsWarper", {"min_p": 0.05}, scores="filtered"),
    "typical": Case("TypicalLogitsWarper", {"mass": 0.6}),
    "typical keeps": Case("TypicalLogitsWarper", {"mass": 0.1, "min_tokens_to_keep": 3}),
    "typical filtered": Case("TypicalLogitsWarper", {"mass": 0.9}, scores="filtered"),
    "epsilon": Case("EpsilonLogitsWarper", {"epsilon": 0.05}),
    "epsilon keeps": Case("EpsilonLogitsWarper", {"epsilon": 0.9, "min_tokens_to_keep": 3}, scores="filtered"),
    "eta": Case("EtaLogitsWarper", {"epsilon": 0.1}),
    "eta keeps": Case("EtaLogitsWarper", {"epsilon": 0.5, "min_tokens_to_keep": 3}),
    "eta filtered": Case("EtaLogitsWarper", {"epsilon": 0.01}, scores="filtered"),
    "normalised": Case("LogitNormalization", scores="filtered"),
    "invalid": Case("InfNanRemoveLogitsProcessor", scores="invalid"),
    "repetition": Case("RepetitionPenaltyLogitsProcessor", {"penalty": 1.3}),
    "repetition below 1": Case("RepetitionPenaltyLogitsProcessor", {"penalty": 0.6}, scores="filtered"),
    "encoder repetition": Case(
        "EncoderRepetitionPenaltyLogitsProcessor", {"penalty": 1.4, "encoder_input_ids": ENCODER["of each row"]}
    ),
    **{
        f"no {size} twice": Case("NoRepeatNGramLogitsProcessor", {"ngram_size": size}, ids="few")
        for size in (1, 9, 10, 2, 3)
    },
    **{
        f"no {size} of the encoder": Case(
            "EncoderNoRepeatNGramLogitsProcessor",
            {"encoder_ngram_size": size, "encoder_input_ids": ENCODER["of beams"]},
            ids="few",
        )
        for size in (1, 2, 3)
    },
    "no 2 of one input": Case(
        "EncoderNoRepeatNGramLogitsProcessor",
        {"encoder_ngram_size": 2, "encoder_input_ids": ENCODER["of beams"][0]},
        ids="few",
    ),
    "biases in a list": Case("SequenceBiasLogitsProcessor", {"sequence_bias": [[[5], 2.5], [[1, 2], -3.1]]}, ids="few"),
    "biases": Case(
        "SequenceBiasLogitsProcessor",
        {"sequence_bias": {(5,): 2.5, (0, 1): -3.1, (2, 1): 1.7, (1,): -0.3, (0, 2, 1): 4.3, (1, 2, 0, 1): 0.9}},
        ids="few",
    ),
    "bad words": Case(
        "NoBadWordsLogitsProcessor", {"bad_words_ids": [[3], [0, 1], [1, 1], [2, 1], [0, 2, 4]]}, ids="few"
    ),  # fmt: skip
    "bad words and ends": Case(
        "NoBadWordsLogitsProcessor", {"bad_words_ids": [[3], [5], [5, 6], [7]], "eos_token_id": ENDS}
    ),
    "min length": Case("MinLengthLogitsProcessor", {"min_length": 5, "eos_token_id": 3}),
    "min length, ends": Case("MinLengthLogitsProcessor", {"min_length": 6, "eos_token_id": ENDS}),
    "min new": Case(
        "MinNewTokensLengthLogitsProcessor",
        {"prompt_length_to_skip": 2, "min_new_tokens": 4, "eos_token_id": ENDS},
    ),
    "forced bos": Case("ForcedBOSTokenLogitsProcessor", {"bos_token_id": 6}),
    "forced eos": Case("ForcedEOSTokenLogitsProcessor", {"max_length": 6, "eos_token_id": 4}),
    "forced ends": Case("ForcedEOSTokenLogitsProcessor", {"max_length": 10, "eos_token_id": ENDS}),
    "decay": Case(
        "ExponentialDecayLengthPenalty",
        {"exponential_decay_length_penalty": (2, 1.2), "eos_token_id": ENDS, "input_ids_seq_length": 1},
    ),
    "suppressed": Case("SuppressTokensLogitsProcessor", {"suppress_tokens": [0, 7, 15, 40]}),
    "suppressed first": Case(
        "SuppressTokensAtBeginLogitsProcessor", {"begin_suppress_tokens": [1, 2], "begin_index": 5}
    ),
    "diverse, first": Case(
        "HammingDiversityLogitsProcessor",
        {"diversity_penalty": 0.7, "num_beams": 4, "num_beam_groups": 2},
        call={"current_tokens": np.array([1, 1, 9, 9, 2, 3, 9, 9]), "beam_group_idx": 0},
    ),
    "diverse": Case(
        "HammingDiversityLogitsProcessor",
        {"diversity_penalty": 0.7, "num_beams": 4, "num_beam_groups": 2},
        call={"current_tokens": np.array([1, 1, 9, 9, 2, 3, 9, 9]), "beam_group_idx": 1},
    ),
    "guided": Case("ClassifierFreeGuidanceLogitsProcessor", {"guidance_scale": 1.5}, scores="double"),
    "codebooks": Case(
        "AlternatingCodebooksLogitsProcessor",
        {"input_start_len": 1, "semantic_vocab_size": 4, "codebook_size": 7},
    ),
    "bark": Case("BarkEosPrioritizerLogitsProcessor", {"eos_token_id": ENDS, "min_eos_p": 0.02}),
    "whisper": Case("WhisperTimeStampLogitsProcessor", {"generate_config": WHISPER, "begin_index": 2}),
    "constrained": Case(
        "PrefixConstrainedLogitsProcessor", {"prefix_allowed_tokens_fn": allowed, "num_beams": 2}, eager=True
    ),
    "watermark": Case("WatermarkLogitsProcessor", {"vocab_size": VOCABULARY}, eager=True),
    "watermark of two": Case(
        "WatermarkLogitsProcessor",
        {"vocab_size": VOCABULARY, "greenlist_ratio": 0.5, "bias": 1.5, "hashing_key": 2**40 + 3, "context_width": 2},
        eager=True,
    ),
}
