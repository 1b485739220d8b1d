"""One vector for each text, as configs with fields `summary_...` ask for it."""

from __future__ import annotations

from typing import Any

from triptych.errors import ConfigError
from triptych.nn import functional as fn
from triptych.nn.axes import hidden_axis
from triptych.nn.parts import Part
from triptych.weights.schema import Axis

KINDS = ("cls_index", "first", "last", "mean")


class SequenceSummary(Part):
    """A projection, if `summary_use_proj`, of the token that `summary_type` names: to `labels`, where there are some
    and the config has `summary_proj_to_labels`, else to the hidden size.

    Raises:
        ConfigError: another `summary_type`.
    """

    labels: int = 0

    def setup(self) -> None:
        make, config, hidden = self.make, self.config, hidden_axis(self.config)
        if config.summary_type not in KINDS:
            expected = " or ".join(map(repr, KINDS))
            raise ConfigError("`summary_type` is not built in.", expected=expected, received=repr(config.summary_type))
        units = Axis("labels", self.labels) if self.scores_labels() else hidden
        self.summary = make.dense(self, hidden, units) if config.summary_use_proj else None
        self.first_dropout = make.dropout(self, getattr(config, "summary_first_dropout", 0.0))
        self.last_dropout = make.dropout(self, getattr(config, "summary_last_dropout", 0.0))

    def scores_labels(self) -> bool:
        """Return whether the last axis of what is returned are labels."""
        config = self.config
        asked = config.summary_use_proj and getattr(config, "summary_proj_to_labels", False)
        return bool(asked and self.labels)

    def call(self, hidden_states: Any, cls_index: Any = None) -> Any:
        """Return [B, H or labels] from [B, Q, H]; `cls_index` [B] are the places that `summary_type` "cls_index" takes,
        the last ones if None."""
        ops, kind, name = self.ops, self.config.summary_type, self.config.summary_activation
        if kind == "mean":
            picked = ops.mean_last(ops.transpose(hidden_states, (0, 2, 1)))[..., 0]
        elif kind == "cls_index" and cls_index is not None:
            picked = ops.pick(hidden_states, cls_index)
        else:
            picked = hidden_states[:, 0 if kind == "first" else -1]
        summed = self.first_dropout(picked)
        summed = summed if self.summary is None else self.summary(summed)
        return self.last_dropout(fn.activation(ops, name, summed) if name else summed)
