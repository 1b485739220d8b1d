"""Models as files of `jax.export`, which run where there is no triptych."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import export

from triptych.errors import ArgumentError
from triptych.files.atomic import write_atomically
from triptych.modeling.serving import ServedInput, Serving
from triptych_flax import layers

_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
_LARGEST = 2**31 - 2**24
"""How many bytes of parameters a file may have: its offsets have 32 bits, one of them a sign."""


class Exports(Serving):
    """Part of `FlaxPreTrainedModel`: the hooks of `export`."""

    export_options: ClassVar[tuple[str, ...]] = ("platforms", "params", "bake_params")

    def _export(
        self, file: Path, inputs: Mapping[str, ServedInput], platforms: Any = None, params: Any = None,
        bake_params: bool = True,
    ) -> None:  # fmt: skip
        platforms = _platforms(platforms)
        if not isinstance(bake_params, bool):
            raise ArgumentError("bake_params is no flag.", expected="True or False", received=repr(bake_params)[:80])
        params = self.params if params is None else params  # type: ignore[attr-defined]
        layers.collections(params)  # refuses what is no tree
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
        if bake_params and size > _LARGEST:
            raise ArgumentError(
                "The parameters are too large for a file of jax.export.",
                expected=f"at most {_LARGEST} bytes",
                received=f"{size} bytes",
                remedy="pass bake_params=False, and the parameters to `call(params, inputs)`",
            )

        def run(params: Any, inputs: Any) -> Any:
            output = self(**inputs, params=params, **self._call_to_serve())  # type: ignore[operator]
            return self._served_outputs(output)

        given: list[Any] = [self._described(inputs)]
        if not bake_params:
            given.insert(0, jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params))
        function = jax.jit((lambda inputs: run(params, inputs)) if bake_params else run)
        made = export.export(function, platforms=platforms)(*given)
        write_atomically(file, bytes(made.serialize()))

    def _described(self, inputs: Mapping[str, ServedInput]) -> dict[str, Any]:
        scope, found = export.SymbolicScope(), {}
        for name, one in inputs.items():
            shape = export.symbolic_shape(", ".join(map(str, one.axes)), scope=scope)
            dtype = jnp.int32 if one.is_integer else self.dtype  # type: ignore[attr-defined]
            found[name] = jax.ShapeDtypeStruct(shape, dtype)
        return found

    @staticmethod
    def _stacked(several: Sequence[Any]) -> Any:
        return jnp.stack(several)


def _platforms(given: Any) -> Any:
    if given is None or (isinstance(given, (list, tuple)) and given and all(one in _PLATFORMS for one in given)):
        return given
    raise ArgumentError("platforms are none.", expected=f"several of {', '.join(_PLATFORMS)}",
                        received=repr(given)[:80])  # fmt: skip
