"""What parameters of a `GenerationConfig` may hold: of watermarks, and of `torch.compile`. It is data, as that is."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, TypeVar

from triptych.checks import positive_int, probability
from triptych.config.values import fields_of
from triptych.errors import ConfigError

Self = TypeVar("Self", bound="_Watermarking")


class _Watermarking:
    """Base of the two kinds of watermark; `triptych.generation.watermarks` puts them into texts."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @classmethod
    def from_dict(cls: type[Self], config_dict: Mapping[str, Any], **kwargs: Any) -> Self:
        """Return a config of these fields; keyword arguments go before them.

        Raises:
            ConfigError: there is no such field, or one that must be given is not. ArgumentError: no mapping of names.
        """
        given = {**fields_of(config_dict), **kwargs}
        try:
            return cls(**given)
        except TypeError as cause:
            raise ConfigError(
                f"No {cls.__name__} can be made of this.",
                expected=", ".join(field.name for field in fields(cls)),
                received=", ".join(given),
            ) from cause

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, JSON-ready."""
        return asdict(self)

    def __iter__(self) -> Any:
        """Yield the names of the fields and their values."""
        yield from self.to_dict().items()

    def update(self, **kwargs: Any) -> None:
        """Set those of these that are fields."""
        for name in {field.name for field in fields(self)} & kwargs.keys():
            setattr(self, name, kwargs[name])


@dataclass
class WatermarkingConfig(_Watermarking):
    """A watermark by lists of favoured tokens.

    Args:
        greenlist_ratio: share of the vocabulary that is favoured, 0 to 1.
        bias: added to the scores of favoured tokens.
        hashing_key: key of the lists.
        seeding_scheme: "lefthash", lists by the last token; "selfhash", by the next one too.
        context_width: number of tokens by which a list is chosen.
    """

    greenlist_ratio: float = 0.25
    bias: float = 2.0
    hashing_key: int = 15485863
    seeding_scheme: str = "lefthash"
    context_width: int = 1

    def validate(self) -> None:
        """Raise `ConfigError` for a field that cannot be meant."""
        if self.seeding_scheme not in ("lefthash", "selfhash"):
            raise ConfigError("seeding_scheme is unknown.", expected="'lefthash' or 'selfhash'",
                              received=repr(self.seeding_scheme))  # fmt: skip
        if not probability(self.greenlist_ratio):
            raise ConfigError("greenlist_ratio is no ratio.", expected="0 to 1", received=repr(self.greenlist_ratio))
        if not positive_int(self.context_width):
            raise ConfigError("context_width is impossible.", expected="1 or more", received=repr(self.context_width))


@dataclass
class SynthIDTextWatermarkingConfig(_Watermarking):
    """A watermark by tournaments between tokens (SynthID Text).

    Args:
        ngram_len: number of tokens that seed a tournament.
        keys: one for each of its rounds.
        context_history_size: number of contexts that are remembered, so that none is marked twice.
        sampling_table_seed, sampling_table_size: of the table of random bits; at most 2^24 entries.
        skip_first_ngram_calls: leave the first tokens unmarked.
        debug_mode: begin with uniform scores.
    """

    ngram_len: int
    keys: Sequence[int]
    context_history_size: int = 1024
    sampling_table_seed: int = 0
    sampling_table_size: int = 2**16
    skip_first_ngram_calls: bool = False
    debug_mode: bool = False

    def validate(self) -> None:
        """Raise `ConfigError` for a field that cannot be meant."""
        if not positive_int(self.sampling_table_size) or self.sampling_table_size > 2**24:
            raise ConfigError("sampling_table_size is impossible.", expected="1 to 2^24",
                              received=repr(self.sampling_table_size))  # fmt: skip


@dataclass
class CompileConfig:
    """Arguments of `torch.compile`, for `PreTrainedModel.get_compiled_call`."""

    fullgraph: bool = False
    dynamic: bool | None = None
    backend: str | Callable[..., Any] = "inductor"
    mode: str | None = "reduce-overhead"
    options: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments by name."""
        return copy.deepcopy(vars(self))


def watermarking(value: Any) -> Any:
    """Return the config that a dict is of, or any other value as it is.

    Raises:
        ConfigError: a dict of other fields, or a field that cannot be meant.
    """
    if isinstance(value, Mapping):
        value = (SynthIDTextWatermarkingConfig if "ngram_len" in value else WatermarkingConfig).from_dict(value)
    if isinstance(value, _Watermarking):
        value.validate()  # type: ignore[attr-defined]
    return value
