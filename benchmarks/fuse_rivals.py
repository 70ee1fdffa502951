"""How fusion models are trained without cinefuse: a DataLoader over the rows of an HDF5 file, one rating a sample."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.number_formats import as_float32
from cinefuse.fuse.inputs.side_information import SideInformation
from cinefuse.fuse.inputs.tokens import TokenBatch
from cinefuse.fuse.inputs.training_data import TrainingData
from cinefuse.fuse.models.fusion_transformer import FusionTransformer
from cinefuse.fuse.models.heads import Scale
from cinefuse.fuse.settings.config import Config

BATCH = 64


@dataclass(eq=False)
class RatingRows(Dataset):
    """R ratings, each with all tokens of its film, read by h5py when it is asked for.

    user, film, row: (R,) int64, row that of the embedding file or -1; rating: (R,) float32. Offsets and statuses lie in
    memory. Each process opens the file for itself: an h5py file that is shared over a fork reads wrong data.
    """

    path: Path
    modalities: tuple[str, ...]
    user: np.ndarray
    item: np.ndarray
    row: np.ndarray
    rating: np.ndarray
    dtype: torch.dtype

    def __post_init__(self) -> None:
        with EmbeddingFile.open(self.path) as file:
            self._about = {
                name: (np.array(file[name].offsets), np.array(file[name].has_embedding), file[name].dtype)
                for name in self.modalities
            }

    @cached_property
    def _file(self) -> h5py.File:
        return h5py.File(self.path, "r")

    def __len__(self) -> int:
        return len(self.user)

    def __getitem__(self, place: int) -> tuple[int, int, float, dict[str, Tensor]]:
        tokens = {name: self._tokens(name, int(self.row[place])) for name in self.modalities}
        return int(self.user[place]), int(self.item[place]), float(self.rating[place]), tokens

    def _tokens(self, name: str, row: int) -> Tensor:
        """CLS, then all tokens of one film: (T, D); T = 0 where it has none."""
        offsets, present, dtype = self._about[name]
        cls, tokens = self._file[f"{name}/cls"], self._file[f"{name}/tokens"]
        if row < 0 or not present[row]:
            return torch.zeros(0, cls.shape[1], dtype=self.dtype)
        values = np.concatenate([cls[row : row + 1], tokens[offsets[row] : offsets[row + 1]]])
        return torch.from_numpy(as_float32(values, dtype)).to(self.dtype)


def collate(samples: list[Any]) -> tuple[Tensor, Tensor, Tensor, dict[str, tuple[Tensor, Tensor]]]:
    """users, films, ratings (B,), and of each modality padded tokens (B, T, D) and lengths (B,)."""
    users, items, ratings, tokens = zip(*samples, strict=True)
    padded = {
        name: (
            pad_sequence([each[name] for each in tokens], batch_first=True),
            torch.tensor([len(each[name]) for each in tokens]),
        )
        for name in tokens[0]
    }
    return torch.tensor(users), torch.tensor(items), torch.tensor(ratings), padded


class PerRating(nn.Module):
    """The same FusionTransformer; a rating is a user's vector times its film's, and both biases."""

    def __init__(self, config: Config, users: int, side: SideInformation, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.shown = side.shown
        self.users = nn.Embedding(users, config.dim + 1)
        nn.init.normal_(self.users.weight, std=0.1)
        self.transformer = FusionTransformer(
            widths,
            side.shown.shape[1],
            outputs=config.dim + 1,
            width=config.width,
            layers=config.layers,
            heads=config.attention_heads,
            dropout=config.dropout,
            token_drop=config.token_drop,
        )

    def forward(self, user: Tensor, item: Tensor, tokens: Mapping[str, TokenBatch]) -> Tensor:
        """(B,) standardised ratings."""
        content = self.transformer(tokens, self.shown[item])
        asking = self.users(user)
        return (asking[:, :-1] * content[:, :-1]).sum(1) + asking[:, -1] + content[:, -1]


class PerRatingTraining:
    """Trains `PerRating` from a DataLoader, with AdamW and in the precision of `config`."""

    def __init__(
        self,
        config: Config,
        training_data: TrainingData,
        embeddings: Path,
        rows: np.ndarray,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.config, self.device, self.clock = config, training_data.device, clock
        widths = {name: held.width for name, held in training_data.tables.items()}
        self.model = PerRating(config, training_data.users, training_data.side, widths).to(self.device).train()
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=config.transformer_learning_rate, weight_decay=config.weight_decay
        )
        rating, item = training_data.rating.cpu(), training_data.item.cpu().numpy()
        low = config.precision == "bf16"
        self._samples = (
            embeddings,
            tuple(widths),
            training_data.user.cpu().numpy(),
            item,
            rows[item],
            Scale.of(rating).standardise(rating).numpy(),
            torch.bfloat16 if low else torch.float32,
        )

    def epoch(self, workers: int, budget: float) -> float:
        """Seconds of an epoch, scaled from as many ratings as fit into `budget` seconds.

        The clock starts behind the first batch: starting the workers is not counted.
        """
        samples = RatingRows(*self._samples)
        loader = DataLoader(
            samples,
            BATCH,
            shuffle=True,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=self.device.type == "cuda",
        )
        done, began, took = 0, 0.0, 0.0
        for number, batch in enumerate(loader):
            self._step(*batch)
            if number == 0:
                began = self._now()
                continue
            done, took = done + len(batch[0]), self._now() - began
            if took > budget:
                break
        if not done:
            raise SystemExit(f"{len(samples):,} ratings are too few for two batches of {BATCH}")
        return took / done * len(samples)

    def _step(self, user: Tensor, item: Tensor, rating: Tensor, tokens: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        user, item, rating = (tensor.to(self.device, non_blocking=True) for tensor in (user, item, rating))
        batch = {name: self._token_batch(*padded) for name, padded in tokens.items()}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            predicted = self.model(user, item, batch)
        loss = (predicted.float() - rating).square().mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()

    def _token_batch(self, embeddings: Tensor, lengths: Tensor) -> TokenBatch:
        present = torch.arange(embeddings.shape[1]) < lengths[:, None]
        return TokenBatch(embeddings, present).to(self.device)

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return self.clock()
