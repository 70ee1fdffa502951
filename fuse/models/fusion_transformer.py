"""The fusion Transformer: one film's plot tokens and poster patches become one vector."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..inputs.tokens import TokenBatch

_LEVELS = 2**16  # of the 16 bits that decide whether dropout spares a place


class FusionTransformer(nn.Module):
    """Reads ``[FUSE] genre-and-year, plot tokens, [SEP], poster tokens`` of a film and gives its content vector.

    After arXiv 2407.09157; pre-norm blocks. The film's id is no token here: what ids know stands in `Factors`, so that
    a film nobody has rated is read exactly as any other. In the last block only [FUSE] asks, since only its answer is
    used: that block costs next to nothing. A film without plot or poster has a learned "absent" token there.
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
        # a film starts as what its ratings say: content has to earn its first word
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, tokens: Mapping[str, TokenBatch], item_features: Tensor) -> Tensor:
        """Content vectors (B, outputs) of B films; item_features is (B, C). Float32."""
        return self.fused(*self.sequence(tokens, item_features, every_place=False))

    def fused(self, x: Tensor, present: Tensor) -> Tensor:
        """Content vectors (B, outputs) of B sequences (B, T, W), of whose places only ``present`` (B, T) are heard."""
        mask = present[:, None, None, :]  # (B, 1, 1, T)
        for block in self.blocks[:-1]:
            x = block(x, x, mask)
        fused = self.blocks[-1](x[:, :1], x, mask)[:, 0]  # (B, W)
        result: Tensor = self.output(self.drop(self.norm(fused))).float()
        return result

    def attention(self, x: Tensor, present: Tensor) -> tuple[Tensor, ...]:
        """How much every place hears of each, block by block: (B, H, T, T); in the last [FUSE] alone: (B, H, 1, T).

        Of the same sequences as `fused` takes. Each row sums to 1 over the places that are present.
        """
        mask, weights = present[:, None, None, :], []
        *before, last = (cast("Block", block) for block in self.blocks)
        for block in before:
            weights.append(block.attention(x, x, mask))
            x = block(x, x, mask)
        return (*weights, last.attention(x[:, :1], x, mask))

    def places(self, lengths: Mapping[str, int]) -> dict[str, slice]:
        """Where in the sequence everything stands, for so many tokens of each modality: "fuse", "side", "text", ...

        "text.absent" and "image.absent" are the places of the absent tokens, "separator" the one between modalities.
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
        """The input sequence (B, T, W) and which of its places hold something, (B, T) bool. [FUSE] is place 0.

        Without ``every_place`` an absent token that no film of the batch needs is left out: nobody would hear it.
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
            told = batch.present
            if self.training and self.token_drop:
                told = told & (torch.rand(told.shape, device=told.device) >= self.token_drop)
            read = self.norms[name](self.read[name](batch.embeddings)) + self.kind[name]  # (B, T, W)
            parts.append(read)
            present.append(told)
        dtype = parts[-1].dtype
        return self.drop(torch.cat([part.to(dtype) for part in parts], 1)), torch.cat(present, 1)


class Block(nn.Module):
    """A pre-norm Transformer block in which ``asking`` (B, Q, W) attends to ``told`` (B, T, W)."""

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

    def forward(self, asking: Tensor, told: Tensor, mask: Tensor) -> Tensor:
        """(B, Q, W). mask: (B, 1, 1, T) bool, False where nothing is told."""
        answer = self._tell_all(told, mask) if asking is told else self._tell_few(asking, told, mask)
        asking = asking + self.drop(self.merge(answer))  # (B, Q, W)
        result: Tensor = asking + self.drop(self.mlp(asking))
        return result

    def _tell_all(self, told: Tensor, mask: Tensor) -> Tensor:
        queries, keys, values = self.project(told, told)
        answer = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)  # (B, H, T, W / H)
        return answer.transpose(1, 2).flatten(2)

    def _tell_few(self, asking: Tensor, told: Tensor, mask: Tensor) -> Tensor:
        """The same without a key or a value for every place: few questions and answers pass their weights instead."""
        heard = self.norm(told)
        to_key, to_value = self.key_value.weight.view(2, self.heads, -1, heard.shape[-1])  # (H, W / H, W) each
        queries = self.query(self.norm(asking)).unflatten(-1, (self.heads, -1))  # (B, Q, H, W / H)
        questions = torch.einsum("bqhd,hdw->bhqw", queries, to_key)
        # the bias of the keys would add the same to all scores of a question, which changes no weight
        scores = torch.einsum("bhqw,btw->bhqt", questions, heard).float() * queries.shape[-1] ** -0.5
        weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
        mean = torch.einsum("bhqt,btw->bhqw", weights.to(heard.dtype), heard)
        answer = torch.einsum("bhqw,hdw->bqhd", mean, to_value).flatten(2)
        return answer + self.key_value.bias.chunk(2)[1]  # weights sum to 1

    def attention(self, asking: Tensor, told: Tensor, mask: Tensor) -> Tensor:
        """(B, H, Q, T): the weights with which `forward` adds up values, which it keeps to itself."""
        queries, keys, _ = self.project(asking, told)
        scores: Tensor = queries @ keys.transpose(-2, -1) * queries.shape[-1] ** -0.5
        return scores.masked_fill(~mask, -torch.inf).softmax(-1)

    def project(self, asking: Tensor, told: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, H, Q, W / H), keys and values (B, H, T, W / H)."""
        heard = self.norm(told)
        asked = heard if asking is told else self.norm(asking)
        keys, values = self.key_value(heard).chunk(2, -1)
        split = [x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (self.query(asked), keys, values)]
        return split[0], split[1], split[2]


class Dropout(nn.Module):
    """`nn.Dropout`; on a CPU, where drawing takes longer than using, four places share each 64-bit number drawn."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """x, of whose places a share ``rate`` (to 1 / 65,536) is 0 and the others larger by as much in training."""
        if not self.training or not self.rate:
            return x
        if x.device.type != "cpu" or torch.compiler.is_compiling():  # there drawing and using are one kernel
            return F.dropout(x, self.rate)
        drawn = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        bits = drawn.view(torch.int16)[: x.numel()].view(x.shape)
        kept = (bits >= round(self.rate * _LEVELS) - _LEVELS // 2).to(x.dtype)
        return x * kept.div_(1 - self.rate)
