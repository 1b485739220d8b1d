"""Tests run in forks of one process that has imported the frameworks, over a copy of the source tree.

Each fork imports triptych anew, from the copy, in which one file may have a fault. Nothing is computed before a fork,
so no framework has a thread that a fork would lose; the checkout is only read.
"""

from __future__ import annotations

import ast
import builtins
import compileall
import importlib
import json
import math
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

ROOTS = ("core", "pt", "tf", "flax", "conformance")
FOLDERS = (*ROOTS, "tests/support", "conformance/support", "conformance/contract", "tests")
FRAMEWORKS = ("torch", "tensorflow", "keras", "jax", "flax.linen")
"""torch is first: the other order crashes some builds."""
CLASSES = ("BertModel", "RobertaModel", "ElectraModel", "DistilBertModel", "GPT2Model", "OPTModel", "T5Model",
           "LlamaModel", "MistralModel", "Qwen2Model", "Qwen3Model", "EncoderDecoderModel")  # fmt: skip
_PLUGIN = () if "triptych" in entry_points(group="pytest11").names else ("-p", "triptych_conformance.plugin")
OPTIONS = ("-q", "-x", "--no-header", "--tb=short", "-p", "no:cacheprovider", "-p", "no:xdist",
           "-W", "ignore::pytest.PytestAssertRewriteWarning", *_PLUGIN)  # fmt: skip
"""The warning is of plugins that are imported before pytest starts."""


def copied(root: Path, destination: Path) -> Path:
    """Copy the source tree `root`, what git knows and what it does not ignore, and compile it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (root / name).is_file():
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, destination / name)
    for folder in (*ROOTS, "tests"):
        compileall.compile_dir(destination / folder, quiet=2)
    return destination


def prepare(tree: Path, cache: Path) -> None:
    """Make this process one that can be forked for tests of `tree`: where modules come from, and the frameworks."""
    before = {Path(name).resolve() for name in os.environ.get("PYTHONPATH", "").split(os.pathsep) if name}
    before |= {Path(__file__).resolve().parents[1]}
    folders = [str(tree / folder) for folder in FOLDERS if folder != "tests"]
    sys.path[:] = [*folders, *(one for one in sys.path if one and Path(one).resolve() not in before)]
    os.environ |= {
        "PYTHONPATH": os.pathsep.join(folders), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(cache),
        "TOKENIZERS_PARALLELISM": "false",
    }  # fmt: skip
    sys.dont_write_bytecode = True
    os.chdir(tree)
    runpy.run_path("conftest.py")  # how JAX compiles
    for name in FRAMEWORKS:
        importlib.import_module(name)
    transformers = importlib.import_module("transformers")
    for name in CLASSES:
        getattr(transformers, name)
    ours = [name for name in sys.modules if name.partition("_")[0] == "triptych" or name.startswith("triptych.")]
    threads = len(os.listdir("/proc/self/task"))
    if ours or threads > 1:
        raise RuntimeError(f"not fit to be forked: {threads} threads, {ours}")


@contextmanager
def with_content(path: Path, content: bytes) -> Iterator[None]:
    """Let a file of the copy have another content, which Python sees to be another by its time."""
    before, seen = path.read_bytes(), path.stat()
    try:
        path.write_bytes(content)
        os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns + 10**10))
        yield
    finally:
        path.write_bytes(before)
        os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


@dataclass
class Run:
    """What became of the tests in one fork."""

    events: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    status: int | None = None
    """The exit status; None if it was killed since it took too long."""
    cpu: float = 0.0
    """Seconds of the processor."""
    cut: bool = False
    """Whether it took too long in all, while its tests ended one by one."""

    @property
    def failure(self) -> dict[str, Any] | None:
        return next((event for event in self.events if event["event"] == "failed"), None)

    @property
    def passed(self) -> int:
        return sum(event["event"] == "passed" for event in self.events)

    @property
    def current(self) -> str:
        """The test that was last begun."""
        return next((event["test"] for event in reversed(self.events) if event["event"] == "begun"), "collection")


def forked(files: Sequence[str], plugin: Callable[[Callable[[dict[str, Any]], None]], Any], log: Path, limit: float,
           options: Sequence[str] = OPTIONS, most: float = math.inf) -> Run:  # fmt: skip
    """Run pytest over `files` in a fork, for at most `limit` seconds without an event and `most` in all.

    `plugin` makes what pytest is given of a function that notes an event.
    """
    reading, writing = os.pipe()
    start = time.monotonic()
    pid = os.fork()
    if not pid:
        os.close(reading)
        _child(files, plugin, log, writing, options)
    os.close(writing)
    run, last, rest = Run(), time.monotonic(), b""
    os.set_blocking(reading, False)
    ended = False
    while not ended:
        with suppress(BlockingIOError):
            while data := os.read(reading, 1 << 20):
                *lines, rest = (rest + data).split(b"\n")
                run.events += map(json.loads, lines)
                last = time.monotonic()
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            run.status, ended = os.waitstatus_to_exitcode(status), True
            run.cpu = usage.ru_utime + usage.ru_stime
        elif time.monotonic() - last > limit or time.monotonic() - start > most:
            run.cut = time.monotonic() - start > most
            end(pid)
            os.waitpid(pid, 0)
            ended = True
        else:
            time.sleep(0.02)
    with suppress(BlockingIOError):
        while data := os.read(reading, 1 << 20):
            rest += data
    run.events += map(json.loads, filter(None, rest.split(b"\n")))
    os.close(reading)
    end(pid)
    run.seconds = time.monotonic() - start
    return run


def end(group: int) -> None:
    """Kill a fork and what it started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _child(files: Sequence[str], plugin: Any, log: Path, writing: int, options: Sequence[str]) -> None:
    status = 99
    try:
        os.setpgid(0, 0)
        with open(log, "wb", buffering=0) as file, open(writing, "wb", buffering=0) as events:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)

            def note(event: dict[str, Any]) -> None:
                events.write(json.dumps(event).encode() + b"\n")

            try:
                status = int(pytest.main([*options, *files], plugins=[plugin(note)]))
            except BaseException:
                traceback.print_exc()
            note({"event": "ended", "status": status})
    finally:
        os._exit(status)


