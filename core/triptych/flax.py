"""Alias of `triptych_flax`."""

from triptych_flax import *  # noqa: F403
from triptych_flax import __all__ as __all__
