"""What transformers' Trainer, and loops that are written like it, ask of a model that they train."""

from __future__ import annotations

import functools
import inspect
import numbers
from collections.abc import Callable, Mapping
from typing import Any

import torch

from triptych.errors import ArgumentError
from triptych_pt.authors.losses import IGNORED

LABELS = "labels"


class Trains:
    """Part of `PreTrainedModel`: names that transformers 5 has for gradient checkpointing, and parts of a batch."""

    gradient_checkpointing_enable: Any
    gradient_checkpointing_disable: Any
    is_gradient_checkpointing: Any

    @functools.cached_property
    def accepts_loss_kwargs(self) -> bool:
        """Whether a call takes `num_items_in_batch`: of a built-in class with a loss, or by its `forward`'s kwargs."""
        forward = type(self).forward  # type: ignore[attr-defined]
        kinds = [parameter.kind for parameter in inspect.signature(forward).parameters.values()]
        return hasattr(forward, "part_of_batch") or inspect.Parameter.VAR_KEYWORD in kinds

    def activation_checkpointing_enable(
        self,
        activation_checkpointing_kwargs: Mapping[str, Any] | None = None,
        every_n_layers: int = 1,
        offload: bool = False,
    ) -> None:
        """Call `gradient_checkpointing_enable`, by default with `{"use_reentrant": False}`: what transformers 5 calls
        it, and how.

        Raises:
            ArgumentError: as that does; or `every_n_layers` is not 1, or `offload` set, which are not built in.
        """
        if every_n_layers != 1 or offload:
            raise ArgumentError(
                "Gradient checkpointing is of every layer, and keeps on the device what goes into it.",
                expected="every_n_layers=1, offload=False",
                received=f"every_n_layers={every_n_layers!r}, offload={offload!r}",
                remedy="leave them out; torch.autograd.graph.save_on_cpu around the training step offloads",
            )
        options = activation_checkpointing_kwargs
        self.gradient_checkpointing_enable({"use_reentrant": False} if options is None else options)

    def activation_checkpointing_disable(self) -> None:
        """Call `gradient_checkpointing_disable`."""
        self.gradient_checkpointing_disable()

    @property
    def is_activation_checkpointing(self) -> bool:
        """The same as `is_gradient_checkpointing`."""
        return bool(self.is_gradient_checkpointing)


def by_parts(call: Callable[..., Any], task: str) -> Callable[..., Any]:
    """Return the `forward` of a part with `labels` so that it takes `num_items_in_batch` too, by name.

    That is how many labels there are in a batch that is computed in parts: the loss is the sum over this part, divided
    by it, and not the mean. Labels of -100 do not count, nor does the first of each text where `task` is "CausalLM".
    """
    names = list(inspect.signature(call).parameters)
    if LABELS not in names:
        return call
    place = names.index(LABELS) - 1

    def forward(self: Any, *args: Any, num_items_in_batch: Any = None, **kwargs: Any) -> Any:
        labels = args[place] if place < len(args) else kwargs.get(LABELS)
        if num_items_in_batch is None or labels is None:
            return call(self, *args, **kwargs)
        _check_count(num_items_in_batch)
        counted = labels[:, 1:] if task == "CausalLM" else labels
        count = (counted != IGNORED).sum()
        # The mean over no labels is no number: over any labels it is one, of which the loss is 0 times as much.
        labels = torch.where(count == 0, torch.zeros_like(labels), labels)
        if place < len(args):
            args = (*args[:place], labels, *args[place + 1 :])
        else:
            kwargs[LABELS] = labels
        return _weighted(call(self, *args, **kwargs), count / num_items_in_batch)

    functools.update_wrapper(forward, call)
    del forward.__wrapped__  # type: ignore[attr-defined]  # which accelerate would take for what it has wrapped
    forward.__signature__ = inspect.signature(call)  # type: ignore[attr-defined]
    forward.part_of_batch = True  # type: ignore[attr-defined]
    return forward


def _check_count(given: Any) -> None:
    """Raise `ArgumentError` unless it may be a number of labels; the value of a tensor is not looked at."""
    if isinstance(given, torch.Tensor):
        good = given.numel() == 1
    else:
        good = isinstance(given, numbers.Real) and not isinstance(given, bool) and float(given) > 0
    if not good:
        raise ArgumentError("num_items_in_batch is no number of labels.", expected="a number above 0, or a tensor with "
                            "one", received=repr(given)[:80])  # fmt: skip


def _weighted(output: Any, weight: torch.Tensor) -> Any:
    if isinstance(output, tuple):
        return (output[0] * weight.to(output[0].device), *output[1:])
    output["loss"] = output["loss"] * weight.to(output["loss"].device)
    return output
