"""Classes from the code that comes with a checkpoint, as `auto_map` in config.json names them; it runs only if trusted.

    "auto_map": {"AutoConfig": "configuration_x.XConfig", "TFAutoModel": "org/other--modeling_x.TFX"}

The Python files of one folder become one package, named after a hash of them: a config and the models of all three
frameworks share it, the same code is loaded once, and two versions of it never mix. A module is read, and from the Hub
fetched, when it is imported, by `auto_map` or by another with `from .x import`; always of the commit of the package.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import logging
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from triptych.errors import ArgumentError, ConfigError, RemoteCodeError, TriptychError, UnsafeCheckpointError
from triptych.files.json import is_watched, shown
from triptych.hub.fetching import HubFolder
from triptych.hub.snapshot import HubOptions, Snapshot, find_snapshot, is_repo_id

_ROOT = "triptych_remote"
_SEPARATOR = "--"

logger = logging.getLogger("triptych")
_lock = threading.Lock()


@dataclass(frozen=True)
class CodeOptions:
    """Whether code may run, and which: `revision` is a branch, tag or commit of the repository that the code is in.

    `in_place_of_transformers`: code that imports transformers is given triptych's modules of the same names.

    Raises:
        ArgumentError: an option of a wrong type.
    """

    trust: bool = False
    revision: str | None = None
    hub: Mapping[str, Any] = field(default_factory=dict, repr=False)
    in_place_of_transformers: bool = False

    def __post_init__(self) -> None:
        for name, value in (
            ("trust_remote_code", self.trust),
            ("in_place_of_transformers", self.in_place_of_transformers),
        ):
            if not isinstance(value, bool):
                raise ArgumentError(f"{name} is no bool.", received=repr(value)[:80])
        HubOptions(revision=self.revision)


def take_code_arguments(kwargs: dict[str, Any], hub: Mapping[str, Any] | None = None) -> CodeOptions:
    """Remove the arguments that concern code from `kwargs`, and return them; `hub` says how to ask the Hub."""
    trust = kwargs.pop("trust_remote_code", None)
    instead = kwargs.pop("in_place_of_transformers", False)
    return CodeOptions(False if trust is None else trust, kwargs.pop("code_revision", None), dict(hub or {}), instead)


@dataclass(frozen=True)
class Source:
    """The modules of one folder: name -> git's object id of the file; `read` returns the text of one.

    `where` names the folder in messages; `folder` is where the files lie, or will lie when they are read. With
    `in_place_of_transformers` what they import of transformers is of triptych.
    """

    where: str
    folder: Path
    modules: Mapping[str, str]
    read: Callable[[str], bytes] = field(repr=False)
    in_place_of_transformers: bool = False

    @property
    def package(self) -> str:
        lines = [f"{name} {blob}\n" for name, blob in sorted(self.modules.items())]
        kind = "t" if self.in_place_of_transformers else "c"
        return f"{_ROOT}.{kind}{hashlib.sha256(''.join(lines).encode()).hexdigest()[:24]}"


def remote_class(
    auto_map: Mapping[str, Any], name: str, folder: Any, subfolder: str, options: CodeOptions, base: type
) -> Any:
    """Return the class that `auto_map` names for the auto class `name`; its code is run to make it.

    Args:
        folder: where config.json is: a local folder, or a `HubFolder`, of whose commit the code is unless
            `options.revision` names another.
        base: what the class must be derived from.

    Raises:
        RemoteCodeError: the code is not trusted, fails, or has no such class. UnsafeCheckpointError: the name of the
        class leads elsewhere. HubError and its subclasses.
    """
    repo_id, module, attribute = _parsed(auto_map[name], folder)
    file = f"{module}.py"
    if not options.trust:
        raise RemoteCodeError(
            f"{repo_id or folder} needs code of its own: {file} of {repo_id or folder}.",
            expected="trust_remote_code=True, for code that may run here",
            received=f"{attribute} of {file} as {name}",
            remedy=f"read {file}; if you trust it, pass trust_remote_code=True and code_revision=<the commit you read>",
        )
    source = _of_hub(repo_id, folder, subfolder, module, options) if repo_id else _of_folder(folder, subfolder, module)
    source = replace(source, in_place_of_transformers=options.in_place_of_transformers)
    if module not in source.modules:
        raise RemoteCodeError(
            f"{source.where} has no {file}, which its auto_map names.", received=", ".join(sorted(source.modules)[:8])
        )
    found = getattr(_imported(source, module), attribute, None)
    if not isinstance(found, type) or not issubclass(found, base):
        raise RemoteCodeError(
            f"{attribute} of {file} of {source.where} cannot be used for {name}.",
            expected=f"a subclass of triptych's {base.__name__}",
            received=repr(found)[:120],
            remedy=f"derive it from triptych.{base.__name__}; code of transformers 4: in_place_of_transformers=True",
        )
    return found


def _parsed(reference: object, folder: Any) -> tuple[str, str, str]:
    """Return repository ("" if local), module and class of a reference, each checked to be no more than a name."""
    repo_id, separator, name = reference.rpartition(_SEPARATOR) if isinstance(reference, str) else ("", "", "")
    module, _, attribute = name.partition(".")
    good = module.isidentifier() and attribute.isidentifier() and (is_repo_id(repo_id) or not separator)
    if not good:
        raise UnsafeCheckpointError(
            f"auto_map of {folder} names no class.",
            expected="module.Class, or org/name--module.Class",
            received=repr(reference)[:120],
            remedy="do not use this checkpoint, unless you can mend its config.json",
        )
    return repo_id or (folder.repo_id if isinstance(folder, HubFolder) else ""), module, attribute


def _of_folder(folder: Any, subfolder: str, module: str) -> Source:
    if not str(folder):
        raise RemoteCodeError(
            "The config names code, and does not say where it is.",
            expected="a config that was loaded from the folder or repository with the code",
            received=f"{module}.py, without name_or_path",
        )
    here = Path(folder) if Path(folder).is_dir() else Path(folder).parent
    inner = here / subfolder
    chosen = inner if (inner / f"{module}.py").is_file() else here
    texts = {path.stem: shown(path, path.read_bytes()) for path in chosen.glob("*.py") if path.is_file()}
    blobs = {name: hashlib.sha1(b"blob %d\0" % len(text) + text).hexdigest() for name, text in texts.items()}
    return Source(str(chosen), chosen, blobs, texts.__getitem__)


def _of_hub(repo_id: str, folder: Any, subfolder: str, module: str, options: CodeOptions) -> Source:
    own = repo_id == str(folder)
    if own and options.revision is None and isinstance(folder, HubFolder):
        snapshot = folder.snapshot
    else:
        asked = folder.snapshot.options if isinstance(folder, HubFolder) else HubOptions(**options.hub)
        revision = asked.revision if own and options.revision is None else options.revision
        snapshot = find_snapshot(repo_id, replace(asked, revision=revision, force_download=False))
    if options.revision is None:
        remedy = f"pass code_revision={snapshot.commit!r} to stay with it"
        logger.warning("Code of %s at commit %s is run; %s", repo_id, snapshot.commit, remedy)
    known = set(snapshot.records) or set(snapshot.files)
    base = f"{subfolder}/" if own and subfolder and f"{subfolder}/{module}.py" in known else ""
    files = [name for name in known if name.endswith(".py") and "/" not in name.removeprefix(base)]
    blobs = {_stem(name): _blob(snapshot, name) for name in files if name.startswith(base)}
    where = f"{repo_id} at commit {snapshot.commit}"
    if is_watched():  # what is run is what was seen
        texts = {name: _fetched(snapshot, f"{base}{name}.py") for name in blobs}
        return Source(where, snapshot.folder / base, blobs, texts.__getitem__)
    return Source(where, snapshot.folder / base, blobs, lambda name: _fetched(snapshot, f"{base}{name}.py"))


def _stem(name: str) -> str:
    return name.rpartition("/")[2].removesuffix(".py")


def _blob(snapshot: Snapshot, name: str) -> str:
    record = snapshot.records.get(name)
    return (record and (record.blob or record.sha256)) or f"{snapshot.repo_id} {snapshot.commit}"


def _fetched(snapshot: Snapshot, name: str) -> bytes:
    path = snapshot.fetch([name], complete=False) / name
    return shown(path, path.read_bytes())


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of the packages made here, and nothing else."""

    def __init__(self) -> None:
        self.sources: dict[str, Source] = {}

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> Any:
        package, _, module = fullname.rpartition(".")
        source = self.sources.get(package)
        if source is None or module not in source.modules:
            return None
        file = source.folder / f"{module}.py"
        spec = importlib.machinery.ModuleSpec(fullname, _Loader(source, module), origin=str(file))
        spec.has_location = True  # so that inspect, and with it TensorFlow's AutoGraph, finds the source
        return spec


