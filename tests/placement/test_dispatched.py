"""PyTorch models over the CPU and the disk: they compute, train, generate and save as others do."""

from __future__ import annotations

import copy
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import dispatch_model
from accelerate.hooks import remove_hook_from_module
from peft import LoraConfig
from torch import nn

from small_models import SMALL
from triptych import (
    ArgumentError,
    AutoModel,
    AutoModelForSeq2SeqLM,
    DispatchedModelError,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)
from triptych.families import family
from triptych.formats.safetensors import open_safetensors
from triptych.modeling.quantization_configs import QuantizationConfig
from triptych.placement import parse_max_memory, plan_placement
from triptych_pt.placement.dispatch import whole_modules
from triptych_pt.placement.stored import OFFLOADED, Stored

CONFIG = LlamaConfig(vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=4, num_attention_heads=4,
                     num_key_value_heads=2, tie_word_embeddings=True, pad_token_id=0)  # fmt: skip
IDS = torch.tensor([[3, 7, 11, 2, 9], [4, 4, 8, 1, 0]])
MEMORY = {"cpu": "14KB"}
MAPS: dict[str, dict[str, Any]] = {
    "auto": {"device_map": "auto", "max_memory": MEMORY},
    "sequential": {"device_map": "sequential", "max_memory": {"cpu": 20_000}},
    "all": {"device_map": {"": "disk"}},
    "head away": {"device_map": {"": "cpu", "model.layers.1": "disk", "lm_head": "disk"}},
    "table away": {"device_map": {"": "cpu", "model.embed_tokens": "disk", "model.layers.2.mlp": "disk"}},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    LlamaForCausalLM(CONFIG).save_pretrained(path)
    return path


@pytest.fixture
def model(folder: Path) -> Any:
    return LlamaForCausalLM.from_pretrained(folder)


def loaded(folder: Path, **arguments: Any) -> Any:
    return LlamaForCausalLM.from_pretrained(folder, **arguments)


def trained(model: Any) -> dict[str, torch.Tensor]:
    """Return the gradients of a training step."""
    model.train()
    model(IDS, labels=IDS).loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("name", MAPS)
def test_what_a_model_computes_is_the_same(folder: Path, model: Any, name: str) -> None:
    dispatched = loaded(folder, **MAPS[name])
    away = {n for n, parameter in dispatched.named_parameters() if parameter.is_meta}
    assert away and dispatched.device == dispatched.base_model.device == torch.device("cpu")
    assert torch.equal(dispatched(IDS).logits, model(IDS).logits)
    assert {n for n, parameter in dispatched.named_parameters() if parameter.is_meta} == away
    for options in ({"do_sample": True, "seed": 1}, {"num_beams": 2}, {"cache_implementation": "static"}):
        texts = [one.generate(IDS, max_new_tokens=4, **options) for one in (dispatched, model)]
        assert torch.equal(*texts)
    if name == "all":
        assert not dispatched(IDS, labels=IDS).loss.requires_grad
        return
    expected, found = trained(model), trained(dispatched)
    assert {n for n, gradient in found.items() if gradient is None} == away
    assert all(torch.equal(found[n], expected[n]) for n in found.keys() - away)


@pytest.mark.parametrize("reentrant", [True, False])
def test_layers_are_computed_anew_for_the_gradient(folder: Path, model: Any, reentrant: bool) -> None:
    dispatched = loaded(folder, device_map={"": "cpu", "model.layers.1": "disk", "model.layers.2": "disk"})
    dispatched.gradient_checkpointing_enable({"use_reentrant": reentrant})
    expected, found = trained(model), trained(dispatched)
    kept = [name for name, gradient in found.items() if gradient is not None]
    assert "model.layers.0.mlp.up_proj.weight" in kept and "model.layers.1.mlp.up_proj.weight" not in kept
    assert all(torch.equal(found[name], expected[name]) for name in kept)
    assert all(p.is_meta for name, p in dispatched.named_parameters() if name not in kept)


def test_no_more_is_kept_than_max_memory_says(folder: Path) -> None:
    dispatched = loaded(folder, device_map="auto", max_memory=MEMORY)
    planned = plan_placement(CONFIG, "LlamaForCausalLM", parse_max_memory(MEMORY))
    assert dispatched.hf_device_map == planned.device_map
    kept = sum(parameter.nbytes for parameter in dispatched.parameters() if not parameter.is_meta)
    assert 0 < kept == planned.by_device["cpu"] <= 14_000


@pytest.mark.parametrize("given", ["cpu", torch.device("cpu"), {"": "cpu"}, {"": torch.device("cpu")}])
def test_one_device_needs_no_hooks(folder: Path, given: Any) -> None:
    whole = loaded(folder, device_map=given)
    assert list(map(str, whole.hf_device_map.values())) == ["cpu"]
    assert not hasattr(whole, "_hf_hook") and whole.half().dtype == torch.float16
    assert not hasattr(loaded(folder), "hf_device_map")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"device_map": -1}, "negative"),
        ({"device_map": "nowhere"}, "no device 'nowhere' here.*auto, balanced"),
        ({"device_map": {"": "cpu", "lm_head": 93}}, "no device 93"),
        ({"device_map": "auto", "max_memory": {93: "1GB"}}, "no device 93"),
        ({"device_map": "auto", "max_memory": {"cpu": "much"}}, "max_memory"),
        ({"device_map": 1.5}, "no device"),
        ({"device_map": {"model.layers": "cpu"}}, "where all weights go.*model.embed_tokens.weight"),
    ],
)
def test_what_cannot_be_placed_is_refused(folder: Path, arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        loaded(folder, **arguments)


def test_a_dispatched_model_is_not_moved_nor_copied(folder: Path) -> None:
    dispatched = loaded(folder, **MAPS["auto"])
    for change in (lambda m: m.to("cpu"), lambda m: m.half(), lambda m: m.cuda(), lambda m: m.to(torch.float16)):
        with pytest.raises(DispatchedModelError, match="neither moved nor cast"):
            change(dispatched)
    with pytest.raises(ArgumentError, match="neither copied nor pickled"):
        copy.deepcopy(dispatched)
    with pytest.raises(ArgumentError, match="dispatched already"):
        dispatched.dispatch({"": "cpu"})


def test_files_of_safetensors_are_read_where_they_are(folder: Path, tmp_path: Path) -> None:
    dispatched = loaded(folder, **MAPS["all"], offload_folder=tmp_path / "offload")
    assert torch.equal(dispatched(IDS).logits, loaded(folder)(IDS).logits)
    assert not (tmp_path / "offload").exists()


@pytest.mark.parametrize("format", ["bin", "msgpack"])
def test_others_are_written_to_a_folder(folder: Path, model: Any, tmp_path: Path, format: str) -> None:
    model.save_pretrained(tmp_path, format=format)
    with pytest.raises(ArgumentError, match="offload_folder"):
        loaded(tmp_path, **MAPS["auto"])
    dispatched = loaded(tmp_path, **MAPS["auto"], offload_folder=tmp_path / "offload")
    written = open_safetensors(tmp_path / "offload" / OFFLOADED).tensors
    assert set(written) == {name for name, parameter in dispatched.named_parameters() if parameter.is_meta}
    assert torch.equal(dispatched(IDS).logits, model(IDS).logits)


@pytest.mark.parametrize("mmap", [True, False])
def test_a_cast_is_done_when_a_layer_runs(folder: Path, mmap: bool) -> None:
    dispatched = loaded(folder, **MAPS["auto"], dtype=torch.float64, mmap=mmap)
    assert {parameter.dtype for parameter in dispatched.parameters()} == {torch.float64}
    assert torch.equal(dispatched(IDS).logits, loaded(folder, dtype=torch.float64)(IDS).logits)


def test_what_is_needed_next_is_read_ahead_and_nothing_twice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[str, bool]] = []
    original = Stored.read

    def reading(self: Stored) -> torch.Tensor:
        read.append((self.ref.name, threading.current_thread() is threading.main_thread()))
        return original(self)

    monkeypatch.setattr(Stored, "read", reading)
    name = "model.layers.2.mlp.up_proj.weight"
    for dtype, ahead in ((None, False), (torch.float64, True)):  # a file that is mapped, and in memory, is at hand
        dispatched = loaded(folder, **MAPS["all"], dtype=dtype)
        read.clear()
        for _ in range(2):
            dispatched(IDS)
        assert [here for found, here in read if found == name] == [not ahead] * 2


