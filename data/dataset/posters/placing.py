"""Where posters lie: a folder, archives, or a Parquet column; found by path or by id, read from there or copied."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from .files import poster_inside
from .source import ADDRESS, POSTER_SUFFIXES, PosterSource, nfc

# data:image/..., or how JPEG, PNG, WebP and GIF begin in base64
_ENCODED = r"^(?:data:image/|(?:/9j/|iVBORw0KGgo|UklGR|R0lGOD)[A-Za-z0-9+/\s]{60})"


def place_posters(
    items: pl.DataFrame, source: PosterSource, column: str | None, name: str
) -> tuple[pl.DataFrame, list[str]]:
    """Fill ``poster`` with references into ``source``: by the paths of the film table's ``column``, else by id.

    Also what to say. Where some paths lead to posters, a film without a path has none; paths that lead nowhere are
    looked for by id, and stay as they are where that finds none, addresses aside, so that they are counted.
    """
    given = items["poster"].to_list()
    direct = [None if poster is None else source.at(poster) for poster in given]
    paths = any(reference is not None for reference in direct)
    if not paths:
        source.look_into_archives()
        direct = [None if poster is None else source.at(poster) for poster in given]
    found: list[str | None] = []
    elsewhere: list[str] = []
    by_id = 0
    for item, poster, reference in zip(items["item_id"].to_list(), given, direct, strict=True):
        if reference is None and (poster is not None or not paths):
            reference = source.by_id.get(nfc(item))
            if poster is not None:
                elsewhere.append(poster)
                by_id += reference is not None
                reference = reference or (None if ADDRESS.match(poster) else poster)
        found.append(reference)
    notes = []
    if elsewhere and (by_id or ADDRESS.match(elsewhere[0])):
        notes.append(
            f"{name}: {len(elsewhere):,} of {items.height - items['poster'].null_count():,} values of column "
            f"{column or 'poster'} ({elsewhere[0][:60]!r} first) are no paths inside {source.root}; posters were "
            f"looked for by id, and {by_id:,} of these found"
        )
    if source.by_id and not any(found):
        notes.append(
            f"{name}: none of the {len(source.by_id):,} images in {source.root} ({next(iter(source.by_id))!r} first) "
            f"is called after an id of the films ({items['item_id'][0]!r} first): there are no posters"
        )
    if items.height and not source.by_id and not any(given):
        notes.append(
            f"{name}: no image in {source.root} is called after an id of the films, such as {items['item_id'][0]}.jpg "
            f"({_instead(source)}): there are no posters"
        )
    return items.with_columns(pl.Series("poster", found, dtype=pl.String)), notes


def _instead(source: PosterSource) -> str:
    """What lies where images were expected."""
    if source.is_folder:
        below = (path for path in source.root.glob("*/*") if path.suffix.lower().lstrip(".") in POSTER_SUFFIXES)
        if inside := next(below, None):
            return f"{inside.parent.name}/{inside.name} is one in a folder below; name that folder"
    return f"it holds {next(iter(source.named))}" if source.named else "it is empty"


def with_slashes(items: pl.DataFrame, root: Path) -> pl.DataFrame:
    """The items with paths such as posters\\1.jpg, as Windows writes them, as posters/1.jpg, where that is a file."""

    def slashed(poster: str) -> str:
        path = poster.replace("\\", "/")
        return poster if poster_inside(root, poster) is not None or poster_inside(root, path) is None else path

    given = [poster for poster in items["poster"].unique() if poster and "\\" in poster]
    return items.with_columns(pl.col("poster").replace({poster: slashed(poster) for poster in given}))


def without_addresses(items: pl.DataFrame, column: str, name: str) -> tuple[pl.DataFrame, list[str]]:
    """Leave out posters that are addresses of the web, or TMDB's paths: they are no files; and say how to get them."""
    poster = pl.col("poster")
    encoded = items.filter(poster.str.contains(_ENCODED))
    addresses = items.filter(poster.str.contains(f"(?i){ADDRESS.pattern}"))
    slashed = items.filter(poster.str.contains(r"^/[^/]+\.(?:jpg|png|svg|webp)$"))
    if addresses.is_empty() and slashed.is_empty() and encoded.is_empty():
        return items, []
    notes = []
    if not encoded.is_empty():
        notes.append(
            f"{name}: {encoded.height:,} values of column {column} are images as base64 text, not files; they were "
            "left out: decode them into files called after the ids, and name their folder with --posters"
        )
    if not addresses.is_empty():
        notes.append(
            f"{name}: {addresses.height:,} values of column {column} are addresses ({addresses['poster'][0]}), not "
            f"files; they were left out: --poster-urls {column} downloads them"
        )
    there = slashed.filter(pl.Series([Path(path).is_file() for path in slashed["poster"]], dtype=pl.Boolean))
    slashed = slashed.join(there, on="item_id", how="anti")
    if not slashed.is_empty():
        notes.append(
            f"{name}: {slashed.height:,} values of column {column} are TMDB's paths ({slashed['poster'][0]}), no files "
            "here; they were left out: `cinefuse data enrich` downloads posters, --posters names a folder of them"
        )
    gone = pl.concat([addresses, slashed, encoded]).select("item_id").unique()
    kept = items.join(gone.with_columns(gone=True), on="item_id", how="left", maintain_order="left")
    return kept.with_columns(poster=pl.when(pl.col("gone").is_null()).then(poster)).drop("gone"), notes
