"""Where transformers 4 had things, for code that imports from there: `triptych.modeling_utils` and the like.

The facade puts this folder on its path, so that in a file written for transformers 4 the import line is all that
changes, `from transformers.modeling_utils import PreTrainedModel` to `from triptych.modeling_utils import ...`.
A module here says where its names are; a name of a backend imports that backend's framework when it is first used.
What is not here raises an ImportError that says what to use: see `missing`.

Imports `modeling` and what is below, and the backends by name alone.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from triptych.errors import MissingNameError

FACADE = "triptych"
Others = Iterable[str] | Callable[[str], Iterable[str]]
_TABLES: dict[str, dict[str, str]] = {}


def exports(module: dict[str, Any], *tables: Mapping[str, str], also: Others = (), behind: Iterable[str] = ()) -> None:
    """Give a module names that are defined elsewhere, each imported on first use.

    Args:
        module: `globals()` of the module.
        tables: names, separated by spaces, by the module that defines them. A name `old=new` is `new` over there,
            and `old=` is the module itself.
        also: modules all of whose names this one has too; or a function from a name to those that may have it.
        behind: modules of names that are found too, but not listed: what the file imports for itself.

    A name that is nowhere raises AttributeError when it is asked for, which says what to use (`found`).
    """
    own = [name for name in module if not name.startswith("__") and _is_of(module[name], module["__name__"])]
    places = dict(pair for table in tables for place, names in table.items() for pair in _placed(place, names))
    _TABLES[module["__name__"]] = places

    def public() -> list[str]:
        others = () if callable(also) else also
        return sorted({*places, *own, *(name for other in others for name in _public(other))})

    def __getattr__(name: str) -> Any:
        if name == "__all__":
            return public()
        if name.startswith("__"):
            raise AttributeError(f"module {module['__name__']!r} has no attribute {name!r}")
        others = also(name) if callable(also) else also
        value = found(name, module["__name__"], places, [*others, *behind])
        module[name] = value
        return value

    module["__getattr__"] = __getattr__
    module["__dir__"] = lambda: sorted({*module, *public()})
    module.setdefault("__path__", [])  # a package: so the import system asks the facade's finder for what is missing


def _is_of(value: Any, module: str) -> bool:
    return getattr(value, "__module__", module) == module and not hasattr(value, "__spec__")


def _public(module: str) -> list[str]:
    held = importlib.import_module(module)
    listed = getattr(held, "__all__", None)
    return [n for n in vars(held) if n[0] != "_" and _is_of(vars(held)[n], module)] if listed is None else list(listed)


def _placed(place: str, names: str) -> Iterable[tuple[str, str]]:
    for name in names.split():
        old, renamed, new = name.partition("=")
        yield old, f"{place}:{new if renamed else old}"


def found(name: str, module: str, places: Mapping[str, str], also: Others = ()) -> Any:
    """Return the value of `name` of `module`, from the place that `places` has for it, or from a module of `also`.

    Raises:
        AttributeError: it is nowhere. MissingBackendError: the framework of its backend is not installed.
    """
    if name in places:
        place, _, attribute = places[name].partition(":")
        held = importlib.import_module(place)
        return getattr(held, attribute) if attribute else held
    for other in also(name) if callable(also) else also:
        try:
            return getattr(importlib.import_module(other), name)
        except AttributeError:
            continue
    raise AttributeError(f"module {module!r} has no attribute {name!r}. {missing(f'{module}.{name}')}")


def missing(path: str) -> MissingNameError:
    """Return the error for a module or name of transformers, under the facade's path, that triptych does not have."""
    from triptych.transformers4._instead import remedy_for

    parent, _, name = path.rpartition(".")
    close = difflib.get_close_matches(name, [one for one in _known(parent) if one != name], n=1, cutoff=0.8)
    remedy = remedy_for(path) or (f"use {parent}.{close[0]}" if close else "import it from where it is defined")
    return MissingNameError(f"triptych has no {path.removeprefix(f'{FACADE}.')}.", remedy=remedy)


def table(module: str) -> Mapping[str, str]:
    """Return name -> "module:name" of what a module hands out."""
    return _TABLES.get(module, {})


def _known(module: str) -> list[str]:
    if module == FACADE:
        from triptych.names import defined_in

        return [*defined_in(), *table(f"{FACADE}.transformers4._toplevel")]
    return [*table(module)]
