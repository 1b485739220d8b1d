"""Single faults that can be put into a source file, found in its syntax tree; each is one replaced piece of text.

The kinds are those by which ports of models go wrong. What no program can see, texts of errors and annotations, is left
out; a fault may still change nothing, and then `equivalent.tsv` says why.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

Edit = tuple[ast.AST, str]
"""A node, and the text that stands in its place."""


@dataclass(frozen=True)
class Fault:
    """Bytes `start` to `end` of the file `path` replaced by `after`.

    - `where`: the function or class, and "" for the module.
    - `at_import`: what changes runs while the module is imported.
    - `lines`: first and last line of the statement.
    """

    path: str
    kind: str
    line: int
    where: str
    before: str
    after: str
    start: int
    end: int
    lines: tuple[int, int]
    at_import: bool
    occurrence: int = 0

    @property
    def key(self) -> str:
        """What stays the same while other lines of the file change."""
        return "\t".join((self.path, self.where, self.kind, self.before, self.after, str(self.occurrence)))

    @property
    def id(self) -> str:
        return hashlib.sha256(self.key.encode()).hexdigest()[:10]

    def applied(self, source: bytes) -> bytes:
        """Return the file with the fault in it."""
        if source[self.start : self.end].decode() != self.before:
            raise ValueError(f"{self.path} is not what the fault was found in")
        return source[: self.start] + self.after.encode() + source[self.end :]

    def compiles(self, source: bytes) -> bool:
        """Return whether the file with the fault in it is one of Python."""
        try:
            compile(self.applied(source), self.path, "exec")
        except SyntaxError:
            return False
        return True


def faults_of(path: str, source: bytes) -> list[Fault]:
    """Return the faults that `source`, the content of `path`, can have, in the order of their places."""
    return sorted(_Finder(path, source).found, key=lambda fault: (fault.start, fault.end, fault.kind, fault.after))


class _Finder:
    def __init__(self, path: str, source: bytes) -> None:
        self.path, self.source = path, source
        self.starts = [0]
        for line in source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.found: list[Fault] = []
        self._seen: dict[str, int] = {}
        self._walk(ast.parse(source), ())

    def _walk(self, node: ast.AST, above: tuple[ast.AST, ...]) -> None:
        if _is_silent(node, above):
            return
        for kind, edits in KINDS.items():
            for target, text in edits(node, above, self.text):
                self._add(kind, target, text, (*above, node))
        for child in _children(node):
            self._walk(child, (*above, node))

    def _add(self, kind: str, target: ast.AST, after: str, above: tuple[ast.AST, ...]) -> None:
        if isinstance(target, _Operator):
            target, after = target.whole, self._with_operator(target, after)
        (start, end), before = self.span(target), self.text(target)
        if before == after:
            return
        where = ".".join(n.name for n in above if isinstance(n, (ast.FunctionDef, ast.ClassDef)))
        first = "\t".join((where, kind, before, after))
        self._seen[first] = self._seen.get(first, -1) + 1
        self.found.append(
            Fault(self.path, kind, target.lineno, where, before, after, start, end, _lines(above, target),  # type: ignore[attr-defined]
                  not _is_called(above), self._seen[first])
        )  # fmt: skip

    def _with_operator(self, operator: _Operator, new: str) -> str:
        """Return the text of an operation with a new operator, whatever brackets are about its operands."""
        start, end = self.span(operator.whole)
        first, last = self.span(operator.left)[1], self.span(operator.right)[0]
        gap = self.source[first:last].decode()
        old = re.search(r"(?:not in|is not|and|or|[^\s()#]+)", gap)
        if old is None:
            return self.text(operator.whole)
        changed = gap[: old.start()] + new + gap[old.end() :]
        return self.source[start:first].decode() + changed + self.source[last:end].decode()

    def span(self, node: ast.AST) -> tuple[int, int]:
        start = self.starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
        return start, self.starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]

    def text(self, node: ast.AST) -> str:
        start, end = self.span(node)
        return self.source[start:end].decode()


def _is_called(above: tuple[ast.AST, ...]) -> bool:
    """Return whether the last of these is in the body of a function, which runs when that is called."""
    for outer, inner in pairwise(above):
        if isinstance(outer, ast.Lambda) and inner is outer.body:
            return True
        if isinstance(outer, ast.FunctionDef) and inner in outer.body:
            return True
    return False


def _lines(above: tuple[ast.AST, ...], target: ast.AST) -> tuple[int, int]:
    """Return the lines of the innermost statement or lambda, of a compound one those before its body."""
    inner = [node for node in above if isinstance(node, (ast.stmt, ast.Lambda))][-1]
    body = getattr(inner, "body", None)
    if isinstance(body, list):
        return target.lineno, target.end_lineno or target.lineno  # type: ignore[attr-defined]
    return inner.lineno, inner.end_lineno or inner.lineno


_TALK = re.compile(r"(Error|Exception|Warning|warn|warning|info|debug|warning_once)$")
_SHOWN = {"__repr__", "extra_repr", "__all__", "__str__", "remedy_for", "described"}


def _is_silent(node: ast.AST, above: tuple[ast.AST, ...]) -> bool:
    """Return whether what this says is for people or for type checkers alone."""
    if isinstance(node, (ast.Raise, ast.Assert, ast.Import, ast.ImportFrom, ast.JoinedStr)):
        return True
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "__debug__"):
        return True
    if isinstance(node, ast.Call) and _TALK.search(_name(node.func)):
        return True
    if isinstance(node, ast.FunctionDef):
        return node.name in _SHOWN or bool(node.returns and _TALK.search(ast.unparse(node.returns)))
    if isinstance(node, ast.Assign):
        names = {ast.unparse(target) for target in node.targets}
        return bool(names & {"__all__", "remedy", "expected", "received", "__slots__"})
    return isinstance(node, ast.keyword) and node.arg in ("remedy", "expected", "received", "help")


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the parts of a node that run."""
    left_out = {"annotation", "returns", "decorator_list", "type_comment", "bases"}
    for name, value in ast.iter_fields(node):
        if name not in left_out:
            yield from (one for one in (value if isinstance(value, list) else [value]) if isinstance(one, ast.AST))


