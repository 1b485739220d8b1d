"""Dropout by a seed: the same values are dropped in the three frameworks, and so one seed is one training run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import keras
import numpy as np
import pytest
import tensorflow as tf
import torch

from small_models import config_of, random_folder
from triptych import ArgumentError
from triptych.nn.seeding import Stream, dropped
from triptych.nn.threefry import OnHost, threefry
from triptych_conformance import BACKENDS, Backend, assert_close, compare
from triptych_flax import ops as flax_ops
from triptych_pt import ops as pt_ops
from triptych_tf import ops as tf_ops

Losses = list[float]
OPS = {"pt": pt_ops, "tf": tf_ops, "flax": flax_ops}
CLASSES = {"bert": "BertForSequenceClassification", "gpt2": "GPT2LMHeadModel"}
SIZES = {"bert": {}, "gpt2": {"n_layer": 1}}
STEPS, SEED, RATE = 50, 7, 0.05
FEW = 3
WITHOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
# Of Random123, the authors' library: rounds, key, counter and words.
ANSWERS = [
    (20, (0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    (20, (0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    (20, (0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    (13, (0, 0), (0, 0), (0x9D1C5EC6, 0x8BD50731)),
    (13, (0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0xFD36D048, 0x2D17272C)),
    (13, (0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xBA3E4725, 0xF27D669E)),
]


def batches(kind: str) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    ids = rng.integers(3, 31, (STEPS, 4, 9))
    labels = rng.integers(0, 4, (STEPS, 4)) if kind == "bert" else ids
    return [{"input_ids": one, "labels": label} for one, label in zip(ids, labels, strict=True)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a folder with a model of each kind, which drops states and attention."""
    return {
        kind: random_folder(tmp_path_factory.mktemp(kind), config_of(kind, stem, **SIZES[kind]), stem)
        for kind, stem in CLASSES.items()
    }


@pytest.fixture(scope="module")
def reference(folders: dict[str, Path]) -> dict[str, Losses]:
    """Return the losses of a run in PyTorch."""
    return {kind: run_pt(kind, folders[kind], STEPS) for kind in CLASSES}


def loaded(name: str, kind: str, folder: Path, **options: Any) -> Any:
    return Backend(name).cls(CLASSES[kind]).from_pretrained(folder, **options)


def run_pt(
    kind: str, folder: Path, steps: int, seed: int = SEED, change: Callable[[Any], Any] = lambda m: None, **options: Any
) -> Losses:
    """Return the losses of so many steps of a loop; `backward` is outside of the context."""
    model, found = loaded("pt", kind, folder, **options).train(), []
    changed = change(model)
    called = model if changed is None else changed
    for step, batch in enumerate(batches(kind)[:steps]):
        model.zero_grad()
        with model.seeded_dropout(seed, step):
            loss = called(**{name: torch.tensor(value) for name, value in batch.items()}).loss
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= RATE * parameter.grad
        found.append(loss.item())
    return found


def run_tf(kind: str, folder: Path, steps: int, change: Callable[[Any], Any] = lambda m: None) -> Losses:
    """Return the losses of a loop without graphs."""
    model, found = loaded("tf", kind, folder), []
    change(model)
    optimizer = keras.optimizers.SGD(RATE)
    for step, batch in enumerate(batches(kind)[:steps]):
        with model.seeded_dropout(SEED, step), tf.GradientTape() as tape:
            loss = model(**batch, training=True).loss
        gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
        optimizer.apply(gradients, model.trainable_variables)
        found.append(float(loss))
    return found


def run_flax(kind: str, folder: Path, steps: int, change: Callable[[Any], Any] = lambda m: None) -> Losses:
    """Return the losses of a loop over one function, of which the step is an argument."""
    model, found = loaded("flax", kind, folder), []
    change(model)

    @jax.jit
    def update(params: Any, batch: Any, step: Any) -> Any:
        def loss(params: Any) -> Any:
            with model.seeded_dropout(SEED, step):
                return model(**batch, params=params, train=True).loss

        value, gradients = jax.value_and_grad(loss)(params)
        return jax.tree.map(lambda p, g: p - RATE * g, params, gradients), value

    params = model.params
    for step, batch in enumerate(batches(kind)[:steps]):
        params, loss = update(params, batch, step)
        found.append(float(loss))
    return found


