"""What changes the scores of the next token, in JAX: processors, called as in transformers.

What they compute is written once, in `triptych.generation`; here they get the `ops` of JAX, and their
way of being called.
"""

from __future__ import annotations

from typing import Any

from triptych.generation import audio, biases, guidance, lengths, repetition, warpers, watermarks
from triptych.generation.processors import Processor, apply_all
from triptych_flax import ops

__all__ = ["FlaxLogitsProcessor", "FlaxLogitsWarper", "FlaxLogitsProcessorList", "FlaxMinLengthLogitsProcessor",
           "FlaxMinNewTokensLengthLogitsProcessor", "FlaxTemperatureLogitsWarper",
           "FlaxRepetitionPenaltyLogitsProcessor", "FlaxEncoderRepetitionPenaltyLogitsProcessor",
           "FlaxTopPLogitsWarper", "FlaxTopKLogitsWarper", "FlaxMinPLogitsWarper", "FlaxTypicalLogitsWarper",
           "FlaxEpsilonLogitsWarper", "FlaxEtaLogitsWarper", "FlaxNoRepeatNGramLogitsProcessor",
           "FlaxEncoderNoRepeatNGramLogitsProcessor", "FlaxSequenceBiasLogitsProcessor",
           "FlaxNoBadWordsLogitsProcessor", "FlaxPrefixConstrainedLogitsProcessor",
           "FlaxHammingDiversityLogitsProcessor", "FlaxForcedBOSTokenLogitsProcessor",
           "FlaxForcedEOSTokenLogitsProcessor", "FlaxForceTokensLogitsProcessor", "FlaxInfNanRemoveLogitsProcessor",
           "FlaxExponentialDecayLengthPenalty", "FlaxLogitNormalization",
           "FlaxSuppressTokensAtBeginLogitsProcessor", "FlaxSuppressTokensLogitsProcessor",
           "FlaxWhisperTimeStampLogitsProcessor", "FlaxWhisperNoSpeechDetection",
           "FlaxClassifierFreeGuidanceLogitsProcessor", "FlaxAlternatingCodebooksLogitsProcessor",
           "FlaxUnbatchedClassifierFreeGuidanceLogitsProcessor", "FlaxBarkEosPrioritizerLogitsProcessor",
           "FlaxWatermarkLogitsProcessor", "FlaxSynthIDTextWatermarkLogitsProcessor"]  # fmt: skip


class FlaxLogitsProcessor(Processor):
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


class FlaxLogitsWarper(FlaxLogitsProcessor):
    """Base of the processors for sampling."""


class FlaxLogitsProcessorList(list[Any]):
    """Processors that are applied one after the other."""

    def __call__(self, input_ids: Any, scores: Any, cur_len: Any, **kwargs: Any) -> Any:
        """Return the scores after all of them; `kwargs` goes to those that have further arguments.

        Raises:
            ArgumentError: one has further arguments that are not in `kwargs`.
        """
        return apply_all(self, (input_ids, scores, cur_len), kwargs)


class FlaxMinLengthLogitsProcessor(FlaxLogitsProcessor, lengths.MinLength): ...


class FlaxMinNewTokensLengthLogitsProcessor(FlaxLogitsProcessor, lengths.MinNewTokens): ...


class FlaxTemperatureLogitsWarper(FlaxLogitsWarper, warpers.Temperature): ...


class FlaxRepetitionPenaltyLogitsProcessor(FlaxLogitsProcessor, repetition.RepetitionPenalty): ...


class FlaxEncoderRepetitionPenaltyLogitsProcessor(FlaxLogitsProcessor, repetition.EncoderRepetitionPenalty): ...


class FlaxTopPLogitsWarper(FlaxLogitsWarper, warpers.TopP): ...


class FlaxTopKLogitsWarper(FlaxLogitsWarper, warpers.TopK): ...


class FlaxMinPLogitsWarper(FlaxLogitsWarper, warpers.MinP): ...


class FlaxTypicalLogitsWarper(FlaxLogitsWarper, warpers.Typical): ...


