"""Greedy decoding with a cache, the same loop for all frameworks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from triptych.errors import ArgumentError

Step = Callable[[Any, np.ndarray], tuple[np.ndarray, Any]]
"""(cache, ids [B, Q]) -> logits of the last token [B, vocab], and the next cache."""


def greedy(
    step: Step, cache: Any, input_ids: Any, max_new_tokens: int, eos_token_id: int | Sequence[int] | None = None
) -> np.ndarray:
    """Return `input_ids` [B, Q], without padding, and after each text the most likely tokens, int64 [B, Q + new].

    A text that reached `eos_token_id` is continued with it. The loop ends when all have, or after `max_new_tokens`.

    Raises:
        ArgumentError: the ids are of another shape, or `max_new_tokens` is no positive integer.
    """
    ids = np.asarray(input_ids)
    if ids.ndim != 2 or not ids.size or ids.dtype.kind not in "iu":
        raise ArgumentError("input_ids are impossible.", expected="integers [B, Q]", received=str(ids.shape))
    if type(max_new_tokens) is not int or max_new_tokens < 1:
        raise ArgumentError("max_new_tokens is impossible.", expected="a positive integer", received=f"{max_new_tokens}")
    ends = [] if eos_token_id is None else np.atleast_1d(eos_token_id).tolist()
    ended = np.zeros(len(ids), bool)
    new = text = ids.astype(np.int64)
    for _ in range(max_new_tokens):
        logits, cache = step(cache, new)
        found = np.asarray(logits).argmax(-1)
        new = np.where(ended, ends[0] if ends else 0, found)[:, None].astype(np.int64)
        text = np.concatenate([text, new], 1)
        ended |= np.isin(new[:, 0], ends)
        if ended.all():
            break
    return text
