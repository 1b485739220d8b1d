"""Rows of the contract about the functions beside the base class of Flax."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from flax_author import BERT, FlaxPicture, PictureConfig, picture
from small_models import config_of
from triptych import (
    FlaxBertForMaskedLM,
    TriptychError,
    open_checkpoint,
)
from triptych_conformance import Backend, assert_close
from triptych_flax import utilities
from walk import row, state


@row("7.1", flax="Y")
def activations(backend: Backend, folder: Path) -> None:
    names = {"gelu", "relu", "silu", "swish", "gelu_new", "quick_gelu", "gelu_pytorch_tanh", "tanh"}
    assert set(utilities.ACT2FN) == names
    assert_close(utilities.ACT2FN["gelu"](jnp.array([1.0])), np.array([0.8413447], np.float32))
    assert_close(utilities.ACT2FN["gelu_new"](jnp.array([1.0])), np.array([0.8411920], np.float32))
    assert_close(utilities.ACT2FN["quick_gelu"](jnp.array([1.0])), np.array([0.8457958], np.float32))


@row("7.2", flax="Y")
def shards(backend: Backend, folder: Path) -> None:
    params = {"a": {"kernel": jnp.zeros((4, 4))}, "b": {"bias": jnp.zeros(4)}}
    whole, index = utilities.flax_shard_checkpoint(params)
    assert index is None and set(whole["flax_model.msgpack"]) == {"a/kernel", "b/bias"}
    parts, index = utilities.flax_shard_checkpoint(params, 64)
    assert list(parts) == ["flax_model-00001-of-00002.msgpack", "flax_model-00002-of-00002.msgpack"]
    assert index == {
        "metadata": {"total_size": 80},
        "weight_map": {"a/kernel": "flax_model-00001-of-00002.msgpack", "b/bias": "flax_model-00002-of-00002.msgpack"},
    }


@row("7.3", flax="Y")
@row("7.4", "no sample is added", flax="Y")
@row("7.5", "the docstring stays as it is", flax="Y")
def docstrings_of_a_call(backend: Backend, folder: Path) -> None:
    class One(FlaxPicture): ...

    utilities.overwrite_call_docstring(One, "said")
    utilities.append_call_sample_docstring(One, "a-checkpoint", "Output", "Config", revision="main")
    utilities.append_replace_return_docstrings(One, output_type="Output", config_class="Config")
    assert One.__call__.__doc__ == "said" and FlaxPicture.__call__.__doc__ != "said"
    _, data, expected = picture()
    assert One(PictureConfig())(data).shape == expected.shape


@row("8.38", flax="Y")
@row("8.40", flax="Y")
@row("8.41", flax="Y")
def trees_of_pytorch_files(backend: Backend, folder: Path) -> None:
    model, _, _ = picture()
    model.save_pretrained(folder / "one")
    model.save_pretrained(folder / "many", max_shard_size=200)
    held = flatten_dict(model.params)
    files = sorted((folder / "many").glob("*.safetensors"))
    assert len(files) > 1
    arrays = {name: ref.read() for name, ref in open_checkpoint(folder / "one").items()}
    for tree in (
        utilities.load_pytorch_checkpoint_in_flax_state_dict(model, folder / "one/model.safetensors", False),
        utilities.load_pytorch_checkpoint_in_flax_state_dict(model, files, True),
        utilities.convert_pytorch_sharded_state_dict_to_flax(files, model),
        utilities.convert_pytorch_state_dict_to_flax(arrays | {"norm.num_batches_tracked": np.array(3)}, model),
    ):
        found = flatten_dict(tree)
        assert found.keys() == held.keys() and all(np.array_equal(found[path], held[path]) for path in held)
    more = utilities.convert_pytorch_state_dict_to_flax(arrays | {"x.y": np.ones(2, np.float32)}, model)
    assert more["params"]["x"]["y"].shape == (2,)
    with pytest.raises(TriptychError, match="gain"):
        utilities.convert_pytorch_state_dict_to_flax({"gain": np.ones(4, np.float32)}, model)
    head = FlaxBertForMaskedLM(config_of("bert"))
    base = {f"embeddings.{n}.weight": np.ones((r, 12), "f4") for n, r in (("word_embeddings", 31),)}
    assert "bert" in utilities.convert_pytorch_state_dict_to_flax(base, head)


@row("8.39", flax="Y")
def one_tensor_of_pytorch(backend: Backend, folder: Path) -> None:
    model, _, _ = picture()
    model.save_pretrained(folder)
    targets = {path[1:]: leaf for path, leaf in flatten_dict(model.params).items()}
    for name, ref in open_checkpoint(folder).items():
        path, array = utilities.rename_key_and_reshape_tensor(tuple(name.split(".")), ref.read(), targets, "picture")
        assert path in targets and np.array_equal(array, targets[path])
    rename = partial(utilities.rename_key_and_reshape_tensor, model_prefix="m")
    one, two = np.ones(3, np.float32), np.ones((2, 3), np.float32)
    assert rename(("n", "gamma"), one, {("m", "n", "scale"): one})[0] == ("n", "scale")
    assert rename(("n", "gamma"), one, {})[0] == ("n", "weight") and rename(("n", "beta"), one, {})[0] == ("n", "bias")
    assert rename(("d", "parametrizations", "weight", "original1"), one, {})[0] == ("d", "weight_v")
    assert rename(("e", "weight"), two, {("e", "embedding"): two})[1].shape == (2, 3)
    assert rename(("d", "weight"), two, {})[1].shape == (3, 2)
    assert rename(("d", "weight"), two, {("d", "weight"): two})[0] == ("d", "weight")


@row("8.42", pt="Y")
@row("8.43", pt="Y")
def trees_of_flax_in_pytorch(backend: Backend, folder: Path) -> None:
    flax_model = FlaxBertForMaskedLM.from_pretrained(BERT.folder)
    flax_model.save_pretrained(folder / "flax", format="msgpack")
    expected = backend.weights(backend.load("BertForMaskedLM", BERT.folder))
    fresh = backend.cls("BertForMaskedLM")(flax_model.config)
    assert utilities.load_flax_weights_in_pytorch_model(fresh, flax_model.params) is fresh
    other = backend.cls("BertForMaskedLM")(flax_model.config)
    utilities.load_flax_checkpoint_in_pytorch_model(other, str(folder / "flax/flax_model.msgpack"))
    for model in (fresh, other):
        assert all(np.array_equal(array, expected[name]) for name, array in backend.weights(model).items())
    base = backend.cls("BertModel")(flax_model.config)
    utilities.load_flax_weights_in_pytorch_model(base, flax_model.params)
    assert np.array_equal(
        backend.weights(base)["embeddings.word_embeddings.weight"], expected["bert.embeddings.word_embeddings.weight"]
    )


state("7.52", "transformers 4 looked for safetensors in the root, whatever the subfolder", flax="Y")
