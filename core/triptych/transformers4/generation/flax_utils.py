"""The class that says that a model generates in JAX, and what `generate` returns, where transformers had them."""

from triptych.transformers4 import exports

exports(
    globals(),
    {
        "triptych_flax.generation": "FlaxGenerationMixin",
        "triptych.generation.outputs": "FlaxBeamSearchOutput FlaxGreedySearchOutput FlaxSampleOutput",
    },
)
