"""Put single faults into the source, one at a time, and see whether the tests fail.

    python tests/mutate.py run --work FOLDER        # 200 faults; an hour on one core, with `cover` before
    python tests/mutate.py report --work FOLDER     # the table
    python tests/mutate.py list                     # the faults
    python tests/mutate.py check --work FOLDER      # that what killed passes without a fault

`cover` runs each test file of `TESTS` once, without a fault, and writes which lines each test runs. `run` takes it from
there: a fault is judged by tests that run its line, the quickest of each test function first, in a fork of a process
that has imported the frameworks. It is killed by the first that fails, or by one that takes far longer than it should.
What lives passed every test that runs its line, up to `--most` seconds of them. A run that was cut off goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from mutation import choosing, running
from mutation.choosing import area_of, chosen
from mutation.faults import KINDS, Fault
from mutation.likely import Cases, likely, picked
from mutation.patching import Collected
from mutation.running import function_of

ROOT = Path(__file__).resolve().parents[1]
COUNT, SEED = 200, 16
TESTS = (
    "conformance/test_families.py", "conformance/test_schema.py", "conformance/test_gradients.py",
    "conformance/test_checkpointing.py", "conformance/test_files.py", "conformance/test_surgery.py",
    "conformance/test_attention.py", "conformance/test_decoding.py", "conformance/test_caches.py",
    "conformance/test_outputs.py", "conformance/test_parts.py", "conformance/test_low_precision.py",
    "conformance/test_seeded_dropout.py", "conformance/test_few_rows.py", "conformance/test_encoder_decoder.py",
    "conformance/test_witness.py", "conformance/test_quantised.py", "conformance/test_signatures.py",
    "conformance/test_bad_arguments.py", "conformance/test_internals.py", "conformance/test_generation.py",
    "conformance/test_generation_processors.py", "conformance/test_generation_contrastive.py",
    "conformance/test_properties.py", "conformance/test_live_layers.py", "conformance/test_own_classes.py",
    "conformance/test_training.py", "conformance/test_torch_training.py", "conformance/test_contract.py",
    "conformance/test_real_files.py", "conformance/test_more_than_declared.py", "conformance/test_serving.py",
    "conformance/test_tf_refusals.py", "conformance/test_generation_outputs.py", "conformance/test_nnx.py",
    "conformance/test_adapters.py", "conformance/test_transfer.py", "conformance/test_authors_arguments.py",
    "tests/nn", "tests/formats", "tests/checkpoints", "tests/weights", "tests/tensors", "tests/config",
    "tests/reliability", "tests/modeling", "tests/adapters", "tests/tools", "tests/commands/test_edits.py",
    "tests/commands/test_reports.py", "tests/commands/test_generating.py", "tests/test_new_family.py",
    "tests/generation", "tests/placement",
)  # fmt: skip
"""The tests of models and files, those of the families first. Left out are those of the Hub, of names and of pages."""
WHOLE = frozenset({"test_as_transformers_5"})
"""Test functions of which `cover` runs every case."""
QUICK, QUICK_FILES = 15.0, 5
"""How many seconds of tests, of how many files, come first."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("list", "cover", "run", "report", "check"))
    parser.add_argument("--work", type=Path, help="folder of the copy, the lines and the results")
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--only", nargs="*", default=[], help="ids of faults; those are judged, again where they were")
    parser.add_argument("--area", choices=tuple(choosing.AREAS), help="only the faults there")
    parser.add_argument("--most", type=float, default=150.0, help="seconds of tests for a fault that lives")
    parser.add_argument("--cases", type=int, default=20, help="of each test function, in `cover`")
    parser.add_argument("--cap", type=float, default=math.inf, help="seconds after which a fault is left undecided")
    parser.add_argument(
        "--using", nargs="*", default=[], metavar="FILE[::PATTERN]", help="tests to judge by, no others"
    )
    parser.add_argument("--collected", nargs="*", default=[], metavar="FILE", help="test files that are "
                        "collected once, for faults in functions; what lives there is judged again")  # fmt: skip
    parser.add_argument("--tests", nargs="*", default=None, help="test files to cover, instead of all")
    parser.add_argument("--wait-for", type=Path, help="a folder; nothing runs while there is something in it")
    options = parser.parse_args()
    faults = chosen(ROOT, options.count, options.seed)
    faults = [fault for fault in faults if options.area in (None, area_of(fault.path))]
    if options.command == "list":
        for fault in faults:
            print(_line(fault))
        return 0
    if options.work is None:
        parser.error("--work is needed")
    options.work.mkdir(parents=True, exist_ok=True)
    if options.command == "report":
        print("\n".join(_report(faults, _results(options.work))))
        return 0
    return _Session(options, faults).run()


