"""The old name of `triptych.weights.schema`."""

from triptych.weights.schema import *  # noqa: F403