# What a node is.

Text = Callable[[ast.AST], str]
_MODULES = {"ops", "np", "jnp", "tf", "torch", "F", "math", "arrays", "keras", "lax", "jax"}


def _name(node: ast.AST) -> str:
    """Return the last part of a dotted name."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _is_function(call: ast.Call) -> bool:
    """Return whether a call is of a function, whose argument is first, and not of a method, whose argument owns it."""
    func = call.func
    return isinstance(func, ast.Name) or (isinstance(func, ast.Attribute) and _name(func.value) in _MODULES)


def _integer(node: ast.AST) -> int | None:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _integer(node.operand)
        return None if inner is None else -inner
    is_one = isinstance(node, ast.Constant) and type(node.value) is int
    return node.value if is_one else None  # type: ignore[attr-defined,no-any-return]


def _parent(above: tuple[ast.AST, ...], up: int = 1) -> ast.AST | None:
    return above[-up] if len(above) >= up else None


def _swapped(items: list[ast.expr], first: int, text: Text) -> str:
    """Return the text of a tuple with two items, `first` and the next, in each other's place."""
    parts = [text(item) for item in items]
    parts[first], parts[first + 1] = parts[first + 1], parts[first]
    return ", ".join(parts)


def _bracketed(node: ast.AST, inside: str, text: Text) -> str:
    whole = text(node)
    return whole[0] + inside + whole[-1] if whole[0] in "([" else inside


class _Operator(ast.AST):
    """What stands between two operands."""

    def __init__(self, whole: ast.AST, left: ast.expr, right: ast.expr) -> None:
        super().__init__()
        self.whole, self.left, self.right = whole, left, right


