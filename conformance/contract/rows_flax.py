"""Rows of the contract about Flax: the base class, with classes as authors wrote them for transformers 4."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.core import freeze, unfreeze
from flax.traverse_util import flatten_dict, unflatten_dict

from golden_models import Golden
from small_models import config_of
from triptych import (
    BertConfig,
    FlaxBertForMaskedLM,
    FlaxBertModel,
    FlaxPreTrainedModel,
    FlaxT5ForConditionalGeneration,
    FlaxT5Model,
    PretrainedConfig,
    TriptychError,
    open_checkpoint,
)
from triptych_conformance import Backend, assert_close
from triptych_flax import utilities
from triptych_flax.bert import FlaxBertForMaskedLMModule, FlaxBertModule
from walk import row, state

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
    said = _warnings(lambda: model.save_pretrained(folder, lacking))
    assert "lack params/gain, which are not saved" in said and "gain" not in open_checkpoint(folder)
    with pytest.raises(TriptychError, match="gain"):
        FlaxPicture.from_pretrained(folder)
    empty, params = FlaxPicture.from_pretrained(folder, _do_init=False)
    assert empty._missing_keys == {("params", "gain")} and params["params"]["gain"].shape == (3,)
    assert "more/x are no weights" in _warnings(lambda: model.save_pretrained(folder, strange))
    with pytest.raises(TriptychError, match="lack weights"):
        model.save_pretrained(folder, {"params": {}})
    assert "gain" in open_checkpoint(folder)


@row("7.42", "the order of transformers 4 first; arguments that it did not have come after", flax="Y")
def the_order_of_a_call(backend: Backend, folder: Path) -> None:
    model = FlaxBertForMaskedLM.from_pretrained(BERT.folder)
    expected = model(IDS, token_type_ids=np.ones_like(IDS), output_hidden_states=True)
    mask, types, places = np.ones_like(IDS), np.ones_like(IDS), np.arange(4)[None]
    other = jax.tree.map(jnp.zeros_like, model.params)
    given = (IDS, mask, types, places, None, None, None, model.params, None, False, None, True)
    found = model(*given)
    assert_close(found.logits, expected.logits)
    assert len(found.hidden_states) == len(expected.hidden_states)
    assert not np.array_equal(model(*given[:7], other).logits, expected.logits)
    with pytest.raises(TriptychError, match="input_ids twice"):
        model(IDS, input_ids=IDS)
    dropped = model(*given[:8], jax.random.PRNGKey(0), True).logits
    assert not np.array_equal(dropped, expected.logits)


class AroundModule(nn.Module):
    config: Any
    dtype: Any = jnp.float32

    def setup(self) -> None:
        self.bert = FlaxBertModule(config=self.config, dtype=self.dtype)
        self.classifier = nn.Dense(2, dtype=self.dtype)

    def __call__(self, input_ids: Any, deterministic: bool = True) -> Any:
        return self.classifier(self.bert(input_ids, None, deterministic=deterministic, init_cache=False)[1])


class FlaxAround(FlaxPreTrainedModel):
    config_class = BertConfig
    base_model_prefix = "bert"
    module_class: ClassVar[Any] = AroundModule


@row("7.12", flax="Y")
def a_module_around_a_built_in_one(backend: Backend, folder: Path) -> None:
    FlaxBertModel(config_of("bert")).save_pretrained(folder / "base")
    model, info = FlaxAround.from_pretrained(folder / "base", output_loading_info=True)
    assert set(info["missing_keys"]) == {"classifier.weight", "classifier.bias"}
    calm = model(IDS)
    noise = {"dropout": jax.random.PRNGKey(0)}
    assert np.array_equal(model.module.apply({"params": model.params}, IDS, True, rngs=noise), calm)
    assert not np.array_equal(model.module.apply({"params": model.params}, IDS, False, rngs=noise), calm)
    model.save_pretrained(folder / "all")
    assert np.array_equal(FlaxAround.from_pretrained(folder / "all", strict=True)(IDS), calm)
    with pytest.raises(TriptychError, match="init_cache"):
        FlaxBertModule(model.config).init(jax.random.PRNGKey(0), IDS, init_cache=True)


@row("7.44", flax="Y")
def encoding_and_decoding(backend: Backend, folder: Path) -> None:
    ids, mask = IDS[:, :2], np.array([[1, 0]])
    model = FlaxT5ForConditionalGeneration(config_of("t5", num_layers=1, num_decoder_layers=1))
    expected = model(ids, mask, ids)
    encoded = model.encode(ids, mask)
    assert_close(encoded.last_hidden_state, expected.encoder_last_hidden_state)
    decoded = model.decode(ids, encoded, mask, output_hidden_states=True, params=model.params)
    assert_close(decoded["logits"], expected.logits)
    assert len(decoded["hidden_states"]) == 2 and "encoder_last_hidden_state" not in decoded
    cache = model.init_cache(1, 2, encoded)
    for place in range(2):
        step = model.decode(ids[:, place : place + 1], encoded, mask, past_key_values=cache)
        cache = step["past_key_values"]
    assert_close(step["logits"][:, -1], expected.logits[:, -1])
    base = FlaxT5Model(model.config)
    assert base.decode(ids, encoded, return_dict=False)[0].shape == (1, 2, 12)


def _warnings(act: Callable[[], Any]) -> str:
    """Return what `act` warns of."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("triptych").addHandler(handler)
    try:
        act()
    finally:
        logging.getLogger("triptych").removeHandler(handler)
    return "\n".join(said)


