"""What code over models calls on them besides: attention masks, head masks, counts, and where the embeddings are."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, ClassVar

import numpy as np

from triptych.errors import ArgumentError, MissingMethodError

logger = logging.getLogger("triptych")


class ModuleUtils:
    """Masks and counts over `ops`, for `ModelBase` and for a module that has `ops`, `dtype` and, for some, `config`."""

    _ops: ClassVar[Any]
    config: Any
    main_input_name: ClassVar[str] = "input_ids"

    def invert_attention_mask(self, encoder_attention_mask: Any) -> Any:
        """Return what is added to attention scores: 0 where the mask is 1, the lowest number where it is 0.

        Args:
            encoder_attention_mask: [B, K] or [B, Q, K].

        Returns:
            [B, 1, 1, K] or [B, 1, Q, K], in the dtype of the model.

        Raises:
            ArgumentError: another number of axes.
        """
        return self._added(_for_heads(encoder_attention_mask), self._mask_dtype())

    def get_extended_attention_mask(
        self, attention_mask: Any, input_shape: Sequence[int], device: Any = None, dtype: Any = None
    ) -> Any:
        """Return what is added to attention scores; a decoder (`config.is_decoder`) sees no later token, either.

        Args:
            attention_mask: [B, K] or [B, Q, K].
            input_shape: (B, Q).
            device: without effect, as the mask says it.
            dtype: of the result; the model's by default.

        Returns:
            [B, 1, 1 or Q, K].

        Raises:
            ArgumentError: another number of axes.
        """
        dtype = self._mask_dtype() if dtype is None else dtype
        if len(attention_mask.shape) == 2 and self.config.is_decoder:
            mask = self.create_extended_attention_mask_for_decoder(input_shape, attention_mask, device)
        else:
            _warn_of_device(device)
            mask = _for_heads(attention_mask)
        return self._added(mask, dtype)

    @classmethod
    def create_extended_attention_mask_for_decoder(
        cls, input_shape: Sequence[int], attention_mask: Any, device: Any = None
    ) -> Any:
        """Return [B, 1, Q, K] of ones and zeros: 1 where the mask [B, K] is, and the key is no later than the query.

        Where the mask is longer than the input, its first K - Q keys are of a cache, which every query sees.

        Raises:
            ArgumentError: the mask is shorter than the input.
        """
        _warn_of_device(device)
        ops, queries, keys = cls._ops, input_shape[1], attention_mask.shape[1]
        if keys is not None and queries is not None and keys < queries:
            raise ArgumentError(
                "attention_mask is shorter than the input.", expected=f"[B, {queries}] or longer",
                received=str(tuple(attention_mask.shape)),
            )  # fmt: skip
        queries, keys = ops.shape(attention_mask[:, :queries])[1], ops.shape(attention_mask)[1]
        places = ops.arange(keys, attention_mask)
        seen = places[None, :] <= places[-queries:][:, None]
        both = ops.cast(seen, "float32")[None, None] * ops.cast(attention_mask, "float32")[:, None, None, :]
        return ops.cast(both, attention_mask.dtype)

    def get_head_mask(self, head_mask: Any, num_hidden_layers: int, is_attention_chunked: bool = False) -> Any:
        """Return the mask of each layer: [layers, 1, heads, 1, 1], or None for each layer if there is no mask.

        Args:
            head_mask: [heads] or [layers, heads], 1 where a head counts; or of five axes already.
            is_attention_chunked: add one more axis at the end.

        Raises:
            ArgumentError: another number of axes.
        """
        if head_mask is None:
            return [None] * num_hidden_layers
        ops, shape = self._ops, tuple(head_mask.shape)
        if len(shape) == 1:
            head_mask = ops.concat([ops.reshape(head_mask, (1, 1, shape[0], 1, 1))] * num_hidden_layers, 0)
        elif len(shape) == 2:
            head_mask = ops.reshape(head_mask, (shape[0], 1, shape[1], 1, 1))
        elif len(shape) != 5:
            raise ArgumentError(
                "head_mask has a wrong shape.", expected="[heads], [layers, heads] or five axes", received=str(shape)
            )
        head_mask = ops.cast(head_mask, self._mask_dtype())
        return head_mask[..., None] if is_attention_chunked else head_mask

    def estimate_tokens(self, input_dict: Mapping[str, Any]) -> int:
        """Return the number of elements of the model's main input; 0, with one warning, if it is not there."""
        if self.main_input_name in input_dict:
            return math.prod(np.shape(input_dict[self.main_input_name]))
        issued: dict[str, bool] = self.__dict__.setdefault("warnings_issued", {})
        if not issued.get("estimate_tokens"):
            logger.warning("No %s among the inputs, so their tokens are not counted", self.main_input_name)
            issued["estimate_tokens"] = True
        return 0

    def floating_point_ops(self, input_dict: Mapping[str, Any], exclude_embeddings: bool = True) -> int:
        """Return about how many operations a training step takes: six for each token and parameter
        (Kaplan et al., 2020, https://arxiv.org/abs/2001.08361), attention's own left out."""
        return 6 * self.estimate_tokens(input_dict) * self.num_parameters(exclude_embeddings=exclude_embeddings)

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """Return the number of elements of the parameters."""
        raise NotImplementedError

    def _mask_dtype(self) -> Any:
        """Return the dtype of masks that are added to scores, or multiplied with them."""
        return self.dtype  # type: ignore[attr-defined]

    def _added(self, mask: Any, dtype: Any) -> Any:
        return (1.0 - self._ops.cast(mask, dtype)) * self._ops.lowest(dtype)