def _with_operator(node: ast.BinOp | ast.Compare | ast.BoolOp, new: str) -> Edit:
    """Return the edit by which a node of two operands has the operator `new`."""
    if isinstance(node, ast.BinOp):
        return _Operator(node, node.left, node.right), new
    one, other = (node.left, node.comparators[0]) if isinstance(node, ast.Compare) else node.values[:2]
    return _Operator(node, one, other), new


def _alone(node: ast.expr, text: Text) -> str:
    """Return the text of an operand that stands alone, in brackets where it needs some."""
    is_one = isinstance(node, (ast.BinOp, ast.IfExp, ast.Compare, ast.BoolOp, ast.Lambda, ast.UnaryOp))
    return f"({text(node)})" if is_one else text(node)


def _negated(node: ast.expr, text: Text) -> str:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return text(node.operand)
    return f"not {_alone(node, text)}"


# The kinds.

_TRANSPOSING = {"transpose", "permute", "swapaxes", "t", "permuted", "moveaxis"}
_LAYOUTS = {"LINEAR": "CONV1D", "CONV1D": "LINEAR", "CONV": "DEPTHWISE", "DEPTHWISE": "CONV"}


def _transpose(node: ast.AST, above: tuple[ast.AST, ...], text: Text) -> Iterator[Edit]:
    """Axes in another order: a transpose dropped or of other axes, a kernel the other way round, another axis."""
    parent = _parent(above)
    if isinstance(node, ast.Call):
        name = _name(node.func)
        if name in _TRANSPOSING:
            if _is_function(node) and node.args:
                yield node, _alone(node.args[0], text)
            elif isinstance(node.func, ast.Attribute):
                yield node, _alone(node.func.value, text)
        if name in ("dense", "linear", "conv1d", "vocab_head") and len(node.args) >= 3:
            (at, one), (_, other) = list(enumerate(node.args))[1:3]
            if text(one) != text(other):
                yield from _exchanged(node.args, at, text)
        for keyword in node.keywords:
            number = _integer(keyword.value)
            if keyword.arg in ("axis", "dim", "dims") and number is not None:
                yield keyword.value, str({0: 1, 1: 0, -1: -2, -2: -1}.get(number, number - 1))
            if keyword.arg in ("transpose_a", "transpose_b") and text(keyword.value) == "True":
                yield keyword.value, "False"
    if isinstance(node, ast.Tuple) and isinstance(node.ctx, ast.Load) and len(node.elts) >= 2:
        call = parent if isinstance(parent, ast.Call) else None
        if call is not None and _name(call.func) in ("reshape", "view") and len(node.elts) >= 3:
            for at, (one, other) in enumerate(pairwise(node.elts)):
                if text(one) != text(other) and not isinstance(one, ast.Starred) and not isinstance(other, ast.Starred):
                    yield node, _bracketed(node, _swapped(node.elts, at, text), text)
        numbers = [_integer(one) for one in node.elts]
        used = call is not None and _name(call.func) in _TRANSPOSING | {"to_native"}
        if used or isinstance(parent, (ast.Return, ast.IfExp)):
            for at, (a, b) in enumerate(pairwise(numbers)):
                if a is not None and b is not None and a != b and a >= 0 and b >= 0:
                    yield node, _bracketed(node, _swapped(node.elts, at, text), text)
        if (
            call is not None
            and _name(call.func) == "Target"
            and len(node.elts) == 2
            and len(set(map(text, node.elts))) > 1
        ):
            yield node, _bracketed(node, _swapped(node.elts, 0, text), text)
    if isinstance(node, ast.Attribute):
        if node.attr in ("T", "mT") and isinstance(node.ctx, ast.Load):
            yield node, _alone(node.value, text)
        if _name(node.value) == "Layout" and node.attr in _LAYOUTS and not isinstance(parent, ast.Dict):
            yield node, f"Layout.{_LAYOUTS[node.attr]}"
    if isinstance(node, ast.Constant) and node.value == "transposed":
        yield node, '""'


