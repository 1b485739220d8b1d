"""PyTorch's own ways to hold a tensor: each is saved and loaded, or refused with an error that says why."""

from __future__ import annotations

import functools
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from triptych import ArgumentError, PretrainedConfig, PreTrainedModel, TriptychError, open_checkpoint


class Config(PretrainedConfig):
    model_type = "live_modules"


class Parts(PreTrainedModel):
    """A model of the parts that `make` returns, by name."""

    config_class = Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        for name, part in self.make_parts().items():
            setattr(self, name, part)
        self.post_init()

    def make_parts(self) -> dict[str, Any]:
        raise NotImplementedError

    def forward(self) -> None: ...


def model_of(make: Any) -> type[Parts]:
    """Return a class of models of the parts that `make` returns."""
    return type("Made", (Parts,), {"make_parts": lambda self: make()})


def shuffled(model: Any) -> Any:
    """Give every tensor values that no constructor gives."""
    torch.manual_seed(3)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.dtype == torch.bool:
                tensor.copy_(~tensor)
            elif tensor.is_floating_point() or tensor.is_complex():
                tensor.copy_(torch.randn(tensor.shape, dtype=tensor.dtype) + 2)
            else:
                tensor.copy_(torch.randint(1, 100, tensor.shape))
    return model


def assert_equal(one: Any, other: Any) -> None:
    first, second = one.state_dict(), other.state_dict()
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]) and tensor.dtype == second[name].dtype, name


def weight_norm() -> dict[str, Any]:
    warnings.simplefilter("ignore", FutureWarning)  # PyTorch calls it deprecated; files of many have it
    return {"normed": nn.utils.weight_norm(nn.Linear(3, 4))}


def spectral_norm() -> dict[str, Any]:
    return {"normed": nn.utils.spectral_norm(nn.Linear(3, 4))}


def parametrised_spectral_norm() -> dict[str, Any]:
    return {"normed": nn.utils.parametrizations.spectral_norm(nn.Linear(3, 4))}


def attention() -> dict[str, Any]:
    return {"same": nn.MultiheadAttention(4, 2), "other": nn.MultiheadAttention(4, 2, kdim=3, vdim=5, bias=False)}


def recurrent() -> dict[str, Any]:
    return {"lstm": nn.LSTM(3, 4, 2, bidirectional=True, proj_size=2), "gru": nn.GRU(3, 4, bias=False),
            "cell": nn.LSTMCell(3, 4)}  # fmt: skip


def containers() -> dict[str, Any]:
    listed = nn.ParameterList([nn.Parameter(torch.ones(2)), nn.Parameter(torch.zeros(3))])
    return {"listed": listed, "named": nn.ParameterDict({"a": torch.ones(2), "b": torch.ones(1)})}


class Buffers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_parameter("no_parameter", None)
        self.register_buffer("no_buffer", None)
        self.register_buffer("passing", torch.arange(3.0), persistent=False)
        self.register_buffer("flags", torch.tensor([True, False]))
        self.register_buffer("narrow", torch.ones(2, dtype=torch.bfloat16))
        self.register_buffer("scalar", torch.tensor(1.0))
        self.register_buffer("empty", torch.zeros(0, 3))
        self.counts = nn.Parameter(torch.tensor([1, 2]), requires_grad=False)
        self.wide = nn.Parameter(torch.ones(2, dtype=torch.float64))
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)


WRAPS = [pytest.param(functools.partial(torch.compile, backend="eager"), id="compile"), nn.DataParallel]
KINDS = [weight_norm, spectral_norm, parametrised_spectral_norm, attention, recurrent, containers]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("safe", [True, False])
def test_it_is_saved_and_loaded(kind: Any, safe: bool, tmp_path: Path) -> None:
    cls = model_of(kind)
    model = shuffled(cls(Config()))
    model.save_pretrained(tmp_path, safe_serialization=safe)
    assert set(open_checkpoint(tmp_path)) == set(model.state_dict())
    assert_equal(cls.from_pretrained(tmp_path, strict=True), model)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_missing_ones_start_as_their_module_starts_them(kind: Any) -> None:
    cls = model_of(kind)
    model = cls.from_pretrained(None, config=Config(), state_dict={}, strict=False)
    for (name, tensor), fresh in zip(model.state_dict().items(), cls(Config()).state_dict().values(), strict=True):
        assert not tensor.is_meta and tensor.isfinite().all(), name
        assert tensor.eq(0).all() == fresh.eq(0).all() and tensor.eq(1).all() == fresh.eq(1).all(), name


def test_old_norms_compute_with_what_is_loaded(tmp_path: Path) -> None:
    cls, inputs = model_of(lambda: weight_norm() | {"spectral": nn.utils.spectral_norm(nn.Linear(3, 4))}), torch.ones(3)
    model = shuffled(cls(Config())).eval()
    expected = model.normed(inputs), model.spectral(inputs)
    model.save_pretrained(tmp_path)
    again = cls.from_pretrained(tmp_path, strict=True)
    assert torch.equal(again.normed(inputs), expected[0]) and torch.equal(again.spectral(inputs), expected[1])


