"""The old name of `triptych.nn.outputs`."""

from triptych.nn.outputs import *  # noqa: F403
