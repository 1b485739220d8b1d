"""Private attributes of the frameworks: used in `internals.py` alone, and what is relied on there holds."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flax.linen as linen
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
import tensorflow as tf
import torch

from triptych import BertConfig, TFBertForMaskedLM
from triptych.names import BACKENDS
from triptych.nn.outputs import ModelOutput
from triptych_conformance import assert_close
from triptych_flax import internals as flax_internals
from triptych_pt import internals as pt_internals
from triptych_tf import internals as tf_internals

ROOT = Path(__file__).parents[1]
SMALL = BertConfig(vocab_size=31, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=10)
ACCESSORS = ("getattr", "setattr", "hasattr", "delattr", "attrgetter")


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def parsed(folder: Path) -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text()) for path in folder.rglob("*.py")}


CONSTRUCTORS = ("__init__", "_set_up")


def own_attributes() -> set[str]:
    """Return the private attributes that classes of triptych define: in their body, or of `self` in a constructor."""
    folders = [
        ROOT / "core/triptych/modeling",
        ROOT / "core/triptych/generation",
        *(ROOT / backend / package for backend, (package, _) in BACKENDS.items()),
    ]
    trees = [tree for folder in folders for path, tree in parsed(folder).items() if path.name != "internals.py"]
    names: set[str] = set()
    for cls in (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        names |= {target.id for part in cls.body for target in targets_of(part) if isinstance(target, ast.Name)}
        for method in (part for part in cls.body if isinstance(part, ast.FunctionDef)):
            names.add(method.name)
            targets = [t for node in ast.walk(method) for t in targets_of(node) if method.name in CONSTRUCTORS]
            names |= {target.attr for target in targets if isinstance(target, ast.Attribute)}
    return {name for name in names if is_private(name)}


def targets_of(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.Assign):
        return [one for target in node.targets for one in (target.elts if isinstance(target, ast.Tuple) else [target])]
    return [node.target] if isinstance(node, ast.AnnAssign) else []


def private_uses(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield (name, line) of every private attribute that is used, be it by a string, and every private import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            yield node.attr, node.lineno
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in ACCESSORS:
            texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            yield from ((part, node.lineno) for text in texts for part in text.split(".") if is_private(part))
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            if getattr(node.value, "attr", "") == "__dict__" and is_private(str(node.slice.value)):
                yield str(node.slice.value), node.lineno
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = [getattr(node, "module", "") or "", *(alias.name for alias in node.names)]
            parts = [part for module in modules for part in module.split(".")]
            yield from ((part, node.lineno) for part in parts if is_private(part) or part == "src")


DURING_A_LOAD = {"_loading", "_made_anew", "_seed_generator"}
"""Kept in the __dict__ of a model, where the framework does not track them."""
OF_AUTHORS = {"_is_hf_initialized", "_tie_weights", "_gradient_checkpointing_func", "_attn_implementation_autoset",
              "_attn_implementation", "_attn_implementation_internal"}  # fmt: skip
"""By convention of transformers, on modules of others and on configs."""


@pytest.mark.parametrize("backend", BACKENDS)
def test_only_internals_touches_private_attributes(backend: str) -> None:
    own = own_attributes() | DURING_A_LOAD | OF_AUTHORS
    found = [
        f"{path.name}:{line} {name}"
        for path, tree in parsed(ROOT / backend / BACKENDS[backend][0]).items()
        if path.name != "internals.py"
        for name, line in private_uses(tree)
        if name not in own
    ]
    assert found == []


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("variable._dtype", {"_dtype"}),
        ("self._tracker.unlock()", {"_tracker"}),
        ("setattr(layer, '_shape', ())", {"_shape"}),
        ("layer.__dict__['_losses']", {"_losses"}),
        ("from keras.src.ops import x", {"src"}),
        ("from torch._C import y", {"_C"}),
        ("layer.__class__, __name__, super().__init__()", set()),
    ],
)
def test_the_guard_sees_private_uses(text: str, names: set[str]) -> None:
    assert {name for name, _ in private_uses(ast.parse(text))} == names
    assert not names & own_attributes()


def built(dtype: Any = None) -> keras.layers.Dense:
    layer = keras.layers.Dense(3, dtype=dtype)
    layer.build((None, 2))
    return layer


def test_keras_variables_and_parts_of_a_layer() -> None:
    layer = keras.layers.BatchNormalization()
    layer.build((None, 2))
    names = [variable.name for variable in tf_internals.variables_of(layer)]
    assert names == ["gamma", "beta", "moving_mean", "moving_variance"]
    assert layer._trainable_variables + layer._non_trainable_variables == tf_internals.variables_of(layer)

    class Outer(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.second, self.first = [keras.layers.Dense(1, name="b"), keras.layers.Dense(1, name="c")], built()
            self.inner = Inner()

    class Inner(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.deep = keras.layers.Dense(1, name="deep")

    outer = Outer()
    assert tf_internals.parts_of(outer) == [*outer.second, outer.first, outer.inner]
    assert [*tf_internals.with_all_parts(outer)][0] is outer
    assert outer.inner.deep in [*tf_internals.with_all_parts(outer)]
    assert tf_internals.variables_of(outer) == []


def test_keras_asks_initializers_when_a_stateless_scope_ends() -> None:
    """In order, once each, with the shape and the dtype that the variable has by then."""
    asked = []

    def fill(name: str, value: float) -> Any:
        return lambda shape, dtype: asked.append((name, tuple(shape), dtype)) or tf.cast(tf.fill(shape, value), dtype)

    with tf_internals.without_values():
        layer, dropped = built(), built()
        tf_internals.promise(layer.kernel, tf.bfloat16, fill("kernel", 2.0))
        tf_internals.promise(layer.bias, tf.float16)
        for variable in (dropped.kernel, dropped.bias):
            tf_internals.promise_nothing(variable)
        assert asked == []
        assert layer.kernel._value is None
    assert asked == [("kernel", (2, 3), "bfloat16")]
    assert (tf_internals.dtype_of(layer.kernel), tf_internals.dtype_of(layer.bias)) == (tf.bfloat16, tf.float16)
    assert np.asarray(tf.cast(layer.kernel.value, tf.float32)).tolist() == [[2.0] * 3] * 2
    assert np.asarray(layer.bias.value).tolist() == [0.0] * 3
    assert dropped.kernel.value.shape == ()


def test_keras_gives_values_to_variables_of_a_context_within_another() -> None:
    with tf_internals.without_values():
        outer = keras.layers.Dense(2)
        outer.build((None, 3))
        with tf_internals.without_values():
            inner = keras.layers.Dense(2)
            inner.build((None, 3))
            assert not tf_internals.has_value(inner.kernel)
        assert tf_internals.has_value(inner.kernel) and not tf_internals.has_value(outer.kernel)
    assert tf_internals.has_value(outer.kernel) and tf_internals.has_value(outer.bias)


def test_keras_variables_hide_their_dtype_while_a_layer_computes_in_another() -> None:
    seen = []

    class Layer(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            self.weight = self.add_weight(shape=(2,), name="weight")

        def call(self, x: Any) -> Any:
            seen.extend([tf.as_dtype(self.weight.dtype), tf_internals.dtype_of(self.weight)])
            return x * self.weight

    Layer(dtype="mixed_bfloat16")(np.ones((1, 2), np.float32))
    assert seen[-2:] == [tf.bfloat16, tf.float32]


def test_keras_variables_take_values_of_other_shapes() -> None:
    layer = built()
    value = tf.constant(np.arange(8, dtype=np.float32).reshape(2, 4))
    tf_internals.set_value(layer.kernel, value)
    tf_internals.set_value(layer.bias, tf.zeros(4))
    assert tuple(layer.kernel.shape) == (2, 4)
    assert np.array_equal(layer(np.eye(2, dtype=np.float32)), value)
    assert tf_internals.built_for(layer) == (None, 2)
    tf_internals.say_built_for(layer, (None, 5))
    assert layer.get_build_config() == {"input_shape": (None, 5)}


def test_keras_layers_are_put_into_built_ones() -> None:
    model = TFBertForMaskedLM(SMALL)
    old, new = model.bert.embeddings.word_embeddings, keras.layers.Embedding(40, 12)
    owner = model.bert.embeddings
    with pytest.raises(ValueError, match="cannot add new elements of state"):
        owner.word_embeddings = new
    tf_internals.put_layer(owner, "word_embeddings", new)
    assert new in tf_internals.parts_of(owner)
    assert old not in tf_internals.parts_of(owner)
    with pytest.raises(ValueError, match="cannot add new elements of state"):
        owner.another = keras.layers.Dense(1)


def test_keras_policies_of_two_dtypes() -> None:
    layer = built(tf_internals.ParameterPolicy("float32", "bfloat16"))
    assert (layer.compute_dtype, layer.variable_dtype) == ("float32", "bfloat16")
    assert tf_internals.dtype_of(layer.kernel) == tf.bfloat16
    assert layer(np.ones((1, 2), np.float32)).dtype == tf.float32
    again = tf_internals.ParameterPolicy("bfloat16", "float16")
    assert again.get_config() == {"name": "bfloat16", "parameters": "float16"}


def test_keras_looks_into_classes_made_known() -> None:
    class Pair(dict):
        pass

    tf_internals.make_known(
        Pair, lambda p: (tuple(p.values()), tuple(p), tuple(p)), lambda n, v: Pair(zip(n, v, strict=True))
    )
    found = keras.tree.map_structure(lambda x: x + 1, Pair(one=1, two=2))
    assert type(found) is Pair
    assert found == {"one": 2, "two": 3}


class Older(keras.layers.Layer):
    """Written for Keras 2."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.first, self.rest = keras.layers.Dense(2), {"a": [keras.layers.Dense(2, name="dense")]}

    def build(self, input_shape: Any = None) -> None:
        with tf.name_scope("inner"):
            self.weight = self.add_weight("weight", shape=[3, 2], initializer="ones")
        self.slashed = self.add_weight(name="decoder/bias", shape=2)
        self.unnamed = self.add_weight(shape=(1,))

    def call(self, x: Any, flag: bool = False, training: bool = False) -> Any:
        return keras.ops.matmul(x, self.weight) * (2.0 if flag else 1.0)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's own, when it saves