def _exchanged(items: list[ast.expr], first: int, text: Text) -> Iterator[Edit]:
    """Yield one edit that exchanges an item and the next, which is a single piece of text from the one to the other."""
    one, other = items[first], items[first + 1]
    if isinstance(one, ast.Starred) or isinstance(other, ast.Starred):
        return
    both = ast.Tuple([one, other], ast.Load())
    both.lineno, both.col_offset = one.lineno, one.col_offset
    both.end_lineno, both.end_col_offset = other.end_lineno, other.end_col_offset
    yield both, f"{text(other)}, {text(one)}"


_OPPOSITES = {"cos": "sin", "sin": "cos", "maximum": "minimum", "minimum": "maximum", "left_shift": "right_shift",
              "right_shift": "left_shift", "amax": "amin", "amin": "amax", "reduce_max": "reduce_min",
              "reduce_min": "reduce_max", "max": "min", "min": "max"}  # fmt: skip
_SIGNS: dict[type[ast.operator], str] = {ast.Add: "-", ast.Sub: "+", ast.LShift: ">>", ast.RShift: "<<"}
_TEXTUAL = re.compile(
    r"""^[rbf]*["'\[({]|keys\(\)|names?\b|^(set|frozenset|list|tuple|sorted|dict)\(|prefix|suffix|\bpath"""
)
_SCALING = re.compile(r"scal|rate|head_dim|_size|rsqrt|\*\*|sum\(|factor|total")


def _sign(node: ast.AST, above: tuple[ast.AST, ...], text: Text) -> Iterator[Edit]:
    """Plus for minus, times for divided by, the greatest for the least, sine for cosine."""
    if isinstance(node, ast.BinOp):
        left, right = text(node.left), text(node.right)
        new = _SIGNS.get(type(node.op))
        if new and not _TEXTUAL.search(left) and not _TEXTUAL.search(right):
            yield _with_operator(node, new)
        if isinstance(node.op, (ast.Mult, ast.Div)) and (_SCALING.search(left) or _SCALING.search(right)):
            yield _with_operator(node, "/" if isinstance(node.op, ast.Mult) else "*")
    if (
        isinstance(node, ast.AugAssign)
        and isinstance(node.op, (ast.Add, ast.Sub))
        and not _TEXTUAL.search(text(node.value))
    ):
        old, new = ("+=", "-=") if isinstance(node.op, ast.Add) else ("-=", "+=")
        yield node, text(node).replace(old, new, 1)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        parent = _parent(above)
        is_place = _integer(node.operand) is not None and not isinstance(parent, ast.BinOp)
        if not is_place:
            yield node, text(node.operand)
    if isinstance(node, ast.Call) and _name(node.func) in _OPPOSITES and isinstance(node.func, ast.Attribute):
        if _name(node.func.value) in _MODULES or isinstance(node.func.value, ast.Attribute):
            yield node.func, text(node.func).removesuffix(node.func.attr) + _OPPOSITES[node.func.attr]
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("min", "max")
        and len(node.args) > 1
    ):
        yield node.func, _OPPOSITES[node.func.id]


_EPSILON = re.compile(r"(^|_)(eps|epsilon)$")
_NORMS = {"gamma": "beta", "beta": "gamma", "moving_mean": "moving_variance", "running_mean": "running_var",
          "moving_variance": "moving_mean", "running_var": "running_mean"}  # fmt: skip
_ACTIVATIONS = {"gelu": "gelu_new", "gelu_new": "gelu", "silu": "gelu", "relu": "gelu", "gelu_pytorch_tanh": "gelu"}