def assert_same_run(found: Losses, reference: Losses) -> None:
    np.testing.assert_allclose(found, reference[: len(found)], rtol=0, atol=1e-4)


def differ(found: Losses, reference: Losses) -> bool:
    return compare(found, reference[: len(found)]).fraction > 1000


# -- one run --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CLASSES)
def test_fifty_steps_of_flax_are_those_of_pytorch(kind: str, folders: Any, reference: dict[str, Losses]) -> None:
    assert_same_run(run_flax(kind, folders[kind], STEPS), reference[kind])


@pytest.mark.parametrize("kind", CLASSES)
def test_fifty_batches_of_keras_are_the_steps_of_pytorch(kind: str, folders: Any, reference: dict[str, Losses]) -> None:
    model = loaded("tf", kind, folders[kind])
    model.compile(keras.optimizers.SGD(RATE))
    model.seed_dropout(SEED)
    found = [float(model.train_on_batch(batch)) for batch in batches(kind)]
    assert_same_run(found, reference[kind])


def test_a_run_of_tensorflow_without_graphs_is_the_same(folders: Any, reference: dict[str, Losses]) -> None:
    assert_same_run(run_tf("bert", folders["bert"], FEW), reference["bert"])


def test_dropout_acts_and_the_seed_says_how(folders: Any, reference: dict[str, Losses]) -> None:
    assert run_pt("bert", folders["bert"], FEW) == reference["bert"][:FEW]
    assert differ(run_pt("bert", folders["bert"], FEW, seed=SEED + 1), reference["bert"])
    assert differ(run_pt("bert", folders["bert"], FEW, **WITHOUT), reference["bert"])


def test_compiled_by_pytorch_once_for_all_steps(folders: Any, reference: dict[str, Losses]) -> None:
    from torch._dynamo.testing import CompileCounter

    counter = CompileCounter()
    found = run_pt("bert", folders["bert"], FEW, change=lambda m: torch.compile(m, backend=counter, fullgraph=True))
    assert_same_run(found, reference["bert"])
    assert counter.frame_count == 1


@pytest.mark.parametrize("options", [None, {"use_reentrant": False}], ids=["reentrant", "not reentrant"])
def test_layers_computed_anew_by_pytorch_drop_the_same(
    options: Any, folders: Any, reference: dict[str, Losses]
) -> None:
    def change(model: Any) -> None:
        model.gradient_checkpointing_enable(options)

    assert run_pt("gpt2", folders["gpt2"], FEW, change=change) == reference["gpt2"][:FEW]


def test_layers_computed_anew_by_others_drop_the_same(folders: Any, reference: dict[str, Losses]) -> None:
    assert_same_run(run_tf("gpt2", folders["gpt2"], FEW, lambda m: m.gradient_checkpointing_enable()),
                    reference["gpt2"])  # fmt: skip
    assert_same_run(run_flax("gpt2", folders["gpt2"], FEW, lambda m: m.enable_gradient_checkpointing()),
                    reference["gpt2"])  # fmt: skip


def test_fused_attention_of_pytorch_drops_by_the_seed(folders: Any, reference: dict[str, Losses]) -> None:
    eager = run_pt("gpt2", folders["gpt2"], FEW, attn_implementation="eager")
    assert_same_run(eager, reference["gpt2"])
    assert loaded("pt", "gpt2", folders["gpt2"]).config._attn_implementation == "sdpa"


def test_calls_are_counted_and_counting_goes_on(folders: Any, reference: dict[str, Losses]) -> None:
    model, ids = loaded("pt", "gpt2", folders["gpt2"]).train(), torch.tensor(batches("gpt2")[0]["input_ids"])

    def losses(count: int) -> Losses:
        return [model(input_ids=ids, labels=ids).loss.item() for _ in range(count)]

    model.seed_dropout(SEED)
    whole = losses(4)
    assert len(set(whole)) == 4
    assert_close(whole[0], reference["gpt2"][0])
    model.seed_dropout(SEED, step=2)
    model.eval()(input_ids=ids)
    model.train()
    assert losses(2) == whole[2:]
    model.seed_dropout(None)
    torch.manual_seed(1)
    native = losses(1)
    torch.manual_seed(1)
    assert losses(1) == native


# -- masks ----------------------------------------------------------------------------------------------------------


