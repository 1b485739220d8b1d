"""Processors for models of speech and sound (Whisper, Bark), which authors bring along."""

from __future__ import annotations

from typing import Any

import numpy as np

from triptych.errors import ArgumentError
from triptych.generation.lengths import without
from triptych.generation.processors import Processor, among, check, count, is_number, tokens, when


class BarkEosPrioritizer(Processor):
    """Only the end of the text may come where its probability is above `min_eos_p`.

    Args:
        eos_token_id: the token that ends a text, or several.
        min_eos_p: None or above 0.
        device: has no effect; tokens are where the scores are.

    Raises:
        ArgumentError: these are no tokens, or the probability is not above 0.
    """

    def __init__(self, ops: Any, eos_token_id: Any, min_eos_p: float | None, device: Any = None) -> None:
        super().__init__(ops)
        self.eos_token_id = tokens(eos_token_id, "eos_token_id")
        legal = min_eos_p is None or (is_number(min_eos_p) and min_eos_p > 0)
        check(legal, "min_eos_p", "a number above 0, or None", min_eos_p)
        self.min_eos_p = min_eos_p

    def process(self, ids: Any, scores: Any, length: Any) -> Any:
        if self.min_eos_p is None:
            return scores
        ops, ends = self.ops, among(self.ops, self.eos_token_id, scores)
        likely = ops.max_last(ops.where(ends, ops.softmax(scores, "float32"), 0.0)) > self.min_eos_p
        return ops.where(likely & ~ends, -float("inf"), scores)


class AlternatingCodebooks(Processor):
    """New tokens are of one codebook and of the other in turn.

    Args:
        input_start_len: length of the prompt.
        semantic_vocab_size: number of tokens below those of the codebooks.
        codebook_size: number of tokens of the first codebook; the second has all above.

    Raises:
        ArgumentError: a size is no integer from 0.
    """

    def __init__(self, ops: Any, input_start_len: int, semantic_vocab_size: int, codebook_size: int) -> None:
        super().__init__(ops)
        self.input_start_len = count(input_start_len, "input_start_len", least=0)
        self.semantic_vocab_size = count(semantic_vocab_size, "semantic_vocab_size", least=0)
        self.codebook_size = count(codebook_size, "codebook_size", least=0)

    def process(self, ids: Any, scores: Any, length: Any) -> Any:
        size, low = scores.shape[-1], self.semantic_vocab_size
        high = low + self.codebook_size
        second = without(self.ops, range(high), scores)
        first = (length - self.input_start_len) % 2 == 0
        return when(self.ops, first, lambda: without(self.ops, [*range(low), *range(high, size)], scores), second)


