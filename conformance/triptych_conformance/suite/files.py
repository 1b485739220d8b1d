"""What is saved is loaded, bit for bit, in every framework and format; what is damaged is refused by name."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from triptych.errors import CheckpointError, MissingFileError, ShapeMismatchError, TriptychError
from triptych.formats.kinds import FORMATS
from triptych.weights.schema import Weight
from triptych_conformance.hub.client import running
from triptych_conformance.hub.server import WRITER
from triptych_conformance.parity import Backend
from triptych_conformance.suite.arrays import add_one, assert_same, differences, stored, write
from triptych_conformance.suite.base import SubjectTests, needs
from triptych_conformance.suite.subject import Subject

DTYPES = {"bfloat16": np.dtype(ml_dtypes.bfloat16), "float16": np.dtype(np.float16)}
OTHER_FORMATS = [name for name in FORMATS if name != "safetensors"]
STRANGER = {"no_such_layer.weight": np.ones(2, np.float32)}
REPO = "org/model"
REFUSAL = "(?s)Expected.*Received"
"""What an error of triptych says before the names."""


class FileTests(SubjectTests):
    """Saves and loads. What is compared are weights, by name, shape, dtype and every bit."""

    # -- there and back -------------------------------------------------------------------------------------------

    def test_save(self, subject: Subject, backend: Backend) -> None:
        folder = subject.saved(backend)
        assert_same(stored(folder), _expected(subject), f"model.safetensors, saved by {backend.name}")
        config = json.loads((folder / "config.json").read_text())
        assert config["architectures"] == [subject.stem], "config.json names another class"
        left = [path.name for path in folder.iterdir() if path.name.startswith(".")]
        assert not left, f"the save left {left} in the folder"

    def test_conversions(self, subject: Subject, saver: Backend, backend: Backend) -> None:
        model = subject.fresh(backend, subject.saved(saver), strict=True)
        found = _without_left_out(subject, backend.weights(model))
        assert_same(found, _expected(subject), f"saved by {saver.name} and loaded by {backend.name}")

    def test_shards(self, subject: Subject, backend: Backend) -> None:
        """Those of each framework are loaded by the next."""
        folder, expected = subject.saved(backend, shards=True), _expected(subject)
        assert_same(stored(folder), expected, f"saved in shards by {backend.name}")
        shards = list(folder.glob("model-*-of-*.safetensors"))
        assert len(shards) > 1 or len(expected) == 1, f"max_shard_size gave {len(shards)} shards"
        loader = _next(subject, backend)
        found = _without_left_out(subject, loader.weights(subject.fresh(loader, folder, strict=True)))
        assert_same(found, expected, f"saved in shards by {backend.name} and loaded by {loader.name}")

    @pytest.mark.parametrize("format", OTHER_FORMATS)
    def test_formats(self, subject: Subject, backend: Backend, format: str, tmp_path: Path) -> None:
        """A framework loads what it saved in its own names; anything else, the reference does."""
        subject.model(backend).save_pretrained(tmp_path, format=format)
        files = {path.name for path in tmp_path.iterdir()}
        assert FORMATS[format].single in files, f"there are {files}"
        loader = backend if FORMATS[format].flavour == backend.name else subject.reference
        found = _without_left_out(subject, loader.weights(subject.fresh(loader, tmp_path, strict=True)))
        assert_same(found, _expected(subject), f"{format}, saved by {backend.name} and loaded by {loader.name}")

    def test_save_over_the_loaded_folder(self, subject: Subject, backend: Backend, tmp_path: Path) -> None:
        """In shards, then in one file: nothing of the shards stays, and the model keeps what it has mapped."""
        folder = Path(shutil.copytree(subject.saved(backend), tmp_path / "folder"))
        model, expected = subject.fresh(backend, folder), _expected(subject)
        model.save_pretrained(folder, max_shard_size=subject.shard_size)
        assert_same(stored(folder), expected, "saved in shards over the folder that it was loaded from")
        model.save_pretrained(folder)
        assert_same(stored(folder), expected, "saved in one file over its shards")
        found, wanted = ({path.name for path in one.iterdir()} for one in (folder, subject.saved(backend)))
        assert found == wanted, "a save in one file over shards leaves other files than one into a new folder"
        weights = _without_left_out(subject, backend.weights(model))
        assert_same(weights, expected, "the live model, after its files were replaced")

    def test_variants_and_given_weights(self, subject: Subject, backend: Backend, tmp_path: Path) -> None:
        """Other weights, given as state_dict=, are saved beside as a variant: each loads by its name alone."""
        expected = _expected(subject)
        others = {name: np.asarray(array + np.ones((), array.dtype)) for name, array in expected.items()}
        subject.model(backend).save_pretrained(tmp_path, variant="other", state_dict=others)
        with pytest.raises(MissingFileError):
            subject.fresh(backend, tmp_path)
        subject.model(backend).save_pretrained(tmp_path)
        assert_same(stored(tmp_path), expected, "saved beside a variant")
        model = subject.fresh(backend, tmp_path, variant="other", strict=True)
        assert_same(_without_left_out(subject, backend.weights(model)), others, "the variant")

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_files_of_low_precision(self, subject: Subject, backend: Backend, dtype: str, tmp_path: Path) -> None:
        """A save keeps the dtype of each weight; loaded as they are, bfloat16, or as float32, float16."""
        low = subject.fresh(backend, param_dtype=dtype)
        low.save_pretrained(tmp_path)
        expected = _cast(subject, low, dtype)
        assert_same(stored(tmp_path), expected, f"saved as {dtype}")
        assert json.loads((tmp_path / "config.json").read_text())["dtype"] == dtype, "config.json names another dtype"
        asked = "auto" if dtype == "bfloat16" else "float32"
        model = subject.fresh(backend, tmp_path, param_dtype=asked, strict=True)
        if asked == "float32":
            expected = {n: a.astype(np.float32) if a.dtype == DTYPES[dtype] else a for n, a in expected.items()}
        found = _without_left_out(subject, backend.weights(model))
        assert_same(found, expected, f"{dtype}, loaded with param_dtype={asked!r}")

    def test_given_weights_stand_for_files(self, subject: Subject, backend: Backend) -> None:
        given, expected = _all(subject), _all(subject)
        model = subject.cls(backend).from_pretrained(None, config=subject.config, state_dict=given, strict=True)
        for array in given.values():
            array += np.ones((), array.dtype)
        assert_same(backend.weights(model), expected, "loaded from state_dict=, which was changed afterwards")

    def test_two_loads_are_independent(self, subject: Subject, backend: Backend) -> None:
        expected, before = _all(subject), subject.weights(backend)
        model, info = subject.fresh(backend, output_loading_info=True)
        assert not any(info.values()), f"output_loading_info of the whole checkpoint says {info}"
        assert model.load_report.assigned.keys() == expected.keys(), "load_report.assigned"
        add_one(backend, model)
        assert differences(backend.weights(model), expected), "the model that was to be changed is as before"
        assert_same(subject.weights(backend), before, "a model, after another one of the same folder was changed")
        assert_same(_all(subject), expected, "the file, after a model that was loaded from it was changed")

    @pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's own
    def test_hub(self, subject: Subject, backend: Backend, tmp_path: Path) -> None:
        """push_to_hub, and from_pretrained of the repository, with a hub on this machine."""
        with running(tmp_path) as hub:
            subject.model(backend).push_to_hub(REPO, token=WRITER)
            assert {"config.json", "model.safetensors"} <= set(hub.tree(REPO)), f"pushed: {sorted(hub.tree(REPO))}"
            model = subject.cls(backend).from_pretrained(REPO, token=WRITER, strict=True)
            found = _without_left_out(subject, backend.weights(model))
            assert_same(found, _expected(subject), "pushed and loaded by the name of the repository")

    def test_origin_loads_what_is_saved(self, subject: Subject, backend: Backend, origin: Any) -> None:
        outputs = origin.loading(subject.saved(backend, shards=True))
        wrong = [name for name, array in origin.run.outputs.items() if not np.array_equal(outputs.get(name), array)]
        assert not wrong, f"the origin loads other weights: {', '.join(wrong)} differ"

    def test_what_the_origin_saves_is_loaded(self, subject: Subject, backend: Backend, origin: Any) -> None:
        model = subject.fresh(backend, origin.saved, strict=True)
        assert_same(backend.weights(model), _all(subject), "saved by the origin")

    # -- what does not fit ----------------------------------------------------------------------------------------

    def test_missing_weight_is_refused(self, subject: Subject, backend: Backend, tmp_path: Path) -> None:
        arrays, weight = _all(subject), _needed(subject, backend)[-1]
        del arrays[weight.name]
        with pytest.raises(CheckpointError, match=f"{REFUSAL}.*{re.escape(weight.name)}"):
            subject.fresh(backend, write(tmp_path, arrays, subject.folder))

    def test_unexpected_weight_is_refused(self, subject: Subject, backend: Backend, tmp_path: Path) -> None:
        write(tmp_path, _all(subject) | STRANGER, subject.folder)
        with pytest.raises(CheckpointError, match=f"{REFUSAL}.*{re.escape(*STRANGER)}"):
            subject.fresh(backend, tmp_path, strict=True)

    def test_wrong_shape_is_refused(self, subject: Subject, backend: Backend, tmp_path: Path) -> None:
        weight = _needed(subject, backend)[-1]
        wrong = _longer(weight)
        write(tmp_path, _all(subject) | {weight.name: wrong}, subject.folder)
        with pytest.raises(ShapeMismatchError) as refused:
            subject.fresh(backend, tmp_path)
        for said in (weight.name, str(wrong.shape), str(weight.shape)):
            assert said in str(refused.value), f"the refusal does not say {said}"

    def test_what_does_not_fit_is_reported(self, subject: Subject, backend: Backend, tmp_path: Path) -> None:
        """With strict=False and ignore_mismatched_sizes=True: what is new, and why; all else is as in the file."""
        arrays, (*others, gone) = _all(subject), _needed(subject, backend)
        other = others[0] if others else None
        wrong = {} if other is None else {other.name: _longer(other)}
        given = {name: array for name, array in arrays.items() if name != gone.name} | wrong | STRANGER
        model, info = subject.fresh(backend, write(tmp_path, given, subject.folder), strict=False,
                                    ignore_mismatched_sizes=True, output_loading_info=True)  # fmt: skip
        expected = {"missing_keys": [gone.name], "unexpected_keys": [*STRANGER], "error_msgs": [],
                    "mismatched_keys": [(n, a.shape, arrays[n].shape) for n, a in wrong.items()]}  # fmt: skip
        assert info == expected, "output_loading_info"
        found = backend.weights(model)
        new = {gone.name, *wrong}
        for name in new & found.keys():
            assert found[name].shape == arrays[name].shape, f"the new {name}"
            assert np.isfinite(found[name].astype(np.float64)).all(), f"the new {name} is not finite"
            found[name] = arrays[name]
        assert_same(found, arrays, f"loaded without {' and '.join(new)}")

    @pytest.mark.parametrize("shards", [False, True], ids=["file", "shard"])
    def test_torn_file_is_refused(self, subject: Subject, backend: Backend, shards: bool, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(subject.saved(subject.reference, shards), tmp_path / "folder"))
        file = sorted(folder.glob("*.safetensors"))[-1]
        file.write_bytes(file.read_bytes()[:-1])
        with pytest.raises(TriptychError, match=re.escape(file.name)):
            subject.fresh(backend, folder)

    # -- heads and backbones --------------------------------------------------------------------------------------

    @needs("base")
    def test_base_and_head(self, subject: Subject, backend: Backend, tmp_path: Path) -> None:
        """A model with a head loads what its backbone has saved, under names without prefix, and makes a new head; a
        backbone loads what a model with a head has saved."""
        schema = subject.model(backend).schema
        prefix, arrays = f"{schema.base_prefix}.", _all(subject)
        heads = {} if schema.is_base else {n: a for n, a in arrays.items() if not n.startswith(prefix)}
        kept = {name: array for name, array in arrays.items() if name not in heads}
        if schema.is_base:
            given = {prefix + name: array for name, array in kept.items()} | STRANGER
        else:
            given = {name.removeprefix(prefix): array for name, array in kept.items()}
        write(tmp_path, given, subject.folder)
        model, info = subject.fresh(backend, tmp_path, output_loading_info=True)
        assert info["unexpected_keys"] == ([*STRANGER] if schema.is_base else [])
        assert sorted(info["missing_keys"]) == sorted(heads)
        weights = backend.weights(model)
        found = {name: array for name, array in weights.items() if name not in heads}
        assert_same(found, kept, f"loaded from a file {'with' if schema.is_base else 'without'} {prefix} before names")

    # -- ties and buffers -----------------------------------------------------------------------------------------

    @needs("ties")
    def test_ties_are_saved_once(self, subject: Subject, backend: Backend) -> None:
        model = subject.model(backend)
        ties = _ties(model.schema)
        twice = ties.keys() & stored(subject.saved(backend)).keys()
        assert not twice, f"saved although they are tied: {sorted(twice)}"
        found = _ties(model._derive_schema())
        assert found == ties, f"after a load the live model ties {found}, not {ties}"

    @needs("ties")
    def test_equal_copies_stay_tied(self, subject: Subject, backend: Backend, tmp_path: Path) -> None:
        arrays, ties = _all(subject), _ties(subject.model(backend).schema)
        copies = {name: arrays[source] for name, source in ties.items()}
        write(tmp_path, arrays | copies, subject.folder)
        model = subject.fresh(backend, tmp_path, strict=True)
        assert _ties(model.schema) == ties, "a file that holds equal copies ended the tie"
        assert model.num_parameters() == subject.model(backend).num_parameters()
        assert_same(backend.weights(model), arrays, "loaded from a file with copies of tied weights")

    @needs("ties")
    def test_differing_copies_are_kept_or_refused(self, subject: Subject, backend: Backend, tmp_path: Path) -> None:
        """A tie of the config ends where the file has values of its own; one of the model itself cannot."""
        arrays, schema = _all(subject), subject.model(backend).schema
        name, source = next(iter(_ties(schema).items()))
        flag = schema[name].untie_flag
        others = {n: arrays[s] + 1 for n, s in _ties(schema).items() if schema[n].untie_flag == flag}
        write(tmp_path, arrays | others, subject.folder)
        try:
            model = subject.fresh(backend, tmp_path)
        except TriptychError as refusal:
            can = flag is not None and subject.model(backend).declared_schema is not None
            assert not can, f"refused, though {flag} ends the tie"
            assert name in str(refusal), f"the refusal does not name {name}"
            return
        assert set(model.load_report.untied) == set(others), "load_report.untied"
        assert flag is not None and getattr(model.config, flag) is False, "the config says that the two are tied"
        assert_same(backend.weights(model), arrays | others, f"loaded from a file in which {name} is not {source}")

    @needs("buffers")
    def test_buffers_are_saved(self, subject: Subject, backend: Backend, tmp_path: Path) -> None:
        buffers = {weight.name for weight in subject.model(backend).schema.stored() if weight.buffer}
        absent = buffers - stored(subject.saved(backend)).keys()
        assert not absent, f"buffers that the file lacks: {sorted(absent)}"
        arrays, made = _all(subject), backend.weights(subject.new(backend))
        able = {n for n in buffers if not subject.model(backend).schema[n].is_statistic}
        write(tmp_path, {n: a for n, a in arrays.items() if n not in able}, subject.folder)
        expected = {name: made[name] if name in able else array for name, array in arrays.items()}
        found = backend.weights(subject.fresh(backend, tmp_path))
        assert_same(found, expected, "loaded from a file without buffers, which stay as they are made")


def _all(subject: Subject) -> dict[str, np.ndarray]:
    """Return what the checkpoint of the subject holds."""
    return stored(subject.folder)


def _expected(subject: Subject) -> dict[str, np.ndarray]:
    """Return what a save of it holds."""
    return _without_left_out(subject, _all(subject))


def _without_left_out(subject: Subject, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return `arrays` without the weights that the class says it does not save."""
    left_out = subject.cls(subject.reference)._keys_to_ignore_on_save or ()
    return {name: array for name, array in arrays.items() if name not in left_out}


