"""What changes the scores of the next token, in TensorFlow: processors, called as in transformers.

What they compute is written once, in `triptych.generation`; here they get the `ops` of TensorFlow, and their
way of being called.
"""

from __future__ import annotations

from typing import Any

from triptych.generation import audio, biases, guidance, lengths, repetition, warpers, watermarks
from triptych.generation.processors import Processor, apply_all
from triptych_tf import ops

__all__ = ["TFLogitsProcessor", "TFLogitsWarper", "TFLogitsProcessorList", "TFMinLengthLogitsProcessor",
           "TFMinNewTokensLengthLogitsProcessor", "TFTemperatureLogitsWarper", "TFRepetitionPenaltyLogitsProcessor",
           "TFEncoderRepetitionPenaltyLogitsProcessor", "TFTopPLogitsWarper", "TFTopKLogitsWarper",
           "TFMinPLogitsWarper", "TFTypicalLogitsWarper", "TFEpsilonLogitsWarper", "TFEtaLogitsWarper",
           "TFNoRepeatNGramLogitsProcessor", "TFEncoderNoRepeatNGramLogitsProcessor",
           "TFSequenceBiasLogitsProcessor", "TFNoBadWordsLogitsProcessor", "TFPrefixConstrainedLogitsProcessor",
           "TFHammingDiversityLogitsProcessor", "TFForcedBOSTokenLogitsProcessor",
           "TFForcedEOSTokenLogitsProcessor", "TFForceTokensLogitsProcessor", "TFInfNanRemoveLogitsProcessor",
           "TFExponentialDecayLengthPenalty", "TFLogitNormalization", "TFSuppressTokensAtBeginLogitsProcessor",
           "TFSuppressTokensLogitsProcessor", "TFWhisperTimeStampLogitsProcessor", "TFWhisperNoSpeechDetection",
           "TFClassifierFreeGuidanceLogitsProcessor", "TFAlternatingCodebooksLogitsProcessor",
           "TFUnbatchedClassifierFreeGuidanceLogitsProcessor", "TFBarkEosPrioritizerLogitsProcessor",
           "TFWatermarkLogitsProcessor", "TFSynthIDTextWatermarkLogitsProcessor"]  # fmt: skip


class TFLogitsProcessor(Processor):
    """Base of all processors: a class of your own has `__call__(self, input_ids, scores, cur_len)`."""

    ops = ops

    def __init__(self) -> None:
        super().__init__(ops)

    def __call__(self, input_ids: Any, scores: Any, cur_len: Any) -> Any:
        """Return the scores after this processor.

        Args:
            input_ids: int [rows, positions], what there is of the texts.
            scores: float [rows, vocabulary] of the next token.
            cur_len: how many of the positions hold tokens; a Python int, or traced.

        Raises:
            MissingMethodError: this is the base class itself. ArgumentError: see the constructor.
        """
        return self.process(input_ids, scores, cur_len)


class TFLogitsWarper(TFLogitsProcessor):
    """Base of the processors for sampling."""


class TFLogitsProcessorList(list[Any]):
    """Processors that are applied one after the other."""

    def __call__(self, input_ids: Any, scores: Any, cur_len: Any, **kwargs: Any) -> Any:
        """Return the scores after all of them; `kwargs` goes to those that have further arguments.

        Raises:
            ArgumentError: one has further arguments that are not in `kwargs`.
        """
        return apply_all(self, (input_ids, scores, cur_len), kwargs)


class TFMinLengthLogitsProcessor(TFLogitsProcessor, lengths.MinLength): ...


class TFMinNewTokensLengthLogitsProcessor(TFLogitsProcessor, lengths.MinNewTokens): ...


class TFTemperatureLogitsWarper(TFLogitsWarper, warpers.Temperature): ...


class TFRepetitionPenaltyLogitsProcessor(TFLogitsProcessor, repetition.RepetitionPenalty): ...


class TFEncoderRepetitionPenaltyLogitsProcessor(TFLogitsProcessor, repetition.EncoderRepetitionPenalty): ...


class TFTopPLogitsWarper(TFLogitsWarper, warpers.TopP): ...


class TFTopKLogitsWarper(TFLogitsWarper, warpers.TopK): ...


class TFMinPLogitsWarper(TFLogitsWarper, warpers.MinP): ...


class TFTypicalLogitsWarper(TFLogitsWarper, warpers.Typical): ...


class TFEpsilonLogitsWarper(TFLogitsWarper, warpers.Epsilon): ...


class TFEtaLogitsWarper(TFLogitsWarper, warpers.Eta): ...


class TFNoRepeatNGramLogitsProcessor(TFLogitsProcessor, repetition.NoRepeatNGram): ...


class TFEncoderNoRepeatNGramLogitsProcessor(TFLogitsProcessor, repetition.EncoderNoRepeatNGram): ...


class TFSequenceBiasLogitsProcessor(TFLogitsProcessor, biases.SequenceBias): ...


class TFNoBadWordsLogitsProcessor(TFLogitsProcessor, biases.NoBadWords): ...


class TFPrefixConstrainedLogitsProcessor(TFLogitsProcessor, guidance.PrefixConstrained): ...


class TFHammingDiversityLogitsProcessor(TFLogitsProcessor, repetition.HammingDiversity):
    def __call__(  # type: ignore[override]
        self, input_ids: Any, scores: Any, cur_len: Any, current_tokens: Any, beam_group_idx: Any
    ) -> Any:
        """Return the scores of one group of beams: see `triptych.generation.repetition.HammingDiversity`."""
        return self.process(input_ids, scores, cur_len, current_tokens, beam_group_idx)


class TFForcedBOSTokenLogitsProcessor(TFLogitsProcessor, lengths.ForcedBOS): ...


class TFForcedEOSTokenLogitsProcessor(TFLogitsProcessor, lengths.ForcedEOS): ...


class TFForceTokensLogitsProcessor(TFLogitsProcessor, lengths.ForceTokens): ...


class TFInfNanRemoveLogitsProcessor(TFLogitsProcessor, warpers.InfNanRemove): ...


class TFExponentialDecayLengthPenalty(TFLogitsProcessor, lengths.ExponentialDecayLengthPenalty): ...


class TFLogitNormalization(TFLogitsProcessor, warpers.LogitNormalization): ...


class TFSuppressTokensAtBeginLogitsProcessor(TFLogitsProcessor, lengths.SuppressTokensAtBegin): ...


class TFSuppressTokensLogitsProcessor(TFLogitsProcessor, lengths.SuppressTokens): ...


class TFWhisperTimeStampLogitsProcessor(TFLogitsProcessor, audio.WhisperTimeStamp): ...


class TFWhisperNoSpeechDetection(TFLogitsProcessor, audio.WhisperNoSpeechDetection): ...


class TFClassifierFreeGuidanceLogitsProcessor(TFLogitsProcessor, guidance.ClassifierFreeGuidance): ...


class TFAlternatingCodebooksLogitsProcessor(TFLogitsProcessor, audio.AlternatingCodebooks): ...


class TFUnbatchedClassifierFreeGuidanceLogitsProcessor(TFLogitsProcessor, guidance.UnbatchedGuidance): ...


class TFBarkEosPrioritizerLogitsProcessor(TFLogitsProcessor, audio.BarkEosPrioritizer): ...


class TFWatermarkLogitsProcessor(TFLogitsProcessor, watermarks.Watermark): ...


class TFSynthIDTextWatermarkLogitsProcessor(TFLogitsProcessor, watermarks.SynthIDTextWatermark): ...
