"""Python files that were written for transformers 4, made files for triptych: their imports, and what stays to do."""

from __future__ import annotations

import ast
import importlib
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from triptych.errors import ArgumentError, MissingBackendError, MissingNameError, UnsupportedFormatError
from triptych.files.regular import open_regular
from triptych.modeling.absent import absent
from triptych.names import BACKENDS
from triptych.transformers4._instead import TOKENIZERS, is_of_tokenizers

try:
    import libcst as cst
    from libcst.helpers import get_full_name_for_node
    from libcst.metadata import CodePosition, MetadataWrapper, PositionProvider
except ImportError as cause:
    raise MissingBackendError(
        "Files are ported with libcst.", expected="libcst", received="no libcst", remedy="pip install 'triptych[port]'"
    ) from cause

THEIRS, OURS = "transformers", "triptych"
_ARGUMENTS = {
    "load_in_8bit": "quantised models are not made yet: load it in bfloat16",
    "load_in_4bit": "quantised models are not made yet: load it in bfloat16",
    "quantization_config": "quantised models are not made yet: load it in bfloat16",
    "gguf_file": "run `triptych convert` on the file",
    "proxies": "set HTTPS_PROXY in the environment",
    "tp_plan": "models are not split over devices yet",
}
_MEMBERS = (
    "loss_function dequantize to_bettertransformer reverse_bettertransformer get_position_embeddings "
    "resize_position_embeddings enable_input_require_grads disable_input_require_grads get_decoder set_decoder "
    "warn_if_padding_and_no_attention_mask retrieve_modules_from_names set_attn_implementation hf_compute_loss "
    "prepare_tf_dataset create_model_card get_lm_head get_bias set_bias enable_gradient_checkpointing init_weights "
    "gradient_checkpointing_enable gradient_checkpointing_disable get_extended_attention_mask invert_attention_mask "
    "get_head_mask tie_encoder_to_decoder _tie_or_clone_weights _tie_encoder_decoder_weights _init_weights "
    "_backward_compatibility_gradient_checkpointing _supports_default_dynamic_cache"
).split()
"""What files of others use of the base classes of transformers 4, some of which triptych's may not have."""


@dataclass(frozen=True)
class Remark:
    """What will not work at a line, and what to do about it."""

    line: int
    what: str
    remedy: str


@dataclass
class Ported:
    """The text of a file with its imports changed, how many were, and what stays to do, by line."""

    text: bytes
    imports: int
    remarks: list[Remark] = field(default_factory=list)


def port_file(path: Path, package: str | None = None) -> Ported:
    """Return what `port` makes of a file. Where it lies in a folder `transformers`, its relative imports are of there.

    Raises:
        UnsupportedFormatError: it is no Python, or no regular file. ArgumentError: `package` is not of transformers.
    """
    with open_regular(path) as file:
        text = file.read()
    return port(text, str(path), _package_of(path) if package is None else package)


def port(text: bytes, name: str = "the text", package: str = "") -> Ported:
    """Return a text with its imports from transformers made imports from triptych.

    A name that triptych does not have, and that the text does not use, is no longer imported, and is `Any` where only
    annotations have it; one that it uses still is imported, so that the import says what to do; tokenizers and
    processors are still imported from transformers.

    Args:
        name: of the file, for messages.
        package: the package of transformers that the text is of, such as "transformers.models.bert", whose relative
            imports lead there; those of modules beside the text stay. "": all relative imports stay.

    Raises:
        UnsupportedFormatError: the text is no Python. ArgumentError: `package` is not of transformers.
    """
    if package and package.partition(".")[0] != THEIRS:
        raise ArgumentError("This is no package of transformers.", expected=f"{THEIRS}.…", received=package)
    _refuse_other(text, name)
    try:
        wrapper = MetadataWrapper(cst.parse_module(text))
    except (cst.ParserSyntaxError, UnicodeDecodeError, SyntaxError) as cause:
        raise UnsupportedFormatError(f"{name} is no Python.", received=str(cause).splitlines()[0]) from cause
    porter = _Porter(package, _uses(wrapper.module))
    made = wrapper.visit(porter)
    remarks = sorted(set(porter.remarks), key=lambda remark: (remark.line, remark.what))
    return Ported(made.bytes, porter.imports, remarks)


