"""`transformers.integrations.fsdp`."""

from __future__ import annotations

import sys
from typing import Any

from triptych.transformers4 import exports


def is_fsdp_managed_module(module: Any) -> bool:
    """Return whether PyTorch's FSDP holds the parameters of a module."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return fsdp is not None and isinstance(module, fsdp.FullyShardedDataParallel)


exports(globals())
