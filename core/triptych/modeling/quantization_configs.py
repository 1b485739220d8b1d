"""How a load is told to quantise: the values of `quantization_config`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from triptych.errors import ArgumentError
from triptych.modeling import quantised


class QuantizationConfigMixin:
    """Base of the configs below. `to_dict` returns what config.json holds of one."""

    quant_method: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are not None, and the `quant_method`."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}  # type: ignore[arg-type]
        return {"quant_method": self.quant_method, **{name: v for name, v in values.items() if v is not None}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Any:
        """Return a config of what `to_dict` returned.

        Raises:
            ArgumentError: an unknown field.
        """
        known = inspect.signature(cls).parameters
        if strange := [name for name in values if name not in {*known, "quant_method"}]:
            raise ArgumentError(f"{cls.__name__} has no such fields.", expected=", ".join(known),
                                received=", ".join(strange))  # fmt: skip
        return cls(**{name: value for name, value in values.items() if name != "quant_method"})


@dataclass
class QuantizationConfig(QuantizationConfigMixin):
    """triptych's own: `codec` "int8", with a scale for each row, or "int4", with one for each group of a row.

    The model keeps the codes in memory, in every framework, and its layers decode them where they compute.

    Args:
        codec: "int8" or "int4".
        group_size: of int4, elements that share a scale: an even number, 32 if None.
        modules_to_not_convert: parts of dotted names of weights, such as "lm_head" or "layers.0".
        embeddings: whether the vocabulary's embeddings, and the matrix that scores tokens, are packed too.
        codecs: parts of names -> another codec.

    Raises:
        ArgumentError: an impossible value.
    """

    quant_method: ClassVar[str] = quantised.OWN
    codec: str = "int8"
    group_size: int | None = None
    modules_to_not_convert: Sequence[str] | None = None
    embeddings: bool = True
    codecs: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        quantised.codec_named(self.codec, self.group_size)
        quantised.packing_of(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        values = super().to_dict()
        return values if self.codecs else {name: value for name, value in values.items() if name != "codecs"}


@dataclass
class GGUFQuantizationConfig(QuantizationConfigMixin):
    """Keeps the weights of a GGUF file as the file packs them (Q8_0, Q4_0, Q4_1, Q4_K, Q6_K); without it they are
    dequantised when they are loaded, as `gguf_file=` does it in transformers.

    Args:
        modules_to_not_convert: parts of dotted names of weights that are dequantised.
    """

    quant_method: ClassVar[str] = "gguf"
    modules_to_not_convert: Sequence[str] | None = None


@dataclass
class FineGrainedFP8Config(QuantizationConfigMixin):
    """float8_e4m3fn with a scale for each block of a matrix: `weight_block_size` rows and columns.

    Weights alone are quantised: layers compute in the dtype of the model. Embeddings, and the matrix that scores
    tokens, stay as they are.

    Args:
        activation_scheme: accepted, "dynamic": activations are not quantised.
        modules_to_not_convert: parts of dotted names of weights.
    """

    quant_method: ClassVar[str] = "fp8"
    activation_scheme: str = "dynamic"
    weight_block_size: Sequence[int] | None = (128, 128)
    modules_to_not_convert: Sequence[str] | None = None

    def __post_init__(self) -> None:
        quantised.packing_of(self.to_dict())
        if self.activation_scheme != "dynamic":
            raise ArgumentError("Activations are not quantised.", expected="activation_scheme='dynamic'",
                                received=repr(self.activation_scheme)[:80])  # fmt: skip


@dataclass
class BitsAndBytesConfig(QuantizationConfigMixin):
    """PyTorch only: linear layers of bitsandbytes, which has to be installed. Fields as its layers know them.

    Raises:
        ArgumentError: neither or both of `load_in_8bit` and `load_in_4bit`, or another impossible value.
    """

    quant_method: ClassVar[str] = "bitsandbytes"
    load_in_8bit: bool = False
    load_in_4bit: bool = False
    llm_int8_threshold: float = 6.0
    llm_int8_skip_modules: Sequence[str] | None = None
    llm_int8_enable_fp32_cpu_offload: bool = False
    llm_int8_has_fp16_weight: bool = False
    bnb_4bit_compute_dtype: Any = None
    bnb_4bit_quant_type: str = "fp4"
    bnb_4bit_use_double_quant: bool = False
    bnb_4bit_quant_storage: Any = None

    def __post_init__(self) -> None:
        if bool(self.load_in_8bit) == bool(self.load_in_4bit):
            raise ArgumentError("How many bits?", expected="load_in_8bit=True or load_in_4bit=True",
                                received="both" if self.load_in_8bit else "neither")  # fmt: skip
        if self.bnb_4bit_quant_type not in ("fp4", "nf4"):
            raise ArgumentError("bnb_4bit_quant_type is impossible.", expected="fp4 or nf4",
                                received=repr(self.bnb_4bit_quant_type)[:80])  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        values = super().to_dict()
        dtypes = ("bnb_4bit_compute_dtype", "bnb_4bit_quant_storage")
        return {n: str(v).removeprefix("torch.") if n in dtypes else v for n, v in values.items()}


@dataclass
class TorchAoConfig(QuantizationConfigMixin):
    """PyTorch only: `torchao.quantization.quantize_` of the linear layers; torchao has to be installed.

    Args:
        quant_type: a config of torchao.quantization, such as `Int8WeightOnlyConfig()`.
        modules_to_not_convert: parts of dotted names of weights.
    """

    quant_method: ClassVar[str] = "torchao"
    quant_type: Any = None
    modules_to_not_convert: Sequence[str] | None = None
