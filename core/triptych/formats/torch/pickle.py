"""An interpreter for the pickles of torch.save that cannot run code.

It is an interpreter of our own, not `pickle.Unpickler` with a `find_class`, because of what the latter leaves to the
file: memo indices that allocate gigabytes, strings and containers of any number, BUILD and NEWOBJ on whatever is on the
stack, hashing of nested tuples until the C stack ends. Here every opcode is one of the table below, a call can only
reach a function of `torch_values.CALLS`, nothing looks up an attribute, nothing recurses, and steps and bytes have a
budget. Opcodes: Python's `pickletools`, protocols 2 to 5; those that torch.save does not write are refused.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable
from typing import BinaryIO

from triptych.errors import (
    CorruptCheckpointError,
    LimitError,
    TriptychError,
    TruncatedCheckpointError,
    UnsafeCheckpointError,
    UnsupportedFormatError,
)
from triptych.formats.torch.values import CALLS, OPAQUE, Name, resolve_name, set_item

MAX_BYTES = 2**26
"""Bytes of pickle in one file."""
MAX_STEPS = 2_000_000
"""Opcodes, and items that a call copies, in one file: about 65,000 tensors, and some 100 bytes of memory each."""
MAX_LINE = 512
MAX_LONG = 255

_CONSTANTS: dict[bytes, object] = {b"N": None, b"\x88": True, b"\x89": False, b")": (), b"\x8f": OPAQUE}
_INTEGERS = {b"K": "<B", b"M": "<H", b"J": "<i", b"G": ">d"}
_TEXTS = {b"\x8c": 1, b"X": 4, b"\x8d": 8, b"U": 1, b"T": 4}  # U and T are the strings of Python 2
_BYTES = {b"C": 1, b"B": 4, b"\x8e": 8}
_GETS = {b"h": 1, b"j": 4}
_PUTS = {b"q": 1, b"r": 4}
_TUPLES = {b"\x85": 1, b"\x86": 2, b"\x87": 3}


class Unpickler:
    """Reads pickles from an open file, one after the other, with one budget for all.

    Args:
        file: positioned at a pickle; after `load` it stands behind its STOP.
        source: what error messages call the file.
        persistent: turns a persistent id into a value; raises ValueError for one that torch.save does not write.
    """

    def __init__(self, file: BinaryIO, source: str, persistent: Callable[[object], object]) -> None:
        self._file, self._source, self._persistent = file, source, persistent
        self._bytes_left, self._steps_left = MAX_BYTES, MAX_STEPS
        self._stack: list[object] = []
        self._marked: list[list[object]] = []
        self._memo: dict[int, object] = {}
        self._handlers = self._table()

    def load(self) -> object:
        """Return the value of the next pickle: plain containers, text, numbers, and values of `values`.

        Raises:
            UnsafeCheckpointError, UnsupportedFormatError, CorruptCheckpointError, TruncatedCheckpointError, LimitError.
        """
        self._stack, self._marked, self._memo = [], [], {}
        while (code := self._take(1)) != b".":
            self._spend(1)
            handler = self._handlers.get(code)
            if handler is None:
                raise self._unknown(code)
            try:
                handler(code)
            except TriptychError:
                raise
            except ValueError as cause:
                raise self._corrupt(str(cause)) from cause
        if len(self._stack) != 1 or self._marked:
            raise self._corrupt("a stack that does not hold one value at the end")
        return self._stack.pop()

    def _table(self) -> dict[bytes, Callable[[bytes], None]]:
        table: dict[bytes, Callable[[bytes], None]] = {
            b"\x80": self._protocol, b"\x95": self._frame, b"(": self._mark, b"\x8a": self._long, b"\x8b": self._long,
            b"c": self._global, b"\x93": self._stack_global, b"R": self._reduce, b"\x81": self._reduce,
            b"b": self._build, b"Q": self._persistent_id, b"]": self._empty_list, b"}": self._empty_dict,
            b"a": self._append, b"e": self._appends, b"s": self._set_item,
            b"u": self._set_items, b"\x90": self._add_items, b"\x91": self._frozen_set, b"t": self._tuple,
            b"\x94": self._memoize,
        }  # fmt: skip
        groups: list[tuple[dict[bytes, int], Callable[[bytes], None]]] = [
            (_TEXTS, self._text), (_BYTES, self._binary), (_GETS, self._get), (_PUTS, self._put),
            (_TUPLES, self._short_tuple),
        ]  # fmt: skip
        for codes, handler in groups:
            table |= dict.fromkeys(codes, handler)
        return table | dict.fromkeys(_CONSTANTS, self._constant) | dict.fromkeys(_INTEGERS, self._number)

    # -- input, budget and stack

    def _take(self, count: int) -> bytes:
        if count > self._bytes_left:
            raise LimitError(
                f"The pickle of {self._source} is too large.",
                expected=f"at most {MAX_BYTES} bytes",
                remedy="save the tensors in several files, or as safetensors",
            )
        self._bytes_left -= count
        data = self._file.read(count)
        if len(data) != count:
            raise TruncatedCheckpointError(
                f"{self._source} ends inside a pickle.",
                expected=f"{count} bytes more",
                received=f"{len(data)} bytes",
                remedy="get the file again",
            )
        return data

    def _natural(self, width: int) -> int:
        return int.from_bytes(self._take(width), "little")

    def _spend(self, steps: int) -> None:
        self._steps_left -= steps
        if self._steps_left < 0:
            raise LimitError(
                f"The pickle of {self._source} has too many objects.",
                expected=f"at most {MAX_STEPS} steps to build them",
                remedy="save the tensors in several files, or as safetensors",
            )

    def _corrupt(self, received: str) -> CorruptCheckpointError:
        return CorruptCheckpointError(
            f"{self._source} holds a damaged pickle.",
            expected="what torch.save writes",
            received=received,
            remedy="get the file again",
        )

    def _unknown(self, code: bytes) -> TriptychError:
        known = next((opcode.name for opcode in pickletools.opcodes if opcode.code == code.decode("latin-1")), None)
        if known is None:
            return self._corrupt(f"opcode {code.hex()}")
        return UnsupportedFormatError(
            f"{self._source} has a pickle that torch.save does not write.",
            expected="opcodes for tensors and containers, protocol 2 to 5",
            received=f"opcode {known}",
            remedy="save it again with torch.save",
        )

    def _push(self, value: object) -> None:
        self._stack.append(value)

    def _pop(self) -> object:
        if not self._stack:
            raise ValueError("an opcode without operands")
        return self._stack.pop()

    def _pop_mark(self) -> list[object]:
        if not self._marked:
            raise ValueError("an opcode without its mark")
        items, self._stack = self._stack, self._marked.pop()
        return items

    # -- opcodes: scalars, memo, names

    def _protocol(self, code: bytes) -> None:
        if not 2 <= (version := self._natural(1)) <= 5:
            raise ValueError(f"pickle protocol {version}")

    def _frame(self, code: bytes) -> None:
        self._take(8)

    def _constant(self, code: bytes) -> None:
        self._push(_CONSTANTS[code])

    def _number(self, code: bytes) -> None:
        layout = _INTEGERS[code]
        self._push(struct.unpack(layout, self._take(struct.calcsize(layout)))[0])

    def _long(self, code: bytes) -> None:
        if (length := self._natural(1 if code == b"\x8a" else 4)) > MAX_LONG:
            raise ValueError(f"an integer of {length} bytes")
        self._push(int.from_bytes(self._take(length), "little", signed=True))

    def _text(self, code: bytes) -> None:
        self._push(self._take(self._natural(_TEXTS[code])).decode())

    def _binary(self, code: bytes) -> None:
        self._push(self._take(self._natural(_BYTES[code])))

    def _get(self, code: bytes) -> None:
        if (index := self._natural(_GETS[code])) not in self._memo:
            raise ValueError(f"memo entry {index}, which is not there")
        self._push(self._memo[index])

    def _put(self, code: bytes) -> None:
        value = self._pop()
        self._memo[self._natural(_PUTS[code])] = value
        self._push(value)

    def _memoize(self, code: bytes) -> None:
        value = self._pop()
        self._memo[len(self._memo)] = value
        self._push(value)

    def _line(self) -> str:
        line = self._file.readline(MAX_LINE)
        self._bytes_left -= len(line)
        if not line.endswith(b"\n"):
            raise ValueError(f"a name that does not end within {MAX_LINE} bytes")
        return line[:-1].decode()

    def _global(self, code: bytes) -> None:
        module = self._line()
        self._push(resolve_name(module, self._line(), self._source))

    def _stack_global(self, code: bytes) -> None:
        name, module = self._pop(), self._pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise ValueError("a name that is no text")
        self._push(resolve_name(module, name, self._source))

    # -- opcodes: calls

    def _reduce(self, code: bytes) -> None:
        """REDUCE calls a function and NEWOBJ a class; the functions of `CALLS` stand for both."""
        args, name = self._pop(), self._pop()
        call = CALLS.get((name.module, name.name)) if isinstance(name, Name) else None
        if call is None or not isinstance(args, tuple):
            raise ValueError("a call of something that cannot be called")
        self._spend(len(args) + sum(len(arg) for arg in args if isinstance(arg, list)))
        self._push(call(*args))

    def _build(self, code: bytes) -> None:
        """Attributes of an OrderedDict, such as `_metadata`: accepted and dropped."""
        state = self._pop()
        if not self._stack or type(self._stack[-1]) is not dict or type(state) is not dict:
            raise UnsafeCheckpointError(
                f"{self._source} sets the state of an object.",
                expected="attributes of an OrderedDict only",
                remedy="do not use this file",
            )

    def _persistent_id(self, code: bytes) -> None:
        self._push(self._persistent(self._pop()))

    # -- opcodes: containers

    def _mark(self, code: bytes) -> None:
        self._marked.append(self._stack)
        self._stack = []

    def _empty_list(self, code: bytes) -> None:
        self._push([])

    def _empty_dict(self, code: bytes) -> None:
        self._push({})

    def _frozen_set(self, code: bytes) -> None:
        self._pop_mark()
        self._push(OPAQUE)

    def _add_items(self, code: bytes) -> None:
        self._pop_mark()
        if not self._stack or self._stack[-1] is not OPAQUE:
            raise ValueError("items for something that is no set")

    def _tuple(self, code: bytes) -> None:
        self._push(tuple(self._pop_mark()))

    def _short_tuple(self, code: bytes) -> None:
        items = [self._pop() for _ in range(_TUPLES[code])]
        self._push(tuple(reversed(items)))

    def _extend(self, items: list[object]) -> None:
        target = self._stack[-1] if self._stack else None
        if not isinstance(target, list):
            raise ValueError("items for something that is no list")
        target.extend(items)

    def _append(self, code: bytes) -> None:
        self._extend([self._pop()])

    def _appends(self, code: bytes) -> None:
        self._extend(self._pop_mark())

    def _update(self, items: list[object]) -> None:
        target = self._stack[-1] if self._stack else None
        if not isinstance(target, dict) or len(items) % 2:
            raise ValueError("items for something that is no dict, or a key without value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            set_item(target, key, value)

    def _set_item(self, code: bytes) -> None:
        value, key = self._pop(), self._pop()
        self._update([key, value])

    def _set_items(self, code: bytes) -> None:
        self._update(self._pop_mark())
