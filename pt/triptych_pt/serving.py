"""Models as files of `torch.export`, which run where there is no triptych."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from triptych.errors import ArgumentError
from triptych.files.atomic import whole_file
from triptych.modeling.serving import ServedInput, Serving

_EXAMPLES = (2, 5, 7, 3, 11, 13)
"""Lengths with which a model is traced. None is 1, which PyTorch takes for a length of its own."""


class Exports(Serving):
    """Part of `PreTrainedModel`: the hooks of `export`."""

    def _export(self, file: Path, inputs: Mapping[str, ServedInput], **options: Any) -> None:
        if file.suffix != ".pt2":
            raise ArgumentError(
                "torch.export.load knows its files by their names.", expected="a name that ends in .pt2",
                received=file.name,
            )  # fmt: skip
        self._refuse_scattered()
        names = dict.fromkeys(axis for one in inputs.values() for axis in one.axes if isinstance(axis, str))
        lengths = {name: _EXAMPLES[place % len(_EXAMPLES)] for place, name in enumerate(names)}
        free = {name: torch.export.Dim(name, min=1) for name in names}
        examples = {name: self._example(one, lengths) for name, one in inputs.items()}
        moving = {name: {i: free[a] for i, a in enumerate(one.axes) if a in free} for name, one in inputs.items()}
        modes = {module: module.training for module in self.modules()}  # type: ignore[attr-defined]
        self.eval()  # type: ignore[attr-defined]
        try:
            with torch.no_grad():
                program = torch.export.export(_Served(self, inputs), (), examples, dynamic_shapes=moving)
        finally:
            for module, mode in modes.items():
                module.training = mode
        with whole_file(file) as stream:
            torch.export.save(program, stream)

    def _refuse_scattered(self) -> None:
        devices = {parameter.device for parameter in self.parameters()}  # type: ignore[attr-defined]
        if len(devices) > 1 or any(device.type == "meta" for device in devices):
            raise ArgumentError(
                "A model whose weights are in several places cannot be exported.",
                expected="all weights on one device",
                received=", ".join(sorted(map(str, devices))),
                remedy="load it without device_map",
            )

    def _example(self, one: ServedInput, lengths: Mapping[str, int]) -> torch.Tensor:
        shape = [lengths[axis] if isinstance(axis, str) else axis for axis in one.axes]
        dtype = torch.int64 if one.is_integer else self.dtype  # type: ignore[attr-defined]
        return torch.ones(shape, dtype=dtype, device=self.device)  # type: ignore[attr-defined]

    @staticmethod
    def _stacked(several: Sequence[Any]) -> Any:
        return torch.stack(list(several))


class _Served(nn.Module):
    """A model that returns a dict, as an output is known to PyTorch only where there is triptych."""

    def __init__(self, model: Any, inputs: Iterable[str]) -> None:
        super().__init__()
        self.model = model
        self.training = False

        def forward(**inputs: Any) -> dict[str, Any]:
            return model._served_outputs(model(**inputs, **model._call_to_serve()))  # type: ignore[no-any-return]

        # Of arguments that no signature names, PyTorch takes no lengths that differ.
        named = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in inputs]
        forward.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]
        self.forward = forward
