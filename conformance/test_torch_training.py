"""PyTorch's own tools for training hold models of triptych: compiled steps, replicas, splits, averages, precision."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import triptych
from small_models import config_of
from triptych import TriptychError
from triptych_conformance import assert_close

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
STEMS = {"bert": "BertForMaskedLM", "gpt2": "GPT2LMHeadModel", "t5": "T5ForConditionalGeneration"}
KINDS = pytest.mark.parametrize("kind", STEMS)


def made(kind: str, **changes: Any) -> Any:
    """Return a new model without dropout, the same one each time."""
    config = config_of(kind, STEMS[kind], **changes)
    for name, value in config.to_dict().items():
        if isinstance(value, float) and ("drop" in name or name.endswith("_pdrop")):
            setattr(config, name, 0.0)
    torch.manual_seed(0)
    return getattr(triptych, STEMS[kind])(config).train()


def batch(length: int = 6, count: int = 2) -> dict[str, torch.Tensor]:
    ids = torch.randint(3, 31, (count, length), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}


def gradients(model: nn.Module, loss: torch.Tensor) -> dict[str, Any]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.numpy().copy() for name, p in model.named_parameters() if p.grad is not None}


def assert_equal_gradients(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert_close(found[name], value, what=name)


def test_a_training_step_is_compiled_twice_for_any_length() -> None:
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    model = made("bert", num_hidden_layers=1)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    for length in (6, 7, 9):
        loss = compiled(**batch(length), num_items_in_batch=torch.tensor(7)).loss
        expected = gradients(model, model(**batch(length), num_items_in_batch=7).loss)
        assert_equal_gradients(gradients(model, loss), expected)
    assert counters["stats"]["unique_graphs"] <= 2 and not counters["graph_break"]


def replica(model: nn.Module) -> Any:
    """Return what `nn.DataParallel` makes of a model for a device: without parameters, with tensors in their places."""
    modules = [*model.modules()]
    copies = {module: module._replicate_for_data_parallel() for module in modules}
    for module, made in copies.items():
        made._former_parameters = {}
        for name, child in module._modules.items():
            setattr(made, name, None if child is None else copies[child])
        for name, parameter in module._parameters.items():
            tensor = None if parameter is None else parameter.view_as(parameter)
            setattr(made, name, tensor)
            if tensor is not None:
                made._former_parameters[name] = tensor
        for name, buffer in module._buffers.items():
            setattr(made, name, buffer)
    return copies[model]


@KINDS
def test_a_replica_of_data_parallel(kind: str) -> None:
    model = made(kind)
    one = replica(model)
    assert not [*one.parameters()] and (one.device, one.dtype) == (model.device, torch.float32)
    expected = gradients(model, model(**batch()).loss)
    assert_equal_gradients(gradients(model, one(**batch()).loss), expected)


@pytest.fixture
def alone() -> Iterator[Any]:
    """A process group of one, and its mesh."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def test_split_by_fsdp(alone: Any, tmp_path: Path) -> None:
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
    from torch.distributed.fsdp import fully_shard

    whole, model = made("gpt2"), made("gpt2")
    for block in model.transformer.h:
        fully_shard(block, mesh=alone)
    fully_shard(model, mesh=alone)
    expected = gradients(whole, whole(**batch()).loss)
    model(**batch()).loss.backward()
    found = {name: parameter.grad.full_tensor().numpy() for name, parameter in model.named_parameters()}
    assert_equal_gradients(found, expected)
    with pytest.raises(TriptychError, match="get_model_state_dict"):
        model.save_pretrained(tmp_path / "own")
    assert not (tmp_path / "own").exists()
    state = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    model.save_pretrained(tmp_path / "whole", state_dict=state)
    loaded = triptych.GPT2LMHeadModel.from_pretrained(tmp_path / "whole")
    assert loaded.config.architectures == ["GPT2LMHeadModel"]
    dcp.save(get_model_state_dict(model), checkpoint_id=tmp_path / "dcp")
    other = made("gpt2")
    with torch.no_grad():
        [parameter.zero_() for parameter in other.parameters()]
    values = get_model_state_dict(other)
    dcp.load(values, checkpoint_id=tmp_path / "dcp")
    set_model_state_dict(other, values)
    for one in (loaded, other):
        assert all(torch.equal(value, one.state_dict()[name]) for name, value in whole.state_dict().items())


