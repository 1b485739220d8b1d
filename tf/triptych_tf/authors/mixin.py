"""What transformers 4 called `TFModelUtilsMixin`."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["TFModelUtilsMixin"]


class TFModelUtilsMixin:
    """For a `keras.Model` that is no `TFPreTrainedModel`, which counts by itself."""

    def num_parameters(self, only_trainable: bool = False) -> int:
        """Return the number of elements of the weights, each once; with `only_trainable` without frozen ones."""
        model: Any = self
        variables = model.trainable_variables if only_trainable else model.weights
        return sum(int(np.prod(variable.shape)) for variable in {id(one): one for one in variables}.values())
