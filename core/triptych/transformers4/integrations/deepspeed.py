"""`transformers.integrations.deepspeed`."""

from __future__ import annotations

from triptych.backends import is_installed
from triptych.transformers4 import exports


def is_deepspeed_available() -> bool:
    """Return whether the package deepspeed is installed."""
    return is_installed("deepspeed")


def is_deepspeed_zero3_enabled() -> bool:
    """Return whether deepspeed splits the parameters while models are made: never, in triptych."""
    return False


exports(globals())
