"""The class that says that a model generates in PyTorch, and what `generate` returns, where transformers had them."""

from triptych.transformers4 import exports

exports(
    globals(),
    {
        "triptych_pt.generation": "GenerationMixin",
        "triptych.generation.outputs": """
            BeamSampleDecoderOnlyOutput BeamSampleEncoderDecoderOutput BeamSampleOutput BeamSearchDecoderOnlyOutput
            BeamSearchEncoderDecoderOutput BeamSearchOutput ContrastiveSearchDecoderOnlyOutput
            ContrastiveSearchEncoderDecoderOutput ContrastiveSearchOutput GenerateBeamDecoderOnlyOutput
            GenerateBeamEncoderDecoderOutput GenerateBeamOutput GenerateDecoderOnlyOutput
            GenerateEncoderDecoderOutput GenerateNonBeamOutput GenerateOutput GreedySearchDecoderOnlyOutput
            GreedySearchEncoderDecoderOutput GreedySearchOutput SampleDecoderOnlyOutput SampleEncoderDecoderOutput
            SampleOutput
        """,
    },
)
