"""Token embeddings of items, in memory where they fit, gathered in batches of items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...data.embeddings.modality import Modality
from ...data.runtime.errors import UsageError

Place = Literal["device", "host", "file"]
SHARE_OF_MEMORY = 0.6  # of what is free: the rest is the model's, the optimiser's and the batches'
_ITEMS_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """One modality of B items, padded. embeddings: (B, T, D); present: (B, T) bool, False for padding.

    An item without this modality has no token at all; ``lacking`` says whether there may be such an item.
    """

    embeddings: Tensor
    present: Tensor
    lacking: bool = True

    def to(self, device: torch.device) -> TokenBatch:
        """The same batch on a device; the copy does not wait where the memory is pinned."""
        embeddings, present = (t.to(device, non_blocking=True) for t in (self.embeddings, self.present))
        return TokenBatch(embeddings, present, self.lacking)


class TokenTable:
    """The tokens of one modality of I items: CLS first, then text tokens or image patches.

    ``place`` is where they lie: "device" (all of them in the GPU's memory), "host" (converted once, pinned for a GPU)
    or "file" (the mapped embedding file, shared by all processes of the machine and converted a batch at a time).
    ``sharing`` processes share this machine's memory, each of which would hold a table of its own.
    """

    def __init__(
        self,
        modality: Modality,
        rows: npt.NDArray[np.int64],
        *,
        level: str,
        dtype: torch.dtype,
        device: torch.device,
        pool: int = 1,
        sharing: int = 1,
    ) -> None:
        self._modality, self._dtype, self._device, self._sharing = modality, dtype, device, sharing
        self.width = read_width(modality, level)
        present = (rows >= 0) & modality.has_embedding[rows]
        self._rows = np.where(present, rows, -1)
        self._tokens = level == "tokens"
        self._pool = pool if modality.name == "image" and self._tokens else 1
        counts = np.diff(modality.offsets)
        if self._pool > 1:
            _refuse_unpoolable(counts[self._rows[present]], pool)
        of_row = counts // self._pool**2 if self._tokens else np.zeros_like(counts)
        self.lengths: npt.NDArray[np.int64] = np.where(present, 1 + of_row[self._rows], 0)  # (I,)
        self.place = self._choose_place()
        self._offsets = np.concatenate([[0], np.cumsum(self.lengths)])
        self._flat = None if self.place == "file" else self._read_all()

    @property
    def size(self) -> int:
        """Bytes of all tokens in the dtype of the computation."""
        return int(self.lengths.sum()) * self.width * self._dtype.itemsize

    def batch(self, items: npt.NDArray[np.int64]) -> TokenBatch:
        """The tokens of B items, padded to the longest of them; on the device if the table is, else on the host."""
        lengths = self.lengths[items]
        longest, lacking = int(lengths.max(initial=0)), not lengths.all()
        flat = self._gather(items)  # (sum of lengths, D)
        if len(items) and int(lengths.min()) == longest:
            whole = torch.ones(len(items), longest, dtype=torch.bool, device=flat.device)
            return TokenBatch(flat.view(len(items), longest, self.width), whole, lacking)
        present = torch.from_numpy(np.arange(longest) < lengths[:, None]).to(flat.device)  # (B, T)
        padded = flat.new_zeros(len(items), longest, self.width)
        padded[present] = flat
        return TokenBatch(padded, present, lacking)

    def _gather(self, items: npt.NDArray[np.int64]) -> Tensor:
        if self._flat is None:
            return self._read(items)
        starts, lengths = self._offsets[items], self.lengths[items]
        first = np.cumsum(lengths) - lengths
        places = np.arange(int(lengths.sum())) + np.repeat(starts - first, lengths)
        return self._flat[torch.from_numpy(places).to(self._flat.device)]

    def _read(self, items: npt.NDArray[np.int64]) -> Tensor:
        """Read the items' tokens from the mapped file: (sum of lengths, D) in the dtype of the computation."""
        result = torch.empty(int(self.lengths[items].sum()), self.width, dtype=self._dtype)
        at = 0
        for row in self._rows[items].tolist():
            if row < 0:
                continue
            result[at] = self._cls_of(row)
            at += 1
            if self._tokens:
                tokens = self._tokens_of(row)
                if self._pool > 1:
                    tokens = pooled(tokens, self._pool)
                result[at : at + len(tokens)] = tokens
                at += len(tokens)
        return result

    def _cls_of(self, row: int) -> Tensor:
        if self.width != self._modality.width:  # a vector of another width than tokens: their mean stands for it
            return torch.from_numpy(self._modality.read_tokens(row).mean(0))
        if self._modality.stored_as_floats:
            return torch.from_numpy(self._modality.raw_cls[row].copy())
        return torch.from_numpy(self._modality.read_cls(row))

    def _tokens_of(self, row: int) -> Tensor:
        if self._modality.stored_as_floats:
            return torch.from_numpy(self._modality.raw_tokens_of(row).copy())
        return torch.from_numpy(self._modality.read_tokens(row))

    def _read_all(self) -> Tensor:
        flat = torch.empty(int(self.lengths.sum()), self.width, dtype=self._dtype, device=self._home)
        for start in range(0, len(self._rows), _ITEMS_AT_ONCE):
            items = np.arange(start, min(start + _ITEMS_AT_ONCE, len(self._rows)))
            flat[self._offsets[items[0]] : self._offsets[items[-1] + 1]] = self._read(items).to(self._home)
        return flat.pin_memory() if self.place == "host" and self._device.type == "cuda" else flat

    @property
    def _home(self) -> torch.device:
        return self._device if self.place == "device" else torch.device("cpu")

    def _choose_place(self) -> Place:
        if self._device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self._device)
            return "device" if self.size < SHARE_OF_MEMORY * free else _host_or_file(self.size * self._sharing)
        # without a GPU the mapped file is as near as a copy would be; pooled and CLS tables are small, and read once
        return _host_or_file(self.size * self._sharing) if self._pool > 1 or not self._tokens else "file"


def read_width(modality: Modality, level: str) -> int:
    """The width D of the tokens, or at level "cls" of the vectors, of a modality."""
    return modality.token_width if level == "tokens" and len(modality.tokens) else modality.width


def pooled(patches: Tensor, side: int) -> Tensor:
    """Mean of each ``side`` x ``side`` square of an item's patches: (T, D) of a square grid to (T / side², D)."""
    edge, width = round(len(patches) ** 0.5), patches.shape[1]
    squares = patches.float().view(edge // side, side, edge // side, side, width)  # (R, side, C, side, D)
    return squares.mean((1, 3)).view((edge // side) ** 2, width)


def _refuse_unpoolable(counts: npt.NDArray[np.int64], side: int) -> None:
    edges = np.sqrt(counts).round().astype(np.int64)
    wrong = (edges**2 != counts) | (edges % side != 0)
    if wrong.any():
        found = int(counts[wrong][0])
        raise UsageError(
            f"pool_patches={side} needs square grids whose side {side} divides, found posters of {found} patches; "
            "use --set pool_patches=1"
        )


def _host_or_file(size: int) -> Place:
    return "host" if size < SHARE_OF_MEMORY * _free_memory() else "file"


def _free_memory() -> int:
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:  # noqa: PTH123
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 4 << 30  # unknown: take a small machine for granted
