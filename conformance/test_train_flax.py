"""Models of Flax trained as JAX trains: TrainState and optax, over examples, parameters and devices; Orbax's files."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import linen as nn
from flax.training import train_state

from small_models import config_of
from triptych import (
    FlaxBertForSequenceClassification,
    FlaxBertModel,
    FlaxPreTrainedModel,
    PretrainedConfig,
    open_checkpoint,
)
from triptych.errors import ArgumentError
from triptych_conformance import assert_close

KEY = jax.random.PRNGKey
VALUES = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)


class Config(PretrainedConfig):
    model_type = "trained_flax"

    def __init__(self, width: int = 4, **kwargs: Any) -> None:
        self.width = width
        super().__init__(**kwargs)


class Block(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x: Any, train: bool) -> Any:
        x = x + nn.Dense(self.width, name="dense")(x)
        x = nn.Dropout(0.5)(nn.LayerNorm(name="norm")(x), deterministic=not train)
        self.sow("intermediates", "out", x)
        return x, None


class ScannedModule(nn.Module):
    config: Config
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, values: Any, train: bool = False) -> Any:
        scan = nn.scan(
            Block, variable_axes={"params": 0, "intermediates": 0}, split_rngs={"params": True, "dropout": True},
            in_axes=nn.broadcast, length=3,
        )  # fmt: skip
        return scan(self.config.width, name="layers")(values, train)[0]


class Scanned(FlaxPreTrainedModel):
    config_class = Config
    module_class = ScannedModule
    main_input_name = "values"

    def __init__(self, config: Config, input_shape: Any = (1, 4), **kwargs: Any) -> None:
        super().__init__(config, input_shape=input_shape, **kwargs)


class State(train_state.TrainState):
    dropout_rng: jax.Array


@partial(jax.jit, donate_argnums=0)
def step(state: State, values: Any) -> tuple[State, Any]:
    key, new = jax.random.split(state.dropout_rng)

    def loss(params: Any) -> Any:
        return (state.apply_fn(values, params=params, dropout_rng=key, train=True) ** 2).mean()

    value, gradients = jax.value_and_grad(loss)(state.params)
    return state.apply_gradients(grads=gradients, dropout_rng=new), value


def decayed(params: Any) -> Any:
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def new_state(model: Scanned) -> State:
    trained = optax.multi_transform(
        {"norm": optax.set_to_zero(), "rest": optax.adamw(1e-2, mask=decayed)},
        lambda params: jax.tree_util.tree_map_with_path(
            lambda path, _: "norm" if path[1].key == "norm" else "rest", params
        ),
    )
    rule = optax.MultiSteps(optax.chain(optax.clip_by_global_norm(1.0), trained), 2)
    return State.create(apply_fn=model.__call__, params=model.params, tx=rule, dropout_rng=KEY(0))


def same(one: Any, other: Any) -> bool:
    return jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(a, b), one, other))


def test_a_train_state_through_files_of_orbax(tmp_path: Path) -> None:
    model = Scanned(Config())
    first = jax.tree.map(np.array, model.params)
    state, _ = step(new_state(model), VALUES)
    for use in (lambda: model(VALUES), lambda: model.save_pretrained(tmp_path / "none")):
        with pytest.raises(ArgumentError, match="donated"):
            use()
    assert same(state.params, first)  # gradients of two steps make one change
    checkpointer = ocp.StandardCheckpointer()
    checkpointer.save(tmp_path / "state", state)
    checkpointer.wait_until_finished()
    kept = checkpointer.restore(tmp_path / "state", jax.eval_shape(lambda: state))
    ends = [step(one, VALUES) for one in (state, kept)]
    assert same(ends[0], ends[1])  # dropout too
    model.params = ends[0][0].params
    moved = {name: not np.array_equal(model.params["layers"][name]["bias"], first["layers"][name]["bias"])
             for name in ("dense", "norm")}  # fmt: skip
    assert moved == {"dense": True, "norm": False}
    model.save_pretrained(tmp_path / "model", params=ends[1][0].params)
    assert same(Scanned.from_pretrained(tmp_path / "model", strict=True).params, model.params)


@pytest.mark.filterwarnings("ignore:Sharding info not provided:UserWarning")  # of a restore without a tree of shapes
def test_parameters_through_files_of_orbax(tmp_path: Path) -> None:
    model, others = Scanned(Config()), Scanned(Config(), _do_init=False)
    for checkpointer in (ocp.StandardCheckpointer(), ocp.PyTreeCheckpointer()):
        place = tmp_path / type(checkpointer).__name__
        checkpointer.save(place, model.params)
        if isinstance(checkpointer, ocp.StandardCheckpointer):
            checkpointer.wait_until_finished()
            assert same(checkpointer.restore(place, others.params_shape_tree), model.params)
        again = Scanned(Config(), seed=1)
        again.params = checkpointer.restore(place)
        assert same(again.params, model.params)


def test_scanned_layers_are_one_array_each(tmp_path: Path) -> None:
    model = Scanned(Config())
    for number, how in enumerate(({}, {"safe_serialization": False})):
        model.save_pretrained(tmp_path / str(number), **how)
        assert same(Scanned.from_pretrained(tmp_path / str(number), strict=True).params, model.params)
    shapes = {name: ref.shape for name, ref in open_checkpoint(tmp_path / "0").items()}
    assert shapes == {"layers.dense.kernel": (3, 4, 4), "layers.dense.bias": (3, 4), "layers.norm.weight": (3, 4),
                      "layers.norm.bias": (3, 4)}  # fmt: skip
    kernel = open_checkpoint(tmp_path / "0")["layers.dense.kernel"].read()
    np.testing.assert_array_equal(kernel, model.params["layers"]["dense"]["kernel"])
    output, seen = model(VALUES, mutable=["intermediates"])
    np.testing.assert_array_equal(seen["intermediates"]["layers"]["out"][0][-1], output)
    streams = model(VALUES, train=True, dropout_rng={"dropout": KEY(1)})
    np.testing.assert_array_equal(model(VALUES, train=True, dropout_rng=KEY(1)), streams)


def test_over_examples_and_over_parameters() -> None:
    model = Scanned(Config())

    def gradient(params: Any, values: Any) -> Any:
        return jax.grad(lambda held: (model(values, params=held) ** 2).mean())(params)

    def both(params: Any) -> Any:
        return gradient(params, VALUES), jax.vmap(gradient, (None, 0))(params, VALUES[:, None])

    whole, each = jax.jit(both)(model.params)
    jax.tree.map(lambda one, all: assert_close(np.asarray(one.mean(0)), np.asarray(all)), each, whole)
    several = [Scanned(Config(), seed=seed).params for seed in range(2)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *several)
    found = jax.jit(jax.vmap(lambda params: model(VALUES, params=params)))(stacked)
    for one, params in zip(found, several, strict=True):
        assert_close(np.asarray(one), np.asarray(model(VALUES, params=params)))


def test_parameters_that_linen_has_boxed(tmp_path: Path) -> None:
    class Boxed(nn.Module):
        config: Config
        dtype: Any = jnp.float32

        @nn.compact
        def __call__(self, values: Any) -> Any:
            drawn = nn.with_partitioning(nn.initializers.normal(), (None, "model"))
            return nn.Dense(4, kernel_init=drawn, name="dense")(values)

    class FlaxBoxed(Scanned):
        module_class = Boxed

    model = FlaxBoxed(Config())
    model.save_pretrained(tmp_path)
    assert open_checkpoint(tmp_path)["dense.weight"].shape == (4, 4)
    expected = VALUES @ model.params["dense"]["kernel"] + model.params["dense"]["bias"]
    assert_close(np.asarray(FlaxBoxed.from_pretrained(tmp_path, strict=True)(VALUES)), np.asarray(expected))


def test_a_policy_says_what_is_kept_for_the_gradient() -> None:
    model = FlaxBertForSequenceClassification(config_of("bert"), _do_init=False)
    ids = np.array([[3, 4, 5]])

    def kept() -> int:
        def loss(params: Any) -> Any:
            return model(ids, labels=np.array([1]), params=params, train=True, dropout_rng=KEY(0)).loss

        _, back = jax.eval_shape(lambda params: jax.vjp(loss, params), model.params_shape_tree)
        return sum(leaf.size for leaf in jax.tree.leaves(back))

    everything = kept()
    model.enable_gradient_checkpointing()
    least = kept()
    model.enable_gradient_checkpointing({"policy": jax.checkpoint_policies.dots_saveable})
    assert least < kept() < everything and model.is_gradient_checkpointing
    model.gradient_checkpointing_disable()
    assert kept() == everything
    for options in ({"use_reentrant": True}, {"policy": "dots_saveable"}, {"prevent_cse": 1}):
        with pytest.raises(ArgumentError, match=next(iter(options))):
            model.enable_gradient_checkpointing(options)


def test_random_keys_and_collections_are_looked_at() -> None:
    model, ids = FlaxBertModel(config_of("bert")), np.ones((1, 3), np.int32)
    for wrong, said in (({"dropout_rng": 3}, "no random key"), ({"dropout_rng": {"dropout": 3}}, "no random key"),
                        ({"mutable": 3, "dropout_rng": KEY(0)}, "no collections")):  # fmt: skip
        with pytest.raises(ArgumentError, match=said):
            model(ids, train=True, **wrong)
    with pytest.raises(ArgumentError, match="rngs are none"):
        model.as_nnx(rngs=3)


OVER_DEVICES = """
import jax, numpy as np, sys
import jax.numpy as jnp
from functools import partial
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
import orbax.checkpoint as ocp
from test_train_flax import VALUES, Config, Scanned, same
from triptych_conformance import assert_close
folder = sys.argv[1]
model = Scanned(Config())
mesh = Mesh(np.array(jax.devices()), ("data",))

