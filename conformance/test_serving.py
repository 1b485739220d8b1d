"""One checkpoint, served by three frameworks: what each exports runs where triptych is not, and gives equal outputs."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import run_served
from small_models import config_of, random_folder
from triptych import ArgumentError, FlaxBertModel, GPT2LMHeadModel, SaveError, TFBertModel
from triptych_conformance import BACKENDS, Backend, assert_close

STEMS = {
    "bert": ("BertForSequenceClassification", {"num_hidden_layers": 1, "attn_implementation": "sdpa"}),
    "llama": ("LlamaForCausalLM", {"num_hidden_layers": 1}),
}
LENGTHS = ((3, 6), (1, 1))
"""Batches and lengths with which the files are run; they are made with neither."""
BACKEND = pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)


def texts(kind: str, batch: int, length: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(batch)
    mask = np.ones((batch, length), np.int64)
    mask[0, length - length // 3 :] = 0
    inputs = {"input_ids": random.integers(3, 30, (batch, length)), "attention_mask": mask}
    return inputs | ({"token_type_ids": np.zeros_like(mask)} if kind == "bert" else {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of checkpoints and of inputs, to which what each framework exports comes."""
    folder = tmp_path_factory.mktemp("served")
    for kind, (stem, options) in STEMS.items():
        random_folder(folder / kind, config_of(kind, stem, **options), stem)
        for number, (batch, length) in enumerate(LENGTHS):
            np.savez(folder / f"{kind}.{number}.inputs.npz", **texts(kind, batch, length))  # type: ignore[arg-type]
    return folder


def arrays(file: Path) -> dict[str, np.ndarray]:
    with np.load(file) as opened:
        return dict(opened)


def expected(folder: Path, kind: str) -> list[dict[str, np.ndarray]]:
    backend = Backend("pt")
    model = backend.load(STEMS[kind][0], folder / kind)
    return [backend.run(model, arrays(folder / f"{kind}.{i}.inputs.npz")) for i in range(len(LENGTHS))]


@BACKEND
def test_what_is_exported_runs_without_triptych(backend: Backend, folder: Path) -> None:
    for kind, (stem, _) in STEMS.items():
        model = backend.load(stem, folder / kind)
        if (backend.name, kind) == ("tf", "bert"):
            model.save_pretrained(folder / "saved", saved_model=True)
            (folder / "saved/saved_model/1").rename(folder / "bert.tf")
        else:
            model.export(run_served.file_of(folder, kind, backend.name))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-W", "ignore", run_served.__file__, backend.name, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    for kind in STEMS:
        for number, reference in enumerate(expected(folder, kind)):
            found = arrays(folder / f"{kind}.{number}.{backend.name}.npz")
            assert sorted(found) == sorted(reference)
            for name in found:
                assert_close(found[name], reference[name], what=f"{kind} {name}")


def small(backend: Backend, stem: str) -> Any:
    options = {"_do_init": False} if backend.name == "flax" else {}
    return backend.cls(stem)(config_of("bert", num_hidden_layers=1), **options)


@BACKEND
def test_inputs_are_named_with_their_shapes(backend: Backend) -> None:
    found = small(backend, "BertForMultipleChoice").served_inputs()
    assert {one.axes for one in found.values()} == {("batch", "choices", "length")} and len(found) == 3
    model = small(backend, "BertModel")
    found = model.served_inputs({"input_ids": ("batch", 8), "inputs_embeds": (1, "length", 12)})
    assert [(one.axes, one.is_integer) for one in found.values()] == [(("batch", 8), True), ((1, "length", 12), False)]
    assert model.served_inputs("attention_mask")["attention_mask"].axes == ("batch", "length")
    for inputs, said in (
        (["nonsense"], "is not called with these inputs"),
        (["inputs_embeds"], "of which shape"),
        ({"input_ids": ("batch", 0)}, "the shape of input_ids is none"),
        ({"input_ids": 3}, "the shape of input_ids is none"),
        ((), "which"),
        (7, "which"),
    ):
        with pytest.raises(ArgumentError, match=said):
            model.served_inputs(inputs)


@BACKEND
def test_what_an_export_does_not_know_is_refused(backend: Backend, tmp_path: Path) -> None:
    model = small(backend, "BertModel")
    wrong: list[tuple[dict[str, Any], str]] = [({"inputs": ["nonsense"]}, "is not called with")]
    wrong.append(({"nonsense": 1}, "no further arguments" if backend.name == "tf" else "does not know"))
    if backend.name != "tf":  # which makes folders
        with pytest.raises(ArgumentError, match="a folder that exists"):
            model.export(tmp_path / "nowhere/file.pt2")
    if backend.name == "pt":
        with pytest.raises(ArgumentError, match=r"\.pt2"):
            model.export(tmp_path / "file")
    if backend.name == "flax":
        wrong += [({"platforms": value}, "platforms are none") for value in ("cpu", ("mars",))]
        wrong += [({"params": 3}, "no tree of parameters"), ({"bake_params": "no"}, "no flag")]
    for options, said in wrong:
        with pytest.raises(ArgumentError, match=said):
            model.export(tmp_path / "file.pt2", **options)
    with pytest.raises(ArgumentError, match="path"):
        model.export(None)
    assert not list(tmp_path.iterdir())


def test_parameters_may_be_left_out_of_the_file_for_jax(folder: Path, tmp_path: Path) -> None:
    from jax import export

    model = FlaxBertModel.from_pretrained(folder / "bert")
    inputs = {"input_ids": np.array([[3, 4, 5]], np.int32)}
    options = {"inputs": {"input_ids": (1, "length")}, "platforms": ("cpu", "cuda")}
    model.export(tmp_path / "without", bake_params=False, **options)
    loaded = export.deserialize(bytearray((tmp_path / "without").read_bytes()))
    assert loaded.platforms == ("cpu", "cuda")
    found = loaded.call(model.params, inputs)
    assert_close(found["last_hidden_state"], model(**inputs).last_hidden_state)


def test_torch_jit_traces_a_decoder_with_its_cache() -> None:
    import torch

    config = config_of("gpt2", torchscript=True, num_hidden_layers=1, n_layer=1)
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", torch.jit.TracerWarning)  # of what depends on there being several tokens
            traced = torch.jit.trace(model, torch.ones(2, 5, dtype=torch.int64))
        ids = torch.arange(12).reshape(4, 3)
        logits, cache = traced(ids)
        reference, of_model = model(ids)
        assert type(of_model) is tuple and torch.equal(cache[0][0], of_model[0][0]) and torch.equal(logits, reference)
        longer = model(ids[:, :1], past_key_values=cache)[0]
        assert_close(longer, model(torch.cat([ids, ids[:, :1]], 1))[0][:, -1:])


def test_a_saved_model_that_fails_changes_nothing(tmp_path: Path) -> None:
    model = TFBertModel(config_of("bert", num_hidden_layers=1))
    for signatures in ({"own": 3}, lambda input_ids: input_ids):
        with pytest.raises(ArgumentError, match="signatures"):
            model.save_pretrained(tmp_path / "new", saved_model=True, signatures=signatures)
    assert not list(tmp_path.iterdir())
    (tmp_path / "old/saved_model").mkdir(parents=True)
    (tmp_path / "old/saved_model/2").write_text("something")
    with pytest.raises(SaveError, match="Something else"):
        model.save_pretrained(tmp_path / "old", saved_model=True, version=2)
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["saved_model"]
