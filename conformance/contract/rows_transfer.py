"""Rows of the contract about layers of authors that cross frameworks: convolutions and BatchNorm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import keras
import numpy as np
import torch
from flax import linen

from triptych import FlaxPreTrainedModel, PretrainedConfig, PreTrainedModel, TFPreTrainedModel, open_checkpoint
from triptych_conformance import BACKENDS, Backend, assert_close
from walk import row


class Config(PretrainedConfig):
    model_type = "convolving"


class Convolving(PreTrainedModel):
    config_class = Config
    main_input_name = "pixel_values"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.conv = torch.nn.Conv2d(3, 6, (1, 3), padding="same")
        self.bn = torch.nn.BatchNorm2d(6, eps=1e-3)
        self.apart = torch.nn.Conv2d(6, 6, 3, groups=6, padding="same")
        self.line = torch.nn.Conv1d(6, 4, 3, padding="same")
        self.post_init()

    def forward(self, pixel_values: Any) -> Any:
        image = self.apart(self.bn(self.conv(pixel_values)))
        return {"line": self.line(image.mean(2))}


class TFConvolving(TFPreTrainedModel):
    """The same, with the channels last, as Keras has them."""

    config_class = Config
    main_input_name = "pixel_values"

    def __init__(self, config: Config, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.conv = keras.layers.Conv2D(6, (1, 3), padding="same", name="conv")
        self.bn = keras.layers.BatchNormalization(epsilon=1e-3, name="bn")
        self.apart = keras.layers.DepthwiseConv2D(3, padding="same", name="apart")
        self.line = keras.layers.Conv1D(4, 3, padding="same", name="line")

    @property
    def dummy_inputs(self) -> dict[str, Any]:
        return {"pixel_values": np.zeros((1, 4, 5, 3), np.float32)}

    def call(self, pixel_values: Any, training: bool | None = None) -> Any:
        image = self.apart(self.bn(self.conv(pixel_values), training=training))
        return {"line": self.line(keras.ops.mean(image, 1))}


class FlaxConvolved(linen.Module):
    config: Config
    dtype: Any = jnp.float32

    @linen.compact
    def __call__(self, pixel_values: Any) -> Any:
        image = linen.Conv(6, (1, 3), name="conv")(pixel_values)
        image = linen.BatchNorm(use_running_average=True, epsilon=1e-3, name="bn")(image)
        image = linen.Conv(6, (3, 3), feature_group_count=6, name="apart")(image)
        return {"line": linen.Conv(4, (3,), name="line")(image.mean(1))}


class FlaxConvolving(FlaxPreTrainedModel):
    config_class = Config
    module_class = FlaxConvolved
    main_input_name = "pixel_values"

    def __init__(self, config: Config, **kwargs: Any) -> None:
        super().__init__(config, **{"input_shape": (1, 4, 5, 3), **kwargs})


CLASSES = {"pt": Convolving, "tf": TFConvolving, "flax": FlaxConvolving}
IMAGE = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)


def result(model: Any) -> np.ndarray:
    """Return the output with the channels last."""
    if isinstance(model, Convolving):
        return model(torch.tensor(IMAGE))["line"].detach().numpy().transpose(0, 2, 1)
    return np.asarray(model(IMAGE.transpose(0, 2, 3, 1))["line"])


@row("8.10", tf="Y", flax="Y", note="PyTorch alone counts batches: 0 where a file has none")
@row("8.8", pt="Y", tf="Y", flax="Y")
@row("8.9", pt="Y", tf="Y", flax="Y")
@row("8.11", pt="Y", tf="Y", flax="Y")
@row("8.12", pt="Y", tf="Y", flax="Y")
@row("8.35", pt="Y")
@row("8.48", pt="Y", note="with its statistics, either way")
@row("6.107", tf="Y")
def convolutions_and_statistics_cross_frameworks(backend: Backend, folder: Path) -> None:
    torch.manual_seed(0)
    model = Convolving(Config(initializer_range=0.3)).train()
    for _ in range(3):
        model(torch.tensor(IMAGE))
    model.eval().save_pretrained(folder / "pt")
    other = CLASSES[backend.name].from_pretrained(folder / "pt", strict=True)
    assert_close(result(other), result(model))
    other.save_pretrained(folder / "other")
    counted = {"bn.num_batches_tracked"}
    one, two = open_checkpoint(folder / "pt"), open_checkpoint(folder / "other")
    assert set(one) - counted == set(two) - counted
    assert all(one[name].read().tobytes() == two[name].read().tobytes() for name in set(two) - counted)
    for again in BACKENDS:
        assert_close(result(CLASSES[again.name].from_pretrained(folder / "other", strict=True)), result(model))


class Deep(PreTrainedModel):
    """A convolution of three dimensions and a transposed one."""

    config_class = Config
    main_input_name = "pixel_values"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.conv, self.up = torch.nn.Conv3d(2, 3, 2), torch.nn.ConvTranspose2d(3, 4, 3)
        self.post_init()

    def forward(self, pixel_values: Any) -> Any:
        return self.up(self.conv(pixel_values.permute(0, 4, 1, 2, 3)).mean(2)).permute(0, 2, 3, 1)


class TFDeep(TFPreTrainedModel):
    config_class = Config
    main_input_name = "pixel_values"

    def __init__(self, config: Config, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.conv = keras.layers.Conv3D(3, 2, name="conv")
        self.up = keras.layers.Conv2DTranspose(4, 3, name="up")

    @property
    def dummy_inputs(self) -> dict[str, Any]:
        return {"pixel_values": np.zeros((1, 3, 4, 5, 2), np.float32)}

    def call(self, pixel_values: Any, training: bool | None = None) -> Any:
        return self.up(keras.ops.mean(self.conv(pixel_values), 1))


class FlaxDeeper(linen.Module):
    config: Config
    dtype: Any = jnp.float32

    @linen.compact
    def __call__(self, pixel_values: Any) -> Any:
        image = linen.Conv(3, (2, 2, 2), padding="VALID", name="conv")(pixel_values).mean(1)
        return linen.ConvTranspose(4, (3, 3), padding="VALID", transpose_kernel=True, name="up")(image)


class FlaxDeep(FlaxPreTrainedModel):
    config_class = Config
    module_class = FlaxDeeper
    main_input_name = "pixel_values"

    def __init__(self, config: Config, **kwargs: Any) -> None:
        super().__init__(config, **{"input_shape": (1, 3, 4, 5, 2), **kwargs})


@row("8.13", pt="Y", tf="Y", flax="Y", note=None)
def deep_and_transposed_convolutions(backend: Backend, folder: Path) -> None:
    torch.manual_seed(0)
    model, image = Deep(Config(initializer_range=0.3)).eval(), np.random.default_rng(1).normal(size=(2, 3, 4, 5, 2))
    image = image.astype(np.float32)
    model.save_pretrained(folder / "pt")
    other = {"pt": Deep, "tf": TFDeep, "flax": FlaxDeep}[backend.name].from_pretrained(folder / "pt", strict=True)
    found = other(torch.tensor(image) if backend.name == "pt" else image)
    assert_close(found.detach() if backend.name == "pt" else found, model(torch.tensor(image)).detach())
    other.save_pretrained(folder / "other")
    one, two = open_checkpoint(folder / "pt"), open_checkpoint(folder / "other")
    assert all(one[name].read().tobytes() == two[name].read().tobytes() for name in one)


class FlaxTurned(linen.Module):
    config: Config
    dtype: Any = jnp.float32
    turned: bool = True

    @linen.compact
    def __call__(self, pixel_values: Any) -> Any:
        up = linen.ConvTranspose(4, (3, 3), transpose_kernel=self.turned, name="up")(pixel_values)
        flat = up.reshape(1, -1, 4)
        return linen.MultiHeadDotProductAttention(2, name="attention")(flat, flat)


class FlaxTurning(FlaxPreTrainedModel):
    config_class = Config
    module_class = FlaxTurned
    main_input_name = "pixel_values"

    def __init__(self, config: Config, **kwargs: Any) -> None:
        super().__init__(config, **{"input_shape": (1, 3, 3, 4), **kwargs})


@row("8.13", flax="Y", note="depthwise too (8.12); a transposed one in Flax needs transpose_kernel=True")
def what_has_no_counterpart_in_pytorch_keeps_its_name(backend: Backend, folder: Path) -> None:
    shapes = {}
    for turned in (True, False):
        model = FlaxTurning(Config(), turned=turned)
        model.save_pretrained(folder / str(turned))
        shapes[turned] = {name: ref.shape for name, ref in open_checkpoint(folder / str(turned)).items()}
        assert shapes[turned]["attention.query.kernel"] == (4, 2, 2)
        again = FlaxTurning.from_pretrained(folder / str(turned), turned=turned, strict=True)
        assert np.array_equal(again.params["up"]["kernel"], model.params["up"]["kernel"])
    assert "up.weight" in shapes[True] and "up.kernel" in shapes[False]
