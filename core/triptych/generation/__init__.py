"""How a model generates: what `generation_config.json` says of it."""

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
