"""What sees a search that runs as a loop of Python: streamers, criteria, and the record of scores and states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from triptych.generation.search import Watch
from triptych.generation.steps import OF_ROWS
from triptych.nn.outputs import field_of


class Recorder(Watch):
    """Record what a call asks for, hand tokens to a streamer, and ask criteria whether a text ends.

    Args:
        keep: names of fields of the output that are recorded.
        criteria: functions of tokens, the scores that are kept so far and the length, which return whether each row
            ends, or all, or None.
        keeps_cache: whether the cache is a field of the output, too.
    """

    def __init__(
        self, keep: Sequence[str] = (), streamer: Any = None, criteria: Sequence[Callable[[Any, Any, Any], Any]] = (),
        keeps_cache: bool = False,
    ) -> None:  # fmt: skip
        self.keep, self.streamer, self.criteria = set(keep), streamer, criteria
        self.found: dict[str, list[Any]] = {}
        self.keeps_cache = keeps_cache
        self.cache: Any = None
        self.encoded: Any = None
        """What the encoder returned."""

    def watches(self) -> bool:
        """Return whether there is anything to see."""
        return bool(self.keep or self.streamer is not None or self.criteria)

    def put(self, tokens: Any) -> None:
        if self.streamer is not None:
            self.streamer.put(tokens)

    def note(self, outputs: Any, logits: Any, scores: Any) -> None:
        for name, value in (("logits", logits), ("scores", scores)):
            if name in self.keep:
                self.found.setdefault(name, []).append(value)
        for name in OF_ROWS:
            kept = name.removeprefix("decoder_").removeprefix("cross_") in self.keep
            if kept and (value := field_of(outputs, name)) is not None:
                self.found.setdefault(name, []).append(value)

    def records(self) -> bool:
        return bool(self.keep)

    def close(self, cache: Callable[[], Any]) -> None:
        if self.keeps_cache:
            self.cache = cache()

    def stops(self, ids: Any, length: Any, scores: Any) -> Any:
        ends, kept = None, tuple(self.found.get("scores", ())) or None
        for criterion in self.criteria:
            said = criterion(ids, kept, length)
            ends = said if ends is None else ends if said is None else ends | said
        return ends

    def end(self) -> None:
        """Tell the streamer that nothing more comes."""
        if self.streamer is not None:
            self.streamer.end()

    def fields(self) -> dict[str, tuple[Any, ...]]:
        """Return what was recorded, by the names of the output's fields."""
        return {name: tuple(values) for name, values in self.found.items()}
