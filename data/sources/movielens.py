"""MovieLens as GroupLens ships it (100K, 1M, 10M, and the CSV generation), joined with plots and posters.

A source is a zip, or a folder with the same files, in one of three generations:

    100K    u.data, u.item; u.user, u.genre and the folds u1-u5, ua, ub (.base and .test) where there
    1M      ratings.dat or ratings*.parquet (user_id, movie_id, rating, maybe timestamp); movies.dat; users.dat and
            tags.dat where there (10M). The .dat files of films and users may carry a prefix, such as ml-1m-movies.dat
    CSV     ratings.csv, movies.csv; links.csv, tags.csv and the tag genome where there (latest-small, 20M, 25M, 32M)

Members of a zip are read by the names above alone: no name in an archive ever becomes a path on disk.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from ..dataset.assembly import Choices, ImportReport, Parts, assemble
from ..dataset.folder import new_folder
from ..dataset.items import tidy_items, without_repeats, year_in_title
from ..dataset.links import link_columns, number_of, tidy_links
from ..dataset.posters import PosterSource, holds_images, images_of_rows, place_posters, without_addresses
from ..dataset.ratings import RatingTable
from ..runtime.disk import sha256_of
from ..runtime.errors import BadInput, UsageError
from ..tables.delimited import ROW, Layout, scan_text
from ..tables.familiar import plain_name
from ..tables.id_spaces import titles_differ
from ..tables.opening import open_table, utf8_or_latin
from ..tables.table import Table
from .movielens_tags import genome_tags, user_tags, with_tags
from .own_tables import Reading, rating_table
from .source_files import member_on_disk, members_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SCALE = (0.5, 5.0)
FOLDS = ("u1", "u2", "u3", "u4", "u5", "ua", "ub")
# fmt: off
_GENRES_100K = [
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
]
# fmt: on
_NO_GENRES = "(no genres listed)"


def import_movielens(
    source: Path,
    out: Path,
    *,
    items: Path | None = None,
    posters: Path | None = None,
    item_id: str | None = None,
    links: Path | None = None,
    encoding: str = "utf-8",
    reading: Reading | None = None,
    choices: Choices | None = None,
) -> ImportReport:
    """Make a dataset folder ``out`` from a MovieLens zip or folder.

    ``items`` is a table of plots and posters, joined by movie_id (or item_id, movieId, or ``item_id``), else by imdb_id
    or tmdb_id where the source has links.csv, or ``links`` is such a table. Columns such as director, actors and
    country become tags (``choices.tags`` names others). Its poster paths start at ``posters``, by default at the
    table's own folder; without such a column, the image called after the id is looked up. BadInput where a file is not
    as GroupLens writes it, or where most titles under one id are other films'.
    """
    pictures = PosterSource.open(posters) if posters is not None else None
    reading = reading or Reading(encoding)
    if items is None and (links is not None or item_id is not None):
        raise UsageError("--links and --item-id say how --items is joined: give --items FILE too")
    choices = choices or Choices()
    if choices.tags and items is None:
        raise UsageError(f"--tags {choices.tags[0]}: needs --items, the table that has the column")
    with new_folder(out, overwrite=choices.overwrite) as staging:
        release = _find_release(source, staging.scratch)
        parts = _READERS[release.generation](release)
        _add_tags(parts, release)
        if links is not None:
            release.files["links.csv"] = links
        if items is not None:
            table = open_table(items, staging.scratch, reading.encoding, reading.items)
            _add_plots_and_posters(parts, release, table, items, choices, item_id)
        if pictures is None and items is not None:
            parts.items, notes = without_addresses(parts.items, "poster", items.name)
            parts.warnings += notes
        elif pictures is not None:
            name = release.name if items is None else items.name
            parts.items, notes = place_posters(parts.items, pictures, None, name)
            parts.posters, parts.warnings = pictures.root, parts.warnings + notes
        parts.sources += release.sources()
        return assemble(parts, staging, out, choices)


@dataclass
class _Release:
    """The files of one MovieLens release by base name, wherever they lie."""

    source: Path
    generation: str
    files: dict[str, zipfile.ZipInfo | Path]
    scratch: Path

    @property
    def name(self) -> str:
        return self.source.resolve().stem if self.source.is_file() else self.source.resolve().name

    def find(self, *patterns: str) -> str | None:
        """Base name of the one file that matches the first pattern that any file matches."""
        for pattern in patterns:
            found = sorted(name for name in self.files if fnmatchcase(name, pattern))
            if len(found) > 1:
                raise BadInput(f"{self.source}: expected one {pattern}, found {', '.join(found)}; keep one of them")
            if found:
                return found[0]
        return None

    def path(self, name: str) -> Path:
        """The file on disk; a member of a zip is first copied to scratch, under a name of ours."""
        entry = self.files[name]
        if isinstance(entry, Path):
            return entry
        copy = self.scratch / f"member-{sorted(self.files).index(name)}{Path(name).suffix}"
        return member_on_disk(self.source, entry, name, copy)

    def lines(self, name: str, separator: str, fields: int) -> list[list[str]]:
        """All lines of a small file, cut at ``separator`` into at least ``fields`` parts; UTF-8, else Latin-1."""
        raw = self.path(name).read_bytes()
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = raw.decode("latin-1")
        lines = [line.rstrip("\r").split(separator) for line in text.split("\n")]
        while lines and lines[-1] == [""]:
            lines.pop()
        for number, line in enumerate(lines, 1):
            if len(line) < fields:
                raise BadInput(
                    f"{self.source}, {name}, line {number:,}: expected {fields} fields separated by {separator!r}, "
                    f"found {len(line)}"
                )
        return lines

    def ratings(self, name: str, separator: str, columns: list[str]) -> RatingTable:
        """A headerless rating table, scanned when it is used."""
        frame = scan_text(self.path(name), separator, columns, quotes=False)
        wanted = [pl.col(column) for column in columns if not column.startswith("_")]
        return RatingTable(f"{self.source.name}, {name}", frame.select(pl.col(ROW).alias("row"), *wanted), SCALE)

    def sources(self) -> list[dict[str, str]]:
        """Name and SHA-256 of the zip, or of the folder's files of this release."""
        files = [self.source] if self.source.is_file() else [self.path(name) for name in sorted(self.files)]
        return [{"name": file.name, "sha256": sha256_of(file)} for file in files]


