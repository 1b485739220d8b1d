"""The parameters of a `GenerationConfig`: their defaults, what they may be, which way of generating they ask for."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from triptych.config import GENERATION_DEFAULTS
from triptych.errors import ConfigError
from triptych.generation.options import watermarking

logger = logging.getLogger("triptych")

DEFAULTS: Mapping[str, Any] = {
    **GENERATION_DEFAULTS,
    "max_new_tokens": None,
    "min_new_tokens": None,
    "max_time": None,
    "stop_strings": None,
    "penalty_alpha": None,
    "dola_layers": None,
    "use_cache": True,
    "cache_implementation": None,
    "cache_config": None,
    "return_legacy_cache": None,
    "prefill_chunk_size": None,
    "min_p": None,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "encoder_repetition_penalty": 1.0,
    "force_words_ids": None,
    "renormalize_logits": False,
    "constraints": None,
    "forced_decoder_ids": None,
    "sequence_bias": None,
    "token_healing": False,
    "guidance_scale": None,
    "low_memory": None,
    "watermarking_config": None,
    "output_attentions": False,
    "output_hidden_states": False,
    "output_logits": None,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
    "decoder_start_token_id": None,
    "is_assistant": False,
    "num_assistant_tokens": 20,
    "num_assistant_tokens_schedule": "constant",
    "assistant_confidence_threshold": 0.4,
    "prompt_lookup_num_tokens": None,
    "max_matching_ngram_size": None,
    "assistant_early_exit": None,
    "assistant_lookbehind": 10,
    "target_lookbehind": 10,
    "compile_config": None,
    "disable_compile": False,
    "generation_kwargs": {},
}

_CACHES = ("static", "offloaded_static", "sliding_window", "hybrid", "mamba", "quantized", "dynamic", "offloaded",
           "hybrid_chunked", "offloaded_hybrid", "offloaded_hybrid_chunked", "dynamic_full")  # fmt: skip
_OF_GENERATE = ("logits_processor", "stopping_criteria", "prefix_allowed_tokens_fn", "synced_gpus", "assistant_model",
                "streamer", "negative_prompt_ids", "negative_prompt_attention_mask", "use_model_defaults")  # fmt: skip
_OF_SAMPLING = ("temperature", "top_p", "min_p", "typical_p", "top_k", "epsilon_cutoff", "eta_cutoff")
_OF_BEAMS = ("early_stopping", "num_beam_groups", "diversity_penalty", "length_penalty", "constraints")


class Parameters:
    """Part of `GenerationConfig`: what its parameters may be, and what they mean together."""

    extra_output_flags = ("output_attentions", "output_hidden_states", "output_scores", "output_logits")

    if TYPE_CHECKING:  # the parameters are those of `DEFAULTS`, and whatever others were given

        def __getattr__(self, name: str) -> Any: ...

        def __setattr__(self, name: str, value: Any) -> None: ...

    def validate(self, is_init: bool = False, strict: bool = False) -> None:
        """Raise for parameters that cannot be meant; warn of those that have no effect, or with `strict` raise too.

        Raises:
            ConfigError.
        """
        self.watermarking_config: Any = watermarking(vars(self)["watermarking_config"])
        if error := self._error():
            raise ConfigError(f"The generation config is impossible: {error}.")
        minor = self._without_effect()
        if minor and strict:
            raise ConfigError(
                "The generation config has parameters without effect.",
                received="; ".join(minor),
                remedy="set them to their defaults, or set what they need",
            )
        for text in minor:
            logger.warning("generation config: %s", text)

    def _error(self) -> str:
        """Return what cannot be meant, or an empty text."""
        beams, sequences, tokens = self.num_beams, self.num_return_sequences, self.max_new_tokens
        if not isinstance(self.early_stopping, (bool, type(None))) and self.early_stopping != "never":
            return f"early_stopping is {self.early_stopping!r}, neither a boolean nor 'never'"
        for name in ("max_length", "min_length", "max_new_tokens", "num_beams", "num_beam_groups",
                     "num_return_sequences"):  # fmt: skip
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                return f"{name} is {value!r}, no integer"
        for name in ("top_k", "penalty_alpha"):
            if not isinstance(getattr(self, name), (int, float, type(None))):
                return f"{name} is {getattr(self, name)!r}, no number"
        if tokens is not None and tokens <= 0:
            return f"max_new_tokens is {tokens}, not positive"
        if self.cache_implementation is not None and self.cache_implementation not in _CACHES:
            return f"cache_implementation is {self.cache_implementation!r}, none of {', '.join(_CACHES)}"
        if self.compile_config is not None and not hasattr(self.compile_config, "fullgraph"):
            return f"compile_config is {self.compile_config!r}, no CompileConfig"
        if sequences not in (None, 1):
            if beams in (None, 1) and not self.do_sample:
                return f"num_return_sequences is {sequences}, but greedy search finds one"
            if (beams or 1) > 1 and sequences > beams:
                return f"num_return_sequences is {sequences}, of {beams} beams"
        stray = next((name for name in _OF_GENERATE if name in self.__dict__), None)
        return f"{stray} is an argument of generate, not of the config" if stray else ""

    def _without_effect(self) -> list[str]:
        """Return which parameters have no effect, and why."""
        found = []
        if not self.do_sample:
            contrastive = self.penalty_alpha is not None
            names = [name for name in _OF_SAMPLING if self._is_set(name) and not (contrastive and name == "top_k")]
            found += [f"{name}={getattr(self, name)!r} needs do_sample=True" for name in names]
        if self.num_beams in (None, 1):
            names = [name for name in _OF_BEAMS if self._is_set(name)]
            found += [f"{name}={getattr(self, name)!r} needs num_beams above 1" for name in names]
        if not self.return_dict_in_generate:
            names = [name for name in self.extra_output_flags if getattr(self, name) is True]
            found += [f"{name} needs return_dict_in_generate=True" for name in names]
        if self.use_cache is False:
            names = [name for name in ("cache_implementation", "cache_config") if getattr(self, name) is not None]
            found += [f"{name} needs use_cache=True" for name in names]
        if isinstance(self.pad_token_id, int) and self.pad_token_id < 0:
            found.append(f"pad_token_id={self.pad_token_id} is no token")
        return found

    def _is_set(self, name: str) -> bool:
        value = getattr(self, name)
        return value is not None and value != DEFAULTS[name]

    def get_generation_mode(self, assistant_model: Any = None) -> str:
        """Return which way of generating the parameters ask for, as transformers 4 calls it: "greedy_search", ...

        Raises:
            ConfigError: they ask for two ways that do not go together.
        """
        mode = self._basic_mode()
        helped = assistant_model is not None or self.prompt_lookup_num_tokens or self.assistant_early_exit
        for asked, name in ((helped, "assisted_generation"), (self.dola_layers is not None, "dola_generation")):
            if asked and mode not in ("greedy_search", "sample"):
                raise ConfigError(f"{name} goes with greedy search or sampling only.", received=mode)
            mode = name if asked else mode
        return mode

    def _basic_mode(self) -> str:
        if self.constraints is not None or self.force_words_ids is not None:
            return "constrained_beam_search"
        if self.num_beams in (None, 1):
            contrastive = (self.top_k or 0) > 1 and (self.penalty_alpha or 0) > 0
            return "sample" if self.do_sample else "contrastive_search" if contrastive else "greedy_search"
        if (self.num_beam_groups or 1) > 1:
            return "group_beam_search"
        return "beam_sample" if self.do_sample else "beam_search"
