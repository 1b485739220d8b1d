"""Gradients of each family are the same in every framework, parameter by parameter, layers computed anew or not.

All heads of all families, and all their variants: `tests/accept_train_gradients.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from small_models import config_of, labelled_inputs, labels_of, random_folder
from triptych import EncoderDecoderConfig
from triptych_conformance import BACKENDS, Backend, gradient_parity, gradients_of, without_dropout

FAMILIES = {"bert": "BertForPreTraining", "distilbert": "DistilBertForMaskedLM", "electra": "ElectraForPreTraining",
            "encoder-decoder": "EncoderDecoderModel", "gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM",
            "mistral": "MistralForCausalLM", "opt": "OPTForCausalLM", "qwen2": "Qwen2ForCausalLM",
            "qwen3": "Qwen3ForCausalLM", "roberta": "RobertaForMaskedLM",
            "t5": "T5ForConditionalGeneration"}  # fmt: skip
HEADS = ["BertModel", "BertForNextSentencePrediction", "BertForSequenceClassification", "BertForMultipleChoice",
         "BertForTokenClassification", "BertForQuestionAnswering", "GPT2DoubleHeadsModel",
         "GPT2ForSequenceClassification", "T5ForSequenceClassification"]  # fmt: skip


def _config(kind: str, stem: str) -> Any:
    if kind == "encoder-decoder":
        pair = (config_of("bert"), config_of("gpt2"))
        return EncoderDecoderConfig.from_encoder_decoder_configs(*pair, decoder_start_token_id=1, pad_token_id=0)
    return config_of(kind, stem)


def _inputs(stem: str, config: Any) -> dict[str, np.ndarray]:
    if stem != "EncoderDecoderModel":
        return labelled_inputs(stem, config)
    inputs = labelled_inputs("BertModel", config.encoder)
    return inputs | labels_of("GPT2LMHeadModel", config.decoder, inputs)


def _of_backends(folder: Path, kind: str, stem: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return a model of each backend by its name, of one random checkpoint; and inputs."""
    config = without_dropout(_config(kind, stem))
    random_folder(folder, config, stem)
    return {backend.name: backend.load(stem, folder) for backend in BACKENDS}, _inputs(stem, config)


@pytest.mark.parametrize("kind", FAMILIES)
def test_families_with_layers_computed_anew(kind: str, tmp_path: Path) -> None:
    models, inputs = _of_backends(tmp_path, kind, FAMILIES[kind])
    plain = gradients_of(Backend("pt"), models["pt"], inputs)
    anew = {name: gradients_of(Backend(name), model, inputs, checkpointing=True) for name, model in models.items()}
    # An encoder's pooler is none of what its decoder sees.
    assert all(gradient.any() for name, gradient in plain.items() if "encoder.pooler" not in name)
    gradient_parity({"plain": plain, **anew}).assert_within()


@pytest.mark.parametrize("stem", HEADS)
def test_heads(stem: str, tmp_path: Path) -> None:
    models, inputs = _of_backends(tmp_path, next(k for k in FAMILIES if stem.lower().startswith(k)), stem)
    found = {name: gradients_of(Backend(name), model, inputs) for name, model in models.items()}
    assert any(gradient.any() for gradient in found["pt"].values())
    gradient_parity(found).assert_within()


def test_a_seen_padding_trains_no_vector(tmp_path: Path) -> None:
    """Neither the word's nor, in RoBERTa, the position's: as the tables of PyTorch have it."""
    models, inputs = _of_backends(tmp_path, "roberta", "RobertaModel")
    for name, model in models.items():
        found = gradients_of(Backend(name), model, inputs)
        for table in ("word_embeddings", "position_embeddings"):
            assert not found[f"embeddings.{table}.weight"][model.config.pad_token_id].any(), (name, table)


def test_a_model_is_as_it_was_afterwards() -> None:
    model = Backend("pt").cls("BertForMaskedLM")(config_of("bert")).eval()
    inputs = labelled_inputs("BertForMaskedLM", model.config)
    gradients_of(Backend("pt"), model, inputs, checkpointing=True)
    assert not model.training and not model.is_gradient_checkpointing
    assert all(parameter.grad is None for parameter in model.parameters())


def test_other_gradients_are_seen() -> None:
    ours = {"a": np.ones(3), "b": np.full(2, 1e-7)}
    changed = gradient_parity({"one": ours, "other": {**ours, "a": np.array([1, 1, 1.0001])}})
    lacking = gradient_parity({"one": ours, "other": {"a": ours["a"]}})
    for parity, wrong in ((changed, "a one-other"), (lacking, "b one-other")):
        with pytest.raises(AssertionError, match=f"^{wrong}[^\n]*$"):
            parity.assert_within()
    gradient_parity({"one": ours, "other": {**ours, "b": np.zeros(2)}}).assert_within()
