"""Which model: a Hugging Face id or a local folder, its revision, configuration and hashes. Loads no weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class ModelSource:
    """A pretrained model's files on this machine, and the name under which others find the same model."""

    name: str
    folder: Path
    revision: str | None

    @classmethod
    def resolve(cls, model: str, revision: str | None, weights: bool) -> ModelSource:
        raise NotImplementedError

    @property
    def config(self) -> dict[str, Any]:
        raise NotImplementedError

    def weights_sha256(self) -> str:
        raise NotImplementedError

    def processor_config(self) -> dict[str, Any]:
        raise NotImplementedError

    def preprocessing_sha256(self, modality: Literal["text", "image"]) -> str:
        raise NotImplementedError

    def tokenizer(self) -> Any:
        raise NotImplementedError

    @property
    def num_layers(self) -> int:
        raise NotImplementedError

    @property
    def width(self) -> int:
        raise NotImplementedError

    @property
    def grid(self) -> tuple[int, int]:
        """Patch rows and columns."""
        raise NotImplementedError

    @property
    def patches(self) -> int:
        raise NotImplementedError
