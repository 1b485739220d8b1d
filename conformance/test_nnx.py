"""Models whose modules are of nnx: saved, loaded, trained and changed as those of linen are."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

from triptych import (
    BertConfig,
    CheckpointError,
    FlaxBertModel,
    FlaxPreTrainedModel,
    PretrainedConfig,
    open_checkpoint,
)
from triptych.errors import ArgumentError, ConfigError
from triptych_conformance import assert_close
from triptych_flax.bert import FlaxBertModule

IDS = np.array([[1, 2, 3]])
KEY = jax.random.PRNGKey
BERT = BertConfig(vocab_size=31, hidden_size=12, num_hidden_layers=1, num_attention_heads=3, intermediate_size=10)


class Config(PretrainedConfig):
    model_type = "of_nnx"

    def __init__(self, vocab_size: int = 11, width: int = 4, **kwargs: Any) -> None:
        self.vocab_size, self.width = vocab_size, width
        super().__init__(**kwargs)


class Calls(nnx.Variable):
    """A collection of an author's own."""


class Block(nnx.Module):
    def __init__(self, width: int, rngs: nnx.Rngs, dtype: Any) -> None:
        self.dense = nnx.Linear(width, width, rngs=rngs, dtype=dtype)
        self.spread = nnx.LinearGeneral(width, (2, 2), rngs=rngs, dtype=dtype)
        self.norm = nnx.BatchNorm(width, rngs=rngs, dtype=dtype, momentum=0.5)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = self.norm(self.drop(self.spread(self.dense(x)).reshape(x.shape)))
        if hasattr(self, "__captures__"):
            self.sow(nnx.Intermediate, "out", x)
        return x


class TextModule(nnx.Module):
    def __init__(self, config: Config, *, rngs: nnx.Rngs, dtype: Any = jnp.float32, factor: float = 1.0) -> None:
        self.words = nnx.Embed(config.vocab_size, config.width, rngs=rngs, dtype=dtype)
        self.layers = nnx.List([Block(config.width, rngs, dtype) for _ in range(2)])
        self.calls = Calls(jnp.zeros(()))
        self.places = jnp.arange(config.width) * factor  # a constant: no variable, and no weight
        self.head = nnx.Linear(config.width, 3, rngs=rngs, dtype=dtype)
        self.again = self.head
        self.gradient_checkpointing = False

    def __call__(self, input_ids: Any) -> Any:
        x = self.words(input_ids) + self.places
        self.calls[...] += 1
        for layer in self.layers:
            x = nnx.remat(Block.__call__)(layer, x) if self.gradient_checkpointing else layer(x)
        return self.again(x)


class Text(FlaxPreTrainedModel):
    config_class = Config
    module_class = TextModule
    supports_gradient_checkpointing = True
    _tied_weights_keys = ("again.weight", "again.bias")

    def get_input_embeddings(self) -> Any:
        return self.params["params"]["words"]["embedding"]


@pytest.fixture(scope="module")
def trained() -> Text:
    """Return a model with statistics of some calls."""
    model = Text(Config(), seed=3)
    _, new = model(IDS, train=True, dropout_rng=KEY(0))
    model.params = {**model.params, **new}
    return model


def assert_same(one: Any, other: Any) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), one.params, other.params)


def test_variables_are_collections_and_names_those_of_linen(trained: Text, tmp_path: Path) -> None:
    assert set(trained.params) == {"params", "batch_stats", "Calls"}
    assert trained.params["Calls"]["calls"] == 1 and trained.params["batch_stats"]["layers"]["1"]["norm"]["var"].any()
    trained.save_pretrained(tmp_path)
    files = open_checkpoint(tmp_path)
    assert {name for name in files if name.startswith("layers.1.")} == {
        f"layers.1.{name}"
        for name in ("dense.weight", "dense.bias", "spread.kernel", "spread.bias", "norm.weight", "norm.bias",
                     "norm.running_mean", "norm.running_var")
    }  # fmt: skip
    assert {name for name in files if "layers" not in name} == {"words.weight", "head.weight", "head.bias", "calls"}
    assert files["head.weight"].shape == (3, 4)


@pytest.mark.parametrize(
    "how", [{}, {"safe_serialization": False, "max_shard_size": 100}, {"variant": "v"}, {"format": "bin"}], ids=str
)
def test_files_of_every_kind(how: dict[str, Any], trained: Text, tmp_path: Path) -> None:
    trained.save_pretrained(tmp_path, **how)
    options = {"variant": how["variant"]} if "variant" in how else {}
    again, info = Text.from_pretrained(tmp_path, strict=True, output_loading_info=True, **options)
    assert not any(info.values())
    assert_same(again, trained)
    np.testing.assert_array_equal(again(IDS), trained(IDS))
    model, params = Text.from_pretrained(tmp_path, _do_init=False, **options)
    assert_same(SimpleNamespace(params=params), trained)


