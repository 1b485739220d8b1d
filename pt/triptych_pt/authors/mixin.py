"""What a module of PyTorch, of a model or not, can be given besides: masks, counts, memory, and its embeddings."""

from __future__ import annotations

import logging
from typing import Any, ClassVar

import torch
from torch import nn

from triptych.modeling.utilities import EmbeddingAccessMixin as EmbeddingAccessMixin
from triptych.modeling.utilities import ModuleUtils
from triptych_pt import ops
from triptych_pt.packed import PackedLayer
from triptych_pt.utilities import get_parameter_device, get_parameter_dtype

logger = logging.getLogger("triptych")
_COUNTED = ("mem_rss_diff", "mem_rss_post_forward", "mem_rss_pre_forward")


class ModuleUtilsMixin(ModuleUtils):
    """Attention masks, head masks, counts of parameters and operations, device and dtype of an `nn.Module`."""

    _ops: ClassVar[Any] = ops

    @property
    def device(self) -> torch.device:
        """Device of the first parameter, else of the first buffer, else the default device."""
        return get_parameter_device(self._module())

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the first floating parameter, else buffer; else of what there is, else the default dtype."""
        return get_parameter_dtype(self._module())

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """Return the number of elements of the parameters; a shared one counts once, a packed one as if it were none.

        Args:
            only_trainable: leave out frozen parameters.
            exclude_embeddings: leave out the matrix of every `nn.Embedding`, and a head that shares it.
        """
        module = self._module()
        tables = {id(part.weight) for part in module.modules() if isinstance(part, nn.Embedding)}
        packed = () if only_trainable else (part for part in module.modules() if isinstance(part, PackedLayer))
        elements = sum(part.num_elements() for part in packed if not (exclude_embeddings and part.is_table()))
        return elements + sum(
            parameter.numel()
            for parameter in module.parameters()
            if (parameter.requires_grad or not only_trainable) and not (exclude_embeddings and id(parameter) in tables)
        )

    def get_memory_footprint(self, return_buffers: bool = True) -> int:
        """Return the bytes of the parameters, and of the buffers unless `return_buffers` is False; each counts once."""
        module = self._module()
        tensors = [*module.parameters(), *(module.buffers() if return_buffers else ())]
        return sum(tensor.nbytes for tensor in tensors)

    def add_memory_hooks(self) -> None:
        """Count in `mem_rss_diff` of every submodule by how many bytes the process grows in its calls.

        Raises:
            ImportError: the package psutil is not installed.
        """
        import psutil

        process = psutil.Process()

        def before(module: Any, *_: Any) -> None:
            module.mem_rss_pre_forward = process.memory_info().rss

        def after(module: Any, *_: Any) -> None:
            module.mem_rss_post_forward = process.memory_info().rss
            module.mem_rss_diff += module.mem_rss_post_forward - module.mem_rss_pre_forward

        for module in self._module().modules():
            module.register_forward_pre_hook(before)
            module.register_forward_hook(after)
        self.reset_memory_hooks_state()

    def reset_memory_hooks_state(self) -> None:
        """Let the counts of `add_memory_hooks` begin at 0 again."""
        for module in self._module().modules():
            for name in _COUNTED:
                setattr(module, name, 0)

    def warn_if_padding_and_no_attention_mask(self, input_ids: Any, attention_mask: Any) -> None:
        """Warn, once, of ids with padding at an end and no mask for them."""
        padding = getattr(self.config, "pad_token_id", None)
        if attention_mask is not None or padding is None or torch.compiler.is_compiling() or torch.jit.is_tracing():
            return
        issued = self.__dict__.setdefault("warnings_issued", {})
        if not issued.get("padding") and bool((input_ids[:, [0, -1]] == padding).any()):
            issued["padding"] = True
            logger.warning("The inputs seem to have padding (token %s): pass attention_mask to hide it", padding)

    def _module(self) -> Any:
        return self
