"""A save records its hashes, and a load compares them, alike in the three frameworks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from golden_models import Golden
from triptych import ArgumentError, IntegrityError, LoraConfig, MissingFileError, QuantizationConfig
from triptych.checkpoints.verifying import Wanted
from triptych.tools.verifying import verify_folder
from triptych_conformance import BACKENDS, Backend

BERT, GPT2 = "BertForMaskedLM", "GPT2LMHeadModel"


def folder_of(stem: str) -> Path:
    return Golden({BERT: "bert-mlm", GPT2: "gpt2-lm"}[stem]).folder


def damage(file: Path) -> None:
    """Change the last byte, which is of a value."""
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(("stem", "format", "size"), [(GPT2, None, "5GB"), (BERT, "safetensors", "30KB")])
def test_what_one_saves_each_verifies(
    backend: Backend, stem: str, format: str | None, size: str, tmp_path: Path
) -> None:
    model = backend.load(stem, folder_of(stem))
    how = {"format": format} if format else {"safe_serialization": False}
    model.save_pretrained(tmp_path, manifest=True, max_shard_size=size, **how)
    found, differences = verify_folder(tmp_path, Wanted())
    assert not differences and {"config.json", "generation_config.json"} < set(found.entry.files)
    weights = backend.weights(model)
    for loader in BACKENDS:
        for name, asked in ((stem, {"verify": True}), ("AutoModelForMaskedLM", {"digest": found.entry.digest})):
            if name == stem or stem == BERT:
                loaded = loader.weights(loader.load(name, tmp_path, **asked))
                assert all(np.array_equal(loaded[name], weights[name]) for name in weights)


def test_a_load_that_verifies_refuses_what_differs(backend: Backend, tmp_path: Path) -> None:
    model = backend.load(GPT2, folder_of(GPT2))
    model.save_pretrained(tmp_path)
    with pytest.raises(MissingFileError, match=r"no triptych_manifest.json, which verify=True needs"):
        backend.load(GPT2, tmp_path, verify=True)
    model.save_pretrained(tmp_path, manifest=True)
    for name in ("generation_config.json", "config.json"):
        text = (tmp_path / name).read_text()
        (tmp_path / name).write_text(json.dumps(json.loads(text) | {"eos_token_id": 1}))
        for stem in (GPT2, "AutoModelForCausalLM"):
            with pytest.raises(IntegrityError, match=name):
                backend.load(stem, tmp_path, verify=True)
        (tmp_path / name).write_text(text)
    digest = "sha256:" + "0" * 64
    with pytest.raises(IntegrityError, match=rf"Expected: {digest}. Received: sha256:"):
        backend.load("AutoModelForCausalLM", tmp_path, digest=digest)
    damage(tmp_path / "model.safetensors")
    for stem in (GPT2, "AutoModelForCausalLM"):
        with pytest.raises(IntegrityError, match=r"Tensor '.*' of .*model.safetensors is not the one"):
            backend.load(stem, tmp_path, verify=True)
    backend.load(GPT2, tmp_path)  # as it always did


def test_what_has_no_manifest_is_refused_by_name(backend: Backend, tmp_path: Path) -> None:
    model = backend.load(BERT, folder_of(BERT))
    state = {ref.name: ref.read() for ref in model._tensor_refs()}
    with pytest.raises(ArgumentError, match="state_dict= has no manifest"):
        backend.cls(BERT).from_pretrained(None, config=model.config, state_dict=state, verify=True)
    model.save_pretrained(tmp_path / "model", manifest=True)
    model = backend.load(BERT, tmp_path / "model")
    model.add_adapter(LoraConfig(r=2, target_modules=["query"]))
    with pytest.raises(ArgumentError, match=r"adapters.*manifest"):
        model.save_pretrained(tmp_path / "adapter", manifest=True)
    model.save_pretrained(tmp_path / "adapter")
    for stem in (BERT, "AutoModelForMaskedLM"):
        with pytest.raises(ArgumentError, match="holds an adapter, of which there is no manifest"):
            backend.load(stem, tmp_path / "adapter", verify=True)
        with pytest.raises(ArgumentError, match="verify is neither"):
            backend.load(stem, tmp_path / "model", verify="yes")


def test_packed_weights_are_verified_as_they_are_packed(backend: Backend, tmp_path: Path) -> None:
    model = backend.load(BERT, folder_of(BERT), quantization_config=QuantizationConfig("int8"))
    model.save_pretrained(tmp_path, manifest=True)
    weights = backend.weights(backend.load(BERT, tmp_path, verify=True))
    assert all(np.array_equal(array, weights[name]) for name, array in backend.weights(model).items())
    damage(tmp_path / "model.safetensors")
    with pytest.raises(IntegrityError, match="Tensor"):
        backend.load(BERT, tmp_path, verify=True)


def test_own_functions_that_write_are_recorded_too(tmp_path: Path) -> None:
    import torch

    model = BACKENDS[0].load(BERT, folder_of(BERT))
    model.save_pretrained(tmp_path, manifest=True, safe_serialization=False, save_function=torch.save)
    BACKENDS[0].load(BERT, tmp_path, verify=True)
    assert not verify_folder(tmp_path, Wanted())[1]
