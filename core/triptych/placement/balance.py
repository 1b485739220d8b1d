"""Limits by which several accelerators get about the same share of a model."""

from __future__ import annotations

from triptych.placement.memory import Limits, accelerators
from triptych.placement.outline import Outline


def balanced_memory(outline: Outline, limits: Limits, low_zero: bool = False) -> Limits:
    """Return smaller limits for all accelerators but the last, so that a model which they can hold is spread evenly.

    A share has room beside for one more unit of a usual size, as units are not split. With `low_zero` the first gets
    only what the others cannot take: it is kept for what a text is generated with.
    """
    devices = accelerators(limits)
    if len(devices) < 2:
        return limits
    total = outline.size("")
    sizes = sorted(outline.size(unit) for unit in outline.units())
    whole = [outline.size(path) for path in outline.whole]
    room = max(whole, default=0) or sizes[len(sizes) // 2]
    share = total // (len(devices) - low_zero) + room * 5 // 4
    new = dict(limits)
    for device in devices[:-1]:
        limit = limits[device]
        new[device] = share if limit is None else min(share, limit)
    if low_zero:
        others = sum(new[device] or total for device in devices[1:])
        first = max(0, total - others)
        limit = limits[devices[0]]
        new[devices[0]] = first if limit is None else min(first, limit)
    return new