def _epsilon(node: ast.AST, above: tuple[ast.AST, ...], text: Text) -> Iterator[Edit]:
    """Another constant: an epsilon ten times as large, a factor a tenth larger, scale for shift, a near activation."""
    parent = _parent(above)
    if isinstance(node, ast.Constant) and type(node.value) is float and node.value not in (0.0, 1.0):
        yield node, repr(float(f"{node.value * (10 if abs(node.value) < 1e-3 else 1.1):.10g}"))
    if isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Load) and _EPSILON.search(_name(node)):
        if not isinstance(parent, ast.Attribute):
            yield node, f"10 * {text(node)}"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add) and _EPSILON.search(_name(node.right)):
        yield node, _alone(node.left, text)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        if node.value in _NORMS:
            yield node, f'"{_NORMS[node.value]}"'
        is_key = isinstance(parent, ast.Dict) and node in parent.keys
        if node.value in _ACTIVATIONS and not is_key and not isinstance(parent, ast.Compare):
            yield node, f'"{_ACTIVATIONS[node.value]}"'
    if isinstance(node, ast.keyword) and node.arg in ("approximate", "use_fast_variance", "unbiased"):
        if isinstance(node.value, (ast.Name, ast.Constant)):
            yield node.value, {"True": "False", "False": "True"}.get(text(node.value), f"not {text(node.value)}")
    if isinstance(node, ast.IfExp) and "approximate" in text(node.test):
        yield node, f"{text(node.orelse)} if {text(node.test)} else {text(node.body)}"


_MASKS = re.compile(r"(^|_)(masks?|bias|kept|real|seen|allowed|counted|weights|causal|ahead)$")
_MASKING = re.compile(
    r"mask|keys\b|quer|place|position|window|seen|allowed|pad|label|counted|causal|bias|cache\b|gone|kept|heads?\b"
)
_NO_MASKS = {"asarray", "getattr", "reshape", "shape", "dense", "linear", "Dense", "Linear", "addmm", "bool", "cast",
             "vocab_head", "bitwise_and", "WideLinear", "negative", "VocabHead", "conv1d", "block",
             "uint8"}  # fmt: skip
"""What is called with a mask that is none of a text, or with a bias that is a vector of a layer."""
_SHIFTED: dict[type[ast.cmpop], str] = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">"}
_INVERTED: dict[type[ast.cmpop], str] = {ast.Eq: "!=", ast.NotEq: "=="}


def _mask(node: ast.AST, above: tuple[ast.AST, ...], text: Text) -> Iterator[Edit]:
    """What is seen: a mask dropped or inverted, its edge moved by one, what is true of all taken to be of one."""
    parent = _parent(above)
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and _MASKING.search(text(node)):
        new = {**_SHIFTED, **_INVERTED}.get(type(node.ops[0]))
        if new:
            yield _with_operator(node, new)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd) and not _TEXTUAL.search(text(node.left)):
        yield node, _alone(node.left, text)
        yield _with_operator(node, "|")
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        if _MASKS.search(text(node.right)):
            yield node, _alone(node.left, text)
    if isinstance(node, ast.Call):
        name = _name(node.func)
        for value in (*node.args, *(one.value for one in node.keywords)):
            if isinstance(value, (ast.Name, ast.Attribute)) and re.search(r"(^|_)(mask|bias)$", _name(value)):
                if name and name not in _NO_MASKS:
                    yield value, "None"
        if name == "where" and len(node.args) == 3:
            yield from _exchanged(node.args, 1, text)
        if name == "lowest":
            yield node, "0.0"
        if name in ("invert", "logical_not") and node.args:
            yield node, text(node.args[0])
        if name in ("any", "all") and node.args:
            other = "all" if name == "any" else "any"
            yield node.func, text(node.func).removesuffix(name) + other
    if isinstance(node, ast.keyword) and node.arg in ("causal", "is_causal") and text(node.value) == "True":
        yield node.value, "False"
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not) and _MASKING.search(text(node)):
        yield node, text(node.operand)
    if isinstance(node, ast.BoolOp) and _MASKING.search(text(node)) and not isinstance(parent, ast.BoolOp):
        if len(node.values) == 2:
            yield _with_operator(node, "or" if isinstance(node.op, ast.And) else "and")
    if (
        isinstance(node, ast.IfExp)
        and re.search(r"mask|causal|window|pad_token", text(node.test))
        and "None" not in text(node.test)
    ):
        yield node, f"{text(node.orelse)} if {text(node.test)} else {text(node.body)}"


