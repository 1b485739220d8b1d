"""Classes whose code comes with a checkpoint: never run unless trusted, then of one commit, in three frameworks."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import triptych
from hub_models import PACKAGES, PREFIXES, framework
from triptych import (
    ArgumentError,
    AutoConfig,
    BertConfig,
    ConfigError,
    HubNotFoundError,
    PretrainedConfig,
    RemoteCodeError,
    UnsafeCheckpointError,
    save_checkpoint,
)
from triptych.checkpoints.opening import open_checkpoint
from triptych_conformance import assert_close, compare
from triptych_conformance.hub.server import WRITER, Hub

CODE = Path(__file__).parent / "own_code"
REPO = "org/tiny"
MODULES = {"pt": "modeling_tiny", "tf": "modeling_tf_tiny", "flax": "modeling_flax_tiny"}
AUTO_MAP = {"AutoConfig": "configuration_tiny.TinyConfig"} | {
    f"{PREFIXES[f]}AutoModel": f"{module}.{PREFIXES[f]}TinyModel" for f, module in MODULES.items()
}
IDS = np.array([[1, 2, 3], [4, 5, 10]])
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture(autouse=True)
def _nothing_left_imported() -> Iterator[None]:
    yield
    for name in [name for name in sys.modules if name.startswith(("triptych_remote", "tiny_package"))]:
        del sys.modules[name]


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A checkpoint with its code, as an author would lay it out."""
    made = tmp_path / "tiny"
    shutil.copytree(CODE, made, ignore=shutil.ignore_patterns("__pycache__"))
    config = {"model_type": "tiny-of-the-hub", "vocab_size": 11, "hidden_size": 6, "auto_map": AUTO_MAP}
    shapes = {"embed.weight": (11, 6), "head.weight": (2, 6), "head.bias": (2,)}
    refs = [triptych.TensorRef.of(n, rng.standard_normal(s).astype(np.float32)) for n, s in shapes.items()]
    save_checkpoint(made, refs, json.dumps(config))
    return made