class WhisperTimeStamp(Processor):
    """Timestamps come in pairs and in order, and where they are likelier together than any text.

    Args:
        generate_config: has `no_timestamps_token_id`, below the timestamps; `eos_token_id` or `bos_token_id`;
            `forced_decoder_ids`, and if it likes `max_initial_timestamp_index`.
        begin_index: where the text begins; by default after the forced tokens.
    """

    def __init__(
        self,
        ops: Any,
        generate_config: Any,
        begin_index: int | None = None,
        _detect_timestamp_from_logprob: bool | None = None,
    ) -> None:
        super().__init__(ops)
        self.no_timestamps_token_id = int(generate_config.no_timestamps_token_id)
        self.timestamp_begin = self.no_timestamps_token_id + 1
        ends = generate_config.eos_token_id or generate_config.bos_token_id
        self.eos_token_id = tokens(ends, "eos_token_id")[0]
        by_probability = _detect_timestamp_from_logprob
        if by_probability is None:
            by_probability = getattr(generate_config, "_detect_timestamp_from_logprob", True)
        self.by_probability = bool(by_probability)
        self.begin_index = begin_index or len(getattr(generate_config, "forced_decoder_ids", None) or ()) + 1
        self.max_initial_timestamp_index = getattr(generate_config, "max_initial_timestamp_index", None)

    def set_begin_index(self, begin_index: int) -> None:
        """Let the text begin elsewhere from now on."""
        self.begin_index = begin_index

    def process(self, ids: Any, scores: Any, length: Any) -> Any:
        scores = without(self.ops, [self.no_timestamps_token_id], scores)
        scores = self._paired(ids, scores, length)
        scores = when(self.ops, length == self.begin_index, lambda: self._initial(scores), scores)
        return self._likelier(scores) if self.by_probability else scores

    def _paired(self, ids: Any, scores: Any, length: Any) -> Any:
        """Let timestamps come in pairs, none before the last one."""
        ops, begin = self.ops, self.timestamp_begin
        place, token = ops.arange(ids.shape[1], ids), ops.arange(scores.shape[-1], scores)
        stamped = (ids >= begin) & (place >= self.begin_index) & (place < length)
        last, before = (_any(ops, stamped & (place == length - step)) for step in (1, 2))
        before = before | (length - self.begin_index < 2)
        banned = (last & before & (token >= begin)) | (last & ~before & (token < self.eos_token_id))
        newest = ops.max_last(ops.where(stamped, place, -1))
        latest = ops.cast(ops.max_last(ops.where(stamped & (place == newest), ids, -1)), token.dtype)
        open_pair = last & ~before
        below = (token < latest) | ((token == latest) & ~open_pair)
        banned = banned | (_any(ops, stamped) & (token >= begin) & below)
        return ops.where(banned, -float("inf"), scores)

    def _initial(self, scores: Any) -> Any:
        """Let the text begin with a timestamp, not too late a one."""
        size, last = scores.shape[-1], scores.shape[-1]
        if self.max_initial_timestamp_index is not None:
            last = self.timestamp_begin + self.max_initial_timestamp_index + 1
        return without(self.ops, [*range(self.timestamp_begin), *range(last, size)], scores)

    def _likelier(self, scores: Any) -> Any:
        """Let only a timestamp come where all of them are likelier than any one token of text."""
        ops = self.ops
        text = ops.constant(np.arange(scores.shape[-1]) < self.timestamp_begin, scores)
        probabilities = ops.softmax(scores, "float32")
        of_text = ops.max_last(ops.where(text, probabilities, 0.0))
        stamps = ops.sum_last(ops.where(text, 0.0, probabilities))
        return ops.where((stamps > of_text) & text, -float("inf"), scores)


def _any(ops: Any, x: Any) -> Any:
    """Return bool [rows, 1]: whether any of the last axis is true."""
    return ops.max_last(ops.cast(x, "int32")) > 0


class WhisperNoSpeechDetection(Processor):
    """Scores stay; the probability that there is no speech is kept, for `no_speech_prob`.

    Args:
        no_speech_token: the token that says so.
        begin_index: where the text begins.
        scores_is_logprobs: whether scores are logarithms of probabilities.

    Raises:
        ArgumentError: the token is none; or, in the call, a model is needed and there is none.
    """

    eager_only = True

    def __init__(self, ops: Any, no_speech_token: int, begin_index: int, scores_is_logprobs: bool = False) -> None:
        super().__init__(ops)
        self.no_speech_token = count(no_speech_token, "no_speech_token", least=0)
        self.start_of_trans_offset = self.begin_index = begin_index
        self.is_scores_logprobs = scores_is_logprobs
        self.model: Any = None
        self.inputs: Any = None
        self._no_speech_prob: Any = [0.0]

    def set_model(self, model: Any) -> None:
        """Set the model that is asked where the text begins after its first position."""
        self.model = model

    def set_inputs(self, inputs: Any) -> None:
        """Set the model's inputs, of which `inputs` are the features."""
        self.inputs = {**self.model.prepare_inputs_for_generation(**inputs), **inputs}
        self.inputs["input_features"] = self.inputs.pop("inputs")

    @property
    def no_speech_prob(self) -> Any:
        """The probability [rows] that there is no speech."""
        return self._no_speech_prob

    def set_begin_index(self, begin_index: int) -> None:
        """Let the text begin elsewhere from now on."""
        self.begin_index = begin_index

    def process(self, ids: Any, scores: Any, length: Any) -> Any:
        if length == self.begin_index:
            asked, logs = self._asked(scores)
            probabilities = self.ops.exp(asked) if logs else self.ops.softmax(asked, "float32")
            self._no_speech_prob = probabilities[:, self.no_speech_token]
        return scores

    def _asked(self, scores: Any) -> tuple[Any, bool]:
        """Return the scores that tell, and whether they are logarithms of probabilities."""
        if self.start_of_trans_offset <= 1:
            return scores, self.is_scores_logprobs
        if self.model is None or self.inputs is None:
            raise ArgumentError(
                "Whether there is speech cannot be asked of a model.",
                expected="a model and its inputs",
                received="neither, or one of them",
                remedy="call set_model and set_inputs before",
            )
        return self.model(**self.inputs).logits[:, self.begin_index - self.start_of_trans_offset], False
