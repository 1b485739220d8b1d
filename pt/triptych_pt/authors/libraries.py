"""Quantisation of the linear layers of a loaded model by bitsandbytes and torchao, where they are installed."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from triptych.errors import ArgumentError, MissingBackendError
from triptych.modeling.quantised import method_of
from triptych.weights.plan import is_below

_SKIPPED = ("llm_int8_skip_modules", "modules_to_not_convert")


def check(said: Mapping[str, Any]) -> None:
    """Import the library that a quantisation config names.

    Raises:
        MissingBackendError: it is not installed.
    """
    _library(method_of(said))


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as cause:
        raise MissingBackendError(
            f"Weights cannot be quantised with {name}.",
            expected=f"the package {name}",
            received=str(cause),
            remedy=f"pip install {name}; or quantization_config=triptych.QuantizationConfig('int8'), which needs none",
        ) from cause


def quantise(model: Any, said: Mapping[str, Any]) -> None:
    """Quantise the linear layers of `model` in place, but those that map to the vocabulary, and those left out.

    Raises:
        ArgumentError: what is asked for is not there.
    """
    if said.get("llm_int8_enable_fp32_cpu_offload"):
        raise ArgumentError(
            "Layers of bitsandbytes are not kept on the CPU.",
            expected="llm_int8_enable_fp32_cpu_offload=False",
            received="True",
            remedy="leave it out; QuantizationConfig('int8') goes with device_map",
        )
    found = dict(_linear(model, said))
    if not found:
        raise ArgumentError("No layer could be quantised.", expected="linear layers that are not left out",
                            received="none", remedy="correct the names of modules that are left out")  # fmt: skip
    (_by_bitsandbytes if method_of(said) == "bitsandbytes" else _by_torchao)(model, found, said)


def _linear(model: Any, said: Mapping[str, Any]) -> Iterator[tuple[str, nn.Linear]]:
    """Yield the layers of PyTorch's own class by their paths."""
    skipped = [name for key in _SKIPPED for name in said.get(key) or ()]
    output = model.get_output_embeddings() if model.declared_part is not None else None
    for path, module in model.named_modules():
        kept = module is output or any(is_below(path, name) for name in skipped)
        if type(module) is nn.Linear and not kept:
            yield path, module


def _by_bitsandbytes(model: Any, found: Mapping[str, nn.Linear], said: Mapping[str, Any]) -> None:
    layers = _library("bitsandbytes").nn
    for path, old in found.items():
        new = _linear_8bit(layers, old, said) if said.get("load_in_8bit") else _linear_4bit(layers, old, said)
        model._replace_part(path, new.train(old.training))


def _linear_8bit(layers: Any, old: nn.Linear, said: Mapping[str, Any]) -> Any:
    wide = bool(said.get("llm_int8_has_fp16_weight"))
    new = layers.Linear8bitLt(
        old.in_features,
        old.out_features,
        old.bias is not None,
        has_fp16_weights=wide,
        threshold=said.get("llm_int8_threshold", 6.0),
        device="meta",
    )
    new.weight = layers.Int8Params(old.weight.detach(), requires_grad=False, has_fp16_weights=wide)
    new.bias = old.bias
    return new.to(old.weight.device)  # which quantises


def _linear_4bit(layers: Any, old: nn.Linear, said: Mapping[str, Any]) -> Any:
    kind, double = said.get("bnb_4bit_quant_type", "fp4"), bool(said.get("bnb_4bit_use_double_quant"))
    storage = _dtype(said.get("bnb_4bit_quant_storage")) or torch.uint8
    new = layers.Linear4bit(
        old.in_features,
        old.out_features,
        old.bias is not None,
        compute_dtype=_dtype(said.get("bnb_4bit_compute_dtype")) or old.weight.dtype,
        compress_statistics=double,
        quant_type=kind,
        quant_storage=storage,
        device="meta",
    )
    new.weight = layers.Params4bit(
        old.weight.detach(),
        requires_grad=False,
        quant_type=kind,
        compress_statistics=double,
        quant_storage=storage,
        module=new,
    )
    new.bias = old.bias
    return new.to(old.weight.device)


def _dtype(said: Any) -> torch.dtype | None:
    """Return a dtype of PyTorch, given as such or by name.

    Raises:
        ArgumentError: it is none.
    """
    if said is None or isinstance(said, torch.dtype):
        return said
    found = getattr(torch, str(said).removeprefix("torch."), None)
    if not isinstance(found, torch.dtype):
        raise ArgumentError("This is no dtype of PyTorch.", expected="such as torch.bfloat16", received=repr(said)[:80])
    return found


def _by_torchao(model: Any, found: Mapping[str, nn.Linear], said: Mapping[str, Any]) -> None:
    quantization = _library("torchao.quantization")
    kind = said.get("quant_type")
    if not isinstance(kind, _library("torchao.core.config").AOBaseConfig):
        raise ArgumentError(
            "quant_type is no config of torchao.",
            expected="one of torchao.quantization, such as Int8WeightOnlyConfig()",
            received=repr(kind)[:80],
        )
    wanted = {id(layer) for layer in found.values()}
    quantization.quantize_(model, kind, filter_fn=lambda module, name: id(module) in wanted)