def test_what_a_file_lacks_or_has_too_much(trained: Text, tmp_path: Path) -> None:
    state = {name: ref.read() for name, ref in _saved(trained, tmp_path).items()}
    del state["layers.0.dense.bias"]
    with pytest.raises(CheckpointError, match="layers.0.dense.bias"):
        Text.from_pretrained(None, config=Config(), state_dict=state, strict=True)
    model, info = Text.from_pretrained(
        None, config=Config(), state_dict={**state, "more": np.ones(1)}, strict=False, output_loading_info=True
    )
    assert info["missing_keys"] == ["layers.0.dense.bias"] and info["unexpected_keys"] == ["more"]
    assert not model.params["params"]["layers"]["0"]["dense"]["bias"].any()


def _saved(model: Any, folder: Path) -> Any:
    model.save_pretrained(folder)
    return open_checkpoint(folder)


def test_modes_and_random_numbers(trained: Text) -> None:
    calm = trained(IDS)
    np.testing.assert_array_equal(trained(IDS), calm)
    (first, _), (same, _), (other, new) = (trained(IDS, train=True, dropout_rng=KEY(n)) for n in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other) and not np.array_equal(first, calm)
    assert set(new) == {"batch_stats", "Calls"} and new["Calls"]["calls"] == 2
    _, seen = trained(IDS, mutable=["intermediates"])
    assert [seen["intermediates"]["layers"][n]["out"][0].shape for n in "01"] == [(1, 3, 4)] * 2
    assert Text(Config(), dtype="bfloat16")(IDS).dtype == jnp.bfloat16
    assert Text(Config(), factor=3.0).module.factor == 3.0


def test_layers_have_masks_of_their_own() -> None:
    class Drops(nnx.Module):
        def __init__(self, config: Config, rngs: nnx.Rngs) -> None:
            self.drops = nnx.List([nnx.Dropout(0.5, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)])
            self.size = nnx.Param(jnp.ones(()))

        def __call__(self, values: Any) -> Any:
            return self.drops[0](values) * self.size, self.drops[1](values)

    class FlaxDrops(FlaxPreTrainedModel):
        config_class, module_class, main_input_name = Config, Drops, "values"

    one, other = FlaxDrops(Config())(np.ones((1, 64), np.float32), train=True, dropout_rng=KEY(0))
    assert 0 < (one == 0).mean() < 1 and not np.array_equal(one, other)
    with pytest.raises(ArgumentError, match="no dtype"):
        FlaxDrops(Config(), dtype="bfloat16")


def test_surgery_and_copies(trained: Text, tmp_path: Path) -> None:
    model = copy.deepcopy(trained)
    model.resize_token_embeddings(20, mean_resizing=False)
    assert model(np.array([[19]])).shape == (1, 1, 3)
    assert_close(np.asarray(model(IDS)), np.asarray(trained(IDS)))
    model.save_pretrained(tmp_path)
    assert_same(Text.from_pretrained(tmp_path, strict=True), model)
    # Its own bytes, made here: that whole models pickle is what is tested.
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model))(IDS), model(IDS))
    half = model.to_bf16(model.params)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(half)} == {"bfloat16"}
    with pytest.raises(ArgumentError, match="declare the heads"):
        model.prune_heads({0: [1]})


def test_layers_are_computed_anew_for_the_gradient(trained: Text) -> None:
    model = copy.copy(trained)

    def computed() -> str:
        return str(jax.make_jaxpr(lambda params: model(IDS, params=params))(trained.params))

    assert "remat" not in computed()
    model.enable_gradient_checkpointing()
    assert "remat" in computed() and model.is_gradient_checkpointing
    model.gradient_checkpointing_disable()
    assert "remat" not in computed()


def test_training_in_the_way_of_nnx(trained: Text, tmp_path: Path) -> None:
    model = copy.copy(trained)
    module = model.as_nnx(rngs={"dropout": KEY(0)})
    optimizer = nnx.Optimizer(module, optax.sgd(0.1), wrt=nnx.Param)

    @nnx.jit
    def step(module: Any, optimizer: Any) -> Any:
        loss, gradients = nnx.value_and_grad(lambda m: (m(IDS) ** 2).mean())(module)
        optimizer.update(module, gradients)
        return loss

    assert step(module, optimizer) != step(module, optimizer)  # other parameters, and other numbers dropped
    module.eval()
    model.save_pretrained(tmp_path, params=module)
    model.params = module
    assert model.params["Calls"]["calls"] == 3
    assert not np.array_equal(model.get_input_embeddings(), trained.get_input_embeddings())
    assert_close(np.asarray(model(IDS)), np.asarray(module(IDS)))
    assert_same(Text.from_pretrained(tmp_path, strict=True), model)
    with pytest.raises(ArgumentError, match="batch_stats"):
        model.params = nnx.state(module, nnx.Param)


