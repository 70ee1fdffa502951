"""The fusion Transformer: one vector from the text tokens and image patches of an item."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..inputs.tokens import TokenBatch

_LEVELS = 2**16  # of the 16 random bits that decide about one element in dropout


class FusionTransformer(nn.Module):
    """Computes an item's content vector from ``[FUSE] genre-and-year, text tokens, [SEP], image patches``.

    After arXiv 2407.09157, with pre-norm blocks. The item's id is not a token, ids have their vectors in `Factors`, so
    that items without ratings are treated as all others. In the last block [FUSE] is the only query, as no other output
    is used. A learned "absent" token stands for a text or image that the item lacks.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        item_features: int,
        *,
        outputs: int,
        width: int,
        layers: int,
        heads: int,
        dropout: float,
        token_drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.token_drop = token_drop
        self.modalities = tuple(widths)
        self.read = nn.ModuleDict({name: nn.Linear(wide, width) for name, wide in widths.items()})
        self.norms = nn.ModuleDict({name: nn.LayerNorm(width) for name in widths})
        self.kind = nn.ParameterDict({name: nn.Parameter(0.02 * torch.randn(width)) for name in widths})
        self.absent = nn.ParameterDict({name: nn.Parameter(0.02 * torch.randn(width)) for name in widths})
        self.fuse = nn.Parameter(0.02 * torch.randn(width))
        self.separator = nn.Parameter(0.02 * torch.randn(width))
        self.side = nn.Linear(item_features, width) if item_features else None
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, outputs)
        self.drop = Dropout(dropout)
        # zero-initialised: at first an item is represented by its ids and ratings alone
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, tokens: Mapping[str, TokenBatch], item_features: Tensor) -> Tensor:
        """Content vectors (B, outputs) of B items; item_features is (B, C). Float32."""
        return self.fused(*self.sequence(tokens, item_features, every_place=False))

    def fused(self, x: Tensor, present: Tensor) -> Tensor:
        """Content vectors (B, outputs) of B sequences (B, T, W); ``present`` (B, T) is the attention mask."""
        mask = present[:, None, None, :]  # (B, 1, 1, T)
        for block in self.blocks[:-1]:
            x = block(x, x, mask)
        fused = self.blocks[-1](x[:, :1], x, mask)[:, 0]  # (B, W)
        result: Tensor = self.output(self.drop(self.norm(fused))).float()
        return result

    def attention(self, x: Tensor, present: Tensor) -> tuple[Tensor, ...]:
        """The attention weights of each block, (B, H, T, T), and of the last one, (B, H, 1, T), of [FUSE] alone.

        Of the same sequences as `fused` takes. Each row sums to 1 over the present positions.
        """
        mask, weights = present[:, None, None, :], []
        *before, last = (cast("Block", block) for block in self.blocks)
        for block in before:
            weights.append(block.attention(x, x, mask))
            x = block(x, x, mask)
        return (*weights, last.attention(x[:, :1], x, mask))

    def places(self, lengths: Mapping[str, int]) -> dict[str, slice]:
        """The positions of each kind of token, "fuse", "side", "text", ..., given the number of tokens by modality.

        "text.absent" and "image.absent" are the positions of the absent tokens, "separator" of the token between texts
        and images.
        """
        parts = [("fuse", 1), *([("side", 1)] if self.side is not None else [])]
        for name in self.modalities:
            parts += [("separator", 1)] if name != self.modalities[0] else []
            parts += [(f"{name}.absent", 1), (name, lengths[name])]
        ends = list(accumulate(length for _, length in parts))
        return {name: slice(end - length, end) for (name, length), end in zip(parts, ends, strict=True)}

    def sequence(
        self, tokens: Mapping[str, TokenBatch], item_features: Tensor, *, every_place: bool = True
    ) -> tuple[Tensor, Tensor]:
        """The input sequence (B, T, W) and its mask (B, T) bool, True at positions that get attention; [FUSE] is first.

        Without ``every_place`` an absent token that is masked for every item of the batch is left out.
        """
        items = len(item_features)
        parts = [self.fuse.expand(items, 1, -1)]
        if self.side is not None:
            parts.append(self.side(item_features)[:, None])  # (B, 1, W)
        present = [torch.ones(items, len(parts), dtype=torch.bool, device=item_features.device)]
        for name in self.modalities:
            if len(present) > 1:
                parts.append(self.separator.expand(items, 1, -1))
                present.append(present[0][:, :1])
            batch = tokens[name]
            if every_place or batch.lacking:
                parts.append(self.absent[name].expand(items, 1, -1))
                present.append(~batch.present.any(1, keepdim=True))  # (B, 1)
            mask = batch.present
            if self.training and self.token_drop:
                mask = mask & (torch.rand(mask.shape, device=mask.device) >= self.token_drop)
            read = self.norms[name](self.read[name](batch.embeddings)) + self.kind[name]  # (B, T, W)
            parts.append(read)
            present.append(mask)
        dtype = parts[-1].dtype
        return self.drop(torch.cat([part.to(dtype) for part in parts], 1)), torch.cat(present, 1)


