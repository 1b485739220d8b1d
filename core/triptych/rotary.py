"""The old name of `triptych.nn.rotary`."""

from triptych.nn.rotary import *  # noqa: F403
