"""`transformers.utils.logging`, over Python's own: the library's logger is "triptych"."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from logging import CRITICAL, DEBUG, ERROR, FATAL, INFO, NOTSET, WARN, WARNING
from typing import Any

from triptych.transformers4 import exports

log_levels = {"detail": DEBUG, "debug": DEBUG, "info": INFO, "warning": WARNING, "error": ERROR, "critical": CRITICAL}
_LIBRARY = "triptych"
_LEVELS = (NOTSET, DEBUG, INFO, WARN, WARNING, ERROR, CRITICAL, FATAL)
_progress = {"shown": True}


def get_logger(name: str | None = None) -> logging.Logger:
    """Return the logger `name`, or the library's; it has `warning_once`, `info_once` and `warning_advice`, too."""
    logger: Any = logging.getLogger(name or _LIBRARY)
    for method in ("warning", "info"):
        if not hasattr(logger, f"{method}_once"):
            setattr(logger, f"{method}_once", _once(getattr(logger, method)))
    if not hasattr(logger, "warning_advice"):
        logger.warning_advice = functools.partial(_advise, logger)
    return logger


def _once(log: Callable[..., None]) -> Callable[..., None]:
    said: set[Any] = set()

    def call(message: object, *args: Any, **kwargs: Any) -> None:
        if (message, args) not in said:
            said.add((message, args))
            log(message, *args, **{"stacklevel": 2, **kwargs})

    return call


def _advise(logger: logging.Logger, *args: Any, **kwargs: Any) -> None:
    if not os.environ.get("TRANSFORMERS_NO_ADVISORY_WARNINGS"):
        logger.warning(*args, **{"stacklevel": 2, **kwargs})


def get_verbosity() -> int:
    """Return the level of the library's logger."""
    return get_logger().getEffectiveLevel()


def set_verbosity(verbosity: int) -> None:
    """Set the level of the library's logger."""
    get_logger().setLevel(verbosity)


set_verbosity_debug = functools.partial(set_verbosity, DEBUG)
set_verbosity_info = functools.partial(set_verbosity, INFO)
set_verbosity_warning = functools.partial(set_verbosity, WARNING)
set_verbosity_error = functools.partial(set_verbosity, ERROR)


def get_log_levels_dict() -> dict[str, int]:
    """Return the levels by name."""
    return dict(log_levels)


def add_handler(handler: logging.Handler) -> None:
    """Let the library's logger call `handler`."""
    get_logger().addHandler(handler)


def remove_handler(handler: logging.Handler) -> None:
    """Let the library's logger call `handler` no more."""
    get_logger().removeHandler(handler)


def enable_propagation() -> None:
    """Pass what is logged on to the root logger, as is the default."""
    get_logger().propagate = True


def disable_propagation() -> None:
    """Pass nothing that is logged on to the root logger."""
    get_logger().propagate = False


def captureWarnings(capture: bool) -> None:  # noqa: N802  (the name in Python's logging)
    """Log the warnings of the module `warnings`, or no more."""
    logging.captureWarnings(capture)


def enable_progress_bar() -> None:
    """Let `tqdm` show bars, as is the default."""
    _progress["shown"] = True


def disable_progress_bar() -> None:
    """Let `tqdm` show no bars."""
    _progress["shown"] = False


def is_progress_bar_enabled() -> bool:
    """Return whether `tqdm` shows a bar."""
    return _progress["shown"]


def tqdm(*args: Any, **kwargs: Any) -> Any:
    """Return a bar of the package tqdm, shown unless `disable_progress_bar` was called."""
    from tqdm import auto

    return auto.tqdm(*args, **{"disable": not is_progress_bar_enabled(), **kwargs})


exports(globals())
