"""The folder layout keeps the real frameworks importable, and imports load only what was asked for."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import triptych
from places import ROOT, TESTS
from triptych import names
from triptych.backends import is_installed

FRAMEWORKS = {"torch", "tensorflow", "keras", "jax", "flax"}
HUB_CLIENT = {"huggingface_hub", "httpx", "httpx2", "requests"}
COMPUTING = (
    "nn.attention", "nn.axes", "nn.cache", "nn.decoder_heads", "nn.encoder_heads", "nn.fitting", "nn.fixed_cache",
    "nn.functional", "nn.growing_cache", "nn.heads", "nn.outputs", "nn.parts", "nn.recording", "nn.rotary", "nn.stack",
    "weights.layouts", "weights.schema",
)  # fmt: skip
GOLDEN = ROOT / "tests/golden/bert-mlm"


def run(code: str, cwd: Path = ROOT) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def modules_after(statement: str) -> set[str]:
    return set(json.loads(run(f"import sys, json\n{statement}\nprint(json.dumps(list(sys.modules)))")))


def loaded_after(statement: str) -> set[str]:
    return modules_after(statement) & FRAMEWORKS


def test_source_roots_are_not_packages() -> None:
    for root in ("core", "pt", "tf", "flax", "conformance"):
        assert not (ROOT / root / "__init__.py").exists(), f"{root}/__init__.py hides an import"


def written_tests() -> list[Path]:
    return [path for folder in ("tests", "conformance") for path in sorted((ROOT / folder).rglob("*.py"))]


def is_test(path: Path) -> bool:
    return path.stem.startswith("test_") or path.stem == "conftest"


def imported_by(path: Path) -> set[str]:
    """Return the last part of the name of each module that a file imports, in functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or "", *(alias.name for alias in node.names)}
    return {name.rpartition(".")[2] for name in found}


def test_no_test_imports_from_another_test() -> None:
    tests = {path.stem for path in written_tests() if is_test(path)}
    assert {"test_layout", "test_schema", "conftest"} <= tests
    found = {path.relative_to(ROOT).as_posix(): imported_by(path) & tests for path in written_tests()}
    assert {path: names for path, names in found.items() if names} == {}


def test_the_tests_of_a_module_lie_where_it_lies() -> None:
    core = ROOT / "core/triptych"
    modules: dict[str, set[Path]] = {}
    for path in core.rglob("*.py"):
        modules.setdefault(path.stem, set()).add(path.parent.relative_to(core))
    for path in filter(is_test, TESTS.rglob("*.py")):
        folder = path.parent.relative_to(TESTS)
        if folder == Path("reliability"):  # a table of bad inputs and faults, whichever module meets them
            continue
        assert folder == Path("support") or (core / folder / "__init__.py").exists(), f"no room is called {folder}"
        places = modules.get(path.stem.removeprefix("test_"), {folder})
        assert folder in places, f"{path.stem} belongs in {places}"


def test_real_flax_from_the_repository_root() -> None:
    origin = run("import importlib.util as u; print(u.find_spec('flax').origin)")
    assert ROOT / "flax" not in Path(origin).parents  # the environment itself may lie in the repository


def test_a_folder_is_no_installed_framework(tmp_path: Path) -> None:
    (tmp_path / "notthere").mkdir()
    code = (
        "import sys; sys.path.insert(0, '.')\n"
        "from triptych.backends import is_installed; print(is_installed('notthere'))"
    )
    assert run(code, tmp_path) == "False"
    assert is_installed("json")


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("import triptych", set()),
        ("from triptych import PreTrainedModel", {"torch"}),
        ("from triptych import TFPreTrainedModel", {"tensorflow", "keras"}),
        ("from triptych import FlaxPreTrainedModel", {"jax", "flax"}),
        ("import triptych.pt", {"torch"}),
    ],
)
def test_only_the_framework_asked_for_is_imported(statement: str, expected: set[str]) -> None:
    assert loaded_after(statement) == expected


def test_no_module_of_core_imports_a_framework() -> None:
    backends = {"pt", "tf", "flax"}
    modules = [
        ".".join(path.relative_to(ROOT / "core").with_suffix("").parts)
        for path in (ROOT / "core/triptych").rglob("*.py")
        if path.stem not in backends
    ]
    imports = "\n".join(f"import {module.removesuffix('.__init__')}" for module in modules)
    assert loaded_after(imports) == set()


