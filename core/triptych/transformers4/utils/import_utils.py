"""`transformers.utils.import_utils`: whether a package is installed, asked without importing it."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from collections.abc import Callable, Iterable
from functools import partial, wraps
from typing import Any

from triptych.backends import is_installed
from triptych.errors import MissingBackendError
from triptych.transformers4 import exports

ENV_VARS_TRUE_VALUES = {"1", "ON", "YES", "TRUE"}
ENV_VARS_TRUE_AND_AUTO_VALUES = ENV_VARS_TRUE_VALUES | {"AUTO"}
USE_TORCH = USE_TF = USE_JAX = "AUTO"

_MODULES = {
    "apex": "apex", "accelerate": "accelerate", "bitsandbytes": "bitsandbytes", "bs4": "bs4",
    "causal_conv1d": "causal_conv1d", "datasets": "datasets", "detectron2": "detectron2", "einops": "einops",
    "faiss": "faiss", "flash_attn_2": "flash_attn", "flax": "flax", "fsdp": "torch.distributed.fsdp", "ftfy": "ftfy",
    "g2p_en": "g2p_en", "gguf": "gguf", "ipex": "intel_extension_for_pytorch", "jinja": "jinja2",
    "keras_nlp": "keras_nlp", "kenlm": "kenlm", "librosa": "librosa", "mamba_ssm": "mamba_ssm", "natten": "natten",
    "ninja": "ninja", "nltk": "nltk", "onnx": "onnx", "optimum": "optimum", "pandas": "pandas", "peft": "peft",
    "phonemizer": "phonemizer", "protobuf": "google.protobuf", "psutil": "psutil", "pyctcdecode": "pyctcdecode",
    "pytest": "pytest", "sacremoses": "sacremoses", "safetensors": "safetensors", "scipy": "scipy",
    "sentencepiece": "sentencepiece", "sklearn": "sklearn", "soundfile": "soundfile", "spacy": "spacy",
    "tensorflow_probability": "tensorflow_probability", "tensorflow_text": "tensorflow_text", "tf": "tensorflow",
    "tiktoken": "tiktoken", "timm": "timm", "tokenizers": "tokenizers", "torch": "torch", "torch_xla": "torch_xla",
    "torchaudio": "torchaudio", "torchvision": "torchvision", "triton": "triton", "vision": "PIL",
}  # fmt: skip
"""What a function `is_<name>_available` asks for."""


def _has(module: str) -> bool:
    package = module.partition(".")[0]
    return is_installed(package) and (package == module or is_installed(module))


def _torch(*path: str) -> bool:
    """Return whether PyTorch is installed and the function at the dotted path says yes."""
    if not _has("torch"):
        return False
    found: Any = importlib.import_module("torch")
    for name in path:
        found = getattr(found, name)
    return bool(found())


is_torch_cuda_available = partial(_torch, "cuda", "is_available")
is_torch_mps_available = partial(_torch, "backends", "mps", "is_available")
is_torch_xpu_available = partial(_torch, "xpu", "is_available")
is_torch_bf16_gpu_available = partial(_torch, "cuda", "is_bf16_supported")
is_torch_deterministic = partial(_torch, "are_deterministic_algorithms_enabled")
is_torch_sdpa_available = is_torch_fx_available = is_torchdynamo_available = partial(_has, "torch")
is_torch_compile_available = is_torch_bf16_cpu_available = partial(_has, "torch")


def is_torch_tf32_available() -> bool:
    """Return whether the GPU multiplies in TF32: from compute capability 8.0 on."""
    return is_torch_cuda_available() and _torch_module().cuda.get_device_capability()[0] >= 8


def is_torch_bf16_available() -> bool:
    """Return whether PyTorch, which has bfloat16 on every processor, is installed."""
    return is_torch_bf16_cpu_available()


def is_torchdynamo_compiling() -> bool:
    """Return whether `torch.compile` traces what runs now."""
    return "torch" in sys.modules and bool(_torch_module().compiler.is_compiling())


def is_torch_fx_proxy(x: Any) -> bool:
    """Return whether `x` stands for a tensor in a trace of torch.fx."""
    return "torch.fx" in sys.modules and isinstance(x, sys.modules["torch.fx"].Proxy)


def get_torch_version() -> str:
    """Return the version of PyTorch, or "N/A"."""
    return importlib.metadata.version("torch") if _has("torch") else "N/A"


def is_torch_greater_or_equal(library_version: str, accept_dev: bool = False) -> bool:
    """Return whether PyTorch is installed, at that version at least."""
    return _has("torch") and _release(get_torch_version()) >= _release(library_version)


def is_flash_attn_greater_or_equal(library_version: str) -> bool:
    """Return whether flash_attn is installed, at that version at least."""
    return _has("flash_attn") and _release(importlib.metadata.version("flash_attn")) >= _release(library_version)


is_flash_attn_greater_or_equal_2_10 = partial(is_flash_attn_greater_or_equal, "2.1.0")


def _release(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version."""
    numbers = []
    for part in version.partition("+")[0].split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def _torch_module() -> Any:
    return importlib.import_module("torch")


def requires_backends(obj: Any, backends: str | Iterable[str]) -> None:
    """Raise unless every one of these packages is installed.

    Raises:
        MissingBackendError: one is not.
    """
    wanted = [backends] if isinstance(backends, str) else list(backends)
    lacking = [name for name in wanted if not _has(_MODULES.get(name, name))]
    if lacking:
        name = getattr(obj, "__name__", type(obj).__name__)
        raise MissingBackendError(
            f"{name} needs packages that are not installed.", expected=", ".join(wanted),
            received=f"no {' and no '.join(lacking)}", remedy=f"install {' '.join(lacking)}",
        )  # fmt: skip


def torch_only_method(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Let `fn` be called only where PyTorch is installed."""

    @wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        requires_backends(fn, "torch")
        return fn(*args, **kwargs)

    return call


class DummyObject(type):
    """Metaclass of a class that stands for one whose packages, `_backends`, are not installed: its use says so."""

    def __getattr__(cls, key: str) -> Any:
        if key.startswith("_"):
            raise AttributeError(key)
        requires_backends(cls, cls._backends)
        raise AttributeError(f"{cls.__name__} has no attribute {key!r}")


class OptionalDependencyNotAvailable(Exception):
    """Raised and caught by a package's `__init__` where an optional package is not installed."""


for _name, _module in _MODULES.items():
    globals().setdefault(f"is_{_name}_available", partial(_has, _module))

exports(globals())
