"""The old name of `triptych.nn.attention`."""

from triptych.nn.attention import *  # noqa: F403
