"""Whether two tables call the same things by the same ids, and the way from one to the other where they do not.

TMDB's 862 and MovieLens's 862 are two films, and small numbers meet by chance: joined in silence, nearly every film
would get another one's plot. So ids are taken for the same only where the tables say so.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

import polars as pl

from ..runtime.errors import BadInput, UsageError
from .familiar import plain_name
from .ids import exact_ids

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from .table import Table

_FEWEST_TITLES = 3
_MOST_TITLES = 2_000
_ALIKE = 0.75
_YEARS = re.compile(r"\s*\(\s*\d{4}[^)]*\)\s*$")
_ARTICLE = re.compile(r"^(.*), (the|a|an|le|la|les|l'|il|el|der|die|das)$")
_ID = pl.col("item_id")
_FLOAT = _ID.cast(pl.Float64, strict=False)
_BARE = _ID.str.strip_chars().str.replace(r"^(-?\d+)\.0+$", "$1")
_ALIKE_WAYS = (
    (_BARE, "without the white space around them or the .0 behind them"),
    (_BARE.str.normalize("NFC"), "where Unicode spells letters in one way of its two"),
)
_OTHERWISE = (
    (_ID.str.replace(r"^0+(\d)", "$1"), "without leading zeros, which are part of an id (007 is not 7)"),
    (_ID.str.to_lowercase(), "if capitals were small letters"),
    (
        _ID.str.replace(r"^tt0*(\d+)$", "$1").str.replace(r"^0+(\d)", "$1"),
        "as IMDb's numbers, of which tt0114709 is 114709",
    ),
    (_ID.str.normalize("NFKC").str.replace_all(r"^\W+|\W+$", ""), "with plain digits and letters alone"),
    (
        pl.when(_ID.str.contains(r"^\d{1,3}(?:[.,' ]\d{3})+$")).then(_ID.str.replace_all("[.,' ]", "")).otherwise(_ID),
        "without separators of thousands",
    ),
    (_ID.str.extract(r"([^/]+)/*$", 1), "by the last part of an address or path alone"),
    (
        pl.when(_FLOAT.floor() == _FLOAT).then(_FLOAT.cast(pl.Int64, strict=False).cast(pl.String)).otherwise(_ID),
        "as numbers, which a spreadsheet may have rounded",
    ),
)


@dataclass(frozen=True)
class IdColumn:
    """A table's column of item ids; ``guessed`` where its name was found, not given."""

    table: Table
    column: str
    guessed: bool

    def ids(self) -> pl.Series:
        """Its distinct ids as text."""
        frame, _ = exact_ids(self.table.frame.select(id=self.column), ["id"], self.table.name)
        return frame.drop_nulls().unique().collect(engine="streaming")["id"]

    def titles(self) -> pl.DataFrame | None:
        """id and title, each id once; None where the table has no titles."""
        title = self.table.column_for("title")
        if title is None or title == self.column:
            return None
        frame, _ = exact_ids(self.table.frame.select(id=self.column, title=title), ["id"], self.table.name)
        found = frame.unique("id", keep="first").collect(engine="streaming")
        return found.filter(pl.col("title").is_not_null()) if found["title"].dtype == pl.String else None


def check_same_ids(items: IdColumn, ratings: IdColumn, links_nearby: Iterable[Path] = ()) -> list[str]:
    """Refuse (BadInput, with the evidence) tables whose ids are not known to be the same; else what there is to say.

    Both columns guessed under different names are refused; where one was given by the user, a note says how many ids
    meet. Under one name they are refused where both tables have titles and most of these differ.
    """
    differ = plain_name(items.column) != plain_name(ratings.column)
    named = f"{items.table.name} names films by {items.column!r}, {ratings.table.name} by {ratings.column!r}"
    if not differ:
        if (items.guessed or ratings.guessed) and (evidence := titles_differ(items.titles(), ratings.titles())):
            raise BadInput(
                f"{named}, but {evidence}; join them through a table of both ids with --links FILE, or, if the ids are "
                f"the same all the same, say so with --item-id {items.column} --rating-item-id {ratings.column}"
            )
        return []
    if not (items.guessed or ratings.guessed):
        return []
    rated = ratings.ids()
    met = rated.is_in(items.ids().implode()).sum()
    evidence = f"{met:,} of {len(rated):,} rated ids are also found in {items.table.name}"
    chance = ", as small numbers are by chance" if met else ""
    if not (items.guessed and ratings.guessed):
        return [f"{named}: they were joined as the same ids ({evidence})"]
    nearby = next((f"; {file.name} beside it links ids: --links {file}" for file in links_nearby), "")
    raise BadInput(
        f"{named}, and nothing says that these are the same ids ({evidence}{chance}){nearby}; "
        "join them through a table of both ids with --links FILE, or, if they are the same, say so with "
        f"--item-id {items.column} --rating-item-id {ratings.column}"
    )


