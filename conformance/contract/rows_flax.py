"""Rows of the contract about Flax: the classes of an author."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import freeze, unfreeze
from flax.traverse_util import flatten_dict, unflatten_dict

from flax_author import BERT, IDS, FlaxPicture, PictureConfig, PictureModule, picture, warnings_of
from small_models import config_of
from triptych import (
    FlaxBertForMaskedLM,
    FlaxBertModel,
    FlaxPreTrainedModel,
    TriptychError,
    open_checkpoint,
)
from triptych_conformance import Backend
from walk import row


@row("7.12", flax="Y")
@row("7.13", flax="Y")
@row("7.19", flax="Y")
def the_constructor_takes_a_ready_module(backend: Backend, folder: Path) -> None:
    config = PictureConfig()
    model = FlaxPicture(config, (1, 6, 6, 3), 3, jnp.bfloat16)
    assert (model.input_shape, model.seed, model.dtype) == ((1, 6, 6, 3), 3, jnp.bfloat16)
    assert model._is_initialized and isinstance(model.module, PictureModule)
    assert model.module.dtype == jnp.bfloat16
    built_in = FlaxBertModel(config_of("bert"), (1, 2), 5, jnp.bfloat16, False)
    assert (built_in.input_shape, built_in.seed, built_in.dtype) == ((1, 2), 5, jnp.bfloat16)
    assert not built_in._is_initialized
    ready = FlaxPreTrainedModel(built_in.config, built_in.module, (1, 2), 1, jnp.float32, False)
    assert ready.module is built_in.module
    with pytest.raises(TriptychError, match="module_class"):
        FlaxPreTrainedModel(built_in.config)
    with pytest.raises(TriptychError, match="nonsense"):
        FlaxPreTrainedModel(built_in.config, built_in.module, nonsense=1)


@row("7.28", flax="Y")
@row("8.48", None, flax="Y")
def statistics_are_the_models(backend: Backend, folder: Path) -> None:
    model, data, expected = picture()
    assert set(model.params) == {"params", "batch_stats", "seen"}
    assert model.schema["norm.running_mean"].shape == (4,) and model.schema["norm.running_mean"].buffer
    assert model.schema["largest"].collection == "seen"
    assert model.num_parameters() == sum(leaf.size for leaf in jax.tree.leaves(model.params["params"]))
    for number, how in enumerate(({}, {"safe_serialization": False}, {"format": "safetensors-flax"})):
        model.save_pretrained(folder / str(number), **how)
        again, info = FlaxPicture.from_pretrained(folder / str(number), output_loading_info=True)
        assert not any(info.values())
        assert np.array_equal(again(data), expected)
        held, new = flatten_dict(model.params), flatten_dict(again.params)
        assert held.keys() == new.keys() and all(np.array_equal(held[path], new[path]) for path in held)
    assert open_checkpoint(folder / "0")["norm.running_var"].shape == (4,)
    names = {"/".join(path) for path in flatten_dict(model.params)}
    assert set(open_checkpoint(folder / "1")) == names
    state_dict = {name: ref.read() for name, ref in open_checkpoint(folder / "0").items()}
    del state_dict["norm.running_mean"]
    with pytest.raises(TriptychError, match="norm.running_mean"):
        FlaxPicture.from_pretrained(None, config=PictureConfig(), state_dict=state_dict)


@row("7.29", "returns a plain dict too, and is there for modules that read ids", flax="Y")
def an_authors_init_weights(backend: Backend, folder: Path) -> None:
    model, _, _ = picture(seed=4)
    made = model.init_weights(model.key, model.input_shape)
    assert np.array_equal(made["params"]["conv"]["kernel"], model.params["params"]["conv"]["kernel"])
    shapes = jax.eval_shape(lambda key: model.init_weights(key, model.input_shape), model.key)
    assert jax.tree.map(lambda leaf: leaf.shape, unfreeze(shapes)) == jax.tree.map(
        lambda leaf: leaf.shape, model.params_shape_tree
    )
    other = FlaxPicture(PictureConfig(), seed=5)
    model._missing_keys = {("params", "gain")}
    filled = model.init_weights(other.key, model.input_shape, other.params)
    assert np.array_equal(filled["params"]["head"]["kernel"], other.params["params"]["head"]["kernel"])
    own = FlaxBertModel(config_of("bert"))
    lacking = {name: tree for name, tree in own.params.items() if name != "pooler"}
    assert set(own.init_weights(own.key, (1, 1), lacking)) == set(own.params)


@row("7.10", "of the model, and not of its class", flax="Y")
@row("7.63", "returned initialised too, with the warning; `_missing_keys` names them", flax="Y")
def what_a_load_misses(backend: Backend, folder: Path) -> None:
    model, data, _ = picture()
    model.save_pretrained(folder)
    state_dict = {name: ref.read() for name, ref in open_checkpoint(folder).items() if name != "gain"}
    loaded, params, info = FlaxPicture.from_pretrained(
        None, config=PictureConfig(), state_dict=state_dict, _do_init=False, output_loading_info=True
    )
    assert info["missing_keys"] == ["gain"] and loaded._missing_keys == {("params", "gain")}
    assert FlaxPicture._missing_keys == frozenset() == FlaxPreTrainedModel._missing_keys
    assert set(flatten_dict(params)) == loaded.required_params
    again = loaded.init_weights(loaded.key, loaded.input_shape, params)
    assert np.array_equal(loaded(data, params), loaded(data, again))


@row("7.69", flax="Y")
def kernels_of_pytorch_files(backend: Backend, folder: Path) -> None:
    model, data, expected = picture()
    model.save_pretrained(folder)
    kernel = open_checkpoint(folder)["conv.weight"].read()
    assert kernel.shape == (4, 3, 3, 3)
    assert np.array_equal(kernel.transpose(2, 3, 1, 0), model.params["params"]["conv"]["kernel"])
    assert np.array_equal(FlaxPicture.from_pretrained(folder)(data), expected)


@row("7.45", flax="Y")
@row("11.12", flax="Y")
def the_second_argument_of_a_load_is_the_dtype(backend: Backend, folder: Path) -> None:
    model = FlaxBertForMaskedLM.from_pretrained(BERT.folder, jnp.bfloat16)
    assert model.dtype == jnp.bfloat16 and model.input_shape == (1, 1)
    assert model(IDS).logits.dtype == jnp.bfloat16
    assert model.params["bert"]["embeddings"]["word_embeddings"]["embedding"].dtype == jnp.float32
    model = FlaxBertForMaskedLM.from_pretrained(BERT.folder, jnp.float32, (1, 3), 9)
    assert (model.dtype, model.input_shape, model.seed) == (jnp.float32, (1, 3), 9)


@row("7.26", flax="Y")
@row("7.51", "files of PyTorch too", flax="Y")
@row("7.65", flax="Y")
def without_parameters(backend: Backend, folder: Path) -> None:
    model, data, expected = picture()
    model.save_pretrained(folder)
    empty, params = FlaxPicture.from_pretrained(folder, _do_init=False)
    assert type(params) is dict and np.array_equal(empty(data, params), expected)
    with pytest.raises(TriptychError, match="_do_init=False"):
        _ = empty.params
    with pytest.raises(TriptychError, match="_do_init=False"):
        empty.params = params
    empty.save_pretrained(folder / "again", params)
    assert np.array_equal(FlaxPicture.from_pretrained(folder / "again")(data), expected)


class FlaxBothWays(FlaxPicture):
    """Refuses `_do_init=False`, as composite models of transformers 4 do, and looks at its parameters at once."""

    def __init__(self, config: PictureConfig, seed: int = 0, dtype: Any = jnp.float32, **kwargs: Any) -> None:
        super().__init__(config, None, seed, dtype, **kwargs)
        self.count = len(self.params)


@row("7.11", "a ready module does as well", flax="Y")
@row("7.62", flax="Y")
def a_constructor_that_makes_parameters(backend: Backend, folder: Path) -> None:
    model, data, expected = picture()
    model.save_pretrained(folder)
    loaded = FlaxBothWays.from_pretrained(folder)
    assert loaded.count == 3 and np.array_equal(loaded(data), expected)


@row("7.23", flax="Y")
@row("7.24", flax="Y")
@row("7.25", flax="Y")
@row("7.27", flax="Y")
def the_tree_of_parameters(backend: Backend, folder: Path) -> None:
    model, _, _ = picture()
    assert ("batch_stats", "norm", "mean") in model.required_params
    assert model.params_shape_tree["params"]["conv"]["kernel"].shape == (3, 3, 3, 4)
    with pytest.raises(TriptychError, match="params/gain"):
        model.params = {**model.params, "params": {k: v for k, v in model.params["params"].items() if k != "gain"}}
    model.params = freeze({**model.params, "more": {"x": jnp.zeros(1)}})
    assert type(model.params) is dict and "more" in model.params


@row("7.35", flax="Y")
@row("7.36", flax="Y")
def files_as_trees(backend: Backend, folder: Path) -> None:
    model, _, _ = picture()
    model.save_pretrained(folder / "one", safe_serialization=False)
    model.save_pretrained(folder / "dots", format="safetensors-flax")
    model.save_pretrained(folder / "many", format="msgpack", max_shard_size=100)
    shards = sorted((folder / "many").glob("*.msgpack"))
    assert len(shards) > 1
    for tree in (
        FlaxPicture.load_flax_weights(folder / "one/flax_model.msgpack"),
        FlaxPicture.load_flax_weights(str(folder / "dots/model.safetensors")),
        FlaxPicture.load_flax_sharded_weights(shards),
    ):
        held, read = flatten_dict(model.params), flatten_dict(tree)
        assert held.keys() == read.keys() and all(np.array_equal(held[path], read[path]) for path in held)


@row("7.38", flax="Y")
def from_config_of_transformers_4(backend: Backend, folder: Path) -> None:
    config = PictureConfig()
    model = FlaxPicture._from_config(config, dtype=jnp.bfloat16, seed=2)
    assert model.config is config and model.dtype == jnp.bfloat16 and model.seed == 2


@row("7.40", "safetensors unless `safe_serialization=False`; warns of parameters that are lacking or strange", flax="Y")
def the_arguments_of_a_save(backend: Backend, folder: Path) -> None:
    model, _, _ = picture()
    halves = model.to_bf16(model.params)
    model.save_pretrained(folder, halves, False, "10GB")
    assert {ref.dtype.name for ref in open_checkpoint(folder).values()} == {"bfloat16"}
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["Picture"]
    incomplete_and_strange_parameters(folder)


def incomplete_and_strange_parameters(folder: Path) -> None:
    model, _, _ = picture()
    lacking = unflatten_dict({p: leaf for p, leaf in flatten_dict(model.params).items() if p[-1] != "gain"})
    strange = {**model.params, "more": {"x": jnp.zeros(1)}}
    said = warnings_of(lambda: model.save_pretrained(folder, lacking))
    assert "lack params/gain, which are not saved" in said and "gain" not in open_checkpoint(folder)
    with pytest.raises(TriptychError, match="gain"):
        FlaxPicture.from_pretrained(folder)
    empty, params = FlaxPicture.from_pretrained(folder, _do_init=False)
    assert empty._missing_keys == {("params", "gain")} and params["params"]["gain"].shape == (3,)
    assert "more/x are no weights" in warnings_of(lambda: model.save_pretrained(folder, strange))
    with pytest.raises(TriptychError, match="lack weights"):
        model.save_pretrained(folder, {"params": {}})
    assert "gain" in open_checkpoint(folder)