def _warnings_of_load(folder: Path, **options: Any) -> str:
    return _warnings(lambda: FlaxPicture.from_pretrained(folder, **options))


@row(
    "7.57", "with `param_dtype='auto'`; else float32 as in the other frameworks, with a warning that says so", flax="Y"
)
@row(
    "8.46", "with `param_dtype='auto'`; else float32 as in the other frameworks, with a warning that says so", flax="Y"
)
def dtypes_of_the_file(backend: Backend, folder: Path) -> None:
    model, _, _ = picture()
    model.save_pretrained(folder, model.to_bf16(model.params))
    assert "stored in bfloat16 and become float32" in _warnings_of_load(folder)
    assert _warnings_of_load(folder, param_dtype="auto") == _warnings_of_load(folder, param_dtype="float32") == ""
    auto = FlaxPicture.from_pretrained(folder, param_dtype="auto")
    assert {leaf.dtype.name for leaf in jax.tree.leaves(auto.params)} == {"bfloat16"}


class WiderModule(FlaxBertForMaskedLMModule):
    def build_head(self, config: Any) -> None:
        FlaxBertForMaskedLMModule.build_head(self, config)
        self.norm = nn.BatchNorm(use_running_average=True)

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        found = FlaxBertForMaskedLMModule.__call__(self, *inputs, **options)
        return self.norm(found["logits"])


class FlaxWider(FlaxBertForMaskedLM):
    module_class: ClassVar[Any] = WiderModule


@row("7.71", flax="Y")
def a_built_in_class_with_a_norm_more(backend: Backend, folder: Path) -> None:
    model, info = FlaxWider.from_pretrained(BERT.folder, output_loading_info=True)
    added = {"norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"}
    assert set(info["missing_keys"]) == added
    model.params["batch_stats"]["norm"]["mean"] += 2
    for number, how in enumerate(({}, {"safe_serialization": False})):
        model.save_pretrained(folder / str(number), **how)
        again = FlaxWider.from_pretrained(folder / str(number), strict=True)
        assert np.array_equal(again(IDS), model(IDS))
    assert set(open_checkpoint(folder / "0")) - set(open_checkpoint(BERT.folder)) == added


@row("11.1", flax="Y")
@row("11.5", flax="Y")
def surgery_on_parameters_outside(backend: Backend, folder: Path) -> None:
    model, params = FlaxBertForMaskedLM.from_pretrained(BERT.folder, _do_init=False)
    whole = FlaxBertForMaskedLM.from_pretrained(BERT.folder)
    whole.prune_heads({0: [1]})
    whole.resize_token_embeddings(120)
    with pytest.raises(TriptychError, match="params="):
        model.resize_token_embeddings(120)
    params = model.prune_heads({0: [1]}, params=params)
    params = model.resize_token_embeddings(120, params=params)
    assert model(IDS, params=params).logits.shape[-1] == 120 == model.config.vocab_size
    assert_close(model(IDS, params=params).logits, whole(IDS).logits)
    with pytest.raises(TriptychError, match="params="):
        _ = model.params
    other = whole.resize_token_embeddings(130, params=whole.params)
    assert whole.params is other and other["bert"]["embeddings"]["word_embeddings"]["embedding"].shape[0] == 130


@row("11.2", flax="Y")
def a_class_without_embeddings_is_saved(backend: Backend, folder: Path) -> None:
    class Headless(FlaxBertForMaskedLM):
        """Inherits accessors of weights that its module has not."""

        module_class = PictureModule
        main_input_name = "pixel_values"

    model = Headless(config_of("bert", width=4), input_shape=(1, 5, 5, 3))
    model.save_pretrained(folder)
    assert "conv.weight" in open_checkpoint(folder)
    assert FlaxBertForMaskedLM(config_of("bert")).get_input_embeddings().shape == (31, 12)


# -- functions beside the base class --------------------------------------------------------------------------------


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
