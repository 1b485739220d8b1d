"""Renders a chat template: a program of its own, for a template is from files that anybody may have made.

It may do no more than text allows (Jinja2's sandbox, in which nothing can be changed), and no more than this process is
given: so many seconds and bytes, where the system has such limits. It reads one JSON object from its input, and writes
one, {"text"}, {"error"} or {"limit"}. It imports nothing of triptych, which it starts without.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_CHARACTERS = 4_000_000
MAX_SECONDS = 10
MAX_MEMORY = 2**30


class TooMuch(Exception):
    """The text is longer than MAX_CHARACTERS."""


class GenerationBlock(Extension):
    """The tag `generation`, which marks what an assistant said, for training; here it is but its content."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


def render(template: str, values: dict[str, Any]) -> str:
    """Return the text that `template` makes of `values`.

    Raises:
        jinja2.TemplateError and whatever else the template's expressions raise. TooMuch, MemoryError.
    """
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlock, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals |= {"raise_exception": _raise, "strftime_now": lambda form: datetime.now().strftime(form)}
    parts, size = [], 0
    for part in environment.from_string(template).generate(**values):
        parts.append(part)
        size += len(part)
        if size > MAX_CHARACTERS:
            raise TooMuch(f"more than {MAX_CHARACTERS} characters")
    return "".join(parts)


def _to_json(value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None,
             sort_keys: bool = False) -> str:  # fmt: skip
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _limit() -> None:
    """Let the system end this process if it takes too much. Windows has no such limits, macOS none of memory."""
    try:
        import resource
    except ImportError:
        return
    limits = {resource.RLIMIT_CPU: MAX_SECONDS}
    if sys.platform == "linux":
        limits[resource.RLIMIT_AS] = MAX_MEMORY
    for kind, limit in limits.items():
        _, hard = resource.getrlimit(kind)
        bound = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (bound, bound))


def _main(read: Callable[[], str], write: Callable[[str], object]) -> None:
    asked = json.loads(read())
    _limit()
    try:
        answer = {"text": render(asked["template"], asked["values"])}
    except (TooMuch, MemoryError) as error:
        answer = {"limit": str(error) or "memory"}
    except Exception as error:  # a template may raise anything: it is told to the process that asked
        answer = {"error": f"{type(error).__name__}: {error}"[:500]}
    write(json.dumps(answer))


if __name__ == "__main__":
    _main(sys.stdin.read, sys.stdout.write)
