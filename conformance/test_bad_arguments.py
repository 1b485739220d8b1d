"""Arguments, and attributes of classes, of a wrong kind: each is refused by name, in every framework."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from small_models import SMALL
from triptych import ArgumentError, AutoConfig, BertConfig, SaveError, TriptychError
from triptych_conformance import Backend

STEM, WORDS = "BertModel", "embeddings.word_embeddings.weight"


def small(backend: Backend, **attributes: Any) -> Any:
    cls = backend.cls(STEM)
    return type(cls.__name__, (cls,), attributes)(BertConfig(**SMALL["bert"]))


@pytest.mark.parametrize("argument", ["key_mapping", "strict"])
@pytest.mark.parametrize("value", [[1], 5, b"x", "text", 0], ids=repr)
def test_arguments_of_a_load(backend: Backend, argument: str, value: object, tmp_path: Path) -> None:
    small(backend).save_pretrained(tmp_path)
    with pytest.raises(ArgumentError, match=f"(?s){argument}.*Expected.*Received"):
        backend.load(STEM, tmp_path, **{argument: value})


@pytest.mark.parametrize("value", [5, b"x", "text", [1], ["(["]], ids=repr)
@pytest.mark.parametrize("attribute", ["_keys_to_ignore_on_load_missing", "_keys_to_ignore_on_load_unexpected"])
def test_attributes_of_a_load(backend: Backend, attribute: str, value: object, tmp_path: Path) -> None:
    model = small(backend, **{attribute: value})
    model.save_pretrained(tmp_path)
    with pytest.raises(ArgumentError, match=f"(?s){attribute}.*Expected"):
        type(model).from_pretrained(tmp_path)


def test_arguments_of_a_save(backend: Backend, tmp_path: Path) -> None:
    model = small(backend)
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("shapes", {"state_dict": {WORDS: np.zeros(3, np.float32)}}),
        ("names", {"state_dict": {5: np.zeros(3, np.float32)}}),
        ("save_function", {"save_function": "text", "format": "bin"}),
    ]
    wrong += [] if backend.name == "flax" else [("params", {"params": {}})]
    wrong += [("version", {"saved_model": True, "version": "../1"})] if backend.name == "tf" else []
    for match, arguments in wrong:
        with pytest.raises(TriptychError, match=match):
            model.save_pretrained(tmp_path / "none", **arguments)
    model._keys_to_ignore_on_save = 5
    with pytest.raises(ArgumentError, match="_keys_to_ignore_on_save"):
        model.save_pretrained(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_save_function_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    backend = Backend("pt")
    model = small(backend)
    model.save_pretrained(tmp_path, safe_serialization=False)
    before = (tmp_path / "pytorch_model.bin").read_bytes()

    def fail(tensors: object, path: str) -> None:
        raise KeyError("mine")

    with pytest.raises(SaveError, match="KeyError: 'mine'") as caught:
        model.save_pretrained(tmp_path, safe_serialization=False, save_function=fail)
    assert isinstance(caught.value.__cause__, KeyError)
    assert (tmp_path / "pytorch_model.bin").read_bytes() == before


def test_calls_of_a_model(backend: Backend) -> None:
    model = small(backend)
    for tags in (5, [1], None):
        with pytest.raises(ArgumentError, match="tag"):
            model.add_model_tags(tags)
    with pytest.raises(ArgumentError, match="gradient_checkpointing_kwargs"):
        model.gradient_checkpointing_enable([1])
    with pytest.raises(ArgumentError, match="no_such_config"):
        model.set_attn_implementation({"no_such_config": "eager"})
    for seed in ("text", -1, 3.5):
        with pytest.raises(ArgumentError, match="seed"):
            model.resize_token_embeddings(40, seed=seed)
    with pytest.raises(NotImplementedError, match="get_position_embeddings") as caught:
        model.get_position_embeddings()
    assert isinstance(caught.value, TriptychError)
    with pytest.raises(TriptychError, match="nonsense"):
        type(model).from_config(model.config, nonsense=1)


def test_registrations(backend: Backend) -> None:
    for model_type, config in (([1], BertConfig), ("new", 5), ("new", None), ("new", int)):
        with pytest.raises(ArgumentError, match="Expected"):
            AutoConfig.register(model_type, config)
    with pytest.raises(ArgumentError, match="model_type"):
        AutoConfig.for_model(["bert"])
    for config, model in ((5, backend.cls(STEM)), (BertConfig, 5), (BertConfig, ["text"])):
        with pytest.raises(ArgumentError, match="Expected"):
            backend.cls("AutoModel").register(config, model)


@pytest.mark.parametrize(
    "keys", [5, "text", [1], ["(["], {"head.weight": 5}, {"head.weight": "nowhere.weight"}], ids=repr
)
def test_ties_of_a_class_of_ones_own(keys: object) -> None:
    import torch

    class Own(Backend("pt").cls("PreTrainedModel")):
        config_class = BertConfig
        _tied_weights_keys = keys

        def __init__(self, config: BertConfig) -> None:
            super().__init__(config)
            self.head = torch.nn.Linear(2, 2)
            self.post_init()

    with pytest.raises(ArgumentError, match="_tied_weights_keys"):
        Own(BertConfig())


@pytest.mark.parametrize("answer", [None, 5, ()], ids=repr)
def test_a_renaming_that_returns_no_name(backend: Backend, answer: object, tmp_path: Path) -> None:
    model = small(backend, _fix_state_dict_key_on_load=staticmethod(lambda name: answer))
    model.save_pretrained(tmp_path)
    with pytest.raises(ArgumentError, match="no name"):
        type(model).from_pretrained(tmp_path)