def mask(backend: str, shape: tuple[int, ...], rate: float = 0.3, use: int = 0, **options: Any) -> np.ndarray:
    ops = OPS[backend]
    ones = {"pt": torch.ones, "tf": tf.ones, "flax": jax.numpy.ones}[backend](shape)
    stream = Stream(ops, **{"seed": 2**40 + 3, "step": 5, **options})
    return np.asarray(dropped(ops, ones, rate, stream, 11, use))


@pytest.mark.parametrize("ops", [OnHost, *OPS.values()], ids=["host", *OPS])
def test_words_are_those_of_the_paper(ops: Any) -> None:
    for rounds, key, counter, words in ANSWERS:
        pairs = [tuple(map(ops.word, pair)) for pair in (key, counter)]
        found = threefry(ops, pairs[0], pairs[1], rounds)
        assert tuple(int(np.asarray(word).reshape(())) & 0xFFFFFFFF for word in found) == words


@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 4), (3, 1), (70000, 4), (0, 3)])
def test_masks_are_the_same_and_means_stay(shape: tuple[int, ...]) -> None:
    found = [mask(name, shape) for name in OPS]
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])
    if found[0].size > 10**5:
        assert found[0].mean() == pytest.approx(1, abs=0.01)
        assert (found[0] == 0).mean() == pytest.approx(0.3, abs=0.005)
        assert np.corrcoef(found[0][1:, 0], found[0][:-1, 0])[0, 1] == pytest.approx(0, abs=0.02)


def test_masks_differ_where_anything_does() -> None:
    base = mask("pt", (16, 16))
    others = [{"seed": 2**41}, {"step": 6}, {"shard": 1}, {"use": 1}]
    assert all((mask("pt", (16, 16), **change) != base).mean() > 0.2 for change in others)
    assert (mask("pt", (4, 4), rate=0.0) == 1).all()
    assert (mask("pt", (4, 4), rate=1.0) == 0).all()


def test_shards_together_drop_what_one_does(backend: Backend) -> None:
    whole = mask(backend.name, (6, 5, 10))
    shards = [mask(backend.name, (2, 5, 10), shard=number) for number in range(3)]
    np.testing.assert_array_equal(np.concatenate(shards), whole)


def test_two_processes_have_the_loss_of_one(folders: Any, reference: dict[str, Losses]) -> None:
    model, batch = loaded("pt", "bert", folders["bert"]).train(), batches("bert")[0]
    losses = []
    for shard in range(2):
        part = {name: torch.tensor(value[2 * shard : 2 * shard + 2]) for name, value in batch.items()}
        with model.seeded_dropout(SEED, 0, shard):
            losses.append(model(**part).loss.item())
    assert_close(np.mean(losses), reference["bert"][0])


def test_a_step_of_a_trace_is_that_step() -> None:
    def flax(step: Any) -> Any:
        return dropped(flax_ops, jax.numpy.ones((5, 7)), 0.3, Stream(flax_ops, 1, step), 3)

    def tensorflow(x: Any, step: Any) -> Any:
        return dropped(tf_ops, x, 0.3, Stream(tf_ops, 1, step), 3)

    expected = np.asarray(flax(9))
    np.testing.assert_array_equal(jax.jit(flax)(9), expected)
    of_any_shape = tf.function(tensorflow, input_signature=[tf.TensorSpec([None, None]), tf.TensorSpec([], tf.int64)])
    np.testing.assert_array_equal(of_any_shape(tf.ones((5, 7)), tf.constant(9, tf.int64)), expected)
    inside = tf.function(tensorflow, jit_compile=True)(tf.ones((5, 7)), tf.constant(9, tf.int64))
    np.testing.assert_array_equal(inside, expected)


# -- what cannot be -------------------------------------------------------------------------------------------------


def test_what_is_no_seed_or_step_is_refused(backend: Backend, folders: Any) -> None:
    model = loaded(backend.name, "gpt2", folders["gpt2"])
    for wrong in ((-1, 0), (1.5, 0), (True, 0), (1, -1), (1, 2**32), (1, 0.5), (1, np.zeros(2, int)), (1, 0, -1)):
        with pytest.raises(ArgumentError, match="is impossible"), model.seeded_dropout(*wrong):
            pass