class _Loader(importlib.abc.InspectLoader):
    """Compiles one module from the text that its source has; nothing is written beside it."""

    def __init__(self, source: Source, module: str) -> None:
        self._source, self._module = source, module

    def get_source(self, fullname: str) -> str:
        return importlib.util.decode_source(self._source.read(self._module))

    def exec_module(self, module: ModuleType) -> None:
        tree = ast.parse(self.get_source(module.__name__), str(module.__file__))
        if self._source.in_place_of_transformers:
            tree = ast.fix_missing_locations(_InPlaceOfTransformers().visit(tree))
        code = compile(tree, str(module.__file__), "exec")
        exec(code, module.__dict__)  # noqa: S102  (trusted by the caller, who said so)


class _InPlaceOfTransformers(ast.NodeTransformer):
    """Lets imports of transformers find triptych's modules of the same names."""

    def visit_Import(self, node: ast.Import) -> list[ast.stmt]:
        """`import transformers.x` binds `transformers`, so that needs an import of its own."""
        found: list[ast.stmt] = []
        for alias in node.names:
            new, name = _of_triptych(alias.name), alias.asname
            if new != alias.name and name is None:
                found.append(ast.Import([ast.alias(_OURS, _THEIRS)]))
            if new == alias.name or name is not None or new != _OURS:
                found.append(ast.Import([ast.alias(new, name)]))
        return [ast.copy_location(statement, node) for statement in found]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom:
        if node.level == 0 and node.module:
            node.module = _of_triptych(node.module)
        return node


