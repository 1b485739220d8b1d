"""Wrong files made of right ones: changes of bytes, and of what the bytes of a format mean."""

from __future__ import annotations

import io
import json
import random
import struct
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

import msgpack

NUMBERS = (0, 1, -1, 2, 7, 8, 127, 128, 255, 256, 2**15, 2**16, 2**31 - 1, 2**31, 2**32, 2**48, 2**53, 2**63 - 1, 2**63,
           2**64, -(2**31), -(2**63), 0.5, 1e308, -0.0)  # fmt: skip
TEXTS = ("", "a", "F32", "F16", "BF16", "I64", "F8_E4M3", "float32", "../x", "/etc/passwd", "x" * 5000, "\0", "é\u202e",
         "\ud800", "__metadata__", "weight", "nan")  # fmt: skip
OTHERS: tuple[Any, ...] = (None, True, False, [], {}, [0], [[0]], {"a": 1}, [2**40, 2**40], [-1, 4])
EDGES = tuple(struct.pack(kind, value) for kind in ("<I", ">I", "<Q", ">Q") for value in (0, 1, 2**31, 2**32 - 1))
MAX_DEPTH = 60


def of_bytes(data: bytes, rng: random.Random) -> bytes:
    """Return `data` with one to four changes of bytes, most of them near its beginning, where formats say what they
    hold."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        if not changed:
            return bytes(rng.randbytes(rng.randint(0, 64)))
        reach = len(changed) if rng.random() < 0.4 else min(len(changed), 512)
        at, span = rng.randrange(reach), rng.choice((1, 1, 2, 4, 8, 16, 64))
        match rng.randrange(7):
            case 0:
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                changed[at : at + span] = rng.randbytes(span)
            case 2:
                del changed[at : at + span]
            case 3:
                changed[at:at] = rng.randbytes(span)
            case 4:
                edge = rng.choice(EDGES)
                changed[at : at + len(edge)] = edge
            case 5:
                source = rng.randrange(len(changed))
                changed[at : at + span] = changed[source : source + span]
            case 6:
                del changed[rng.randrange(len(changed)) :]
    return bytes(changed)


def of_tree(tree: Any, rng: random.Random) -> Any:
    """Return nested dicts and lists with one change at a random place."""
    if isinstance(tree, dict) and tree and rng.random() < 0.85:
        key = rng.choice(list(tree))
        changed = dict(tree)
        match rng.randrange(8):
            case 0:
                del changed[key]
            case 1:
                changed[rng.choice((*TEXTS, key + "x", key[:-1]))] = changed[key]
            case 2:
                changed[key] = changed[rng.choice(list(tree))]
            case 3:
                changed = {rng.choice((key + "x", *TEXTS)) if name == key else name: v for name, v in changed.items()}
            case _:
                changed[key] = of_tree(changed[key], rng)
        return changed
    if isinstance(tree, list) and tree and rng.random() < 0.85:
        items, at = list(tree), rng.randrange(len(tree))
        match rng.randrange(5):
            case 0:
                del items[at]
            case 1:
                items.insert(at, items[rng.randrange(len(items))])
            case _:
                items[at] = of_tree(items[at], rng)
        return items
    if isinstance(tree, (int, float)) and not isinstance(tree, bool) and rng.random() < 0.5:
        return rng.choice((tree + 1, tree - 1, tree * 2, -tree, tree // 2, float(tree)))
    if rng.random() < 0.05:
        return _nested(rng)
    return rng.choice((*NUMBERS, *TEXTS, *OTHERS))


def _nested(rng: random.Random) -> Any:
    value: Any = 1
    for _ in range(rng.choice((3, MAX_DEPTH))):
        value = [value] if rng.random() < 0.5 else {"a": value}
    return value


def _several(tree: Any, rng: random.Random) -> Any:
    for _ in range(rng.choice((1, 1, 2, 3))):
        tree = of_tree(tree, rng)
    return tree


def _json(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


def of_json(data: bytes, rng: random.Random) -> bytes:
    """Return a JSON file whose values differ."""
    return _json(_several(json.loads(data), rng))


def of_safetensors(data: bytes, rng: random.Random) -> bytes:
    """Return a safetensors file whose header says something else; its length may not fit, too."""
    (length,) = struct.unpack_from("<Q", data)
    header = _json(_several(json.loads(data[8 : 8 + length]), rng))
    header += b" " * rng.choice((0, 0, -len(header) % 8, 3))
    told = rng.choice((len(header),) * 6 + (len(header) + 1, len(header) - 1, 0, 2**63, 2**64 - 1, 10**8))
    return struct.pack("<Q", told) + header + data[8 + length :][: rng.choice((None, None, None, 7, 0))]


def of_msgpack(data: bytes, rng: random.Random) -> bytes:
    """Return a msgpack file with another tree, or with arrays that say something else of themselves."""
    tree = msgpack.unpackb(data, strict_map_key=False)

    def arrays(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: arrays(item) for key, item in value.items()}
        if isinstance(value, msgpack.ExtType) and rng.random() < 0.3:
            shape, dtype, buffer = msgpack.unpackb(value.data)
            wrong = ([shape, dtype], [shape, "float64", buffer], [[-1], dtype, buffer], [[2**40], dtype, b""],
                     [of_tree(list(shape), rng), dtype, buffer], [shape, dtype, buffer[:-1]],
                     [shape, rng.choice(TEXTS), buffer], of_tree([list(shape), dtype, 1], rng))  # fmt: skip
            other = rng.choice(wrong)
            return msgpack.ExtType(rng.choice((value.code, value.code, 2, 99)), _packed(other))
        return value

    return _packed(arrays(tree) if rng.random() < 0.5 else _several(tree, rng))


def _packed(value: Any) -> bytes:
    try:
        return bytes(msgpack.packb(value, unicode_errors="surrogatepass"))
    except (OverflowError, ValueError):  # an integer of more than 64 bits: there is no such file
        return bytes(msgpack.packb({"a": 2**63}))


def of_zip(data: bytes, rng: random.Random) -> bytes:
    """Return a file of torch.save with other entries: other bytes in its pickle or storages, other names, or none."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    at = rng.randrange(len(entries)) if rng.random() < 0.4 else 0
    name, content = entries[at]
    match rng.randrange(8):
        case 0:
            del entries[at]
        case 1:
            entries.append((name, content))
        case 2:
            entries[at] = (rng.choice((name + "x", "archive/../../x", name.upper(), "x" * 3000)), content)
        case 3:
            entries[at] = (name, content[: rng.randrange(len(content) + 1)])
        case _:
            entries[at] = (name, of_bytes(content, rng))
    target = io.BytesIO()
    way = rng.choice((zipfile.ZIP_STORED,) * 4 + (zipfile.ZIP_DEFLATED,))
    with zipfile.ZipFile(target, "w", way) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of two entries of one name
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name), content, way)
    return target.getvalue()


Mutation = Callable[[bytes, random.Random], bytes]


def mutated(data: bytes, meaning: Mutation | None, rng: random.Random) -> bytes:
    """Return `data` with a change of what it means, if `meaning` makes such, or of its bytes, or both."""
    if meaning is not None and rng.random() < 0.75:
        data = meaning(data, rng)
        if rng.random() < 0.85:
            return data
    return of_bytes(data, rng)
