"""Rows of the contract about quantised weights: loaded, made, saved, and made whole again."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gguf_models import make_model, write_gguf
from triptych import (
    ArgumentError,
    BitsAndBytesConfig,
    FineGrainedFP8Config,
    GGUFQuantizationConfig,
    MissingBackendError,
    QuantizationConfig,
    UnsupportedFormatError,
)
from triptych_conformance import Backend, assert_close
from walk import row

IDS = np.arange(5, dtype=np.int32)[None]


def llama(backend: Backend, folder: Path) -> Any:
    """Return a small Llama of `backend`, saved in `folder`."""
    make_model("llama-tied").save_pretrained(folder)
    return backend.load("LlamaForCausalLM", folder)


def logits(backend: Backend, model: Any) -> np.ndarray:
    return backend.run(model, {"input_ids": IDS})["logits"]


@row(
    "5.5.30", pt="Y", note="QuantizationConfig, GGUFQuantizationConfig, FineGrainedFP8Config; bitsandbytes and torchao"
)
@row("5.5.74", pt="Y", note="its own, fp8 and compressed-tensors' fp8; other methods are refused by name")
@row("5.6.28", pt="Y", note="as it is in memory; what libraries quantised is refused")
@row("5.4.87", pt="Y")
def quantised_models(backend: Backend, folder: Path) -> None:
    whole = llama(backend, folder / "whole")
    for config in (QuantizationConfig("int8"), {"quant_method": "triptych", "codec": "int4"}, FineGrainedFP8Config()):
        model = backend.load("LlamaForCausalLM", folder / "whole", quantization_config=config)
        assert model.is_quantized and model.get_memory_footprint() < whole.get_memory_footprint() / 2
        model.save_pretrained(folder / "packed")
        said = json.loads((folder / "packed" / "config.json").read_text())["quantization_config"]
        again = backend.load("LlamaForCausalLM", folder / "packed")
        assert again.quantization_method == said["quant_method"]
        before = logits(backend, model)
        assert (logits(backend, again) == before).all()
        assert not again.dequantize().is_quantized
        assert again.get_memory_footprint() == whole.get_memory_footprint()
        assert_close(logits(backend, again), before)
    with pytest.raises(ArgumentError, match="no packed weights"):
        again.dequantize()
    with pytest.raises(ArgumentError, match="quantise with hqq"):
        backend.load("LlamaForCausalLM", folder / "whole", quantization_config={"quant_method": "hqq"})
    with pytest.raises(ArgumentError, match="quantised already, in another way"):
        backend.load("LlamaForCausalLM", folder / "packed", quantization_config=GGUFQuantizationConfig())


@row("5.5.36", pt="Y", note="dequantised, or with GGUFQuantizationConfig as the file packs them")
def gguf_files(backend: Backend, folder: Path) -> None:
    write_gguf(folder / "x.gguf", "llama-tied", make_model("llama-tied"))
    model = backend.load("LlamaForCausalLM", folder, gguf_file="x.gguf")
    assert not model.is_quantized and np.isfinite(logits(backend, model)).all()
    with pytest.raises(ArgumentError, match="gguf_file is no name"):
        backend.load("LlamaForCausalLM", folder, gguf_file=3)


@row("5.5.28", pt="Y", note="through bitsandbytes, which has to be installed; a save is refused")
@row("5.5.29", pt="Y", note="through bitsandbytes, which has to be installed; a save is refused")
def bits(backend: Backend, folder: Path) -> None:
    llama(backend, folder)
    assert not backend.load("LlamaForCausalLM", folder, load_in_8bit=False, load_in_4bit=None).is_quantized
    with pytest.raises(ArgumentError, match="How are the weights quantised"):
        backend.load("LlamaForCausalLM", folder, load_in_8bit=True, quantization_config=QuantizationConfig())
    for asked in ({"load_in_8bit": True}, {"quantization_config": BitsAndBytesConfig(load_in_4bit=True)}):
        if importlib.util.find_spec("bitsandbytes") is None:
            with pytest.raises(MissingBackendError, match="pip install bitsandbytes"):
                backend.load("LlamaForCausalLM", folder, **asked)
            continue
        model = backend.load("LlamaForCausalLM", folder, **asked)
        assert model.quantization_method == "bitsandbytes" and np.isfinite(logits(backend, model)).all()
        with pytest.raises(UnsupportedFormatError, match="bitsandbytes"):
            model.save_pretrained(folder / "other")
