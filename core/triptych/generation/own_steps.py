"""Calls of classes that say themselves how they are called, as those of transformers 4 do; see
`triptych.generation.steps` for what a call takes and returns."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from triptych.errors import ArgumentError
from triptych.generation.steps import Held, Steps, mapped
from triptych.nn import cache as caches
from triptych.nn.functional import shape_of


class HookedSteps(Steps):
    """Calls as the methods of a class say which generates in transformers 4: `prepare_inputs_for_generation`,
    `_update_model_kwargs_for_generation` and `_reorder_cache`. Rows are multiplied before the first call."""

    def first(self, ids: Any, length: Any) -> tuple[Any, Held]:
        model, held = self.model, self.inputs
        encodes = model._encodes()
        if encodes and held.get("encoder_outputs") is None:
            name = model.main_input_name
            flags = SimpleNamespace(**self.flags)
            held = model._prepare_encoder_decoder_kwargs_for_generation(held.get(name), held, name, flags)
        self.encoded = held.get("encoder_outputs")
        if encodes:
            held = {name: x for name, x in held.items() if name not in ("input_ids", model.main_input_name)}
        ids, held = model._expand_inputs_for_generation(
            expand_size=self.times, is_encoder_decoder=encodes, input_ids=ids[:, :length], **held
        )
        if self.cache_for is not None and held.get("past_key_values") is None:
            held["past_key_values"] = self.cache_for(ids.shape[0], self.room)
        return self.next(held, ids, length)

    def next(self, held: Held, ids: Any, length: Any) -> tuple[Any, Held]:
        model = self.model
        inputs = model.prepare_inputs_for_generation(ids[:, :length], **held)
        outputs = self._run(inputs)
        held = model._update_model_kwargs_for_generation(outputs, held, is_encoder_decoder=model._encodes())
        return self._scores(outputs, -1), held

    def several(self, held: Held, ids: Any, length: int, new: int) -> tuple[Any, Held]:
        _, held = self.next(self._of_length(held, length), ids, length)
        scores = self._scores(self.outputs, slice(-new, None))
        past = held.get("past_key_values")
        if scores.shape[1] != new or (past is not None and caches.length_of(self.ops, past) != length):
            raise ArgumentError(
                f"{type(self.model).__name__}.prepare_inputs_for_generation does not pass on all that is to be read.",
                expected=f"the {new} tokens that the cache lacks", received=f"scores of {scores.shape[1]}",
                remedy="cut input_ids there by the length of the cache; or generate without an assistant",
            )  # fmt: skip
        return scores, held

    def shortened(self, held: Held, length: int) -> Held:
        held = self._of_length(held, length + 1)
        past = held.get("past_key_values")
        return held if past is None else {**held, "past_key_values": caches.cropped(past, length)}

    def _of_length(self, held: Held, length: int) -> Held:
        """Return what is held, with a column in masks and the like for each of `length` tokens."""
        mask = "decoder_attention_mask" if self.model._encodes() else "attention_mask"
        found = dict(held)
        for name, step in ((mask, None), ("token_type_ids", 0), ("position_ids", 1)):
            if (x := found.get(name)) is not None:
                last = x[:, -1:] * 0 + 1 if step is None else x[:, -1:]
                more = [last + (step or 0) * number for number in range(1, length - x.shape[1] + 1)]
                found[name] = self.ops.concat([x, *more], 1)[:, :length]
        return found

    def reordered(self, held: Held, rows: Any) -> Held:
        past = held.get("past_key_values")
        return held if past is None else {**held, "past_key_values": self.model._reorder_cache(past, rows)}

    def repeated(self, held: Held, times: int) -> Held:
        others = {name: value for name, value in held.items() if name != "past_key_values"}
        _, others = self.model._expand_inputs_for_generation(
            expand_size=times, is_encoder_decoder=self.model._encodes(), input_ids=None, **others
        )
        if (past := held.get("past_key_values")) is None:
            return others
        rows = self.ops.arange(self.outputs.logits.shape[0], self.outputs.logits)
        return {**others, "past_key_values": self.model._reorder_cache(past, self.ops.repeat(rows, times))}


class PreparedSteps(Steps):
    """Calls as Flax classes of transformers 4 say: `prepare_inputs_for_generation` once, and
    `update_inputs_for_generation` after each call. Rows are multiplied before the first call."""

    def first(self, ids: Any, length: Any) -> tuple[Any, Held]:
        ops, inputs, columns = self.ops, self.inputs, ids.shape[1]
        each = {n: ops.repeat(x, self.times) if shape_of(x) and self.times > 1 else x for n, x in inputs.items()}
        ids = (ops.repeat(ids, self.times) if self.times > 1 else ids)[:, : self.width]
        held = self.model.prepare_inputs_for_generation(ids, columns, **each)
        return self._next(held, ids, self.width - 1)

    def next(self, held: Held, ids: Any, length: Any) -> tuple[Any, Held]:
        return self._next(held, ids[:, length - 1][:, None], 0)

    def _next(self, held: Held, tokens: Any, column: Any) -> tuple[Any, Held]:
        self.outputs = self.call(tokens, **held, **self.flags, return_dict=True)
        return self._scores(self.outputs, column), self.model.update_inputs_for_generation(self.outputs, held)

    def reordered(self, held: Held, rows: Any) -> Held:
        cache = mapped(held["past_key_values"], lambda x: self.ops.gather(x, rows))
        return {**held, "past_key_values": cache}
