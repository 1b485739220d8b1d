"""Flax models of authors: what their modules say is saved, loaded, and initialised as they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict

from triptych import (
    BertConfig,
    CheckpointError,
    FlaxBertModel,
    FlaxPreTrainedModel,
    PretrainedConfig,
    open_checkpoint,
)
from triptych.errors import ArgumentError

BERT = BertConfig(vocab_size=31, hidden_size=12, num_hidden_layers=1, num_attention_heads=3, intermediate_size=10)


class Config(PretrainedConfig):
    model_type = "live_trees"

    def __init__(self, width: int = 3, **kwargs: Any) -> None:
        self.width = width
        super().__init__(**kwargs)


class TrunkModule(nn.Module):
    config: Config
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, values: Any) -> Any:
        return nn.Dense(self.config.width, bias_init=nn.initializers.ones, name="dense")(values)


class Trunk(FlaxPreTrainedModel):
    config_class = Config
    module_class = TrunkModule
    main_input_name = "values"

    def __init__(self, config: Config, input_shape: Any = (1, 3), **kwargs: Any) -> None:
        super().__init__(config, input_shape=input_shape, **kwargs)


class AroundModule(nn.Module):
    config: Config
    dtype: Any = jnp.float32
    size: int = 2

    @nn.compact
    def __call__(self, values: Any) -> Any:
        return nn.Dense(self.size, name="head")(TrunkModule(self.config, name="back")(values))


class Around(FlaxPreTrainedModel):
    """Takes the parameters of its trunk from a folder, as authors do in `init_weights`."""

    config_class = Config
    main_input_name = "values"
    place: str = ""
    loads = 0

    def __init__(
        self,
        config: Config,
        size: int,
        *inputs: Any,
        input_shape: Any = (1, 3),
        seed: int = 0,
        dtype: Any = jnp.float32,
        _do_init: bool = True,
        **kwargs: Any,
    ) -> None:
        self.seen_inputs, self.seen_options = inputs, kwargs
        module = AroundModule(config, dtype, size)
        super().__init__(config, module, input_shape=input_shape, seed=seed, dtype=dtype, _do_init=_do_init)

    def init_weights(self, rng: Any, input_shape: Any, params: Any = None) -> Any:
        made = self.module.init(rng, jnp.zeros(input_shape))["params"]
        if self.place:
            type(self).loads += 1
            made = {**made, "back": Trunk.from_pretrained(self.place).params}
        return made


def flat(model: Any) -> dict[Any, np.ndarray]:
    return {path: np.asarray(leaf) for path, leaf in flatten_dict(model.params).items()}


def assert_equal(one: Any, other: Any) -> None:
    first, second = flat(one), flat(other)
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[path], second[path]) for path in first)


@pytest.fixture
def trunk(tmp_path: Path) -> Any:
    model = Trunk(Config(), seed=3)
    model.save_pretrained(tmp_path / "trunk")
    return model


@pytest.fixture(autouse=True)
def _no_place() -> Any:
    yield
    Around.place = ""


def test_params_that_init_weights_loads(trunk: Any, tmp_path: Path) -> None:
    Around.place = str(tmp_path / "trunk")
    model = Around(Config(), 2)
    assert np.array_equal(model.params["back"]["dense"]["kernel"], trunk.params["dense"]["kernel"])
    model.params = jax.tree.map(lambda leaf: leaf + 1, model.params)
    model.save_pretrained(tmp_path / "whole")
    assert_equal(Around.from_pretrained(tmp_path / "whole", size=2, strict=True), model)
    head = {"head.weight": np.ones((2, 3), np.float32), "head.bias": np.zeros(2, np.float32)}
    lacking, info = Around.from_pretrained(
        None, config=Config(), state_dict=head, size=2, strict=False, output_loading_info=True
    )
    assert sorted(info["missing_keys"]) == ["back.dense.bias", "back.dense.weight"]
    assert np.array_equal(lacking.params["back"]["dense"]["kernel"], trunk.params["dense"]["kernel"])
    assert lacking.params["head"]["kernel"].tolist() == np.ones((3, 2)).tolist()


def test_a_load_makes_no_weights_that_it_does_not_keep(trunk: Any, tmp_path: Path) -> None:
    model = Around(Config(), 2)
    model.save_pretrained(tmp_path / "whole")
    made: list[Any] = []

    class Counting(Around):
        def init_weights(self, rng: Any, input_shape: Any, params: Any = None) -> Any:
            made.append(isinstance(rng, jax.core.Tracer))
            return super().init_weights(rng, input_shape, params)

    Counting.from_pretrained(tmp_path / "whole", size=2, strict=True)
    assert made == [True]  # traced for its shapes


def test_arguments_of_the_constructor_shape_weights(tmp_path: Path) -> None:
    model = Around(Config(), 5)
    model.save_pretrained(tmp_path)
    again = Around.from_pretrained(tmp_path, jnp.float32, 5, "more", kind=1, strict=True)
    assert again.seen_inputs == ("more",) and again.seen_options == {"kind": 1}
    assert_equal(again, model)
    assert_equal(Around.from_pretrained(tmp_path, size=5, strict=True), model)
    with pytest.raises(CheckpointError, match="head"):
        Around.from_pretrained(tmp_path, size=4)


def test_fields_of_the_module_shape_weights(tmp_path: Path) -> None:
    class Fields(Trunk):
        module_class = AroundModule

    model = Fields(Config(), size=5)
    model.save_pretrained(tmp_path)
    assert open_checkpoint(tmp_path)["head.bias"].shape == (5,)
    assert_equal(Fields.from_pretrained(tmp_path, size=5, strict=True), model)


def test_missing_weights_start_as_their_module_says() -> None:
    model, info = Trunk.from_pretrained(None, config=Config(), state_dict={}, strict=False, output_loading_info=True)
    assert sorted(info["missing_keys"]) == ["dense.bias", "dense.weight"]
    assert model.params["dense"]["bias"].tolist() == [1, 1, 1] and model.params["dense"]["kernel"].std() > 0


NO_TREES: list[Any] = [5, [], "params", {0: np.ones(1)}, {"dense": {"kernel": 5, "bias": "one"}}]


@pytest.mark.parametrize("tree", NO_TREES, ids=str)
def test_what_is_no_tree_of_parameters_is_refused(tree: Any, tmp_path: Path) -> None:
    model = Trunk(Config())
    before = flat(model)

    def assign() -> None:
        model.params = tree

    calls = [assign, lambda: model.save_pretrained(tmp_path / "saved", params=tree), lambda: model.to_bf16(tree)]
    for call in calls:
        with pytest.raises(ArgumentError, match="parameter"):
            call()
    assert not (tmp_path / "saved").exists()
    assert flat(model).keys() == before.keys()


@pytest.mark.parametrize("made", [None, *NO_TREES], ids=str)
def test_init_weights_that_returns_no_tree_is_named(made: Any, trunk: Any, tmp_path: Path) -> None:
    class Nonsense(Trunk):
        def init_weights(self, rng: Any, input_shape: Any, params: Any = None) -> Any:
            return made

    for call in (lambda: Nonsense(Config()), lambda: Nonsense.from_pretrained(tmp_path / "trunk")):
        with pytest.raises(ArgumentError, match="parameter"):
            call()


@pytest.mark.parametrize(
    "params", [5, [], {}, {"other": np.ones(1)}, {"dense": {"kernel": np.ones((3, 9)), "bias": np.ones(3)}}], ids=str
)
def test_a_call_with_parameters_of_something_else_is_refused(params: Any) -> None:
    with pytest.raises(ArgumentError, match="parameters"):
        Trunk(Config())(np.ones((1, 3), np.float32), params=params)


IMPOSSIBLE: list[dict[str, Any]] = [
    {"seed": "one"}, {"seed": 1.5}, {"seed": None}, {"seed": 2**70}, {"input_shape": 5}, {"input_shape": "ab"},
    {"input_shape": (1.5, 3)}, {"dtype": "int32"}, {"dtype": 5}, {"module": 5},
]  # fmt: skip


@pytest.mark.parametrize("arguments", IMPOSSIBLE, ids=str)
def test_impossible_arguments_of_the_constructor_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError):
        Trunk(Config(), **arguments)


def test_parameters_of_another_shape_change_nothing(tmp_path: Path) -> None:
    model = FlaxBertModel(BERT)
    rows = model.get_input_embeddings()
    cut = jax.tree.map(lambda leaf: leaf[:1], model.params)
    for call in (
        lambda: model.resize_token_embeddings(40, params=cut),
        lambda: model.prune_heads({0: [1]}, params=cut),
        lambda: model.save_pretrained(tmp_path / "saved", params=cut),
    ):
        with pytest.raises(ArgumentError, match="another shape"):
            call()
    assert model.config.vocab_size == 31 and not model.config.pruned_heads
    assert model.get_input_embeddings() is rows
    assert not [*(tmp_path / "saved").rglob("*.safetensors"), *(tmp_path / "saved").rglob("config.json")]
    for value in (None, 5, "rows", np.ones(3)):
        with pytest.raises(ArgumentError, match="no embeddings"):
            model.set_input_embeddings(value)


def test_files_without_a_path_are_refused() -> None:
    for files in (5, None, "model.safetensors", [5]):
        with pytest.raises(ArgumentError, match="file"):
            Trunk.load_flax_sharded_weights(files)
    with pytest.raises(ArgumentError, match="file"):
        Trunk.load_flax_weights(None)
