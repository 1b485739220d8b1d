"""How a model generates: what `generation_config.json` says of it."""

from triptych.generation.config import GenerationConfig as GenerationConfig