def test_a_trace_keeps_no_step(folders: Any) -> None:
    batch = batches("gpt2")[0]
    model = loaded("tf", "gpt2", folders["gpt2"])
    with model.seeded_dropout(1, 0), pytest.raises(ArgumentError, match="within the function"):
        tf.function(lambda: model(**batch, training=True).loss, autograph=False)()
    flax = loaded("flax", "gpt2", folders["gpt2"])
    with flax.seeded_dropout(1, 0), pytest.raises(ArgumentError, match="within the function"):
        jax.jit(lambda: flax(**batch, train=True).loss)()
    with pytest.raises(ArgumentError, match="no state that could count"):
        flax.seed_dropout(1)
    model.seed_dropout(1)
    with pytest.raises(ArgumentError, match="seeded_dropout"):
        model(**batch, training=True)
    model.seed_dropout(None)
    assert np.isfinite(model(**batch, training=True).loss)


def test_other_models_and_calls_without_training_are_as_ever(backend: Backend, folders: Any) -> None:
    one, other = (loaded(backend.name, "gpt2", folders["gpt2"]) for _ in range(2))
    ids = batches("gpt2")[0]["input_ids"]
    calm = backend.run(one, {"input_ids": ids})["logits"]
    with one.seeded_dropout(1, 0):
        np.testing.assert_array_equal(backend.run(one, {"input_ids": ids})["logits"], calm)
        if backend.name == "flax":
            with pytest.raises(ArgumentError, match="needs random numbers"):
                other(ids, train=True)
            return
        call = other.train() if backend.name == "pt" else lambda x: other(x, training=True)
        twice = [np.asarray(call(torch.tensor(ids) if backend.name == "pt" else ids).logits.detach()
                            if backend.name == "pt" else call(ids).logits) for _ in range(2)]  # fmt: skip
        assert (twice[0] != twice[1]).any()


def test_layers_that_are_not_drawn_by_the_seed_are_named(caplog: pytest.LogCaptureFixture, folders: Any) -> None:
    model = loaded("pt", "gpt2", folders["gpt2"])
    model.more = torch.nn.Dropout(0.1)
    layer = loaded("tf", "gpt2", folders["gpt2"])
    layer.more = keras.layers.Dropout(0.1, name="more")
    with caplog.at_level(logging.WARNING, "triptych"):
        for one in (model, layer):
            for _ in range(2):
                with one.seeded_dropout(1, 0):
                    pass
    assert [record.getMessage().rpartition(" ")[2] for record in caplog.records] == ["more", "more"]


def test_flax_layers_that_are_not_drawn_by_the_seed_are_named(caplog: pytest.LogCaptureFixture) -> None:
    from flax import linen as nn

    from triptych import FlaxPreTrainedModel, PretrainedConfig
    from triptych_flax.make import FlaxDropout

    class Config(PretrainedConfig):
        model_type = "seeded"

    class Module(nn.Module):
        config: Any
        dtype: Any = np.float32

        @nn.compact
        def __call__(self, input_ids: Any, deterministic: bool = True) -> Any:
            x = nn.Embed(9, 64)(input_ids)
            return nn.Dropout(0.5, name="theirs")(FlaxDropout(0.5, name="ours")(x), deterministic)

    class Model(FlaxPreTrainedModel):
        config_class = Config
        module_class = Module

    model, params = Model(Config(), _do_init=False), {"Embed_0": {"embedding": np.ones((9, 64), np.float32)}}
    with caplog.at_level(logging.WARNING, "triptych"), model.seeded_dropout(1, 0):
        model(np.ones((3, 8), np.int32), params=params, train=True, dropout_rng=jax.random.PRNGKey(0))
    assert [record.getMessage().rpartition(" ")[2] for record in caplog.records] == ["theirs"]


def test_replicas_of_dataparallel_are_refused() -> None:
    from triptych_pt.make import Dropout

    layer = Dropout(0.5).train()
    layer.stream, layer._is_replica = Stream(pt_ops, 1, 0), True
    with pytest.raises(ArgumentError, match="DistributedDataParallel"):
        layer(torch.ones(3, 3))


def test_a_part_that_calls_a_layer_twice_drops_other_values() -> None:
    from triptych.nn.seeding import again

    layer = BACKENDS[0].cls("T5EncoderModel")(config_of("t5")).encoder.dropout.train()
    layer.stream = Stream(pt_ops, 1, 0)
    x = torch.ones(8, 8)
    assert (layer(x) != again(layer, x)).any()
    assert torch.equal(again(torch.nn.Identity(), x), x)