_MEMBERS = {
    "100K": [
        "u.data",
        "u.item",
        "u.user",
        "u.genre",
        *(f"{fold}.{part}" for fold in FOLDS for part in ("base", "test")),
    ],
    "1M": ["ratings.dat", "ratings*.parquet", "*movies.dat", "*users.dat", "tags.dat"],
    "CSV": ["ratings.csv", "movies.csv", "links.csv", "tags.csv", "genome-scores.csv", "genome-tags.csv"],
}


def _generation_of(names: set[str]) -> str | None:
    def has(pattern: str) -> bool:
        return any(fnmatchcase(name, pattern) for name in names)

    if {"u.data", "u.item"} <= names:
        return "100K"
    if {"ratings.csv", "movies.csv"} <= names:
        return "CSV"
    return "1M" if has("*movies.dat") and (has("ratings.dat") or has("ratings*.parquet")) else None


def _find_release(source: Path, scratch: Path) -> _Release:
    """Find the one folder, in a zip or on disk at most one level down, that holds a MovieLens release."""
    if not source.exists():
        raise BadInput(f"{source}: no such file or folder; `cinefuse data fetch` brings one")
    folders = _folders_on_disk(source) if source.is_dir() else _folders_in_zip(source)
    releases = []
    for files in folders:
        if generation := _generation_of(set(files)):
            wanted = {
                name: place
                for name, place in files.items()
                if any(fnmatchcase(name, pattern) for pattern in _MEMBERS[generation])
            }
            releases.append(_Release(source, generation, wanted, scratch))
    if len(releases) == 1:
        return releases[0]
    if releases:
        raise BadInput(f"{source} holds {len(releases)} MovieLens releases; name the folder of one of them")
    raise BadInput(
        f"{source} is no MovieLens release: expected u.data and u.item (100K), ratings.dat and movies.dat (1M), "
        "or ratings.csv and movies.csv"
    )