def function_of(test: str) -> str:
    """Return the file and the function of a test, be it of whichever class."""
    path, _, name = test.partition("[")[0].partition("::")
    return f"{path}::{name.rpartition('::')[2]}"


class Judge:
    """Runs some tests in an order, and notes which begin, pass and fail; `order` makes it of the names of all."""

    def __init__(
        self, note: Callable[[dict[str, Any]], None], order: Callable[[Sequence[str]], Sequence[str]] | None = None
    ) -> None:
        self.note, self.order = note, order

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self.order is not None:
            named = {item.nodeid: item for item in items}
            items[:] = [named[name] for name in dict.fromkeys(self.order(list(named))) if name in named]

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.note({"event": "begun", "test": nodeid})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.note({"event": "failed", "test": report.nodeid, "message": _message(report)})
        elif report.when == "call" and report.passed:
            self.note({"event": "passed", "test": report.nodeid, "seconds": report.duration})

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.note({"event": "failed", "test": report.nodeid or "collection", "message": _message(report)})


def _message(report: Any) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    text = str(report.longrepr) if crash is None else crash.message
    lines = [line for line in text.splitlines() if line.strip()]
    return (lines[0] if crash is not None and lines else lines[-1] if lines else "")[:300]


class Coverage:
    """Notes of each test how long it took and which lines it ran, of the files that were `probed`."""

    def __init__(self, note: Callable[[dict[str, Any]], None], most: int, whole: frozenset[str] = frozenset()) -> None:
        self.note, self.most, self.whole = note, most, whole

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep of the cases of each test function `most`, evenly chosen, and all of those that are `whole`.

        Tests of one class do not follow each other, so that each makes what they share, and its lines are of each.
        """
        functions: dict[str, list[pytest.Item]] = {}
        for item in items:
            functions.setdefault(function_of(item.nodeid), []).append(item)
        places: dict[str, int] = {}
        for name, cases in functions.items():
            count = len(cases) if name.rpartition("::")[2] in self.whole else min(self.most, len(cases))
            places |= {cases[number * len(cases) // count].nodeid: number for number in range(count)}
        kept = [item for item in items if item.nodeid in places]
        in_classes = any(getattr(item, "cls", None) for item in kept)
        items[:] = sorted(kept, key=lambda item: places[item.nodeid]) if in_classes else kept

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.note({"event": "failed", "test": report.nodeid or "collection", "message": _message(report)})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.note({"event": "failed", "test": report.nodeid, "message": _message(report)})

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        for lines in vars(builtins).get(PROBES, {}).values():
            lines.clear()
        start = time.monotonic()
        yield
        found = {file: sorted(lines) for file, lines in vars(builtins).get(PROBES, {}).items() if lines}
        self.note({"event": "ran", "test": item.nodeid, "seconds": time.monotonic() - start, "lines": found})


PROBES = "__lines_that_ran__"
"""What holds the lines, by file."""


def probed(path: str, source: bytes) -> bytes:
    """Return the source of the file `path` such that each statement in a function notes that it runs."""
    tree: ast.Module = _Prober().visit(ast.parse(source))
    kept = f"vars(_builtins).setdefault({PROBES!r}, {{}}).setdefault({path!r}, set())"
    head = ast.parse(f"import builtins as _builtins\n_ran = {kept}").body
    first = int(ast.get_docstring(tree) is not None)
    while isinstance(node := tree.body[first], ast.ImportFrom) and node.module == "__future__":
        first += 1
    tree.body[first:first] = head
    return ast.unparse(ast.fix_missing_locations(tree)).encode()


class _Prober(ast.NodeTransformer):
    def __init__(self) -> None:
        self.depth = 0

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.depth += 1
        self.generic_visit(node)
        self.depth -= 1
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        self.depth += 1
        self.generic_visit(node)
        self.depth -= 1
        node.body = ast.Subscript(ast.Tuple([_note(node.lineno), node.body], ast.Load()), ast.Constant(1), ast.Load())
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if not self.depth or isinstance(node, ast.ClassDef):
            return node
        for name in ("body", "orelse", "finalbody"):
            body = getattr(node, name, None)
            if isinstance(body, list) and body and isinstance(body[0], ast.stmt):
                setattr(node, name, _noting(body))
        return node


def _noting(body: list[ast.stmt]) -> list[ast.stmt]:
    made: list[ast.stmt] = []
    for node in body:
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not is_text and not isinstance(node, (ast.Global, ast.Nonlocal)):
            made.append(ast.Expr(_note(node.lineno)))
        made.append(node)
    return made


def _note(line: int) -> ast.expr:
    return ast.Call(ast.Attribute(ast.Name("_ran", ast.Load()), "add", ast.Load()), [ast.Constant(line)], [])
