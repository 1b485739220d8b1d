"""Every layer and output is the same in all frameworks, and as transformers 4.48.3 recorded it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from golden_models import GOLDEN, Golden
from triptych import ArgumentError, BertConfig
from triptych.names import BACKENDS as BACKEND_PACKAGES
from triptych.nn import functional
from triptych_conformance import BACKENDS, Backend, assert_close, assert_close_in_low_precision, compare_folder

RECORDED = [
    (Golden(name), path.name)
    for name in Golden.stems
    for path in sorted((GOLDEN / name).iterdir())
    if path.is_dir() and path.name not in ("pt-safetensors-bf16", "pruned")  # which have tests of their own
]


@pytest.mark.parametrize(("golden", "folder"), RECORDED, ids=[f"{golden.name}-{name}" for golden, name in RECORDED])
def test_outputs_of_every_folder_are_as_recorded(backend: Backend, golden: Golden, folder: str) -> None:
    model = backend.load(golden.stem, golden.path / folder, strict=True)
    outputs = backend.run(model, golden.inputs, output_hidden_states=True)
    recorded = {name.removeprefix("out."): value for name, value in golden.expected.items() if name.startswith("out.")}
    assert set(outputs) == set(recorded)
    for name, value in recorded.items():
        assert_close(outputs[name], value, golden.mask, name)


@pytest.mark.parametrize("golden", [Golden(n) for n in Golden.with_head_mask], ids=Golden.with_head_mask)
def test_masked_heads_are_as_recorded(backend: Backend, golden: Golden) -> None:
    model = backend.load(golden.stem, golden.folder)
    outputs = backend.run(model, {**golden.inputs, "head_mask": golden.expected["head_mask"]})
    assert_close(outputs["logits"], golden.expected["head_mask.logits"], golden.mask)


def test_counts_are_as_recorded(backend: Backend, golden: Golden) -> None:
    model = backend.load(golden.stem, golden.folder)
    assert model.num_parameters() == golden.expected["num_parameters"]
    assert model.num_parameters(only_trainable=True) == golden.expected["num_parameters"]
    assert model.num_parameters(exclude_embeddings=True) == golden.expected["num_parameters.no_embeddings"]


def test_frameworks_agree_on_every_output(golden: Golden) -> None:
    parity = compare_folder(golden.folder, golden.stem, golden.inputs, output_attentions=True)
    prefix = "decoder_" if "decoder_input_ids" in golden.inputs else ""
    names = {name for name, _ in parity.comparisons}
    assert names >= {f"{prefix}attentions.0", f"{prefix}hidden_states.0", "logits"}
    parity.assert_within()


def test_bfloat16_is_about_as_close_as_torch_is(backend: Backend, golden: Golden) -> None:
    """The yardstick is torch's own bfloat16 run, measured against the float32 result of the same file."""
    folder = golden.path / "pt-safetensors-bf16"
    reference = BACKENDS[0]
    exact = reference.run(reference.load(golden.stem, folder), golden.inputs)["logits"]
    theirs = reference.run(reference.load(golden.stem, folder, param_dtype="auto"), golden.inputs)["logits"]
    ours = backend.run(backend.load(golden.stem, folder, param_dtype="auto", dtype="bfloat16"), golden.inputs)["logits"]
    assert not np.array_equal(ours, exact)
    assert_close_in_low_precision(ours, exact, theirs, golden.mask)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
def test_softmax_and_cross_entropies_of_half_types_are_computed_in_float32(backend: Backend, dtype: Any) -> None:
    package = BACKEND_PACKAGES[backend.name][0]
    ops, arrays = (import_module(f"{package}.{module}") for module in ("ops", "arrays"))
    rng = np.random.default_rng(0)
    scores, labels = 4 * rng.standard_normal((6, 9)), rng.integers(0, 9, 6).astype(np.int32)
    flags = rng.integers(0, 2, (6, 9)).astype(np.int32)
    half, wide = (arrays.to_native(scores.astype(dtype).astype(t)) for t in (dtype, np.float32))
    labels, flags = arrays.to_native(labels), arrays.to_native(flags)
    exact = arrays.to_numpy(functional.softmax(ops, wide))
    assert exact.dtype == np.float32
    found = arrays.to_numpy(functional.softmax(ops, half))
    assert found.dtype == dtype
    assert np.array_equal(found, exact.astype(dtype))
    for loss in (
        lambda logits: functional.token_loss(ops, logits, labels),
        lambda logits: functional.replaced_token_loss(ops, logits, flags, None),
        lambda logits: functional.classification_loss(ops, BertConfig(num_labels=9), logits, labels),
        lambda logits: functional.classification_loss(ops, MULTI_LABEL, logits, flags),
    ):
        one, other = (arrays.to_numpy(loss(logits)) for logits in (half, wide))
        assert one.dtype == np.float32
        assert one.tobytes() == other.tobytes()


def test_auto_dtype_follows_the_file_bit_for_bit(backend: Backend, golden: Golden, tmp_path: Path) -> None:
    folder = golden.path / "pt-safetensors-bf16"
    model = backend.load(golden.stem, folder, param_dtype="auto")
    weights = backend.weights(model)
    assert {array.dtype.name for array in weights.values()} == {"bfloat16"}
    model.save_pretrained(tmp_path)
    again = backend.weights(backend.load(golden.stem, tmp_path, param_dtype="auto"))
    assert all(weights[name].tobytes() == again[name].tobytes() for name in weights)


