"""The prompt of a call of `generate`: tokens of the framework, their mask, and what else the first call gets."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from triptych.errors import ArgumentError
from triptych.generation import arguments
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
        known = set(self._call_arguments()) - {"return_dict"}  # type: ignore[attr-defined]
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
        if "labels" in self._known_inputs():
            inputs.pop("labels", None)  # whole batches are passed, as by transformers' Seq2SeqTrainer
        if self._overrides("_prepare_model_inputs"):
            given, own, inputs = self._prepare_model_inputs(given, config.bos_token_id, inputs)
            if own != name:
                given, inputs[own] = None, given
        if given is not None and inputs.get(name) is not None:
            raise ArgumentError(f"The prompt is given twice, as inputs and as {name}.", remedy="pass one of the two")
        main = inputs.pop(name, None) if given is None else given
        embeds: Any = self._embeds(inputs.get("inputs_embeds"))
        if self._encodes():
            return self._decoder_prompt(main, inputs, config, tokens)
        if main is None:
            main = _beginning(name, config) if embeds is None else np.zeros((embeds.shape[0], 0), np.int64)
        ids = self._checked(main, name, self._vocabulary(decoder=True))
        if not ids.shape[0] or (embeds is None and not ids.shape[1]):
            raise ArgumentError(f"{name} is empty.", expected="tokens [B, P], at least one of each",
                                received=str(shape_of(ids)))  # fmt: skip
        if mend is not None:
            ids, inputs["attention_mask"] = map(self._as_ids, mend(ids))
        embedded = 0 if embeds is None else embeds.shape[1] - ids.shape[1]
        if embedded < 0 or (embeds is not None and embeds.shape[0] != ids.shape[0]):
            raise ArgumentError("inputs_embeds do not stand for the tokens of the prompt.",
                                expected=f"{ids.shape[0]} rows of {ids.shape[1]} places or more",
                                received=f"{embeds.shape[0]} of {embeds.shape[1]}")  # fmt: skip
        shape = (ids.shape[0], ids.shape[1] + embedded)
        inputs["attention_mask"] = self._mask(inputs.get("attention_mask"), ids, shape, config, tokens)
        for one in ("token_type_ids", "position_ids"):
            if inputs.get(one) is not None:
                inputs[one] = self._of_shape(inputs[one], shape, one)
        return Prompt(ids, self._given(inputs, config), embedded)

    def _decoder_prompt(self, main: Any, inputs: dict[str, Any], config: GenerationConfig, tokens: Tokens) -> Prompt:
        """Return the decoder's first tokens, and the encoder's inputs."""
        name, states = self.main_input_name, _states(inputs.get("encoder_outputs"))
        if main is not None and inputs.get("inputs_embeds") is not None:
            raise ArgumentError(f"The prompt is given twice, as {name} and as inputs_embeds.",
                                remedy="pass one of the two")  # fmt: skip
        if main is not None and name == "input_ids":
            main = self._checked(main, name, self._vocabulary(decoder=False))
            inputs["attention_mask"] = self._mask(inputs.get("attention_mask"), main, main.shape, config, tokens)
        inputs[name] = main
        rows = {source.shape[0] for source in (main, inputs.get("inputs_embeds"), states) if source is not None}
        if len(rows) != 1 or 0 in rows:
            raise ArgumentError("There is no prompt." if not rows else "The prompt is of no batch size.",
                                expected=f"{name} or encoder_outputs, of one batch size from 1",
                                received=", ".join(map(str, sorted(rows))) or "neither")  # fmt: skip
        rows = rows.pop()
        return Prompt(self._started(inputs, rows, tokens), self._given(inputs, config))

    def _started(self, inputs: dict[str, Any], rows: int, tokens: Tokens) -> Any:
        """Return the decoder's first tokens, those that are given behind the one that it starts with."""
        ops, ids, mask = self._ops, inputs.pop("decoder_input_ids", None), inputs.get("decoder_attention_mask")
        start = self._as_ids(np.full((rows, 1), tokens.start, np.int64))
        if ids is None:
            return start
        ids = self._checked(ids, "decoder_input_ids", self._vocabulary(decoder=True))
        if ids.shape[0] != rows or not ids.shape[1]:
            raise ArgumentError("decoder_input_ids: wrong shape.", expected=f"tokens [{rows}, P]",
                                received=str(shape_of(ids)))  # fmt: skip
        if not ops.known(ops.all(ids[:, 0] != tokens.start)):
            return ids
        if mask is not None:
            mask = self._of_shape(mask, (rows, ids.shape[1]), "decoder_attention_mask")
            inputs["decoder_attention_mask"] = ops.concat([mask[:, :1] * 0 + 1, mask], 1)
        return ops.concat([start, ids], 1)

    def _checked(self, ids: Any, name: str, size: int | None) -> Any:
        ids = arguments.array_of(self._ops, ids, self._as_ids, name, "tokens [B, P]")
        if len(shape_of(ids) or ()) != 2:
            raise ArgumentError(f"{name}: wrong shape.", expected="tokens [B, P]", received=str(shape_of(ids)))
        arguments.require_below(self._ops, ids, size, name)
        return ids

    def _vocabulary(self, decoder: bool) -> int | None:
        """Return how many tokens the model, or its encoder, knows; None where the class calls itself in its own way."""
        if self._has_own_hooks():
            return None
        config = self.config.get_text_config(decoder=decoder, encoder=not decoder)
        size = getattr(config, "vocab_size", None)
        return size if isinstance(size, int) else None

    def _given(self, inputs: Mapping[str, Any], config: GenerationConfig) -> dict[str, Any]:
        given = {name: value for name, value in inputs.items() if value is not None}
        for name, value in given.items():
            if (name.endswith(("_mask", "_ids")) or name == "cache_position") and not hasattr(value, "shape"):
                raise ArgumentError(f"{name} is no array.", expected="an array", received=repr(value)[:80])
        if self._steps_class() is FixedSteps and "past_key_values" in given:
            raise ArgumentError(
                "A text does not go on from a cache here.", expected="past_key_values=None",
                received=type(given["past_key_values"]).__name__, remedy="pass all of its tokens as the prompt",
            )  # fmt: skip
        if self._steps_class() is not FixedSteps and "use_cache" in self._known_inputs():
            given.setdefault("use_cache", config.use_cache is not False)
        return given

    def _room(self, prompt: Prompt, limit: int) -> int:
        """Return the greatest length `limit`, or how many tokens the model has positions for."""
        if self._has_own_hooks():
            return limit
        positions = arguments.positions_of(self.config)
        length, ops = prompt.ids.shape[1] + prompt.embedded, self._ops
        mask = prompt.inputs.get("decoder_attention_mask" if self._encodes() else "attention_mask")
        padding = 0
        if mask is not None and positions is not None and positions < limit:
            pads = ops.reshape(ops.cumsum(ops.cast(mask == 0, "int32"))[:, -1:], (1, -1))
            padding = ops.known(ops.minimum_of(pads)[0, 0]) or 0
        return arguments.room_of(limit, length, padding, positions)

    def _embeds(self, embeds: Any) -> Any:
        """Return embeddings of a prompt as they are, if they may be some."""
        config = self.config.get_text_config(decoder=not self._encodes(), encoder=self._encodes())
        widths = [getattr(config, name, None) for name in ("embedding_size", "word_embed_proj_dim", "hidden_size")]
        width = next((one for one in widths if one is not None), None)
        if embeds is None or self._has_own_hooks():
            return embeds
        shape = shape_of(embeds) or ()
        if len(shape) != 3 or not shape[1] or shape[-1] != (width or shape[-1]) or "float" not in str(embeds.dtype):
            raise ArgumentError("inputs_embeds are impossible.", expected=f"floats [B, P, {width}], P from 1",
                                received=f"{type(embeds).__name__} {list(shape)}")  # fmt: skip
        return embeds

    def _of_shape(self, value: Any, shape: tuple[int, ...], name: str) -> Any:
        """Return integers [B, P] of a shape, unless the class says itself how it is called."""
        expected = f"integers {list(shape)}"
        found = arguments.array_of(self._ops, value, self._as_ids, name, expected, fractions="mask" in name)
        if not self._has_own_hooks() and not _same(shape_of(found) or (), shape):
            raise ArgumentError(f"{name}: wrong shape.", expected=expected, received=str(shape_of(found)))
        return found

    def _mask(self, mask: Any, ids: Any, shape: tuple[int, ...], config: GenerationConfig, tokens: Tokens) -> Any:
        """Return the mask of the prompt; None if all of it counts, unless the class calls itself in its own way."""
        ops, own = self._ops, self._has_own_hooks()
        if mask is None:
            if "attention_mask" not in self._call_arguments():  # type: ignore[attr-defined]
                return None
            padded = config.pad_token_id is not None and config.pad_token_id not in tokens.eos and ids.shape[1]
            if not (padded or own):
                return None
            mask = ops.cast(ids != config.pad_token_id, "int32") if padded else ids * 0 + 1
        else:
            mask = self._of_shape(mask, shape, "attention_mask")
            self._require_mask(mask)
        if not self._encodes() and ops.known(ops.any(mask[:, -1:] == 0)):
            logger.warning("The prompts are padded on the right; a decoder goes on better from padding on the left.")
        return None if ops.known(ops.all(mask == 1)) and not own else mask

    def _require_mask(self, mask: Any) -> None:
        """Raise `ArgumentError` for a mask of something else than 0 and 1; a decoder's hides no text as a whole."""
        ops = self._ops
        if self._has_own_hooks():
            return
        if ops.known(ops.any((mask < 0) | (mask > 1))):
            raise ArgumentError("attention_mask is of other numbers.", expected="1 for a token, 0 for padding")
        if not self._encodes() and ops.known(ops.any(ops.invert(ops.any(mask == 1, -1)))):
            raise ArgumentError("attention_mask hides a whole prompt.", expected="1 for a token of each row at least",
                                remedy="leave the row out")  # fmt: skip


def _same(one: Sequence[int | None], other: Sequence[int | None]) -> bool:
    """Return whether shapes are the same, as far as they are known."""
    return len(one) == len(other) and all(a == b or None in (a, b) for a, b in zip(one, other, strict=True))


def _beginning(name: str, config: GenerationConfig) -> np.ndarray:
    if config.bos_token_id is None:
        raise ArgumentError("There is no prompt.", expected=f"{name}, or bos_token_id to begin with")
    return np.full((1, 1), config.bos_token_id, np.int64)


def _states(encoder_outputs: Any) -> Any:
    """Return the last states [B, K, H] of what an encoder returned."""
    if encoder_outputs is None:
        return None
    if isinstance(encoder_outputs, (tuple, list)):
        states = encoder_outputs[0] if encoder_outputs else None
    else:
        of = encoder_outputs
        states = of.get("last_hidden_state") if isinstance(of, Mapping) else getattr(of, "last_hidden_state", None)
    if len(shape_of(states) or ()) != 3:
        raise ArgumentError("encoder_outputs is no output of the encoder.",
                            expected="an output, a mapping or a tuple of its parts, the first states [B, K, H]",
                            received=repr(encoder_outputs)[:80])  # fmt: skip
    return states