class _Session:
    def __init__(self, options: argparse.Namespace, faults: list[Fault]) -> None:
        self.options, self.faults, self.work = options, faults, options.work.resolve()
        self.log = self.work / "last.log"
        self.collected: Collected | None = None
        self.tree = running.copied(ROOT, self.work / "tree")
        running.prepare(self.tree, self.work / "compiled")

    def run(self) -> int:
        if self.options.command == "cover":
            self.cover()
        if self.options.command == "cover":
            return 0
        if self.options.command == "check":
            return self.check()
        known = _Known(self.work / "lines.jsonl")
        if self.options.collected:
            self.collected = Collected(self.options.collected, self.work / "collected.log")
        done = {} if self.options.only else _results(self.work)
        with open(self.work / "results.jsonl", "a") as file:
            for fault in self.faults:
                if fault.id in done or (self.options.only and fault.id not in self.options.only):
                    continue
                self.wait()
                result = self.judged(fault, known)
                file.write(json.dumps(result) + "\n")
                file.flush()
                print(result["verdict"], f"{result['seconds']:.0f}s", _line(fault), result["by"], flush=True)
        return int(any(one["verdict"] in ("lived", "undecided") for one in _results(self.work).values()))

    def check(self) -> int:
        """Run what killed faults without one."""
        killers = sorted({one["by"] for one in _results(self.work).values() if one["verdict"] == "killed"})
        tests = [test for test in killers if "::" in test]
        files = sorted({test.partition("::")[0] for test in killers if test.endswith(".py") or "::" in test})
        failures: list[str] = []
        for file in files:
            own = [test for test in tests if test.partition("::")[0] == file]
            run = running.forked([file], partial(running.Judge, order=partial(_exactly, own)), self.log, limit=300)
            failures += [event["test"] for event in run.events if event["event"] == "failed"]
            print(f"{file}: {run.passed} of {len(own)} passed", flush=True)
        print(f"{len(tests)} tests that killed, failing without a fault: {failures}")
        return int(bool(failures))

    def wait(self) -> None:
        folder = self.options.wait_for
        while folder is not None and folder.is_dir() and any(folder.iterdir()):
            time.sleep(1)

    def cover(self) -> None:
        """Write which lines each test runs, of the files that can have faults."""
        paths = sorted({fault.path for fault in choosing.all_faults(self.tree)})
        asked = TESTS if self.options.tests is None else self.options.tests
        files = [path for name in asked for path in _test_files(self.tree / name)]
        with ExitStack() as stack, open(self.work / "lines.jsonl", "w" if self.options.tests is None else "a") as out:
            for name in paths:
                content = running.probed(name, (self.tree / name).read_bytes())
                stack.enter_context(running.with_content(self.tree / name, content))
            for path in files:
                self.wait()
                name = path.relative_to(self.tree).as_posix()
                without_x = [option for option in running.OPTIONS if option != "-x"]
                plugin = partial(running.Coverage, most=self.options.cases, whole=WHOLE)
                run = running.forked([name], plugin, self.log, limit=300, options=without_x)
                failed = {event["test"] for event in run.events if event["event"] == "failed"}
                ran = [event for event in run.events if event["event"] == "ran" and event["test"] not in failed]
                for event in ran:
                    out.write(json.dumps({key: event[key] for key in ("test", "seconds", "lines")}) + "\n")
                out.flush()
                print(f"{name}: {len(ran)} tests, {run.seconds:.0f} s, failed: {sorted(failed)}", flush=True)

    def judged(self, fault: Fault, known: _Known) -> dict[str, Any]:
        """Return what became of a fault."""
        start, path = time.monotonic(), self.tree / fault.path
        verdict, by, message, passed, cpu, how = "lived", "", "", 0, 0.0, ""
        runs = self.runs(fault, path, known)
        for run, how in runs:  # noqa: B007
            passed += run.passed
            cpu += run.cpu
            if run.failure is not None:
                verdict, by, message = "killed", run.failure["test"], run.failure["message"]
            elif run.cut:
                verdict = "undecided"
            elif run.status is None:
                verdict, by, message = "timeout", run.current, "no end"
            elif run.status not in (0, 5):  # all passed; there were none
                verdict, by, message = "killed", run.current, f"the process ended with {run.status}"
            if verdict != "lived":
                known.kills[function_of(by)] += bool(by)
                break
        runs.close()
        seconds = time.monotonic() - start
        names = ("id", "kind", "path", "line", "where", "before", "after")
        return {
            **{name: getattr(fault, name) for name in names}, "area": area_of(fault.path),
            "key": choosing.shown(fault.key), "verdict": verdict, "by": by, "message": message, "passed": passed,
            "seconds": seconds, "cpu": cpu, "how": how,
        }  # fmt: skip

    def runs(self, fault: Fault, path: Path, known: _Known) -> Generator[tuple[running.Run, str]]:
        """Yield runs of tests with the fault, and how it was put in, until the caller has seen enough."""
        changed = fault.applied(path.read_bytes())
        groups = list(self.groups(fault, known))
        if self.collected is not None and not fault.at_import:
            tests = [test for _, order in groups for test in order(self.collected.tests)]
            tests = list(dict.fromkeys(test for test in tests if test in set(self.collected.tests)))
            if tests:
                run = self.collected.run(path, changed, tests, 180, self.options.cap)
                if not any(event["event"] == "unpatchable" for event in run.events):
                    yield run, "patched"
        with running.with_content(path, changed):
            for files, order in groups:
                run = running.forked(files, partial(running.Judge, order=order), self.log, 180, most=self.options.cap)
                if run.status == 4:
                    raise RuntimeError(self.log.read_text()[-500:])
                yield run, "imported"

    def groups(self, fault: Fault, known: _Known) -> Iterator[tuple[list[str], Order]]:
        """Yield test files and what chooses tests of them: those that run the line, then what is likely to."""
        if self.options.using:
            asked = [
                Cases(path, pattern, 400) for path, _, pattern in (one.partition("::") for one in self.options.using)
            ]
            yield list(dict.fromkeys(one.path for one in asked)), partial(_of_cases, asked)
            return
        quick, wide = known.tests_of(fault, self.options.most, self.tree)
        lined = [(_files_of(tests), partial(_exactly, tests)) for tests in (quick, wide) if tests]
        guessed = [
            (
                list(dict.fromkeys(one.path for one in group if (self.tree / one.path).exists())),
                partial(_of_cases, group),
            )
            for group in likely(fault, self.tree)
            if group
        ]
        if area_of(fault.path) == "readers":
            yield from (group for group in [*lined[:1], *guessed, *lined[1:]] if group[0])
        else:
            yield from (group for group in [*guessed[:1], *lined[:1], *guessed[1:], *lined[1:]] if group[0])


