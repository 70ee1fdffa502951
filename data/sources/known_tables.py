"""Sources that are a few tables: MovieTweetings, goodbooks-10k, Book-Crossing, MicroLens, RecBole's atomic files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ..dataset.assembly import Parts
from ..dataset.interactions import interactions
from ..dataset.items import rated_items, tidy_items
from ..dataset.links import tidy_links
from ..dataset.ratings import RatingTable
from ..runtime.errors import BadInput
from ..tables.dates import seconds
from ..tables.delimited import Layout
from ..tables.familiar import plain_name
from ..tables.opening import utf8_or_latin
from ..tables.table import TAG
from .own_tables import rating_table

if TYPE_CHECKING:
    from pathlib import Path

    from ..tables.table import Table
    from .source_files import SourceFiles

_MOST_TAGS = 20


def read_movietweetings(files: SourceFiles) -> Parts:
    """movies.dat and ratings.dat, separated by "::"; ids are IMDb's numbers with their zeros, ratings 0 to 10."""
    films = files.table(
        files.need("movies.dat"), layout=Layout("none", ("item_id", "title", "genres"), "::", skip=True)
    )
    raw = films.renamed({"item_id": "item_id", "title": "title", "genres": "genres"})
    items, warnings = tidy_items(raw, "movies.dat", genre_separator="|")
    links = tidy_links(raw.select("item_id", imdb_id=pl.format("tt{}", pl.col("item_id"))))
    columns = ("user_id", "item_id", "rating", "timestamp")
    ratings = files.table(files.need("ratings.dat"), layout=Layout("none", columns, "::"))
    rated = rating_table(ratings, "ratings.dat", scale=(0.0, 10.0))
    return Parts(files.name, items, rated, links=links, warnings=[*films.notes, *warnings])


def read_goodbooks(files: SourceFiles) -> Parts:
    """books.csv and ratings.csv; readers' tags by way of Goodreads's own ids, which book_tags.csv has.

    The first edition calls the ratings' ids `id` and Goodreads's `book_id`; the second `book_id`, `goodreads_book_id`.
    """
    books = files.table(files.need("books.csv"))
    first = "goodreads_book_id" not in books.columns
    key, goodreads = ("id", "book_id") if first else ("book_id", "goodreads_book_id")
    raw = books.renamed(
        {"item_id": key, "title": "title", "year": "original_publication_year", "goodreads": goodreads}, ["authors"]
    )
    warnings = [*books.notes]
    tags, given = files.find("tags.csv"), files.find("book_tags.csv")
    if tags is not None and given is not None:
        words, negative = _shelves(files.table(tags), files.table(given))
        raw = raw.join(words.lazy(), on="goodreads", how="left", maintain_order="left")
        if negative:
            warnings.append(f"book_tags.csv: {negative:,} rows count a tag less than once; they were left out")
    items, notes = tidy_items(raw.drop("goodreads"), "books.csv", titled_years=False)
    rated = rating_table(files.table(files.need("ratings.csv")), "ratings.csv", {"item_id": "book_id"}, (1.0, 5.0))
    return Parts(files.name, items, rated, warnings=[*warnings, *notes])


def _shelves(tags: Table, given: Table) -> tuple[pl.DataFrame, int]:
    """Each book's most frequent tags, and how many rows count one less than once."""
    names = tags.renamed({"tag_id": "tag_id", "tag": "tag_name"}).drop("row").unique("tag_id", keep="first")
    rows = given.renamed({"goodreads": "goodreads_book_id", "tag_id": "tag_id", "count": "count"}).drop("row")
    rows = rows.with_columns(pl.col("count").cast(pl.Int64, strict=False))
    negative = rows.filter((pl.col("count") < 1).fill_null(True)).select(pl.len()).collect().item()
    counted = (
        rows.filter(pl.col("count") > 0)
        .join(names, on="tag_id", how="inner")
        .sort("count", "tag", descending=[True, False])
    )
    words = counted.group_by("goodreads", maintain_order=True).agg(pl.col("tag").head(_MOST_TAGS).alias(TAG + "shelf"))
    return words.collect(), negative


