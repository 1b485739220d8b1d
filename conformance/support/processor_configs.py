"""Parameters of generation, for which processors transformers 4.48.3 makes of them, in which order.

This module imports nothing: `tests/record_processors.py` runs it where there is no triptych.
"""

from __future__ import annotations

from typing import Any

PROMPT_LENGTH = 1
EOS = [3, 5]
ATTRIBUTES = ("min_tokens_to_keep", "begin_index", "min_length", "min_new_tokens", "regulation_start", "top_k",
              "ngram_size", "max_length", "prompt_length_to_skip")  # fmt: skip
"""What is compared of each processor beside its kind."""

_TOKENS: dict[str, Any] = {
    "guidance_scale": 1.5, "sequence_bias": [[[1], 2.0]], "encoder_repetition_penalty": 1.3,
    "repetition_penalty": 1.2, "no_repeat_ngram_size": 3, "encoder_no_repeat_ngram_size": 2, "bad_words_ids": [[7]],
    "min_length": 4, "min_new_tokens": 2, "forced_bos_token_id": 2, "forced_eos_token_id": 3, "max_length": 9,
    "remove_invalid_values": True, "exponential_decay_length_penalty": (3, 1.1), "suppress_tokens": [1],
    "begin_suppress_tokens": [2], "eos_token_id": EOS,
}  # fmt: skip
_SAMPLING: dict[str, Any] = {
    "temperature": 0.7, "top_k": 10, "top_p": 0.9, "min_p": 0.1, "typical_p": 0.8, "epsilon_cutoff": 0.01,
    "eta_cutoff": 0.02,
}  # fmt: skip
CONFIGS: list[dict[str, Any]] = [
    {},
    {"do_sample": True},
    {"do_sample": True, "top_k": 0},
    _TOKENS,
    {**_TOKENS, "eos_token_id": None, "exponential_decay_length_penalty": None, "forced_bos_token_id": None},
    {**_TOKENS, **_SAMPLING, "do_sample": True, "renormalize_logits": True, "watermarking_config": {"bias": 2.5}},
    {**_SAMPLING, "do_sample": False, "renormalize_logits": True},
    {**_SAMPLING, "do_sample": True, "num_beams": 3},
    {**_SAMPLING, "do_sample": True, "num_beams": 3, "eos_token_id": EOS},
    {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5, "repetition_penalty": 1.2},
    {"do_sample": True, "temperature": 1.0, "top_p": 1.0, "typical_p": 1.0, "repetition_penalty": 1.0,
     "encoder_repetition_penalty": 1.0, "guidance_scale": 1, "min_length": 0, "no_repeat_ngram_size": 0,
     "renormalize_logits": True, "watermarking_config": {"ngram_len": 3, "keys": [1, 2]}},
]  # fmt: skip
"""Each has also a function of allowed tokens, and a processor of the user."""
