"""JSON as this project accepts it from files: bounded, without duplicate keys, and without NaN except in configs.

Duplicate keys and non-finite numbers are where JSON parsers disagree (RFC 8259, sections 4 and 6), so a file that uses
them means different things to different readers. In a config transformers 4 writes `Infinity` and `NaN`, and
transformers 5 `{"__float__": "Infinity"}`; these are read.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from triptych.errors import ConfigError, TriptychError, UnreadableConfigError
from triptych.files.regular import open_regular

MAX_BYTES = 100_000_000
MAX_DEPTH = 64
MAX_INTEGER = 2**63
_watching: ContextVar[Callable[[Path, bytes], None] | None] = ContextVar("_watching", default=None)


@contextmanager
def shown_to(watch: Callable[[Path, bytes], None]) -> Iterator[None]:
    """Call `watch` with the path and the bytes of each small file that is read here meanwhile: those bytes are what is
    parsed, whatever is done to the file before or after."""
    token = _watching.set(watch)
    try:
        yield
    finally:
        _watching.reset(token)


def is_watched() -> bool:
    return _watching.get() is not None


def shown(path: Path, data: bytes) -> bytes:
    """Return `data`, which was read of `path`, once whoever is watching has seen it, and has not refused it."""
    if (watch := _watching.get()) is not None:
        watch(path, data)
    return data


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError(f"duplicate key {repeated(name for name, _ in pairs)[0]!r}")
    return result


def repeated(names: Iterable[str]) -> list[str]:
    """Return the names that occur more than once, in the order of their first occurrence."""
    return [name for name, count in Counter(names).items() if count > 1]


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


_CONSTANTS = {"Infinity": float("inf"), "-Infinity": float("-inf"), "NaN": float("nan")}


def _no_duplicates_nor_tags(pairs: list[tuple[str, Any]]) -> Any:
    """Return an object of a config, or the number for which transformers 5 writes one."""
    result = _no_duplicates(pairs)
    tag = result.get("__float__") if len(result) == 1 else None
    return _CONSTANTS[tag] if isinstance(tag, str) and tag in _CONSTANTS else result


def _bounded_int(text: str) -> int:
    if len(text) > 20 or not -MAX_INTEGER <= int(text) < MAX_INTEGER:
        raise ValueError(f"integer of {len(text)} digits is outside 64 bits")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"number {text} is not finite")
    return value


_DECODER = json.JSONDecoder(
    object_pairs_hook=_no_duplicates, parse_constant=_no_constant, parse_int=_bounded_int, parse_float=_finite
)
_CONFIG_DECODER = json.JSONDecoder(
    object_pairs_hook=_no_duplicates_nor_tags,
    parse_constant=_CONSTANTS.__getitem__,
    parse_int=_bounded_int,
    parse_float=_finite,
)


def _depth_of(text: str) -> int:
    """Return the deepest nesting, without recursion, so that a hostile file cannot exhaust the stack."""
    depth = deepest = 0
    in_string = escaped = False
    for char in text:
        if in_string:
            in_string = escaped or char != '"'
            escaped = char == "\\" and not escaped
        elif char == '"':
            in_string = True
        elif char in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "]}":
            depth -= 1
    return deepest


def parse_json(
    data: bytes, source: str, error: type[TriptychError], decoder: json.JSONDecoder = _DECODER
) -> dict[str, Any]:
    """Parse `data` into a JSON object; anything else raises `error`, which names `source`."""
    if len(data) > MAX_BYTES:
        raise error(f"{source} is too large.", expected=f"at most {MAX_BYTES} bytes", received=f"{len(data)} bytes")
    try:
        text = data.decode("utf-8")
        if text.count("[") + text.count("{") > MAX_DEPTH and _depth_of(text) > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH}")
        value = decoder.decode(text)
    except ValueError as cause:
        raise error(
            f"{source} is not valid JSON.",
            expected="one UTF-8 JSON object without duplicate keys",
            received=str(cause),
            remedy=remedy_for(data) or "restore the file from where it came from",
        ) from cause
    if not isinstance(value, dict):
        raise error(f"{source} is not a JSON object.", expected="an object", received=type(value).__name__)
    return value


def read_json(path: Path, error: type[TriptychError]) -> dict[str, Any]:
    """Read and parse the file at `path`.

    Raises:
        MissingFileError: it is not there. UnsupportedFormatError: it is no regular file. `error`: it is not one JSON
        object.
    """
    return parse_json(_bytes(path), str(path), error)


def parse_config(data: bytes, source: str, error: type[ConfigError] = ConfigError) -> dict[str, Any]:
    """Parse `data` as `parse_json` does, with the non-finite numbers that configs may hold."""
    return parse_json(data, source, error, _CONFIG_DECODER)


def read_config(path: Path) -> dict[str, Any]:
    """Read and parse the config at `path`.

    Raises:
        MissingFileError: it is not there. UnsupportedFormatError: it is no regular file. UnreadableConfigError: it is
        not one JSON object.
    """
    return parse_config(_bytes(path), str(path), UnreadableConfigError)


def _bytes(path: Path) -> bytes:
    with open_regular(path) as file:
        return shown(path, file.read(MAX_BYTES + 1))


def json_text(values: Mapping[str, object]) -> str:
    """Return the text of a config.json or an index: sorted keys, indent 2, one newline at the end."""
    return json.dumps(values, indent=2, sort_keys=True) + "\n"


def remedy_for(head: bytes) -> str:
    """Return a remedy for the usual wrong contents of a downloaded file, or an empty string."""
    start = head[:200].lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return "this is a Git LFS pointer: fetch the real file with `git lfs pull`"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "this is a web page, probably of a failed download: download the file again"
    if start.startswith(b"pk\x03\x04"):
        return "this is a zip archive, as of torch.save: give it the name pytorch_model.bin"
    if start.startswith(b"\x89hdf"):
        return "this is an HDF5 file: give it the name tf_model.h5"
    return ""