def read_book_crossing(files: SourceFiles) -> Parts:
    """BX-Books.csv and BX-Book-Ratings.csv (Latin-1, semicolons, backslashes before quotes), or Kaggle's commas.

    A rating of 0 means that the book was read and not rated: such rows are left out. In a few rows title and author
    stand in one field, so that all others are one place too far left: they are put back.
    """
    books, ratings = files.need("*Books.csv"), files.need("*Book-Ratings.csv", "Ratings.csv")
    films, encoding = _latin(files, books)
    columns = dict.fromkeys(films.columns)
    plain = {plain_name(name): name for name in columns}
    wanted = {"item_id": "isbn", "title": "booktitle", "author": "bookauthor", "year": "yearofpublication"}
    wanted |= {"publisher": "publisher"}
    if lacking := [name for name in wanted.values() if name not in plain]:
        raise BadInput(f"{books}: expected the column {lacking[0]}, as in Book-Title, found {', '.join(columns)}")
    raw = films.renamed({ours: plain[theirs] for ours, theirs in wanted.items()})
    shifted = pl.col("author").str.contains(r"^\d{4}$").fill_null(False) & pl.col("title").str.contains(r'";|;')
    count = raw.select(shifted.sum()).collect(engine="streaming").item()
    raw = raw.with_columns(
        title=pl.when(shifted).then(pl.col("title").str.extract(r'^(.*?)\\?"?;[^;]*$', 1)).otherwise(pl.col("title")),
        author=pl.when(shifted).then(pl.col("title").str.extract(r';"?([^;"]*)"?$', 1)).otherwise(pl.col("author")),
        year=pl.when(shifted).then(pl.col("author")).otherwise(pl.col("year")),
        publisher=pl.when(shifted).then(pl.col("year")).otherwise(pl.col("publisher")),
    )
    named = [
        pl.concat_list(pl.col(name).str.replace_all("&amp;", "&", literal=True)).alias(TAG + name)
        for name in ("author", "publisher")
    ]
    raw = raw.with_columns(named).drop("author", "publisher")
    title = pl.col("title").str.replace_all("&amp;", "&", literal=True).str.replace_all('\\"', '"', literal=True)
    raw = raw.with_columns(title)
    items, warnings = tidy_items(raw, books.name, titled_years=False)
    if count:
        warnings.append(f"{books.name}: {count:,} rows have title and author in one field; they were put back")
    table = files.table(ratings, encoding)
    plain = {plain_name(name): name for name in table.columns}
    chosen = {"user_id": plain.get("userid"), "item_id": plain.get("isbn"), "rating": plain.get("bookrating")}
    rated = rating_table(table, ratings.name, chosen)
    zeros = rated.frame.filter(pl.col("rating").str.strip_chars() == "0").select(pl.len()).collect().item()
    if zeros:
        warnings.append(f"{ratings.name}: {zeros:,} rows have the rating 0, which means read, not rated; left out")
    rated = RatingTable(rated.name, rated.without_rating(0).frame, (1.0, 10.0), rated.notes)
    return Parts(files.name, items, rated, warnings=[*films.notes, *warnings])


def _latin(files: SourceFiles, file: Path) -> tuple[Table, str]:
    """The table in UTF-8, else in Latin-1, as the first edition is."""
    encoding = utf8_or_latin(file, files.scratch)
    try:
        return files.table(file, encoding, Layout(skip=True)), encoding
    except BadInput:  # backslashes before doubled quotes, and some quotes that nothing closes
        return files.table(file, encoding, Layout("double", skip=True, lenient=True)), encoding


def read_microlens(files: SourceFiles) -> Parts:
    """*_pairs.csv (user, item, timestamp: interactions) and *title*.csv; the titles are the text there is."""
    pairs = files.table(files.need("*pairs.csv"))
    names = {plain_name(name): name for name in pairs.columns}
    if not {"user", "item"} <= set(names):
        raise BadInput(f"{files.source}: expected columns user and item in the pairs, found {', '.join(pairs.columns)}")
    mapping = {"user_id": names["user"], "item_id": names["item"], "timestamp": names.get("timestamp")}
    frame = pairs.renamed(mapping)
    notes: list[str] = []
    if mapping["timestamp"]:
        frame, notes = seconds(frame, "timestamp", "pairs")
    rated = interactions(RatingTable("pairs", frame, notes=tuple(notes)))
    titles = files.find("*title_en*.csv", "*titles.csv", "*title*.csv")
    if titles is None:
        return Parts(files.name, rated_items(rated), rated, warnings=["there is no *title*.csv: items have ids alone"])
    table = files.table(titles)
    if not {"item", "title"} <= {plain_name(name) for name in table.columns}:
        table = files.table(titles, layout=Layout(columns=("item", "title"), skip=True))
    raw = table.renamed({"item_id": "item", "title": "title", "text": "title"})
    items, warnings = tidy_items(raw, titles.name, titled_years=False)
    return Parts(files.name, items, rated, warnings=[*table.notes, *warnings])


def read_recbole(files: SourceFiles) -> Parts:
    """NAME.inter, and NAME.item where there; without a rating the rows are interactions."""
    table = files.table(files.need("*.inter"))
    if "rating" in table.columns:
        rated = rating_table(table, "inter")
    else:
        mapping = {
            ours: table.column_for(ours, required=ours != "timestamp") for ours in ("user_id", "item_id", "timestamp")
        }
        frame = table.renamed(mapping)
        notes: list[str] = []
        if mapping["timestamp"]:
            frame, notes = seconds(frame, "timestamp", "inter")
        rated = interactions(RatingTable("inter", frame, notes=(*table.notes, *notes)))
    file = files.find("*.item")
    if file is None:
        return Parts(files.name, rated_items(rated), rated, warnings=["there is no .item: items have ids alone"])
    films = files.table(file)
    mapping = {
        ours: films.column_for(ours, required=ours == "item_id") for ours in ("item_id", "title", "year", "text")
    }
    genres = next(
        (name for name in ("class", "genre", "genres", "categories", "category") if name in films.columns), None
    )
    raw = films.renamed(mapping | {"genres": genres}, films.tag_columns())
    items, warnings = tidy_items(raw, "item")
    return Parts(files.name, items, rated, warnings=[*films.notes, *warnings])
