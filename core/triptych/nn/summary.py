"""One vector for each text, as configs with fields `summary_...` ask for it."""

from __future__ import annotations

from typing import Any

from triptych.errors import ConfigError
from triptych.nn import functional as fn
from triptych.nn.axes import hidden_axis
from triptych.nn.parts import Part

KINDS = ("first", "last")


class SequenceSummary(Part):
    """A projection, if `summary_use_proj`, of the token that `summary_type` names.

    Raises:
        ConfigError: another `summary_type`.
    """

    def setup(self) -> None:
        make, config, hidden = self.make, self.config, hidden_axis(self.config)
        if config.summary_type not in KINDS:
            expected = " or ".join(map(repr, KINDS))
            raise ConfigError("`summary_type` is not built in.", expected=expected, received=repr(config.summary_type))
        self.summary = make.dense(self, hidden, hidden) if config.summary_use_proj else None
        self.first_dropout = make.dropout(self, getattr(config, "summary_first_dropout", 0.0))
        self.last_dropout = make.dropout(self, config.summary_last_dropout)

    def call(self, hidden_states: Any) -> Any:
        """Return [B, H] from [B, Q, H]."""
        summed = self.first_dropout(hidden_states[:, 0 if self.config.summary_type == "first" else -1])
        summed = summed if self.summary is None else self.summary(summed)
        name = self.config.summary_activation
        return self.last_dropout(fn.activation(self.ops, name, summed) if name else summed)
