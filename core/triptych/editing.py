"""The old name of `triptych.tools.editing`."""

from triptych.tools.editing import *  # noqa: F403