@pytest.mark.parametrize("shards", [None, 1.0], ids=["one file", "shards"])
def test_keras_writes_weights_of_layers_with_made_up_names(shards: float | None, tmp_path: Path) -> None:
    models = [keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]) for _ in range(2)]
    path = tmp_path / ("w.weights.h5" if shards is None else "w.weights.json")
    models[0].save_weights(path, max_shard_size=shards)
    models[1].load_weights(path)
    assert all(np.array_equal(*pair) for pair in zip(*(model.get_weights() for model in models), strict=True))


def test_keras_layers_note_made_up_names_and_scopes() -> None:
    layer, other = Older(name="older"), keras.layers.Dropout(0.1)
    assert tf_internals.awaits_variables(layer) and not tf_internals.awaits_variables(other)
    layer.build(None)
    assert not tf_internals.awaits_variables(layer)
    scopes = [tf_internals.scopes_of(one) for one in (layer.weight, layer.slashed, layer.unnamed)]
    assert scopes == [("inner",), ("decoder",), ()]
    parts = (layer.first, layer.rest["a"][0], layer.unnamed, layer.weight, layer)
    assert [tf_internals.is_made_up(one) for one in parts] == [True, False, True, False, False]
    assert tf_internals.place_in(layer, layer.rest["a"][0]) == ("rest", "a", "0")
    assert tf_internals.place_in(layer, layer.unnamed) == ("unnamed",)
    assert tf_internals.place_in(layer, other) == ()
    several = keras.Sequential([keras.layers.Dense(2), keras.layers.Dense(2)])
    several.build((None, 2))
    assert [tf_internals.place_in(several, one) for one in several.layers] == [("0",), ("1",)]
    assert tf_internals.noted_path(layer.weight) == ("inner", "weight")
    tf_internals.note_path(layer.weight, ("a", "weight"))
    assert tf_internals.noted_path(layer.weight) == ("a", "weight")