def test_tensors_of_all_kinds(tmp_path: Path) -> None:
    cls = model_of(lambda: {"part": Buffers()})
    model = shuffled(cls(Config()))
    model.save_pretrained(tmp_path)
    again = cls.from_pretrained(tmp_path, strict=True)
    assert set(open_checkpoint(tmp_path)) == {f"part.{name}" for name in model.part.state_dict()}
    assert again.part.no_parameter is None and again.part.no_buffer is None
    assert again.part.passing.tolist() == [0, 1, 2]
    assert not again.part.frozen.requires_grad and again.part.wide.requires_grad
    for name, tensor in model.state_dict().items():
        held = again.state_dict()[name]
        assert torch.equal(held, tensor.to(held.dtype)), name
        if not tensor.is_floating_point() or name in dict(model.named_buffers()):
            assert held.dtype == tensor.dtype, name


def test_complex_tensors(tmp_path: Path) -> None:
    cls = model_of(lambda: {"wave": nn.Parameter(torch.ones(2, dtype=torch.complex64))})
    model = shuffled(cls(Config()))
    try:
        model.save_pretrained(tmp_path)
    except TriptychError as error:
        assert "complex" in str(error) and "wave" in str(error)
    else:
        assert_equal(cls.from_pretrained(tmp_path, strict=True), model)


def test_a_lazy_module_is_refused_until_it_has_a_shape(tmp_path: Path) -> None:
    cls = model_of(lambda: {"lazy": nn.LazyLinear(2)})
    model = cls(Config())
    with pytest.raises(ArgumentError, match="lazy.weight"):
        model.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())
    model.lazy(torch.ones(1, 3))
    model.save_pretrained(tmp_path)
    assert open_checkpoint(tmp_path)["lazy.weight"].shape == (2, 3)
    with pytest.raises(ArgumentError, match="lazy.weight"):
        cls.from_pretrained(tmp_path)


def test_a_half_model(tmp_path: Path) -> None:
    cls = model_of(lambda: {"dense": nn.Linear(3, 4), "norm": nn.BatchNorm1d(4)})
    model = shuffled(cls(Config())).half()
    model.save_pretrained(tmp_path)
    saved = open_checkpoint(tmp_path)
    assert saved["dense.weight"].dtype == np.float16 and saved["norm.num_batches_tracked"].dtype == np.int64
    again = cls.from_pretrained(tmp_path, dtype="auto", strict=True)
    assert_equal(again, model)


def test_modules_that_are_added_later(tmp_path: Path) -> None:
    cls = model_of(lambda: {"dense": nn.Linear(3, 4)})
    model = cls(Config())
    model.dense.adapter = nn.Linear(2, 2)
    model.register_buffer("later", torch.ones(1))
    model.save_pretrained(tmp_path)
    assert {"dense.adapter.weight", "dense.adapter.bias", "later"} <= set(open_checkpoint(tmp_path))


@pytest.mark.parametrize("wrap", WRAPS)
def test_a_wrapped_model_is_saved_under_its_own_names(wrap: Any, tmp_path: Path) -> None:
    cls = model_of(lambda: {"dense": nn.Linear(3, 4)})
    model = shuffled(cls(Config()))
    wrapped = wrap(model)
    inner = getattr(wrapped, "_orig_mod", None) or wrapped.module
    inner.save_pretrained(tmp_path / "inner")
    assert_equal(cls.from_pretrained(tmp_path / "inner", strict=True), model)
    if hasattr(wrapped, "save_pretrained"):
        wrapped.save_pretrained(tmp_path / "wrapped")
        assert_equal(cls.from_pretrained(tmp_path / "wrapped", strict=True), model)
    state = wrapped.state_dict()
    assert all(name.startswith(("_orig_mod.", "module.")) for name in state)
    model.save_pretrained(tmp_path / "state", state_dict=state)
    assert_equal(cls.from_pretrained(tmp_path / "state", strict=True), model)


@pytest.mark.parametrize("wrap", WRAPS)
def test_a_wrapped_part_keeps_its_values(wrap: Any, tmp_path: Path, caplog: Any) -> None:
    cls = model_of(lambda: {"dense": nn.Linear(3, 4), "plain": nn.Linear(3, 3)})
    model = shuffled(cls(Config()))
    expected = model.dense.weight.detach().clone()
    model.dense = wrap(model.dense)
    with caplog.at_level(logging.WARNING, "triptych"):
        model.save_pretrained(tmp_path)
    held = [ref for name, ref in open_checkpoint(tmp_path).items() if name.startswith("dense") and "weight" in name]
    assert len(held) == 1 and np.array_equal(held[0].read(), expected.numpy())
