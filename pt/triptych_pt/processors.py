"""What changes the scores of the next token, in PyTorch: processors, called as in transformers.

What they compute is written once, in `triptych.generation`; here they get the `ops` of PyTorch, and their
way of being called.
"""

from __future__ import annotations

from typing import Any

from triptych.generation import audio, biases, guidance, lengths, repetition, warpers, watermarks
from triptych.generation.processors import Processor, apply_all
from triptych_pt import ops

__all__ = ["LogitsProcessor", "LogitsWarper", "LogitsProcessorList", "MinLengthLogitsProcessor",
           "MinNewTokensLengthLogitsProcessor", "TemperatureLogitsWarper", "RepetitionPenaltyLogitsProcessor",
           "EncoderRepetitionPenaltyLogitsProcessor", "TopPLogitsWarper", "TopKLogitsWarper", "MinPLogitsWarper",
           "TypicalLogitsWarper", "EpsilonLogitsWarper", "EtaLogitsWarper", "NoRepeatNGramLogitsProcessor",
           "EncoderNoRepeatNGramLogitsProcessor", "SequenceBiasLogitsProcessor", "NoBadWordsLogitsProcessor",
           "PrefixConstrainedLogitsProcessor", "HammingDiversityLogitsProcessor", "ForcedBOSTokenLogitsProcessor",
           "ForcedEOSTokenLogitsProcessor", "ForceTokensLogitsProcessor", "InfNanRemoveLogitsProcessor",
           "ExponentialDecayLengthPenalty", "LogitNormalization", "SuppressTokensAtBeginLogitsProcessor",
           "SuppressTokensLogitsProcessor", "WhisperTimeStampLogitsProcessor", "WhisperNoSpeechDetection",
           "ClassifierFreeGuidanceLogitsProcessor", "AlternatingCodebooksLogitsProcessor",
           "UnbatchedClassifierFreeGuidanceLogitsProcessor", "BarkEosPrioritizerLogitsProcessor",
           "WatermarkLogitsProcessor", "SynthIDTextWatermarkLogitsProcessor"]  # fmt: skip


class LogitsProcessor(Processor):
    """Base of all processors: a class of your own has `__call__(self, input_ids, scores)`."""

    ops = ops

    def __init__(self) -> None:
        super().__init__(ops)

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Return the scores after this processor.

        Args:
            input_ids: int [rows, positions], what there is of the texts.
            scores: float [rows, vocabulary] of the next token.

        Raises:
            MissingMethodError: this is the base class itself. ArgumentError: see the constructor.
        """
        return self.process(input_ids, scores, input_ids.shape[1])


class LogitsWarper(LogitsProcessor):
    """Base of the processors for sampling."""


class LogitsProcessorList(list[Any]):
    """Processors that are applied one after the other."""

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        """Return the scores after all of them; `kwargs` goes to those that have further arguments.

        Raises:
            ArgumentError: one has further arguments that are not in `kwargs`.
        """
        return apply_all(self, (input_ids, scores), kwargs)


class MinLengthLogitsProcessor(LogitsProcessor, lengths.MinLength): ...


class MinNewTokensLengthLogitsProcessor(LogitsProcessor, lengths.MinNewTokens): ...


class TemperatureLogitsWarper(LogitsWarper, warpers.Temperature): ...


class RepetitionPenaltyLogitsProcessor(LogitsProcessor, repetition.RepetitionPenalty): ...


class EncoderRepetitionPenaltyLogitsProcessor(LogitsProcessor, repetition.EncoderRepetitionPenalty): ...


class TopPLogitsWarper(LogitsWarper, warpers.TopP): ...


class TopKLogitsWarper(LogitsWarper, warpers.TopK): ...


class MinPLogitsWarper(LogitsWarper, warpers.MinP): ...


class TypicalLogitsWarper(LogitsWarper, warpers.Typical): ...


class EpsilonLogitsWarper(LogitsWarper, warpers.Epsilon): ...


class EtaLogitsWarper(LogitsWarper, warpers.Eta): ...


class NoRepeatNGramLogitsProcessor(LogitsProcessor, repetition.NoRepeatNGram): ...


class EncoderNoRepeatNGramLogitsProcessor(LogitsProcessor, repetition.EncoderNoRepeatNGram): ...


class SequenceBiasLogitsProcessor(LogitsProcessor, biases.SequenceBias): ...


class NoBadWordsLogitsProcessor(LogitsProcessor, biases.NoBadWords): ...


class PrefixConstrainedLogitsProcessor(LogitsProcessor, guidance.PrefixConstrained): ...


class HammingDiversityLogitsProcessor(LogitsProcessor, repetition.HammingDiversity):
    def __call__(  # type: ignore[override]
        self, input_ids: Any, scores: Any, current_tokens: Any, beam_group_idx: Any
    ) -> Any:
        """Return the scores of one group of beams: see `triptych.generation.repetition.HammingDiversity`."""
        return self.process(input_ids, scores, input_ids.shape[1], current_tokens, beam_group_idx)


class ForcedBOSTokenLogitsProcessor(LogitsProcessor, lengths.ForcedBOS): ...


class ForcedEOSTokenLogitsProcessor(LogitsProcessor, lengths.ForcedEOS): ...


class ForceTokensLogitsProcessor(LogitsProcessor, lengths.ForceTokens): ...


class InfNanRemoveLogitsProcessor(LogitsProcessor, warpers.InfNanRemove): ...


class ExponentialDecayLengthPenalty(LogitsProcessor, lengths.ExponentialDecayLengthPenalty): ...


class LogitNormalization(LogitsProcessor, warpers.LogitNormalization): ...


class SuppressTokensAtBeginLogitsProcessor(LogitsProcessor, lengths.SuppressTokensAtBegin): ...


class SuppressTokensLogitsProcessor(LogitsProcessor, lengths.SuppressTokens): ...


class WhisperTimeStampLogitsProcessor(LogitsProcessor, audio.WhisperTimeStamp): ...


class WhisperNoSpeechDetection(LogitsProcessor, audio.WhisperNoSpeechDetection): ...


class ClassifierFreeGuidanceLogitsProcessor(LogitsProcessor, guidance.ClassifierFreeGuidance): ...


class AlternatingCodebooksLogitsProcessor(LogitsProcessor, audio.AlternatingCodebooks): ...


class UnbatchedClassifierFreeGuidanceLogitsProcessor(LogitsProcessor, guidance.UnbatchedGuidance): ...


class BarkEosPrioritizerLogitsProcessor(LogitsProcessor, audio.BarkEosPrioritizer): ...


class WatermarkLogitsProcessor(LogitsProcessor, watermarks.Watermark): ...


class SynthIDTextWatermarkLogitsProcessor(LogitsProcessor, watermarks.SynthIDTextWatermark): ...