Order = Callable[[Sequence[str]], Sequence[str]]


def _exactly(tests: Sequence[str], names: Sequence[str]) -> Sequence[str]:
    return tests


def _of_cases(group: Sequence[Cases], names: Sequence[str]) -> Sequence[str]:
    return [name for cases in group for name in picked(names, cases)]


def _files_of(tests: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(test.partition("::")[0] for test in tests))


class _Known:
    """Which lines tests run, how long they take, and how often each test function has killed a fault."""

    def __init__(self, path: Path) -> None:
        self.seconds: dict[str, float] = {}
        self.kills: Counter[str] = Counter()
        self.by_line: dict[tuple[str, int], list[str]] = {}
        self.by_file: dict[str, list[str]] = {}
        text = path.read_text() if path.exists() else ""
        rows = {row["test"]: row for row in map(json.loads, text.splitlines())}
        for test, row in rows.items():
            self.seconds[test] = row["seconds"]
            for file, lines in row["lines"].items():
                self.by_file.setdefault(file, []).append(test)
                for line in lines:
                    self.by_line.setdefault((file, line), []).append(test)

    def tests_of(self, fault: Fault, most: float, tree: Path) -> tuple[list[str], list[str]]:
        """Return tests that run a fault, or its file if that runs it while it is imported: the first and the rest."""
        first, last = fault.lines
        found: Iterable[str] = {test for n in range(first, last + 1) for test in self.by_line.get((fault.path, n), ())}
        if fault.at_import:
            found = self.by_file.get(fault.path, ())
        quick: list[str] = []
        wide: list[str] = []
        spent, files = 0.0, set()
        for test in self._in_turns(test for test in found if (tree / test.partition("::")[0]).exists()):
            spent += self.seconds[test]
            if spent > most:
                break
            file = test.partition("::")[0]
            is_quick = spent < QUICK and len(files | {file}) <= QUICK_FILES
            files |= {file} if is_quick else set()
            (quick if is_quick else wide).append(test)
        return quick, wide

    def _in_turns(self, tests: Iterable[str]) -> Iterator[str]:
        """Yield the quickest test of each function, then the next of each; functions that killed much go first."""
        functions: dict[str, list[str]] = {}
        for test in sorted(tests, key=lambda test: (self.seconds[test], test)):
            functions.setdefault(function_of(test), []).append(test)
        order = sorted(functions, key=lambda name: (self.seconds[functions[name][0]] + 0.2) / (1 + self.kills[name]))
        for turn in range(max(map(len, functions.values()), default=0)):
            yield from (functions[name][turn] for name in order if turn < len(functions[name]))


