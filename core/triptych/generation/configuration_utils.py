"""`GenerationConfig`, where transformers had it."""

from triptych.generation.config import GenerationConfig as GenerationConfig