_TIE = re.compile(r"(\b|_)(tie|ties|tied|untie|untied|untie_flag|tied_to|alias|aliases|shared)(_|\b)")
_ELSEWHERE = {"word_embeddings": "position_embeddings", "wte": "wpe", "q_proj": "k_proj", "k_proj": "q_proj",
              "query": "key", "key": "query", "lm_head": "score", "embed_tokens": "norm"}  # fmt: skip


def _tie(node: ast.AST, above: tuple[ast.AST, ...], text: Text) -> Iterator[Edit]:
    """One weight under two names, or one name for a weight: a tie dropped, one where none is, another weight."""
    if isinstance(node, (ast.If, ast.IfExp)) and _TIE.search(text(node.test)):
        yield node.test, _negated(node.test, text)
    if isinstance(node, (ast.Return, ast.Assign)) and isinstance(node.value, (ast.Compare, ast.BoolOp)):
        if _TIE.search(text(node.value)):
            yield node.value, _negated(node.value, text)
    if isinstance(node, ast.Call):
        for one in node.keywords:
            if one.arg in ("tied_to", "untie_flag") and text(one.value) != "None":
                yield one.value, "None"
            if one.arg == "aliases":
                yield one.value, "()"
            if one.arg == "flag":
                yield one.value, '""'
        for value in node.args:
            if isinstance(value, ast.Name) and value.id in ("tie", "tied", "aliases"):
                yield value, f"not {value.id}" if value.id != "aliases" else "()"
            if isinstance(value, ast.Attribute) and value.attr in ("word_embeddings", "wte"):
                yield value, text(value).removesuffix(value.attr) + _ELSEWHERE[value.attr]
    if isinstance(node, ast.Compare) and "tie_word_embeddings" in text(node):
        yield node, _negated(node, text)
    if isinstance(node, ast.Dict):
        yield from _named_elsewhere(node, text)
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value:
        for name, other in _ELSEWHERE.items():
            if re.search(rf"(^|\.){name}(\.|$)", node.value):
                yield node, text(node).replace(name, other)


_WEIGHT = re.compile(r'^"[A-Za-z_][A-Za-z0-9_.{}]*"$')


def _named_elsewhere(node: ast.Dict, text: Text) -> Iterator[Edit]:
    """Yield edits by which an entry of a table of names is what the next entry is."""
    named = [value.args[0] if isinstance(value, ast.Call) and value.args else value for value in node.values]
    for one, other in pairwise(named):
        are_texts = all(isinstance(x, ast.Constant) and isinstance(x.value, str) for x in (one, other))
        if are_texts and text(one) != text(other) and all(_WEIGHT.match(text(x)) for x in (one, other)):
            yield one, text(other)


_DTYPES = {"float32": "float16", "float16": "bfloat16", "bfloat16": "float16", "float64": "float32",
           "int64": "int32", "int32": "int64", "uint8": "int8", "int8": "uint8", "uint16": "int16", "int16": "uint16",
           "uint32": "int32", "uint64": "int64", "bool_": "uint8", "complex64": "complex128",
           "float8_e4m3fn": "float8_e5m2", "float8_e5m2": "float8_e4m3fn", "float8_e8m0fnu": "float8_e5m2",
           "little": "big", "big": "little"}  # fmt: skip
_CASTS = {"cast", "astype", "to", "asarray", "long", "int", "float"}
_STRUCT = re.compile(r"^[<>][A-Za-z0-9]{1,6}$")


