"""Which adapters a model holds, and which of them act: what backends supply for it, and the switches."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import numpy as np

from triptych.adapters.config import LoraConfig
from triptych.adapters.held import Adapter, Adapters
from triptych.adapters.targets import Target
from triptych.checkpoints.opening import Checkpoint
from triptych.errors import ArgumentError
from triptych.modeling.generating import Generating
from triptych.tensors.ref import TensorRef

DEFAULT = "default"
Factors = Mapping[str, tuple[Any, Any]]


class ActingAdapters(Generating):
    """Part of `ModelBase`: adapters, in the file format of peft.

    A layer that is adapted computes `base(x) + scale * B(A(drop(x)))` for every adapter that acts. Names of weights,
    and what a save of the model without adapters writes, stay as they are.
    """

    _adapters: Any = None
    _adapter_state_dicts: ClassVar[bool] = False
    """Whether a `state_dict` of the framework's own holds adapters too."""

    # -- hooks of the backends ----------------------------------------------------------------------------------

    def _hold_adapter(self, name: str, factors: Mapping[Target, tuple[np.ndarray, np.ndarray]], rate: float) -> None:
        """Put A and B of a new adapter to the layers that they belong to; `rate` is that of its dropout.

        Raises:
            ArgumentError: a layer is of no kind that can be adapted; nothing is changed.
        """
        raise NotImplementedError

    def _drop_adapter(self, name: str) -> None:
        """Remove an adapter from every layer."""
        raise NotImplementedError

    def _adapter_factors(self, name: str) -> Factors:
        """Return module -> A, [rank, ins], and B, [outs, rank], as the framework holds them."""
        raise NotImplementedError

    def _act_adapters(self, scales: Mapping[str, Mapping[str, float]]) -> None:
        """Let these adapters act, and no others: adapter -> module -> by what its change is multiplied."""
        raise NotImplementedError

    def _train_adapters(self, adapters: Collection[str], weights: Collection[str]) -> None:
        """Let these adapters and weights of the model be trained, and nothing else."""
        raise NotImplementedError

    def _adapter_of_state(self, adapter: Adapter, name: str, state_dict: Mapping[str, Any]) -> dict[str, Any]:
        """Return the weights of an adapter that a `state_dict` of the framework holds, under the names of peft."""
        raise NotImplementedError

    def _refs_of_params(self, name: str, params: Any) -> dict[str, TensorRef]:
        """Return the weights of an adapter that a tree of parameters holds, under the names of peft."""
        raise NotImplementedError

    @classmethod
    def _in_memory(cls, state_dict: Mapping[str, Any], copied: bool = False) -> Checkpoint:
        """Return arrays, of numpy or of the framework, as a checkpoint; `copied` where a model will adopt them."""
        raise NotImplementedError

    # -- which there are ----------------------------------------------------------------------------------------

    @property
    def _hf_peft_config_loaded(self) -> bool:
        """Whether the model holds an adapter, under the name that it has in transformers."""
        return self._adapters_held() is not None

    @property
    def peft_config(self) -> dict[str, LoraConfig]:
        """The configs of the adapters, by their names; there is no such attribute while there are no adapters."""
        state = self._adapters_held()
        if state is None:
            raise AttributeError(f"{type(self).__name__} holds no adapters.")
        return {name: one.config for name, one in state.held.items()}

    def _adapters_held(self) -> Adapters | None:
        found: Adapters | None = vars(self).get("_adapters")
        return found

    def _some_adapters(self) -> Adapters:
        state = self._adapters_held()
        if state is None:
            raise ArgumentError("The model holds no adapter.", expected="an adapter", received="none",
                                remedy="load one by load_adapter, or make one by add_adapter")  # fmt: skip
        return state

    def active_adapters(self) -> list[str]:
        """Return the names of the adapters that are set, whether or not they are disabled.

        Raises:
            ArgumentError: there are none.
        """
        return list(self._some_adapters().active)

    def active_adapter(self) -> str:
        """Return the first of `active_adapters`."""
        return self.active_adapters()[0]

    # -- which of them act --------------------------------------------------------------------------------------

    def set_adapter(self, adapter_name: str | list[str]) -> None:
        """Let this adapter act, or these together, and no others; and let it be trained, if it was added to be.

        Raises:
            ArgumentError: there is no such adapter, or two have values of their own for one weight.
        """
        state = self._some_adapters()
        names = state.known(adapter_name)
        state.refuse_merged()
        state.refuse_two_owners(names)
        state.active, state.enabled = names, True
        self._follow_adapters()

    def disable_adapters(self) -> None:
        """Let the model compute as it does without adapters; they stay there."""
        self._enable_adapters(False)

    def enable_adapters(self) -> None:
        """Let the adapters that are set act again."""
        self._enable_adapters(True)

    def _enable_adapters(self, enabled: bool) -> None:
        state = self._some_adapters()
        state.refuse_merged()
        state.enabled = enabled
        self._follow_adapters()

    def delete_adapter(self, adapter_names: str | list[str]) -> None:
        """Remove adapters. Without the last, the model is as it was before there was one.

        Raises:
            ArgumentError: there is no such adapter.
        """
        state = self._some_adapters()
        names = state.known(adapter_names)
        state.refuse_merged()
        kept = tuple(name for name in state.active if name not in names)
        left = [name for name in state.held if name not in names]
        state.active = kept or tuple(left[:1])
        self._follow_adapters()
        for name in names:
            self._drop_adapter(name)
            del state.held[name]
        if not state.held:
            self._forget_adapters(state)

    def _forget_adapters(self, state: Adapters) -> None:
        del self.__dict__["_adapters"]
        self._train_adapters((), state.trained_before)

    def _follow_adapters(self) -> None:
        """Let the live model be as its `Adapters` say."""
        state = self._some_adapters()
        self._exchange_whole(state)
        self._act_adapters(state.scales())
        self._train_adapters(*state.trained())

    def _exchange_whole(self, state: Adapters) -> None:
        """Give weights that adapters have whole the values of those that act, or the model's own; keep the others."""
        wanted, before = state.wanted_owners(), dict(state.owners)
        changing = [name for name in {**before, **wanted} if before.get(name) != wanted.get(name)]
        if not changing:
            return
        schema, read, new = self.schema, self._reader(), {}
        for name in changing:
            old, now = before.get(name), wanted.get(name)
            kept = state.base if old is None else state.held[old].whole
            kept[name] = np.array(read(schema[name]))
            new[name] = (state.base if now is None else state.held[now].whole).pop(name)
        self._replace(new)
        state.owners = wanted
