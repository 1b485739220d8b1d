"""How a model generates: what `generation_config.json` says of it, and what changes the scores of its next token."""

import importlib
from pathlib import Path

from triptych.generation.config import GenerationConfig as GenerationConfig
from triptych.generation.options import CompileConfig as CompileConfig
from triptych.generation.options import SynthIDTextWatermarkingConfig as SynthIDTextWatermarkingConfig
from triptych.generation.options import WatermarkingConfig as WatermarkingConfig
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
from triptych.names import defined_in as _defined_in

_OF_BACKENDS = {name: place for name, place in _defined_in().items() if place.endswith(".processors")}

# So that `triptych.generation.logits_process` is a module, as in transformers.
__path__.append(f"{Path(__path__[0]).parent}/transformers4/generation")


def __getattr__(name: str) -> object:
    """Import a name of a backend on first use, so that only its framework is loaded."""
    if name not in _OF_BACKENDS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_OF_BACKENDS[name]), name)
