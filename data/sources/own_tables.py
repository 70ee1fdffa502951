"""A catalogue and ratings in tables of anyone's making -> dataset folder."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import polars as pl

from ..dataset.assembly import Choices, ImportReport, Parts, assemble
from ..dataset.folder import new_folder
from ..dataset.interactions import core_items, k_core
from ..dataset.items import rated_items, tidy_items
from ..dataset.links import link_columns, tidy_links
from ..dataset.posters.parquet_images import holds_images, images_of_rows
from ..dataset.posters.placing import place_posters, with_slashes, without_addresses
from ..dataset.posters.source import PosterSource
from ..dataset.ratings import RatingTable
from ..runtime.disk import sha256_of
from ..runtime.errors import UsageError
from ..splitting.boolean_columns import boolean_columns
from ..tables.dates import read_times
from ..tables.delimited import ROW, Layout
from ..tables.familiar import named_so
from ..tables.id_spaces import IdColumn, check_same_ids, links_between, meet_halfway
from ..tables.ids import exact_ids
from ..tables.opening import open_table
from ..tables.table import Table, some_of
from ..tables.written_ratings import decimal_points, stars_and_shares, yes_and_no
from .interaction_tables import interaction_table, refuse_matrix, required_columns, without_ratings
from .poster_urls import PosterUrls, addresses_of, download_posters
from .titles_as_ids import known_by_titles

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

ITEM_OPTIONS = ("item_id", "title", "year", "genres", "text", "poster")


@dataclass(frozen=True)
class Reading:
    """How the files of an import are read: their encoding, and the layout of delimited films and ratings."""

    encoding: str = "utf-8"
    items: Layout = field(default_factory=Layout)
    ratings: Layout = field(default_factory=Layout)


def import_table(
    out: Path,
    items: Path | None = None,
    ratings: Path | None = None,
    *,
    interactions: Path | None = None,
    core: int | None = None,
    posters: Path | None = None,
    links: Path | None = None,
    poster_urls: PosterUrls | None = None,
    columns: Mapping[str, str | None] | None = None,
    genre_separator: str | None = None,
    scale: tuple[float, float] | None = None,
    drop_rating: float | None = None,
    log_ratings: bool = False,
    encoding: str = "utf-8",
    reading: Reading | None = None,
    choices: Choices | None = None,
) -> ImportReport:
    """Make a dataset folder ``out`` from a film table, a rating table or both (delimited text, Parquet, JSON).

    ``interactions`` is a table of plays, clicks or likes instead of ratings: user, item, perhaps a count and a time
    (`dataset.interactions`). A table of ``ratings`` in which no column can be a rating is taken as one, with a note.
    ``core`` keeps users and items with so many of each other alone, and those items alone (`k_core`).

    Without a film table the items are those rated, known by their ids alone. Boolean columns of the rating table are
    kept, so that ``--split column:NAME`` can read them. Rows with the rating ``drop_rating`` are left out. With
    ``log_ratings`` the ratings are counts, of which log(1 + count) is kept.

    ``columns`` maps our names (item_id, title, year, genres, text, poster, user_id, rating, timestamp, count, and
    rating_item_id for the film's id in the rating table) to the source's; without it, familiar names are found, as are
    columns whose words become tags, unless ``choices.tags`` names them. Where films and ratings have ids of different
    makers, ``links`` is a table of both: ids that nothing says are the same are never joined.
    Poster paths start at ``posters`` (a folder, or a tar, zip or Parquet file), by default at the film table's folder;
    without a poster column, the image called after the id is looked up. ``poster_urls`` downloads them into the
    dataset instead. Ratings outside ``scale`` are refused.
    UsageError for a column that is not there, BadInput, naming rows, for rows that cannot be taken.
    """
    choices, columns = choices or Choices(), columns or {}
    reading = reading or Reading(encoding)
    if ratings is not None and interactions is not None:
        raise UsageError("--ratings and --interactions: expected one of them, found both")
    rows = interactions or ratings
    if items is None and rows is None:
        raise UsageError("expected --ratings FILE, --items FILE, or both, found neither")
    if core is not None and rows is None:
        raise UsageError("--core needs --ratings FILE or --interactions FILE")
    if links is not None and (items is None or rows is None):
        raise UsageError(f"--links {links}: joins films with ratings; give both --items and --ratings")
    if poster_urls is not None and (items is None or posters is not None):
        raise UsageError(
            f"--poster-urls {poster_urls.column}: needs --items, the table that has the column, and no --posters"
        )
    pictures = PosterSource.open(posters) if posters is not None else None
    if log_ratings and scale is not None:
        raise UsageError("--scale and --log-ratings: expected one of them, found both; counts have no scale")
    if log_ratings and interactions is not None:
        raise UsageError("--log-ratings: expected a table of --ratings, found --interactions, whose counts stay counts")
    with new_folder(out, overwrite=choices.overwrite) as staging:
        films = open_table(items, staging.scratch, reading.encoding, reading.items) if items is not None else None
        source = open_table(rows, staging.scratch, reading.encoding, reading.ratings) if rows is not None else None
        films, source, columns = known_by_titles(films, source, columns)
        names = {} if films is None else _item_columns(films, columns, source)
        rated_by = (
            None if source is None else _rated_column(source, columns, None if films is None else names["item_id"])
        )
        rated = None
        if rated_by is not None:
            chosen = {**columns, "item_id": rated_by.column}
            if interactions is not None or without_ratings(rated_by.table, chosen):
                rated = interaction_table(rated_by.table, rated_by.table.name, chosen, guessed=interactions is None)
            else:
                rated = rating_table(rated_by.table, rated_by.table.name, chosen, scale, booleans=True)
            if drop_rating is not None:
                rated = rated.without_rating(drop_rating)
            if log_ratings:
                rated = rated.logarithms()
        files = [file for file in (items, rows, links) if file is not None]
        parts = Parts(files[0].name, pl.DataFrame(), rated)
        if films is not None:
            way = open_table(links, staging.scratch, reading.encoding) if links is not None else None
            _add_films(parts, films, names, columns, rated_by, way, files[0], choices.tags, genre_separator)
        if core is not None and parts.ratings is not None:
            parts.ratings = k_core(parts.ratings, core)
            parts.items = parts.items if films is None else core_items(parts.items, parts.ratings)
        if films is None and parts.ratings is not None:
            parts.items = rated_items(parts.ratings)
        if poster_urls is not None and films is not None:
            addresses = addresses_of(films, poster_urls.column)
            parts.posters = staging.folder / "posters"
            parts.items, notes = download_posters(parts.items, addresses, parts.posters, poster_urls)
            parts.warnings += notes
        else:
            _add_posters(parts, films, names, items, pictures)
        parts.sources = [{"name": file.name, "sha256": sha256_of(file)} for file in files]
        return assemble(parts, staging, out, choices)


def _item_columns(films: Table, columns: Mapping[str, str | None], rated: Table | None) -> dict[str, str | None]:
    """The film table's column for each of ours; None where it has none.

    Of several columns of ids that nobody named, the one that the ratings call by the same name comes first.
    """
    named = columns.get("item_id") or (None if rated is None else _shared_ids(films, rated, columns))
    chosen = {**columns, "item_id": named}
    return {ours: films.column_for(ours, chosen.get(ours), required=ours == "item_id") for ours in ITEM_OPTIONS}


def _shared_ids(films: Table, rated: Table, columns: Mapping[str, str | None]) -> str | None:
    """The column of the film table under the ratings' name for films, where it holds most of the rated ids."""
    theirs = columns.get("rating_item_id") or rated.column_for("item_id")
    guess = films.column_for("item_id")
    ours = None if theirs is None else named_so(films.columns, [theirs])
    if theirs is None or ours is None or guess in (None, ours) or guess in rated.columns:
        return None
    ids = IdColumn(rated, theirs, guessed=True).ids()
    met = ids.is_in(IdColumn(films, ours, guessed=True).ids().implode()).sum()
    return ours if 2 * met > len(ids) else None


def _rated_column(source: Table, columns: Mapping[str, str | None], items_column: str | None) -> IdColumn:
    """The rating table's column of film ids: the one that is named, else the film table's, else a familiar one.

    A column "id" of both that nobody named is the row's where the ratings have another one of films. BadInput for a
    table with a column for each film.
    """
    named, of_items, familiar = columns.get("rating_item_id"), columns.get("item_id"), source.column_for("item_id")
    is_a_row = (items_column or "").casefold() == "id" and of_items is None and familiar not in (None, items_column)
    if named is None and items_column in source.columns and not is_a_row:
        return IdColumn(source, str(items_column), guessed=of_items is None)
    if named is None and items_column is None:
        named = of_items
    if named is None and familiar is None:
        refuse_matrix(source)
        required_columns(source, columns, ("user_id",))
    try:
        found = source.column_for("item_id", named, required=True)
    except UsageError as fault:  # --item-id names the films' column where there is a table of films
        both = items_column is not None
        raise UsageError(str(fault).replace("--item-id", "--rating-item-id") if both else str(fault)) from None
    return IdColumn(source, str(found), guessed=named is None)


def _add_films(
    parts: Parts,
    films: Table,
    names: Mapping[str, str | None],
    columns: Mapping[str, str | None],
    rated_by: IdColumn | None,
    links: Table | None,
    file: Path,
    tags: Sequence[str],
    genre_separator: str | None,
) -> None:
    """Fill items and links: the films under their own ids, or under those of the ratings by way of ``links``."""
    own = IdColumn(films, str(names["item_id"]), guessed=columns.get("item_id") is None)
    way, notes = None, [*films.notes]
    unread = [name for name in films.columns if name != own.column]
    if unread and not any(names[ours] for ours in ITEM_OPTIONS if ours != "item_id"):
        notes.append(
            f"{films.name}: none of its columns is called as titles, years, genres, texts or posters are "
            f"({some_of(unread, 5)}): name them with --title, --text and the like"
        )
    if rated_by is not None and links is not None:
        way = links_between(links, films, own.column, rated_by)
    elif rated_by is not None:
        notes += check_same_ids(own, rated_by, sorted(file.resolve().parent.glob("*link*.csv")))
    key = own.column if way is None else way.column
    pictured = names["poster"] is not None and holds_images(films.frame.collect_schema()[names["poster"]])
    mapping = {**names, "item_id": key, "poster": None if pictured else names["poster"]}
    raw = films.renamed(mapping, films.tag_columns(tags))
    numbers = films.renamed({"item_id": key, **link_columns(films.columns)})
    if way is not None:
        raw, followed = way.follow(raw, films.name)
        numbers, _ = way.follow(numbers, films.name)
        notes += followed
    parts.items, doubts = tidy_items(raw, films.name, genre_separator=genre_separator)
    parts.links = tidy_links(numbers)
    if parts.ratings is not None and way is None:
        parts.items, frame, met = meet_halfway(parts.items, parts.ratings.frame, parts.ratings.name)
        parts.ratings = replace(parts.ratings, frame=frame)
        notes += met
    parts.warnings += [*doubts, *notes]


def _add_posters(
    parts: Parts, films: Table | None, names: Mapping[str, str | None], file: Path | None, pictures: PosterSource | None
) -> None:
    """Say where each film's poster lies: in ``pictures``, in a column of images, or at a path beside the film table."""
    column = names.get("poster")
    name = parts.name
    if pictures is not None:
        parts.items, notes = place_posters(parts.items, pictures, column, name)
        parts.posters, parts.warnings = pictures.root, parts.warnings + notes
    elif column is not None and films is not None and file is not None:
        parts.posters = file.resolve().parent
        if holds_images(films.frame.collect_schema()[column]):
            parts.items = parts.items.with_columns(poster=images_of_rows(file, column, parts.items["row"]))
        else:
            parts.items, notes = without_addresses(with_slashes(parts.items, parts.posters), column, name)
            parts.warnings += notes


def rating_table(
    table: Table,
    name: str,
    chosen: Mapping[str, str | None] | None = None,
    scale: tuple[float, float] | None = None,
    *,
    booleans: bool = False,
) -> RatingTable:
    """Take user_id, item_id, rating and (where there) timestamp from any table; ``chosen`` names its columns.

    With ``booleans`` its other columns of Boolean values too.
    """
    chosen = chosen or {}
    try:
        mapping = required_columns(table, chosen, ("user_id", "item_id", "rating"))
    except UsageError as fault:
        if "no column for rating" not in str(fault):
            raise
        raise UsageError(f"{fault}; where rows are plays, clicks or likes, give the table as --interactions") from None
    mapping["timestamp"], doubtful = table.times_column(chosen.get("timestamp"))
    kept = boolean_columns(table.frame, {ROW, "row", *mapping, *filter(None, mapping.values())}) if booleans else {}
    frame, notes = exact_ids(table.renamed(mapping, also=kept), ["user_id", "item_id"], name)
    notes += table.guessed_rating(chosen.get("rating"))
    for reading in (decimal_points, yes_and_no, stars_and_shares):
        frame, read = reading(frame, "rating", name)
        notes += read
    if mapping["timestamp"]:
        frame, dates = read_times(frame, name, mapping["timestamp"], doubtful=doubtful)
        notes += dates
    return RatingTable(name, frame, scale, (*table.notes, *notes), tuple(kept))


def parse_scale(words: str) -> tuple[float, float]:
    """Read "0.5:5" as lowest and highest rating; UsageError for anything else."""
    low, _, high = words.partition(":")
    try:
        scale = float(low), float(high)
    except ValueError:
        raise UsageError(f"--scale {words}: expected LOWEST:HIGHEST, for instance 0.5:5") from None
    if not scale[0] < scale[1]:
        raise UsageError(f"--scale {words}: the lowest rating must be below the highest")
    return scale


def reading_of(
    encoding: str,
    quote: str,
    columns: str | None = None,
    rating_columns: str | None = None,
    *,
    items_given: bool = True,
) -> Reading:
    """What the options --encoding, --quote, --columns and --rating-columns say; UsageError for an unknown quote."""
    ratings = rating_columns if items_given else rating_columns or columns
    return Reading(encoding, Layout(quote, _listed(columns)), Layout(quote, _listed(ratings)))


def _listed(columns: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in columns.split(",")) if columns else ()
