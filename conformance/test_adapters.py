"""Adapters: files of peft in the three frameworks and back, one set of numbers for forward, gradients and merging."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import peft
import pytest
import torch
import transformers
from flax import linen
from peft.utils import get_peft_model_state_dict

from small_models import config_of, random_folder, random_inputs
from triptych import (
    FlaxPreTrainedModel,
    PretrainedConfig,
    PreTrainedModel,
    TFPreTrainedModel,
    TriptychError,
    open_checkpoint,
)
from triptych.adapters.config import LoraConfig
from triptych.adapters.folder import open_adapter
from triptych.adapters.targets import targets
from triptych.families import declared_schema
from triptych.modeling.quantization_configs import QuantizationConfig
from triptych.nn.outputs import ModelOutput
from triptych.tools import editing, merging
from triptych_conformance import BACKENDS, Backend, assert_close, compare

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks for it
STEM = "BertForTokenClassification"
BACKEND = pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
LORA = dict(r=3, lora_alpha=6, target_modules=["query", "dense", "word_embeddings"], lora_dropout=0.25,
            bias="lora_only", rank_pattern={"intermediate.dense": 2}, alpha_pattern={"0.output.dense": 5},
            use_rslora=True, modules_to_save=["classifier"], init_lora_weights=False)  # fmt: skip
CONFIG = config_of("bert", STEM, num_hidden_layers=1)
INPUTS = random_inputs(CONFIG, length=5)
LABELS = np.array([[1, 3, 0, 2, 1], [0, 0, 1, 2, -100]])
RATE = 0.05


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_folder(tmp_path_factory.mktemp("base"), CONFIG, STEM)


@pytest.fixture(scope="module")
def theirs(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """An adapter that peft trained in transformers' own model, and what that then says."""
    torch.manual_seed(0)
    model = transformers.BertForTokenClassification.from_pretrained(base)
    adapted = peft.get_peft_model(model, peft.LoraConfig(**LORA)).train()
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=RATE)
    inputs = {name: torch.tensor(value) for name, value in INPUTS.items()}
    for _ in range(3):
        adapted(**inputs, labels=torch.tensor(LABELS)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = tmp_path_factory.mktemp("adapter")
    adapted.save_pretrained(folder, save_embedding_layers=False)
    return folder, their_logits(adapted)


def their_logits(model: Any) -> np.ndarray:
    with torch.no_grad():
        found = model.eval()(**{name: torch.tensor(value) for name, value in INPUTS.items()}).logits
    return found.numpy()


def logits(backend: Backend, model: Any) -> np.ndarray:
    return backend.run(model, INPUTS)["logits"]


def stored(folder: Path) -> dict[str, np.ndarray]:
    return {name: np.array(ref.read()) for name, ref in open_adapter(folder, "", {})[1].items()}


def assert_equal(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert found.keys() == wanted.keys()
    assert not [name for name in wanted if not np.array_equal(found[name], wanted[name])]


@BACKEND
def test_an_adapter_of_peft_computes_the_same_and_goes_back(
    backend: Backend, base: Path, theirs: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    folder, expected = theirs
    model = backend.load(STEM, base)
    plain, weights = logits(backend, model), backend.weights(model)
    assert compare(plain, expected).fraction > 1 and not hasattr(model, "peft_config")
    model.load_adapter(folder, "mine")
    assert model._hf_peft_config_loaded and model.active_adapters() == ["mine"] and model.active_adapter() == "mine"
    assert model.peft_config["mine"].r == 3
    assert_close(logits(backend, model), expected)
    model.disable_adapters()
    assert np.array_equal(logits(backend, model), plain)
    model.enable_adapters()
    assert_close(logits(backend, model), expected)
    model.save_pretrained(tmp_path / "again")
    assert sorted(file.name for file in (tmp_path / "again").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors",
    ]  # fmt: skip
    assert_equal(stored(tmp_path / "again"), stored(folder))
    again = transformers.BertForTokenClassification.from_pretrained(base)
    assert_close(their_logits(peft.PeftModel.from_pretrained(again, tmp_path / "again")), expected)
    model.merge_adapter(safe_merge=True)
    assert_close(logits(backend, model), expected)
    with pytest.raises(TriptychError, match="unmerge_adapter"):
        model.disable_adapters()
    model.unmerge_adapter()
    assert_close(logits(backend, model), expected)
    model.delete_adapter("mine")
    assert not model._hf_peft_config_loaded
    assert_close(logits(backend, model), plain)
    after = backend.weights(model)
    assert after.keys() == weights.keys()
    for name in weights:
        assert_close(after[name], weights[name])


@BACKEND
def test_merged_files_are_the_merged_model_bit_for_bit(
    backend: Backend, base: Path, theirs: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    folder, expected = theirs
    editing.write(merging.merge(editing.open_draft(base), folder), tmp_path / "files")
    model = backend.load(STEM, base)
    model.load_adapter(folder)
    assert model.merge_and_unload() is model and not model._hf_peft_config_loaded
    assert_close(logits(backend, model), expected)
    model.save_pretrained(tmp_path / "live")
    files, live = (
        {name: np.array(ref.read()) for name, ref in open_checkpoint(tmp_path / f).items()} for f in ("files", "live")
    )
    assert_equal(files, live)


@BACKEND
def test_a_folder_of_an_adapter_alone_loads_its_model_first(
    backend: Backend, base: Path, theirs: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    folder, expected = theirs
    for stem in (STEM, "AutoModelForTokenClassification"):
        model, info = backend.load(stem, folder, adapter_name="mine", output_loading_info=True)
        assert not info["missing_keys"] and model.active_adapters() == ["mine"]
        assert_close(logits(backend, model), expected)
    model = backend.load(STEM, base)
    model.load_adapter(folder)
    model.save_pretrained(tmp_path / "ours" / "below", safe_serialization=False)
    assert (tmp_path / "ours/below/adapter_model.bin").is_file()
    below = backend.load(STEM, tmp_path / "ours", adapter_kwargs={"subfolder": "below"})
    assert_close(logits(backend, below), expected)
    with pytest.raises(TriptychError, match="holds no adapter that"):
        backend.load(STEM, base, adapter_name="mine")


def test_an_adapter_beside_whole_weights_is_named(
    base: Path, theirs: tuple[Path, np.ndarray], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(base, tmp_path / "both")
    shutil.copytree(theirs[0], folder, dirs_exist_ok=True)
    (pt,) = (backend for backend in BACKENDS if backend.name == "pt")
    model = pt.load(STEM, folder)
    assert "holds an adapter too" in caplog.text and not model._hf_peft_config_loaded


def trained_steps(backend: Backend, model: Any, count: int) -> dict[str, np.ndarray]:
    """Train what is trained by plain gradient descent; return the first gradients, by names as in PyTorch."""
    return {"pt": steps_pt, "tf": steps_tf, "flax": steps_flax}[backend.name](model, count)


def steps_pt(model: Any, count: int) -> dict[str, np.ndarray]:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=RATE)
    first: dict[str, np.ndarray] = {}
    for _ in range(count):
        optimizer.zero_grad()
        inputs = {name: torch.tensor(value) for name, value in INPUTS.items()}
        model(**inputs, labels=torch.tensor(LABELS)).loss.backward()
        found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        first = first or {name.replace(".default", ""): array.numpy().copy() for name, array in found.items()}
        optimizer.step()
    return first


def steps_tf(model: Any, count: int) -> dict[str, np.ndarray]:
    import tensorflow as tf

    optimizer, names = keras.optimizers.SGD(RATE), {}
    for one in model._adapters.held["default"].targets:
        part = model._owners()[one.module].lora_default
        ends = ("lora_embedding_A", "lora_embedding_B") if one.is_embedding else ("lora_A.weight", "lora_B.weight")
        names |= {id(v): f"{one.module}.{end}" for v, end in zip((part.a, part.b), ends, strict=True)}
    for path, (variable, _) in model._weights().items():
        names[id(variable)] = ".".join(path).replace("kernel", "weight")
    first: dict[str, np.ndarray] = {}
    for _ in range(count):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model(**INPUTS, labels=LABELS, training=False).loss)
        made = tape.gradient(loss, model.trainable_variables)
        pairs = zip(model.trainable_variables, made, strict=True)
        arrays = {names[id(v)]: np.asarray(tf.convert_to_tensor(g)) for v, g in pairs}
        first = first or {n: a.T if n == "classifier.weight" else a for n, a in arrays.items()}
        optimizer.apply(made, model.trainable_variables)
    return first


def steps_flax(model: Any, count: int) -> dict[str, np.ndarray]:
    import jax
    import optax
    from flax.traverse_util import flatten_dict

    frozen, adapters, optimizer = model.params, model.adapter_params(), optax.sgd(RATE)

    def loss(adapters: Any) -> Any:
        scores = model(**INPUTS, params=model.with_adapter_params(adapters, frozen)).logits
        losses = optax.softmax_cross_entropy_with_integer_labels(scores, np.maximum(LABELS, 0))
        return losses.mean(where=LABELS >= 0)

    state, first, gradient = optimizer.init(adapters), None, jax.jit(jax.grad(loss))
    for _ in range(count):
        made = gradient(adapters)
        first = made if first is None else first
        changes, state = optimizer.update(made, state)
        adapters = optax.apply_updates(adapters, changes)
    model.params = model.with_adapter_params(adapters)
    named = {}
    for path, array in flatten_dict(first).items():
        if path[-1] == "default":
            is_table = path[-3] == "word_embeddings"
            end = path[-2].replace("lora", "lora_embedding") if is_table else f"{path[-2]}.weight"
            named[".".join((*path[:-2], end))] = np.asarray(array)
        else:
            name = ".".join(path).replace("kernel", "weight")
            named[name] = np.asarray(array).T if name == "classifier.weight" else np.asarray(array)
    return named


def test_a_new_adapter_is_trained_alike(base: Path, tmp_path: Path) -> None:
    config = {**LORA, "lora_dropout": 0.0, "init_lora_weights": True}
    gradients, first, after = {}, {}, {}
    for backend in BACKENDS:
        model = backend.load(STEM, base)
        plain, size = logits(backend, model), model.num_parameters()
        model.add_adapter(peft.LoraConfig(**config), seed=3)
        assert_close(logits(backend, model), plain)
        first[backend.name] = {
            name: np.array(model._to_numpy(one)) for name, one in model.get_adapter_state_dict().items()
        }
        small = model.num_parameters(only_trainable=True)
        assert 0 < small < size < model.num_parameters()
        gradients[backend.name] = trained_steps(backend, model, 3)
        assert sum(one.size for one in gradients[backend.name].values()) == small
        model.save_pretrained(tmp_path / backend.name)
        after[backend.name] = (stored(tmp_path / backend.name), logits(backend, model))
    saved, expected = after["pt"]
    assert compare(expected, plain).fraction > 1
    largest = max(np.abs(one).max() for one in gradients["pt"].values())
    for name in ("tf", "flax"):
        assert_equal(first[name], first["pt"])
        assert gradients[name].keys() == gradients["pt"].keys()
        for key, one in gradients["pt"].items():
            assert_close(gradients[name][key] / largest, one / largest, what=key)
        assert_close(after[name][1], expected)
        for key, one in saved.items():
            assert_close(after[name][0][key], one)
    again = transformers.BertForTokenClassification.from_pretrained(base)
    assert_close(their_logits(peft.PeftModel.from_pretrained(again, tmp_path / "flax")), expected)


@BACKEND
def test_one_of_several_acts_or_they_act_together(backend: Backend, base: Path, theirs: tuple[Path, Any]) -> None:
    folder, expected = theirs
    model = backend.load(STEM, base)
    plain = logits(backend, model)
    model.load_adapter(folder, "first")
    lora = LoraConfig(target_modules="all-linear", init_lora_weights=False, exclude_modules=("classifier",))
    model.add_adapter(lora, "second")
    second = logits(backend, model)
    assert model.active_adapters() == ["second"] and compare(second, plain).fraction > 1
    model.set_adapter("first")
    assert_close(logits(backend, model), expected)
    model.set_adapter(["first", "second"])
    both = logits(backend, model)
    assert all(compare(both, one).fraction > 1 for one in (second, expected))
    with pytest.raises(TriptychError, match="one active adapter"):
        model.save_pretrained(folder / "nowhere")
    model.merge_adapter()
    assert_close(logits(backend, model), both)
    model.unmerge_adapter()
    model.add_adapter({**LORA, "peft_type": "LORA"}, "third")
    with pytest.raises(TriptychError, match="both have a whole weight"):
        model.set_adapter(["first", "third"])
    with pytest.raises(TriptychError, match="There is an adapter"):
        model.add_adapter(lora, "first")
    with pytest.raises(TriptychError, match="no such adapter"):
        model.set_adapter("fourth")
    model.delete_adapter(["first", "third"])
    model.set_adapter("second")
    assert_close(logits(backend, model), second)
    model.delete_adapter("second")
    assert_close(logits(backend, model), plain)
    with pytest.raises(TriptychError, match="holds no adapter"):
        model.active_adapters()


@BACKEND
def test_shapes_of_adapted_weights_stay(backend: Backend, base: Path, theirs: tuple[Path, np.ndarray]) -> None:
    model = backend.load(STEM, base)
    model.load_adapter(theirs[0])
    with pytest.raises(TriptychError, match="cannot change while adapters"):
        model.prune_heads({0: [1]})
    with pytest.raises(TriptychError, match="word_embeddings"):
        model.resize_token_embeddings(40)
    model.merge_and_unload()
    model.add_adapter(LoraConfig(target_modules=("intermediate.dense",), init_lora_weights=False))
    before = logits(backend, model)
    model.resize_token_embeddings(40)
    model.prune_heads({0: [1]})
    assert compare(logits(backend, model), before).fraction > 1
    assert model.active_adapters() == ["default"]


def test_copies_of_a_model_have_its_adapters(base: Path, theirs: tuple[Path, np.ndarray]) -> None:
    for backend in BACKENDS:
        if backend.name == "tf":  # a layer of Keras is copied by its own files alone
            continue
        model = backend.load(STEM, base)
        model.load_adapter(theirs[0])
        # Its own bytes, made here: that whole models of ours pickle is what is tested.
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # its own bytes, made here
            assert_close(logits(backend, other), theirs[1])
            other.delete_adapter("default")
            assert_close(logits(backend, model), theirs[1])


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's own, when it saves
def test_keras_files_hold_adapters(base: Path, tmp_path: Path) -> None:

    (backend,) = (one for one in BACKENDS if one.name == "tf")
    model = backend.load(STEM, base)
    model.add_adapter(LoraConfig(target_modules=("query",), init_lora_weights=False), "mine")
    expected = logits(backend, model)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.active_adapters() == ["mine"] and len(again.trainable_variables) == len(model.trainable_variables) == 2
    assert np.array_equal(logits(backend, again), expected)
    model.add_adapter(LoraConfig(target_modules=("query",), modules_to_save=("classifier",)))
    with pytest.raises(TriptychError, match="whole weights of their own"):
        model.save(tmp_path / "other.keras")


@BACKEND
def test_a_quantised_model_takes_adapters(backend: Backend, base: Path, theirs: tuple[Path, np.ndarray]) -> None:
    model = backend.load(STEM, base)
    model.load_adapter(theirs[0])
    with pytest.raises(TriptychError, match="holds adapters cannot be quantised"):
        model.quantize_weights(QuantizationConfig("int8"))
    model.delete_adapter("default")
    model.quantize_weights(QuantizationConfig("int8"))
    plain = logits(backend, model)
    model.load_adapter(theirs[0])
    assert np.abs(logits(backend, model) - theirs[1]).max() < 0.05 < np.abs(plain - theirs[1]).max()
    with pytest.raises(TriptychError, match="is quantised, and its codes"):
        model.merge_adapter()
    model.disable_adapters()
    assert np.array_equal(logits(backend, model), plain)


class Linear(PretrainedConfig):
    model_type = "adapted_linear"


class Own(PreTrainedModel):
    """Written for transformers: layers of PyTorch's own, one of them called by name, one never called as such."""

    config_class = Linear
    main_input_name = "values"

    def __init__(self, config: Linear) -> None:
        super().__init__(config)
        self.first = torch.nn.Linear(3, 4)
        self.attention = torch.nn.MultiheadAttention(4, 2, batch_first=True)
        self.post_init()

    def forward(self, values: Any) -> Any:
        hidden = torch.tanh(self.first(input=values))
        return ModelOutput(logits=self.attention(hidden, hidden, hidden)[0])


class TFOwn(TFPreTrainedModel):
    """A layer with its activation inside, and one with a `call` of its own."""

    config_class = Linear
    main_input_name = "values"

    def __init__(self, config: Linear, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.first = keras.layers.Dense(4, activation="tanh", name="first")
        self.attention = Doubling(4, name="attention")

    @property
    def dummy_inputs(self) -> dict[str, Any]:
        return {"values": np.zeros((1, 2, 3), np.float32)}

    def call(self, values: Any, training: bool | None = None) -> Any:
        return ModelOutput(logits=self.attention(self.first(values)))


class Doubling(keras.layers.Dense):
    def call(self, inputs: Any) -> Any:
        return 2 * super().call(inputs)


class FlaxOwnModule(linen.Module):
    config: Linear
    dtype: Any = None

    @linen.compact
    def __call__(self, values: Any) -> Any:
        hidden = linen.tanh(linen.Dense(4, name="first")(values))
        return ModelOutput(logits=linen.DenseGeneral(4, name="attention")(hidden))


class FlaxOwn(FlaxPreTrainedModel):
    config_class = Linear
    main_input_name = "values"
    module_class = FlaxOwnModule


OWN = {"pt": (Own, "attention.out_proj"), "tf": (TFOwn, "attention"), "flax": (FlaxOwn, "attention")}


@BACKEND
def test_classes_of_others_take_adapters(backend: Backend, tmp_path: Path) -> None:
    cls, other = OWN[backend.name]
    options = {"input_shape": (1, 2, 3)} if backend.name == "flax" else {}
    cls(Linear(), **options).save_pretrained(tmp_path)
    model, values = cls.from_pretrained(tmp_path, **options), np.ones((1, 2, 3), np.float32)
    with pytest.raises(TriptychError, match=f"{other} cannot be adapted"):
        model.add_adapter(LoraConfig(target_modules=(other,)))
    assert not model._hf_peft_config_loaded
    weights, plain = backend.weights(model), backend.run(model, {"values": values})["logits"]
    model.add_adapter(LoraConfig(r=2, target_modules=("first",), init_lora_weights=False, lora_dropout=0.5))
    factors = [np.array(model._to_numpy(one)) for one in model.get_adapter_state_dict().values()]
    changed = backend.run(model, {"values": values})["logits"]
    by_hand = cls.from_pretrained(tmp_path, **options)
    by_hand._replace({"first.weight": weights["first.weight"] + 4 * factors[1] @ factors[0]})
    assert compare(changed, plain).fraction > 1
    assert_close(changed, backend.run(by_hand, {"values": values})["logits"])
    model.save_pretrained(tmp_path / "adapter")
    assert_close(
        backend.run(cls.from_pretrained(tmp_path / "adapter", **options), {"values": values})["logits"], changed
    )


def trained_calls(backend: Backend, model: Any, values: np.ndarray) -> list[np.ndarray]:
    """Return what calls say that are told to train."""
    if backend.name == "flax":
        import jax

        keys = jax.random.split(jax.random.PRNGKey(0), 4)
        return [np.asarray(model(values, train=True, dropout_rng=key).logits) for key in keys]
    if backend.name == "tf":
        return [model(values=values, training=True).logits.numpy() for _ in range(4)]
    model.train()
    found = [model(torch.tensor(values)).logits.detach().numpy() for _ in range(4)]
    model.eval()
    return found


def test_a_model_within_another_does_not_lose_its_adapter(base: Path, tmp_path: Path) -> None:
    for backend in (one for one in BACKENDS if one.name != "flax"):
        model = backend.load(STEM, base)
        model.bert.add_adapter(LoraConfig(target_modules=("query",)))
        with pytest.raises(TriptychError, match="model within this one holds adapters.*bert"):
            model.save_pretrained(tmp_path)


def test_a_dispatched_model_takes_adapters(base: Path, theirs: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    (backend,) = (one for one in BACKENDS if one.name == "pt")
    device_map = {"bert.embeddings": "cpu", "bert.encoder": "disk", "classifier": "cpu"}
    for loads_first in (True, False):
        if loads_first:
            model = backend.load(STEM, base, device_map=device_map)
            model.load_adapter(theirs[0], is_trainable=True)
        else:
            model = backend.load(STEM, theirs[0]).dispatch(device_map, offload_folder=tmp_path / "away")
        assert_close(logits(backend, model), theirs[1])
        model.save_pretrained(tmp_path / "again")
        assert_equal(stored(tmp_path / "again"), stored(theirs[0]))


def test_state_dicts_of_pytorch_hold_adapters(base: Path, theirs: tuple[Path, np.ndarray]) -> None:
    (backend,) = (one for one in BACKENDS if one.name == "pt")
    model, other = backend.load(STEM, base), backend.load(STEM, base)
    model.load_adapter(theirs[0])
    other.add_adapter(LoraConfig.read(theirs[0]))
    assert not other.load_state_dict(model.state_dict()).missing_keys
    assert_close(logits(backend, other), theirs[1])
    told = model.get_adapter_state_dict(state_dict=model.state_dict())
    assert_equal({name: one.detach().numpy() for name, one in told.items()},
                 {name.removeprefix("base_model.model."): one for name, one in stored(theirs[0]).items()})  # fmt: skip
    other.delete_adapter("default")
    other.load_adapter(peft_config=LoraConfig.read(theirs[0]), adapter_state_dict=told)
    assert_close(logits(backend, other), theirs[1])
    model.gradient_checkpointing_enable()
    assert model._require_grads_hook is not None, "reentrant checkpointing needs an input with a gradient"


def test_gpt2_of_peft_generates_the_same(tmp_path: Path) -> None:
    base = random_folder(tmp_path / "base", config_of("gpt2", n_layer=1), "GPT2LMHeadModel")
    torch.manual_seed(1)
    model = transformers.GPT2LMHeadModel.from_pretrained(base)
    lora = peft.LoraConfig(r=2, target_modules=["c_attn", "c_proj", "wte"], fan_in_fan_out=True,
                           init_lora_weights=False)  # fmt: skip
    adapted = peft.get_peft_model(model, lora).eval()
    torch.save({n: v.clone() for n, v in get_peft_model_state_dict(adapted, save_embedding_layers=False).items()},
               tmp_path / "adapter_model.bin")  # fmt: skip
    (tmp_path / "adapter_config.json").write_text(json.dumps(LoraConfig.of(lora).to_dict()))
    prompt = np.array([[5, 9, 11], [7, 3, 4]])
    with torch.no_grad():
        expected = adapted(input_ids=torch.tensor(prompt)).logits.numpy()
    with torch.no_grad():
        text = torch.tensor(prompt)
        for _ in range(2):
            text = torch.cat([text, adapted(input_ids=text).logits[:, -1:].argmax(-1)], 1)
    for backend in BACKENDS:
        model = backend.load("GPT2LMHeadModel", base)
        model.load_adapter(tmp_path)
        assert_close(backend.run(model, {"input_ids": prompt})["logits"], expected)
        found = model.generate(prompt_of(backend, prompt), max_new_tokens=2)
        assert np.array_equal(np.asarray(getattr(found, "sequences", found)), text.numpy())
        with pytest.raises(TriptychError, match="tied"):
            model.merge_adapter()


def prompt_of(backend: Backend, prompt: np.ndarray) -> Any:
    return torch.tensor(prompt) if backend.name == "pt" else prompt


CHOICES: dict[str, dict[str, Any]] = {
    "ends": {"target_modules": ["query", "value"]},
    "one name": {"target_modules": ["bert.encoder.layer.1.output.dense", "key"]},
    "an expression": {"target_modules": r".*layer\.[1]\..*(query|dense)"},
    "all": {"target_modules": "all-linear"},
    "all but the head": {"target_modules": "all-linear", "task_type": "SEQ_CLS"},
    "some layers": {"target_modules": ["query"], "layers_to_transform": [1], "layers_pattern": "layer"},
    "a layer of any list": {"target_modules": ["dense"], "layers_to_transform": 0},
    "without some": {"target_modules": ["dense", "query"], "exclude_modules": ["output.dense"]},
    "without an expression": {"target_modules": ["dense"], "exclude_modules": r".*attention.*"},
    "beside a head": {"target_modules": ["classifier", "query"], "modules_to_save": ["classifier"]},
    "the usual": {},
}


@pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys:RuntimeWarning")
@pytest.mark.parametrize("choice", CHOICES)
def test_the_layers_are_those_of_peft(choice: str) -> None:
    config = peft.LoraConfig(
        r=4, rank_pattern={"query": 2, r"1\..*dense": 3}, alpha_pattern={"query": 5.0}, **CHOICES[choice]
    )
    ours = {
        one.module: (one.rank, one.scale)
        for one in targets(
            LoraConfig.of(config), declared_schema(config_of("bert"), "BertForSequenceClassification"), "bert"
        )
    }
    with torch.device("meta"):
        model = transformers.BertForSequenceClassification(transformers.BertConfig(num_hidden_layers=2))
    model = peft.get_peft_model(model, config).base_model.model
    found = {
        name: (module.r["default"], module.scaling["default"])
        for name, module in model.named_modules()
        if hasattr(module, "lora_A")
    }
    assert ours == found


def test_a_config_of_peft_goes_there_and_back(tmp_path: Path) -> None:
    theirs = peft.LoraConfig(r=4, lora_alpha=7, target_modules={"b", "a"}, bias="all", modules_to_save=["head"],
                             rank_pattern={"a": 2}, layers_to_transform=[1], layers_pattern=["layer"],
                             task_type="SEQ_CLS", exclude_modules="x.*", base_model_name_or_path="org/m")  # fmt: skip
    theirs.save_pretrained(tmp_path)
    ours = LoraConfig.read(tmp_path)
    assert sorted(ours.target_modules or ()) == ["a", "b"] and LoraConfig.of(theirs).target_modules == ("a", "b")
    (tmp_path / "adapter_config.json").write_text(json.dumps(ours.to_dict()))
    again = peft.PeftConfig.from_pretrained(str(tmp_path))
    told, expected = again.to_dict(), theirs.to_dict()
    for name in ("r", "lora_alpha", "bias", "rank_pattern", "layers_to_transform", "layers_pattern", "task_type",
                 "exclude_modules", "base_model_name_or_path", "modules_to_save", "use_rslora"):  # fmt: skip
        assert told[name] == expected[name], name
    assert set(told["target_modules"]) == {"a", "b"}
    assert LoraConfig.read(tmp_path) == ours
