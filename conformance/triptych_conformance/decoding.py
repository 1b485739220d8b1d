"""Greedy decoding with a cache: one loop, and each framework's compiled step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from triptych.errors import ArgumentError

Compiled = list[tuple[int, ...]]
"""The shapes of the ids for which a step was compiled; PyTorch's step is not compiled, and each call is listed."""

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
        raise ArgumentError(
            "max_new_tokens is impossible.", expected="a positive integer", received=f"{max_new_tokens}"
        )
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


def step_of(framework: str, model: Any) -> tuple[Step, Compiled]:
    """Return the step of a decoder, compiled where the framework compiles, and the list of its compilations."""
    compiled: Compiled = []

    def run(cache: Any, ids: Any, **options: Any) -> tuple[Any, Any]:
        compiled.append(tuple(ids.shape))
        output = model(input_ids=ids, past_key_values=cache, **options)
        return output.logits[:, -1], output.past_key_values

    return _STEPS[framework](run, model), compiled


def _pt_step(run: Any, model: Any) -> Step:
    import torch

    def step(cache: Any, ids: np.ndarray) -> tuple[np.ndarray, Any]:
        with torch.no_grad():
            logits, cache = run(cache, torch.tensor(ids))
        return logits.float().numpy(), cache

    return step


def _tf_step(run: Any, model: Any) -> Step:
    import tensorflow as tf

    compiled = tf.function(lambda cache, ids: run(cache, ids, training=False))

    def step(cache: Any, ids: np.ndarray) -> tuple[np.ndarray, Any]:
        logits, cache = compiled(cache, tf.constant(ids, tf.int32))
        return logits.numpy(), cache

    return step


def _flax_step(run: Any, model: Any) -> Step:
    import jax
    import jax.numpy as jnp

    # The parameters are an argument: as constants they would be a part of what is compiled, and of JAX's key for it.
    compiled = jax.jit(lambda params, cache, ids: run(cache, ids, params=params))

    def step(cache: Any, ids: np.ndarray) -> tuple[np.ndarray, Any]:
        logits, cache = compiled(model.params, cache, jnp.asarray(ids, jnp.int32))
        return np.asarray(logits, np.float32), cache

    return step


_STEPS: dict[str, Callable[[Any, Any], Step]] = {"pt": _pt_step, "tf": _tf_step, "flax": _flax_step}