def _folders_on_disk(source: Path) -> list[dict[str, zipfile.ZipInfo | Path]]:
    def files_of(folder: Path) -> dict[str, zipfile.ZipInfo | Path]:
        return {entry.name: entry for entry in folder.iterdir() if entry.is_file()}

    here = files_of(source)
    if _generation_of(set(here)):
        return [here]
    return [files_of(entry) for entry in sorted(source.iterdir()) if entry.is_dir()]


def _folders_in_zip(source: Path) -> list[dict[str, zipfile.ZipInfo | Path]]:
    folders: dict[str, dict[str, zipfile.ZipInfo | Path]] = {}
    for entry in members_of(source):
        folder, _, name = entry.filename.rpartition("/")
        folders.setdefault(folder, {})[name] = entry
    return list(folders.values())


def _read_100k(release: _Release) -> Parts:
    columns = ["user_id", "item_id", "rating", "timestamp"]
    genres = _GENRES_100K
    if "u.genre" in release.files:
        numbered = [line for line in release.lines("u.genre", "|", 1) if len(line) == 2]
        genres = [name for name, _ in sorted(numbered, key=lambda line: int(line[1]) if line[1].isdigit() else 0)]
    films = release.lines("u.item", "|", 5 + len(genres))
    return Parts(
        name=release.name,
        items=_films(
            release,
            ids=[film[0] for film in films],
            titles=[film[1] for film in films],
            genres=[
                [name for name, flag in zip(genres, film[5:], strict=False) if flag.strip() == "1"] for film in films
            ],
            release_years=[film[2][-4:] for film in films],
        ),
        ratings=release.ratings("u.data", "\t", columns),
        users=_users(release, "u.user", "|", ["user_id", "age", "gender", "occupation", "zip"]),
        folds={
            fold: {
                "train": release.ratings(f"{fold}.base", "\t", columns),
                "test": release.ratings(f"{fold}.test", "\t", columns),
            }
            for fold in FOLDS
            if _has_fold(release, fold)
        },
    )


def _has_fold(release: _Release, fold: str) -> bool:
    there = [f"{fold}.{part}" in release.files for part in ("base", "test")]
    if any(there) and not all(there):
        raise BadInput(f"{release.source}: fold {fold} needs both {fold}.base and {fold}.test; one is missing")
    return all(there)


def _read_1m(release: _Release) -> Parts:
    films = release.lines(release.find("movies.dat", "*movies.dat") or "", "::", 3)
    users = release.find("users.dat", "*users.dat")
    return Parts(
        name=release.name,
        items=_films(
            release,
            ids=[film[0] for film in films],
            # A title that holds the separator itself is still between the first and the last one.
            titles=["::".join(film[1:-1]) for film in films],
            genres=[[] if film[-1] == _NO_GENRES else film[-1].split("|") for film in films],
        ),
        ratings=_ratings_1m(release),
        users=_users(release, users, "::", ["user_id", "gender", "age", "occupation", "zip"]),
    )


def _ratings_1m(release: _Release) -> RatingTable:
    if name := release.find("ratings.dat"):
        # Polars cuts at single bytes: "1::2::5::978" gives every second column empty.
        return release.ratings(name, ":", ["user_id", "_1", "item_id", "_2", "rating", "_3", "timestamp"])
    file = release.path(release.find("ratings*.parquet") or "")
    return rating_table(open_table(file, release.scratch), file.name, scale=SCALE)


