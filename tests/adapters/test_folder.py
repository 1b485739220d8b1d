"""The folder of an adapter, and the tensors in it: what fits a model, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from triptych import (  # fmt: skip
    ArgumentError,
    BertConfig,
    CheckpointError,
    MissingFileError,
    SaveError,
    ShapeMismatchError,
    TensorRef,
    UnsupportedFormatError,
    open_checkpoint,
    save_checkpoint,
)
from triptych.adapters.config import LoraConfig
from triptych.adapters.folder import open_adapter, write_adapter
from triptych.adapters.state import fitted, loaded_targets, parsed
from triptych.adapters.targets import targets
from triptych.cli import app
from triptych.families import declared_schema

CONFIG = BertConfig(vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=2, intermediate_size=6,
                    max_position_embeddings=8)  # fmt: skip
SCHEMA = declared_schema(CONFIG, "BertForMaskedLM")
QUERY, LORA = "bert.encoder.layer.0.attention.self.query", LoraConfig(r=2, lora_alpha=4, target_modules=("query",))
assert SCHEMA is not None


def tensors(**changes: Any) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    found = {f"base_model.model.{QUERY}.lora_A.weight": rng.standard_normal((2, 4), np.float32),
             f"base_model.model.{QUERY}.lora_B.weight": rng.standard_normal((4, 2), np.float32)}  # fmt: skip
    return {name: one for name, one in {**found, **changes}.items() if one is not None}


def refs(arrays: dict[str, np.ndarray]) -> dict[str, TensorRef]:
    return {name: TensorRef.of(name, array) for name, array in arrays.items()}


def fit(arrays: dict[str, np.ndarray], config: LoraConfig = LORA) -> Any:
    state = fitted(parsed(refs(arrays), "here"), SCHEMA, "bert", "here")
    return loaded_targets(state, config, SCHEMA, "here")


def test_an_adapter_fits_its_model_and_its_backbone() -> None:
    (one,) = fit(tensors())
    assert (one.module, one.ins, one.outs, one.rank, one.scale) == (QUERY, 4, 4, 2, 2.0)
    plain = {name.replace("base_model.model.bert.", ""): array for name, array in tensors().items()}
    assert fit(plain) == [one], "an adapter of the backbone alone"


A, B = (f"base_model.model.{QUERY}.lora_{which}.weight" for which in "AB")
WRONG: dict[str, tuple[dict[str, Any], type, str]] = {
    "half": ({B: None}, CheckpointError, "half of an adapter"),
    "nothing": ({A: None, B: None}, CheckpointError, "no adapter"),
    "another shape": ({A: np.zeros((2, 5), np.float32)}, ShapeMismatchError, r"\(2, 4\).*\(2, 5\)"),
    "another rank": ({A: np.zeros((3, 4), np.float32)}, ShapeMismatchError, "does not fit"),
    "integers": ({A: np.zeros((2, 4), np.int32)}, UnsupportedFormatError, "int32"),
    "another model": ({"base_model.model.x.lora_A.weight": np.zeros((2, 4), np.float32),
                       "base_model.model.x.lora_B.weight": np.zeros((4, 2), np.float32)}, CheckpointError,
                      "another model"),
    "DoRA": ({f"base_model.model.{QUERY}.lora_magnitude_vector": np.zeros(4, np.float32)}, UnsupportedFormatError,
             "lora_magnitude_vector"),
    "a bias of B": ({f"base_model.model.{QUERY}.lora_B.bias": np.zeros(4, np.float32)}, UnsupportedFormatError,
                    "lora_B.bias"),
    "a tied table": ({"base_model.model.bert.embeddings.word_embeddings.weight": np.zeros((9, 4), np.float32)},
                     ArgumentError, "tied"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_is_refused(what: str) -> None:
    changes, error, match = WRONG[what]
    with pytest.raises(error, match=match):
        fit(tensors(**changes))


def test_what_was_trained_whole_is_to_be_there() -> None:
    with pytest.raises(CheckpointError, match="lacks weights.*query.bias"):
        fit(tensors(), LoraConfig(r=2, target_modules=("query",), bias="lora_only"))


@pytest.mark.parametrize(
    ("wanted", "match"),
    [
        (("LayerNorm",), "LayerNorm cannot be adapted.*norm"),
        (("attention",), "made of layers"),
        (("decoder",), "is that of bert.embeddings"),
        (("nothing",), "no layer of this model"),
        ((), "does not say which layers"),
    ],
)
def test_targets_that_are_no_layers_are_refused(wanted: tuple[str, ...], match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        targets(LoraConfig(target_modules=wanted), SCHEMA)


def test_a_folder_is_written_whole_or_stays(tmp_path: Path) -> None:
    plain = {name.removeprefix("base_model.model."): one for name, one in refs(tensors()).items()}
    write_adapter(tmp_path, LORA, plain)
    assert {name: one.tolist() for name, one in load_file(tmp_path / "adapter_model.safetensors").items()} == {
        name: one.tolist() for name, one in tensors().items()
    }
    write_adapter(tmp_path, LORA, plain, safe=False)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["adapter_config.json", "adapter_model.bin"]
    before = (tmp_path / "adapter_model.bin").read_bytes()

    def fail() -> np.ndarray:
        raise OSError("no more")

    with pytest.raises(SaveError, match="no more"):
        write_adapter(tmp_path, LORA, {"x.lora_A.weight": TensorRef("x", np.dtype(np.float32), (2,), fail)}, safe=False)
    assert (tmp_path / "adapter_model.bin").read_bytes() == before
    config, found = open_adapter(tmp_path, "", {})
    assert config == LORA and found.keys() == tensors().keys()
    (tmp_path / "adapter_model.bin").unlink()
    with pytest.raises(MissingFileError, match="no weights of an adapter"):
        open_adapter(tmp_path, "", {})
    (tmp_path / "adapter_config.json").unlink()
    with pytest.raises(MissingFileError, match="holds no adapter"):
        open_adapter(tmp_path, "", {})


# -- triptych merge -------------------------------------------------------------------------------------------------


def model_in(folder: Path, model_type: str = "bert", dtype: Any = np.float32) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    arrays = {w.name: rng.standard_normal(w.shape).astype(dtype) for w in SCHEMA.stored()}
    values = {**json.loads(CONFIG.to_json_string()), "model_type": model_type, "architectures": ["BertForMaskedLM"]}
    save_checkpoint(folder, refs(arrays).values(), json.dumps(values))
    return arrays


def adapter_in(folder: Path, arrays: dict[str, np.ndarray], config: LoraConfig = LORA) -> Path:
    folder.mkdir()
    save_file(arrays, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config.to_dict()))
    return folder


def merge(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["merge", *map(str, arguments)])


@pytest.mark.parametrize("model_type", ["bert", "unheard-of"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_files_are_merged(model_type: str, dtype: Any, tmp_path: Path) -> None:
    before = model_in(tmp_path / "model", model_type, dtype)
    head = {"base_model.model.classifier.weight": np.ones((3, 4), np.float32)}
    adapter = adapter_in(tmp_path / "adapter", {**tensors(), **head}, LORA)
    done = merge(tmp_path / "model", adapter, tmp_path / "out")
    assert done.exit_code == 0, done.output
    after = {name: ref.read() for name, ref in open_checkpoint(tmp_path / "out").items()}
    change = 2 * tensors()[B] @ tensors()[A]
    wanted = (before[f"{QUERY}.weight"].astype(np.float32) + change).astype(dtype)
    assert np.array_equal(after[f"{QUERY}.weight"], wanted)
    assert after[f"{QUERY}.weight"].dtype == dtype
    assert all(np.array_equal(after[name], one) for name, one in before.items() if name != f"{QUERY}.weight")
    assert after["classifier.weight"].shape == (3, 4) and "added, which the model lacks" in done.stderr
    other = {name.replace(QUERY, "x"): one for name, one in tensors().items()}
    done = merge(tmp_path / "model", adapter_in(tmp_path / "stray", other), tmp_path / "other")
    assert done.exit_code == 1 and "another model" in done.stderr and not (tmp_path / "other").exists()


def test_an_adapter_of_a_tied_table_is_not_merged(tmp_path: Path) -> None:
    model_in(tmp_path / "model")
    table = "bert.embeddings.word_embeddings"
    arrays = {f"{table}.lora_embedding_A": np.ones((2, 9), np.float32),
              f"{table}.lora_embedding_B": np.ones((4, 2), np.float32)}  # fmt: skip
    done = merge(tmp_path / "model", adapter_in(tmp_path / "adapter", arrays), tmp_path / "out")
    assert done.exit_code == 2 and "tied" in done.stderr and not (tmp_path / "out").exists()
