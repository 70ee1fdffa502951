"""An embedding file as a PyTorch map-style dataset, safe in DataLoader workers, and its batches."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from .data.embeddings.file import EmbeddingFile


class EmbeddingDataset(Dataset[dict[str, Any]]):
    """Every item of an embedding file: its id, and for each modality its CLS and token embeddings as float32 tensors.

    ``dataset[row]`` is ``{"item_id", "text_cls" (D,), "text_tokens" (T, D), "text_present", ...}``; an item without an
    embedding of a modality has zeros of no tokens and ``present`` False there. Each process opens the file for itself,
    on first use. Raises the classes of `cinefuse.errors` where the file cannot be opened.
    """

    def __init__(self, path: str | Path, modalities: Sequence[str] | None = None, *, tokens: bool = True) -> None:
        self._path, self._tokens, self._file, self._process = Path(path), tokens, None, -1
        with EmbeddingFile.open(self._path) as file:
            self.modalities = tuple(file.modalities) if modalities is None else tuple(modalities)
            self._ids = file.ids.tolist()
            for name in self.modalities:
                _ = file[name]  # refused here and not in a worker

    _file: EmbeddingFile | None

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, row: int) -> dict[str, Any]:
        file = self._opened()
        item: dict[str, Any] = {"item_id": self._ids[row]}
        for name in self.modalities:
            modality = file[name]
            present = bool(modality.has_embedding[row])
            cls = torch.from_numpy(modality.read_cls(row)) if present else torch.zeros(modality.width)
            item |= {f"{name}_present": present, f"{name}_cls": cls}
            if self._tokens:
                tokens = (
                    torch.from_numpy(modality.read_tokens(row)) if present else torch.zeros(0, modality.token_width)
                )
                item[f"{name}_tokens"] = tokens
        return item

    def _opened(self) -> EmbeddingFile:
        if self._file is None or self._process != os.getpid():
            self._file, self._process = EmbeddingFile.open(self._path), os.getpid()
        return self._file

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None, "_process": -1}


def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A batch of B items of an `EmbeddingDataset`: vectors stacked, tokens padded with zeros.

    ``text_cls`` (B, D), ``text_present`` (B,) bool, ``text_tokens`` (B, T, D) and ``text_mask`` (B, T) bool, True where
    there is a token; ``item_id`` is a list.
    """
    batch: dict[str, Any] = {"item_id": [item["item_id"] for item in items]}
    for name in items[0]:
        values = [item[name] for item in items]
        if name.endswith("_tokens"):
            lengths = torch.tensor([len(value) for value in values])
            padded: Tensor = pad_sequence(values, batch_first=True)  # (B, T, D)
            batch[name] = padded
            batch[name.removesuffix("tokens") + "mask"] = torch.arange(padded.shape[1]) < lengths[:, None]
        elif name != "item_id":
            batch[name] = torch.stack(values) if isinstance(values[0], Tensor) else torch.tensor(values)
    return batch
