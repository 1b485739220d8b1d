"""Activations of PyTorch, by the names that configs have for them, for code that imports them.

Each returns a tensor of the shape and dtype of its input.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from triptych.errors import ArgumentError


class GELUActivation(nn.Module):
    """x times the normal distribution at x; `use_gelu_python` names no other result."""

    def __init__(self, use_gelu_python: bool = False) -> None:
        super().__init__()

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return F.gelu(input)


class PytorchGELUTanh(nn.Module):
    """The approximation of GELU by tanh."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return F.gelu(input, approximate="tanh")


class NewGELUActivation(PytorchGELUTanh):
    """The approximation of GELU by tanh, as in GPT-2."""


class FastGELUActivation(PytorchGELUTanh):
    """The approximation of GELU by tanh, whose constants other code rounds."""


class AccurateGELUActivation(PytorchGELUTanh):
    """The approximation of GELU by tanh, under one more name."""


class QuickGELUActivation(nn.Module):
    """The approximation of GELU by a sigmoid."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return input * torch.sigmoid(1.702 * input)


class ClippedGELUActivation(nn.Module):
    """GELU, between `min` and `max`.

    Raises:
        ArgumentError: `min` is above `max`.
    """

    def __init__(self, min: float, max: float) -> None:
        super().__init__()
        if min > max:
            raise ArgumentError("min is above max.", received=f"{min}, {max}")
        self.min, self.max = min, max

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.gelu(x).clamp(self.min, self.max)


class MishActivation(nn.Module):
    """x times the tanh of its softplus (Misra, 2019, https://arxiv.org/abs/1908.08681)."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return F.mish(input)


class LinearActivation(nn.Module):
    """x itself."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return input


class LaplaceActivation(nn.Module):
    """The normal distribution with this mean and deviation (Ma et al., 2022, https://arxiv.org/abs/2209.10655)."""

    def forward(self, input: torch.Tensor, mu: float = 0.707107, sigma: float = 0.282095) -> torch.Tensor:
        return 0.5 * (1.0 + torch.erf((input - mu) / (sigma * math.sqrt(2.0))))


class ReLUSquaredActivation(nn.Module):
    """The square of ReLU (So et al., 2021, https://arxiv.org/abs/2109.08668)."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return F.relu(input).square()


class ClassInstantier(Mapping[str, Any]):
    """A mapping whose values are made when they are asked for, from a class, or a class and its arguments."""

    def __init__(self, classes: Mapping[str, Any]) -> None:
        self._classes = dict(classes)

    def __getitem__(self, key: str) -> nn.Module:
        found = self._classes[key]
        cls, arguments = found if isinstance(found, tuple) else (found, {})
        return cls(**arguments)

    def __setitem__(self, key: str, value: Any) -> None:
        self._classes[key] = value

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def __len__(self) -> int:
        return len(self._classes)


ACT2CLS: dict[str, Any] = {
    "gelu": GELUActivation,
    "gelu_10": (ClippedGELUActivation, {"min": -10, "max": 10}),
    "gelu_accurate": AccurateGELUActivation,
    "gelu_fast": FastGELUActivation,
    "gelu_new": NewGELUActivation,
    "gelu_python": (GELUActivation, {"use_gelu_python": True}),
    "gelu_python_tanh": PytorchGELUTanh,
    "gelu_pytorch_tanh": PytorchGELUTanh,
    "laplace": LaplaceActivation,
    "leaky_relu": nn.LeakyReLU,
    "linear": LinearActivation,
    "mish": MishActivation,
    "prelu": nn.PReLU,
    "quick_gelu": QuickGELUActivation,
    "relu": nn.ReLU,
    "relu2": ReLUSquaredActivation,
    "relu6": nn.ReLU6,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "swish": nn.SiLU,
    "tanh": nn.Tanh,
}
"""Name -> class of the module, or class and arguments."""

ACT2FN = ClassInstantier(ACT2CLS)
"""Name -> a new module."""


def get_activation(activation_string: str) -> nn.Module:
    """Return a new module by its name.

    Raises:
        KeyError: there is no such activation.
    """
    if activation_string not in ACT2FN:
        raise KeyError(f"there is no activation {activation_string!r}; there are {', '.join(ACT2FN)}")
    return ACT2FN[activation_string]


gelu_python = get_activation("gelu_python")
gelu_new = get_activation("gelu_new")
gelu = get_activation("gelu")
gelu_fast = get_activation("gelu_fast")
quick_gelu = get_activation("quick_gelu")
silu = get_activation("silu")
mish = get_activation("mish")
linear_act = get_activation("linear")
