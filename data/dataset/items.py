"""Film tables from anywhere made into the columns of `items.parquet`."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import polars as pl

from ..runtime.errors import BadInput
from ..tables.dates import year
from ..tables.ids import exact_ids
from ..tables.table import TAG
from ..tables.tags import tags_from
from ..tables.words import NotAList, listed, means_nothing, word_lists
from .folder import ITEM_COLUMNS, id_faults, refuse_rows, rows_named

if TYPE_CHECKING:
    from .ratings import RatingTable

# "Heat (1995)", "Show (2015-2018)", "Show (2015– )", "Sequel (1995) (V)"
_YEAR_IN_TITLE = r"\((\d{4})(?:[-–—]\s*(?:\d{4})?\s*)?\)\s*(?:\([A-Z]+\)\s*)?$"

_MARKS = (
    (r"</?(?:p|br|b|i|em|strong|div|span|a|ul|li)\b[^>]*>|&(?:amp|quot|nbsp|lt|gt|#\d+);", "HTML (&amp; or <br>, say)"),
    ("Ã[\u0080-\u00bf]|â€|Â[\u00a0-\u00bf]", "letters such as Ã©, which were UTF-8 once and read as Latin-1"),
)


def year_in_title(title: pl.Expr) -> pl.Expr:
    """The year that closes a MovieLens title, as Int32; null where there is none."""
    return title.str.extract(_YEAR_IN_TITLE, 1).cast(pl.Int32)


def tidy_items(
    raw: pl.LazyFrame, name: str, *, genre_separator: str | None = None, titled_years: bool = True
) -> tuple[pl.DataFrame, list[str]]:
    """Give a film table the columns and types of `items.parquet` (ids still text) and ``row``, and warnings.

    ``raw`` has row, item_id, any of the other columns, and columns for tags as `Table.renamed` names them. A text,
    poster, year or word that is empty or says N/A, NaN and the like becomes null, a missing title "", a missing list of
    genres or tags []. Without a year it is read off a title that ends in it, if ``titled_years``. BadInput names rows
    without a valid id, and rows whose lists cannot be read.
    """
    raw, warnings = exact_ids(raw, ["item_id"], name)
    refuse_rows(raw, id_faults("item_id"), name)
    table = raw.collect(engine="streaming")
    absent = [pl.lit(None, dtype=kind).alias(column) for column, kind in ITEM_COLUMNS.items() if column not in table]
    given = table.with_columns(absent)
    for column in ("title", "text", "poster"):
        cells, marked = _plain_text(given[column], column, name)
        given = given.with_columns(cells.alias(column))
        warnings += _missing_note(marked, column, name)
    genres, notes = _words_of(given["genres"], "genres", name, genre_separator)
    tags, tag_notes = _tags(given, name)
    years, year_notes = _years(given["year"], name)
    title = given["title"].fill_null("")
    items = given.select(
        "row",
        "item_id",
        title,
        pl.coalesce(years, year_in_title(pl.col("title"))).alias("year") if titled_years else years,
        genres,
        tags,
        "text",
        "poster",
    )
    return items, [*warnings, *notes, *tag_notes, *year_notes, *_marked_up(items, name)]


def _marked_up(items: pl.DataFrame, name: str) -> list[str]:
    """What to say of marks that a program left in titles and texts, if in one of a hundred; they stay as they are."""
    notes = []
    for pattern, what in _MARKS:
        held = pl.any_horizontal(pl.col(column).str.contains(pattern).fill_null(False) for column in ("title", "text"))
        found = items.filter(held).height
        if found and 100 * found >= items.height:
            notes.append(f"{name}: {found:,} films have titles or texts with {what}; they stay as they are")
    return notes


def _plain_text(cells: pl.Series, column: str, name: str) -> tuple[pl.Series, int]:
    """One text a row, null where there is none, and how many cells hold a word for that; lists are joined by spaces."""
    if isinstance(cells.dtype, pl.List) and cells.dtype.inner in (pl.String, pl.Null):
        cells = cells.cast(pl.List(pl.String)).list.drop_nulls().list.join(" ")
    if cells.dtype == pl.Binary:  # some programs write text so
        with suppress(pl.exceptions.ComputeError):
            cells = cells.cast(pl.String)
    if cells.dtype.is_nested() or cells.dtype == pl.Binary:
        raise BadInput(f"{name}, column for {column}: expected text, found {cells.dtype}")
    cells = cells.cast(pl.String)
    if cells.str.contains(r"(?s)^\s*\[.*\]\s*$").any():
        cells = pl.Series(cells.name, [_joined(cell) for cell in cells.to_list()], dtype=pl.String)
    frame = cells.to_frame("cell")
    marked = frame.select(means_nothing(pl.col("cell")).fill_null(False))["cell"]
    blank = frame.select(pl.col("cell").str.strip_chars() == "")["cell"].fill_null(True)
    return frame.select(pl.when(~(marked | blank)).then(pl.col("cell")))["cell"], int(marked.sum())


def rated_items(ratings: RatingTable) -> pl.DataFrame:
    """The items of a rating table, known by their ids alone, in the columns of `items.parquet` and ``row``.

    Ids are still text, and the items in the order of their ids. BadInput where there is no rating.
    """
    ids = ratings.with_text_ids().select("item_id").drop_nulls().unique().collect(engine="streaming")
    if ids.is_empty():
        raise BadInput(f"{ratings.name}: there is no rating with an item; a dataset needs at least one")
    number = pl.col("item_id").cast(pl.Int64, strict=False)
    absent = [pl.lit(None, dtype=kind).alias(name) for name, kind in ITEM_COLUMNS.items() if name != "item_id"]
    lists = [pl.col(name).fill_null([]) for name in ("genres", "tags")]
    ordered = ids.sort(number, "item_id", nulls_last=True).with_row_index("row").with_columns(absent)
    return ordered.with_columns(*lists, title=pl.lit("")).select("row", *ITEM_COLUMNS)


def _joined(cell: str | None) -> str | None:
    """The text of a cell; the parts of a list of texts joined by spaces."""
    try:
        value = None if cell is None else listed(cell)
    except NotAList:
        return cell
    if isinstance(value, list) and all(part is None or isinstance(part, str) for part in value):
        return " ".join(part.strip() for part in value if part)
    return cell


def _missing_note(count: int, column: str, name: str) -> list[str]:
    note = f'{name}: {count:,} cells for {column} say "N/A", "NaN" or the like; they count as missing'
    return [note] if count else []


def _words_of(cells: pl.Series, column: str, name: str, separator: str | None) -> tuple[pl.Series, list[str]]:
    words, wrong, first = word_lists(cells, None if separator is None else (separator,))
    _refuse_lists(wrong, first, column, name)
    notes = _missing_note(_marked(cells), column, name)
    if separator is None and cells.dtype == pl.String and not cells.str.contains(r"^\s*[\[{(]").any():
        notes += _uncut_note(words, column, name)
    return words.alias(column), notes


def _uncut_note(words: pl.Series, column: str, name: str) -> list[str]:
    """A sentence where one word of many holds what separates words elsewhere, so that it may be several."""
    each = words.explode().drop_nulls()
    for separator in ("|", ";", ",", "/", " - "):
        held = each.filter(each.str.contains(separator, literal=True))
        if 10 * len(held) >= len(each) and len(held):
            return [
                f"{name}: {len(held):,} words of column {column} hold {separator!r} ({held[0]!r} first) and were not "
                f"cut there: --genre-separator {separator!r} does"
            ]
    return []


def _tags(table: pl.DataFrame, name: str) -> tuple[pl.Series, list[str]]:
    columns = {column.removeprefix(TAG): table[column] for column in table.columns if column.startswith(TAG)}
    if not columns:
        nothing: pl.Series = table["tags"].fill_null([])
        return nothing, []
    tags, wrong = tags_from(columns)
    for column, (rows, first) in wrong.items():
        _refuse_lists(rows, first, column, name)
    notes = [note for column, cells in columns.items() for note in _missing_note(_marked(cells), column, name)]
    return tags, notes


def _marked(cells: pl.Series) -> int:
    """How many cells are nothing but a word for a missing value."""
    if cells.dtype != pl.String:
        return 0
    return int(cells.to_frame("cell").select(means_nothing(pl.col("cell")).sum()).item() or 0)


def _refuse_lists(rows: list[int], first: str, column: str, name: str) -> None:
    if rows:
        raise BadInput(
            f"{name}: {rows_named(rows)} hold what looks like a list in column {column} and cannot be read as one "
            f"({first}); correct them, or name another column"
        )


def _years(given: pl.Series, name: str) -> tuple[pl.Series, list[str]]:
    frame = given.to_frame("year")
    if given.dtype == pl.String:
        frame = frame.with_columns(pl.when(~means_nothing(pl.col("year"))).then(pl.col("year")))
    years = frame.select(year(pl.col("year"), given.dtype))["year"]
    text = pl.col("year").cast(pl.String).str.strip_chars()
    there = frame.select(pl.col("year").is_not_null() & ~text.is_in(["", "0", "0.0", "NaN"]))["year"]
    lost = (there & years.is_null()).arg_true().to_list()
    notes = [f"{name}: {rows_named(lost)} with a year that is not a whole number; it was left empty"] if lost else []
    return years, notes


def without_repeats(items: pl.DataFrame, name: str, *, strict: bool) -> tuple[pl.DataFrame, list[str]]:
    """Keep the first row of each id, with one warning for each id given again; BadInput instead if ``strict``."""
    again = (
        items.filter(pl.col("item_id").is_duplicated()).group_by("item_id", maintain_order=True).agg("row").iter_rows()
    )
    warnings = [f"{name}: id {key!r} is given by {rows_named(rows)}; the first is kept" for key, rows in again]
    if warnings and strict:
        first = warnings[0].removesuffix("; the first is kept")
        raise BadInput(f"{first} ({len(warnings):,} such ids in all); remove the others or drop --strict")
    return items.unique("item_id", keep="first", maintain_order=True), warnings