def test_a_dispatched_model_is_saved_file_by_file(folder: Path, model: Any, tmp_path: Path) -> None:
    for arguments in MAPS.values():
        loaded(folder, **arguments).save_pretrained(tmp_path, max_shard_size="9KB")
        again = loaded(tmp_path)
        assert len(list(tmp_path.glob("*.safetensors"))) > 2
        assert all(torch.equal(p, q) for p, q in zip(again.parameters(), model.parameters(), strict=True))
    dispatched = loaded(tmp_path, **MAPS["all"])
    dispatched.save_pretrained(tmp_path)  # onto the files that it reads
    assert torch.equal(dispatched(IDS).logits, loaded(tmp_path)(IDS).logits)


def test_a_model_that_accelerate_dispatched_is_saved(folder: Path, model: Any, tmp_path: Path) -> None:
    expected = {name: parameter.clone() for name, parameter in model.named_parameters()}
    dispatch_model(model, {"": "cpu", "model.layers.1": "disk"}, offload_dir=str(tmp_path / "offload"))
    assert model.model.layers[1].mlp.up_proj.weight.is_meta
    model.save_pretrained(tmp_path / "saved")
    again = loaded(tmp_path / "saved")
    assert all(torch.equal(parameter, expected[name]) for name, parameter in again.named_parameters())