class Block(nn.Module):
    """A pre-norm Transformer block in which ``query`` (B, Q, W) attends to ``context`` (B, T, W)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.merge = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.drop = Dropout(dropout)

    def forward(self, query: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """(B, Q, W). mask: (B, 1, 1, T) bool, False at positions of ``context`` that get no attention."""
        self_attention = query is context
        attended = (
            self._self_attention(context, mask) if self_attention else self._cross_attention(query, context, mask)
        )
        query = query + self.drop(self.merge(attended))  # (B, Q, W)
        result: Tensor = query + self.drop(self.mlp(query))
        return result

    def _self_attention(self, x: Tensor, mask: Tensor) -> Tensor:
        queries, keys, values = self.project(x, x)
        attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)  # (B, H, T, W / H)
        return attended.transpose(1, 2).flatten(2)

    def _cross_attention(self, query: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """(B, Q, W) for a few queries: these pass the key and value weights, so that no key or value is computed."""
        context = self.norm(context)
        to_key, to_value = self.key_value.weight.view(2, self.heads, -1, context.shape[-1])  # (H, W / H, W) each
        queries = self.query(self.norm(query)).unflatten(-1, (self.heads, -1))  # (B, Q, H, W / H)
        queries_in_width = torch.einsum("bqhd,hdw->bhqw", queries, to_key)
        # the keys' bias would add the same to all scores of a query, which the softmax ignores
        scores = torch.einsum("bhqw,btw->bhqt", queries_in_width, context).float() * queries.shape[-1] ** -0.5
        weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
        mean = torch.einsum("bhqt,btw->bhqw", weights.to(context.dtype), context)
        attended = torch.einsum("bhqw,hdw->bqhd", mean, to_value).flatten(2)
        return attended + self.key_value.bias.chunk(2)[1]  # weights sum to 1

    def attention(self, query: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """(B, H, Q, T): the attention weights of `forward`."""
        queries, keys, _ = self.project(query, context)
        scores: Tensor = queries @ keys.transpose(-2, -1) * queries.shape[-1] ** -0.5
        return scores.masked_fill(~mask, -torch.inf).softmax(-1)

    def project(self, query: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, H, Q, W / H), keys and values (B, H, T, W / H)."""
        of_context = self.norm(context)
        of_query = of_context if query is context else self.norm(query)
        keys, values = self.key_value(of_context).chunk(2, -1)
        split = [x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (self.query(of_query), keys, values)]
        return split[0], split[1], split[2]


class Dropout(nn.Module):
    """`nn.Dropout`; on a CPU, where random numbers are the slow part, four elements share each 64-bit number."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """x; in training a share ``rate`` (to 1 / 65,536) of its elements is 0, and the others are scaled up."""
        if not self.training or not self.rate:
            return x
        if x.device.type != "cpu" or torch.compiler.is_compiling():  # there dropout is one kernel
            return F.dropout(x, self.rate)
        drawn = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        bits = drawn.view(torch.int16)[: x.numel()].view(x.shape)
        kept = (bits >= round(self.rate * _LEVELS) - _LEVELS // 2).to(x.dtype)
        return x * kept.div_(1 - self.rate)
