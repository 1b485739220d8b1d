"""The old name of `triptych.nn.stack`."""

from triptych.nn.stack import *  # noqa: F403
