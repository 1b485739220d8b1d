"""Calls of a model, one after another: from tokens to the scores of the next, and to what the next call reads.

Shapes: B texts, R rows (B times the beams or answers of each), L columns of the buffer `ids` [R, L], V tokens. `length`
is how many columns hold tokens; in a compiled loop nobody knows it before it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from triptych.errors import ArgumentError
from triptych.generation.arguments import positions_of
from triptych.nn import cache as caches
from triptych.nn.functional import shape_of
from triptych.nn.outputs import field_of

OF_ROWS = ("attentions", "hidden_states", "decoder_attentions", "cross_attentions", "decoder_hidden_states")
"""What a model may return beside scores, with a row for each text: tuples of an array for each layer."""
Held = Any
"""What one call hands to the next: arrays, or containers of them."""


class Steps:
    """Calls of one model.

    Args:
        call: the model, called by name; with the parameters, where it holds none.
        inputs: arguments of the first call, B rows each.
        times: rows for each text.
        flags: `output_attentions` and `output_hidden_states`, where they are asked for.
        width: columns of the prompt.
        room: tokens for which a cache has room.
        cache_for: makes an empty cache for rows and a room; None where the model makes its own, or there is to be none.
    """

    def __init__(
        self, model: Any, call: Callable[..., Any], inputs: Mapping[str, Any], times: int, flags: Mapping[str, bool],
        width: int, room: int, cache_for: Callable[[int, int], Any] | None = None,
    ) -> None:  # fmt: skip
        self.model, self.call, self.inputs, self.times, self.flags = model, call, dict(inputs), times, dict(flags)
        self.width, self.room, self.cache_for = width, room, cache_for
        self.ops = model._ops
        self.outputs: Any = None
        """What the model returned last."""
        self.encoded: Any = None
        """What the encoder returned, of B rows: a mapping."""

    def first(self, ids: Any, length: Any) -> tuple[Any, Held]:
        """Return the scores [R, V] of the token after the prompt `ids` [B, L], and what the next call reads."""
        raise NotImplementedError

    def next(self, held: Held, ids: Any, length: Any) -> tuple[Any, Held]:
        """Return the scores [R, V] of the token after column `length` - 1 of `ids` [R, L], and what the next reads."""
        raise NotImplementedError

    def reordered(self, held: Held, rows: Any) -> Held:
        """Return what is held, of each of `rows` [R], which are rows of the same text."""
        raise NotImplementedError

    def repeated(self, held: Held, times: int) -> Held:
        """Return what is held, with `times` rows for each, one after the other."""
        return mapped(held, lambda x: self.ops.repeat(x, times))

    def cache(self, held: Held) -> Any:
        """Return the cache among what is held, or None."""
        return held.get("past_key_values")

    def states(self) -> Any:
        """Return the hidden states [R, T, H] of the last call, for the T tokens that it read.

        Raises:
            ArgumentError: the model returned none.
        """
        name = "decoder_hidden_states" if self.model._encodes() else "hidden_states"
        found = field_of(self.outputs, name)
        if not found:
            raise ArgumentError(
                "The model returns no hidden states.", expected=f"{name} for output_hidden_states=True",
                remedy="return them, or generate without penalty_alpha",
            )  # fmt: skip
        return found[-1]

    def several(self, held: Held, ids: Any, length: int, new: int) -> tuple[Any, Held]:
        """Read the last `new` of the first `length` columns of `ids` [R, L], which are all that is not read yet; return
        the scores [R, new, V] of the token after each of them, and what the next call reads. No compiled loop has it.

        Raises:
            ArgumentError: the model's class says itself how it is called, and does not say this.
        """
        raise ArgumentError(
            "This class cannot read several tokens at once.",
            expected="one without a prepare_inputs_for_generation of its own",
            received=type(self.model).__name__,
            remedy="generate without an assistant",
        )

    def shortened(self, held: Held, length: int) -> Held:
        """Return what is held, as though only the first `length` columns had been read."""
        raise NotImplementedError

    def _run(self, inputs: Mapping[str, Any]) -> Any:
        self.outputs = self.call(**inputs, **self.flags, return_dict=True)
        return self.outputs

    def _scores(self, outputs: Any, column: Any) -> Any:
        """Return float32 [R, V] of a column of the logits, or [R, N, V] of a slice of columns."""
        return self.ops.cast(field_of(outputs, "logits")[:, column], "float32")


class FixedSteps(Steps):
    """Calls over a cache of fixed size: of `width` tokens, then of one each.

    The prompt may be shorter than `width`. What stands behind it is not seen by the tokens before, and is written over.
    """

    def first(self, ids: Any, length: Any) -> tuple[Any, Held]:
        ops, model, inputs = self.ops, self.model, self.inputs
        known = model._call_arguments()
        embeds = inputs.pop("inputs_embeds", None) if not model._encodes() else None
        name = "decoder_input_ids" if model._encodes() else "input_ids"
        given = {name: ids[:, : self.width]} if embeds is None else {"inputs_embeds": embeds}
        count = length if embeds is None else embeds.shape[1]
        mask_name = "decoder_attention_mask" if model._encodes() else "attention_mask"
        place_name = mask_name.replace("attention_mask", "position_ids")
        mask, places = inputs.pop(mask_name, None), inputs.pop(place_name, None)
        if mask is not None:
            given[mask_name] = mask
            if place_name in known and places is None:
                places = ops.maximum(ops.cumsum(ops.cast(mask, "int32")) - 1, 0)
        if places is not None:
            given[place_name] = places
        cache = (self.cache_for or model.init_cache)(ids.shape[0], self.room)
        outputs = self._run({**inputs, **given, "past_key_values": cache})
        cache = {**outputs["past_key_values"], "position": ops.cast(ops.constant(count, ids), "int32")}
        self.outputs = self._recorded(outputs, cache, self.times)
        held = {"cache": cache, "mask": mask, **self._kept(outputs)}
        if places is not None:
            held["place"] = places[:, count - 1][:, None] + 1
        return self._each(self._scores(outputs, count - 1)), mapped(held, self._each)

    def _recorded(self, outputs: Any, cache: Any, times: int) -> Any:
        """Return `outputs` of R rows, with attention to the places of the cache that are filled alone."""
        filled = self.ops.known(cache["position"]) if self.flags else None
        if filled is None:
            return outputs
        found = dict(outputs)
        for name in OF_ROWS:
            if (layers := outputs.get(name)) is not None:
                layers = [self.ops.repeat(x, times) if times > 1 else x for x in layers]
                own = name in ("attentions", "decoder_attentions")
                found[name] = tuple(x[..., :filled] if own else x for x in layers)
        return found

    def _kept(self, outputs: Any) -> dict[str, Any]:
        """Return which inputs later calls have too."""
        inputs, encodes = self.inputs, self.model._encodes()
        own = {name: x for name, x in inputs.items() if "head_mask" not in name and name != "token_type_ids"}
        if encodes:
            self.encoded = {name: outputs.get(f"encoder_{name}") for name in ("attentions", "hidden_states")}
            for name in ("input_ids", "inputs_embeds", "encoder_outputs"):
                own.pop(name, None)
            own["encoder_outputs"] = (outputs["encoder_last_hidden_state"],)
        found: dict[str, Any] = {"inputs": own}
        if not encodes and inputs.get("token_type_ids") is not None:
            found["type"] = inputs["token_type_ids"][:, -1:]
        return found

    def next(self, held: Held, ids: Any, length: Any) -> tuple[Any, Held]:
        outputs, held = self._read(held, ids[:, length - 1][:, None])
        return self._scores(outputs, 0), held

    def several(self, held: Held, ids: Any, length: int, new: int) -> tuple[Any, Held]:
        outputs, held = self._read(held, ids[:, length - new : length])
        return self._scores(outputs, slice(None)), held

    def shortened(self, held: Held, length: int) -> Held:
        less = caches.length_of(self.ops, held["cache"]) - length
        moved = {"place": held["place"] - less} if "place" in held else {}
        return {**held, **moved, "cache": caches.cropped(held["cache"], length)}

    def _read(self, held: Held, tokens: Any) -> tuple[Any, Held]:
        """Return what the model returns of `tokens` [R, N], and what the next call reads."""
        count, ops = tokens.shape[1], self.ops
        prefix = "decoder_" if self.model._encodes() else ""
        inputs = {**held["inputs"], f"{prefix}input_ids": tokens}
        inputs |= {name: x for name, x in self.inputs.items() if "head_mask" in name}
        if held["mask"] is not None:
            inputs[f"{prefix}attention_mask"] = held["mask"]
        if "place" in held:
            inputs[f"{prefix}position_ids"] = held["place"] + ops.arange(count, tokens)[None, :]
        if "type" in held:
            inputs["token_type_ids"] = held["type"] + ops.zeros_like(tokens)
        outputs = self._run({**inputs, "past_key_values": held["cache"]})
        self.outputs = self._recorded(outputs, outputs["past_key_values"], 1)
        held = {**held, "cache": outputs["past_key_values"]}
        if "place" in held:
            held["place"] = held["place"] + count
        return outputs, held

    def reordered(self, held: Held, rows: Any) -> Held:
        cache = held["cache"]
        moved = {name: mapped(cache[name], lambda x: self.ops.gather(x, rows)) for name in ("keys", "values")}
        return {**held, "cache": {**cache, **moved}}

    def cache(self, held: Held) -> Any:
        return held["cache"]

    def _each(self, x: Any) -> Any:
        return x if self.times == 1 else self.ops.repeat(x, self.times)


class WholeSteps(Steps):
    """Calls without a cache: the whole text is read for each token. For models that are called over a buffer."""

    def first(self, ids: Any, length: Any) -> tuple[Any, Held]:
        each = {name: self.ops.repeat(x, self.times) if shape_of(x) and "head_mask" not in name else x
                for name, x in self.inputs.items()} if self.times > 1 else self.inputs  # fmt: skip
        ids = self.ops.repeat(ids, self.times) if self.times > 1 else ids
        return self.next(each, ids, length)

    def next(self, held: Held, ids: Any, length: Any) -> tuple[Any, Held]:
        return self._scores(self._read(held, ids, length), length - 1), held

    def several(self, held: Held, ids: Any, length: int, new: int) -> tuple[Any, Held]:
        return self._scores(self._read(held, ids, length), slice(length - new, length)), held

    def shortened(self, held: Held, length: int) -> Held:
        return held

    def _read(self, held: Held, ids: Any, length: Any) -> Any:
        ops, encodes = self.ops, self.model._encodes()
        known = self.model._call_arguments()
        name = "decoder_attention_mask" if encodes else "attention_mask"
        ids = ids[:, : positions_of(self.model.config)]  # not behind the last
        inputs = {**held, ("decoder_input_ids" if encodes else "input_ids"): ids}
        if (mask := held.get(name)) is not None:
            mask = mask[:, : ids.shape[1]]
            ahead = ops.cast(ops.zeros((mask.shape[0], ids.shape[1] - mask.shape[1]), "int32", mask), mask.dtype) + 1
            inputs[name] = ops.concat([mask, ahead], 1)
            if not encodes and "position_ids" in known:
                inputs["position_ids"] = ops.maximum(ops.cumsum(ops.cast(inputs[name], "int32")) - 1, 0)
        if name in known:  # a model that sees what is ahead does not see what is not written
            written = ops.cast(ops.arange(ids.shape[1], ids) < length, "int32")[None]
            inputs[name] = ops.cast(inputs.get(name, ids * 0 + 1), "int32") * written
        return self._run(inputs)

    def reordered(self, held: Held, rows: Any) -> Held:
        return held


def mapped(tree: Any, function: Callable[[Any], Any]) -> Any:
    """Return `tree` with `function` of every array that has rows."""
    if isinstance(tree, Mapping):
        return {name: mapped(value, function) for name, value in tree.items()}
    if isinstance(tree, (tuple, list)):
        return tuple(mapped(value, function) for value in tree)
    return function(tree) if shape_of(tree) else tree