_THEIRS, _OURS = "transformers", "triptych"


def _of_triptych(module: str) -> str:
    return _OURS + module.removeprefix(_THEIRS) if module.partition(".")[0] == _THEIRS else module


_finder = _Finder()


def _imported(source: Source, module: str) -> ModuleType:
    package = source.package
    with _lock:
        if _finder not in sys.meta_path:
            sys.meta_path.append(_finder)
        for name in (_ROOT, package):
            if name not in sys.modules:
                sys.modules[name] = ModuleType(name)
                sys.modules[name].__path__ = []
        _finder.sources[package] = source
    try:
        return importlib.import_module(f"{package}.{module}")
    except TriptychError:
        raise
    except Exception as cause:
        raise RemoteCodeError(
            f"{module}.py of {source.where} could not be imported.",
            received=f"{type(cause).__name__}: {cause}"[:400],
            remedy="install what it needs, or tell its author",
        ) from cause


def mapped(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the auto_map of the contents of a config.json.

    Raises:
        ConfigError: it is no mapping.
    """
    found = values.get("auto_map") or {}
    if not isinstance(found, Mapping):
        raise ConfigError("auto_map is no mapping.", received=repr(found)[:80])
    return found


def from_repository(values: dict[str, Any], repo_id: str) -> None:
    """Let the auto_map in the contents of a config.json say that its classes are of `repo_id`, for later saves."""
    if isinstance(values.get("auto_map"), dict):
        values["auto_map"] = {
            name: f"{repo_id}{_SEPARATOR}{ref}" if isinstance(ref, str) and _SEPARATOR not in ref else ref
            for name, ref in values["auto_map"].items()
        }