def test_keras_layers_are_called_as_in_keras_2() -> None:
    layer, x = Older(name="older"), np.ones((1, 3), np.float32)
    assert layer(x, True, False).numpy().tolist() == [[6.0, 6.0]]
    assert layer(x, training=True).numpy().tolist() == [[3.0, 3.0]]
    assert tf.matmul(x, [layer.weight]).shape == (1, 1, 2)
    assert tf_internals.tensor_of(layer.weight).numpy().tolist() == [[1.0, 1.0]] * 3
    assert tf.convert_to_tensor([1, 2]).numpy().tolist() == [1, 2]


def test_keras_says_that_it_trains_and_what_a_call_changes() -> None:
    class Outer(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.drop, self.norm = keras.layers.Dropout(0.5), keras.layers.BatchNormalization()

        def call(self, x: Any) -> Any:
            told.append((tf_internals.training_of(self), tf_internals.is_stateless()))
            return self.drop(self.norm(x))

    class Model(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.outer = Outer()

        def call(self, x: Any, training: bool | None = None) -> Any:
            return self.outer(x)

    told: list[tuple[bool, bool]] = []
    model, x = Model(), np.ones((2, 3), np.float32)
    model(x), model(x, training=True)
    with keras.StatelessScope():
        model(x)
    assert told[-3:] == [(False, False), (True, False), (False, True)]
    norm = model.outer.norm
    states = [norm.moving_mean, norm.moving_variance, model.outer.drop.seed_generator.state]
    assert {id(one) for one in tf_internals.state_of(model.outer)} == {id(one) for one in states}


def test_torch_calls_with_plain_arguments() -> None:
    def function(x: Any, pair: tuple[Any, Any], *, more: Any = None) -> Any:
        return x, pair, more

    run, inputs = pt_internals.flattened(function, 1, (2, 3), more=None)
    assert inputs == [1, 2, 3, None]
    assert run(4, 5, 6, 7) == (4, (5, 6), 7)


def test_torch_builds_parameters_without_values() -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("a parameter without values was filled")

    with pytest.MonkeyPatch.context() as patch, pt_internals.parameters_on_meta():
        patch.setattr(torch.Tensor, "uniform_", fail)
        layer = torch.nn.Linear(2, 3)
        norm = torch.nn.BatchNorm1d(2)
        torch.nn.init.normal_(tensor=layer.weight)
        layer.more = torch.nn.Parameter(torch.zeros(2), requires_grad=False)
        assert pt_internals.building_empty()
    assert not pt_internals.building_empty()
    assert all(p.is_meta for module in (layer, norm) for p in module.parameters())
    assert not layer.more.requires_grad
    assert norm.running_var.tolist() == [1.0, 1.0]  # buffers are made as usual
    assert not torch.nn.Linear(2, 3).weight.is_meta


def test_keras_keeps_its_stateless_scope_where_a_context_within_can_leave_it() -> None:
    with tf_internals.without_values():
        outer = keras.Variable(keras.initializers.Ones(), (2,))
        with tf_internals.without_values():
            inner = keras.Variable(keras.initializers.Ones(), (3,))
            assert not tf_internals.has_value(inner)
        assert tf_internals.has_value(inner) and not tf_internals.has_value(outer)
        tf_internals.promise(inner, tf.float16, lambda shape, dtype: tf.zeros(shape, dtype))
        assert not tf_internals.has_value(inner) and tf_internals.is_stateless()
    assert not tf_internals.is_stateless()
    assert np.asarray(outer).tolist() == [1, 1] and np.asarray(inner).tolist() == [0, 0, 0]
    assert inner.value.dtype == tf.float16


def test_flax_computes_only_what_no_input_decides() -> None:
    ran = []

    class Module(linen.Module):
        @linen.compact
        def __call__(self, ids: Any) -> Any:
            jax.debug.callback(lambda _: ran.append("forward"), ids.sum())
            embedded = linen.Embed(5, 3)(ids)
            return linen.Dense(2)(embedded)

    def leaves(ids: Any) -> dict[str, Any]:
        made = Module().init(jax.random.PRNGKey(0), ids)["params"]
        return {f"{name}.{leaf}": value for name, leaves in made.items() for leaf, value in leaves.items()}

    found = flax_internals.evaluated(leaves, (1, 4), jnp.int32)
    assert {name: value.shape for name, value in found.items()} == {
        "Embed_0.embedding": (5, 3), "Dense_0.kernel": (3, 2), "Dense_0.bias": (2,),
    }  # fmt: skip
    jax.effects_barrier()
    assert ran == []
    assert all(np.array_equal(found[name], value) for name, value in leaves(jnp.zeros((1, 4), jnp.int32)).items())
    assert (
        float(
            flax_internals.evaluated(lambda ids: {"of the input": ids.sum() + 2.0}, (1, 4), jnp.int32)["of the input"]
        )
        == 2.0
    )


def test_jax_knows_what_is_traced() -> None:
    seen = []
    jax.jit(lambda x: seen.append(flax_internals.is_traced(x)) or x)(1)
    assert seen == [True]
    assert not flax_internals.is_traced(jnp.ones(()))
    assert not flax_internals.is_traced(1)


def test_pytorch_says_that_a_transform_wraps_tensors() -> None:
    seen: list[bool] = []

    def noted(x: torch.Tensor) -> torch.Tensor:
        seen.append(pt_internals.transforms_are_active())
        return x

    noted(torch.ones(2))
    torch.func.vmap(noted)(torch.ones(2))
    assert seen == [False, True]


def test_pytorch_has_the_product_of_onednn() -> None:
    rng = np.random.default_rng(0)
    x, rows = (torch.tensor(rng.standard_normal(shape), dtype=torch.float32) for shape in ((5, 48), (301, 48)))
    product = pt_internals.onednn_linear(x, rows)
    assert product is not None
    assert_close(product, torch.nn.functional.linear(x, rows))
    refused: list[bool] = []
    torch.func.vmap(lambda row: refused.append(pt_internals.onednn_linear(row[None], rows) is None) or row)(x)
    assert refused == [True]


def test_pytorch_sees_the_tensors_in_an_output() -> None:
    for _ in range(2):  # a class that is defined again, as in a notebook

        class Output(ModelOutput):
            logits: Any
            hidden_states: Any

        made = Output(logits=torch.ones(2), hidden_states=(torch.zeros(1), torch.ones(1)))
        doubled = torch.utils._pytree.tree_map(lambda tensor: 2 * tensor, made)
        assert type(doubled) is Output and list(doubled) == ["logits", "hidden_states"]
        assert doubled.logits.tolist() == [2, 2] and doubled.hidden_states[1].tolist() == [2]
        assert "loss" not in doubled and Output.__name__ == type(doubled).__name__