class AroundModule(nnx.Module):
    """A head of nnx on a model of linen."""

    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs, dtype: Any = jnp.float32) -> None:
        self.bert = nnx.bridge.ToNNX(FlaxBertModule(config=config, dtype=dtype), rngs=rngs)
        self.bert.lazy_init(jnp.zeros((1, 1), jnp.int32))
        self.head = nnx.Linear(config.hidden_size, 2, rngs=rngs, dtype=dtype)

    def __call__(self, input_ids: Any, deterministic: bool = True) -> Any:
        return self.head(self.bert(input_ids, deterministic=deterministic)[0])


class Around(FlaxPreTrainedModel):
    config_class = BertConfig
    base_model_prefix = "bert"
    module_class = AroundModule

    def get_input_embeddings(self) -> Any:
        return self.params["bert"]["embeddings"]["word_embeddings"]["embedding"]


def test_a_linen_backbone_within(tmp_path: Path) -> None:
    base = FlaxBertModel(BERT)
    base.save_pretrained(tmp_path / "base")
    model, info = Around.from_pretrained(tmp_path / "base", output_loading_info=True)
    assert sorted(info["missing_keys"]) == ["head.bias", "head.weight"] and not info["unexpected_keys"]
    hidden = model.module.bind({"params": model.params}).bert(IDS, deterministic=True)[0]
    assert_close(np.asarray(hidden), np.asarray(base(IDS)[0]))
    model.resize_token_embeddings(40)
    model.save_pretrained(tmp_path / "whole")
    assert_same(Around.from_pretrained(tmp_path / "whole", strict=True), model)


class MadeAlready(FlaxPreTrainedModel):
    """Makes its module itself, as authors do."""

    config_class = Config

    def __init__(self, config: Config, seed: int = 0, dtype: Any = jnp.float32, **kwargs: Any) -> None:
        module = TextModule(config, rngs=nnx.Rngs(seed), dtype=dtype)
        super().__init__(config, module, seed=seed, dtype=dtype, **kwargs)

    def get_input_embeddings(self) -> Any:
        return self.params["params"]["words"]["embedding"]


def test_a_module_that_was_made_already(trained: Text, tmp_path: Path) -> None:
    trained.save_pretrained(tmp_path / "base")
    model = MadeAlready.from_pretrained(tmp_path / "base", strict=True)
    np.testing.assert_array_equal(model(IDS), trained(IDS))
    model.resize_token_embeddings(20)
    expected = model(np.array([[19]]))
    model.save_pretrained(tmp_path / "whole")
    again = MadeAlready.from_pretrained(tmp_path / "whole", strict=True)
    np.testing.assert_array_equal(again(np.array([[19]])), expected)
    assert MadeAlready(Config(), seed=5).params["params"]["words"]["embedding"].std() > 0


def test_modules_of_nnx_within_linen_and_the_whole_as_one_of_nnx(tmp_path: Path) -> None:
    class Inner(nn.Module):
        config: Any
        dtype: Any = jnp.float32

        @nn.compact
        def __call__(self, values: Any, train: bool = False) -> Any:
            x = nnx.bridge.to_linen(nnx.Linear, 4, 4, name="dense")(values)
            return nnx.bridge.to_linen(nnx.BatchNorm, 4, name="norm")(x, use_running_average=not train)

    class FlaxInner(FlaxPreTrainedModel):
        config_class, module_class, main_input_name = Config, Inner, "values"

    values = np.ones((2, 4), np.float32)
    model = FlaxInner(Config(), input_shape=(1, 4))
    _, new = model(values, train=True, dropout_rng=KEY(0))
    model.params = {**model.params, **new}
    assert set(_saved(model, tmp_path)) >= {"dense.weight", "norm.running_mean"}
    again = FlaxInner.from_pretrained(tmp_path, input_shape=(1, 4), strict=True)
    np.testing.assert_array_equal(again(values), model(values))
    module = model.as_nnx()
    np.testing.assert_array_equal(module(values), model(values))
    module.dense["kernel"][...] += 1
    assert not np.array_equal(module(values), model(values))
    model.params = module
    np.testing.assert_array_equal(module(values), model(values))
    assert isinstance(model.params, dict) and isinstance(model.params["batch_stats"]["norm"], dict)


def test_what_does_not_fit_is_refused(trained: Text) -> None:
    for params in ({}, {**trained.params, "params": {**trained.params["params"], "words": {"embedding": IDS}}}):
        with pytest.raises(ArgumentError, match="do not fit"):
            trained(IDS, params=params)
    with pytest.raises(ConfigError, match="colour"):
        Text(Config(), colour=1)
    with pytest.raises(ArgumentError, match="gradient"):
        Around(BERT, _do_init=False)._set_gradient_checkpointing()
    abstract = nnx.eval_shape(lambda: AroundModule(BERT, rngs=nnx.Rngs(0)))
    with pytest.raises(ArgumentError, match="no values"):
        FlaxPreTrainedModel(BERT, abstract)
