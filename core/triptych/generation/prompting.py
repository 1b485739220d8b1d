"""The prompt of a call of `generate`: tokens of the framework, their mask, and what else the first call gets."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from triptych.errors import ArgumentError
from triptych.generation.config import GenerationConfig
from triptych.generation.request import Tokens
from triptych.generation.steps import FixedSteps, Steps
from triptych.names import BACKENDS
from triptych.nn.functional import shape_of

logger = logging.getLogger("triptych")

_OF_TRIPTYCH = ("triptych", *(package for package, _ in BACKENDS.values()))
"""Packages whose methods are nobody's own; not that of classes that come with a checkpoint, `triptych_remote`."""


@dataclass
class Prompt:
    """Tokens [B, P] that there are, and further inputs of the first call."""

    ids: Any
    inputs: dict[str, Any] = field(default_factory=dict)
    embedded: int = 0
    """Places of the prompt that are embeddings and no tokens."""


class Prompts:
    """Part of `Generation`."""

    _ops: ClassVar[Any]
    config: Any
    main_input_name: ClassVar[str]
    prepare_inputs_for_generation: Any
    _prepare_model_inputs: Any

    def _encodes(self) -> bool:
        """Return whether the prompt is an encoder's, and a decoder writes the text."""
        return bool(getattr(self.config, "is_encoder_decoder", False))

    def _steps_class(self) -> type[Steps]:
        """Return how the model is called."""
        raise NotImplementedError

    def _has_own_hooks(self) -> bool:
        """Return whether the class says itself how it is called, as transformers 4 has it."""
        return self._overrides("prepare_inputs_for_generation")

    @classmethod
    def _overrides(cls, name: str) -> bool:
        """Return whether a class of someone's has this method of its own."""
        owner = next((one for one in cls.__mro__ if name in vars(one)), None)
        return owner is not None and owner.__module__.partition(".")[0] not in _OF_TRIPTYCH

    def _as_ids(self, tokens: Any) -> Any:
        """Return tokens as integers of the framework, where the model is."""
        raise NotImplementedError

    def _known_inputs(self) -> set[str]:
        """Return the arguments that may be passed on to the model."""
        known = set(self._call_arguments())  # type: ignore[attr-defined]
        hook = inspect.signature(self.prepare_inputs_for_generation).parameters
        return known | {name for name, one in hook.items() if one.kind is not one.VAR_KEYWORD}

    def _prompt(
        self, given: Any, kwargs: dict[str, Any], config: GenerationConfig, tokens: Tokens,
        mend: Callable[[Any], tuple[Any, Any]] | None = None,
    ) -> Prompt:  # fmt: skip
        """Return the prompt of `given`, the first argument of `generate`, or of those by name; of a decoder with the
        tokens and the mask that `mend` makes of its tokens.

        Raises:
            ArgumentError: there is none, or two; or it is of a wrong shape.
        """
        name, inputs = self.main_input_name, dict(kwargs)
        if self._overrides("_prepare_model_inputs"):
            given, own, inputs = self._prepare_model_inputs(given, config.bos_token_id, inputs)
            if own != name:
                given, inputs[own] = None, given
        if given is not None and inputs.get(name) is not None:
            raise ArgumentError(f"The prompt is given twice, as inputs and as {name}.", remedy="pass one of the two")
        main = inputs.pop(name, None) if given is None else given
        if self._encodes():
            return self._decoder_prompt(main, inputs, config, tokens)
        embeds: Any = inputs.get("inputs_embeds")
        if main is None:
            main = _beginning(name, config) if embeds is None else np.zeros((embeds.shape[0], 0), np.int64)
        ids = self._checked(main, name)
        if mend is not None:
            ids, inputs["attention_mask"] = map(self._as_ids, mend(ids))
        embedded = 0 if embeds is None else embeds.shape[1] - ids.shape[1]
        if embedded < 0:
            raise ArgumentError("inputs_embeds do not stand for the tokens of the prompt.",
                                expected=f"{ids.shape[1]} places", received=str(embeds.shape[1]))  # fmt: skip
        inputs["attention_mask"] = self._mask(inputs.get("attention_mask"), ids, config, tokens)
        return Prompt(ids, self._given(inputs, config), embedded)

    def _decoder_prompt(self, main: Any, inputs: dict[str, Any], config: GenerationConfig, tokens: Tokens) -> Prompt:
        """Return the decoder's first tokens, and the encoder's inputs."""
        if main is not None:
            main = self._checked(main, self.main_input_name)
            inputs["attention_mask"] = self._mask(inputs.get("attention_mask"), main, config, tokens)
            inputs[self.main_input_name] = main
        sources = (main, inputs.get("inputs_embeds"), _states(inputs.get("encoder_outputs")))
        rows = next((source.shape[0] for source in sources if source is not None), None)
        if rows is None:
            raise ArgumentError("There is no prompt.", expected=f"{self.main_input_name}, or encoder_outputs")
        return Prompt(self._started(inputs, rows, tokens), self._given(inputs, config))

    def _started(self, inputs: dict[str, Any], rows: int, tokens: Tokens) -> Any:
        """Return the decoder's first tokens, those that are given behind the one that it starts with."""
        ops, ids, mask = self._ops, inputs.pop("decoder_input_ids", None), inputs.get("decoder_attention_mask")
        start = self._as_ids(np.full((rows, 1), tokens.start, np.int64))
        if ids is None:
            return start
        ids = self._checked(ids, "decoder_input_ids")
        if not ops.known(ops.all(ids[:, 0] != tokens.start)):
            return ids
        if mask is not None:
            mask = self._as_ids(mask)
            inputs["decoder_attention_mask"] = ops.concat([mask[:, :1] * 0 + 1, mask], 1)
        return ops.concat([start, ids], 1)

    def _checked(self, ids: Any, name: str) -> Any:
        ids = self._as_ids(ids)
        if len(shape_of(ids) or ()) != 2:
            raise ArgumentError(f"{name}: wrong shape.", expected="tokens [B, P]", received=str(shape_of(ids)))
        return ids

    def _given(self, inputs: Mapping[str, Any], config: GenerationConfig) -> dict[str, Any]:
        given = {name: value for name, value in inputs.items() if value is not None}
        if self._steps_class() is not FixedSteps and "use_cache" in self._known_inputs():
            given.setdefault("use_cache", config.use_cache is not False)
        return given

    def _mask(self, mask: Any, ids: Any, config: GenerationConfig, tokens: Tokens) -> Any:
        """Return the mask of the prompt; None if all of it counts, unless the class calls itself in its own way."""
        ops, own = self._ops, self._has_own_hooks()
        if mask is None:
            if "attention_mask" not in self._call_arguments():  # type: ignore[attr-defined]
                return None
            padded = config.pad_token_id is not None and config.pad_token_id not in tokens.eos and ids.shape[1]
            if not (padded or own):
                return None
            mask = ops.cast(ids != config.pad_token_id, "int32") if padded else ids * 0 + 1
        mask = self._as_ids(mask)
        if not self._encodes() and ops.known(ops.any(mask[:, -1:] == 0)):
            logger.warning("The prompts are padded on the right; a decoder goes on better from padding on the left.")
        return None if ops.known(ops.all(mask == 1)) and not own else mask


def _beginning(name: str, config: GenerationConfig) -> np.ndarray:
    if config.bos_token_id is None:
        raise ArgumentError("There is no prompt.", expected=f"{name}, or bos_token_id to begin with")
    return np.full((1, 1), config.bos_token_id, np.int64)


def _states(encoder_outputs: Any) -> Any:
    if encoder_outputs is None:
        return None
    return encoder_outputs["last_hidden_state"] if isinstance(encoder_outputs, Mapping) else encoder_outputs[0]
