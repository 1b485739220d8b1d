"""The caches of `GenerationConfig.cache_implementation`, by their names."""

from __future__ import annotations

from typing import Any

import torch

from triptych.errors import ArgumentError
from triptych_pt.authors.caches import Cache, DynamicCache, EncoderDecoderCache
from triptych_pt.authors.fixed_caches import HybridCache, SlidingWindowCache, StaticCache
from triptych_pt.authors.offloaded_caches import OffloadedCache, OffloadedStaticCache

_GROWING = {"dynamic": DynamicCache, "offloaded": OffloadedCache}
_FIXED = {"static": StaticCache, "sliding_window": SlidingWindowCache, "hybrid": HybridCache}


def named(name: str, config: Any, batch_size: int, max_length: int, dtype: torch.dtype, device: Any) -> Cache:
    """Return an empty cache; one for the tokens of the encoder too, where the model has one.

    Raises:
        ArgumentError: there is none of that name, or none for such a config.
    """
    device = torch.device("cpu" if device is None else device)
    made: Cache
    if name in _GROWING:
        made = _GROWING[name]()
    elif name in _FIXED:
        made = _FIXED[name](config, batch_size, max_length, device, dtype)
    elif name == "offloaded_static":
        made = OffloadedStaticCache(config, batch_size, max_length, device, dtype)
    else:
        raise ArgumentError(
            "There is no such cache.", expected=f"one of {', '.join((*_GROWING, *_FIXED, 'offloaded_static'))}",
            received=f"cache_implementation={name!r}",
        )  # fmt: skip
    crosses = getattr(config, "is_encoder_decoder", False) or getattr(config, "add_cross_attention", False)
    return EncoderDecoderCache(made, DynamicCache()) if crosses else made