class FlaxEpsilonLogitsWarper(FlaxLogitsWarper, warpers.Epsilon): ...


class FlaxEtaLogitsWarper(FlaxLogitsWarper, warpers.Eta): ...


class FlaxNoRepeatNGramLogitsProcessor(FlaxLogitsProcessor, repetition.NoRepeatNGram): ...


class FlaxEncoderNoRepeatNGramLogitsProcessor(FlaxLogitsProcessor, repetition.EncoderNoRepeatNGram): ...


class FlaxSequenceBiasLogitsProcessor(FlaxLogitsProcessor, biases.SequenceBias): ...


class FlaxNoBadWordsLogitsProcessor(FlaxLogitsProcessor, biases.NoBadWords): ...


class FlaxPrefixConstrainedLogitsProcessor(FlaxLogitsProcessor, guidance.PrefixConstrained): ...


class FlaxHammingDiversityLogitsProcessor(FlaxLogitsProcessor, repetition.HammingDiversity):
    def __call__(  # type: ignore[override]
        self, input_ids: Any, scores: Any, cur_len: Any, current_tokens: Any, beam_group_idx: Any
    ) -> Any:
        """Return the scores of one group of beams: see `triptych.generation.repetition.HammingDiversity`."""
        return self.process(input_ids, scores, cur_len, current_tokens, beam_group_idx)


class FlaxForcedBOSTokenLogitsProcessor(FlaxLogitsProcessor, lengths.ForcedBOS): ...


class FlaxForcedEOSTokenLogitsProcessor(FlaxLogitsProcessor, lengths.ForcedEOS): ...


class FlaxForceTokensLogitsProcessor(FlaxLogitsProcessor, lengths.ForceTokens): ...


class FlaxInfNanRemoveLogitsProcessor(FlaxLogitsProcessor, warpers.InfNanRemove): ...


class FlaxExponentialDecayLengthPenalty(FlaxLogitsProcessor, lengths.ExponentialDecayLengthPenalty): ...


class FlaxLogitNormalization(FlaxLogitsProcessor, warpers.LogitNormalization): ...


class FlaxSuppressTokensAtBeginLogitsProcessor(FlaxLogitsProcessor, lengths.SuppressTokensAtBegin): ...


class FlaxSuppressTokensLogitsProcessor(FlaxLogitsProcessor, lengths.SuppressTokens): ...


class FlaxWhisperTimeStampLogitsProcessor(FlaxLogitsProcessor, audio.WhisperTimeStamp):
    """As in the other frameworks; its arguments are those that transformers had in Flax.

    Args:
        generate_config: see `triptych.generation.audio.WhisperTimeStamp`; and whether it `is_multilingual`.
        model_config: has no effect.
        decoder_input_length: length of the prompt, before the forced tokens.
    """

    def __init__(self, generate_config: Any, model_config: Any, decoder_input_length: int) -> None:
        begin = decoder_input_length + 1 + (2 if generate_config.is_multilingual else 0)
        audio.WhisperTimeStamp.__init__(self, ops, generate_config, begin)


class FlaxWhisperNoSpeechDetection(FlaxLogitsProcessor, audio.WhisperNoSpeechDetection): ...


class FlaxClassifierFreeGuidanceLogitsProcessor(FlaxLogitsProcessor, guidance.ClassifierFreeGuidance): ...


class FlaxAlternatingCodebooksLogitsProcessor(FlaxLogitsProcessor, audio.AlternatingCodebooks): ...


class FlaxUnbatchedClassifierFreeGuidanceLogitsProcessor(FlaxLogitsProcessor, guidance.UnbatchedGuidance): ...


class FlaxBarkEosPrioritizerLogitsProcessor(FlaxLogitsProcessor, audio.BarkEosPrioritizer): ...


class FlaxWatermarkLogitsProcessor(FlaxLogitsProcessor, watermarks.Watermark): ...


class FlaxSynthIDTextWatermarkLogitsProcessor(FlaxLogitsProcessor, watermarks.SynthIDTextWatermark): ...