def loss(params, values):
    return (model(values, params=params) ** 2).mean()

def close(one, other):
    jax.tree.map(lambda a, b: assert_close(np.asarray(a), np.asarray(b)), one, other)

whole = jax.grad(loss)(model.params, VALUES)
def averaged(params, values):
    return jax.lax.pmean(jax.grad(loss)(params, values), "data")
by_pmap = jax.pmap(averaged, axis_name="data", in_axes=(None, 0))(model.params, VALUES.reshape(2, 2, 4))
close(jax.tree.map(lambda leaf: leaf[0], by_pmap), whole)
@jax.jit
@partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("data")), out_specs=P())
def by_shards(params, values):
    return jax.grad(lambda held: jax.lax.pmean(loss(held, values), "data"))(params)
close(by_shards(model.params, VALUES), whole)
def spread(leaf):
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, P(None, "data")))
checkpointer = ocp.StandardCheckpointer()
checkpointer.save(folder + "/orbax", model.params)
checkpointer.wait_until_finished()
params = checkpointer.restore(folder + "/orbax", jax.tree.map(spread, model.params_shape_tree))
assert {leaf.sharding.spec for leaf in jax.tree.leaves(params)} == {P(None, "data")}
close(jax.jit(jax.grad(loss))(params, VALUES), whole)
model.params = params
model.save_pretrained(folder + "/model")
assert same(Scanned.from_pretrained(folder + "/model", strict=True).params, params)
print("done")
"""


def test_over_devices(tmp_path: Path) -> None:
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
                   "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", OVER_DEVICES, str(tmp_path)], env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == "done", done.stderr[-3000:]
