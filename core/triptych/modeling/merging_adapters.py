"""Adapters whose changes are added to the matrices of their model, and taken away again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from triptych.adapters import numbers
from triptych.adapters.held import Adapters
from triptych.adapters.targets import Target
from triptych.errors import ArgumentError
from triptych.modeling.acting_adapters import ActingAdapters

_BATCH_BYTES = 2**28


class MergingAdapters(ActingAdapters):
    """Part of `ModelBase`."""

    def merge_adapter(self, adapter_names: str | list[str] | None = None, safe_merge: bool = False) -> None:
        """Add the changes of adapters to the model's own matrices: it computes the same, as fast as without them.

        The sums are computed in float32, and equal those of `triptych merge` bit for bit.

        Args:
            adapter_names: by default those that act.
            safe_merge: refuse a change that is not finite, before any matrix is changed.

        Raises:
            ArgumentError: there is no such adapter, it is merged already, or a matrix is tied to another.
        """
        state = self._some_adapters()
        names = state.known(list(state.acting) if adapter_names is None else adapter_names)
        state.refuse_merged()
        state.refuse_two_owners(names)
        self._refuse_merge(state, names)
        if safe_merge:
            for name, array in self._merged_matrices(names, 1):
                if not np.isfinite(array.astype(np.float32, copy=False)).all():
                    raise ArgumentError(
                        "The merged matrix would not be finite.",
                        received=name,
                        remedy="look at the adapter: it holds inf or nan, or its scale is too large",
                    )
        self._put_in_batches(self._merged_matrices(names, 1))
        state.merged, state.active = names, names
        self._follow_adapters()

    def unmerge_adapter(self) -> None:
        """Take the changes of merged adapters away again; up to rounding, the matrices are as before.

        Raises:
            ArgumentError: none is merged.
        """
        state = self._some_adapters()
        if not state.merged:
            raise ArgumentError("No adapter is merged.", remedy="call merge_adapter() first")
        self._put_in_batches(self._merged_matrices(state.merged, -1))
        state.merged = ()
        self._follow_adapters()

    def merge_and_unload(self, safe_merge: bool = False, adapter_names: str | list[str] | None = None) -> Any:
        """Merge adapters, by default those that act, and drop all; return the model, which is one without adapters.

        Raises:
            As `merge_adapter`.
        """
        state = self._some_adapters()
        if not state.merged:
            self.merge_adapter(adapter_names, safe_merge)
        for name in list(state.held):
            self._drop_adapter(name)
        self._forget_adapters(state)
        return self

    def _refuse_merge(self, state: Adapters, names: Iterable[str]) -> None:
        schema = self.schema
        sources = {weight.tied_to for weight in schema.values()}
        changing = [one.weight for name in names for one in state.held[name].targets]
        if coded := [name for name in changing if schema[name].packed is not None]:
            raise ArgumentError(
                "The matrix is quantised, and its codes cannot take a change.", expected="floating numbers",
                received=", ".join(coded[:4]), remedy="load the adapter into the model as it is without quantisation",
            )  # fmt: skip
        if tied := [name for name in changing if name in sources]:
            raise ArgumentError(
                "The matrix is tied, and the other layer is not adapted.", expected="a matrix of its own",
                received=", ".join(tied), remedy="load the model with tie_word_embeddings=False",
            )  # fmt: skip

    def _merged_matrices(self, names: Iterable[str], sign: int) -> Iterator[tuple[str, np.ndarray]]:
        """Yield weight and new value of each matrix that these adapters change, one at a time."""
        state, schema, read = self._some_adapters(), self.schema, self._reader()
        changes: dict[str, list[tuple[Target, tuple[Any, Any]]]] = {}
        for name in names:
            factors = self._adapter_factors(name)
            for one in state.held[name].targets:
                changes.setdefault(one.weight, []).append((one, factors[one.module]))
        for weight, several in changes.items():
            array = np.array(read(schema[weight]))
            for one, pair in several:
                a, b = map(self._to_numpy, pair)
                array = numbers.changed(one, array, a, b, sign)
            yield weight, array

    def _put_in_batches(self, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
        batch: dict[str, np.ndarray] = {}
        for name, array in arrays:
            batch[name] = array
            if sum(one.nbytes for one in batch.values()) > _BATCH_BYTES:
                self._replace(batch)
                batch = {}
        if batch:
            self._replace(batch)
