"""The adapters that a live model holds: which there are, which of them act, and whose values whole weights have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from triptych.adapters.config import LoraConfig
from triptych.adapters.targets import Target
from triptych.errors import ArgumentError
from triptych.weights.schema import Layout


@dataclass
class Adapter:
    """One adapter of a model; the framework has its factors.

    - `names`: the weights of the model of which it has its own values.
    - `whole`: these values, in canonical layout, while the model itself does not have them.
    - `trained`: whether it is trained while it acts.
    """

    config: LoraConfig
    targets: tuple[Target, ...]
    names: tuple[str, ...]
    whole: dict[str, np.ndarray]
    trained: bool


@dataclass
class Adapters:
    """All adapters of a model.

    - `trained_before`: the weights of the model that were trained before there were adapters.
    - `base`: the model's own values of those weights that have an adapter's just now, whose name `owners` says.
    - `merged`: the adapters whose change is in the matrices themselves.
    """

    trained_before: frozenset[str]
    held: dict[str, Adapter] = field(default_factory=dict)
    active: tuple[str, ...] = ()
    enabled: bool = True
    merged: tuple[str, ...] = ()
    base: dict[str, np.ndarray] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)

    @property
    def acting(self) -> tuple[str, ...]:
        """The adapters that change what the model computes, beside merged ones."""
        return tuple(name for name in self.active if name not in self.merged) if self.enabled else ()

    def scales(self) -> dict[str, dict[str, float]]:
        """Return acting adapter -> module -> by what its change is multiplied."""
        return {name: {one.module: one.scale for one in self.held[name].targets} for name in self.acting}

    def wanted_owners(self) -> dict[str, str]:
        """Return weight -> adapter whose values it is to have."""
        acting = self.active if self.enabled else self.merged
        return {weight: name for name in reversed(acting) for weight in self.held[name].names}

    def trained(self) -> tuple[list[str], list[str]]:
        """Return the adapters that are trained, and the weights of the model that are trained with them."""
        names = [name for name in self.acting if self.held[name].trained]
        return names, [weight for weight, owner in self.wanted_owners().items() if owner in names]

    def touched(self) -> set[str]:
        """Return the weights that an adapter changes, or has values of its own for."""
        every = self.held.values()
        return {one.weight for a in every for one in a.targets} | {name for a in every for name in a.names}

    def known(self, names: str | Sequence[str]) -> tuple[str, ...]:
        """Return `names`, one or several, as adapters that are held.

        Raises:
            ArgumentError: there is none of a name, or nothing is named.
        """
        several = (names,) if isinstance(names, str) else names
        if not isinstance(several, (list, tuple)) or not all(isinstance(name, str) for name in several) or not several:
            raise ArgumentError("This names no adapter.", expected="a name, or a list of names",
                                received=repr(names)[:80])  # fmt: skip
        if missing := [name for name in several if name not in self.held]:
            raise ArgumentError("There is no such adapter.", expected=f"one of {', '.join(self.held)}",
                                received=", ".join(missing))  # fmt: skip
        return tuple(dict.fromkeys(several))

    def refuse_merged(self) -> None:
        """Raise `ArgumentError` while an adapter is merged."""
        if self.merged:
            raise ArgumentError(
                "The model's own matrices hold merged adapters.",
                expected="adapters that are beside the matrices",
                received=f"merged: {', '.join(self.merged)}",
                remedy="call unmerge_adapter() first, or merge_and_unload() to keep the matrices and drop the adapters",
            )

    def refuse_two_owners(self, names: Sequence[str]) -> None:
        """Raise `ArgumentError` if two adapters of `names` have values of their own for one weight."""
        seen: dict[str, str] = {}
        for name in names:
            for weight in self.held[name].names:
                if weight in seen:
                    raise ArgumentError(
                        "These adapters cannot act together: both have a whole weight of their own.",
                        expected="adapters with different modules_to_save, and one that trains biases",
                        received=f"{seen[weight]} and {name}: {weight}",
                    )
                seen[weight] = name

    def described(self) -> dict[str, Any]:
        """Return what makes the same adapters of a model without, but for their values, as JSON has it.

        Raises:
            ArgumentError: an adapter has whole weights of its own, whose values the model holds beside its own.
        """
        if whole := [name for name, one in self.held.items() if one.names]:
            raise ArgumentError(
                "A model cannot be saved as a whole while adapters have whole weights of their own.",
                expected="adapters without modules_to_save and biases",
                received=", ".join(whole),
                remedy="save each by save_pretrained, or call merge_and_unload() first",
            )
        held = {
            name: {"config": one.config.to_dict(), "trained": one.trained, "targets": [*map(asdict, one.targets)]}
            for name, one in self.held.items()
        }
        return {"held": held, "active": list(self.active), "enabled": self.enabled, "merged": list(self.merged),
                "trained_before": sorted(self.trained_before)}  # fmt: skip

    @classmethod
    def of_description(cls, values: Mapping[str, Any]) -> Adapters:
        """Return what `described` is of."""
        held = {}
        for name, one in values["held"].items():
            targets = tuple(Target(**{**told, "layout": Layout(told["layout"])}) for told in one["targets"])
            held[name] = Adapter(LoraConfig.of(one["config"]), targets, (), {}, one["trained"])
        active, merged = tuple(values["active"]), tuple(values["merged"])
        return cls(frozenset(values["trained_before"]), held, active, values["enabled"], merged)


def of_scale(scales: Mapping[str, Mapping[str, float]], module: str) -> dict[str, float]:
    """Return adapter -> scale of those of `scales` that change the layer `module`."""
    return {name: found[module] for name, found in scales.items() if module in found}
