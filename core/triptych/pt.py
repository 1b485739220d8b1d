"""Alias of `triptych_pt`."""

from triptych_pt import *  # noqa: F403
from triptych_pt import __all__ as __all__
