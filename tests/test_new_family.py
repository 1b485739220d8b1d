"""Follows docs/new-family.md and docs/own-classes.md: what they say works, in other processes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from places import ROOT

PAGES = [ROOT / "docs" / name for name in ("new-family.md", "own-classes.md")]
CONFORMANCE = ROOT / "conformance"


def written(folder: Path) -> list[str]:
    """Write every block of the pages to the file that its first line names, and the two that differ in names alone."""
    names = []
    for block in re.findall(r"```python\n(.*?)```", "".join(page.read_text() for page in PAGES), re.S):
        name = block.partition("\n")[0].removeprefix("# ")
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(block)
        names.append(name)
    ours = (folder / "tiny/pt.py").read_text()
    for backend, prefix in (("tf", "TF"), ("flax", "Flax")):
        text = re.sub(r"(?<![\w.])(PreTrainedModel|Tiny\w*(?:Model|LM))\b", rf"{prefix}\1", ours)
        (folder / f"tiny/{backend}.py").write_text(text.replace("triptych_pt.make", f"triptych_{backend}.make"))
    return names


def run(folder: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = f"import sys; sys.path[:0] = [{str(folder)!r}, {str(CONFORMANCE)!r}]\n"
    command = [sys.executable, "-c", path + code, *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the programs of `TOGETHER` print, or their errors: they share a process, for what it imports."""
    folder = tmp_path_factory.mktemp("together")
    names = written(folder)
    assert names == [
        "tiny/config.py", "tiny/model.py", "tiny/pt.py", "tiny/__init__.py", "prove.py", "plain.py",
    ]  # fmt: skip
    programs = {"prove.py": (folder / "prove.py").read_text(), **TOGETHER}
    done = run(folder, RUNNER, json.dumps(programs), str(folder))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


RUNNER = """
import contextlib, io, json, traceback
found = {}
programs, folder = json.loads(sys.argv[1]), sys.argv[2]
for name, program in programs.items():
    sys.argv[1] = f"{folder}/of {name}"
    with contextlib.redirect_stdout(io.StringIO()) as text:
        try:
            # The programs of this file and of our own pages, each as a program of its own.
            exec(compile(program, name, "exec"), {"__name__": "__main__", "sys": sys})
        except Exception:
            traceback.print_exc(file=text)
    found[name] = text.getvalue()
print(json.dumps(found))
"""
TOGETHER: dict[str, str] = {}


def test_the_page_proves_itself(printed: dict[str, str]) -> None:
    lines = [line.split() for line in printed["prove.py"].splitlines()]
    prefixes = {"pt": "", "tf": "TF", "flax": "Flax"}
    assert [line[:2] for line in lines] == [
        [backend, f"{prefix}TinyForCausalLM"] for backend, prefix in prefixes.items()
    ], printed["prove.py"]
    assert len({line[2] for line in lines}) == 1


def test_registering_imports_no_framework(tmp_path: Path) -> None:
    written(tmp_path)
    code = """
import tiny
from triptych import AutoConfig
from triptych.families import declared_schema
schema = declared_schema(AutoConfig.for_model("tiny"), "TinyForCausalLM")
assert schema["lm_head.weight"].tied_to == "tiny.words.weight"
print(*{"torch", "tensorflow", "keras", "jax", "flax"} & set(sys.modules))
"""
    done = run(tmp_path, code)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_a_taken_name_is_refused(tmp_path: Path) -> None:
    written(tmp_path)
    code = """
import tiny
from triptych import ArgumentError, families
try:
    families.register("tiny", families.family("tiny"))
except ArgumentError as error:
    assert "exist_ok" in str(error)
    families.register("tiny", families.family("tiny"), exist_ok=True)
    print("refused")
"""
    done = run(tmp_path, code)
    assert done.stdout == "refused\n", done.stderr


