"""Caches of keys and values over PyTorch, where transformers 4 had them."""

from triptych.transformers4 import exports

exports(
    globals(),
    {
        "triptych_pt.authors.caches": "Cache DynamicCache EncoderDecoderCache StaticCache",
        "triptych.utils.logging": "logging=",
    },
)
