"""One model base layer for PyTorch, TensorFlow (Keras 3) and Flax.

Importing this package imports no framework; using a name of a backend imports that backend's framework only.
"""

import importlib
import sys
from typing import TYPE_CHECKING

from triptych.names import defined_in as _defined_in
from triptych.names import tables_in as _tables_in

if TYPE_CHECKING:
    from triptych.adapters.config import LoraConfig as LoraConfig
    from triptych.checkpoints.opening import Checkpoint as Checkpoint
    from triptych.checkpoints.opening import open_checkpoint as open_checkpoint
    from triptych.checkpoints.saving import save_checkpoint as save_checkpoint
    from triptych.config import PretrainedConfig as PretrainedConfig
    from triptych.errors import *  # noqa: F403
    from triptych.families import Family as Family
    from triptych.families.bert import BertConfig as BertConfig
    from triptych.families.distilbert import DistilBertConfig as DistilBertConfig
    from triptych.families.electra import ElectraConfig as ElectraConfig
    from triptych.families.encoder_decoder import EncoderDecoderConfig as EncoderDecoderConfig
    from triptych.families.gpt2 import GPT2Config as GPT2Config
    from triptych.families.llama import LlamaConfig as LlamaConfig
    from triptych.families.mistral import MistralConfig as MistralConfig
    from triptych.families.opt import OPTConfig as OPTConfig
    from triptych.families.qwen2 import Qwen2Config as Qwen2Config
    from triptych.families.qwen3 import Qwen3Config as Qwen3Config
    from triptych.families.roberta import RobertaConfig as RobertaConfig
    from triptych.families.t5 import T5Config as T5Config
    from triptych.generation import GenerationConfig as GenerationConfig
    from triptych.generation.stopping import ConfidenceCriteria as ConfidenceCriteria
    from triptych.generation.stopping import EosTokenCriteria as EosTokenCriteria
    from triptych.generation.stopping import MaxLengthCriteria as MaxLengthCriteria
    from triptych.generation.stopping import MaxTimeCriteria as MaxTimeCriteria
    from triptych.generation.stopping import StoppingCriteria as StoppingCriteria
    from triptych.generation.stopping import StoppingCriteriaList as StoppingCriteriaList
    from triptych.generation.stopping import StopStringCriteria as StopStringCriteria
    from triptych.generation.streaming import AsyncTextIteratorStreamer as AsyncTextIteratorStreamer
    from triptych.generation.streaming import TextIteratorStreamer as TextIteratorStreamer
    from triptych.generation.streaming import TextStreamer as TextStreamer
    from triptych.hub.pushing import PushToHubMixin as PushToHubMixin
    from triptych.modeling.auto import AutoConfig as AutoConfig
    from triptych.modeling.quantization_configs import BitsAndBytesConfig as BitsAndBytesConfig
    from triptych.modeling.quantization_configs import FineGrainedFP8Config as FineGrainedFP8Config
    from triptych.modeling.quantization_configs import GGUFQuantizationConfig as GGUFQuantizationConfig
    from triptych.modeling.quantization_configs import QuantizationConfig as QuantizationConfig
    from triptych.modeling.quantization_configs import TorchAoConfig as TorchAoConfig
    from triptych.tensors.ref import TensorRef as TensorRef
    from triptych.weights.schema import Axis as Axis
    from triptych.weights.schema import Layout as Layout
    from triptych.weights.schema import Schema as Schema
    from triptych.weights.schema import SchemaBuilder as SchemaBuilder
    from triptych.weights.schema import Weight as Weight
    from triptych_flax import *  # noqa: F403
    from triptych_pt import *  # noqa: F403
    from triptych_tf import *  # noqa: F403

__version__ = "0.1.0"

_DEFINED_IN = {**_tables_in(), **_defined_in()}

__all__ = sorted(_defined_in())  # noqa: PLE0605 (resolved lazily below)

# So that `triptych.modeling_utils` is a module.
__path__.append(f"{__path__[0]}/transformers4")  # noqa: F405


def __getattr__(name: str) -> object:
    """Import a public name on first use, so that only its framework is loaded."""
    if name in _DEFINED_IN:
        value = getattr(importlib.import_module(_DEFINED_IN[name]), name)
    elif name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    else:
        value = importlib.import_module("triptych.transformers4._toplevel").found(name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Missing:
    """The last finder of modules: says what stands for one of transformers, or for a name in one, that is not here."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name.startswith(f"{__name__}."):
            raise importlib.import_module("triptych.transformers4").missing(name)


sys.meta_path.append(_Missing)
