"""Folders with quantised weights, laid out as the libraries that quantise store them; the codes are coarse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from triptych import TensorRef, open_checkpoint, save_checkpoint

Tensors = dict[str, np.ndarray]


def _coded(weight: np.ndarray, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    scale = np.abs(weight).max(axis=1, keepdims=True) / 100
    return (weight / scale).astype(dtype), scale.astype(np.float32)


def _bitsandbytes_8(layer: str, weight: np.ndarray) -> Tensors:
    codes, scale = _coded(weight, np.int8)
    return {f"{layer}.weight": codes, f"{layer}.SCB": scale[:, 0]}


def _bitsandbytes_4(layer: str, weight: np.ndarray) -> Tensors:
    packed = np.zeros((weight.size // 2, 1), np.uint8)
    return {
        f"{layer}.weight": packed,
        f"{layer}.weight.absmax": np.ones(3, np.float32),
        f"{layer}.weight.quant_state.bitsandbytes__nf4": np.zeros(9, np.uint8),
    }


def _gptq(layer: str, weight: np.ndarray) -> Tensors:
    out, inp = weight.shape
    return {
        f"{layer}.qweight": np.zeros((inp // 2, out), np.int32),
        f"{layer}.scales": np.ones((1, out), np.float16),
        f"{layer}.g_idx": np.zeros(inp, np.int32),
    }


def _fp8(layer: str, weight: np.ndarray) -> Tensors:
    codes, scale = _coded(weight, ml_dtypes.float8_e4m3fn)
    return {f"{layer}.weight": codes, f"{layer}.weight_scale_inv": scale}


LAYOUTS: dict[str, tuple[dict[str, Any], Callable[[str, np.ndarray], Tensors]]] = {
    "bitsandbytes, 8 bits": ({"load_in_8bit": True}, _bitsandbytes_8),
    "bitsandbytes, 4 bits": ({"load_in_4bit": True, "quant_method": "bitsandbytes"}, _bitsandbytes_4),
    "gptq": ({"quant_method": "gptq", "bits": 4}, _gptq),
    "fp8": ({"quant_method": "fp8", "weight_block_size": [128, 128]}, _fp8),
}


def quantised_folder(source: Path, folder: Path, layout: str, also: str = "_proj.weight") -> Path:
    """Write the Llama in `source` into `folder` with its projections, or what ends with `also`, quantised."""
    said, code = LAYOUTS[layout]
    tensors: Tensors = {}
    for name, ref in open_checkpoint(source).items():
        ends = name.endswith(("_proj.weight", also))
        tensors |= code(name.removesuffix(".weight"), ref.read()) if ends else {name: ref.read()}
    config = json.loads((source / "config.json").read_text()) | {"quantization_config": said}
    save_checkpoint(folder, [TensorRef.of(*item) for item in tensors.items()], json.dumps(config))
    return folder