def _read_csv(release: _Release) -> Parts:
    films = open_table(release.path("movies.csv"), release.scratch)
    raw = films.renamed({"item_id": "movieId", "title": "title", "genres": "genres"})
    genres = pl.when(pl.col("genres") != _NO_GENRES).then(pl.col("genres"))
    ratings = open_table(release.path("ratings.csv"), release.scratch)
    items, warnings = tidy_items(raw.with_columns(genres, year=year_in_title(pl.col("title"))), "movies.csv")
    return Parts(
        release.name,
        items,
        rating_table(ratings, "ratings.csv", scale=SCALE),
        links=_links(release),
        warnings=warnings,
    )


def _add_tags(parts: Parts, release: _Release) -> None:
    """The films' tags: what users wrote, and the tag genome, where the release has them."""
    if "tags.csv" in release.files:
        parts.items = with_tags(parts.items, user_tags(open_table(release.path("tags.csv"), release.scratch)))
    elif "tags.dat" in release.files:
        layout = Layout("none", ("userId", "movieId", "tag", "timestamp"), "::", skip=True)
        file = release.path("tags.dat")
        table = open_table(file, release.scratch, utf8_or_latin(file, release.scratch), layout)
        parts.items = with_tags(parts.items, user_tags(table))
        parts.warnings += table.notes
    if {"genome-scores.csv", "genome-tags.csv"} <= set(release.files):
        scores, names = (
            open_table(release.path(name), release.scratch) for name in ("genome-scores.csv", "genome-tags.csv")
        )
        parts.items = with_tags(parts.items, genome_tags(scores, names))


def _links(release: _Release) -> pl.DataFrame | None:
    if "links.csv" not in release.files:
        return None
    table = open_table(release.path("links.csv"), release.scratch)
    return tidy_links(table.renamed({"item_id": "movieId", **link_columns(table.columns)}))


_READERS: dict[str, Callable[[_Release], Parts]] = {"100K": _read_100k, "1M": _read_1m, "CSV": _read_csv}


def _films(
    release: _Release,
    ids: list[str],
    titles: list[str],
    genres: list[list[str]],
    release_years: list[str] | None = None,
) -> pl.DataFrame:
    raw = pl.LazyFrame(
        {"item_id": ids, "title": titles, "genres": genres, "released": release_years or [None] * len(ids)},
        schema={"item_id": pl.String, "title": pl.String, "genres": pl.List(pl.String), "released": pl.String},
    )
    released = pl.col("released").cast(pl.Int32, strict=False)
    raw = raw.with_row_index("row").with_columns(year=pl.coalesce(year_in_title(pl.col("title")), released))
    return tidy_items(raw.drop("released"), f"{release.source.name}, films")[0]


def _users(release: _Release, name: str | None, separator: str, columns: list[str]) -> pl.DataFrame | None:
    if name is None or name not in release.files:
        return None
    lines = release.lines(name, separator, len(columns))
    users = pl.DataFrame(
        [line[: len(columns)] for line in lines], schema=dict.fromkeys(columns, pl.String), orient="row"
    )
    ages = pl.col("age").cast(pl.Int32, strict=False)
    if wrong := users.select(ages.is_null().arg_true()).to_series().to_list():
        raise BadInput(f"{release.source}, {name}, line {wrong[0] + 1:,}: age {users['age'][wrong[0]]!r} is no number")
    return users.select("user_id", ages, "gender", "occupation", "zip")


