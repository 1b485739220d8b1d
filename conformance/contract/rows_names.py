"""Rows of the contract about names in files, and what crosses between the frameworks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import keras
import numpy as np
import pytest
import torch
from flax import linen
from safetensors.numpy import load_file, save_file
from torch import nn

import live_models
from live_models import Trunk, assert_equal_states
from probing import IN_ALL, shows
from small_models import SMALL
from triptych import (
    FlaxPreTrainedModel,
    GPT2Config,
    PretrainedConfig,
    PreTrainedModel,
    TFPreTrainedModel,
    TriptychError,
    open_checkpoint,
)
from triptych.formats.kinds import H5, MSGPACK
from triptych.formats.opening import open_file
from triptych_conformance import Backend, assert_close
from walk import row, state

# -- names in files ---------------------------------------------------------------------------------------------------


@shows("8.1 8.4 8.5 8.6 8.15")
@shows("8.2 8.30", tf="Y")
@shows("8.34")
def names_and_axes_of_each_framework(backend: Backend, folder: Path) -> None:
    config = GPT2Config(**SMALL["gpt2"])
    model = backend.cls("GPT2LMHeadModel")(config)
    for kind in (H5, MSGPACK):
        model.save_pretrained(folder / kind.name, format=kind.name)
    weights, block = backend.weights(model), "transformer.h.0."
    h5, msgpack = (open_file(folder / kind.name / kind.single).tensors for kind in (H5, MSGPACK))
    for name, tf, flax in (("attn.c_attn.weight", "attn/c_attn/weight:0", "attn/c_attn/kernel"),
                           ("ln_1.weight", "ln_1/gamma:0", "ln_1/scale")):  # fmt: skip
        of_h5 = [ref for key, ref in h5.items() if key.endswith(f"h_._0/{tf}")]
        of_msgpack = [ref for key, ref in msgpack.items() if key.endswith(f"h/0/{flax}")]
        assert len(of_h5) == len(of_msgpack) == 1, (list(h5)[:4], list(msgpack)[:4])
        assert np.array_equal(of_h5[0].read(), weights[block + name])
    assert not [key for key in h5 if "lm_head" in key], "one table, tied"


@shows("8.30", pt="Y")
def names_are_taken_whole(backend: Backend, folder: Path) -> None:
    class Odd(Trunk):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.gamma_beta = nn.Linear(2, 2)
            self.running_var_head = nn.Linear(2, 2)
            self.post_init()

    model = Odd(live_models.Config())
    model.save_pretrained(folder)
    assert {"gamma_beta.weight", "running_var_head.bias"} <= set(open_checkpoint(folder))
    assert_equal_states(model, Odd.from_pretrained(folder, strict=True))


# -- between the frameworks ---------------------------------------------------------------------------------------


def renamed(folder: Path, names: dict[str, str]) -> None:
    """Give weights of the safetensors file in `folder` other names."""
    file = folder / "model.safetensors"
    arrays = load_file(file)
    assert names.keys() <= arrays.keys()
    save_file({names.get(name, name): array for name, array in arrays.items()}, file, {"format": "pt"})


class SmallConfig(PretrainedConfig):
    model_type = "rest_small"


class Normed(PreTrainedModel):
    """A norm and a matrix of a direction and a length."""

    config_class = SmallConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.norm = nn.LayerNorm(3)
        self.line = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))
        self.post_init()

    def forward(self, input_ids: Any) -> Any:
        return {"line": self.line(self.norm(input_ids))}


class TFLine(keras.layers.Layer):
    def build(self, shape: Any) -> None:
        self.weight_g = self.add_weight(name="weight_g", shape=(3, 1))
        self.weight_v = self.add_weight(name="weight_v", shape=(3, 3))
        self.bias = self.add_weight(name="bias", shape=(3,))

    def call(self, inputs: Any) -> Any:
        lengths = keras.ops.norm(self.weight_v, axis=1, keepdims=True)
        return inputs @ keras.ops.transpose(self.weight_g * self.weight_v / lengths) + self.bias


class TFNormed(TFPreTrainedModel):
    config_class = SmallConfig

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.norm = keras.layers.LayerNormalization(epsilon=1e-5, name="norm")
        self.line = TFLine(name="line")

    @property
    def dummy_inputs(self) -> dict[str, Any]:
        return {"input_ids": np.zeros((1, 3), np.float32)}

    def call(self, input_ids: Any, training: bool | None = None) -> Any:
        return {"line": self.line(self.norm(input_ids))}


class FlaxLine(linen.Module):
    @linen.compact
    def __call__(self, inputs: Any) -> Any:
        length = self.param("weight_g", linen.initializers.ones, (3, 1))
        direction = self.param("weight_v", linen.initializers.normal(1.0), (3, 3))
        bias = self.param("bias", linen.initializers.zeros, (3,))
        return inputs @ (length * direction / jnp.linalg.norm(direction, axis=1, keepdims=True)).T + bias


class NormedModule(linen.Module):
    config: SmallConfig
    dtype: Any = jnp.float32

    @linen.compact
    def __call__(self, input_ids: Any) -> Any:
        return {"line": FlaxLine(name="line")(linen.LayerNorm(epsilon=1e-5, name="norm")(input_ids))}


class FlaxNormed(FlaxPreTrainedModel):
    config_class = SmallConfig
    module_class = NormedModule

    def init_weights(self, rng: Any, input_shape: Any, params: Any = None) -> Any:
        return self.module.init(rng, jnp.zeros((1, 3)))["params"]

    def __call__(self, input_ids: Any, params: Any = None) -> Any:
        return self.module.apply({"params": self.params if params is None else params}, input_ids)


NORMED = {"pt": Normed, "tf": TFNormed, "flax": FlaxNormed}
INPUTS = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)


def outcome(model: Any) -> np.ndarray:
    inputs = torch.tensor(INPUTS) if isinstance(model, nn.Module) else INPUTS
    found = model(inputs)["line"]
    return found.detach().numpy() if isinstance(found, torch.Tensor) else np.asarray(found)


@row("8.7", **IN_ALL)
@row("8.17", note="TensorFlow and Flax: of a layer of an author's that has weight_g and weight_v", **IN_ALL)
def older_names_in_every_framework(backend: Backend, folder: Path) -> None:
    torch.manual_seed(0)
    model, cls = Normed(SmallConfig()), NORMED[backend.name]
    model.line.parametrizations.weight.original0.data.mul_(3)
    model.norm.bias.data.fill_(0.5)
    model.save_pretrained(folder)
    assert_close(outcome(cls.from_pretrained(folder)), outcome(model))
    parts = {"original0": "weight_g", "original1": "weight_v"}
    old = {f"line.parametrizations.weight.{new}": f"line.{older}" for new, older in parts.items()}
    old |= {"norm.weight": "norm.gamma", "norm.bias": "norm.beta"}
    renamed(folder, old)
    again = cls.from_pretrained(folder, strict=True)
    assert_close(outcome(again), outcome(model))
    again.save_pretrained(folder / "again")
    assert_close(outcome(Normed.from_pretrained(folder / "again")), outcome(model))


class TFSeparable(TFPreTrainedModel):
    config_class = SmallConfig

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.separable = keras.layers.SeparableConv1D(4, 3, name="separable")

    @property
    def dummy_inputs(self) -> dict[str, Any]:
        return {"input_ids": np.zeros((1, 5, 3), np.float32)}

    def call(self, input_ids: Any, training: bool | None = None) -> Any:
        return {"line": self.separable(input_ids)}


class Separable(PreTrainedModel):
    config_class = SmallConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.separable = nn.Module()
        self.separable.depthwise = nn.Conv1d(3, 3, 3, groups=3, bias=False)
        self.separable.pointwise = nn.Conv1d(3, 4, 1)
        self.post_init()


@row(
    "8.14",
    note="saved and loaded as Keras has it; two convolutions of PyTorch are two layers: an error names them",
    tf="R",
)
def separable_convolutions(backend: Backend, folder: Path) -> None:
    model = TFSeparable(SmallConfig())
    model.save_pretrained(folder)
    again = TFSeparable.from_pretrained(folder, strict=True)
    inputs = np.random.default_rng(0).normal(size=(1, 5, 3)).astype(np.float32)
    assert np.array_equal(again(inputs)["line"], model(inputs)["line"])
    with pytest.raises(TriptychError, match="separable.depthwise.weight"):
        Separable.from_pretrained(folder)


state("8.16", "of Transformer-XL, which transformers 4 had given up; an author's arrays have the same axes everywhere",
      pt="R", tf="R", flax="R")  # fmt: skip
