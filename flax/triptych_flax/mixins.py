"""What a model of Flax can be given besides: masks and counts, and its embeddings."""

from __future__ import annotations

from typing import Any, ClassVar

from triptych.modeling.utilities import EmbeddingAccessMixin as EmbeddingAccessMixin
from triptych.modeling.utilities import ModuleUtils
from triptych_flax import layers, ops


class ModuleUtilsMixin(ModuleUtils):
    """Attention masks, head masks, counts of parameters and operations of an object with `params` and `dtype`."""

    ops: ClassVar[Any] = ops
    params: Any

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """Return the number of elements of `params`; embeddings are the leaves that linen calls so."""
        leaves = layers.flat(self.params).items()
        return sum(leaf.size for path, leaf in leaves if not (exclude_embeddings and path[-1] == "embedding"))
