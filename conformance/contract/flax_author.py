"""A Flax model of an author for the probes, with statistics of batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.core import freeze, unfreeze
from flax.traverse_util import flatten_dict, unflatten_dict

from golden_models import Golden
from probing import messages
from triptych import (
    FlaxPreTrainedModel,
    PretrainedConfig,
)

BERT = Golden("bert-mlm")
IDS = np.array([[3, 4, 5, 6]])


class PictureConfig(PretrainedConfig):
    model_type = "flax-picture"

    def __init__(self, width: int = 4, size: int = 5, **kwargs: Any) -> None:
        self.width, self.size = width, size
        super().__init__(**kwargs)


class PictureModule(nn.Module):
    config: Any
    dtype: Any = jnp.float32
    scale: float = 1.0

    @nn.compact
    def __call__(self, pixel_values: Any, deterministic: bool = True, return_dict: bool = True) -> Any:
        x = nn.Conv(self.config.width, (3, 3), dtype=self.dtype, name="conv")(pixel_values)
        x = nn.BatchNorm(use_running_average=deterministic, momentum=0.5, dtype=self.dtype, name="norm")(x)
        x = nn.RMSNorm(dtype=self.dtype, name="scale_only")(x.mean((1, 2)))
        x = nn.Dense(3, dtype=self.dtype, name="head")(x) * self.param("gain", nn.initializers.ones, (3,))
        seen = self.variable("seen", "largest", lambda: jnp.full((), 7.0))
        return x * self.scale + seen.value


class FlaxPicture(FlaxPreTrainedModel):
    """A class as authors wrote them: it makes its module, its parameters and its calls itself."""

    config_class = PictureConfig
    base_model_prefix = "picture"
    main_input_name = "pixel_values"
    module_class: ClassVar[Any] = PictureModule

    def __init__(
        self,
        config: PictureConfig,
        input_shape: Any = None,
        seed: int = 0,
        dtype: Any = jnp.float32,
        _do_init: bool = True,
        **kwargs: Any,
    ) -> None:
        module = self.module_class(config=config, dtype=dtype, **kwargs)
        input_shape = (1, config.size, config.size, 3) if input_shape is None else input_shape
        super().__init__(config, module, input_shape=input_shape, seed=seed, dtype=dtype, _do_init=_do_init)

    def init_weights(self, rng: Any, input_shape: Any, params: Any = None) -> Any:
        keys = dict(zip(("params", "dropout"), jax.random.split(rng), strict=True))
        made = self.module.init(keys, jnp.zeros(input_shape, self.dtype), return_dict=False)
        if params is None:
            return freeze(made)
        new, held = flatten_dict(unfreeze(made)), flatten_dict(unfreeze(params))
        for path in self._missing_keys:
            held[path] = new[path]
        self._missing_keys = set()
        return freeze(unflatten_dict(held))

    def __call__(
        self, pixel_values: Any, params: Any = None, dropout_rng: Any = None, train: bool = False
    ) -> Any:  # the positional order of transformers 4
        variables = params if params is not None else self.params
        rngs = {} if dropout_rng is None else {"dropout": dropout_rng}
        pixels = jnp.array(pixel_values, dtype=jnp.float32)
        return self.module.apply(variables, pixels, not train, rngs=rngs, mutable=["batch_stats"] if train else False)


def picture(**options: Any) -> tuple[FlaxPicture, np.ndarray, np.ndarray]:
    """Return a model with statistics of some data, data, and what it says of them."""
    model = FlaxPicture(PictureConfig(), **options)
    data = np.random.default_rng(0).standard_normal((2, 5, 5, 3)).astype(np.float32)
    _, new = model(data * 3 + 1, train=True)
    model.params = {**model.params, "batch_stats": unfreeze(new["batch_stats"])}
    return model, data, np.asarray(model(data))


def warnings_of(act: Callable[[], Any]) -> str:
    with messages() as said:
        act()
    return "\n".join(said)
