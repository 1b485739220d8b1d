"""Rows of the contract about saving, pushing, and the arguments and messages of a load."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from small_models import SMALL
from triptych import ArgumentError, BertConfig, GPT2Config, TensorRef, TriptychError, save_checkpoint
from triptych.formats.kinds import MSGPACK, OWN
from triptych.formats.safetensors import open_safetensors
from triptych_conformance import Backend
from walk import row, state

FRAMEWORKS = {"pt": "Y", "tf": "Y", "flax": "Y"}


def small(backend: Backend, stem: str = "BertForSequenceClassification", **changes: Any) -> Any:
    return backend.cls(stem)(BertConfig(**{**SMALL["bert"], **changes}))


def saved(backend: Backend, folder: Path, **changes: Any) -> Any:
    model = small(backend, **changes)
    model.save_pretrained(folder)
    return model


def same(backend: Backend, one: Any, other: Any) -> bool:
    first, second = backend.weights(one), backend.weights(other)
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


@contextmanager
def messages(level: int = logging.WARNING) -> Iterator[list[str]]:
    """Collect what triptych logs at `level` or above."""
    found: list[str] = []
    handler = logging.Handler(level)
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("triptych")
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)


def edited(folder: Path, change: Any) -> None:
    """Rewrite the weights of `folder` as `change` makes them of a dict of arrays."""
    file = folder / "model.safetensors"
    arrays = {name: np.array(array) for name, array in load_file(file).items()}
    save_file(change(arrays), file, {"format": "pt"})


def own_class() -> Any:
    """Return a PyTorch class that declares nothing, with a norm and a linear layer."""
    from torch import nn

    from triptych import PretrainedConfig, PreTrainedModel

    class Plain(PreTrainedModel):
        config_class = PretrainedConfig
        base_model_prefix = ""

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.LayerNorm = nn.LayerNorm(3)
            self.line = nn.Linear(3, 3)
            self.post_init()

    return Plain


# -- section 1


@row("1.6", note="the error names the format and the remedy", pt="R", tf="R", flax="R")
@row("5.5.52", note="a checkpoint of TensorFlow 1 is refused by name", pt="R")
@row("5.5.4", note="a checkpoint of TensorFlow 1 is refused by name", pt="R")
def a_checkpoint_of_tensorflow_1(backend: Backend, folder: Path) -> None:
    saved(backend, folder)
    (folder / "model.safetensors").unlink()
    (folder / "model.ckpt.index").write_bytes(b"x")
    for path in (folder, folder / "model.ckpt.index", folder / "model.ckpt"):
        with pytest.raises(TriptychError, match="checkpoint of TensorFlow 1, which is not read.*transformers 4"):
            backend.load("BertForSequenceClassification", path)


@row(
    "1.10",
    note="where their names are in use, one shard more; `model.g<save id>-...` if none can be divided, and for msgpack",
    **FRAMEWORKS,
)
def shards_have_conventional_names(backend: Backend, folder: Path) -> None:
    model = small(backend)
    for _ in range(3):
        model.save_pretrained(folder, max_shard_size="5KB")
        names = sorted(path.name for path in folder.glob("model*.safetensors"))
        assert names == [f"model-{k:05d}-of-{len(names):05d}.safetensors" for k in range(1, len(names) + 1)]
        assert len(names) > 2
    assert same(backend, backend.load("BertForSequenceClassification", folder), model)


@row("1.15", note="'pt', which all readers take; format='safetensors-tf' writes 'tf'", tf="Y", flax="Y")
@row("1.16", note="PyTorch's, so that one file is for all; format='safetensors-tf' writes TF's", tf="Y", flax="Y")
def safetensors_of_each_framework(backend: Backend, folder: Path) -> None:
    model = small(backend)
    for format, kind in (("safetensors", "pt"), (f"safetensors-{backend.name}", backend.name)):
        model.save_pretrained(folder, format=format)
        file = open_safetensors(folder / "model.safetensors")
        assert file.metadata["format"] == kind
        assert ("classifier.weight" in file.tensors) == (kind == "pt")
        assert same(backend, backend.load("BertForSequenceClassification", folder), model)


@row("1.19", note="True in all three: safetensors, which every reader prefers", tf="Y", flax="Y")
@row("6.86", note="True by default", tf="Y")
@row("1.17", note="5GB in all three", flax="Y")
@row("1.18", note="5GB in all three", tf="Y")
def an_older_format_is_asked_for(backend: Backend, folder: Path) -> None:
    model = saved(backend, folder)
    assert {path.name for path in folder.iterdir()} >= {"model.safetensors"}
    model.save_pretrained(folder, safe_serialization=False)
    assert (folder / OWN[backend.name].single).is_file()
    assert same(backend, backend.load("BertForSequenceClassification", folder), model)


@row(
    "1.27",
    note="what some reader would take in place of the new: `<name>.stale`, or deleted if a save of ours wrote it",
    **FRAMEWORKS,
)
def weights_of_other_formats_survive(backend: Backend, folder: Path) -> None:
    model = small(backend)
    others = ["pytorch_model.bin", "tf_model.h5", "flax_model.msgpack"]
    for name in others:
        (folder / name).write_bytes(name.encode())
    with messages() as said:
        model.save_pretrained(folder)
    assert [text for text in said if "flax_model.msgpack.stale" in text], "v4's Flax classes take it first"
    kept = [*others[:2], "flax_model.msgpack.stale"]
    assert [(folder / name).read_bytes().decode() for name in kept] == others
    assert same(backend, backend.load("BertForSequenceClassification", folder), model)
    model.save_pretrained(folder, remove_stale=True)
    assert not [name for name in others if (folder / name).exists()]


@row("1.8", pt="R", note="an adapter alone is refused by name; merge it into its model with peft")
def an_adapter(backend: Backend, folder: Path) -> None:
    saved(backend, folder)
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    with pytest.raises(TriptychError, match="holds an adapter.*peft"):
        backend.load("BertForSequenceClassification", folder)


@row("1.24", note="and TB and fractions; bits of binary units are refused", **FRAMEWORKS)
def size_texts(backend: Backend, folder: Path) -> None:
    model = small(backend)
    for number, size in enumerate((5000, "5KB", "40Kb", "4.9KiB", "0.000005GB")):
        model.save_pretrained(folder / str(number), max_shard_size=size)
        assert (folder / str(number) / "model.safetensors.index.json").is_file()
    for size in ("1TB", "8Gb", 10**9):
        model.save_pretrained(folder / "one", max_shard_size=size)
        assert (folder / "one/model.safetensors").is_file()


# -- section 4: what needs a Hub is shown by tests/hub/test_pushing.py

for number, note in {
    "4.2": "", "4.3": "None never saves into a folder that happens to be there", "4.12": "", "4.13": "",
    "4.14": "ignore_metadata_errors: a card that cannot be read is left as it is, with a warning",
    "4.17": "library_name: triptych; tags are added to a card that is there",
    "4.18": "a folder named like the repository with use_temp_dir=False only",
    "4.19": "all files that the save wrote, in one commit; the Hub stores none twice",
    "4.20": "by the rule of 1.27, within the commit", "4.21": "", "4.23": "", "4.24": "", "4.25": "",
}.items():  # fmt: skip
    state(number, note or "tests/hub shows it, against a hub of its own", pt="Y")


# -- arguments of a load


@row("5.5.3", pt="Y", note="any format; the config beside it, or config=")
def a_weights_file(backend: Backend, folder: Path) -> None:
    model = saved(backend, folder)
    model.save_pretrained(folder / "shards", max_shard_size="9KB")
    for path in (folder / "model.safetensors", folder / "shards/model.safetensors.index.json"):
        assert same(backend, backend.load("BertForSequenceClassification", path), model)
    moved = folder / "alone/renamed.safetensors"
    moved.parent.mkdir()
    (folder / "model.safetensors").rename(moved)
    assert same(backend, backend.load("BertForSequenceClassification", str(moved), config=model.config), model)
    with pytest.raises(TriptychError):
        backend.load("BertForSequenceClassification", moved)


@row("5.5.5", pt="R", note="name the repository, or download the files")
def a_url(backend: Backend, folder: Path) -> None:
    with pytest.raises(ArgumentError, match="loaded from an? (URL|address)"):
        backend.load("BertModel", "https://hub.example/org/model/resolve/main/pytorch_model.bin")


HARMLESS: dict[str, list[Any]] = {
    "5.5.15": [{"weights_only": True}, {"weights_only": False}],
    "5.5.25": [{"max_memory": {0: "1GB"}}],
    "5.5.26": [{"offload_folder": "x"}],
    "5.5.27": [{"offload_buffers": True}],
    "5.5.45": [{"_from_pipeline": "x"}, {"_from_auto": True}, {"_commit_hash": "0" * 40}],
    "5.5.46": [{"low_cpu_mem_usage": True}, {"low_cpu_mem_usage": False}],
    "5.5.47": [{"_fast_init": False}],
    "5.5.48": [{"offload_state_dict": True}],
    "5.5.49": [{"resume_download": True}],
    "5.5.50": [{"mirror": "x"}],
}
EFFECTS: dict[str, tuple[list[Any], list[Any]]] = {
    "5.5.24": ([{"device_map": "cpu"}, {"device_map": {"": "cpu"}}, {"device_map": None}], [{"device_map": "auto"}]),
    "5.5.28": ([{"load_in_8bit": False}], [{"load_in_8bit": True}]),
    "5.5.29": ([{"load_in_4bit": False}], [{"load_in_4bit": True}]),
    "5.5.30": ([{"quantization_config": None}], [{"quantization_config": {"bits": 4}}]),
    "5.5.33": ([{"adapter_kwargs": None}, {"adapter_kwargs": {}}], [{"adapter_kwargs": {"revision": "x"}}]),
    "5.5.34": ([{"adapter_name": "default"}], [{"adapter_name": "mine"}]),
    "5.5.36": ([{"gguf_file": None}], [{"gguf_file": "x.gguf"}]),
    "5.5.37": ([{"tp_plan": None}], [{"tp_plan": "auto"}]),
    "5.5.38": ([{"tp_size": None}], [{"tp_size": 2}]),
    "5.5.39": ([{"distributed_config": None}], [{"distributed_config": {}}]),
    "5.5.40": ([{"device_mesh": None}], [{"device_mesh": "x"}]),
    "5.5.42": ([{"use_kernels": False}], [{"use_kernels": True}]),
}


def accepts(*groups: dict[str, Any]) -> Any:
    def probe(backend: Backend, folder: Path) -> None:
        model = saved(backend, folder)
        for arguments in groups:
            assert same(backend, backend.load("BertForSequenceClassification", folder, **arguments), model)

    return probe


def refuses(fine: list[Any], bad: list[Any]) -> Any:
    def probe(backend: Backend, folder: Path) -> None:
        accepts(*fine)(backend, folder)
        for arguments in bad:
            with pytest.raises(ArgumentError, match=f"{next(iter(arguments))} is not supported"):
                backend.load("BertForSequenceClassification", folder, **arguments)

    return probe


for number, groups in HARMLESS.items():
    row(number, note="accepted; it has nothing to do", pt="Y")(accepts(*groups))
for number, (fine, bad) in EFFECTS.items():
    row(number, note="accepted where it has no effect; any other value is refused by name, with what to do", pt="R")(
        refuses(fine, bad)
    )
for number in ("5.5.83", "5.5.84", "5.5.85"):
    row(number, note="refused by name: the whole model is loaded, to be moved", pt="R")(
        refuses([], [{"device_map": "balanced"}, {"device_map": 0}, {"device_map": {"": "cuda:0"}}])
    )
state("5.5.86", "there is no device_map", pt="R")
state("5.5.87", "there is no device_map", pt="R")
row("7.56", note="None and 'cpu' are accepted", flax="R")(refuses([{"device_map": "cpu"}], [{"device_map": "auto"}]))


@row("5.5.21", pt="Y", note="FutureWarning")
def use_auth_token(backend: Backend, folder: Path) -> None:
    model = saved(backend, folder)
    with pytest.warns(FutureWarning, match="use_auth_token is deprecated"):
        assert same(backend, backend.load("BertForSequenceClassification", folder, use_auth_token="hf_x"), model)
    with pytest.raises(ArgumentError, match="one argument"):
        backend.load("BertForSequenceClassification", folder, use_auth_token="hf_x", token="hf_y")


@row("5.5.43", pt="Y")
@row("5.5.92", pt="Y")
@row("11.19", note="max_memory and weights_only have nothing to do", **FRAMEWORKS)
def key_mapping(backend: Backend, folder: Path) -> None:
    model = saved(backend, folder)
    edited(folder, lambda arrays: {"old." + name.replace("classifier", "head"): a for name, a in arrays.items()})
    mapping = {r"^old\.head": "classifier", r"^old\.": ""}
    harmless = {"weights_only": True, "max_memory": {}}
    loaded = backend.load("BertForSequenceClassification", folder, key_mapping=mapping, **harmless)
    assert same(backend, loaded, model)
    assert not loaded.load_report.missing_keys
    with pytest.raises(TriptychError, match="several tensors for one name"):
        backend.load("BertForSequenceClassification", folder, key_mapping={".*": "x"})
    with pytest.raises(ArgumentError, match="no regular expression"):
        backend.load("BertForSequenceClassification", folder, key_mapping={"(": "x"})


@row("5.4.19", pt="Y", note="applied to names that the model does not know")
def checkpoint_conversion_mapping(backend: Backend, folder: Path) -> None:
    class Renamed(backend.cls("BertForSequenceClassification")):  # type: ignore[misc]
        _checkpoint_conversion_mapping = {"^trunk": "bert", "^bert": "bert.bert"}

    model = saved(backend, folder)
    assert same(backend, Renamed.from_pretrained(folder), model)
    edited(folder, lambda arrays: {re.sub("^bert", "trunk", name): array for name, array in arrays.items()})
    assert same(backend, Renamed.from_pretrained(folder), model)


@row("5.4.42", pt="Y", note="a name, or as since 4.50 a name and whether it is another")
def fix_state_dict_key(backend: Backend, folder: Path) -> None:
    class Renamed(backend.cls("BertForSequenceClassification")):  # type: ignore[misc]
        @staticmethod
        def _fix_state_dict_key_on_load(key: str) -> Any:
            return key.replace("HEAD", "classifier"), "HEAD" in key

        @staticmethod
        def _fix_state_dict_key_on_save(key: str) -> Any:
            return key.replace("classifier", "HEAD")

    model = Renamed(BertConfig(**SMALL["bert"]))
    model.save_pretrained(folder)
    assert "HEAD.weight" in load_file(folder / "model.safetensors")
    assert same(backend, Renamed.from_pretrained(folder), model)


# -- which files, and what they say


@row("5.5.55", pt="Y", note="they load without a flag")
def older_formats_need_no_flag(backend: Backend, folder: Path) -> None:
    model = small(backend)
    for format in ("h5", "msgpack"):
        model.save_pretrained(folder / format, format=format)
        assert same(backend, backend.load("BertForSequenceClassification", folder / format), model)


state("5.5.57", "no conversion is looked for: a .bin is read without running anything", pt="R")
state("5.5.58", "no conversion is asked for: a .bin is read without running anything", pt="R")


@row("5.5.59", pt="Y")
def a_variant_that_is_not_there(backend: Backend, folder: Path) -> None:
    saved(backend, folder)
    with pytest.raises(TriptychError, match=r"no weights of variant 'fp16'.*leave variant out.*model\.safetensors"):
        backend.load("BertForSequenceClassification", folder, variant="fp16")


@row("5.5.62", pt="Y")
@row("7.60", flax="Y", note="or mlx, or none: then the names decide")
def an_unknown_format_in_the_metadata(backend: Backend, folder: Path) -> None:
    model = saved(backend, folder)
    arrays = load_file(folder / "model.safetensors")
    for said in ({"format": "mlx"}, None):
        save_file(arrays, folder / "model.safetensors", said)
        assert same(backend, backend.load("BertForSequenceClassification", folder), model)
    save_file(arrays, folder / "model.safetensors", {"format": "numpy"})
    with pytest.raises(TriptychError, match="unknown format"):
        backend.load("BertForSequenceClassification", folder)


@row("7.58", flax="Y", note="safetensors first in all three; a warning names the msgpack beside them")
def safetensors_go_before_msgpack(backend: Backend, folder: Path) -> None:
    model, other = small(backend), small(backend)
    other.save_pretrained(folder / "other", format="msgpack")
    model.save_pretrained(folder)
    (folder / "other" / MSGPACK.single).rename(folder / MSGPACK.single)
    with messages() as said:
        assert same(backend, backend.load("BertForSequenceClassification", folder), model)
    assert [text for text in said if "flax_model.msgpack beside it" in text]
    with messages() as said:
        assert same(backend, backend.load("BertForSequenceClassification", folder, from_flax=True), other)
    assert not said


state("5.6.26", "there are no device maps", pt="R")
state("5.6.27", "there are no adapters", pt="R")

# -- names in the checkpoint, and the report


@row("5.5.90", pt="Y", note="of any norm; elsewhere a name is a name")
def gamma_and_beta(backend: Backend, folder: Path) -> None:
    cls = own_class()
    model = cls(cls.config_class())
    model.save_pretrained(folder)
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    edited(folder, lambda arrays: {old.get(name, name): array + 1 for name, array in arrays.items()})
    loaded = cls.from_pretrained(folder)
    assert not loaded.load_report.missing_keys
    assert loaded.LayerNorm.weight.tolist() == [2, 2, 2]
    assert loaded.LayerNorm.bias.tolist() == [1, 1, 1]


@row("5.5.91", pt="Y")
def weight_norm_of_both_kinds(backend: Backend, folder: Path) -> None:
    from torch import nn
    from torch.nn.utils import parametrizations

    def classes() -> Iterator[Any]:
        for norm in (nn.utils.weight_norm, parametrizations.weight_norm):

            class Normed(own_class()):  # type: ignore[misc]
                wrap = staticmethod(norm)

                def __init__(self, config: Any) -> None:
                    super().__init__(config)
                    self.wrap(self.line)

            yield Normed

    old, new = classes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch deprecates the older one
        for one, other in ((old, new), (new, old)):
            model = one(one.config_class())
            model.save_pretrained(folder)
            loaded = other.from_pretrained(folder)
            assert not loaded.load_report.missing_keys
            stored, live = load_file(folder / "model.safetensors"), backend.weights(loaded)
            assert sorted(map(str, stored)) != sorted(live)
            for stem in ("line.weight_g", "line.weight_v"):
                twin = stem.replace("weight_g", "parametrizations.weight.original0")
                twin = twin.replace("weight_v", "parametrizations.weight.original1")
                pair = [arrays[name] for arrays in (stored, live) for name in (stem, twin) if name in arrays]
                assert len(pair) == 2
                assert np.array_equal(*pair)


@row("5.5.98", pt="Y")
@row("11.24", **FRAMEWORKS)
def ignore_lists_filter_the_report(backend: Backend, folder: Path) -> None:
    class Quiet(backend.cls("BertForSequenceClassification")):  # type: ignore[misc]
        _keys_to_ignore_on_load_missing = ["classifier"]
        _keys_to_ignore_on_load_unexpected = ["^extra"]

    saved(backend, folder)
    extra = {"extra.x": np.zeros(2, np.float32)}
    edited(folder, lambda arrays: extra | {n: a for n, a in arrays.items() if "classifier" not in n})
    with messages() as said:
        model, info = Quiet.from_pretrained(folder, output_loading_info=True)
    assert (info["missing_keys"], info["unexpected_keys"], said) == ([], [], [])
    assert np.any(backend.weights(model)["classifier.weight"]), "it is initialised all the same"


@row("5.5.101", pt="Y")
@row("7.64", flax="Y", note="a warning where the config names this class, as in PyTorch; else INFO")
@row("11.26", note="a warning where the config names this class; else INFO", **FRAMEWORKS)
def unexpected_weights_of_the_same_class_are_a_warning(backend: Backend, folder: Path) -> None:
    saved(backend, folder)
    with messages() as said:
        backend.load("BertModel", folder)
    assert not said, "a head that another class has beside is no news"
    edited(folder, lambda arrays: {**arrays, "extra.x": np.zeros(2, np.float32)})
    with messages() as said:
        backend.load("BertForSequenceClassification", folder)
    assert [text for text in said if "1 weights not used: extra.x" in text]


@row("5.5.103", pt="Y")
def a_mismatch_says_both_shapes(backend: Backend, folder: Path) -> None:
    saved(backend, folder, num_labels=3)
    with messages() as said:
        backend.load("BertForSequenceClassification", folder, num_labels=2, ignore_mismatched_sizes=True)
    width = SMALL["bert"]["hidden_size"]
    assert f"classifier.weight (stored (3, {width}), here (2, {width}))" in said[0]


# -- arguments of a save


@row("5.6.2", pt="Y", note="False writes nothing")
@row("5.6.10", pt="Y", note="there are no adapters")
@row("5.6.13", pt="Y")
@row("6.81", tf="Y")
@row("6.85", tf="Y", note="with push_to_hub=True")
def positional_arguments_of_each_framework(backend: Backend, folder: Path) -> None:
    model = small(backend)
    older = OWN[backend.name].single
    by_position: dict[str, list[tuple[Any, ...]]] = {
        "pt": [(True, None, None, False, "9KB", True, "v", None, True), (True, None, None, False, "5GB", False)],
        "tf": [(False, 1, False, None, "9KB", False, True, None), (False, 2, False, None, "5GB", False, False)],
        "flax": [(None, False, "9KB", None, True), (getattr(model, "params", None), False, "5GB", None, False)],
    }
    sharded, single = by_position[backend.name]
    model.save_pretrained(folder / "a", *sharded)
    variant = ".v" if backend.name == "pt" else ""
    assert (folder / f"a/model.safetensors.index{variant}.json").is_file()
    model.save_pretrained(folder / "b", *single)
    assert (folder / "b" / older).is_file()
    with pytest.raises(ArgumentError, match="given twice"):
        model.save_pretrained(folder / "c", *single, safe_serialization=False)
    with pytest.raises(ArgumentError, match="too many arguments"):
        model.save_pretrained(folder / "c", *range(10))
    if backend.name == "pt":
        model.save_pretrained(folder / "c", False)
    assert not (folder / "c").exists()


@row("5.6.4", pt="Y", note="called for each .bin, as in v4 not for safetensors")
def save_function(backend: Backend, folder: Path) -> None:
    import torch

    from triptych import SaveError

    model = small(backend, "BertForMaskedLM")
    seen: list[str] = []

    def write(tensors: dict[str, Any], path: str) -> None:
        seen.append(path)
        torch.save(tensors, path)

    for size, count in (("5GB", 1), ("5KB", 3)):
        seen.clear()
        model.save_pretrained(folder, save_function=write, safe_serialization=False, max_shard_size=size)
        assert len(seen) >= count
        assert same(backend, backend.load("BertForMaskedLM", folder), model)
    seen.clear()
    model.save_pretrained(folder / "new", save_function=write)
    assert not seen
    with pytest.raises(SaveError):
        model.save_pretrained(folder, save_function=lambda tensors, path: None, safe_serialization=False)
    assert same(backend, backend.load("BertForMaskedLM", folder), model)


@row("5.6.11", pt="Y", note="FutureWarning for save_config and use_auth_token")
def deprecated_arguments_of_a_save(backend: Backend, folder: Path) -> None:
    model = small(backend)
    with pytest.warns(FutureWarning, match="use_auth_token"):
        model.save_pretrained(folder / "a", use_auth_token="x", ignore_metadata_errors=True)
    assert (folder / "a/config.json").is_file()
    with pytest.warns(FutureWarning, match="save_config"):
        model.save_pretrained(folder / "b", save_config=False)
    assert not (folder / "b").exists()


@row("5.6.12", pt="R", note="None and False are accepted")
@row("5.6.30", pt="R")
def arguments_that_would_be_ignored(backend: Backend, folder: Path) -> None:
    model = small(backend)
    for bad in ({"repo_id": "a/b"}, {"commit_message": "x"}, {"private": True}, {"create_pr": True}, {"unknown": 1}):
        with pytest.raises(ArgumentError, match="does not know these arguments"):
            model.save_pretrained(folder, **bad)
    assert not list(folder.iterdir())
    model.save_pretrained(folder, private=None, create_pr=False, commit_message=None, token="x")


@row("5.6.19", pt="Y", note="a warning; saved once, and tied again when loaded")
def undeclared_sharing(backend: Backend, folder: Path) -> None:
    class Sharing(own_class()):  # type: ignore[misc]
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            from torch import nn

            self.twin = nn.Linear(3, 3)
            self.twin.weight = self.line.weight

    model = Sharing(Sharing.config_class())
    with messages() as said:
        model.save_pretrained(folder)
    assert [text for text in said if "twin.weight of Sharing shares memory with line.weight" in text]
    assert "twin.weight" not in load_file(folder / "model.safetensors")
    Sharing._tied_weights_keys = ["twin.weight"]
    with messages() as said:
        model.save_pretrained(folder)
    assert not said


@row("5.6.20", pt="Y")
def bin_keeps_all_aliases(backend: Backend, folder: Path) -> None:
    import torch

    model = backend.cls("GPT2LMHeadModel")(GPT2Config(**SMALL["gpt2"]))
    model.save_pretrained(folder, safe_serialization=False)
    tensors = torch.load(folder / "pytorch_model.bin", weights_only=True)
    one, other = tensors["lm_head.weight"], tensors["transformer.wte.weight"]
    assert one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr(), "written once"
    assert same(backend, backend.load("GPT2LMHeadModel", folder), model)


@row("1.26", **FRAMEWORKS)
def foreign_files_survive(backend: Backend, folder: Path) -> None:
    names = ("modeling_mine.py", "model.txt", "model.safetensors.bak")
    for name in names:
        (folder / name).write_text("mine")
    saved(backend, folder, num_labels=3)
    saved(backend, folder)
    assert all((folder / name).read_text() == "mine" for name in names)


@row("1.25", **FRAMEWORKS)
def old_shards_are_removed(backend: Backend, folder: Path) -> None:
    model = small(backend)
    refs = [TensorRef.of(f"t{i}", np.zeros(64)) for i in range(4)]
    save_checkpoint(folder, refs, max_shard_size=512)
    for file in folder.glob("*.safetensors"):
        save_file(load_file(file), file)  # as another library would have written it
    model.save_pretrained(folder)
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}
