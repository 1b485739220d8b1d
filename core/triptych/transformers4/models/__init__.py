"""`transformers.models`: the modules of the built-in families, such as `triptych.models.bert.modeling_bert`.

There is a package for each family, made here and not written out: its modules hand out what the backends' modules of
the family hold (`triptych_pt.bert`), and, for the configuration, what core's does.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from typing import Any

from triptych.names import BACKENDS, CORE_MODULES, MODEL_MODULES
from triptych.transformers4 import Others, exports

_FILES = {"pt": "modeling_{}", "tf": "modeling_tf_{}", "flax": "modeling_flax_{}"}
_IMPORTED = {
    "pt": "modeling_outputs activations modeling_utils pytorch_utils cache_utils modeling_attn_mask_utils "
    "modeling_rope_utils utils",
    "tf": "modeling_tf_outputs activations_tf modeling_tf_utils tf_utils utils",
    "flax": "modeling_flax_outputs modeling_flax_utils utils",
}
"""What the files of a family import for themselves, and others from them: `ACT2FN`, `ModelOutput`, ..."""


def _made(name: str, doc: str, *tables: dict[str, str], also: Others = (), behind: Iterable[str] = ()) -> Any:
    """Put a module into `sys.modules`, where an import finds it, and into its package."""
    module = module_from_spec(ModuleSpec(f"{__name__}.{name}", None, is_package=True))
    module.__doc__ = doc
    exports(vars(module), *tables, also=also, behind=behind)
    sys.modules[module.__name__] = module
    parent, _, own = module.__name__.rpartition(".")
    setattr(sys.modules[parent], own, module)
    return module


def _family(name: str) -> None:
    configs = {place: " ".join(names) for place, names in CORE_MODULES.items() if place == f"triptych.families.{name}"}
    backends = {backend: f"{package}.{name}" for backend, (package, _) in BACKENDS.items()}
    _made(name, f"The family {name}.", configs, also=lambda asked: [backends[_backend_of(asked)]])
    _made(
        f"{name}.configuration_{name}",
        f"The config of the family {name}.",
        configs,
        {"triptych.utils.logging": "logging="},
    )
    for backend, place in backends.items():
        behind = [f"triptych.{module}" for module in _IMPORTED[backend].split()]
        _made(f"{name}.{_FILES[backend].format(name)}", f"What `{place}` holds.", configs, also=(place,), behind=behind)


def _auto() -> None:
    places = {backend: f"{package}.auto" for backend, (package, _) in BACKENDS.items()}
    config = {"triptych.modeling.auto": "AutoConfig"}
    _made("auto", "The auto classes.", config, also=lambda asked: [places[_backend_of(asked)]])
    _made("auto.configuration_auto", "`AutoConfig`.", config)
    for backend, place in places.items():
        _made(f"auto.{_FILES[backend].format('auto')}", f"What `{place}` holds.", also=(place,))


def _backend_of(name: str) -> str:
    return next((backend for backend in ("tf", "flax") if name.startswith(BACKENDS[backend][1])), "pt")


exports(globals())
for _name in MODEL_MODULES:
    _family(_name)
_auto()