def test_a_loaded_model_is_dispatched_and_brought_back(folder: Path, model: Any, tmp_path: Path) -> None:
    expected, table = model(IDS).logits, model.model.embed_tokens.weight
    with pytest.raises(ArgumentError, match="offload_folder"):
        model.dispatch("auto", MEMORY)
    with pytest.raises(ArgumentError, match="would be lost"):
        model.dispatch({"": "cpu", "lm_head": "meta"})
    assert model.dispatch("auto", MEMORY, offload_folder=tmp_path) is model
    assert model.hf_device_map == loaded(folder, **MAPS["auto"]).hf_device_map
    assert model.model.embed_tokens.weight is table and model.model.layers[3].mlp.up_proj.weight.is_meta
    assert torch.equal(model(IDS).logits, expected)
    remove_hook_from_module(model, recurse=True)
    assert torch.equal(model(IDS).logits, expected)
    assert all(gradient is not None for gradient in trained(model).values())
    assert model.to(torch.float64).dtype == torch.float64


def test_ties_stay_when_a_model_is_brought_back(folder: Path, model: Any) -> None:
    dispatched = loaded(folder, **MAPS["all"])
    remove_hook_from_module(dispatched, recurse=True)
    assert dispatched.lm_head.weight is dispatched.model.embed_tokens.weight
    assert torch.equal(dispatched(IDS).logits, model(IDS).logits)


def test_a_new_vocabulary_is_kept_in_memory(folder: Path, model: Any) -> None:
    dispatched = loaded(folder, **MAPS["all"])
    for one in (dispatched, model):
        one.resize_token_embeddings(53, seed=2)
    assert not dispatched.lm_head.weight.is_meta and dispatched.lm_head.weight is dispatched.model.embed_tokens.weight
    assert torch.equal(dispatched(IDS).logits, model(IDS).logits)


