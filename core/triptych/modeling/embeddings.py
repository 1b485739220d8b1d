"""The embedding accessors of the three base classes, and the cache for decoding."""

from __future__ import annotations

from operator import attrgetter
from typing import Any, ClassVar

from triptych.errors import ArgumentError
from triptych.modeling.schemas import Schemas
from triptych.modeling.utilities import EmbeddingAccessMixin, undefined
from triptych.nn import cache
from triptych.weights.schema import Layout, Weight, vocab_weight


class Embeddings(Schemas, EmbeddingAccessMixin):
    """Part of `ModelBase`: where a model reads tokens in, and where it scores them."""

    _input_embeddings: ClassVar[str] = ""
    _output_embeddings: ClassVar[str] = ""
    """Where the two are: dotted attributes. A class made of a part needs none, since its schema says it; another may
    override the methods that use them instead."""

    @property
    def base_model(self) -> Any:
        """The backbone: the attribute named `base_model_prefix`, or the model itself."""
        return getattr(self, self.base_model_prefix, self) if self.base_model_prefix else self

    def get_input_embeddings(self) -> Any:
        """Return the token embeddings [vocab, hidden]: the module, the layer, or in Flax the array."""
        if place := self._place(Layout.EMBEDDING):
            return attrgetter(place)(self)
        return super().get_input_embeddings()

    def set_input_embeddings(self, value: Any) -> None:
        """Replace the token embeddings."""
        if place := self._place(Layout.EMBEDDING):
            self._replace_part(place, value)
        elif usual := self._usual_place():
            self._replace_part(usual, value)
        else:
            super().set_input_embeddings(value)

    def get_output_embeddings(self) -> Any:
        """Return what maps to the vocabulary, or None; the input embeddings, where it is tied and has no layer."""
        place = self._place(Layout.LINEAR)
        if not place:
            return super().get_output_embeddings()
        found = attrgetter(place)(self)
        return self.get_input_embeddings() if found is None else found

    def set_output_embeddings(self, new_embeddings: Any) -> None:
        """Replace what maps to the vocabulary.

        Raises:
            MissingMethodError: there is nothing at a known place; override the method.
        """
        place = self._place(Layout.LINEAR) or ("lm_head" if self._usual_head() is not None else "")
        if not place:
            raise undefined(self, "set_output_embeddings")
        if attrgetter(place)(self) is None:
            self.set_input_embeddings(new_embeddings)
        else:
            self._replace_part(place, new_embeddings)

    def get_position_embeddings(self) -> Any:
        """Return the embeddings of positions: for classes that have such a way to override.

        Raises:
            MissingMethodError: this one has not.
        """
        raise undefined(self, "get_position_embeddings")

    def resize_position_embeddings(self, new_num_position_embeddings: int) -> None:
        """Change the number of positions: for classes that have such a way to override.

        Raises:
            MissingMethodError: this one has not.
        """
        raise undefined(self, "resize_position_embeddings")

    def init_cache(self, batch_size: int, max_length: int) -> Any:
        """Return an empty cache for decoding, to be passed as `past_key_values`; each call returns the next.

        In PyTorch it grows; in TensorFlow and Flax it has a fixed size, so that a compiled call is compiled once.

        Args:
            max_length: tokens of prompt and answer together.

        Raises:
            ArgumentError: the model does not decode, or a size is impossible.
        """
        heads = getattr(self.config, "cached_heads", None)
        if heads is None:
            raise ArgumentError(f"{type(self).__name__} does not decode, so it has no cache.")
        return cache.new_cache(self._ops, heads, self.config.head_dim, batch_size, max_length, self._cache_dtype())

    def _place(self, layout: Layout) -> str:
        """Return the dotted attribute of the layer that holds the vocabulary's weight of `layout`, or ""."""
        stated = self._input_embeddings if layout is Layout.EMBEDDING else self._output_embeddings
        if stated or self.declared_part is None:
            return stated
        weight = self._vocab_weight(layout)
        return "" if weight is None else weight.name.rpartition(".")[0]

    def _vocab_weight(self, layout: Layout) -> Weight | None:
        """Return the declared weight of `layout` whose rows are tokens, or None."""
        return vocab_weight(self.declared_schema or {}, layout)

    def _vocab_parts(self) -> list[Any]:
        """Return those of the input and output embeddings that the class has."""
        try:
            return [part for part in (self.get_input_embeddings(), self.get_output_embeddings()) if part is not None]
        except NotImplementedError:
            return []
