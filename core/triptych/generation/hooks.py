"""The methods by which classes of transformers 4 say how they are called for the next token, with their defaults there:
in PyTorch, and in TensorFlow for classes that have some of their own."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

from triptych.nn import cache as caches
from triptych.nn.functional import shape_of
from triptych.nn.outputs import field_of

_CACHES = ("past_key_values", "mems", "past_buckets_states")


class Hooks:
    """Part of the base classes; authors override these."""

    _ops: ClassVar[Any]
    config: Any

    def prepare_inputs_for_generation(
        self,
        input_ids: Any,
        past_key_values: Any = None,
        attention_mask: Any = None,
        inputs_embeds: Any = None,
        cache_position: Any = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Return the arguments of the next call of the model.

        Args:
            input_ids: the tokens so far [R, length]; those that the cache lacks are passed on.
            past_key_values: the cache of the call before, or an empty one, or None.
            attention_mask: [R, length], of an encoder's input where there is one.
            inputs_embeds: the prompt of the first call.
            cache_position: the places of the new tokens; only their number is read.
        """
        known = self._call_arguments()  # type: ignore[attr-defined]
        encodes, ops = bool(self.config.is_encoder_decoder), self._ops
        past = 0 if past_key_values is None else caches.length_of(ops, past_key_values)
        prompt = inputs_embeds if not past and not encodes else None
        fresh = input_ids.shape[1] - past
        ids = input_ids[:, past:] if fresh > 0 else input_ids[:, -1:]
        found = (
            {"inputs_embeds": prompt} if prompt is not None else {"decoder_input_ids" if encodes else "input_ids": ids}
        )
        new = ids.shape[1] if prompt is None else prompt.shape[1]
        if (
            not encodes
            and "position_ids" in known
            and kwargs.get("position_ids") is None
            and attention_mask is not None
        ):
            counted = ops.maximum(ops.cumsum(ops.cast(attention_mask, "int32")) - 1, 0)
            kwargs["position_ids"] = counted
        for name in ("position_ids", "token_type_ids"):
            if not encodes and kwargs.get(name) is not None:
                kwargs[name] = kwargs[name][:, -new:]
        given = {**kwargs, "past_key_values": past_key_values, "attention_mask": attention_mask}
        return {**found, **{name: x for name, x in given.items() if x is not None and name in known}}

    def _prepare_model_inputs(
        self, inputs: Any = None, bos_token_id: int | None = None, model_kwargs: dict[str, Any] | None = None
    ) -> tuple[Any, str, dict[str, Any]]:
        """Return the prompt, the name of the argument that takes it, and the other arguments."""
        name, rest = self.main_input_name, dict(model_kwargs or {})  # type: ignore[attr-defined]
        named = rest.pop(name, None)
        return named if inputs is None else inputs, name, rest

    def _update_model_kwargs_for_generation(
        self, outputs: Any, model_kwargs: dict[str, Any], is_encoder_decoder: bool = False, num_new_tokens: int = 1
    ) -> dict[str, Any]:
        """Return the arguments for the token after that for which the model returned `outputs`."""
        ops, new = self._ops, dict(model_kwargs)
        for name in _CACHES:
            if (held := field_of(outputs, name)) is not None:
                new["past_key_values"] = held
                break
        if new.get("token_type_ids") is not None:
            new["token_type_ids"] = _lengthened(ops, new["token_type_ids"], num_new_tokens)
        if not is_encoder_decoder and new.get("position_ids") is not None:
            last = new["position_ids"][:, -1:]
            more = [last + number for number in range(1, num_new_tokens + 1)]
            new["position_ids"] = ops.concat([new["position_ids"], *more], 1)
        mask = "decoder_attention_mask" if is_encoder_decoder else "attention_mask"
        if new.get(mask) is not None:
            ones = _lengthened(ops, new[mask] * 0 + 1, num_new_tokens)[:, -num_new_tokens:]
            new[mask] = ops.concat([new[mask], ones], -1)
        if new.get("cache_position") is not None:
            last = new["cache_position"][-1:]
            new["cache_position"] = ops.concat([last + number for number in range(1, num_new_tokens + 1)], 0)
        return new

    @classmethod
    def _expand_inputs_for_generation(
        cls, expand_size: int = 1, is_encoder_decoder: bool = False, input_ids: Any = None, **model_kwargs: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Return tokens and arguments with each row `expand_size` times."""
        ops = cls._ops

        def each(x: Any, name: str = "") -> Any:
            if isinstance(x, Mapping):
                made = {key: each(value) for key, value in x.items()}
                return type(x)(**made) if not isinstance(x, dict) or type(x) is not dict else made
            if isinstance(x, (tuple, list)):
                return type(x)(each(one) for one in x)
            rows = shape_of(x) and "head_mask" not in name and name != "cache_position"
            return ops.repeat(x, expand_size) if rows else x

        if expand_size == 1:
            return input_ids, model_kwargs
        return each(input_ids), {name: each(value, name) for name, value in model_kwargs.items()}

    def _prepare_encoder_decoder_kwargs_for_generation(
        self, inputs_tensor: Any, model_kwargs: dict[str, Any], model_input_name: str | None = None,
        generation_config: Any = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Return the arguments with what the encoder returns as `encoder_outputs`."""
        encoder = self.get_encoder()  # type: ignore[attr-defined]
        call = getattr(encoder, "forward", None) or encoder.call
        known = inspect.signature(call).parameters
        every = any(one.kind is one.VAR_KEYWORD for one in known.values())
        own = {n: x for n, x in model_kwargs.items()
               if not n.startswith(("decoder_", "cross_attn", "use_cache", "past_key", "cache_position"))}  # fmt: skip
        given = own if every else {name: x for name, x in own.items() if name in known}
        name = model_input_name or self.main_input_name  # type: ignore[attr-defined]
        if inputs_tensor is not None and not (
            hasattr(encoder, "get_input_embeddings") or hasattr(encoder, "embed_tokens")
        ):  # the model has them
            given["inputs_embeds"] = self.get_input_embeddings()(inputs_tensor)  # type: ignore[attr-defined]
            given.pop(name, None)
        elif inputs_tensor is not None:
            given[name] = inputs_tensor
        flags = {f: getattr(generation_config, f) for f in ("output_attentions", "output_hidden_states")
                 if getattr(generation_config, f, False)}  # fmt: skip
        rest = {n: x for n, x in model_kwargs.items() if n not in (name, "inputs_embeds", "input_ids")}
        return {**rest, "encoder_outputs": encoder(**{**given, **flags, "return_dict": True})}

    def _reorder_cache(self, past_key_values: Any, beam_idx: Any) -> Any:
        """Return the cache of the rows `beam_idx` [R].

        Raises:
            ArgumentError: it is of a kind that is not known; a class that has such a one overrides this.
        """
        return caches.reordered(self._ops, past_key_values, beam_idx)


def _lengthened(ops: Any, x: Any, count: int) -> Any:
    """Return `x` [R, L] with its last column `count` times more."""
    return ops.concat([x, *[x[..., -1:]] * count], -1)