def test_a_new_head_is_trained_in_memory_or_written(folder: Path, tmp_path: Path) -> None:
    maps = {"": "disk", "score": "cpu"}, {"": "disk"}
    in_memory = LlamaForSequenceClassification.from_pretrained(folder, device_map=maps[0])
    in_memory(IDS, labels=torch.tensor([0, 1])).loss.backward()
    assert in_memory.score.weight.grad.count_nonzero() > 0
    with pytest.raises(ArgumentError, match="offload_folder.*score.weight"):
        LlamaForSequenceClassification.from_pretrained(folder, device_map=maps[1])
    written = LlamaForSequenceClassification.from_pretrained(folder, device_map=maps[1], offload_folder=tmp_path)
    assert written.score.weight.is_meta and set(open_safetensors(tmp_path / OFFLOADED).tensors) == {"score.weight"}
    assert written(IDS).logits.isfinite().all()


def test_a_call_that_fails_leaves_nothing_behind(folder: Path, model: Any) -> None:
    dispatched = loaded(folder, **MAPS["all"])
    hook = dispatched.model.layers[1].mlp.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        dispatched(IDS)
    hook.remove()
    assert torch.equal(dispatched(IDS).logits, model(IDS).logits)
    assert all(parameter.is_meta for parameter in dispatched.parameters())


