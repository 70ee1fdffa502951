"""A table of plots and posters joined to the films of a release, by MovieLens's ids or by way of links.csv."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from ...dataset.assembly import Choices, Parts
from ...dataset.items import tidy_items, without_repeats
from ...dataset.links import link_columns, number_of, tidy_links
from ...dataset.posters.parquet_images import holds_images, images_of_rows
from ...runtime.disk import sha256_of
from ...runtime.errors import BadInput, UsageError
from ...tables.familiar import plain_name
from ...tables.id_spaces import titles_differ
from ...tables.opening import open_table
from ...tables.table import Table
from .release import Release

if TYPE_CHECKING:
    from collections.abc import Sequence


def add_plots_and_posters(
    parts: Parts, release: Release, table: Table, file: Path, choices: Choices, item_id: str | None
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
    if unknown and len(unknown) == theirs.height:
        raise BadInput(
            f"none of the {theirs.height:,} films of {table.name} ({unknown[0]!r} first) is one of {release.name} by "
            f"{joined_by} ({ours['item_id'][0]!r} first); name the column of MovieLens ids with --item-id, or join by "
            "imdb_id or tmdb_id with --links FILE"
        )
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


def _refuse_other_films(parts: Parts, theirs: pl.DataFrame, table: Table, joined_by: str, release: Release) -> None:
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
    release: Release,
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
