"""Run text and image encoders once over a catalogue, keep every embedding in one file, train fusion models against it.

The two stages from Python:

    import cinefuse

    cinefuse.extract_embeddings("films", "films.h5", text_model="mini", image_model="mini")
    run = cinefuse.train("films", "films.h5", "runs/best", "best", split="random:0.1")
    print(run)                                        # its test RMSE and MAE
    print(cinefuse.recommend(run, user_id=42, k=10))  # a polars table

    with cinefuse.EmbeddingFile.open("films.h5") as file:
        rows = file.rows([1, 50, 260])                # row numbers of item ids
        vectors = file.image.cls[rows]                # (3, D)

``films`` is a dataset folder, as `cinefuse data import` makes it; `open_dataset` reads its tables. Refusals are the
classes of `cinefuse.errors`. Names are imported when they are first used, so that ``import cinefuse`` is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import Dataset, extract_embeddings, open_dataset, train
    from .data.embeddings.file import EmbeddingFile
    from .data.runtime import errors
    from .embedding_dataset import EmbeddingDataset, collate
    from .fuse.evaluation.evaluate import evaluate
    from .fuse.runs.run import Run
    from .fuse.serving.predict import predict
    from .fuse.serving.recommend import recommend
    from .fuse.settings.config import Config

    __version__: str

_MODULES = {
    "Config": "fuse.settings.config",
    "Dataset": "api",
    "EmbeddingDataset": "embedding_dataset",
    "EmbeddingFile": "data.embeddings.file",
    "Run": "fuse.runs.run",
    "collate": "embedding_dataset",
    "evaluate": "fuse.evaluation.evaluate",
    "extract_embeddings": "api",
    "open_dataset": "api",
    "predict": "fuse.serving.predict",
    "recommend": "fuse.serving.recommend",
    "train": "api",
}

__all__ = [
    "Config",
    "Dataset",
    "EmbeddingDataset",
    "EmbeddingFile",
    "Run",
    "__version__",
    "collate",
    "errors",
    "evaluate",
    "extract_embeddings",
    "open_dataset",
    "predict",
    "recommend",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("cinefuse")
    if name == "errors":
        return import_module("cinefuse.data.runtime.errors")
    if name in _MODULES:
        return getattr(import_module(f"cinefuse.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'cinefuse' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