def _dtype(node: ast.AST, above: tuple[ast.AST, ...], text: Text) -> Iterator[Edit]:
    """Numbers of another kind: another dtype, no cast, the other byte order."""
    parent = _parent(above)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        if node.value in _DTYPES and not (isinstance(parent, ast.Dict) and node in parent.keys):
            yield node, f'"{_DTYPES[node.value]}"'
        if _STRUCT.match(node.value):
            yield node, f'"{">" if node.value[0] == "<" else "<"}{node.value[1:]}"'
    if isinstance(node, ast.Attribute) and node.attr in _DTYPES and isinstance(node.ctx, ast.Load):
        if _name(node.value) in ("np", "jnp", "torch", "tf", "ml_dtypes", "numpy"):
            yield (
                node,
                "np.float16" if text(node) == "ml_dtypes.bfloat16" else f"{text(node.value)}.{_DTYPES[node.attr]}",
            )
    if isinstance(node, ast.Call) and _name(node.func) in _CASTS:
        if _is_function(node) and len(node.args) == 2:
            yield node, _alone(node.args[0], text)
        elif (
            isinstance(node.func, ast.Attribute)
            and not _is_function(node)
            and _name(node.func) not in ("asarray", "cast")
        ):
            yield node, _alone(node.func.value, text)
    if isinstance(node, ast.Dict):
        for one, other in pairwise(node.values):
            codes = [x.value for x in (one, other) if isinstance(x, ast.Constant) and isinstance(x.value, str)]
            if len(codes) == 2 and codes[0] != codes[1] and all(re.match(r"^[<>|]?[a-z]\d$", x) for x in codes):
                yield one, text(other)
            if (
                isinstance(one, ast.Call)
                and isinstance(other, ast.Call)
                and _name(one.func) == _name(other.func) == "dtype"
            ):
                yield one, text(other)


_PAIRS = [{"query", "key", "value", "keys", "values"}, {"cos", "sin"}, {"start", "end", "stop", "count"},
          {"first", "last", "count"}, {"start_logits", "end_logits"}, {"low", "high"}, {"rows", "columns"},
          {"offset", "size"}, {"shape", "strides"}, {"heads", "length"}, {"words", "places"}, {"one", "other"},
          {"hidden", "heads"}]  # fmt: skip
_JOINING = {"concat", "cat", "stack", "concatenate", "hstack", "vstack"}


def _order(node: ast.AST, above: tuple[ast.AST, ...], text: Text) -> Iterator[Edit]:
    """What comes first: parts joined or unpacked the other way round, not sorted, sorted the other way."""
    parent = _parent(above)
    if isinstance(node, ast.Call):
        name = _name(node.func)
        if name in _JOINING and node.args and isinstance(node.args[0], (ast.List, ast.Tuple)):
            items = node.args[0].elts
            if len(items) == 2 and not any(isinstance(one, ast.Starred) for one in items):
                yield from _exchanged(items, 0, text)
        if name == "reversed" and node.args:
            yield node, text(node.args[0])
        if name == "sorted" and node.args:
            yield node, f"list({text(node.args[0])})[::-1]"
        if (
            name in ("partition", "rpartition", "split", "rsplit")
            and isinstance(node.func, ast.Attribute)
            and node.args
        ):
            other = name[1:] if name[0] == "r" else f"r{name}"
            if name in ("partition", "rpartition") or len(node.args) > 1:
                yield node.func, f"{text(node.func.value)}.{other}"
        for at, (one, another) in enumerate(pairwise(node.args)):
            names = {_name(one), _name(another)}
            if len(names) == 2 and "" not in names and any(names <= pair for pair in _PAIRS):
                yield from _exchanged(node.args, at, text)
        for keyword in node.keywords:
            if keyword.arg in ("descending", "reverse") and text(keyword.value) in ("True", "False", "descending"):
                yield keyword.value, f"not {text(keyword.value)}"
    if isinstance(node, ast.IfExp) and text(node.test) == "descending":
        yield node.test, "not descending"
    if isinstance(node, ast.Tuple) and len(node.elts) >= 2:
        plain = not any(isinstance(one, ast.Starred) for one in node.elts)
        if (
            isinstance(node.ctx, ast.Store)
            and isinstance(parent, ast.Assign)
            and not isinstance(parent.value, ast.Tuple)
        ):
            for at, (one, another) in enumerate(pairwise(node.elts)):
                if plain and "_" not in (text(one), text(another)):
                    yield node, _bracketed(node, _swapped(node.elts, at, text), text)
        if isinstance(node.ctx, ast.Load) and isinstance(parent, ast.Return) and plain and len(node.elts) == 2:
            if all(isinstance(one, (ast.Name, ast.Attribute, ast.Call)) for one in node.elts):
                yield node, _bracketed(node, _swapped(node.elts, 0, text), text)
        if isinstance(node.ctx, ast.Load) and not plain:
            for at, (one, another) in enumerate(pairwise(node.elts)):
                if isinstance(one, ast.Starred) or isinstance(another, ast.Starred):
                    yield (
                        node,
                        _bracketed(node, _swapped(node.elts, at, text) + ("," if len(node.elts) == 1 else ""), text),
                    )
    if isinstance(node, ast.List) and len(node.elts) == 2 and any(isinstance(one, ast.Starred) for one in node.elts):
        yield node, _bracketed(node, _swapped(node.elts, 0, text), text)
    if isinstance(node, ast.Dict) and len(node.keys) == 2 and None in node.keys and node.keys == [None, None]:
        yield node, "{**" + text(node.values[1]) + ", **" + text(node.values[0]) + "}"
    if isinstance(node, ast.Slice) and node.step is not None and text(node) == "::-1":
        yield node, ":"
    if isinstance(node, ast.keyword) and node.arg == "order" and text(node.value) == '"C"':
        yield node.value, '"F"'


