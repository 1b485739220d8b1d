"""`triptych inspect`, `verify` and `diff`: what they say, their exit status, and that they only read."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from places import GOLDEN
from triptych import TensorRef, save_checkpoint
from triptych.cli import app
from triptych.tools.comparing import compare
from triptych.tools.editing import open_draft

FOLDERS = ["pt-bin", "pt-bin-sharded", "tf-h5", "tf-h5-sharded", "tf-safetensors", "flax-msgpack", "flax-safetensors"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def as_json(result: Result) -> Any:
    return json.loads(result.stdout)


def folder_of(path: Path, tensors: dict[str, np.ndarray], **config: object) -> Path:
    refs = [TensorRef.of(name, array) for name, array in tensors.items()]
    save_checkpoint(path, refs, json.dumps({"model_type": "none", **config}))
    return path


@pytest.mark.parametrize("name", ["bert-mlm", "gpt2-lm", "t5-tied", "t5-v11"])
@pytest.mark.parametrize("folder", FOLDERS)
def test_every_format_holds_the_same(name: str, folder: str) -> None:
    result = run("verify", GOLDEN / name / "pt-safetensors", GOLDEN / name / folder)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    assert result.stdout.endswith(" 0 different\n")
    whole = [as_json(run("verify", GOLDEN / name / f, "--json"))["sha256"] for f in ("pt-safetensors", folder)]
    assert whole[0] == whole[1]


@pytest.mark.parametrize("folder", ["pt-safetensors", "tf-h5", "flax-msgpack-sharded"])
def test_inspect_counts_what_the_model_has(folder: str) -> None:
    with np.load(GOLDEN / "bert-mlm/expected.npz") as recorded:
        parameters = recorded["num_parameters"]
    found = as_json(run("inspect", GOLDEN / "bert-mlm" / folder, "--json"))
    assert found["parameters"] == parameters and found["missing"] == found["unknown"] == []
    assert (found["model_type"], found["architectures"]) == ("bert", ["BertForMaskedLM"])
    entries = {entry["name"]: entry for entry in found["entries"]}
    assert entries["bert.embeddings.word_embeddings.weight"]["shape"] == [99, 32]
    assert found["bytes"] == sum(entry["nbytes"] for entry in entries.values()) == found["bytes_by_dtype"]["float32"]


def test_inspect_shows_ties_and_what_is_missing(tmp_path: Path) -> None:
    shown = run("inspect", GOLDEN / "bert-mlm/pt-bin").stdout
    assert "weight [99, 32] float32 12.7 kB = bert.embeddings.word_embeddings.weight" in shown
    source = GOLDEN / "bert-mlm/pt-safetensors"
    assert run("convert", source, tmp_path, "--drop", "*pooler*", "--drop", "cls.predictions.bias").exit_code == 2
    assert run("convert", source, tmp_path, "--drop", "cls.predictions.bias").exit_code == 0
    assert "missing: cls.predictions.bias" in run("inspect", tmp_path).stdout


def test_what_names_say_is_not_interpreted(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a", {"[red]x[/red].\x1b[31mw": np.ones(2, np.float32)})
    shown = run("inspect", folder).stdout
    assert "[red]x[/red]" in shown and "\x1b" not in shown
    other = folder_of(tmp_path / "b", {"y": np.ones(2, np.float32)})
    assert "\x1b" not in run("diff", folder, other).stdout


@pytest.mark.parametrize("named", [5, "Model", {"a": 1}, [1], None])
def test_architectures_may_be_anything(named: object, tmp_path: Path) -> None:
    result = run("inspect", folder_of(tmp_path, {"w": np.ones(2, np.float32)}, architectures=named))
    assert result.exit_code == 0 and result.exception is None, result.output


def test_an_unknown_architecture_is_named_by_layers_and_says_so(tmp_path: Path) -> None:
    from triptych.formats.kinds import H5

    refs = [TensorRef.of("dense/kernel:0", np.arange(6, dtype=np.float32).reshape(2, 3))]
    save_checkpoint(tmp_path, refs, '{"model_type": "none"}', format=H5, scope="tf_mine")
    found = as_json(run("inspect", tmp_path, "--json"))
    assert found["named_by_layer_rules"] == ["dense.weight"] and found["entries"][0]["shape"] == [3, 2]
    done = run("convert", tmp_path, tmp_path / "out")
    assert done.exit_code == 0 and "rules of layers alone: dense.weight" in done.stderr


def test_one_changed_element_is_found(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    values[0, 0] = np.nan
    first = folder_of(tmp_path / "a", {"w": values, "same": np.full(3, np.nan)})
    changed = values.copy()
    changed[2, 1] += 0.5
    second = folder_of(tmp_path / "b", {"w": changed, "same": np.full(3, np.nan)})
    result = run("verify", first, second)
    assert result.exit_code == 1 and "w: values, 1 elements differ, by at most 0.5" in result.stdout
    tensors = {tensor["name"]: tensor for tensor in as_json(run("verify", first, second, "--json"))["tensors"]}
    assert tensors["same"]["kind"] == "equal" and len(set(tensors["w"]["hashes"])) == 2
    assert run("verify", first, first).exit_code == 0


def test_diff_tells_config_names_shapes_and_dtypes(tmp_path: Path) -> None:
    one = {"a": np.ones((2, 3), np.float32), "b": np.ones(2, np.float32), "c": np.ones(2, np.float32)}
    other = {"a": np.ones((3, 3), np.float32), "b": np.ones(2, np.float64), "d": np.ones(2, np.float32)}
    folders = folder_of(tmp_path / "1", one, size=2, gone=1), folder_of(tmp_path / "2", other, size=3)
    result = as_json(run("diff", *folders, "--json"))
    assert result["config"] == {"size": [2, 3], "gone": [1, None]}
    kinds = {tensor["name"]: tensor["kind"] for tensor in result["tensors"]}
    assert kinds == {"a": "shape", "b": "dtype", "c": "only in the first", "d": "only in the second"}
    assert run("diff", *folders).exit_code == 1 and "config size: 2 -> 3" in run("diff", *folders).stdout
    same = run("diff", folders[0], folders[0])
    assert (same.exit_code, same.stdout) == (0, "0 config fields and 0 tensors differ\n")


@pytest.mark.parametrize("verb", ["inspect", "verify", "diff"])
def test_damage_is_one_message_and_status_1(verb: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a", {"w": np.ones(100)})
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    result = run(verb, folder, *[folder] * (verb == "diff"))
    assert result.exit_code == 1 and result.stderr.startswith("triptych: ") and result.stderr.count("\n") == 1


def test_a_checkpoint_without_a_backbone_weight_is_damaged(tmp_path: Path) -> None:
    name = "bert.encoder.layer.0.output.dense.weight"
    assert run("convert", GOLDEN / "bert-mlm/pt-safetensors", tmp_path, "--drop", name).exit_code == 0
    result = run("verify", tmp_path)
    assert result.exit_code == 1 and name in result.stderr


def test_usage_is_status_2(tmp_path: Path) -> None:
    assert run("inspect", tmp_path / "none").exit_code == 2
    assert run("verify").exit_code == 2
    for verb in ("inspect", "verify", "diff", "convert", "reshard", "cast", "resize", "prune"):
        assert f"Example: triptych {verb} " in " ".join(run(verb, "--help").stdout.split())


def test_comparing_holds_one_tensor_of_each(tmp_path: Path) -> None:
    tensors = {f"w{i}": np.full((256, 1024), i, np.float32) for i in range(16)}
    first, second = (open_draft(folder_of(tmp_path / name, tensors)) for name in "ab")
    tracemalloc.start()
    assert all(tensor.kind == "equal" for tensor in compare(first, second))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**20


def test_verify_compares_with_the_manifest_and_names_what_differs(tmp_path: Path) -> None:
    source, model = GOLDEN / "bert-mlm/tf-h5", tmp_path / "model"
    before = as_json(run("verify", source, "--json"))
    assert run("convert", source, model, "--manifest", "--max-shard-size", "30KB").exit_code == 0
    found = as_json(run("verify", model, "--json"))
    assert found["tensors"] == before["tensors"] and found["sha256"] == before["sha256"] and before["digest"] is None
    assert f"digest {found['digest']}" in run("verify", model).stdout
    assert run("verify", model, "--digest", found["digest"]).exit_code == 0
    other = run("verify", model, "--digest", "sha256:" + "0" * 64)
    assert other.exit_code == 1 and found["digest"] in other.stderr
    assert run("verify", model, "--digest", "5").exit_code == 2
    assert run("verify", model, source, "--digest", found["digest"]).exit_code == 2
    assert run("verify", source, "--digest", found["digest"]).exit_code == 1

    shard = next(model.glob("model-00002-of-*.safetensors"))
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    (model / "vocab.txt").unlink(missing_ok=True)
    result = run("verify", model)
    lines = [line.partition(": expected ")[0] for line in result.stderr.splitlines()]
    assert result.exit_code == 1 and lines[0] == f"file {shard.name}" and lines[1].startswith("tensor ")
    assert "Traceback" not in result.stderr
    assert run("reshard", model, tmp_path / "again", "--max-shard-size", "5GB").exit_code == 0  # as it always did
    assert not (tmp_path / "again/triptych_manifest.json").exists()