def _refuse_other(text: bytes, name: str) -> None:
    """Raise `UnsupportedFormatError` for what is no Python; libcst says less of it, and ends the process where
    parentheses are nested a thousand deep."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the file's own texts
            ast.parse(text, name)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as cause:
        raise UnsupportedFormatError(
            f"{name} is no Python.", expected="a file that this Python can read", received=str(cause)
        ) from cause


def _package_of(path: Path) -> str:
    folders = path.resolve().parent.parts
    if THEIRS not in folders:
        return ""
    return ".".join(folders[len(folders) - 1 - folders[::-1].index(THEIRS) :])


class _Names(cst.CSTVisitor):
    """Counts names outside imports: those of use when the text runs, and those in annotations."""

    def __init__(self) -> None:
        self.used: Counter[str] = Counter()
        self.annotated: Counter[str] = Counter()
        self._depth = 0

    def visit_Annotation(self, node: cst.Annotation) -> None:
        self._depth += 1

    def leave_Annotation(self, original_node: cst.Annotation) -> None:
        self._depth -= 1

    def _count(self, name: str) -> None:
        (self.annotated if self._depth else self.used)[name] += 1

    def visit_Import(self, node: cst.Import) -> bool:
        return False

    def visit_ImportFrom(self, node: cst.ImportFrom) -> bool:
        return False

    def visit_Name(self, node: cst.Name) -> None:
        self._count(node.value)

    def visit_SimpleString(self, node: cst.SimpleString) -> None:
        value = node.evaluated_value
        self._count(value if isinstance(value, str) else "")  # a forward reference, or a name in `__all__`


def _uses(module: cst.Module) -> _Names:
    names = _Names()
    module.visit(names)
    return names


def _name(node: cst.CSTNode) -> str:
    return get_full_name_for_node(node) or ""


class _Porter(cst.CSTTransformer):
    """Changes imports, and remarks upon what will not work."""

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self, package: str, names: _Names) -> None:
        super().__init__()
        self._package, self._used, self._annotated = package, names.used, names.annotated
        self._of_theirs: set[str] = set()
        self._defined: set[str] = set()
        self._inherited: set[str] = set()
        self.imports = 0
        self.remarks: list[Remark] = []

    def _remark(self, node: cst.CSTNode, what: str, remedy: str) -> None:
        position: Any = self.get_metadata(PositionProvider, node, None)
        line = position.start.line if position is not None and isinstance(position.start, CodePosition) else 0
        self.remarks.append(Remark(line, what, remedy))

    # -- imports ----------------------------------------------------------------------------------------------------

    def leave_Import(self, original_node: cst.Import, updated_node: cst.Import) -> cst.Import:
        names: list[cst.ImportAlias] = []
        for alias in updated_node.names:
            path = alias.evaluated_name
            if path.partition(".")[0] != THEIRS:
                names.append(alias)
                continue
            self.imports += 1
            ours = _ours(path)
            self._of_theirs.add(alias.evaluated_alias or THEIRS)
            if error := _missing(ours, None):
                self._remark(original_node, f"`import {path}`: {error.detail}", error.remedy)
            module = cst.ImportAlias(cst.parse_expression(ours), asname=alias.asname)  # type: ignore[arg-type]
            names += [module] if alias.asname or path != THEIRS else []
            if not alias.asname:  # the code goes on to call it by its old name
                names.append(cst.ImportAlias(cst.Name(OURS), asname=cst.AsName(cst.Name(THEIRS))))
        separated = [name.with_changes(comma=cst.MaybeSentinel.DEFAULT) for name in names]
        return updated_node.with_changes(names=separated)

    def leave_ImportFrom(
        self, original_node: cst.ImportFrom, updated_node: cst.ImportFrom
    ) -> cst.BaseSmallStatement | cst.FlattenSentinel[cst.BaseSmallStatement]:
        path = self._path_of(updated_node)
        if path is None:
            return updated_node
        self.imports += 1
        ours = _ours(path)
        made: dict[str, Any] = {"module": cst.parse_expression(ours), "relative": ()}
        if isinstance(updated_node.names, cst.ImportStar):
            if error := _missing(ours, None):
                self._remark(original_node, f"`from {path} import *`: {error.detail}", error.remedy)
            return updated_node.with_changes(**made)
        beside = [alias for alias in updated_node.names if self._is_beside(original_node, alias, ours)]
        left = [alias for alias in updated_node.names if alias not in beside]
        kept = [alias for alias in left if self._stays(original_node, alias, ours)]
        annotations = [alias for alias in left if alias not in kept and self._annotated[_bound(alias)]]
        statements: list[cst.BaseSmallStatement] = []
        if kept and len(kept) < len(updated_node.names):
            kept[-1] = kept[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
        if kept:
            statements.append(updated_node.with_changes(names=kept, **made))
        if beside:
            names = [alias.with_changes(comma=cst.MaybeSentinel.DEFAULT) for alias in beside]
            theirs: Any = cst.parse_expression(path)
            statements.append(cst.ImportFrom(theirs, names))
        if annotations:
            names = [cst.ImportAlias(cst.Name("Any"), asname=cst.AsName(cst.Name(_bound(a)))) for a in annotations]
            statements.append(cst.ImportFrom(cst.Name("typing"), names))
        return cst.FlattenSentinel(statements or [cst.Pass()])

    def _path_of(self, node: cst.ImportFrom) -> str | None:
        """Return the module of transformers from which names are imported, or None if it is another one."""
        module = _name(node.module) if node.module is not None else ""
        level = len(node.relative)
        if level == 0:
            return module if module.partition(".")[0] == THEIRS else None
        folders = self._package.split(".") if self._package else []
        if level == 1 or level > len(folders):  # beside the file
            return None
        return ".".join([*folders[: len(folders) - level + 1], *([module] if module else [])])

    def _is_beside(self, node: cst.ImportFrom, alias: cst.ImportAlias, module: str) -> bool:
        """Return whether a name that is used is of a tokenizer, which is still imported from transformers; say so."""
        name = alias.evaluated_name
        if not self._used[_bound(alias)] or not is_of_tokenizers(f"{module}.{name}") or _missing(module, name) is None:
            return False
        self._remark(node, f"{name} is still imported from transformers", TOKENIZERS)
        return True

    def _stays(self, node: cst.ImportFrom, alias: cst.ImportAlias, module: str) -> bool:
        """Return whether a name is still imported; say so if triptych does not have it."""
        name = alias.evaluated_name
        if name == "__version__":
            self._remark(node, "`__version__` is that of triptych", "compare with no version of transformers")
            return True
        error = _missing(module, name)
        if error is None:
            self._inherited |= _members_of(module, name)
            return True
        used = self._used[_bound(alias)] > 0
        if used:
            self._remark(node, error.detail.removesuffix("."), error.remedy)
        return used

    # -- the rest ---------------------------------------------------------------------------------------------------

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
        self._defined.add(node.name.value)

    def visit_Call(self, node: cst.Call) -> None:
        called = _name(node.func).rpartition(".")[2]
        if called not in ("from_pretrained", "from_config", "_from_config"):
            return
        for argument in node.args:
            name = argument.keyword.value if argument.keyword else ""
            if name in _ARGUMENTS and not (isinstance(argument.value, cst.Name) and argument.value.value == "None"):
                self._remark(node, f"`{called}` takes no `{name}`", _ARGUMENTS[name])

    def visit_Attribute(self, node: cst.Attribute) -> None:
        owner, name = _name(node.value), node.attr.value
        if name == "__version__" and owner in self._of_theirs:
            self._remark(node, "`__version__` is that of triptych", "compare with no version of transformers")
        if name in _MEMBERS and owner in ("self", "super", "model", "self.model"):
            remedy = self._lacks(name)
            if remedy is not None:
                self._remark(node, f"the base class has no `{name}`", remedy)

    def _lacks(self, member: str) -> str | None:
        """Return what to do without a member that the base class does not have; None if it has, or that is unknown."""
        prefix = next((BACKENDS[b][1] for b in ("tf", "flax") if self._used[f"{BACKENDS[b][1]}PreTrainedModel"]), "")
        if member in self._inherited or (self._used[member] and member in self._defined):
            return None
        try:
            base = getattr(importlib.import_module(OURS), f"{prefix}PreTrainedModel")
        except MissingBackendError:
            return None
        refused = absent(base, member)
        if refused is not None:
            return refused.remedy
        return None if hasattr(base, member) else "write it, or do without"


def _bound(alias: cst.ImportAlias) -> str:
    """Return the name that an import gives to what it imports."""
    return alias.evaluated_alias or alias.evaluated_name


def _ours(path: str) -> str:
    return OURS + path.removeprefix(THEIRS)


def _missing(module: str, name: str | None) -> MissingNameError | None:
    """Return the error of importing a module, or a name from it; None if that works, or if nobody can say here."""
    try:
        held = importlib.import_module(module)
        if name is not None and not hasattr(held, name):
            importlib.import_module(f"{module}.{name}")
    except MissingNameError as error:
        return error
    except MissingBackendError:
        return None
    return None


def _members_of(module: str, name: str) -> set[str]:
    """Return which of `_MEMBERS` a class has that is imported: a mixin, beside the base class."""
    try:
        found = getattr(importlib.import_module(module), name, None)
    except MissingBackendError:
        return set()
    return (
        {one for one in _MEMBERS if hasattr(found, one) and absent(found, one) is None}
        if isinstance(found, type)
        else set()
    )


def ported_names(files: Sequence[Path], output: Path | None) -> Iterable[tuple[Path, Path]]:
    """Return for each file where it is written: in its place, behind symbolic links; or at the file `output`, or in the
    folder `output`.

    Raises:
        ArgumentError: two files would be one.
    """
    one_file = output is not None and len(files) == 1 and not output.is_dir() and output.suffix == ".py"
    targets = [file.resolve() if output is None else output if one_file else output / file.name for file in files]
    if len(set(targets)) < len(targets):
        raise ArgumentError("Two files would have one name.", received=", ".join(map(str, files)))
    return zip(files, targets, strict=True)
