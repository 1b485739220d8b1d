"""Processors against repetition: penalties for tokens that were there, and no group of tokens twice."""

from __future__ import annotations

from typing import Any

from triptych.generation.processors import Processor, check, count, is_number, positive, repeated_rows, tail


def _penalised(ops: Any, scores: Any, penalty: float) -> Any:
    return ops.where(scores < 0, scores * penalty, scores / penalty)


class RepetitionPenalty(Processor):
    """Scores of tokens that were there are divided by `penalty`, negative ones multiplied; above 1 it discourages.

    Args:
        padding: int [inputs], how many positions on the left are padding, which does not count, as in transformers 5;
            None for none.

    Raises:
        ArgumentError: the penalty is not above 0.
    """

    def __init__(self, ops: Any, penalty: float, padding: Any = None) -> None:
        super().__init__(ops)
        self.penalty, self.padding = positive(penalty, "penalty"), padding

    def process(self, ids: Any, scores: Any, length: Any) -> Any:
        places = self.ops.arange(ids.shape[1], ids)
        held = places < length
        if self.padding is not None:
            held = held & (places >= repeated_rows(self.ops, self.padding, scores.shape[0])[:, None])
        there = self.ops.counts(ids, held, scores.shape[-1]) > 0
        return self.ops.where(there, _penalised(self.ops, scores, self.penalty), scores)


class EncoderRepetitionPenalty(Processor):
    """The inverse of a repetition penalty, of the tokens of the encoder's input: above 1 it encourages them.

    Args:
        encoder_input_ids: int [inputs, positions]; each row goes with as many rows of scores as there are beams.

    Raises:
        ArgumentError: the penalty is not above 0.
    """

    def __init__(self, ops: Any, penalty: float, encoder_input_ids: Any) -> None:
        super().__init__(ops)
        self.penalty = 1 / positive(penalty, "penalty")
        self.encoder_input_ids = encoder_input_ids

    def process(self, ids: Any, scores: Any, length: Any) -> Any:
        encoder_ids = repeated_rows(self.ops, self.encoder_input_ids, scores.shape[0])
        there = self.ops.counts(encoder_ids, encoder_ids >= 0, scores.shape[-1]) > 0
        return self.ops.where(there, _penalised(self.ops, scores, self.penalty), scores)


def _completing(ops: Any, text: Any, held: Any, last: list[Any], size: int) -> Any:
    """Return bool [rows, size]: which tokens followed the tokens `last`, each [rows, 1], somewhere in `text`.

    `held` [places], or of the shape of the places, says which places in `text` count, by the token that follows.
    """
    places = text.shape[1] - len(last)
    for step, token in enumerate(last):
        held = held & (text[:, step : step + places] == token)
    return ops.counts(text[:, len(last) :], held, size) > 0


class NoRepeatNGram(Processor):
    """No `ngram_size` tokens in a row come twice.

    Raises:
        ArgumentError: the size is no positive integer.
    """

    def __init__(self, ops: Any, ngram_size: int) -> None:
        super().__init__(ops)
        self.ngram_size = count(ngram_size, "ngram_size")

    def process(self, ids: Any, scores: Any, length: Any) -> Any:
        if ids.shape[1] < self.ngram_size:
            return scores
        before = self.ngram_size - 1
        held = self.ops.arange(ids.shape[1] - before, ids) < length - before
        last = tail(self.ops, ids, length, before)
        banned = _completing(self.ops, ids, held, last, scores.shape[-1])
        return self.ops.where(banned, -float("inf"), scores)


class EncoderNoRepeatNGram(Processor):
    """No `encoder_ngram_size` tokens in a row that are in the encoder's input come.

    Args:
        encoder_input_ids: int [inputs, positions], or [positions] of one input.

    Raises:
        ArgumentError: the size is no positive integer.
    """

    def __init__(self, ops: Any, encoder_ngram_size: int, encoder_input_ids: Any) -> None:
        super().__init__(ops)
        self.ngram_size = count(encoder_ngram_size, "encoder_ngram_size")
        self.encoder_input_ids = encoder_input_ids[None] if len(encoder_input_ids.shape) == 1 else encoder_input_ids

    def process(self, ids: Any, scores: Any, length: Any) -> Any:
        text = repeated_rows(self.ops, self.encoder_input_ids, scores.shape[0])
        before = self.ngram_size - 1
        if text.shape[1] < self.ngram_size or ids.shape[1] < before:
            return scores
        last = tail(self.ops, ids, length, before)
        held = (text[:, before:] >= 0) & (length >= before)
        banned = _completing(self.ops, text, held, last, scores.shape[-1])
        return self.ops.where(banned, -float("inf"), scores)


class HammingDiversity(Processor):
    """In group beam search: scores of a token sink for each beam of the groups before that takes it in this step.

    Raises:
        ArgumentError: the penalty is not above 0, or there are fewer than two beams or groups, or fewer beams.
    """

    needs = ("current_tokens", "beam_group_idx")

    def __init__(self, ops: Any, diversity_penalty: float, num_beams: int, num_beam_groups: int) -> None:
        super().__init__(ops)
        legal = is_number(diversity_penalty) and diversity_penalty > 0
        check(legal, "diversity_penalty", "a number above 0", diversity_penalty)
        self.diversity_penalty = float(diversity_penalty)
        self.num_beams = count(num_beams, "num_beams", least=2)
        groups = count(num_beam_groups, "num_beam_groups", least=2)
        check(groups <= num_beams, "num_beam_groups", f"at most {num_beams}, the beams", num_beam_groups)
        self.group_size = num_beams // groups

    def process(  # type: ignore[override]  # it cannot do without what `needs` says
        self, ids: Any, scores: Any, length: Any, current_tokens: Any, beam_group_idx: Any
    ) -> Any:
        """Return the scores of one group.

        Args:
            scores: [batch * beams of a group, vocabulary].
            current_tokens: int [batch * beams]; those of the groups before are what they take in this step.
            beam_group_idx: the number of the group, from 0.
        """
        ops, size = self.ops, scores.shape[-1]
        by_input = ops.reshape(current_tokens, (-1, self.num_beams))
        before = ops.arange(self.num_beams, ids) < beam_group_idx * self.group_size
        taken = ops.cast(ops.counts(by_input, before, size), scores.dtype)
        return scores - self.diversity_penalty * repeated_rows(ops, taken, scores.shape[0])
