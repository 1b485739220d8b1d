"""The activations of PyTorch, where transformers 4 had them."""

from triptych.transformers4 import exports

exports(
    globals(),
    {
        "triptych_pt.authors.activations": """
            ACT2CLS ACT2FN AccurateGELUActivation ClassInstantier ClippedGELUActivation FastGELUActivation
            GELUActivation LaplaceActivation LinearActivation MishActivation NewGELUActivation
            PytorchGELUTanh QuickGELUActivation ReLUSquaredActivation gelu gelu_fast gelu_new gelu_python
            get_activation linear_act mish quick_gelu silu
        """,
        "triptych.utils.logging": "logging=",
    },
)
