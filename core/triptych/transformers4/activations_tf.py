"""The activations of TensorFlow, where transformers 4 had them."""

from triptych.transformers4 import exports

exports(
    globals(),
    {
        "triptych_tf.authors.activations": """
            ACT2FN _gelu=gelu _gelu_new=gelu_new approximate_gelu_wrap=gelu_new gelu gelu_10 gelu_fast
            gelu_new get_tf_activation=get_activation glu mish quick_gelu
        """,
    },
)
