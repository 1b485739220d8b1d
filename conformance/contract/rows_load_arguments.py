"""Rows of the contract about a load's arguments, the files it looks for, and its messages."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from live_models import own_class
from probing import IN_ALL, messages, same, saved, small
from small_models import SMALL
from triptych import ArgumentError, BertConfig, TriptychError
from triptych.formats.kinds import MSGPACK
from triptych_conformance import Backend
from walk import row, state


def edited(folder: Path, change: Any) -> None:
    """Rewrite the weights of `folder` as `change` makes them of a dict of arrays."""
    file = folder / "model.safetensors"
    arrays = {name: np.array(array) for name, array in load_file(file).items()}
    save_file(change(arrays), file, {"format": "pt"})


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
    "5.5.45": [{"_from_pipeline": "x"}, {"_from_auto": True}, {"_commit_hash": "0" * 40}],
    "5.5.46": [{"low_cpu_mem_usage": True}, {"low_cpu_mem_usage": False}],
    "5.5.47": [{"_fast_init": False}],
    "5.5.48": [{"offload_state_dict": True}],
    "5.5.49": [{"resume_download": True}],
    "5.5.50": [{"mirror": "x"}],
}
EFFECTS: dict[str, tuple[list[Any], list[Any]]] = {
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


@row(
    "7.56",
    note="one device for all; device=, sharding=, mesh= say more; one for each layer is refused",
    flax="Y",
)
def a_device_map_of_flax(backend: Backend, folder: Path) -> None:
    import jax

    accepts({"device_map": "cpu"}, {"device_map": {"": jax.devices()[0]}}, {"device": 0})(backend, folder)
    for device_map in ("auto", {"bert": "cpu", "classifier": "cpu:1"}):
        with pytest.raises(ArgumentError, match="one set of devices"):
            backend.load("BertForSequenceClassification", folder, device_map=device_map)


@row("5.5.21", pt="Y", note="FutureWarning")
def use_auth_token(backend: Backend, folder: Path) -> None:
    model = saved(backend, folder)
    with pytest.warns(FutureWarning, match="use_auth_token is deprecated"):
        assert same(backend, backend.load("BertForSequenceClassification", folder, use_auth_token="hf_x"), model)
    with pytest.raises(ArgumentError, match="one argument"):
        backend.load("BertForSequenceClassification", folder, use_auth_token="hf_x", token="hf_y")


@row("5.5.43", pt="Y")
@row("5.5.92", pt="Y")
@row("11.19", note="max_memory and weights_only have nothing to do", **IN_ALL)
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
@row("11.24", **IN_ALL)
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
@row("11.26", note="a warning where the config names this class; else INFO", **IN_ALL)
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
