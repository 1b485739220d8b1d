"""Modules of all kinds of layers, as hypothesis puts them together: saved and loaded, nothing is lost.

One description makes a module in each framework, so that its weights also cross from one to the others.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import torch
from flax import linen
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from triptych import FlaxPreTrainedModel, PretrainedConfig, PreTrainedModel, TFPreTrainedModel, open_checkpoint
from triptych_conformance import BACKENDS

WIDTH = 4
KINDS = ("linear", "bare", "embedding", "conv", "layer_norm", "scale_norm", "group_norm", "batch_norm", "raw", "buffer")
COUNTED = ".num_batches_tracked"

leaves = st.sampled_from(KINDS)
shared = st.integers(0, 2).map(lambda number: f"again {number}")  # the part of that number, once more
trees = st.recursive(
    st.lists(leaves, max_size=3), lambda inner: st.lists(leaves | shared | inner, max_size=4), max_leaves=9
)


class PartsConfig(PretrainedConfig):
    model_type = "parts"
    main_input_name = "inputs"

    def __init__(self, tree: Any = (), **kwargs: Any) -> None:
        self.tree = json.loads(json.dumps(tree))
        super().__init__(**kwargs)


def numbered(tree: list[Any]) -> Iterator[tuple[str, Any]]:
    """Yield (name, what) for each part; what is a kind, a tree, or the name of an earlier part that comes again."""
    for number, what in enumerate(tree):
        if isinstance(what, str) and what.startswith("again"):
            before = [n for n, w in enumerate(tree[:number]) if not str(w).startswith("again")]
            if not before:
                continue
            what = f"part{before[int(what[-1]) % len(before)]}"
        yield f"part{number}", what


class Parts(torch.nn.Module):
    def __init__(self, tree: list[Any]) -> None:
        super().__init__()
        for name, what in numbered(tree):
            self.add(name, what)

    def add(self, name: str, what: Any) -> None:
        nn = torch.nn
        make: dict[str, Callable[[], Any]] = {
            "linear": lambda: nn.Linear(WIDTH, WIDTH),
            "bare": lambda: nn.Linear(WIDTH, WIDTH, bias=False),
            "embedding": lambda: nn.Embedding(5, WIDTH),
            "conv": lambda: nn.Conv1d(WIDTH, WIDTH, 3),
            "layer_norm": lambda: nn.LayerNorm(WIDTH),
            "scale_norm": lambda: nn.RMSNorm(WIDTH),
            "group_norm": lambda: nn.GroupNorm(2, WIDTH),
            "batch_norm": lambda: nn.BatchNorm1d(WIDTH),
            "raw": lambda: nn.Parameter(torch.ones(2, 3)),
        }
        if isinstance(what, list):
            setattr(self, name, Parts(what))
        elif what == "buffer":
            self.register_buffer(name, torch.ones(3))
        else:
            setattr(self, name, make[what]() if what in make else getattr(self, what))


class PartsModel(PreTrainedModel):
    config_class = PartsConfig

    def __init__(self, config: PartsConfig) -> None:
        super().__init__(config)
        self.parts = Parts(config.tree)
        self.post_init()


class TFParts(keras.layers.Layer):
    def __init__(self, tree: list[Any], name: str) -> None:
        super().__init__(name=name)
        self.order: list[str] = []
        for part, what in numbered(tree):
            self.add(part, what)

    def add(self, name: str, what: Any) -> None:
        layers = keras.layers
        make: dict[str, Callable[[], Any]] = {
            "linear": lambda: layers.Dense(WIDTH, name=name),
            "bare": lambda: layers.Dense(WIDTH, use_bias=False, name=name),
            "embedding": lambda: layers.Embedding(5, WIDTH, name=name),
            "conv": lambda: layers.Conv1D(WIDTH, 3, name=name),
            "layer_norm": lambda: layers.LayerNormalization(name=name),
            "scale_norm": lambda: layers.RMSNormalization(name=name),
            "group_norm": lambda: layers.GroupNormalization(2, name=name),
            "batch_norm": lambda: layers.BatchNormalization(name=name),
        }
        if isinstance(what, list):
            setattr(self, name, TFParts(what, name))
        elif what in ("raw", "buffer"):
            shape = (2, 3) if what == "raw" else (3,)
            setattr(self, name, self.add_weight(shape, "ones", name=name, trainable=what == "raw"))
        else:
            setattr(self, name, make[what]() if what in make else getattr(self, what))
        self.order.append(name)

    def call(self, x: Any) -> Any:
        for name in self.order:
            part = getattr(self, name)
            if isinstance(part, keras.layers.Embedding):
                part(keras.ops.zeros((1, 2), "int32"))
            elif isinstance(part, keras.layers.Layer):
                part(x)
        return x


class TFPartsModel(TFPreTrainedModel):
    config_class = PartsConfig
    main_input_name = "inputs"

    def __init__(self, config: PartsConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.parts = TFParts(config.tree, "parts")

    @property
    def dummy_inputs(self) -> dict[str, Any]:
        return {"inputs": np.zeros((1, 3, WIDTH), np.float32)}

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return {"out": self.parts(inputs)}


class FlaxParts(linen.Module):
    tree: Any

    @linen.compact
    def __call__(self, x: Any) -> Any:
        make: dict[str, Callable[[str], Any]] = {
            "linear": lambda name: linen.Dense(WIDTH, name=name),
            "bare": lambda name: linen.Dense(WIDTH, use_bias=False, name=name),
            "embedding": lambda name: linen.Embed(5, WIDTH, name=name),
            "conv": lambda name: linen.Conv(WIDTH, (3,), name=name),
            "layer_norm": lambda name: linen.LayerNorm(name=name),
            "scale_norm": lambda name: linen.RMSNorm(name=name),
            "group_norm": lambda name: linen.GroupNorm(2, name=name),
            "batch_norm": lambda name: linen.BatchNorm(use_running_average=True, name=name),
        }
        made: dict[str, Any] = {}
        for name, what in numbered(self.tree):
            if isinstance(what, (list, tuple)):
                made[name] = FlaxParts(what, name=name)
            elif what == "raw":
                self.param(name, linen.initializers.ones, (2, 3))
                continue
            elif what == "buffer":
                self.variable("kept", name, jnp.ones, (3,))
                continue
            else:
                made[name] = make[what](name) if what in make else made.get(what)
            if made[name] is not None:
                made[name](jnp.zeros((1, 2), jnp.int32) if isinstance(made[name], linen.Embed) else x)
        return x


class FlaxPartsModule(linen.Module):
    config: PartsConfig
    dtype: Any = jnp.float32

    @linen.compact
    def __call__(self, inputs: Any) -> Any:
        return FlaxParts(self.config.tree, name="parts")(inputs)


class FlaxPartsModel(FlaxPreTrainedModel):
    config_class = PartsConfig
    module_class = FlaxPartsModule
    main_input_name = "inputs"

    def __init__(self, config: PartsConfig, **kwargs: Any) -> None:
        super().__init__(config, **{"input_shape": (1, 3, WIDTH), **kwargs})


def state(framework: str, model: Any) -> dict[str, np.ndarray]:
    """Return every array that the module holds, under the framework's own names, or in its order; each array once."""
    if framework == "pt":
        found = [*model.named_parameters(), *model.named_buffers()]
        return {name: tensor.detach().numpy() for name, tensor in found}
    if framework == "tf":
        return {str(number): np.asarray(variable) for number, variable in enumerate(model.weights)}
    leaves = jax.tree_util.tree_flatten_with_path(model.params)[0]
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def shuffle(framework: str, model: Any) -> None:
    """Give every array values of its own, which no constructor gives."""
    rng = np.random.default_rng(0)

    def other(array: Any) -> np.ndarray:
        return (rng.uniform(1, 2, np.shape(array)) + 3).astype(np.asarray(array).dtype)

    if framework == "pt":
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data = torch.from_numpy(np.array(other(tensor.detach())))
    elif framework == "tf":
        for variable in model.weights:
            variable.assign(other(variable))
    else:
        model.params = jax.tree.map(lambda leaf: jnp.asarray(other(leaf)), model.params)


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


