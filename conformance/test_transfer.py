"""What of saving and loading is special to a family or file; what all classes do, the suite tests for each of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from golden_models import Golden
from small_models import CLASSES, VARIANTS, config_of, random_folder
from triptych import (
    CheckpointError,
    MissingFileError,
    ShapeMismatchError,
    TensorRef,
    TriptychError,
    open_checkpoint,
    save_checkpoint,
)
from triptych_conformance import BACKENDS, Backend, assert_close

bert_only = pytest.mark.parametrize("golden", [Golden(n) for n in Golden.of_bert], ids=Golden.of_bert)


def rewritten(source: Path, target: Path, change: dict[str, np.ndarray | None]) -> Path:
    """Copy a checkpoint, with some tensors replaced, added or (None) dropped."""
    tensors = {name: ref.read() for name, ref in open_checkpoint(source).items()} | change
    refs = [TensorRef.of(name, array) for name, array in tensors.items() if array is not None]
    save_checkpoint(target, refs, (source / "config.json").read_text())
    return target


OF_OPT = [(variant, stem) for variant, stem in CLASSES if VARIANTS[variant][0] == "opt" and variant != "opt"]
"""The plain ones pass the suite (test_family_classes.py)."""


def arrays(folder: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    found = {name: ref.read() for name, ref in open_checkpoint(folder).items()}
    return {name: (array.dtype.name, array.shape, array.tobytes()) for name, array in found.items()}


@pytest.mark.parametrize("size", ["5GB", "2KB"])
@pytest.mark.parametrize(("variant", "stem"), OF_OPT)
def test_opt_goes_from_each_into_each_and_into_transformers_5(
    backend: Backend, variant: str, stem: str, size: str, tmp_path: Path
) -> None:
    import transformers

    folder = random_folder(tmp_path / "first", config_of(variant, stem), stem)
    backend.load(stem, folder, strict=True).save_pretrained(tmp_path / "saved", max_shard_size=size)
    assert arrays(tmp_path / "saved") == (original := arrays(folder))
    for loader in BACKENDS:
        weights = loader.weights(loader.load(stem, tmp_path / "saved", strict=True))
        assert {name: (a.dtype.name, a.shape, a.tobytes()) for name, a in weights.items()} == original
    theirs, info = getattr(transformers, stem).from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not any(info.values())
    state = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    assert all(state[name].tobytes() == data for name, (_, _, data) in original.items())
    assert set(state) - set(original) <= {"lm_head.weight"}
    theirs.save_pretrained(tmp_path / "theirs")
    again = backend.weights(backend.load(stem, tmp_path / "theirs", strict=True))
    assert {name: (a.dtype.name, a.shape, a.tobytes()) for name, a in again.items()} == original


@pytest.mark.parametrize("stem", ["OPTModel", "OPTForCausalLM"])
def test_the_first_files_of_opt_have_no_prefix(backend: Backend, stem: str, tmp_path: Path) -> None:
    config = config_of("opt", "OPTForCausalLM")
    folder = random_folder(tmp_path / "first", config, "OPTForCausalLM")
    tensors = {name.removeprefix("model."): ref.read() for name, ref in open_checkpoint(folder).items()}
    tensors |= {"lm_head.weight": tensors["decoder.embed_tokens.weight"], "decoder.version": np.array([3.0])}
    refs = [TensorRef.of(name, array) for name, array in tensors.items()]
    save_checkpoint(tmp_path / "old", refs, config.to_json_string())
    model = backend.load(stem, tmp_path / "old")
    assert model.load_report.missing_keys == []
    assert set(model.load_report.unexpected_keys) <= {"lm_head.weight"}
    expected = backend.weights(backend.load(stem, folder))
    assert all(array.tobytes() == expected[name].tobytes() for name, array in backend.weights(model).items())


@pytest.mark.parametrize("untied_by", ["file", "config"])
def test_an_untied_head_keeps_its_values(backend: Backend, untied_by: str, tmp_path: Path) -> None:
    import transformers

    golden = Golden("bert-mlm")
    rng = np.random.default_rng(0)
    decoder = rng.standard_normal((99, 32)).astype(np.float32)
    bias = rng.standard_normal(99).astype(np.float32)
    change = {"cls.predictions.decoder.weight": decoder, "cls.predictions.decoder.bias": bias}
    folder = rewritten(golden.folder, tmp_path / "untied", {**change, "cls.predictions.bias": bias})
    if untied_by == "config":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    model = backend.load(golden.stem, folder, strict=True)
    assert model.config.tie_word_embeddings is False
    assert model.load_report.untied == ([] if untied_by == "config" else ["cls.predictions.decoder.weight"])
    outputs = backend.run(model, golden.inputs)["logits"]
    reference = transformers.BertForMaskedLM.from_pretrained(folder, tie_word_embeddings=False).eval()
    assert_close(outputs, BACKENDS[0].run(reference, golden.inputs)["logits"], golden.mask)
    model.save_pretrained(tmp_path / "again")
    for loader in BACKENDS:
        weights = loader.weights(loader.load(golden.stem, tmp_path / "again", strict=True))
        assert np.array_equal(weights["cls.predictions.decoder.weight"], decoder)
        assert np.array_equal(weights["cls.predictions.decoder.bias"], bias)
        assert not np.array_equal(weights["bert.embeddings.word_embeddings.weight"], decoder)


@pytest.mark.parametrize(("asked", "given"), [("auto", "bfloat16"), (None, "float32"), ("float16", "float16")])
def test_a_new_head_has_the_dtype_of_the_others(backend: Backend, asked: str | None, given: str) -> None:
    folder = Golden("bert-mlm").path / "pt-safetensors-bf16"
    model = backend.load("BertForTokenClassification", folder, param_dtype=asked)
    assert {"classifier.weight", "classifier.bias"} <= set(model.load_report.missing_keys)
    assert {array.dtype.name for array in backend.weights(model).values()} == {given}


def test_base_from_head_and_head_from_base(backend: Backend, tmp_path: Path) -> None:
    golden = Golden("bert-cls")
    base, info = backend.load("BertModel", golden.folder, output_loading_info=True)
    assert info["missing_keys"] == []
    assert sorted(info["unexpected_keys"]) == ["classifier.bias", "classifier.weight"]
    base.save_pretrained(tmp_path)
    assert "embeddings.word_embeddings.weight" in open_checkpoint(tmp_path)
    head, info = backend.load("BertForTokenClassification", tmp_path, output_loading_info=True)
    assert sorted(info["missing_keys"]) == ["classifier.bias", "classifier.weight"]
    weights = backend.weights(head)
    assert weights["classifier.weight"].std() > 0
    assert not weights["classifier.bias"].any()
    backbone = backend.weights(base)
    assert all(np.array_equal(weights[f"bert.{n}"], a) for n, a in backbone.items() if not n.startswith("pooler"))


@bert_only
def test_damage_is_refused_and_names_everything(backend: Backend, golden: Golden, tmp_path: Path) -> None:
    gone = "bert.encoder.layer.1.output.dense.bias"
    missing = rewritten(golden.folder, tmp_path / "missing", {gone: None})
    with pytest.raises(CheckpointError, match=f"(?s){gone}.*Remedy"):
        backend.load(golden.stem, missing)
    model, info = backend.load(golden.stem, missing, strict=False, output_loading_info=True)
    assert info["missing_keys"] == [gone]
    name = "bert.encoder.layer.0.output.dense.weight"
    array = open_checkpoint(golden.folder)[name].read()
    transposed = rewritten(golden.folder, tmp_path / "shape", {name: np.ascontiguousarray(array.T)})
    with pytest.raises(ShapeMismatchError, match=r"\(32, 37\).*\(37, 32\)"):
        backend.load(golden.stem, transposed)
    model, info = backend.load(golden.stem, transposed, ignore_mismatched_sizes=True, output_loading_info=True)
    assert info["mismatched_keys"] == [(name, (37, 32), (32, 37))]
    assert backend.weights(model)[name].shape == (32, 37)
    extra = rewritten(golden.folder, tmp_path / "extra", {"stranger": np.zeros(1, np.float32)})
    assert backend.load(golden.stem, extra).load_report.unexpected_keys == ["stranger"]
    with pytest.raises(CheckpointError, match="stranger"):
        backend.load(golden.stem, extra, strict=True)


@pytest.mark.parametrize("stem", ["BertModel", "AutoModel"])
def test_bad_paths(backend: Backend, stem: str, tmp_path: Path) -> None:
    for path in (None, "", tmp_path / "nothing", 7):
        with pytest.raises(TriptychError, match="(?s)Expected.*Received.*Remedy"):
            backend.load(stem, path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(MissingFileError, match="no weights"):
        backend.load(stem, tmp_path)
    with pytest.raises(OSError, match="no weights"):
        backend.load(stem, tmp_path)


def test_unknown_arguments_are_refused(backend: Backend, golden: Golden) -> None:
    with pytest.raises(TriptychError, match="nonsense"):
        backend.load(golden.stem, golden.folder, nonsense=1)
    with pytest.raises(TriptychError, match="dtype"):
        backend.load(golden.stem, golden.folder, param_dtype="int8")
    with pytest.raises(TriptychError, match="GPT2Config|config"):
        backend.load(golden.stem, golden.folder, config=object.__new__(type("GPT2Config", (), {})))


def test_wrong_kinds_of_arguments_are_refused(backend: Backend, golden: Golden) -> None:
    config = backend.load(golden.stem, golden.folder).config
    for state_dict in ([1], {"a": None}):
        with pytest.raises(TriptychError):
            backend.load(golden.stem, None, config=config, state_dict=state_dict)
    for subfolder in (3, "..", "a/../.."):
        with pytest.raises(TriptychError, match="subfolder"):
            backend.load(golden.stem, golden.folder, subfolder=subfolder)
    with pytest.raises(TriptychError, match="PretrainedConfig"):
        backend.cls("AutoModel").from_config(3)


@bert_only
def test_auto_classes_choose_by_config(backend: Backend, golden: Golden) -> None:
    task = golden.stem.removeprefix("Bert")
    model = backend.load(f"AutoModel{task}", golden.folder)
    assert type(model) is backend.cls(golden.stem)
    made = backend.cls("AutoModel").from_config(model.config)
    assert type(made) is backend.cls("BertModel")
    assert made.config is not model.config


@bert_only
def test_a_given_config_is_copied_and_overridden(backend: Backend, golden: Golden) -> None:
    config = type(backend.load(golden.stem, golden.folder).config).from_pretrained(golden.folder)
    before = config.to_dict()
    model = backend.load(golden.stem, golden.folder, config=config)
    model.config.hidden_dropout_prob = 0.9
    assert config.to_dict() == before
    assert backend.load(golden.stem, golden.folder, hidden_dropout_prob=0.3).config.hidden_dropout_prob == 0.3


def test_loading_without_mmap(backend: Backend, golden: Golden) -> None:
    mapped, owned = (backend.weights(backend.load(golden.stem, golden.folder, mmap=m)) for m in (True, False))
    assert all(np.array_equal(mapped[name], owned[name]) for name in mapped)


@pytest.mark.parametrize("given", [False, True])
def test_the_pointer_of_an_unfinished_save_is_followed(backend: Backend, given: bool, tmp_path: Path) -> None:
    """The state between the commit of a save with a new config and its last step: see `saving.roll_forward`."""
    golden = Golden("bert-mlm")
    new = rewritten(golden.folder, tmp_path / "new", {})
    model = backend.load(golden.stem, new)
    bias = "cls.predictions.bias"
    folder = rewritten(golden.folder, tmp_path / "folder", {bias: np.zeros(99, np.float32)})
    pointed = json.loads((new / "config.json").read_text()) | {"transformers_weights": "model.g00000000.safetensors"}
    (new / "model.safetensors").rename(folder / "model.g00000000.safetensors")
    (folder / "config.json").write_text(json.dumps(pointed))
    options = {"config": model.config} if given else {}
    weights = backend.weights(backend.load(golden.stem, folder, **options))
    assert np.array_equal(weights[bias], backend.weights(model)[bias])
    assert weights[bias].any()
    model.save_pretrained(folder)
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}
    assert "transformers_weights" not in (folder / "config.json").read_text()
