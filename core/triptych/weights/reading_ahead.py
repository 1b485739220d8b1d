"""What makes a load fast: reading tensors a little ahead of their use, on threads, and no garbage collection."""

from __future__ import annotations

import gc
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np

from triptych.weights.plan import Assignment


class ReadAhead:
    """Hands out the arrays of assignments, in the layout of `framework`; use it as a context.

    Transposing and casting are half the work of a load, so they start at once, while the framework builds its layers.
    What is ready early takes no more memory than it will in the model, which adopts these arrays; where it copies them
    to another device, `most` says how many bytes may be ready, in the order of `assignments`. A tensor that needs
    neither is a view of its file and read when asked for.
    """

    def __init__(self, assignments: Iterable[Assignment], framework: str, most: int | None = None) -> None:
        self._framework, self._most, self._ahead = framework, most, 0
        self._pool = ThreadPoolExecutor(2)
        working = [a for a in assignments if a.needs_work(framework)]
        # By size, else one thread may be alone with a large one at the end.
        self._waiting = deque(sorted(working, key=lambda a: -a.ref.nbytes) if most is None else working)
        self._started: dict[str, Future[np.ndarray]] = {}
        self._start()

    def _start(self) -> None:
        while self._waiting and (self._most is None or self._ahead < self._most):
            assignment = self._waiting.popleft()
            self._ahead += assignment.weight.size * assignment.dtype.itemsize
            self._started[assignment.weight.name] = self._pool.submit(assignment.read, self._framework)

    def __enter__(self) -> ReadAhead:
        _turns.quicken()
        return self

    def __exit__(self, *_: object) -> None:
        _turns.restore()
        self._started.clear()
        self._waiting.clear()
        self._pool.shutdown(cancel_futures=True)

    def read(self, assignment: Assignment) -> np.ndarray:
        """Return the array of `assignment`; each can be had once."""
        started = self._started.pop(assignment.weight.name, None)
        if started is None:
            return assignment.read(self._framework)
        array = started.result()
        self._ahead -= array.nbytes
        self._start()
        return array


class _Turns:
    """How soon a thread that computes in Python lets another one in: 5 ms by default.

    A reading thread asks to be let in after every block that it copied, in a tenth of a millisecond, and would stand
    still while the framework builds its layers. The interval is the process's: loads on several threads share it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loads = 0
        self._usual = 0.0

    def quicken(self) -> None:
        with self._lock:
            if not self._loads:
                self._usual = sys.getswitchinterval()
                sys.setswitchinterval(min(self._usual, 0.0002))
            self._loads += 1

    def restore(self) -> None:
        with self._lock:
            self._loads -= 1
            if not self._loads:
                sys.setswitchinterval(self._usual)


_turns = _Turns()


class _Collector:
    """The cyclic garbage collector. It is the process's: loads on several threads at a time pause it together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pauses = 0
        self._enabled = True

    def pause(self) -> None:
        with self._lock:
            if not self._pauses:
                self._enabled = gc.isenabled()
            self._pauses += 1
            gc.disable()

    def resume(self) -> None:
        """Let it run again, even if another load is not done: else loads without a gap would pause it for ever."""
        with self._lock:
            self._pauses -= 1
            if not self._enabled:
                return
            if not gc.get_freeze_count():
                # Counts the new objects as old ones; the pass would else come at once, over all of the framework's.
                gc.freeze()
                gc.unfreeze()
            gc.enable()


_collector = _Collector()


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause the cyclic garbage collector: a pass over a framework's objects takes as long as a load of BERT."""
    _collector.pause()
    try:
        yield
    finally:
        _collector.resume()
