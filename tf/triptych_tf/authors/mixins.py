"""What a model of Keras, of triptych or not, can be given besides: masks, counts, and its embeddings."""

from __future__ import annotations

from typing import Any, ClassVar

from triptych.modeling.utilities import EmbeddingAccessMixin as EmbeddingAccessMixin
from triptych.modeling.utilities import ModuleUtils
from triptych_tf import ops


class ModuleUtilsMixin(ModuleUtils):
    """Attention masks, head masks, counts of parameters and operations of a `keras.Model` or layer."""

    ops: ClassVar[Any] = ops

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """Return the number of elements of the variables, or of the trainable ones; a shared one counts once.

        Raises:
            NotImplementedError: `exclude_embeddings`, which only models of triptych know.
        """
        if exclude_embeddings:
            raise NotImplementedError("the variables of embeddings are known of triptych's models alone")
        model: Any = self
        variables = model.trainable_variables if only_trainable else model.variables
        return sum(variable.value.shape.num_elements() for variable in {id(v): v for v in variables}.values())

    def _mask_dtype(self) -> Any:
        return self.compute_dtype  # type: ignore[attr-defined]
