"""Resizing and pruning give the same numbers in every framework, and those that transformers 4.48.3 recorded.

What holds for every class, `test_family_classes.py` tests.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from golden_models import Golden
from triptych import open_checkpoint
from triptych_conformance import BACKENDS, Backend, assert_close


def resized(backend: Backend, golden: Golden, **options: object) -> tuple[object, dict[str, np.ndarray]]:
    model = backend.load(golden.stem, golden.folder)
    model.resize_token_embeddings(**options)
    return model, backend.weights(model)


recorded_masks = pytest.mark.parametrize(
    "golden", [Golden(n) for n in Golden.with_head_mask], ids=Golden.with_head_mask
)
bert_only = pytest.mark.parametrize("golden", [Golden(n) for n in Golden.of_bert], ids=Golden.of_bert)


@pytest.mark.parametrize("options", [{"mean_resizing": False}, {"seed": 7}], ids=str)
def test_rows_drawn_otherwise_are_the_same_everywhere(golden: Golden, options: dict[str, object]) -> None:
    plain, first = (
        resized(BACKENDS[0], golden, new_num_tokens=golden.vocab_size + 6, **one)[1] for one in ({}, options)
    )
    assert any(not np.array_equal(first[name], array) for name, array in plain.items())
    for backend in BACKENDS[1:]:
        _, weights = resized(backend, golden, new_num_tokens=golden.vocab_size + 6, **options)
        assert weights.keys() == first.keys()
        assert all(weights[name].tobytes() == first[name].tobytes() for name in first), backend.name


def test_resize_as_recorded(backend: Backend, golden: Golden) -> None:
    rows = int(golden.expected["shrunk.vocab_size"])
    shrunk, _ = resized(backend, golden, new_num_tokens=rows)
    clipped = {n: a if n == "attention_mask" else np.minimum(a, rows - 1) for n, a in golden.inputs.items()}
    outputs = backend.run(shrunk, clipped)["logits"]
    assert_close(outputs, golden.expected["shrunk.logits"], golden.mask)
    grown, _ = resized(backend, golden, new_num_tokens=golden.vocab_size + 6)
    assert grown.num_parameters() == golden.expected["resized.num_parameters"]


@bert_only
def test_new_rows_lie_around_the_mean(backend: Backend, golden: Golden) -> None:
    name = "bert.embeddings.word_embeddings.weight"
    _, weights = resized(backend, golden, new_num_tokens=5000)
    old, new = weights[name][:99].astype(np.float64), weights[name][99:].astype(np.float64)
    assert np.abs(new - old.mean(0)).max() < 6 * np.sqrt(1e-9) * old.std(0).max()
    scale = np.sqrt(1e-9)
    assert np.allclose(np.cov((new - new.mean(0)).T / scale), np.cov(old.T, bias=True), atol=0.12 * old.var(0).max())
    _, plain = resized(backend, golden, new_num_tokens=5000, mean_resizing=False)
    assert abs(plain[name][99:].std() - 0.02) < 0.001
    assert "cls.predictions.bias" not in plain or not plain["cls.predictions.bias"][99:].any()


def test_an_untied_head_resizes_with_its_bias(tmp_path: Path) -> None:
    golden = Golden("bert-mlm")
    results = []
    for backend in BACKENDS:
        config = type(backend.load(golden.stem, golden.folder).config).from_pretrained(golden.folder)
        config.tie_word_embeddings = False
        model = backend.load(golden.stem, golden.folder, config=config)
        rng = np.random.default_rng(0)
        weights = {n: rng.standard_normal(a.shape).astype(np.float32) for n, a in backend.weights(model).items()}
        model = backend.load(golden.stem, None, config=config, state_dict=weights)
        model.resize_token_embeddings(120)
        results.append(backend.weights(model))
        assert results[-1]["cls.predictions.decoder.weight"].shape == (120, 32)
        assert results[-1]["cls.predictions.decoder.bias"][99:].any()
        outputs = backend.run(model, golden.inputs)["logits"]
        assert outputs.shape[-1] == 120
    for weights in results[1:]:
        assert all(weights[n].tobytes() == a.tobytes() for n, a in results[0].items())


def heads_of(golden: Golden) -> dict[int, list[int]]:
    config = json.loads((golden.path / "pruned/config.json").read_text())
    return {int(layer): heads for layer, heads in config["pruned_heads"].items()}


@recorded_masks
def test_prune_as_recorded(backend: Backend, golden: Golden, tmp_path: Path) -> None:
    model = backend.load(golden.stem, golden.folder)
    masked = backend.run(model, {**golden.inputs, "head_mask": golden.expected["head_mask"]})["logits"]
    model.prune_heads(heads_of(golden))
    pruned = backend.run(model, golden.inputs)["logits"]
    assert_close(pruned, golden.expected["pruned.logits"], golden.mask)
    assert_close(pruned, masked, golden.mask)
    model.save_pretrained(tmp_path)
    for loader in BACKENDS:
        again = loader.run(loader.load(golden.stem, tmp_path, strict=True), golden.inputs)["logits"]
        assert_close(again, golden.expected["pruned.logits"], golden.mask)


@recorded_masks
def test_a_pruned_file_follows_the_rules_of_transformers_4(backend: Backend, golden: Golden, tmp_path: Path) -> None:
    """Same config.pruned_heads, names, shapes and values as the folder that transformers 4.48.3 wrote."""
    model = backend.load(golden.stem, golden.folder)
    model.prune_heads(heads_of(golden))
    model.save_pretrained(tmp_path)
    theirs, ours = open_checkpoint(golden.path / "pruned"), open_checkpoint(tmp_path)
    assert set(theirs) == set(ours)
    assert all(theirs[name].read().tobytes() == ours[name].read().tobytes() for name in theirs)
    configs = [json.loads((folder / "config.json").read_text()) for folder in (golden.path / "pruned", tmp_path)]
    assert configs[0]["pruned_heads"] == configs[1]["pruned_heads"]


@recorded_masks
def test_the_recorded_pruned_folder_loads(backend: Backend, golden: Golden) -> None:
    outputs = backend.run(backend.load(golden.stem, golden.path / "pruned", strict=True), golden.inputs)["logits"]
    assert_close(outputs, golden.expected["pruned.logits"], golden.mask)


@recorded_masks
def test_a_folder_whose_layers_are_counted_from_the_end_loads(backend: Backend, golden: Golden, tmp_path: Path) -> None:
    """transformers 4.48.3 writes `{"-1": [0]}` for prune_heads({-1: [0]}), and prunes the last layer when it loads."""
    shutil.copytree(golden.path / "pruned", tmp_path / "pruned")
    config = json.loads((tmp_path / "pruned/config.json").read_text())
    layers = backend.load(golden.stem, golden.folder).config.num_hidden_layers
    config["pruned_heads"] = {str(int(layer) - layers): heads for layer, heads in config["pruned_heads"].items()}
    (tmp_path / "pruned/config.json").write_text(json.dumps(config))
    model = backend.load(golden.stem, tmp_path / "pruned", strict=True)
    outputs = backend.run(model, golden.inputs)["logits"]
    assert_close(outputs, golden.expected["pruned.logits"], golden.mask)
    assert model.config.pruned_heads == heads_of(golden)


@pytest.mark.parametrize(
    ("name", "counted", "plain"),
    [
        ("bert-mlm", {-1: [0], 2: [2], -3: [1]}, {0: [1], 2: [0, 2]}),
        ("t5-tied", {-1: [0]}, {5: [0]}),
        ("llama-gqa", {-1: [0, 1]}, {2: [0, 1]}),
    ],
)
def test_layers_are_counted_from_the_end_too(
    backend: Backend, name: str, counted: dict[int, list[int]], plain: dict[int, list[int]]
) -> None:
    golden = Golden(name)
    models = [backend.load(golden.stem, golden.folder) for _ in range(2)]
    for model, heads in zip(models, (counted, plain), strict=True):
        model.prune_heads(heads)
    assert models[0].config.pruned_heads == models[1].config.pruned_heads == plain
    first, second = map(backend.weights, models)
    assert all(np.array_equal(first[weight], second[weight]) for weight in second)


@recorded_masks
def test_pruning_in_steps_is_pruning_at_once(backend: Backend, golden: Golden) -> None:
    once, steps = (backend.load(golden.stem, golden.folder) for _ in range(2))
    once.prune_heads({0: [0, 1, 3], 1: [2]})
    steps.prune_heads({0: [1]})
    steps.prune_heads({0: [0, 1], 1: [2]})
    steps.prune_heads({0: [3]})
    assert once.config.pruned_heads == steps.config.pruned_heads == {0: [0, 1, 3], 1: [2]}
    weights = backend.weights(once)
    assert all(np.array_equal(array, weights[name]) for name, array in backend.weights(steps).items())
    outputs = [backend.run(model, golden.inputs)["logits"] for model in (once, steps)]
    assert np.array_equal(*outputs)
    mask = np.ones((once.config.num_hidden_layers, 4), np.float32)
    mask[0, [0, 1, 3]] = mask[1, 2] = 0
    whole = backend.load(golden.stem, golden.folder)
    masked = backend.run(whole, {**golden.inputs, "head_mask": mask})["logits"]
    assert_close(outputs[0], masked, golden.mask)
    assert_close(backend.run(once, {**golden.inputs, "head_mask": mask})["logits"], masked, golden.mask)


@bert_only
def test_head_masks_by_layer(backend: Backend, golden: Golden) -> None:
    model = backend.load(golden.stem, golden.folder)
    layers = model.config.num_hidden_layers
    assert model.get_head_mask(None, layers) == [None] * layers
    mask = np.array([1, 0, 1, 1], np.float32)
    if backend.name == "pt":
        import torch

        mask = torch.tensor(mask)
    found = model.get_head_mask(mask, layers)
    assert len(found) == layers
    assert [tuple(m.shape) for m in found] == [(1, 4, 1, 1)] * layers
    assert tuple(model.get_head_mask(mask, layers, is_attention_chunked=True)[0].shape) == (1, 4, 1, 1, 1)
    assert len(model.get_head_mask(mask, layers + 1)) == layers + 1


def new_embeddings(backend: Backend, table: np.ndarray) -> object:
    if backend.name == "pt":
        import torch

        return torch.nn.Embedding.from_pretrained(torch.tensor(table), freeze=False)
    if backend.name == "tf":
        import keras

        layer = keras.layers.Embedding(*table.shape, name="word_embeddings")
        layer.build()
        layer.set_weights([table])
        return layer
    return table


def test_embeddings_can_be_replaced(backend: Backend) -> None:
    golden = Golden("bert-mlm")
    model = backend.load(golden.stem, golden.folder)
    name = "bert.embeddings.word_embeddings.weight"
    table = backend.weights(model)[name] * 2
    model.set_input_embeddings(new_embeddings(backend, table))
    model.tie_weights()
    assert np.array_equal(backend.weights(model)[name], table)
    assert model.get_output_embeddings() is not None
    logits = backend.run(model, golden.inputs)["logits"]
    expected = BACKENDS[0].load(golden.stem, None, config=model.config, state_dict=backend.weights(model))
    assert_close(logits, BACKENDS[0].run(expected, golden.inputs)["logits"], golden.mask)
    model.resize_token_embeddings(64)
    assert np.array_equal(backend.weights(model)[name], table[:64])