def change_config(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def auto(framework: str) -> Any:
    return getattr(triptych, f"{PREFIXES[framework]}AutoModel")


def run(framework: str, model: Any) -> np.ndarray:
    if framework == "pt":
        with torch.no_grad():
            return np.asarray(model(torch.tensor(IDS)))
    return np.asarray(model(IDS))


def expected(folder: Path) -> np.ndarray:
    read = {name: ref.read() for name, ref in open_checkpoint(folder).items()}
    return 2.0 * read["embed.weight"][IDS] @ read["head.weight"].T + read["head.bias"]


def remote_modules() -> list[str]:
    return [name for name in sys.modules if name.startswith("triptych_remote")]


# not trusted


@framework
@pytest.mark.parametrize("trust", [{}, {"trust_remote_code": False}, {"trust_remote_code": None}])
def test_untrusted_code_is_named_and_never_run(framework: str, trust: dict[str, Any], folder: Path) -> None:
    for file in folder.glob("*.py"):
        file.write_text("raise SystemExit('run')")
    with pytest.raises(RemoteCodeError, match=r"configuration_tiny\.py.*trust_remote_code=True.*code_revision"):
        auto(framework).from_pretrained(folder, **trust)
    with pytest.raises(RemoteCodeError, match=r"configuration_tiny\.py"):
        AutoConfig.from_pretrained(folder, **trust)
    change_config(
        folder, model_type="bert", num_attention_heads=2
    )  # a known config, and only the model is of the folder
    change_config(folder, auto_map={f"{PREFIXES[framework]}AutoModelForSeq2SeqLM": "x.X"})
    with pytest.raises(RemoteCodeError, match=r"needs code of its own: x\.py"):
        getattr(triptych, f"{PREFIXES[framework]}AutoModelForSeq2SeqLM").from_pretrained(folder, **trust)
    assert remote_modules() == []


@framework
def test_untrusted_code_of_the_hub_is_refused_before_code_or_weights_are_fetched(
    framework: str, hub: Hub, folder: Path
) -> None:
    hub.create(REPO)
    hub.commit_folder(REPO, folder)
    hub.reset()
    with pytest.raises(RemoteCodeError, match=r"configuration_tiny\.py of org/tiny"):
        auto(framework).from_pretrained(REPO)
    assert hub.count() == 1 + 2
    assert hub.count("*/resolve/*/config.json") == 2
    assert remote_modules() == []


def test_a_known_class_goes_before_code_that_is_not_trusted(golden: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bert"
    shutil.copytree(golden / "bert-mlm/pt-safetensors", folder)
    change_config(folder, auto_map={"AutoConfig": "evil.Config", "AutoModelForMaskedLM": "evil.Model"})
    (folder / "evil.py").write_text("raise SystemExit('run')")
    model = triptych.AutoModelForMaskedLM.from_pretrained(folder)
    assert type(model) is triptych.BertForMaskedLM
    assert triptych.BertForMaskedLM.from_pretrained(folder, trust_remote_code=True).config.vocab_size > 0
    assert BertConfig.from_pretrained(folder, trust_remote_code=True, code_revision="x").model_type == "bert"
    assert remote_modules() == []
    with pytest.raises(SystemExit):
        triptych.AutoModelForMaskedLM.from_pretrained(folder, trust_remote_code=True)


# trusted


@framework
def test_trusted_code_of_a_folder(framework: str, folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    model = auto(framework).from_pretrained(folder, trust_remote_code=True)
    assert type(model).__name__ == f"{PREFIXES[framework]}TinyModel"
    assert_close(run(framework, model), expected(folder))
    assert sorted(folder.rglob("*")) == before, "nothing is written beside the code"
    config = AutoConfig.from_pretrained(folder, trust_remote_code=True, hidden_size=4)
    assert type(config) is type(model.config)
    assert config.hidden_size == 4
    new = auto(framework).from_config(config, trust_remote_code=True)
    assert type(new) is type(model)


@framework
def test_trusted_code_of_the_hub_is_that_of_the_config(framework: str, hub: Hub, folder: Path) -> None:
    hub.create(REPO)
    first = hub.commit_folder(REPO, folder)
    hub.commit(REPO, {"scale_tiny.py": b"SCALE = 3.0\n"})
    hub.reset()
    model = auto(framework).from_pretrained(REPO, trust_remote_code=True, revision=first)
    assert_close(run(framework, model), expected(folder))
    needed = {"config.json", "model.safetensors", "configuration_tiny.py", "scale_tiny.py", f"{MODULES[framework]}.py"}
    assert {r.path.rpartition("/")[2] for r in hub.requests if "/resolve/" in r.path} == needed
    assert hub.count() == 1 + 2 * len(needed)
    hub.reset()
    newer = auto(framework).from_pretrained(REPO, trust_remote_code=True)
    assert compare(run(framework, newer), expected(folder)).fraction > 100, "the newer code scales by 3"
    pinned = auto(framework).from_pretrained(REPO, trust_remote_code=True, code_revision=first)
    assert_close(run(framework, pinned), expected(folder))
    assert type(pinned) is type(model), "the same code is one class"
    assert type(pinned) is not type(newer)


def test_a_push_between_config_and_code_mixes_nothing(hub: Hub, folder: Path) -> None:
    hub.create(REPO)
    hub.commit_folder(REPO, folder)
    hub.after(1, "*/resolve/*/config.json", lambda: hub.commit(REPO, {"scale_tiny.py": b"SCALE = 3.0\n"}))
    model = auto("pt").from_pretrained(REPO, trust_remote_code=True)
    assert_close(run("pt", model), expected(folder))
    hub.reset()
    local = auto("pt").from_pretrained(REPO, trust_remote_code=True, revision=hub.log(REPO)[1].oid)
    assert type(local) is type(model)
    assert hub.count() == 0, "all of that commit is in the cache"


def test_the_same_code_in_a_folder_and_on_the_hub_is_one_class(hub: Hub, folder: Path) -> None:
    hub.create(REPO)
    hub.commit_folder(REPO, folder)
    of_hub = auto("pt").from_pretrained(REPO, trust_remote_code=True)
    assert type(auto("pt").from_pretrained(folder, trust_remote_code=True)) is type(of_hub)


def test_cached_code_loads_offline(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.create(REPO)
    hub.commit_folder(REPO, folder)
    auto("pt").from_pretrained(REPO, trust_remote_code=True)
    for name in remote_modules():
        del sys.modules[name]
    hub.close()
    model = auto("pt").from_pretrained(REPO, trust_remote_code=True, local_files_only=True)
    assert_close(run("pt", model), expected(folder))


def test_code_of_another_repository(hub: Hub, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hub.create("org/code")
    first = hub.commit_folder("org/code", CODE)
    hub.commit("org/code", {"scale_tiny.py": b"SCALE = 3.0\n"})
    for file in folder.glob("*.py"):
        file.unlink()
    change_config(folder, auto_map={name: f"org/code--{ref}" for name, ref in AUTO_MAP.items()})
    hub.create(REPO)
    hub.commit_folder(REPO, folder)
    with pytest.raises(RemoteCodeError, match=r"configuration_tiny\.py of org/code"):
        auto("pt").from_pretrained(REPO)
    for path in (REPO, folder):
        model = auto("pt").from_pretrained(path, trust_remote_code=True, code_revision=first)
        assert_close(run("pt", model), expected(folder))
    assert "code_revision" not in caplog.text
    auto("pt").from_pretrained(REPO, trust_remote_code=True)
    assert f"code_revision='{hub.head('org/code')}'" in caplog.text, "how to pin is said"
    with pytest.raises(HubNotFoundError):
        auto("pt").from_pretrained(REPO, trust_remote_code=True, code_revision="nowhere")


def test_code_in_a_subfolder(hub: Hub, folder: Path) -> None:
    hub.create(REPO)
    hub.commit(REPO, {f"inner/{p.name}": p.read_bytes() for p in folder.iterdir() if p.is_file()})
    model = auto("pt").from_pretrained(REPO, trust_remote_code=True, subfolder="inner")
    assert_close(run("pt", model), expected(folder))
    with_config = auto("pt").from_pretrained(REPO, config=model.config, trust_remote_code=True, subfolder="inner")
    assert type(with_config) is type(model)
    again = auto("pt").from_pretrained(folder.parent, trust_remote_code=True, subfolder=folder.name)
    assert type(again) is type(model)


# what is wrong with it

BAD_REFERENCES = [
    "os", "a.b.c", "../evil.Model", "/evil.Model", ".Model", "a-b.C", "x/y/z--a.B", "--a.B", "..--a.B", "a.B--", 3,
    None, ["a.B"], "", "org/../x--a.B", "a\0.B",
]  # fmt: skip


@pytest.mark.parametrize("reference", BAD_REFERENCES)
def test_references_that_lead_elsewhere_are_refused(reference: object, folder: Path) -> None:
    for name in ("AutoConfig", "AutoModel"):
        change_config(folder, auto_map=AUTO_MAP | {name: reference})
        with pytest.raises(UnsafeCheckpointError, match="names no class"):
            auto("pt").from_pretrained(folder, trust_remote_code=True)


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("modeling_tiny.py", None, "has no modeling_tiny.py"),
        ("modeling_tiny.py", "x = (", "SyntaxError"),
        ("modeling_tiny.py", "import not_there_at_all", "No module named 'not_there_at_all'"),
        ("modeling_tiny.py", "from . import gone", "gone"),
        ("modeling_tiny.py", "from .. import gone", "ImportError|attempted|cannot import"),
        ("modeling_tiny.py", "1 / 0", "ZeroDivisionError"),
        ("modeling_tiny.py", "TinyModel = 3", "cannot be used for AutoModel"),
        ("modeling_tiny.py", "class TinyModel: pass", "a subclass of triptych's PreTrainedModel"),
        ("modeling_tiny.py", "from triptych import TFPreTrainedModel as TinyModel", "a subclass of triptych's"),
        ("modeling_tiny.py", "", "cannot be used for AutoModel"),
        ("configuration_tiny.py", "class TinyConfig: pass", "a subclass of triptych's PretrainedConfig"),
    ],
)
def test_code_that_does_not_work_is_an_error(file: str, text: str | None, reason: str, folder: Path) -> None:
    if text is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(text)
    with pytest.raises(RemoteCodeError, match=reason):
        auto("pt").from_pretrained(folder, trust_remote_code=True)


def test_mended_code_is_read_again(folder: Path) -> None:
    good = (folder / "modeling_tiny.py").read_text()
    (folder / "modeling_tiny.py").write_text("1 / 0")
    with pytest.raises(RemoteCodeError):
        auto("pt").from_pretrained(folder, trust_remote_code=True)
    (folder / "modeling_tiny.py").write_text(good)
    assert run("pt", auto("pt").from_pretrained(folder, trust_remote_code=True)).shape == (2, 3, 2)


def test_bad_arguments(folder: Path) -> None:
    for bad in ({"trust_remote_code": "yes"}, {"trust_remote_code": 1}, {"code_revision": "../x"}):
        with pytest.raises(ArgumentError):
            auto("pt").from_pretrained(folder, **{"trust_remote_code": True, **bad})
    change_config(folder, auto_map=["AutoModel"])
    with pytest.raises(ConfigError, match="auto_map is no mapping"):
        auto("pt").from_pretrained(folder, trust_remote_code=True)


@pytest.mark.parametrize(
    "imports",
    [
        "from transformers import PretrainedConfig, PreTrainedModel",
        "import torch, transformers\nPretrainedConfig = transformers.PretrainedConfig\n"
        "PreTrainedModel = transformers.PreTrainedModel",
        "import transformers.modeling_utils as there\nimport transformers.configuration_utils\n"
        "PreTrainedModel = there.PreTrainedModel\n"
        "PretrainedConfig = transformers.configuration_utils.PretrainedConfig",
    ],
)
def test_code_of_transformers_is_given_triptych_if_asked(imports: str, folder: Path) -> None:
    config = f"{imports}\n" + (folder / "configuration_tiny.py").read_text().replace("from triptych import", "# from")
    (folder / "configuration_tiny.py").write_text(config)
    model = (folder / "modeling_tiny.py").read_text().replace("from triptych import", "from transformers import")
    (folder / "modeling_tiny.py").write_text(model)
    options = {"trust_remote_code": True, "code_revision": None}
    with pytest.raises(RemoteCodeError):
        auto("pt").from_pretrained(folder, **options)
    loaded = auto("pt").from_pretrained(folder, in_place_of_transformers=True, **options)
    assert isinstance(loaded, triptych.PreTrainedModel)
    assert_close(run("pt", loaded), expected(folder))
    with pytest.raises(ArgumentError, match="in_place_of_transformers is no bool"):
        auto("pt").from_pretrained(folder, in_place_of_transformers="yes", **options)


# saving


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The code as an author has it: a package of its own."""
    shutil.copytree(CODE, tmp_path / "src/tiny_package", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "src/tiny_package/__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    return "tiny_package"


def own_class(package: str, framework: str) -> Any:
    return getattr(importlib.import_module(f"{package}.{MODULES[framework]}"), f"{PREFIXES[framework]}TinyModel")


@framework
def test_registered_classes_are_saved_with_their_code(framework: str, package: str, folder: Path) -> None:
    cls = own_class(package, framework)
    model = cls.from_pretrained(folder)
    plain = folder.parent / "plain"
    model.config.auto_map = {}
    model.save_pretrained(plain)
    assert not list(plain.glob("*.py")), "what is not registered is not saved"
    cls.config_class.register_for_auto_class()
    cls.register_for_auto_class()
    saved = folder.parent / "saved"
    model.save_pretrained(saved)
    files = {p.name for p in saved.glob("*.py")}
    assert files == {"configuration_tiny.py", "scale_tiny.py", f"{MODULES[framework]}.py"}
    assert all((saved / name).read_bytes() == (CODE / name).read_bytes() for name in files)
    name = f"{PREFIXES[framework]}AutoModel"
    wanted = {key: AUTO_MAP[key] for key in ("AutoConfig", name)}
    assert json.loads((saved / "config.json").read_text())["auto_map"] == wanted
    assert not getattr(model.config, "auto_map", None), "the model in memory is as it was"
    again = auto(framework).from_pretrained(saved, trust_remote_code=True)
    assert_close(run(framework, again), expected(folder))


def test_three_frameworks_save_into_one_folder_and_push_it(package: str, hub: Hub, folder: Path) -> None:
    saved = folder.parent / "saved"
    path: Path = folder
    for name in PACKAGES:
        cls = own_class(package, name)
        cls.config_class.register_for_auto_class()
        cls.register_for_auto_class()
        model = cls.from_pretrained(path)
        model.save_pretrained(saved)
        path = saved
    assert json.loads((saved / "config.json").read_text())["auto_map"] == AUTO_MAP
    model.push_to_hub(REPO, token=WRITER)
    pushed = {name for name in hub.tree(REPO) if name.endswith(".py")}
    assert pushed == {"configuration_tiny.py", "scale_tiny.py", "modeling_flax_tiny.py"}
    again = auto("flax").from_pretrained(REPO, token=WRITER, trust_remote_code=True)
    assert_close(run("flax", again), expected(folder))


def test_what_was_loaded_with_its_code_is_saved_with_it(hub: Hub, folder: Path) -> None:
    hub.create(REPO)
    hub.commit_folder(REPO, folder)
    saved = folder.parent / "saved"
    model = auto("tf").from_pretrained(REPO, trust_remote_code=True)
    model.save_pretrained(saved)
    assert {p.name for p in saved.glob("*.py")} == {"configuration_tiny.py", "scale_tiny.py", "modeling_tf_tiny.py"}
    auto_map = json.loads((saved / "config.json").read_text())["auto_map"]
    assert auto_map["TFAutoModel"] == AUTO_MAP["TFAutoModel"]
    assert auto_map["AutoModel"] == f"{REPO}--{AUTO_MAP['AutoModel']}", "the others are where they were"
    for name in PACKAGES:
        again = auto(name).from_pretrained(saved, trust_remote_code=True)
        assert_close(run(name, again), expected(folder))


@framework
def test_an_auto_class_of_another_framework_is_refused(framework: str, package: str) -> None:
    cls = own_class(package, framework)
    for name in ("AutoConfig", "MyAutoModel", *(f"{PREFIXES[f]}AutoModel" for f in PACKAGES if f != framework)):
        with pytest.raises(ArgumentError, match="is no auto class of"):
            cls.register_for_auto_class(name)


@framework
def test_tools_find_the_source(framework: str, hub: Hub, folder: Path) -> None:
    """AutoGraph turns the Python of a Keras call into a graph, and needs its source for that."""
    import inspect

    hub.create(REPO)
    hub.commit_folder(REPO, folder)
    for path in (REPO, folder):
        found = type(auto(framework).from_pretrained(path, trust_remote_code=True))
        assert inspect.getsource(found) in (CODE / f"{MODULES[framework]}.py").read_text()
        assert Path(sys.modules[found.__module__].__file__ or "").is_file()


def test_a_config_without_a_place_names_no_code() -> None:
    config = BertConfig(auto_map={"AutoModelForCausalLM": "evil.Model"})
    with pytest.raises(RemoteCodeError, match="does not say where"):
        triptych.AutoModelForCausalLM.from_config(config, trust_remote_code=True)


def test_a_config_alone(package: str, tmp_path: Path) -> None:
    cls = importlib.import_module(f"{package}.configuration_tiny").TinyConfig
    with pytest.raises(ArgumentError, match="no auto class of configs"):
        cls.register_for_auto_class("AutoModel")
    cls.register_for_auto_class()
    cls(hidden_size=4).save_pretrained(tmp_path / "config")
    config = AutoConfig.from_pretrained(tmp_path / "config", trust_remote_code=True)
    assert config.hidden_size == 4
    assert (tmp_path / "config/configuration_tiny.py").is_file()


def test_classes_that_cannot_be_saved_say_so(
    package: str, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cls = type("Typed", (PretrainedConfig,), {"__module__": "__main__"})
    cls.register_for_auto_class()
    cls().save_pretrained(tmp_path / "main")
    assert "is of __main__" in caplog.text
    assert [p.name for p in (tmp_path / "main").iterdir()] == ["config.json"]
    source = tmp_path / "src/tiny_package/scale_tiny.py"
    source.write_text("SCALE = 2.0\ndef f():\n    from ..a import b\n")
    own = own_class(package, "pt")
    own.register_for_auto_class()
    model = own.from_pretrained(folder)
    with pytest.raises(ArgumentError, match=r"from \.\.a import b"):
        model.save_pretrained(tmp_path / "outside")
    assert not (tmp_path / "outside").exists()
    source.write_text("SCALE = 2.0\ndef f():\n    from . import elsewhere\n")
    importlib.invalidate_caches()
    sys.modules.pop("tiny_package.scale_tiny")
    with pytest.raises(ArgumentError, match="imports what cannot be saved"):
        model.save_pretrained(tmp_path / "outside")