def _off_by_one(node: ast.AST, above: tuple[ast.AST, ...], text: Text) -> Iterator[Edit]:
    """One more: an index, a bound, a count, a default."""
    parent, grand = _parent(above), _parent(above, 2)
    number = _integer(node)
    inside = not (isinstance(parent, ast.UnaryOp) and number is not None and isinstance(node, ast.Constant))
    if number is not None and inside:
        if isinstance(parent, ast.Subscript) and node is parent.slice:
            yield node, str(number + (1 if number >= 0 else -1))
        if isinstance(parent, ast.Slice) and node is not parent.step:
            yield node, str(number + (1 if number >= 0 else -1))
        if isinstance(parent, ast.Tuple) and isinstance(grand, ast.Subscript) and number != -1:
            yield node, str(number + 1)
        if isinstance(parent, ast.BinOp) and isinstance(
            parent.op, (ast.Add, ast.Sub, ast.FloorDiv, ast.Mod, ast.LShift, ast.RShift)
        ):
            if not (isinstance(parent.op, ast.Sub) and node is parent.left):
                yield node, str(number + 1)
        if isinstance(parent, ast.Call) and _name(parent.func) in (
            "range",
            "bytes_at",
            "read",
            "split",
            "full",
            "arange",
        ):
            yield node, str(number + 1)
        if isinstance(parent, ast.arguments) and number > 1:
            yield node, str(number + 1)
        if isinstance(parent, ast.arguments) and number < -1:
            yield node, str(number - 1)
    if isinstance(node, ast.Call) and _name(node.func) == "range" and len(node.args) == 1:
        yield node, f"range(1, {text(node.args[0])})"
    if isinstance(node, ast.Call) and _name(node.func) == "enumerate" and len(node.args) == 1 and not node.keywords:
        yield node, f"enumerate({text(node.args[0])}, 1)"
    if isinstance(node, ast.keyword) and node.arg in ("index", "number", "num_layers") and _integer(node.value) is None:
        yield node.value, f"{text(node.value)} + 1"
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and not _MASKING.search(text(node)):
        if (new := _SHIFTED.get(type(node.ops[0]))) is not None:
            yield _with_operator(node, new)
    if isinstance(node, ast.Attribute) and text(node) == "self.index" and isinstance(parent, ast.Call):
        yield node, "self.index + 1"
    if isinstance(node, ast.Slice) and node.lower is not None and node.upper is None and _integer(node.lower) is None:
        yield node.lower, f"{text(node.lower)} + 1"


KINDS: dict[str, Callable[[ast.AST, tuple[ast.AST, ...], Text], Iterator[Edit]]] = {
    "transpose": _transpose, "sign": _sign, "epsilon": _epsilon, "mask": _mask, "tie": _tie, "dtype": _dtype,
    "order": _order, "off-by-one": _off_by_one,
}  # fmt: skip