def _test_files(path: Path) -> list[Path]:
    return sorted(path.rglob("test_*.py")) if path.is_dir() else [path]


def _results(work: Path) -> dict[str, dict[str, Any]]:
    """Return the last result of each fault by its id."""
    path = work / "results.jsonl"
    rows = map(json.loads, path.read_text().splitlines()) if path.exists() else ()
    return {row["id"]: row for row in rows}


def _line(fault: Fault) -> str:
    change = f"{_short(fault.before)} -> {_short(fault.after)}"
    return f"{fault.id}  {fault.kind}  {fault.path}:{fault.line}  {change}"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:40]} ... {text[-15:]}"


def _report(faults: list[Fault], results: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of a table of kinds and areas, and those that lived."""
    found = [results[fault.id] for fault in faults if fault.id in results]
    yield f"{len(found)} faults, {sum(one['seconds'] for one in found) / 60:.0f} minutes"
    yield ""
    yield "| kind | " + " | ".join(choosing.AREAS) + " | all |"
    yield "|---" * (len(choosing.AREAS) + 2) + "|"
    for kind in (*KINDS, "all"):
        of_kind = [one for one in found if kind in (one["kind"], "all")]
        cells = [_cell([one for one in of_kind if area in (one["area"], "all")]) for area in (*choosing.AREAS, "all")]
        yield f"| {kind} | " + " | ".join(cells) + " |"
    yield ""
    for one in found:
        if one["verdict"] != "killed":
            change = f"`{_short(one['before'])}` to `{_short(one['after'])}`"
            told = f"{one['verdict']} {one['id']} {one['kind']} {one['path']}:{one['line']} {change}"
            yield f"- {told} {one['by']} ({one['passed']} tests passed)"


def _cell(results: list[dict[str, Any]]) -> str:
    return f"{sum(one['verdict'] in ('killed', 'timeout') for one in results)}/{len(results)}" if results else ""


if __name__ == "__main__":
    sys.exit(main())
