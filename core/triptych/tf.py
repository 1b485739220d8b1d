"""Alias of `triptych_tf`."""

from triptych_tf import *  # noqa: F403
from triptych_tf import __all__ as __all__