def test_base_and_auto_are_no_circle() -> None:
    """The auto classes are made of the base classes, which need their names only; imports in functions count too."""
    tree = ast.parse((ROOT / "core/triptych/modeling/base.py").read_text())
    assert "triptych.modeling.auto" not in {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}


def test_import_adds_little_to_numpy() -> None:
    # Counted in modules, which do not depend on the machine; `docs/architecture.md` has the measured time.
    code = "import sys, numpy; before = set(sys.modules); import triptych; print(len(set(sys.modules) - before))"
    assert int(run(code)) < 40


def test_a_missing_framework_is_named_with_its_remedy() -> None:
    code = (
        "import sys, importlib.util as u\n"
        "real = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'torch' else real(name, *a)\n"
        "import triptych\n"
        "try:\n    triptych.PreTrainedModel\nexcept ImportError as error:\n    print(type(error).__name__, error)"
    )
    message = run(code)
    assert message.startswith("MissingBackendError")
    assert "triptych[pt]" in message


def test_lazy_names_match_what_type_checkers_see() -> None:
    tree = ast.parse(Path(triptych.__file__).read_text())
    block = next(n for n in tree.body if isinstance(n, ast.If))
    imports = [n for n in block.body if isinstance(n, ast.ImportFrom)]
    stars = {n.module for n in imports if n.names[0].name == "*"}
    assert stars == {"triptych_pt", "triptych_tf", "triptych_flax", "triptych.errors"}
    static = {a.name: n.module for n in imports for a in n.names if a.name != "*"}
    lazy = {name: m for m, ns in names.CORE_MODULES.items() if m != "triptych.errors" for name in ns}
    assert static == lazy


def test_every_public_name_resolves() -> None:
    for name in triptych.__all__:
        assert getattr(triptych, name).__name__ == name


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="NoSuchThing"):
        triptych.NoSuchThing  # noqa: B018


def test_errors_module_is_exported_whole() -> None:
    from triptych import errors

    defined = {
        name for name, value in vars(errors).items() if isinstance(value, type) and value.__module__ == errors.__name__
    }
    assert defined == set(names.CORE_MODULES["triptych.errors"])


def test_lock_covers_every_requirement() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = {
        line.partition("==")[0].lower().replace("_", "-") for line in (ROOT / "requirements.lock").read_text().split()
    }
    extras = project["optional-dependencies"]
    asked = [
        *project["dependencies"],
        *extras["pt"],
        *extras["tf-cpu"],
        *extras["flax"],
        *extras["report"],
        *extras["dev"],
    ]
    wanted = {spec.split(">")[0].split("=")[0].split("[")[0].lower().replace("_", "-") for spec in asked} - {"triptych"}
    assert wanted <= locked, wanted - locked


def test_what_computes_needs_no_config_and_no_hub() -> None:
    loaded = modules_after("import " + ", ".join(f"triptych.{name}" for name in COMPUTING))
    assert "triptych.nn.encoder_heads" in loaded
    assert not loaded & {*HUB_CLIENT, "triptych.config", "triptych.hub", "triptych.hub.http", "triptych.hub.pushing"}


def test_reading_checkpoints_loads_neither_libhdf5_nor_the_client_of_the_hub() -> None:
    layouts = [str(path) for path in GOLDEN.glob("*-*")]
    loaded = modules_after(
        f"import triptych\nfor p in {layouts}:\n    assert [r.read() for r in triptych.open_checkpoint(p).values()]"
    )
    assert len(layouts) >= 9 and "triptych.formats.hdf5.file" in loaded and not loaded & {*HUB_CLIENT, "h5py"}


def test_only_writing_hdf5_loads_libhdf5(tmp_path: Path) -> None:
    def saved(format: str) -> set[str]:
        save = f"triptych.BertModel.from_pretrained({str(GOLDEN / 'tf-h5')!r}).save_pretrained({str(tmp_path)!r}"
        return modules_after(f"import triptych\n{save}, format={format!r})")

    assert not saved("msgpack") & {*HUB_CLIENT, "h5py"}
    assert "h5py" in saved("h5")
