"""`GenerationConfig`, where transformers had it."""

from triptych.generation.config import GenerationConfig as GenerationConfig
from triptych.generation.options import CompileConfig as CompileConfig
from triptych.generation.options import SynthIDTextWatermarkingConfig as SynthIDTextWatermarkingConfig
from triptych.generation.options import WatermarkingConfig as WatermarkingConfig
