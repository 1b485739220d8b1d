"""Which weights stay in float32 when a model is loaded in half precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from triptych.errors import ArgumentError
from triptych.modeling.hooks import Hooks
from triptych.modeling.key_names import stated
from triptych.weights.plan import is_below


class Precision(Hooks):
    """Part of `ModelBase`: the two lists of modules, under the names of transformers 4.

    Each entry is a part of the dotted names of weights, such as "wo" or "decoder.norm".
    """

    _keep_in_fp32_modules: ClassVar[Sequence[str] | None] = None
    """Loaded in float32 where the others are float16."""
    _keep_in_fp32_modules_strict: ClassVar[Sequence[str] | None] = None
    """Loaded in float32 where the others are float16 or bfloat16."""

    @classmethod
    def _kept_wide(cls) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return stated(cls, "_keep_in_fp32_modules"), stated(cls, "_keep_in_fp32_modules_strict")

    def _refuse_unknown_kept(self) -> None:
        """Raise `ArgumentError` if one of the lists names what no weight is below."""
        kept = [name for names in self._kept_wide() for name in names]
        weights = [weight.name for weight in self._live_weights()] if kept else []
        unknown = [name for name in kept if not any(is_below(weight, name) for weight in weights)]
        if unknown:
            raise ArgumentError(
                f"{type(self).__name__} keeps weights in float32 that it does not have.",
                expected="parts of names of weights in _keep_in_fp32_modules and _keep_in_fp32_modules_strict",
                received=", ".join(unknown),
            )
