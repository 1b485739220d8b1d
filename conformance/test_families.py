"""Each layer of every built-in class reads and gives what transformers 5 has it; what is odd about single families."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from small_models import (
    CLASSES,
    config_of,
    inputs_of,
    labels_of,
    mask_of,
    random_folder,
    random_inputs,
)
from triptych import ArgumentError, CheckpointError, ConfigError
from triptych.errors import MissingFileError
from triptych_conformance import BACKENDS, Backend, assert_close, compare
from triptych_conformance.suite.arrays import assert_close_outputs
from witness import assert_none, calls_of, calls_that_differ


@pytest.mark.parametrize(("variant", "stem"), CLASSES)
def test_parts_as_in_transformers_5(variant: str, stem: str, tmp_path: Path) -> None:
    """In PyTorch, whose layers have the same names: what each reads and gives. Outputs: `test_family_classes.py`."""
    import transformers

    config, backend = config_of(variant, stem), Backend("pt")
    folder, inputs = random_folder(tmp_path, config, stem), inputs_of(stem, config)
    reference = getattr(transformers, stem).from_pretrained(folder, attn_implementation="eager").eval()
    _, expected = calls_of(reference, lambda: backend.run(reference, inputs))
    model = backend.load(stem, folder, strict=True)
    _, calls = calls_of(model, lambda: backend.run(model, inputs))
    assert len(calls) > 5
    assert_none(calls_that_differ(calls, expected, lambda *pair: compare(*pair, mask_of(inputs)).fraction <= 1))


MASKS_OF_OPT = {"left": [0, 0, 1, 1, 1, 1, 1], "hole": [1, 1, 0, 0, 1, 1, 1], "right": [1, 1, 1, 1, 1, 0, 0]}


@pytest.mark.parametrize("dtype", [np.int64, np.float32, bool])
@pytest.mark.parametrize("padding", MASKS_OF_OPT)
def test_opt_counts_positions_over_the_mask(padding: str, dtype: type, tmp_path: Path) -> None:
    import transformers

    config = config_of("opt")
    folder = random_folder(tmp_path, config, "OPTForCausalLM")
    mask = np.array([[1] * 7, MASKS_OF_OPT[padding]])
    words = np.random.default_rng(3).standard_normal((2, 7, config.word_embed_proj_dim)).astype(np.float32)
    positions = np.array([[5, 0, 13, 2, 1, 9, 4]] * 2)
    reference = transformers.OPTForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    for inputs in ({"inputs_embeds": words}, {"inputs_embeds": words, "position_ids": positions}):
        theirs = BACKENDS[0].run(reference, {**inputs, "attention_mask": mask})
        for backend in BACKENDS:
            ours = backend.run(backend.load("OPTForCausalLM", folder), {**inputs, "attention_mask": mask.astype(dtype)})
            assert ours.keys() == theirs.keys(), backend.name
            assert_close_outputs(ours, theirs, mask, f", {backend.name}")


def test_a_mask_for_each_query_counts_no_positions(backend: Backend, tmp_path: Path) -> None:
    config = config_of("opt")
    model = backend.load("OPTModel", random_folder(tmp_path, config, "OPTModel"))
    inputs = {"input_ids": random_inputs(config)["input_ids"], "attention_mask": np.ones((2, 11, 11), np.int64)}
    with pytest.raises(ArgumentError, match="(?s)Positions.*position_ids"):
        backend.run(model, inputs)
    whole = backend.run(model, {"input_ids": inputs["input_ids"]})
    found = backend.run(model, {**inputs, "position_ids": np.arange(11)[None]})
    assert_close_outputs(found, whole, np.ones((2, 11)), f", {backend.name}")


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_labels_are_integers_of_any_width(backend: Backend, dtype: str) -> None:
    config = config_of("bert", "BertForTokenClassification")
    model, inputs = backend.cls("BertForTokenClassification")(config), inputs_of("BertForTokenClassification", config)
    labels = labels_of("BertForTokenClassification", config, inputs)["labels"]
    model = model.eval() if backend.name == "pt" else model
    expected = backend.run(model, {**inputs, "labels": labels})["loss"]
    assert_close(backend.run(model, {**inputs, "labels": labels.astype(dtype)})["loss"], expected)


@pytest.mark.parametrize("heads", [{0: [0]}, {1: [0, 1, 2]}, {0: [0, 2]}])
def test_groups_of_different_sizes_are_refused(backend: Backend, heads: dict[int, list[int]], tmp_path: Path) -> None:
    folder = random_folder(tmp_path, config_of("llama"), "LlamaForCausalLM")
    model = backend.load("LlamaForCausalLM", folder)
    with pytest.raises(ArgumentError, match="groups of different sizes"):
        model.prune_heads(heads)
    assert model.config.pruned_heads == {}
    with pytest.raises(ConfigError, match="groups of different sizes"):
        backend.cls("LlamaModel")(config_of("llama", pruned_heads=heads))


def test_a_family_of_another_class_is_refused(
    backend: Backend, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = random_folder(tmp_path, config_of("gpt2"), "GPT2LMHeadModel")
    with pytest.raises(CheckpointError, match="lacks weights of the model"):
        backend.load("LlamaForCausalLM", folder)
    assert "made of a config of model_type 'gpt2'" in caplog.text
    with pytest.raises(ConfigError, match="AutoModelForMaskedLM"):
        backend.load("AutoModelForMaskedLM", folder)
    with pytest.raises(MissingFileError):
        backend.load("AutoModelForCausalLM", tmp_path / "nowhere")
    assert type(backend.load("AutoModelForCausalLM", folder)) is backend.cls("GPT2LMHeadModel")