def titles_differ(ours: pl.DataFrame | None, theirs: pl.DataFrame | None) -> str:
    """The evidence, as part of a sentence, where most titles of two tables (id, title) differ under one id; else ""."""
    if ours is None or theirs is None:
        return ""
    met = ours.join(theirs, on="id", suffix="_theirs").drop_nulls()
    pairs = met.sort("id").gather_every(max(1, met.height // _MOST_TITLES)).iter_rows()
    compared = [(key, one, other, _same_title(one, other)) for key, one, other in pairs]
    wrong = [(key, one, other) for key, one, other, same in compared if not same]
    if len(compared) < _FEWEST_TITLES or 2 * len(wrong) <= len(compared):
        return ""
    some = "; ".join(f"{key} is {one!r} here and {other!r} there" for key, one, other in wrong[:2])
    return f"{len(wrong):,} of {len(compared):,} titles under one id differ ({some})"


def _same_title(one: str, other: str) -> bool:
    first, second = _plain_title(one), _plain_title(other)
    if first == second or not first or not second:
        return True
    words, others = set(first.split()), set(second.split())
    if words <= others or others <= words or 2 * len(words & others) >= len(words | others):
        return True
    return SequenceMatcher(None, first, second, autojunk=False).ratio() >= _ALIKE


def _plain_title(title: str) -> str:
    text = unicodedata.normalize("NFKD", title.casefold())
    text = "".join(character for character in text if not unicodedata.combining(character))
    text = _ARTICLE.sub(r"\2 \1", _YEARS.sub("", text).strip())
    return " ".join(re.findall(r"\w+", text))


def meet_halfway(items: pl.DataFrame, ratings: pl.LazyFrame, name: str) -> tuple[pl.DataFrame, pl.LazyFrame, list[str]]:
    """Items and ratings (item_id text in both) whose ids were written differently made to meet, and what was done.

    White space around ids, a ".0" behind whole numbers and what Unicode can spell in two ways are made alike where more
    ids meet so and no two items become one. Other differences are kept, leading zeros among them: a note counts ids
    that would meet without one. BadInput where no rated id is an item's.
    """
    rated = ratings.select("item_id").drop_nulls().unique().collect(engine="streaming")
    unknown = rated.join(items, on="item_id", how="anti")
    if unknown.is_empty() or items.is_empty():
        return items, ratings, []
    for way, what in _ALIKE_WAYS:
        ours, theirs = items.select(way).unique(), rated.select(way).unique()
        met = theirs.join(ours, on="item_id", how="semi").height
        if met > rated.height - unknown.height and ours.height == items["item_id"].n_unique():
            return items.with_columns(way), ratings.with_columns(way), [f"{name}: ids meet {what}, and were joined so"]
    hint = _would_meet(items, unknown)
    if unknown.height == rated.height:
        raise BadInput(
            f"{name}: none of its {rated.height:,} rated ids ({rated['item_id'][0]!r} first) is an id of the films "
            f"({items['item_id'][0]!r} first); "
            + (hint or "name the columns with --item-id and --rating-item-id, or join with --links FILE")
        )
    return items, ratings, [f"{name}: {hint}"] if hint else []


def _would_meet(items: pl.DataFrame, unknown: pl.DataFrame) -> str:
    """How many of the ``unknown`` ids would be items' without one difference in writing; "" where none would."""
    for way, without in _OTHERWISE:
        loose = unknown.select(way).join(items.select(way), on="item_id", how="semi").height
        if loose:
            return f"{loose:,} of them would meet {without}: write them the same way on both sides"
    return ""


@dataclass(frozen=True)
class Links:
    """A way from one id to another: ``pairs`` has key and item_id (text), for ids in ``column`` of the item table."""

    column: str
    pairs: pl.DataFrame
    note: str

    def follow(self, raw: pl.LazyFrame, name: str) -> tuple[pl.LazyFrame, list[str]]:
        """Give ``raw`` (its ids in item_id) the ids at the other end; items without one are left out and counted."""
        keyed = raw.with_columns(key=_key("item_id")).drop("item_id")
        lost = keyed.join(self.pairs.lazy(), on="key", how="anti").select(pl.len()).collect().item()
        joined = keyed.join(self.pairs.lazy(), on="key", how="inner", maintain_order="left").drop("key")
        notes = [self.note]
        if lost:
            notes.append(f"{name}: {lost:,} films have no link; they were left out")
        return joined, notes


def links_between(links: Table, items: Table, item_column: str | None, rated: IdColumn) -> Links:
    """The way through ``links`` from the items' ids to the rated ones: columns by their names, else by their content.

    ``item_column`` is the items' id column. UsageError where no two columns of the table lead from one to the other.
    """
    if links.has_no_header:
        raise UsageError(
            f"--links {links.name}: its first line names no columns ({', '.join(links.columns[:5])}); write their "
            "names there, such as movieId,tmdbId"
        )
    there = _alike(links, rated.column) or _fullest(links, rated.ids(), links.columns)
    if there is None:
        raise UsageError(
            f"--links {links.name}: no column {rated.column}, as {rated.table.name} names films, and none that holds "
            f"its ids; it has {', '.join(links.columns)}"
        )
    others = [name for name in links.columns if name != there]
    ways: list[tuple[str, str]] = []
    for column in dict.fromkeys([item_column, *items.columns]):
        if column is not None and (named := _alike(links, column)) in others:
            ways.append((column, str(named)))
    if item_column is not None:
        ids = IdColumn(items, item_column, guessed=True).ids()
        if by_content := _fullest(links, ids, [name for name in others if name not in dict(ways).values()]):
            ways.append((item_column, by_content))
    best: tuple[int, Links] | None = None
    for column, here in ways:
        pairs = links.frame.select(key=_key(here), item_id=pl.col(there))
        frame, _ = exact_ids(pairs, ["item_id"], links.name)
        known = frame.drop_nulls().filter(pl.col("item_id") != "").unique(maintain_order=True).collect()
        met = items.frame.select(key=_key(column)).collect().join(known, on="key", how="semi").height
        note = f"{items.name}: {met:,} films were joined through {links.name}, {column} = {here} -> {there}"
        if met and (best is None or met > best[0]):
            best = met, Links(column, known, note)
    if best is None:
        raise UsageError(
            f"--links {links.name}: none of its columns {', '.join(others)} holds ids of {items.name} "
            f"({', '.join(items.columns)}); name the column of {items.name} that it links with --item-id"
        )
    return best[1]


def _key(column: str) -> pl.Expr:
    """An id as links are followed: tt0114709, 0114709 and 114709.0 are the number 114709; other text is itself."""
    text = pl.col(column).cast(pl.String).str.strip_chars()
    number = text.str.extract(r"^(?:tt)?0*(\d+)(?:\.0+)?$", 1)
    return pl.when(text != "").then(pl.coalesce(number, text))


def _alike(links: Table, column: str) -> str | None:
    plain = plain_name(column)
    plain = {"tconst": "imdbid", "imdb": "imdbid", "tmdb": "tmdbid"}.get(plain, plain)
    return next((name for name in links.columns if plain_name(name) == plain), None)


def _fullest(links: Table, ids: pl.Series, columns: list[str]) -> str | None:
    """The one of ``columns`` that holds most of the ``ids``; None where none holds any."""
    wanted = ids.alias("id").to_frame().select(key=_key("id")).unique()
    met = {}
    for name in columns:
        held = links.frame.select(key=_key(name)).unique().collect(engine="streaming")
        met[name] = held.join(wanted, on="key", how="semi").height
    best = max(met, key=lambda name: met[name], default=None)
    return best if best is not None and met[best] else None
