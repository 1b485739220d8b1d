"""The vocabulary's leaves, and operations on parameters that the model does not hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from triptych.errors import ArgumentError
from triptych.weights.schema import Layout, Weight
from triptych_flax import layers
from triptych_flax.base.parameters import Parameters


class Operations(Parameters):
    """Part of `FlaxPreTrainedModel`: embeddings and surgery, on a tree that is the model's or its caller's."""

    @property
    def base_model(self) -> Any:
        """The model itself: the backbone is a part of one tree, not a model of its own."""
        return self

    def get_input_embeddings(self) -> Any:
        """Return the token embeddings [vocab, hidden]."""
        return self._get(self._vocab_leaf(Layout.EMBEDDING))

    def set_input_embeddings(self, value: Any) -> None:
        """Replace the token embeddings.

        Raises:
            ArgumentError: `value` is no matrix.
        """
        self._set(self._vocab_leaf(Layout.EMBEDDING), value)

    def get_output_embeddings(self) -> Any:
        """Return the matrix that maps to the vocabulary, as [vocab, hidden], or None."""
        try:
            return self._get(self._vocab_leaf(Layout.LINEAR))
        except NotImplementedError:
            return None

    def set_output_embeddings(self, new_embeddings: Any) -> None:
        """Replace the matrix that maps to the vocabulary, given as [vocab, hidden].

        Raises:
            ArgumentError: it is no matrix. NotImplementedError: the model has none.
        """
        self._set(self._vocab_leaf(Layout.LINEAR), new_embeddings)

    def tie_weights(self) -> None:
        """Do nothing: a tied weight has no leaf of its own, the module reads the other one."""

    def _vocab_leaf(self, layout: Layout) -> Weight:
        """Return the weight that has a leaf of its own, and is or is shared by that of the vocabulary."""
        weight = self._vocab_weight(layout)
        if weight is None:
            raise NotImplementedError(f"{type(self).__name__} does not define its {layout.value} of the vocabulary")
        declared: Mapping[str, Weight] = self.declared_schema or {}
        return weight if weight.tied_to is None else declared[weight.tied_to]

    def _get(self, weight: Weight) -> Any:
        leaf = layers.leaf(self.params, self._path(weight), weight.name)
        return leaf.T if weight.layout is Layout.LINEAR else leaf

    def _set(self, weight: Weight, value: Any) -> None:
        if np.ndim(value) != 2:
            raise ArgumentError(
                "These are no embeddings.", expected="an array [vocab, hidden]", received=repr(value)[:80]
            )
        value = jnp.asarray(value)
        value = value.T if weight.layout is Layout.LINEAR else value
        self._params = unflatten_dict({**layers.flat(self.params), self._path(weight): value})

    # -- surgery ------------------------------------------------------------------------------------------------

    def resize_token_embeddings(
        self,
        new_num_tokens: int | None = None,
        pad_to_multiple_of: int | None = None,
        mean_resizing: bool = True,
        *,
        seed: int = 0,
        params: Any = None,
    ) -> Any:
        """As in the other frameworks; with `params`, on these, and the new ones are returned.

        A model that holds parameters holds the new ones then.
        """
        with self._holding(params) as held:
            result = super().resize_token_embeddings(new_num_tokens, pad_to_multiple_of, mean_resizing, seed=seed)
        return result if params is None else held.params

    def prune_heads(self, heads_to_prune: Mapping[int, Iterable[int]], *, params: Any = None) -> Any:
        """As in the other frameworks; with `params`, on these, and the new ones are returned.

        A model that holds parameters holds the new ones then.
        """
        with self._holding(params) as held:
            super().prune_heads(heads_to_prune)
        return None if params is None else held.params