CLASSES: dict[str, Any] = {"pt": PartsModel, "tf": TFPartsModel, "flax": FlaxPartsModel}


def check(framework: str, tree: list[Any]) -> None:
    cls = CLASSES[framework]
    model = cls(PartsConfig(tree))
    model.schema  # noqa: B018  # Keras builds its variables
    shuffle(framework, model)
    held = state(framework, model)
    with folder() as place:
        model.save_pretrained(place)
        saved = open_checkpoint(place)
        assert len(saved) == len(held)
        assert sum(ref.nbytes for ref in saved.values()) == sum(array.nbytes for array in held.values())
        again, info = cls.from_pretrained(place, strict=True, output_loading_info=True)
        assert not any(info.values())
        loaded = state(framework, again)
        assert loaded.keys() == held.keys()
        assert all(np.array_equal(loaded[name], array) for name, array in held.items())
        for backend in BACKENDS:
            there = CLASSES[backend.name].from_pretrained(place, strict=True)
            there.save_pretrained(place / backend.name)
            other = open_checkpoint(place / backend.name)
            assert {n for n in other if not n.endswith(COUNTED)} == {n for n in saved if not n.endswith(COUNTED)}
            for name in saved:
                if not name.endswith(COUNTED):
                    assert other[name].read().tobytes() == saved[name].read().tobytes(), name


EVERY = [*KINDS, "again 0", [*KINDS, "again 1", ["linear", "again 0", "buffer"]]]
property_test = settings(deadline=None, max_examples=12, suppress_health_check=list(HealthCheck), derandomize=True)


@property_test
@example(EVERY)
@given(trees)
def test_nothing_is_lost_in_pytorch(tree: list[Any]) -> None:
    check("pt", tree)


@property_test
@example(EVERY)
@given(trees)
def test_nothing_is_lost_in_tensorflow(tree: list[Any]) -> None:
    check("tf", tree)


@property_test
@example(EVERY)
@given(trees)
def test_nothing_is_lost_in_flax(tree: list[Any]) -> None:
    check("flax", tree)
