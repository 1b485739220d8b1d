"""What each token of generated texts scored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from triptych.errors import ArgumentError
from triptych.generation.on_host import on_host


class Transitions:
    """Part of the base classes."""

    _ops: ClassVar[Any]

    def compute_transition_scores(
        self, sequences: Any, scores: Any, beam_indices: Any = None, normalize_logits: bool = False
    ) -> Any:
        """Return what each new token scored, [B * num_return_sequences, T]: see `transition_scores`.

        Of beams, the sum of a row is its `sequences_scores` times its number of tokens to the power of
        `length_penalty`.

        Args:
            sequences: what `generate` returned; they end with the last step of the scores.
            scores: what it returned for each step with `output_scores`; `step_scores` in JAX, of beams.
            beam_indices: what it returned of beams.
            normalize_logits: whether the scores are no logarithms of probabilities yet.

        Raises:
            ArgumentError: they do not fit one another.
        """
        return transition_scores(self._ops, sequences, scores, beam_indices, normalize_logits)


def transition_scores(
    ops: Any, sequences: Any, scores: Sequence[Any], beam_indices: Any = None, normalize: bool = False
) -> Any:
    """Return the score of each new token, [N, T] for T steps: 0 where `beam_indices` has none.

    Args:
        sequences: texts [N, L], whose last T tokens are the new ones.
        scores: those of each step, [R, V].
        beam_indices: the row of `scores` of each new token [N, T'], -1 behind the end; None: row n of text n. T is then
            the number of tokens of the longest text.
        normalize: take logarithms of probabilities of the scores first.

    Raises:
        ArgumentError: there are no scores, or fewer steps than tokens.
    """
    if scores is None or not len(scores):
        raise ArgumentError("There are no scores.", expected="those of each step", remedy="pass output_scores=True")
    count = sequences.shape[0]
    rows = np.repeat(np.arange(count)[:, None], len(scores), 1) if beam_indices is None else on_host(beam_indices)
    steps = int((rows >= 0).sum(-1).max())
    if steps > min(len(scores), sequences.shape[1]) or rows.shape[0] != count:
        raise ArgumentError(
            "The scores are of other texts.",
            expected=f"sequences [{rows.shape[0]}, ...] of {steps} new tokens or more, and as many steps",
            received=f"{tuple(sequences.shape)}, {len(scores)} steps",
        )  # fmt: skip
    rows, found = rows[:, :steps], []
    tokens = sequences[:, sequences.shape[1] - steps :]
    for step in range(steps):
        row = np.maximum(rows[:, step], 0).astype(np.int32)
        chosen = ops.gather(scores[step], ops.constant(row, sequences))
        chosen = ops.take_along(ops.log_softmax(chosen) if normalize else chosen, tokens[:, step][:, None])
        there = ops.constant(rows[:, step, None] >= 0, sequences)
        found.append(ops.where(there, chosen, ops.zeros_like(chosen)))
    return ops.concat(found, 1)
