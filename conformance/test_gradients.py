"""Gradients of two models in one, and of a padding that is seen; and what compares gradients.

Those of every class are tested by `test_family_classes.py`, and of all variants by `tests/accept_train_gradients.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from small_models import config_of, labelled_inputs, labels_of, random_folder
from triptych import EncoderDecoderConfig
from triptych_conformance import BACKENDS, Backend, gradient_parity, gradients_of, without_dropout


def test_two_models_in_one(tmp_path: Path) -> None:
    pair = (config_of("bert"), config_of("gpt2"))
    config = EncoderDecoderConfig.from_encoder_decoder_configs(*pair, decoder_start_token_id=1, pad_token_id=0)
    inputs = labelled_inputs("BertModel", config.encoder)
    inputs |= labels_of("GPT2LMHeadModel", config.decoder, inputs)
    models = _of_backends(tmp_path, config, "EncoderDecoderModel")
    plain = gradients_of(Backend("pt"), models["pt"], inputs)
    anew = {name: gradients_of(Backend(name), model, inputs, checkpointing=True) for name, model in models.items()}
    # An encoder's pooler is none of what its decoder sees.
    assert all(gradient.any() for name, gradient in plain.items() if "encoder.pooler" not in name)
    gradient_parity({"plain": plain, **anew}).assert_within()


def _of_backends(folder: Path, config: Any, stem: str) -> dict[str, Any]:
    """Return a model of each backend by its name, of one random checkpoint."""
    random_folder(folder, without_dropout(config), stem)
    return {backend.name: backend.load(stem, folder) for backend in BACKENDS}


def test_a_seen_padding_trains_no_vector(tmp_path: Path) -> None:
    """Neither the word's nor, in RoBERTa, the position's: as the tables of PyTorch have it."""
    config = config_of("roberta")
    inputs = labelled_inputs("RobertaModel", config)
    for name, model in _of_backends(tmp_path, config, "RobertaModel").items():
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