@KINDS
def test_a_distributed_checkpoint_becomes_a_folder(kind: str, tmp_path: Path) -> None:
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    model = made(kind)
    dcp.save(model.state_dict(), checkpoint_id=tmp_path / "dcp")
    (tmp_path / "bin").mkdir()
    dcp_to_torch_save(tmp_path / "dcp", tmp_path / "bin" / "pytorch_model.bin")
    model.config.save_pretrained(tmp_path / "bin")
    loaded = type(model).from_pretrained(tmp_path / "bin", strict=True)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
    (tmp_path / "dcp" / "config.json").write_bytes((tmp_path / "bin" / "config.json").read_bytes())
    with pytest.raises(TriptychError, match="dcp_to_torch_save"):
        type(model).from_pretrained(tmp_path / "dcp")


@KINDS
def test_averages_and_functional_calls(kind: str, tmp_path: Path) -> None:
    from torch.optim.swa_utils import AveragedModel

    model = made(kind)
    average, optimizer = AveragedModel(model), torch.optim.SGD(model.parameters(), lr=0.5)
    first = copy.deepcopy(model)
    for _ in range(2):
        average.update_parameters(model)
        model(**batch()).loss.backward()
        optimizer.step()
    average.module.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert all(torch.equal(value, average.module.state_dict()[n]) for n, value in loaded.state_dict().items())
    assert any(not torch.equal(value, first.state_dict()[n]) for n, value in loaded.state_dict().items())

    values = dict(model.named_parameters())
    expected = gradients(model, model(**batch()).loss)
    found = torch.func.grad(lambda given: torch.func.functional_call(model, given, (), batch()).loss)(values)
    assert_equal_gradients({n: found[n].detach().numpy() for n in expected}, expected)

    def of_one(given: Any, ids: torch.Tensor) -> torch.Tensor:
        inputs = {"input_ids": ids[None], "labels": ids[None]}
        return torch.func.functional_call(model, given, (), inputs).loss

    each = torch.func.vmap(torch.func.grad(of_one), in_dims=(None, 0))(values, batch()["input_ids"])
    assert_equal_gradients({n: each[n].detach().mean(0).numpy() for n in expected}, expected)


@KINDS
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_with_a_scaler_and_deterministic_algorithms(kind: str, dtype: torch.dtype) -> None:
    model, scaler = made(kind), torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    plain = model(**batch()).loss.item()
    torch.use_deterministic_algorithms(True)
    try:
        with torch.autocast("cpu", dtype=dtype):
            output = model(**batch())
        scaler.scale(output.loss).backward()
    finally:
        torch.use_deterministic_algorithms(False)
    scaler.unscale_(optimizer)
    assert output.loss.dtype == torch.float32 and abs(output.loss.item() - plain) < 0.02 * plain
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    scaler.step(optimizer)
    scaler.update()
    assert model(**batch()).loss.item() < plain


def test_a_parametrised_layer_is_saved_as_it_is(tmp_path: Path) -> None:
    from safetensors.numpy import load_file
    from torch.nn.utils import parametrize
    from torch.nn.utils.parametrizations import weight_norm

    model = made("bert").eval()
    dense = model.cls.predictions.transform.dense
    weight_norm(dense)
    with torch.no_grad():
        dense.parametrizations.weight.original0.mul_(2)
    expected = model(**batch()).loss.item()
    model.save_pretrained(tmp_path / "parts")
    names = {name for name in load_file(tmp_path / "parts" / "model.safetensors") if "transform.dense" in name}
    place = "cls.predictions.transform.dense"
    assert names == {f"{place}.bias", *(f"{place}.parametrizations.weight.original{n}" for n in (0, 1))}
    parametrize.remove_parametrizations(dense, "weight")
    model.save_pretrained(tmp_path / "whole")
    loaded = triptych.BertForMaskedLM.from_pretrained(tmp_path / "whole", strict=True)
    assert_close(loaded(**batch()).loss.item(), expected)