MULTI_LABEL = BertConfig(num_labels=9, problem_type="multi_label_classification")
SMALL = dict(vocab_size=31, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=10,
             max_position_embeddings=9)  # fmt: skip
LOSSES = {
    "BertForMaskedLM": ({}, {"labels": np.array([[3, -100, 5, 7], [1, 2, -100, 4]])}),
    "BertForTokenClassification": ({"num_labels": 3}, {"labels": np.array([[0, 1, 2, -100], [1, 1, 0, 2]])}),
    "BertForQuestionAnswering": ({}, {"start_positions": np.array([1, 9]), "end_positions": np.array([2, 3])}),
    "BertForSequenceClassification": ({"num_labels": 3}, {"labels": np.array([2, 0])}),
    "regression": ({"num_labels": 1}, {"labels": np.array([0.5, -1.0], np.float32)}),
    "multi label": ({"num_labels": 3}, {"labels": np.array([[0, 1, 1], [1, 0, 0]], np.float32)}),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_agree_with_transformers_5(name: str, tmp_path: Path) -> None:
    import torch
    import transformers

    torch.manual_seed(0)
    options, labels = LOSSES[name]
    stem = name if name.startswith("Bert") else "BertForSequenceClassification"
    model = BACKENDS[0].cls(stem)(BertConfig(**SMALL, **options, initializer_range=0.3))
    model.save_pretrained(tmp_path)
    inputs = {"input_ids": np.array([[1, 2, 3, 4], [5, 6, 7, 8]]), **labels}
    theirs = BACKENDS[0].run(getattr(transformers, stem).from_pretrained(tmp_path).eval(), inputs)
    for backend in BACKENDS:
        ours = backend.run(backend.load(stem, tmp_path), inputs)
        assert set(ours) == set(theirs)
        for output, value in theirs.items():
            assert_close(ours[output], value, what=f"{backend.name} {output}")


IDS = np.ones((2, 4), np.int64)
UNFIT = {
    "ids of one axis": ("BertForMaskedLM", {}, {"input_ids": IDS[0]}, "input_ids: wrong shape"),
    "one text each": ("BertForMultipleChoice", {}, {"input_ids": IDS}, "Among which texts"),
    "a short mask": ("BertForMaskedLM", {}, {"input_ids": IDS, "attention_mask": IDS[:, :3]}, "mask"),
    "too few labels": ("BertForMaskedLM", {}, {"input_ids": IDS, "labels": IDS[:, :3]}, "labels"),
    "too many labels": ("BertForSequenceClassification", {}, {"input_ids": IDS, "labels": IDS[0]}, "labels"),
    "labels of one text": (
        "BertForSequenceClassification", {"problem_type": "multi_label_classification"},
        {"input_ids": IDS, "labels": np.ones(2, np.float32)}, "labels",
    ),
    "states of another width": (
        "BertLMHeadModel", {"is_decoder": True, "add_cross_attention": True},
        {"input_ids": IDS, "encoder_hidden_states": np.zeros((2, 3, 5), np.float32)}, "encoder_hidden_states",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNFIT)
def test_arrays_that_do_not_fit_are_refused(backend: Backend, case: str) -> None:
    stem, fields, inputs, named = UNFIT[case]
    model = backend.cls(stem)(BertConfig(**SMALL, **fields))
    with pytest.raises(ArgumentError, match=named):
        backend.run(model, inputs)


@pytest.mark.parametrize("golden", [Golden(n) for n in Golden.of_bert], ids=Golden.of_bert)
def test_tuples_and_flags(backend: Backend, golden: Golden) -> None:
    model = backend.load(golden.stem, golden.folder)
    call = {"tf": {"training": False}}.get(backend.name, {})
    inputs = golden.inputs
    if backend.name == "pt":
        import torch

        inputs = {name: torch.tensor(value) for name, value in inputs.items()}
    result = model(**inputs, return_dict=False, output_attentions=True, **call)
    assert isinstance(result, tuple)
    assert len(result) == 2
    assert len(result[1]) == model.config.num_hidden_layers
    with pytest.raises(ArgumentError, match="either input_ids or inputs_embeds"):
        model(**call)
    with pytest.raises(ArgumentError, match="head_mask"):
        backend.run(model, {**golden.inputs, "head_mask": np.ones((7, 7), np.float32)})


@pytest.mark.parametrize("golden", [Golden(n) for n in Golden.of_bert], ids=Golden.of_bert)
def test_positions_and_embeddings_can_be_given(golden: Golden) -> None:
    results = []
    for backend in BACKENDS:
        model = backend.load("BertModel", golden.folder, strict=False, output_hidden_states=True)
        table = backend.weights(model)["embeddings.word_embeddings.weight"]
        ids = golden.inputs["input_ids"]
        inputs = {
            **golden.inputs,
            "inputs_embeds": table[ids],
            "position_ids": np.arange(ids.shape[1])[None, ::-1].copy(),
        }
        del inputs["input_ids"]
        results.append(backend.run(model, inputs)["last_hidden_state"])
    for backend, result in zip(BACKENDS[1:], results[1:], strict=True):
        assert_close(result, results[0], golden.mask, backend.name)
    assert results[0].std() > 0.1
