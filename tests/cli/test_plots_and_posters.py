"""From an invented MovieLens archive to a trained model by commands alone, with an imitation of TMDB on loopback."""

from __future__ import annotations

import random
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cinefuse.data.dataset.catalog import Catalog
from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.tests.support.film_services import TOKEN, Film, FilmServices, film_services
from cinefuse.tests.support.forked import ForkedCommands

WORDS = ["harbour", "lantern", "glacier", "orchard", "violin", "railway", "desert", "comet"]
FILMS = [
    Film(500 + n, f"The {WORDS[n % 8].title()} {n}", 1980 + n % 40, f"A {WORDS[n % 8]} keeper meets a {WORDS[n // 8]}.")
    for n in range(48)
]
SMALL = "dim=8 width=16 layers=1 batch_items=16 members=1 epochs=2 factor_steps=40 text_components=8 image_components=8"


def _archive(file: Path) -> None:
    chance = random.Random(3)
    ratings = [
        f"{user},{item},{chance.randint(1, 10) / 2},{1_500_000_000 + user * 100 + item}"
        for user in range(1, 41)
        for item in chance.sample(range(1, 49), 20)
    ]
    tables = {
        "movies.csv": [
            "movieId,title,genres",
            *(f'{n},"{one.title} ({one.year})",Drama' for n, one in enumerate(FILMS, 1)),
        ],
        "ratings.csv": ["userId,movieId,rating,timestamp", *ratings],
        "links.csv": ["movieId,imdbId,tmdbId", *(_link(n, one) for n, one in enumerate(FILMS, 1))],
    }
    with zipfile.ZipFile(file, "w") as archive:
        for name, lines in tables.items():
            archive.writestr(f"ml-invented/{name}", "\n".join(lines) + "\n")


def _link(number: int, film: Film) -> str:
    """Most have both numbers, some IMDb's alone, some none."""
    return f"{number}{',' if number % 12 == 0 else f',{film.imdb_id[2:]}'},{'' if number % 6 == 0 else film.tmdb_id}"


def _cinefuse(forked: ForkedCommands, folder: Path, services: FilmServices, *words: str) -> str:
    environment = {
        "TMDB_TOKEN": TOKEN,
        "CINEFUSE_ENRICH_URL": services.url + "/3",
        "CINEFUSE_CACHE": str(folder / "cache"),
    }
    done = forked.run(*words, folder=folder, environment=environment)
    assert done.code == 0, done.err
    assert TOKEN not in done.out + done.err
    return done.out


@pytest.mark.slow
def test_the_way_from_a_movielens_archive_to_a_trained_model_and_on_to_another_tool(
    forked: ForkedCommands, tmp_path: Path
) -> None:
    _archive(tmp_path / "ml.zip")
    with film_services(list(FILMS)) as services:
        _cinefuse(forked, tmp_path, services, "data", "import", "movielens", "ml.zip", "ml")
        plan = _cinefuse(forked, tmp_path, services, "data", "enrich", "ml", "--dry-run")
        assert "48 of 48 items lack something" in plan
        assert services.requests == []
        said = _cinefuse(forked, tmp_path, services, "data", "enrich", "ml", "--source", "tmdb")
        assert "plots 48, posters 48" in said
        assert "not endorsed or certified by TMDB" in said
        assert Catalog.open(tmp_path / "ml").items["text"].to_list() == [one.overview for one in FILMS]
        models = ["--text-model", "mini", "--image-model", "mini"]
        _cinefuse(forked, tmp_path, services, "extract", "ml", "ml.h5", *models)
        settings = [word for pair in SMALL.split() for word in ("--set", pair)]
        _cinefuse(forked, tmp_path, services, "fuse", "ml", "ml.h5", "runs/ml", *settings)
        words = ["--to", "mmrec", "--dataset", "ml", "--split", "random:0.1"]
        _cinefuse(forked, tmp_path, services, "cache", "convert", "ml.h5", "mmrec/", *words)
        _cinefuse(forked, tmp_path, services, "cache", "card", "ml.h5", "--out", "CARD.md")
    with EmbeddingFile.open(tmp_path / "ml.h5") as file:
        assert file["text"].has_embedding.all()
        assert file["image"].has_embedding.all()
    assert (tmp_path / "runs" / "ml" / "predictions.parquet").exists()
    features = [np.load(file) for file in sorted((tmp_path / "mmrec").rglob("*_feat.npy"))]
    assert len(features) == 2
    assert all(len(one) == len(features[0]) > 0 and np.isfinite(one).all() for one in features)
    assert "not endorsed or certified by TMDB" in (tmp_path / "CARD.md").read_text()
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or TOKEN.encode() not in path.read_bytes(), path