def _next(subject: Subject, backend: Backend) -> Backend:
    place = subject.backends.index(backend) + 1
    return subject.backends[place % len(subject.backends)]


def _needed(subject: Subject, backend: Backend) -> list[Weight]:
    """Return the weights of the backbone for which nothing can stand in."""
    patterns = subject.cls(backend)._keys_to_ignore_on_load_missing or ()
    able = [weight for weight in subject.model(backend).schema.stored() if weight.backbone and not weight.buffer]
    able = [weight for weight in able if not any(re.search(pattern, weight.name) for pattern in patterns)]
    return [weight for weight in able if weight.shape]


def _longer(weight: Weight) -> np.ndarray:
    return np.zeros((weight.shape[0] + 1, *weight.shape[1:]), np.float32)


def _ties(schema: Any) -> dict[str, str]:
    return {weight.name: weight.tied_to for weight in schema.values() if weight.tied_to}


def _cast(subject: Subject, model: Any, dtype: str) -> dict[str, np.ndarray]:
    """Return the saved arrays in `dtype`, but integers and what the class keeps in float32."""
    kept = subject.cls(subject.reference)._keep_in_fp32_modules or () if dtype == "float16" else ()
    whole = {name for name in model.schema if any(part in kept for part in name.split("."))}
    return {name: array if name in whole or array.dtype != np.float32 else array.astype(DTYPES[dtype])
            for name, array in _expected(subject).items()}  # fmt: skip