def test_what_the_page_says_of_config_and_schema(tmp_path: Path) -> None:
    written(tmp_path)
    code = """
import functools
import tiny
from triptych import ConfigError, families
schema = functools.partial(families.declared_schema, stem="TinyForCausalLM")
for wrong in ({"num_attention_heads": 5}, {"num_hidden_layers": "two"}, {"vocab_size": 0}):
    try:
        tiny.TinyConfig(**wrong)
    except ConfigError as error:
        assert next(iter(wrong)) in str(error), error
    else:
        raise AssertionError(wrong)
whole = schema(tiny.TinyConfig())
pruned = schema(tiny.TinyConfig(pruned_heads={1: [0]}))
changed = {name for name in whole if whole[name].shape != pruned[name].shape}
assert changed == {f"tiny.layers.1.{part}" for part in (
    "query.weight", "query.bias", "key.weight", "key.bias", "value.weight", "value.bias", "out.weight")}, changed
larger = schema(tiny.TinyConfig(vocab_size=60))
assert {n for n in whole if whole[n].shape != larger[n].shape} == {"tiny.words.weight", "lm_head.weight"}
untied = schema(tiny.TinyConfig(tie_word_embeddings=False))
assert untied["lm_head.weight"].tied_to is None
print("done")
"""
    done = run(tmp_path, code)
    assert done.stdout == "done\n", done.stderr


TOGETHER["loss"] = """
import numpy as np, tiny, torch, keras
import triptych
from triptych_conformance import BACKENDS, compare_folder
folder = sys.argv[1]
ids = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
inputs = {"input_ids": ids, "labels": ids, "attention_mask": np.array([[1, 1, 1, 0], [1, 1, 1, 1]])}
for tied in (True, False):
    config = tiny.TinyConfig(initializer_range=0.5, tie_word_embeddings=tied)
    triptych.FlaxAutoModelForCausalLM.from_config(config).save_pretrained(f"{folder}/{tied}")
    assert ("lm_head.weight" in triptych.open_checkpoint(f"{folder}/{tied}")) is not tied
    parity = compare_folder(f"{folder}/{tied}", "AutoModelForCausalLM", inputs, output_attentions=True)
    parity.assert_within()
    assert {"loss", "logits", "attentions.1"} <= {output for output, _ in parity.comparisons}
    compare_folder(f"{folder}/{tied}", "AutoModel", {"input_ids": ids}).assert_within()
    model = triptych.TFAutoModelForCausalLM.from_pretrained(f"{folder}/{tied}")
    assert (model.lm_head is None) is tied
assert isinstance(keras.Model.layers, property)  # why the page gives the list another name there
print("done")
"""


def test_loss_backbone_and_untied_head_agree(printed: dict[str, str]) -> None:
    assert printed["loss"] == "done\n"


TOGETHER["no schema"] = """
import numpy as np, torch
import plain, triptych
from triptych_conformance import BACKENDS
ids = {"input_ids": np.array([[1, 10], [3, 4]])}
for backend in BACKENDS:
    folder = f"{sys.argv[1]}/{backend.name}"
    model = backend.cls("AutoModel").from_config(plain.PlainConfig(initializer_range=0.5))
    assert model.declared_schema is None
    assert {n: w.shape for n, w in model.schema.items()} == {"words.weight": (11, 4)}
    model.resize_token_embeddings(20)
    model.save_pretrained(folder)
    expected = backend.run(model, ids)["last_hidden_state"]
    assert expected.shape == (2, 2, 4) and expected.std() > 0
    for other in BACKENDS:
        found = other.load("AutoModel", folder)
        assert type(found).__name__ == other.cls("AutoModel").class_prefix + "PlainModel"
        assert np.array_equal(other.run(found, ids)["last_hidden_state"], expected)
    try:
        model.prune_heads({0: [1]})
    except triptych.ArgumentError as error:
        assert "declare" in str(error)
    else:
        raise AssertionError("pruned")
    try:
        backend.load("AutoModelForCausalLM", folder)
    except triptych.ConfigError as error:
        assert "register" in str(error)
    else:
        raise AssertionError("no such class")
print("done")
"""


def test_classes_without_a_schema(printed: dict[str, str]) -> None:
    assert printed["no schema"] == "done\n"


