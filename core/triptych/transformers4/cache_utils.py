"""Caches of keys and values over PyTorch, where transformers 4 had them."""

from triptych.transformers4 import exports

exports(
    globals(),
    {
        "triptych_pt.authors.caches": "Cache DynamicCache EncoderDecoderCache",
        "triptych_pt.authors.fixed_caches": "HybridCache SlidingWindowCache StaticCache",
        "triptych_pt.authors.offloaded_caches": "OffloadedCache OffloadedStaticCache",
        "triptych.utils.logging": "logging=",
    },
)
