"""The class that says that a model generates in Keras, and what `generate` returns, where transformers had them."""

from triptych.transformers4 import exports

exports(
    globals(),
    {
        "triptych_tf.generation": "TFGenerationMixin",
        "triptych.generation.outputs": """
            TFBeamSampleDecoderOnlyOutput TFBeamSampleEncoderDecoderOutput TFBeamSampleOutput
            TFBeamSearchDecoderOnlyOutput TFBeamSearchEncoderDecoderOutput TFBeamSearchOutput
            TFContrastiveSearchDecoderOnlyOutput TFContrastiveSearchEncoderDecoderOutput TFContrastiveSearchOutput
            TFGenerateOutput TFGreedySearchDecoderOnlyOutput TFGreedySearchEncoderDecoderOutput TFGreedySearchOutput
            TFSampleDecoderOnlyOutput TFSampleEncoderDecoderOutput TFSampleOutput
        """,
    },
)
