"""Another name of `triptych.nn.stack`."""

from triptych.nn.stack import finish, result, run_layers

__all__ = ["finish", "result", "run_layers"]
