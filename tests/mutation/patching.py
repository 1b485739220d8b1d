"""Faults put into functions of a process that has imported everything and collected its tests, in a fork of it.

That takes a third of the time of an import for each fault. It is for functions alone: what runs while a module is
imported, and what another module has kept of it, stays as it was. So a fault that lives here is judged again by
`running.forked`, which imports it.
"""

from __future__ import annotations

import gc
import json
import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest
from mutation.running import OPTIONS, Judge, Run, end


class UnpatchableError(Exception):
    """The fault is in no function that is there."""


def patch(path: Path, before: bytes, after: bytes) -> int:
    """Give the functions of the imported file `path` the code of the source `after`; return how many changed."""
    one, other = (compile(source, str(path), "exec", dont_inherit=True) for source in (before, after))
    changed = dict(_changed(one, other))
    gc.unfreeze()
    count = 0
    for function in [found for found in gc.get_objects() if type(found) is FunctionType]:
        code = function.__code__
        if code.co_filename == str(path) and (new := changed.get(_key(code))) is not None:
            try:
                function.__code__ = new
            except ValueError as error:  # it closes over other variables
                raise UnpatchableError(str(error)) from error
            count += 1
    if not count:
        raise UnpatchableError("no function has it")
    return count


def _key(code: CodeType) -> tuple[str, int]:
    return code.co_qualname, code.co_firstlineno


def _changed(one: CodeType, other: CodeType) -> Iterator[tuple[tuple[str, int], CodeType]]:
    inner, outer = ([c for c in code.co_consts if isinstance(c, CodeType)] for code in (one, other))
    if len(inner) != len(outer):
        raise UnpatchableError("another number of functions")
    for before, after in zip(inner, outer, strict=True):
        if before != after:
            yield _key(before), after
            yield from _changed(before, after)


class _Server:
    """Collects, and then runs what it is told to, each time in a fork."""

    def __init__(self, note: Callable[[dict[str, Any]], None], commands: Iterator[str], log: Path) -> None:
        self.note, self.commands, self.log = note, commands, log

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        self.note({"event": "collected", "tests": list(items), "threads": len(os.listdir("/proc/self/task"))})
        for line in self.commands:
            command = json.loads(line)
            pid = os.fork()
            if not pid:
                self._run(command, [items[name] for name in command["tests"] if name in items])
            self.note({"event": "forked", "pid": pid})
            _, status, usage = os.wait4(pid, 0)
            self.note({"event": "ended", "status": status, "cpu": usage.ru_utime + usage.ru_stime})
        return True

    def _run(self, command: dict[str, Any], items: list[pytest.Item]) -> None:
        try:
            os.setpgid(0, 0)
            path = Path(command["path"])
            try:
                patch(path, path.read_bytes(), command["source"].encode())
            except UnpatchableError as error:
                self.note({"event": "unpatchable", "why": str(error)})
                os._exit(0)
            session = items[0].session if items else None
            for item, following in zip(items, [*items[1:], None], strict=True):
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                if session is not None and session.testsfailed:
                    break
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(99)


class Collected:
    """A process that has collected the tests of some files."""

    def __init__(self, files: Sequence[str], log: Path) -> None:
        commands, events = os.pipe(), os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(commands[1])
            os.close(events[0])
            self._serve(files, log, commands[0], events[1])
        os.close(commands[0])
        os.close(events[1])
        self._commands, self._events = open(commands[1], "w", buffering=1), events[0]
        os.set_blocking(self._events, False)
        self._rest = b""
        found = self._until("collected", 900.0)
        if found is None or found["threads"] > 1:
            raise RuntimeError(f"not fit to be forked: {found and found['threads']} threads; see {log}")
        self.tests: list[str] = found["tests"]

    def _serve(self, files: Sequence[str], log: Path, commands: int, events: int) -> None:
        try:
            with open(log, "wb", buffering=0) as out, open(events, "wb", buffering=0) as noted, open(commands) as asked:
                os.dup2(out.fileno(), 1)
                os.dup2(out.fileno(), 2)

                def note(event: dict[str, Any]) -> None:
                    noted.write(json.dumps(event).encode() + b"\n")

                pytest.main([*OPTIONS, *files], plugins=[Judge(note), _Server(note, iter(asked), log)])
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)

    def run(self, path: Path, source: bytes, tests: Sequence[str], limit: float, most: float) -> Run:
        """Return what became of `tests` with the file `path` as `source`; see `running.forked`."""
        self._commands.write(json.dumps({"path": str(path), "source": source.decode(), "tests": list(tests)}) + "\n")
        run, start = Run(), time.monotonic()
        last, pid = start, 0
        while True:
            for event in self._new():
                last = time.monotonic()
                if event["event"] == "forked":
                    pid = event["pid"]
                elif event["event"] == "ended":
                    run.seconds = time.monotonic() - start
                    run.cpu = event["cpu"]
                    killed = os.WIFSIGNALED(event["status"]) and (run.cut or run.status == -1)
                    run.status = None if killed else os.waitstatus_to_exitcode(event["status"])
                    return run
                else:
                    run.events.append(event)
            now = time.monotonic()
            if pid and run.status != -1 and (now - last > limit or now - start > most):
                run.cut, run.status = now - start > most, -1
                end(pid)
            time.sleep(0.02)

    def _new(self) -> list[dict[str, Any]]:
        with suppress(BlockingIOError):
            while data := os.read(self._events, 1 << 20):
                self._rest += data
        *lines, self._rest = self._rest.split(b"\n")
        return [json.loads(line) for line in lines]

    def _until(self, name: str, limit: float) -> dict[str, Any] | None:
        start = time.monotonic()
        while time.monotonic() - start < limit:
            for event in self._new():
                if event["event"] == name:
                    return event
            time.sleep(0.05)
        return None

    def close(self) -> None:
        self._commands.close()
        os.waitpid(self.pid, 0)