def test_threads_run_one_model(folder: Path, model: Any) -> None:
    dispatched, expected, found = loaded(folder, **MAPS["all"]), model(IDS).logits, []
    threads = [
        threading.Thread(target=lambda: found.extend(dispatched(IDS).logits for _ in range(8))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 32 and all(torch.equal(logits, expected) for logits in found)
    assert all(parameter.is_meta for parameter in dispatched.parameters())


@pytest.mark.parametrize("kind", SMALL)
def test_every_family_says_what_is_not_split(tmp_path: Path, kind: str) -> None:
    found = family(kind)
    config = found.config_class(**SMALL[kind])
    whole = AutoModel.from_config(config).eval()
    whole.save_pretrained(tmp_path)
    recorded = found.schema.whole_parts(config, type(whole).__name__)  # type: ignore[attr-defined]
    named = {path for path, module in whole.named_modules() if type(module).__name__ in whole._no_split_modules}
    assert named == set(recorded) == whole_modules(whole, ()) and len(recorded) > 1
    dispatched = AutoModel.from_pretrained(tmp_path, device_map={"": "disk"})
    inputs = whole.dummy_inputs
    inputs |= {"decoder_input_ids": inputs["input_ids"]} if whole.takes_decoder_ids() else {}
    assert torch.equal(dispatched(**inputs).last_hidden_state, whole(**inputs).last_hidden_state)


def test_t5_over_the_cpu_and_the_disk(tmp_path: Path) -> None:
    config = T5Config(vocab_size=50, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, decoder_start_token_id=0)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    whole = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    for arguments in ({"device_map": "auto", "max_memory": {"cpu": "20KB"}}, {"device_map": {"": "disk"}}):
        dispatched = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, **arguments, low_cpu_mem_usage=True)
        assert "disk" in dispatched.hf_device_map.values()
        texts = [one.generate(IDS, max_new_tokens=5) for one in (dispatched, whole)]
        assert torch.equal(*texts)


@pytest.mark.parametrize(("codec", "name"), [("int8", "all"), ("int4", "head away")])
def test_packed_matrices_stay_on_the_disk(folder: Path, tmp_path: Path, codec: str, name: str) -> None:
    wide = LlamaConfig(**{**CONFIG.to_dict(), "hidden_size": 64, "head_dim": 16, "intermediate_size": 64})
    LlamaForCausalLM(wide).save_pretrained(tmp_path)
    how = {"quantization_config": QuantizationConfig(codec)}
    packed = loaded(tmp_path, **how)
    packed.save_pretrained(tmp_path / "packed")
    for path, more in ((tmp_path / "packed", {}), (tmp_path, {**how, "offload_folder": tmp_path / "offload"})):
        dispatched = loaded(path, **MAPS[name], **more)
        assert any(buffer.is_meta for buffer in dispatched.buffers())
        assert torch.equal(dispatched(IDS).logits, packed(IDS).logits)


def test_adapters_are_trained_on_matrices_of_the_disk(folder: Path, model: Any, tmp_path: Path) -> None:
    config = LoraConfig(r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    model.add_adapter(config)
    model.save_pretrained(tmp_path)
    dispatched, whole = loaded(folder, **MAPS["all"]), loaded(folder)
    found = []
    for one in (dispatched, whole):
        one.load_adapter(tmp_path, is_trainable=True)
        found.append({name: gradient for name, gradient in trained(one).items() if gradient is not None})
    assert found[0].keys() == found[1].keys() and len(found[0]) == 16
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_shapes_alone_on_the_meta_device(folder: Path) -> None:
    shapes = loaded(folder, device_map="meta")
    assert shapes(IDS.to("meta")).logits.shape == (2, 5, 50) and shapes.device.type == "meta"


class Mixed(PreTrainedModel):
    """Modules that compute with the weights of modules within them, statistics, and a weight of the model itself."""

    config_class = PretrainedConfig
    _no_split_modules = ["Cell"]

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.scale = nn.Parameter(torch.rand(8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.cell = Cell()
        self.norm = nn.BatchNorm1d(5)
        self.register_buffer("shift", torch.rand(8))
        self.register_buffer("ramp", torch.arange(8.0), persistent=False)
        self.post_init()

    def _init_weights(self, module: Any) -> None: ...

    def forward(self, x: Any) -> Any:
        x = self.attention(x, x, x)[0] * self.scale + self.shift + self.ramp
        return self.cell(self.norm(x))


class Cell(nn.Module):
    """It uses a weight of a layer that it does not call."""

    def __init__(self) -> None:
        super().__init__()
        self.line, self.lstm = nn.Linear(8, 8), nn.LSTM(8, 8, batch_first=True)

    def forward(self, x: Any) -> Any:
        return self.lstm(x @ self.line.weight.T)[0]


@pytest.mark.parametrize("buffers", [False, True])
def test_modules_of_all_kinds(tmp_path: Path, buffers: bool) -> None:
    whole, x = Mixed(PretrainedConfig()).eval(), torch.rand(2, 5, 8)
    whole.save_pretrained(tmp_path)
    for device_map in (
        {"": "disk"},
        {"": "cpu", "attention": "disk", "cell": "disk", "norm": "disk", "scale": "disk", "shift": "disk"},
    ):
        dispatched = Mixed.from_pretrained(tmp_path, device_map=device_map, offload_buffers=buffers)
        assert dispatched.cell.lstm.weight_ih_l0.is_meta and not dispatched.ramp.is_meta
        assert dispatched.norm.running_var.is_meta == buffers
        assert torch.equal(dispatched(x), whole(x))
        dispatched.save_pretrained(tmp_path / "again")
        assert np.array_equal(*(open_safetensors(path / "model.safetensors").tensors["norm.running_var"].read()
                                for path in (tmp_path, tmp_path / "again")))  # fmt: skip
    fitting = Mixed.from_pretrained(tmp_path, device_map="auto", max_memory={"cpu": 2900})
    assert fitting.hf_device_map["cell"] == "disk", "its weights stay together"


def test_a_module_that_loads_its_own_way(tmp_path: Path) -> None:
    class Hooked(Mixed):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.register_load_state_dict_pre_hook(lambda *_: None)

    whole, x = Hooked(PretrainedConfig()).eval(), torch.rand(2, 5, 8)
    whole.save_pretrained(tmp_path)
    dispatched = Hooked.from_pretrained(tmp_path, device_map={"": "disk"}, offload_folder=tmp_path / "offload")
    assert dispatched.scale.is_meta and torch.equal(dispatched(x), whole(x))