def _for_heads(mask: Any) -> Any:
    """Return a mask [B, K] or [B, Q, K] with an axis for the heads, and one for the queries."""
    if len(mask.shape) == 3:
        return mask[:, None, :, :]
    if len(mask.shape) == 2:
        return mask[:, None, None, :]
    raise ArgumentError(
        "attention_mask has a wrong shape.", expected="[B, K] or [B, Q, K]", received=str(tuple(mask.shape))
    )


def _warn_of_device(device: Any) -> None:
    if device is not None:
        warnings.warn("`device` has no effect: the mask is where attention_mask is", FutureWarning, stacklevel=3)


class EmbeddingAccessMixin:
    """Where a module reads tokens in and scores them, by the usual names of the attributes.

    The input embeddings are the attribute `_input_embed_layer` of the module, of its attribute `model`, or of its
    backbone, the attribute `base_model_prefix`; the output embeddings are `lm_head`.
    """

    base_model_prefix: ClassVar[str] = ""
    _input_embed_layer: ClassVar[str] = "embed_tokens"

    def get_input_embeddings(self) -> Any:
        """Return the layer of the token embeddings.

        Raises:
            MissingMethodError: it is at no usual place; override the method.
        """
        place = self._usual_place()
        if place:
            return attrgetter(place)(self)
        return self._asked_backbone("get_input_embeddings")()

    def set_input_embeddings(self, value: Any) -> None:
        """Replace the layer of the token embeddings."""
        place = self._usual_place()
        if not place:
            self._asked_backbone("set_input_embeddings")(value)
        else:
            owner, _, name = place.rpartition(".")
            setattr(attrgetter(owner)(self) if owner else self, name, value)

    def get_output_embeddings(self) -> Any:
        """Return `lm_head`, or None where there is none, or there are no input embeddings."""
        head = self._usual_head()
        if head is None:
            return None
        try:
            self.get_input_embeddings()
        except NotImplementedError:
            return None
        return head

    def set_output_embeddings(self, new_embeddings: Any) -> None:
        """Replace `lm_head`, if there is one."""
        if self._usual_head() is not None:
            self.lm_head = new_embeddings

    def _usual_head(self) -> Any:
        """Return `lm_head` if that is one layer with a matrix, and not a module of several."""
        head = getattr(self, "lm_head", None)
        return head if any(hasattr(head, name) for name in ("weight", "kernel", "units")) else None

    def _usual_place(self) -> str:
        """Return the dotted attribute of the token embeddings, or ""."""
        name, prefix = self._input_embed_layer, self.base_model_prefix
        for owner in ("", "model", prefix):
            holder = getattr(self, owner, None) if owner else self
            if getattr(holder, name, None) is not None:
                return f"{owner}.{name}" if owner else name
        return ""

    def _asked_backbone(self, method: str) -> Any:
        """Return a method of the backbone, which may be a module of any kind."""
        prefix = self.base_model_prefix
        backbone = getattr(self, prefix, self) if prefix else self
        found = None if backbone is self else getattr(backbone, method, None)
        if found is None:
            raise undefined(self, method)
        return found


def undefined(model: Any, method: str) -> MissingMethodError:
    """Return the error for a `method` of which only the author of the model's class can say what it does."""
    return MissingMethodError(f"{type(model).__name__} does not define {method}.", remedy="override it in the class")
