"""Which processors a `GenerationConfig` asks for, and in which order: decided here, once for all frameworks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from triptych.errors import ArgumentError, ConfigError
from triptych.generation import warpers as warping
from triptych.generation.biases import NoBadWords, SequenceBias
from triptych.generation.config import GenerationConfig
from triptych.generation.guidance import PrefixConstrained, UnbatchedGuidance
from triptych.generation.lengths import (
    ExponentialDecayLengthPenalty,
    ForcedBOS,
    ForcedEOS,
    ForceTokens,
    MinLength,
    MinNewTokens,
    SuppressTokens,
    SuppressTokensAtBegin,
)
from triptych.generation.options import SynthIDTextWatermarkingConfig, WatermarkingConfig
from triptych.generation.processors import Custom, Processor, ProcessorList
from triptych.generation.repetition import (
    EncoderNoRepeatNGram,
    EncoderRepetitionPenalty,
    HammingDiversity,
    NoRepeatNGram,
    RepetitionPenalty,
)
from triptych.generation.watermarks import SynthIDTextWatermark, Watermark

logger = logging.getLogger("triptych")


def processors_for(
    ops: Any,
    generation_config: GenerationConfig,
    *,
    prompt_length: Any,
    eos_token_ids: Sequence[int] | None = None,
    vocab_size: int | None = None,
    encoder_ids: Any = None,
    padding: Any = None,
    prefix_allowed_tokens_fn: Callable[[int, Any], Any] | None = None,
    custom: Iterable[Callable[..., Any]] | None = None,
    unconditional: Callable[[Any, Any], Any] | None = None,
) -> tuple[ProcessorList, ProcessorList]:
    """Return the processors and, to be applied after them, the warpers that a config asks for, in order.

    Args:
        prompt_length: positions of the prompt, of a decoder's where there is an encoder; in a compiled loop a scalar.
        eos_token_ids: tokens that end a text, or None.
        vocab_size: that of the model's config; watermarks need it.
        encoder_ids: int [inputs, positions] of the encoder; of a decoder alone, its prompt; None if there are none.
        padding: int [inputs], how many positions of each prompt are padding on its left; None for none.
        prefix_allowed_tokens_fn: see `PrefixConstrained`.
        custom: processors of the user, which come after those of the config.
        unconditional: see `UnbatchedGuidance`; `guidance_scale` needs it.

    Raises:
        ArgumentError: a value of the config or an argument is impossible, or a custom processor is there already.
        ConfigError: the config asks for what needs something that is not there.
    """
    made = _Making(ops, generation_config, prompt_length, None if eos_token_ids is None else list(eos_token_ids))
    processors = ProcessorList(
        [
            *made.guided(unconditional),
            *made.against_repetition(encoder_ids, padding),
            *made.of_tokens(),
            *made.of_lengths(),
            *made.constrained(prefix_allowed_tokens_fn),
            *made.forced(),
        ]
    )
    processors += _customs(ops, processors, custom or ())
    return processors, ProcessorList([*made.warpers(), *made.watermark(vocab_size), *made.renormalised()])


class _Making:
    """Makes the processors of a config, each group in order."""

    def __init__(self, ops: Any, config: GenerationConfig, prompt_length: Any, eos: list[int] | None) -> None:
        self.ops, self.config, self.prompt_length, self.eos = ops, config, prompt_length, eos
        self.beams, self.groups = config.num_beams or 1, config.num_beam_groups or 1

    def guided(self, unconditional: Callable[[Any, Any], Any] | None) -> Iterator[Processor]:
        if self.config.guidance_scale in (None, 1):
            return
        if unconditional is None:
            raise ConfigError(
                "`guidance_scale` needs the scores of the text without its prompt.",
                expected="`unconditional`",
                received=f"guidance_scale={self.config.guidance_scale!r} alone",
                remedy="set guidance_scale to None",
            )
        yield UnbatchedGuidance(self.ops, self.config.guidance_scale, unconditional=unconditional)

    def against_repetition(self, encoder_ids: Any, padding: Any) -> Iterator[Processor]:
        ops, config = self.ops, self.config
        if config.sequence_bias is not None:
            yield SequenceBias(ops, config.sequence_bias)
        if config.diversity_penalty is not None and config.diversity_penalty > 0:
            yield HammingDiversity(ops, config.diversity_penalty, self.beams, self.groups)
        if config.encoder_repetition_penalty not in (None, 1) and _has_ids(encoder_ids, "encoder_repetition_penalty"):
            yield EncoderRepetitionPenalty(ops, config.encoder_repetition_penalty, encoder_ids)
        if config.repetition_penalty not in (None, 1):
            yield RepetitionPenalty(ops, config.repetition_penalty, padding)
        if (config.no_repeat_ngram_size or 0) > 0:
            yield NoRepeatNGram(ops, config.no_repeat_ngram_size)
        size = config.encoder_no_repeat_ngram_size
        if (size or 0) > 0 and _has_ids(encoder_ids, "encoder_no_repeat_ngram_size"):
            yield EncoderNoRepeatNGram(ops, size, encoder_ids)

    def of_tokens(self) -> Iterator[Processor]:
        if self.config.bad_words_ids is not None:
            yield NoBadWords(self.ops, self.config.bad_words_ids, self.eos)

    def of_lengths(self) -> Iterator[Processor]:
        if self.eos is not None and (self.config.min_length or 0) > 0:
            yield MinLength(self.ops, self.config.min_length, self.eos)
        if self.eos is not None and (self.config.min_new_tokens or 0) > 0:
            yield MinNewTokens(self.ops, self.prompt_length, self.config.min_new_tokens, self.eos)

    def constrained(self, prefix_allowed_tokens_fn: Callable[[int, Any], Any] | None) -> Iterator[Processor]:
        if prefix_allowed_tokens_fn is not None:
            yield PrefixConstrained(self.ops, prefix_allowed_tokens_fn, self.beams // self.groups)

    def forced(self) -> Iterator[Processor]:
        ops, config = self.ops, self.config
        if config.forced_bos_token_id is not None:
            yield ForcedBOS(ops, config.forced_bos_token_id)
        if config.forced_eos_token_id is not None:
            yield ForcedEOS(ops, config.max_length, config.forced_eos_token_id)
        if config.remove_invalid_values is True:
            yield warping.InfNanRemove(ops)
        if config.exponential_decay_length_penalty is not None:
            yield self._decay()
        if config.suppress_tokens is not None:
            yield SuppressTokens(ops, config.suppress_tokens)
        if config.begin_suppress_tokens is not None:
            yield SuppressTokensAtBegin(ops, config.begin_suppress_tokens, self._begin())
        if config.forced_decoder_ids is not None:
            yield ForceTokens(ops, config.forced_decoder_ids)

    def _decay(self) -> Processor:
        penalty = self.config.exponential_decay_length_penalty
        if self.eos is None:
            raise ConfigError(
                "`exponential_decay_length_penalty` needs a token that ends the text.",
                expected="eos_token_id",
                received=f"exponential_decay_length_penalty={penalty!r} alone",
                remedy="set eos_token_id",
            )
        return ExponentialDecayLengthPenalty(self.ops, penalty, self.eos, self.prompt_length)

    def _begin(self) -> Any:
        """Return how many tokens there are before the first that is free."""
        begin, forced = self.prompt_length, self.config.forced_decoder_ids
        if self.config.forced_bos_token_id is not None:
            short = begin <= 1
            begin = begin + (int(short) if isinstance(short, bool) else self.ops.cast(short, "int32"))
        return begin + (forced[-1][0] if forced else 0)

    def warpers(self) -> Iterator[Processor]:
        ops, config = self.ops, self.config
        if not config.do_sample:
            return
        keep = {"min_tokens_to_keep": 1 if self.beams == 1 else len([0] if self.eos is None else self.eos) + 1}
        if config.temperature not in (None, 1):
            yield warping.Temperature(ops, config.temperature)
        if config.top_k not in (None, 0):
            yield warping.TopK(ops, config.top_k, **keep)
        if config.top_p is not None and config.top_p < 1:
            yield warping.TopP(ops, config.top_p, **keep)
        if config.min_p is not None:
            yield warping.MinP(ops, config.min_p, **keep)
        if config.typical_p is not None and config.typical_p < 1:
            yield warping.Typical(ops, config.typical_p, **keep)
        if config.epsilon_cutoff is not None and 0 < config.epsilon_cutoff < 1:
            yield warping.Epsilon(ops, config.epsilon_cutoff, **keep)
        if config.eta_cutoff is not None and 0 < config.eta_cutoff < 1:
            yield warping.Eta(ops, config.eta_cutoff, **keep)

    def watermark(self, vocab_size: int | None) -> Iterator[Processor]:
        mark = self.config.watermarking_config
        if isinstance(mark, WatermarkingConfig):
            if vocab_size is None:
                raise ConfigError("A watermark needs the size of the vocabulary.", expected="vocab_size of the model")
            yield Watermark(self.ops, vocab_size, **mark.to_dict())
        elif isinstance(mark, SynthIDTextWatermarkingConfig):
            yield SynthIDTextWatermark(self.ops, **mark.to_dict())

    def renormalised(self) -> Iterator[Processor]:
        if self.config.renormalize_logits is True:
            yield warping.LogitNormalization(self.ops)


def _has_ids(encoder_ids: Any, name: str) -> bool:
    if encoder_ids is not None and len(encoder_ids.shape) == 2:
        return True
    logger.warning("generation config: %s needs tokens as input, and has no effect", name)
    return False


def _customs(ops: Any, made: Iterable[Processor], custom: Iterable[Callable[..., Any]]) -> list[Processor]:
    """Return the user's processors as those here are; none may be of a kind that the config asked for."""
    found = list(custom)
    there = {type(one) for one in made}
    for one in found:
        if twice := there & {type(one), *type(one).__bases__}:
            raise ArgumentError(
                f"There are two processors of one kind: {type(one).__name__} was passed, and the generation config "
                f"asks for {twice.pop().__name__}.",
                remedy="pass no processor of this kind, or set the parameter of the config to its default",
            )
    return [Custom(ops, one) for one in found]
