"""The old name of `triptych.nn.functional`."""

from triptych.nn.functional import *  # noqa: F403
