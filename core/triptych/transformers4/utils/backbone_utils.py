"""`transformers.utils.backbone_utils`: which stages of a vision model are handed out, by name and by number."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

from triptych.errors import ArgumentError
from triptych.transformers4 import exports


def verify_out_features_out_indices(
    out_features: Sequence[str] | None, out_indices: Sequence[int] | None, stage_names: Sequence[str] | None
) -> None:
    """Raise unless names and numbers are of stages, each once and in their order, and of the same ones.

    Raises:
        ArgumentError: they are not.
    """
    if stage_names is None:
        raise ArgumentError("A backbone has stages.", expected="stage_names", received="None")
    places = None
    if out_features is not None:
        places = [list(stage_names).index(name) if name in stage_names else -1 for name in out_features]
        _check("out_features", out_features, places, stage_names)
    if out_indices is not None:
        count = len(stage_names)
        numbers = [(i + count if i < 0 else i) if -count <= i < count else -1 for i in out_indices]
        _check("out_indices", out_indices, numbers, stage_names)
        if places is not None and places != numbers:
            raise ArgumentError("out_features and out_indices are of different stages.",
                                received=f"{out_features} and {out_indices} of {list(stage_names)}")  # fmt: skip


def _check(name: str, given: Any, places: list[int], stage_names: Sequence[str]) -> None:
    if not isinstance(given, list) or -1 in places or places != sorted(set(places)):
        expected = f"a list of stages, each once and in the order of {list(stage_names)}"
        raise ArgumentError(f"{name} is impossible.", expected=expected, received=repr(given))


def get_aligned_output_features_output_indices(
    out_features: Sequence[str] | None, out_indices: Iterable[int] | None, stage_names: Sequence[str]
) -> tuple[list[str], list[int]]:
    """Return names and numbers of the stages that either says; without both, of the last stage.

    Raises:
        ArgumentError: see `verify_out_features_out_indices`.
    """
    numbers = None if out_indices is None else list(out_indices)
    verify_out_features_out_indices(out_features, numbers, stage_names)
    if out_features is None:
        numbers = [len(stage_names) - 1] if numbers is None else numbers
        return [stage_names[i] for i in numbers], numbers
    return list(out_features), [list(stage_names).index(n) for n in out_features] if numbers is None else numbers


class _Stages:
    """`out_features` and `out_indices`, of which setting one sets the other; kept in two private attributes."""

    stage_names: Sequence[str]
    _out_features: list[str]
    _out_indices: list[int]

    @property
    def out_features(self) -> list[str]:
        """The names of the stages that are handed out."""
        return self._out_features

    @out_features.setter
    def out_features(self, names: list[str]) -> None:
        self._align(names, None)

    @property
    def out_indices(self) -> list[int]:
        """Their numbers."""
        return self._out_indices

    @out_indices.setter
    def out_indices(self, numbers: Iterable[int]) -> None:
        self._align(None, numbers)

    def _align(self, names: Sequence[str] | None, numbers: Iterable[int] | None) -> None:
        aligned = get_aligned_output_features_output_indices(names, numbers, self.stage_names)
        self._out_features, self._out_indices = aligned


class BackboneConfigMixin(_Stages):
    """Of a config: which stages the model hands out."""

    def to_dict(self) -> dict[str, Any]:
        """Return the values of the config, those of the stages under their public names."""
        values: dict[str, Any] = super().to_dict()  # type: ignore[misc]
        for name in ("out_features", "out_indices"):
            values[name] = values.pop(f"_{name}", getattr(self, f"_{name}", None))
        return values


class BackboneMixin(_Stages):
    """Of a model: which stages it hands out, and how many channels each has: `num_features`, one for each stage."""

    num_features: list[int]

    def _init_backbone(self, config: Any) -> None:
        """Take the stages from the config.

        Raises:
            ArgumentError: it says `use_timm_backbone`; or the stages do not fit.
        """
        if getattr(config, "use_timm_backbone", False):
            raise ArgumentError("Backbones of timm are not made.", remedy="make the model with timm, as a module")
        self.config = config
        self.use_timm_backbone = False
        self.stage_names = config.stage_names
        self._align(getattr(config, "out_features", None), getattr(config, "out_indices", None))

    @property
    def out_feature_channels(self) -> dict[str, int]:
        """The number of channels of each stage, by its name."""
        return dict(zip(self.stage_names, self.num_features, strict=False))

    @property
    def channels(self) -> list[int]:
        """The number of channels of each stage that is handed out."""
        return [self.out_feature_channels[name] for name in self.out_features]

    def forward_with_filtered_kwargs(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model with those of the arguments that it takes."""
        forward: Any = self.forward  # type: ignore[attr-defined]
        known = inspect.signature(forward).parameters
        return self(*args, **{name: value for name, value in kwargs.items() if name in known})  # type: ignore[operator]


exports(globals())
