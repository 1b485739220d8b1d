"""The code of a class that is saved beside its weights, for `triptych.hub.remote_code` to load."""

from __future__ import annotations

import ast
import importlib
import logging
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from triptych.errors import ArgumentError
from triptych.files.atomic import write_atomically

logger = logging.getLogger("triptych")


def code_of(cls: type) -> tuple[dict[str, str], dict[str, bytes]]:
    """Return the entry of `auto_map` and the files that `cls` needs, if it was registered for an auto class.

    The files are the module of the class and those that it imports from beside it (`from .x import`), and so on.

    Raises:
        ArgumentError: it imports relatively what does not lie beside it.
    """
    name = getattr(cls, "_auto_class", None)
    if name is None:
        return {}, {}
    if cls.__module__ == "__main__":
        logger.warning("%s is of __main__, so its code is not saved; put it into a module", cls.__name__)
        return {}, {}
    texts: dict[str, bytes] = {}
    _collect(sys.modules[cls.__module__], texts)
    module = cls.__module__.rpartition(".")[2]
    return {name: f"{module}.{cls.__name__}"}, {f"{stem}.py": text for stem, text in texts.items()}


def _collect(module: ModuleType, texts: dict[str, bytes]) -> None:
    stem = module.__name__.rpartition(".")[2]
    get_source = getattr(getattr(module.__spec__, "loader", None), "get_source", None)
    text = None if get_source is None else get_source(module.__name__)
    if text is None:
        raise ArgumentError(f"{module.__name__} has no source to save.", remedy="define the class in a .py file")
    texts[stem] = text.encode()
    for name in _relative_imports(text, module.__name__):
        if name not in texts:
            _collect(_beside(module, name), texts)


def _beside(module: ModuleType, name: str) -> ModuleType:
    try:
        return importlib.import_module(f"{module.__package__}.{name}")
    except ImportError as cause:
        raise ArgumentError(
            f"{module.__name__} imports what cannot be saved with it.",
            expected=f"a module {name} beside it",
            received=str(cause),
            remedy="import names from the module that defines them",
        ) from cause


def _relative_imports(text: str, module: str) -> list[str]:
    """Return the modules that `text` imports from beside it: `from .x import y`, `from . import x`."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.ImportFrom) or node.level == 0:
            continue
        names = [node.module] if node.module else [alias.name for alias in node.names]
        if node.level > 1 or any("." in str(name) for name in names):
            raise ArgumentError(
                f"{module} imports what would not be saved with it.",
                expected="relative imports from beside it, as in `from .x import y`",
                received=f"`{ast.unparse(node)}`",
                remedy="move what it imports beside it, or import it absolutely",
            )
        found += [str(name) for name in names]
    return found


def custom_object_save(obj: Any, folder: str | os.PathLike[str], config: Any = None) -> list[str]:
    """Copy the code of an object's class into `folder`, and return the paths of the files.

    `config`, an object, a dict or a list of them, gets the entry of `auto_map`, if the class was registered for an
    auto class. A file of the same name is replaced.

    Raises:
        ArgumentError: the class imports relatively what does not lie beside it.
    """
    cls = obj if isinstance(obj, type) else type(obj)
    if cls.__module__ == "__main__":
        logger.warning("%s is of __main__, so its code is not saved; put it into a module", cls.__name__)
        return []
    texts: dict[str, bytes] = {}
    _collect(sys.modules[cls.__module__], texts)
    if name := getattr(cls, "_auto_class", None):
        reference = f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}"
        for one in config if isinstance(config, (list, tuple)) else [] if config is None else [config]:
            _add_to_auto_map(one, name, reference)
    paths = [Path(folder) / f"{stem}.py" for stem in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        write_atomically(path, text)
    return [str(path) for path in paths]


def _add_to_auto_map(config: Any, name: str, reference: str) -> None:
    if isinstance(config, dict):
        config["auto_map"] = {**(config.get("auto_map") or {}), name: reference}
    else:
        config.auto_map = {**(getattr(config, "auto_map", None) or {}), name: reference}