def test_a_framework_left_out_is_refused(tmp_path: Path) -> None:
    written(tmp_path)
    code = """
import dataclasses, tiny
from triptych import AutoModel, ConfigError, families
class SoloConfig(tiny.TinyConfig):
    model_type = "solo"
solo = dataclasses.replace(families.family("tiny"), config_class=SoloConfig, modules={"pt": "tiny.pt"})
families.register("solo", solo)
assert AutoModel.class_for(SoloConfig()).__module__ == "tiny.pt"
assert "tensorflow" not in sys.modules
from triptych import TFAutoModel
try:
    TFAutoModel.from_config(SoloConfig())
except ConfigError as error:
    assert "TFTinyModel" in str(error) and "Family.modules" in str(error), error
    print("refused")
"""
    done = run(tmp_path, code)
    assert done.stdout == "refused\n", done.stderr


def test_a_family_in_the_place_of_a_built_in_one(tmp_path: Path) -> None:
    written(tmp_path)
    code = """
import dataclasses, tiny
from triptych import AutoModelForCausalLM, families
class OtherConfig(tiny.TinyConfig):
    model_type = "bert"
other = dataclasses.replace(families.family("tiny"), config_class=OtherConfig)
families.register("bert", other, exist_ok=True)
assert AutoModelForCausalLM.class_for(OtherConfig()).declare_schema(OtherConfig())["lm_head.weight"].tied_to
print("declared")
"""
    done = run(tmp_path, code)
    assert done.stdout == "declared\n", done.stderr


TOGETHER["pickled"] = """
import pickle
import numpy as np, tiny, torch
from tiny.pt import TinyForCausalLM, TinyLayer
from tiny.flax import FlaxTinyLayer, FlaxTinyModel, FlaxTinyModule
class Quiet(TinyLayer):
    def forward(self, hidden, bias, head_mask):
        hidden, probabilities = super().forward(hidden, bias, head_mask)
        return 0 * hidden, probabilities
config = tiny.TinyConfig()
model = TinyForCausalLM(config).eval()
ids = torch.tensor([[1, 2, 3]])
again = pickle.loads(pickle.dumps(model))  # its own bytes, made here: that it pickles is what is tested
assert type(again.tiny.layers[0]) is TinyLayer and torch.equal(again(ids).logits, model(ids).logits)
model.tiny.layers[1] = Quiet(config, index=1)
assert model(ids).logits.abs().max() == 0
assert FlaxTinyModel.module_class is FlaxTinyModule and pickle.loads(pickle.dumps(FlaxTinyLayer)) is FlaxTinyLayer
try:
    model.tiny.TinyLayer
except AttributeError:
    print("done")
"""


def test_parts_are_pickled_and_subclassed(printed: dict[str, str]) -> None:
    assert printed["pickled"] == "done\n"


TOGETHER["super"] = """
import tiny.model
from triptych import ArgumentError
from triptych_pt.make import binder
class Longer(tiny.model.TinyLayer):
    def setup(self):
        super().setup()
try:
    binder.bound(Longer)
except ArgumentError as error:
    assert "Base.setup(self)" in str(error) and "Longer" in str(error)
    print("refused")
"""


def test_super_in_a_part_is_refused(printed: dict[str, str]) -> None:
    assert printed["super"] == "refused\n"


TOGETHER["head"] = """
import tiny, torch
from tiny.model import TinyForCausalLM
from triptych import ArgumentError, families
from triptych.nn.axes import hidden_axis, vocab_axis
from triptych_pt.make import vocab_head
def schema(setup):
    part = type("TinyForCausalLM", (TinyForCausalLM,), {"setup": setup})
    return families.declared(tiny.TinyConfig, part).schema(tiny.TinyConfig(), "TinyForCausalLM")
def misnamed(self):
    self.tiny = self.make.block(self, tiny.TinyModel)
    self.lm_head = self.make.vocab_head(self, hidden_axis(self.config), vocab_axis(self.config), bias="shift")
def alone(self):
    self.lm_head = self.make.vocab_head(self, hidden_axis(self.config), vocab_axis(self.config))
for setup, said in ((misnamed, "'shift'"), (alone, "embedding with a `vocab` axis")):
    try:
        schema(setup)
    except ArgumentError as error:
        assert said in str(error), error
    else:
        raise AssertionError(said)
assert vocab_head(None, 2, 3, bias=False).bias is None
print("refused")
"""


def test_a_head_without_its_embeddings_or_bias_is_refused(printed: dict[str, str]) -> None:
    assert printed["head"] == "refused\n"
