"""Whether a framework is installed, asked without importing it."""

from __future__ import annotations

import importlib.util

from triptych.errors import MissingBackendError
from triptych.names import BACKENDS, FRAMEWORKS


def is_installed(module: str) -> bool:
    """Return whether `module` is really there; a mere folder of that name (such as ./flax) is not."""
    spec = importlib.util.find_spec(module)
    return spec is not None and spec.origin is not None


def require(backend: str) -> None:
    """Raise `MissingBackendError` unless everything that `backend` imports is installed."""
    missing = [module for module in FRAMEWORKS[backend] if not is_installed(module)]
    if missing:
        raise MissingBackendError(
            f"{BACKENDS[backend][0]} cannot be imported.",
            expected=" and ".join(FRAMEWORKS[backend]),
            received=f"no {' and no '.join(missing)}",
            remedy=f"pip install 'triptych[{backend}]'",
        )
