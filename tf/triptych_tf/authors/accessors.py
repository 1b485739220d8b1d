"""The vocabulary of a model whose embeddings are in a layer of the author's own, and the biases of its head."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from typing import Any

import keras
import numpy as np

from triptych.errors import ArgumentError
from triptych.modeling.derived import LiveWeight
from triptych.weights import layouts
from triptych.weights.schema import Layout, Weight
from triptych.weights.surgery import VOCAB
from triptych_tf import arrays, internals, layers
from triptych_tf.authors.checks import expect, expect_mapping, tensor_of

_TABLES = ("weight", "embeddings", "decoder", "kernel")
"""The attributes in which layers keep a matrix of the vocabulary."""


class Accessors:
    """Part of `TFPreTrainedModel`: embeddings and heads, also those of a main layer that is no model itself."""

    # -- from the main layer, and from the head -----------------------------------------------------------------

    def _backbone(self, method: str) -> Any:
        main = getattr(self, self.base_model_prefix, None) if self.base_model_prefix else None  # type: ignore[attr-defined]
        if main is not None and main is not self and callable(getattr(main, method, None)):
            return main
        return super()._backbone(method)  # type: ignore[misc]

    def set_input_embeddings(self, value: Any) -> None:
        """Replace the token embeddings, by a layer or by a matrix [vocab, hidden].

        Raises:
            ArgumentError: `value` is neither, or of another width.
        """
        old = self.get_input_embeddings()  # type: ignore[attr-defined]
        if self._place(Layout.EMBEDDING) and isinstance(value, keras.layers.Layer):  # type: ignore[attr-defined]
            super().set_input_embeddings(value)  # type: ignore[misc]
        else:
            self._put_vocabulary(old, value)

    def get_output_embeddings(self) -> Any:
        """Return what maps to the vocabulary, or None; the input embeddings, where it is tied and has no layer."""
        head = self._own_head()
        if callable(getattr(head, "get_output_embeddings", None)):
            return head.get_output_embeddings()
        return super().get_output_embeddings()  # type: ignore[misc]

    def set_output_embeddings(self, new_embeddings: Any) -> None:
        """Replace what maps to the vocabulary, by a layer or by a matrix [vocab, hidden]."""
        if self._own_head() is None and isinstance(new_embeddings, keras.layers.Layer):
            super().set_output_embeddings(new_embeddings)  # type: ignore[misc]
        else:
            self._put_vocabulary(self.get_output_embeddings(), new_embeddings)

    def get_lm_head(self) -> Any:
        """Return the layer of the head that scores the vocabulary, or None; a class with its own overrides it."""
        biases = self._vocab_biases()
        place = biases[0].name.rpartition(".")[0] if biases else self._place(Layout.LINEAR)  # type: ignore[attr-defined]
        found: Any = self
        for attribute in place.split(".") if place else ():
            found = getattr(found, attribute)
        return None if found is self else found

    def get_bias(self) -> dict[str, Any] | None:
        """Return the biases over the vocabulary by name, or None."""
        head = self._own_head()
        if callable(getattr(head, "get_bias", None)):
            self.build_in_name_scope()  # type: ignore[attr-defined]
            return head.get_bias()
        found = {weight.name.rpartition(".")[2]: self._variable_of(weight) for weight in self._vocab_biases()}
        return found or None

    def set_bias(self, value: Mapping[str, Any]) -> None:
        """Set biases over the vocabulary, by the names of `get_bias`.

        Raises:
            ArgumentError: another name or length: `resize_token_embeddings` changes lengths. No names and arrays.
        """
        expect_mapping("value", value, "names and arrays")
        biases = self.get_bias() or {}
        arrays_of = {name: _as_array(one) for name, one in value.items()}
        wrong = [name for name, a in arrays_of.items() if name not in biases or a.shape != tuple(biases[name].shape)]
        if wrong:
            raise ArgumentError(
                "These are no biases of the head.",
                expected=", ".join(f"{name} {tuple(one.shape)}" for name, one in biases.items()) or "none",
                received=", ".join(f"{name} {arrays_of[name].shape}" for name in wrong),
                remedy="change the vocabulary with resize_token_embeddings first",
            )
        for name, array in arrays_of.items():
            biases[name].assign(array)

    def get_output_layer_with_bias(self) -> Any:
        """Return `get_lm_head()`: the former name."""
        warnings.warn("get_output_layer_with_bias is old; get_lm_head does the same.", FutureWarning, stacklevel=2)
        return self.get_lm_head()

    def get_prefix_bias_name(self) -> None:
        """Return None: names of biases have no prefix."""
        warnings.warn("get_prefix_bias_name is old; get_bias has the names.", FutureWarning, stacklevel=2)

    # -- which variables they are -------------------------------------------------------------------------------

    def _own_head(self) -> Any:
        """Return the head that the class itself names by `get_lm_head`, or None."""
        return self.get_lm_head() if type(self).get_lm_head is not Accessors.get_lm_head else None

    def _live_vocab(self) -> Collection[str]:
        parts = [*self._vocab_parts(), *((self._own_head() and self.get_bias()) or {}).values()]  # type: ignore[attr-defined]
        vocab = {id(variable) for part in parts for variable in _vocabulary_of(part)}
        variables = self._variables()  # type: ignore[attr-defined]
        live: list[LiveWeight] = self._live_weights()  # type: ignore[attr-defined]
        # A bias [1, vocab] has its own way: `_say_rows`.
        return [w.name for w in live if id(variables[w.key]) in vocab and w.shape[:1] != (1,)]

    def _vocab_biases(self) -> list[Weight]:
        weights = self.schema.values()  # type: ignore[attr-defined]
        return [w for w in weights if w.tied_to is None and len(w.axes) == 1 and w.axes[0].name == VOCAB]

    def _variable_of(self, weight: Weight) -> Any:
        return self._variables()[layouts.native_path(weight, "tf")]  # type: ignore[attr-defined]

    def _put_vocabulary(self, old: Any, value: Any) -> None:
        """Put a layer in the place of the layer `old` wherever that is, or a matrix into its variable."""
        if (
            isinstance(value, keras.layers.Layer)
            and isinstance(old, keras.layers.Layer)
            and type(old).build is type(value).build
        ):
            for owner in [*internals.with_all_parts(self)]:
                for attribute in [
                    name for name, held in vars(owner).items() if held is old and not name.startswith("_")
                ]:
                    layers.replace_layer(owner, attribute, value)
            return
        table = _vocabulary_of(value)[0] if isinstance(value, keras.layers.Layer) else value
        variable, array = _vocabulary_of(old)[0], _as_array(table)
        width = tuple(variable.shape)[1:]
        wanted = f"a layer, or a matrix of rows of {', '.join(map(str, width))}"
        expect(array.ndim == len(variable.shape) and array.shape[1:] == width, "value", wanted, array)
        before = variable.shape[0]
        owner = next(owner for _, one, owner in layers.walk(self) if one is variable)
        layers.replace_value(variable, owner, array)
        self._say_rows(before, variable.shape[0])

    def _say_rows(self, before: int, rows: int) -> None:
        """Let every layer that counts the vocabulary count anew, and a bias [1, before] of the head be as long."""
        for layer in internals.with_all_parts(self):
            if getattr(layer, "vocab_size", None) == before:
                layer.vocab_size = rows
        of_head = (self._own_head() and self.get_bias()) or {}
        for _, variable, owner in layers.walk(self):
            if tuple(variable.shape) == (1, before) and any(variable is one for one in of_head.values()):
                new = np.zeros((1, rows), _as_array(variable).dtype)
                new[:, :before] = _as_array(variable)[:, :rows]
                layers.replace_value(variable, owner, new)


def _vocabulary_of(part: Any) -> list[Any]:
    """Return the variables of an embedding or a head that have a row for each token."""
    if isinstance(part, keras.Variable):
        return [part]
    for name in _TABLES:
        found = getattr(part, name, None)
        if isinstance(found, keras.layers.Layer):
            return _vocabulary_of(found)
        if isinstance(found, keras.Variable):
            bias = getattr(part, "bias", None)
            return [found, *([bias] if isinstance(bias, keras.Variable) else [])]
    return [variable for _, variable, _ in layers.walk(part)]


def _as_array(value: Any) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    return np.array(arrays.to_numpy(tensor_of("value", value)))