def _add_plots_and_posters(
    parts: Parts, release: _Release, table: Table, file: Path, choices: Choices, item_id: str | None
) -> None:
    """Join the user's film table to the films of the release; the release's own columns win."""
    poster = table.column_for("poster")
    pictured = poster is not None and holds_images(table.frame.collect_schema()[poster])
    mapping = {"text": table.column_for("text"), "poster": None if pictured else poster}
    mapping |= {"title": table.column_for("title"), "year": table.column_for("year")}
    raw, joined_by = _by_film_id(parts, table, release, mapping, choices.tags, item_id)
    theirs, warnings = tidy_items(raw, table.name, titled_years=False)
    theirs, repeats = without_repeats(theirs, table.name, strict=choices.strict)
    if pictured:
        theirs = theirs.with_columns(poster=images_of_rows(file, str(poster), theirs["row"]))
    if item_id is None:
        _refuse_other_films(parts, theirs, table, joined_by, release)
    ours = parts.items.drop("text", "poster").rename({"tags": "own"})
    parts.items = (
        ours.join(theirs.select("item_id", "tags", "text", "poster", year_theirs="year"), on="item_id", how="left")
        .with_columns(pl.concat_list(pl.col("tags").fill_null([]), "own"), year=pl.coalesce("year", "year_theirs"))
        .sort("row")
        .select(parts.items.columns)
    )
    unknown = theirs.join(ours, on="item_id", how="anti")["item_id"].to_list()
    unmet = ours.join(theirs, on="item_id", how="anti").height
    if unknown:
        some = ", ".join(unknown[:3]) + ", ..." * (len(unknown) > 3)
        warnings.append(
            f"{len(unknown):,} films of {table.name} are not in {release.name} ({some}); they were left out"
        )
    if unmet:
        warnings.append(
            f"{unmet:,} films of {release.name} are not in {table.name}; they have no plot, no poster and no tags"
        )
    if parts.links is None and joined_by == "item_id":
        key = item_id or str(_id_column(table))
        parts.links = tidy_links(table.renamed({"item_id": key, **link_columns(table.columns)}))
    parts.warnings += table.notes + warnings + repeats
    parts.sources.append({"name": file.name, "sha256": sha256_of(file)})
    if poster is not None:
        parts.posters = file.resolve().parent


def _refuse_other_films(parts: Parts, theirs: pl.DataFrame, table: Table, joined_by: str, release: _Release) -> None:
    """Ids of another maker (TMDB's, say) meet those of MovieLens by chance; the titles show it."""
    titled = theirs.filter(pl.col("title") != "").select(id="item_id", title="title")
    if evidence := titles_differ(parts.items.select(id="item_id", title="title"), titled):
        raise BadInput(
            f"{table.name} and {release.name} have other films under the same ids ({joined_by}): {evidence}; name the "
            "column of MovieLens ids with --item-id, or join by imdb_id or tmdb_id with --links FILE"
        )


def _without_links(raw: pl.LazyFrame, known: pl.LazyFrame, name: str, column: str) -> list[str]:
    lost = raw.join(known, on="link", how="anti").select(pl.len()).collect().item()
    return [f"{lost:,} films of {name} have no link by {column}; they were left out"] if lost else []


def _by_film_id(
    parts: Parts,
    table: Table,
    release: _Release,
    mapping: dict[str, str | None],
    chosen_tags: Sequence[str],
    item_id: str | None,
) -> tuple[pl.LazyFrame, str]:
    """The table's films under MovieLens ids, and the name of the column that they were joined by."""
    tags = table.tag_columns(chosen_tags)
    if key := table.column_for("item_id", item_id) if item_id is not None else _id_column(table):
        return table.renamed(mapping | {"item_id": key}, tags), "item_id"
    linked = link_columns(table.columns)
    if linked and "links.csv" in release.files:
        links = open_table(release.path("links.csv"), release.scratch)
        theirs = link_columns(links.columns)
        movie = next((name for name in links.columns if plain_name(name) in ("movieid", "itemid")), None)
        for ours, column in linked.items():
            if movie is None or ours not in theirs:
                continue
            known = links.renamed({"item_id": movie, "link": theirs[ours]}).drop("row")
            known = known.with_columns(link=number_of("link")).drop_nulls()
            raw = table.renamed(mapping | {"link": column}, tags).with_columns(link=number_of("link"))
            parts.warnings += _without_links(raw, known, table.name, column)
            return raw.join(known, on="link", how="inner", maintain_order="left").drop("link"), column
    raise UsageError(
        f"--items {table.name} has no column movie_id, item_id or movieId to join by (nor imdb_id or tmdb_id with a "
        f"links.csv in the source, or --links FILE); it has {', '.join(table.columns)}"
    )


def _id_column(table: Table) -> str | None:
    plainly = {plain_name(name): name for name in reversed(table.columns)}
    return plainly.get("movieid") or plainly.get("itemid")
