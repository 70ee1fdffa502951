"""What makes a frozen bfloat16 encoder faster on a CPU: packed weights, batched attention, kept memory.

Each is numerically the plain layer's twin, and is left out where PyTorch or the C library lacks the operation:

- ``nn.Linear`` becomes oneDNN's product over weights brought into its own blocked order once, not at each call.
- Attention is two batched products with a softmax between. PyTorch's fused kernel for bfloat16 on CPUs saves memory,
  but takes longer at the lengths of plots and posters. Scale and mask are part of the first product, and rows of
  scores end where a vector register does.
- Freed buffers stay with the process for the next batch.

Tried and left out, for 2 % or less: GELU inside the product, one product for query, key and value, attention over few
texts at a time so that scores stay in the cache. `torch.compile` is no faster than this.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

import torch
from torch import nn
from torch.nn import functional

ATTENTION = "cinefuse"

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # glibc's malloc.h
_BATCHES_BETWEEN_TRIMS = 8
_VECTOR = 32  # bfloat16 values in a register of 512 bits
_MOST_SCORES = 64 << 20  # attention scores held at once: 128 MB of bfloat16, more than any batch of plots or posters
_FEWEST_BEYOND = 8  # so many scores behind the last whole vector take longer one by one than a vector more


class PackedLinear(nn.Module):
    """``nn.Linear`` on a CPU in bfloat16: (..., in) -> (..., out)."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        # not a Parameter: a packed tensor supports nothing but the product
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        self.bias = None if linear.bias is None else linear.bias.detach()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight = linear.weight.detach().new_empty(0)  # T5 asks for its dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "none")
        return y


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this PyTorch on this machine has the packed product for ``dtype``."""
    mkldnn: Any = torch.backends.mkldnn
    if device.type != "cpu" or dtype != torch.bfloat16 or not mkldnn.is_available():
        return False
    try:
        packed = PackedLinear(nn.Linear(32, 32, dtype=dtype))
        return bool(packed(torch.ones(1, 32, dtype=dtype)).shape == (1, 32))
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):  # a build, or a CPU, without the operation
        return False


def pack(model: nn.Module) -> None:
    """Replaces, in place, every ``nn.Linear`` of ``model``."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:
                setattr(parent, name, PackedLinear(child))


def attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention over (B, heads, T, d) -> (B, T, heads, d), under the contract of transformers' attention functions.

    ``attention_mask`` is None or boolean, True where a key may be read. Whatever else a model needs (position bias,
    causal order, grouped heads), and every other device or dtype, goes to transformers' own function.
    """
    simple = kwargs.get("position_bias") is None and not getattr(module, "is_causal", False)
    packed = query.dtype == torch.bfloat16 and query.device.type == "cpu" and query.shape[1] == key.shape[1]
    if not (simple and packed and (attention_mask is None or attention_mask.dtype == torch.bool)):
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        out, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
        return out, None
    batch, heads, *_ = query.shape
    key, value, attention_mask = _up_to_a_whole_vector(key, value, attention_mask)
    scale = scaling or query.shape[-1] ** -0.5
    keys, values = key.flatten(0, 1).transpose(1, 2), value.flatten(0, 1)
    unread = None
    if attention_mask is not None:
        unread = torch.zeros_like(attention_mask, dtype=query.dtype).masked_fill_(~attention_mask, -1e9)
        unread = unread.expand(batch, heads, -1, -1).flatten(0, 1)
    # long texts: some queries at a time, or all scores at once would take gigabytes
    at_once = max(1, _MOST_SCORES // (batch * heads * key.shape[2])) if unread is None or unread.shape[1] == 1 else 0
    parts, flat = [], query.flatten(0, 1)
    for start in range(0, flat.shape[1], at_once or flat.shape[1]):
        queries = flat[:, start : start + (at_once or flat.shape[1])]
        if unread is None:
            scores = torch.baddbmm(query.new_zeros(()), queries, keys, beta=0, alpha=scale)  # (B * heads, T, T)
        else:
            scores = torch.baddbmm(unread, queries, keys, alpha=scale)
        parts.append(torch.bmm(torch.softmax(scores, dim=-1), values))
    out = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
    return out.view(batch, heads, *out.shape[1:]).transpose(1, 2).contiguous(), None


def _up_to_a_whole_vector(
    key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Keys and values (B, heads, T, d) with zeros behind that the mask hides, where that makes the softmax faster.

    PyTorch takes what lies behind the last whole vector of a row one by one: 127 scores cost it twice as much as 128.
    """
    tokens = key.shape[2]
    if tokens % _VECTOR < _FEWEST_BEYOND:
        return key, value, mask
    beyond = -tokens % _VECTOR
    if mask is None:
        mask = torch.ones((1, 1, 1, tokens), dtype=torch.bool, device=key.device)
    key, value = (functional.pad(given, (0, 0, 0, beyond)) for given in (key, value))
    return key, value, functional.pad(mask, (0, beyond), value=False)


def padding_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    mask_function: Any,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> torch.Tensor | None:
    """(B, 1, 1, T) boolean from the (B, T) padding mask, or None without padding: no look at the values, so no wait."""
    from transformers.masking_utils import bidirectional_mask_function, sdpa_mask

    if mask_function is not bidirectional_mask_function:
        mask: torch.Tensor | None = sdpa_mask(
            batch_size, q_length, kv_length, mask_function=mask_function, attention_mask=attention_mask, **kwargs
        )
        return mask
    return None if attention_mask is None else attention_mask[:, None, None, :].to(torch.bool)


def register_attention() -> None:
    """Makes ``attn_implementation=ATTENTION`` known to transformers."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(ATTENTION, attention)
    AttentionMaskInterface.register(ATTENTION, padding_mask)


class FreedMemory:
    """What becomes of buffers that a batch leaves behind: kept for the next one, given back now and then.

    Fresh pages from the kernel cost more than kept ones, so glibc is set to keep them. But batches differ in shape,
    and what one leaves does not fit the next: after hundreds of shapes the heap would be holes. A trim every few
    batches gives those back.
    """

    def __init__(self) -> None:
        self._batches = 0
        libc: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
        self._trim = getattr(libc, "malloc_trim", None)
        mallopt = getattr(libc, "mallopt", None)
        if mallopt is not None:
            mallopt(_MMAP_THRESHOLD, 32 << 20)  # the most that glibc takes
            mallopt(_TRIM_THRESHOLD, 1 << 30)

    def after_batch(self) -> None:
        """Count a batch; every few of them, give back what the heap holds for nothing."""
        self._batches += 1
        if self._trim is not None and self._batches % _BATCHES_BETWEEN_TRIMS == 0:
            self._trim(0)


def keep_few_compiled_products() -> None:
    """Have oneDNN, before its first product, keep few of those that it compiles: one for each shape it has met.

    The layers of one batch share theirs; the next batch has another shape, and an old one hardly comes back.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
