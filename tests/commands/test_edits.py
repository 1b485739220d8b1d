"""`triptych convert`, `cast`, `resize`, ...: what they write, their exit status, and one message per error."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner, Result

from gguf_models import make_model, write_gguf
from quantised_files import LAYOUTS, quantised_folder
from triptych import TensorRef, open_checkpoint, save_checkpoint
from triptych.cli import app
from triptych.formats.kinds import SAVE_ID

SHARDED = "bert-mlm/pt-safetensors-sharded"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def config_of(folder: Path) -> dict[str, Any]:
    """Return config.json without the id of the save."""
    config = json.loads((folder / "config.json").read_text())
    config.pop(SAVE_ID, None)
    return config


def arrays(folder: Path) -> dict[str, np.ndarray]:
    return {name: ref.read() for name, ref in open_checkpoint(folder).items()}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "m.gguf", "llama", make_model("llama"), "Q8_0")


def test_a_gguf_file_becomes_a_folder(model: Path, tmp_path: Path) -> None:
    before = model.read_bytes()
    result = run("convert", model, tmp_path / "out")
    assert (result.exit_code, result.stderr) == (0, "")
    assert set(contents(tmp_path / "out")) == {"config.json", "model.safetensors"}
    assert json.loads((tmp_path / "out/config.json").read_text())["model_type"] == "llama"
    expected = {name: ref.read() for name, ref in open_checkpoint(model).items()}
    written = load_file(tmp_path / "out/model.safetensors")
    assert {n: a.tolist() for n, a in written.items()} == {n: a.tolist() for n, a in expected.items()}
    assert model.read_bytes() == before


def test_a_folder_is_written_in_another_dtype_and_in_shards(golden: Path, tmp_path: Path) -> None:
    source, before = golden / SHARDED, contents(golden / SHARDED)
    result = run("convert", source, tmp_path / "out", "--dtype", "bfloat16", "--max-shard-size", "8KB", "--json")
    assert result.exit_code == 0
    summary = json.loads(result.stdout)
    written, original = arrays(tmp_path / "out"), arrays(source)
    assert summary["tensors"] == len(original) and summary["parameters"] == sum(a.size for a in original.values())
    assert summary["bytes"] == 2 * summary["parameters"]
    assert len(summary["files"]) > 2 and set(contents(tmp_path / "out")) == {
        *summary["files"],
        "config.json",
        "generation_config.json",
    }
    for name, array in original.items():
        assert written[name].tobytes() == array.astype(ml_dtypes.bfloat16).tobytes()
    configs = [config_of(folder) for folder in (tmp_path / "out", source)]
    assert configs[0] == {**configs[1], "torch_dtype": "bfloat16"}
    assert contents(source) == before


@pytest.mark.parametrize("folder", ["pt-bin", "pt-bin-sharded"])
def test_files_of_torch_become_safetensors(folder: str, golden: Path, tmp_path: Path) -> None:
    result = run("convert", golden / "gpt2-lm" / folder, tmp_path / "out")
    assert (result.exit_code, result.stderr) == (0, "")
    written, expected = arrays(tmp_path / "out"), arrays(golden / "gpt2-lm/pt-safetensors")
    assert all(written[name].tobytes() == array.tobytes() for name, array in expected.items())


def test_auto_keeps_every_dtype_and_the_config(tmp_path: Path) -> None:
    refs = [TensorRef.of(d, np.ones(3, d)) for d in ("float16", "float64", "int32", "bool")]
    save_checkpoint(tmp_path / "in", refs, '{"model_type": "bert"}\n')
    assert run("convert", tmp_path / "in", tmp_path / "out").exit_code == 0
    assert {n: a.dtype.name for n, a in arrays(tmp_path / "out").items()} == {r.name: r.name for r in refs}
    assert run("convert", tmp_path / "in", tmp_path / "out", "--dtype", "float32").exit_code == 0
    changed = {"float16": "float32", "float64": "float32", "int32": "int32", "bool": "bool"}
    assert {n: a.dtype.name for n, a in arrays(tmp_path / "out").items()} == changed


def test_a_pointer_of_the_source_is_followed_and_left_behind(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    save_file({"w": np.ones(3)}, tmp_path / "in/other.safetensors")
    (tmp_path / "in/config.json").write_text('{"transformers_weights": "other.safetensors", "a": 1}')
    assert run("convert", tmp_path / "in", tmp_path / "out").exit_code == 0
    assert config_of(tmp_path / "out") == {"a": 1}
    assert list(arrays(tmp_path / "out")) == ["w"]


def test_a_destination_is_replaced_as_a_whole(model: Path, golden: Path, tmp_path: Path) -> None:
    assert run("convert", golden / SHARDED, tmp_path / "out", "--max-shard-size", "8KB").exit_code == 0
    assert run("convert", model, tmp_path / "out").exit_code == 0
    assert set(contents(tmp_path / "out")) == {"config.json", "generation_config.json", "model.safetensors"}


# -- errors --------------------------------------------------------------------------------------------------------


def assert_one_message(result: Result, status: int, *words: str) -> None:
    assert result.exit_code == status, result.output
    assert result.stdout == "" and "Traceback" not in result.stderr
    assert all(word in result.stderr for word in words), result.stderr


def test_damage_is_status_1_and_leaves_the_destination(model: Path, tmp_path: Path) -> None:
    assert run("convert", model, tmp_path / "out").exit_code == 0
    before = contents(tmp_path / "out")
    model.write_bytes(model.read_bytes()[:-3000])
    result = run("convert", model, tmp_path / "out")
    assert_one_message(result, 1, "triptych: ", "m.gguf", "Expected", "get the file again")
    assert result.stderr.count("\n") == 1
    assert contents(tmp_path / "out") == before


def test_a_source_without_config_keeps_names_and_has_no_other_layout(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "in", [TensorRef.of("w", np.ones(3))])
    done = run("convert", tmp_path / "in", tmp_path / "out")
    assert done.exit_code == 0 and "there is no config.json" in done.stderr
    assert set(contents(tmp_path / "out")) == {"model.safetensors"}
    refused = run("convert", tmp_path / "in", tmp_path / "h5", "--format", "h5")
    assert_one_message(refused, 1, "unknown", "config.json")
    assert not (tmp_path / "h5").exists()


def test_the_source_is_never_the_destination(model: Path, golden: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "in", [TensorRef.of("w", np.ones(3))], "{}\n")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    before = contents(tmp_path / "in")
    for destination in ("in", "link", "in/../in"):
        assert_one_message(run("convert", tmp_path / "in", tmp_path / destination), 2, "source")
    assert contents(tmp_path / "in") == before
    assert_one_message(run("convert", model, model), 2)


@pytest.mark.parametrize(
    "arguments",
    [
        ("convert",),
        ("convert", "none.gguf", "out"),
        ("convert", "{model}", "out", "--dtype", "int8"),
        ("convert", "{model}", "out", "--max-shard-size", "much"),
        ("convert", "{text}", "out"),
        ("nothing",),
    ],
)
def test_wrong_usage_is_status_2(arguments: tuple[str, ...], model: Path, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("x")
    out = tmp_path / "out"
    given = [{"{model}": str(model), "{text}": str(tmp_path / "x.txt"), "out": str(out)}.get(a, a) for a in arguments]
    assert_one_message(run(*given), 2)
    assert not out.exists()


def test_heads_of_the_last_layer_are_pruned_by_its_number_from_the_end(golden: Path, tmp_path: Path) -> None:
    source = golden / "bert-mlm/pt-safetensors"
    for layer in ("-1", "2"):
        done = run("prune", source, tmp_path / layer, "--heads", f"{layer}:0,2")
        assert done.exit_code == 0, done.output
    counted, plain = arrays(tmp_path / "-1"), arrays(tmp_path / "2")
    assert counted.keys() == plain.keys() and all(np.array_equal(counted[name], plain[name]) for name in plain)
    assert config_of(tmp_path / "-1") == config_of(tmp_path / "2")
    assert config_of(tmp_path / "2")["pruned_heads"] == {"2": [0, 2]}
    for heads in ("-4:0", "3:0", "0:99", "--1:0", "-:0", "0:-1"):
        assert_one_message(run("prune", source, tmp_path / "out", f"--heads={heads}"), 2)
    assert not (tmp_path / "out").exists()


def test_a_file_that_prunes_what_is_not_there_is_refused(golden: Path, tmp_path: Path) -> None:
    shutil.copytree(golden / "bert-mlm/pt-safetensors", tmp_path / "in")
    config = json.loads((tmp_path / "in/config.json").read_text())
    for heads in ({"7": [0]}, {"0": [99]}):
        (tmp_path / "in/config.json").write_text(json.dumps({**config, "pruned_heads": heads}))
        assert_one_message(run("convert", tmp_path / "in", tmp_path / "out"), 1, "pruned_heads")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_quantised_files_are_moved_as_they_are(layout: str, golden: Path, tmp_path: Path) -> None:
    source = quantised_folder(golden / "llama-gqa/pt-safetensors", tmp_path / "in", layout)
    for verb in (("convert", "--format", "safetensors"), ("convert", "--format", "bin"),
                 ("reshard", "--max-shard-size", "8KB"), ("convert", "--dtype", "auto")):  # fmt: skip
        done = run(verb[0], source, tmp_path / "out", *verb[1:])
        assert done.exit_code == 0, done.output
        before, after = arrays(source), arrays(tmp_path / "out")
        assert {n: (a.dtype, a.tobytes()) for n, a in before.items()} == {
            n: (a.dtype, a.tobytes()) for n, a in after.items()
        }
        configs = [config_of(folder) for folder in (source, tmp_path / "out")]
        assert configs[0]["quantization_config"] == configs[1]["quantization_config"]
        for reader in (("verify", source), ("verify", source, tmp_path / "out"), ("inspect", tmp_path / "out")):
            assert run(*reader).exit_code == 0, reader
    method = LAYOUTS[layout][0].get("quant_method", "bitsandbytes")
    assert f"note: quantised with {method}" in run("verify", source).output
    assert json.loads(run("inspect", source, "--json").stdout)["missing"] == []


@pytest.mark.parametrize("layout", LAYOUTS)
def test_quantised_weights_are_not_computed_with(layout: str, golden: Path, tmp_path: Path) -> None:
    source = quantised_folder(golden / "llama-gqa/pt-safetensors", tmp_path / "in", layout)
    method = LAYOUTS[layout][0].get("quant_method", "bitsandbytes")
    for verb in (("cast", "--dtype", "bfloat16"), ("convert", "--dtype", "bfloat16"), ("prune", "--heads", "0:0,1"),
                 ("convert", "--format", "h5"), ("convert", "--format", "msgpack")):  # fmt: skip
        expected = (method,) if "--format" not in verb else ()
        assert_one_message(run(verb[0], source, tmp_path / "out", *verb[1:]), 1, *expected)
    assert not (tmp_path / "out").exists()
    # Embeddings and head are floating numbers here, and there they are not.
    done = run("resize", source, tmp_path / "resized", "--vocab-size", "120")
    assert done.exit_code == 0, done.output
    assert arrays(tmp_path / "resized")["lm_head.weight"].shape[0] == 120
    source = quantised_folder(golden / "llama-gqa/pt-safetensors", tmp_path / "all", layout, also="lm_head.weight")
    assert_one_message(run("resize", source, tmp_path / "out", "--vocab-size", "120"), 1, method, "lm_head")


def test_values_that_do_not_fit_are_no_infinities(tmp_path: Path) -> None:
    kept = TensorRef.of("kept", np.array([np.inf, 1], np.float32))
    save_checkpoint(tmp_path / "in", [kept, TensorRef.of("big", np.array([1e5], np.float32))], "{}\n")
    assert_one_message(run("convert", tmp_path / "in", tmp_path / "out", "--dtype", "float16"), 2, "big", "bfloat16")
    assert contents(tmp_path / "out") == {}
    assert run("convert", tmp_path / "in", tmp_path / "out", "--dtype", "bfloat16").exit_code == 0
    assert arrays(tmp_path / "out")["kept"].tolist() == [float("inf"), 1.0]


def test_a_message_cannot_steer_the_terminal(model: Path, tmp_path: Path) -> None:
    hostile = tmp_path / "\x1b[31mred.gguf"
    hostile.write_bytes(model.read_bytes()[:100])
    result = run("convert", hostile, tmp_path / "out")
    assert result.exit_code == 1 and "\x1b" not in result.stderr
