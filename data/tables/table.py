"""Tables from anywhere: CSV, TSV, Parquet or JSON lines, read lazily, with their own column names mapped to ours."""

from __future__ import annotations

import codecs
import json
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ..runtime.errors import BadInput, UsageError
from .tags import FAMILIAR_TAG_COLUMNS, tags_from

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

FAMILIAR: dict[str, tuple[str, ...]] = {
    "item_id": ("item_id", "movie_id", "movieId", "itemId", "id"),
    "title": ("title", "name"),
    "year": ("year",),
    "genres": ("genres", "genre"),
    "text": ("text", "plot", "overview", "description"),
    "poster": ("poster", "image", "poster_path"),
    "user_id": ("user_id", "userId"),
    "rating": ("rating",),
    "timestamp": ("timestamp",),
}
# Beside the source's own columns, so a name that no source has.
ROW = "__row"
_LINES_AT_ONCE = 50_000
_LONGEST_HEADER = 1 << 20


@dataclass(frozen=True)
class Table:
    """A table not yet read: ``frame`` has ROW (from 0) and the source's columns; CSV and JSON lines give text.

    ``replaced`` counts characters that are no Unicode (lone surrogates in JSON) and became U+FFFD.
    """

    name: str
    frame: pl.LazyFrame
    replaced: int = 0

    @property
    def columns(self) -> list[str]:
        """The source's own column names."""
        return [name for name in self.frame.collect_schema().names() if name != ROW]

    def column_for(self, ours: str, chosen: str | None = None, *, required: bool = False) -> str | None:
        """Name the source's column for one of ours: the ``chosen`` one, else the first familiar name it has.

        A familiar name may be in capitals, or have spaces around it. UsageError where the chosen column does not exist,
        or none does and one is ``required``.
        """
        option = "--" + ours.replace("_", "-")
        if chosen is not None:
            if chosen not in self.columns:
                raise UsageError(f"{option} {chosen}: {self.name} has no such column; it has {', '.join(self.columns)}")
            return chosen
        plainly = {name.strip().casefold(): name for name in reversed(self.columns)}
        found = next((plainly[name.casefold()] for name in FAMILIAR[ours] if name.casefold() in plainly), None)
        if found is None and required:
            raise UsageError(f"{self.name} has no column for {ours}; name it with {option}: {', '.join(self.columns)}")
        return found

    def tag_columns(self, chosen: Sequence[str] = ()) -> list[str]:
        """Name the source's columns that give tags: the ``chosen`` ones, else all familiar ones it has.

        UsageError where a chosen column does not exist.
        """
        familiar = [name for name in self.columns if name.strip().casefold() in FAMILIAR_TAG_COLUMNS]
        return [str(self.column_for("tags", name)) for name in chosen] or familiar

    def warnings(self) -> list[str]:
        """What was changed in reading, one sentence each."""
        if not self.replaced:
            return []
        return [f"{self.name}: {self.replaced:,} lone surrogates are no characters; each became U+FFFD"]

    def renamed(self, mapping: Mapping[str, str | None], tags: Sequence[str] = ()) -> pl.LazyFrame:
        """``row`` and our columns, each taken from theirs in ``mapping`` (ours -> theirs, None is left out).

        The columns ``tags`` become one column of that name, List(String), where there are any.
        """
        taken = [pl.col(theirs).alias(ours) for ours, theirs in mapping.items() if theirs]
        if tags:
            taken.append(tags_from(tags, self.frame.collect_schema()).alias("tags"))
        return self.frame.select(pl.col(ROW).alias("row"), *taken)


def open_table(file: Path, scratch: Path, encoding: str = "utf-8") -> Table:
    """Open a table by its suffix: .csv (also with semicolons or tabs), .tsv, .parquet, .jsonl or .ndjson.

    Text that is not valid in ``encoding`` is refused (BadInput naming the line), never guessed. ``scratch`` takes
    re-encoded copies, which are as large as the file.
    """
    if not file.is_file():
        raise BadInput(f"{file}: {'expected a table, found a folder' if file.is_dir() else 'no such file'}")
    suffix = file.suffix.lower()
    try:
        if suffix == ".parquet":
            table = Table(file.name, pl.scan_parquet(file).with_row_index(ROW))
        elif suffix in (".jsonl", ".ndjson"):
            table = _open_json_lines(file, scratch, encoding)
        elif suffix in (".csv", ".tsv"):
            text = _as_utf8(file, scratch, encoding)
            table = Table(file.name, scan_text(text, "\t" if suffix == ".tsv" else _separator_of(text, file)))
        else:
            raise BadInput(f"{file}: expected .csv, .tsv, .parquet, .jsonl or .ndjson, found {suffix or 'no suffix'!r}")
        table.columns  # noqa: B018  a table that cannot be read is found out here
    except (pl.exceptions.PolarsError, OSError) as fault:
        raise BadInput(f"{file} cannot be read as a table: {str(fault).splitlines()[0]}") from None
    return table


def scan_text(file: Path, separator: str, names: list[str] | None = None, *, quotes: bool = True) -> pl.LazyFrame:
    """Scan delimited UTF-8 text, all columns String, with ROW from 0; wholly empty lines are left out.

    ``names`` are the columns of a file without a header.
    """
    frame = pl.scan_csv(
        file,
        separator=separator,
        has_header=names is None,
        new_columns=names,
        infer_schema=False,
        quote_char='"' if quotes else None,
        row_index_name=ROW,
    )
    return frame.filter(~pl.all_horizontal(pl.exclude(ROW).is_null()))


def _separator_of(text: Path, file: Path) -> str:
    """What stands between the columns of a .csv: a comma, or what its header has instead, as spreadsheets write it.

    BadInput where the lines end as no program of this century ends them.
    """
    with text.open(encoding="utf-8", newline="\n") as lines:
        header = lines.readline(_LONGEST_HEADER).rstrip("\r\n")
    if "\r" in header:
        raise BadInput(f"{file}: its lines end with CR alone; save it with ordinary line ends (LF, or CR LF)")
    return next((separator for separator in ",;\t" if separator in header), ",")


def _as_utf8(file: Path, scratch: Path, encoding: str) -> Path:
    """Check a text file's encoding to the end; return it, or a UTF-8 copy of it where it has another one."""
    try:
        name = codecs.lookup(encoding).name
    except LookupError:
        raise UsageError(f"--encoding {encoding}: unknown; for instance utf-8, latin-1, cp1252, utf-16") from None
    copy = None if name == "utf-8" else Path(tempfile.mkdtemp(dir=scratch)) / file.name
    decoder = codecs.getincrementaldecoder(name)()
    line = 1
    with file.open("rb") as source, copy.open("wb") if copy else nullcontext() as target:
        while True:
            block = source.read(1 << 22)
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as fault:
                line += fault.object[: fault.start].count(b"\n")
                byte = fault.object[fault.start]
                wide = fault.object.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
                likely = "--encoding utf-16" if wide else "for instance --encoding cp1252 or --encoding latin-1"
                raise BadInput(
                    f"{file} is not valid {name}: byte 0x{byte:02x} in line {line:,}; say how it is encoded, {likely}"
                ) from None
            line += block.count(b"\n")
            if target:
                target.write(text.encode("utf-8", "replace"))
            if not block:
                return copy or file


def _open_json_lines(file: Path, scratch: Path, encoding: str) -> Table:
    """Rewrite JSON lines as Parquet in ``scratch``, block by block: numbers keep their digits, so ids stay exact."""
    folder = Path(tempfile.mkdtemp(dir=scratch))
    names: dict[str, bool] = {}
    replaced = 0
    blocks: list[Path] = []
    for block in _json_blocks(file, _as_utf8(file, scratch, encoding)):
        for record in block:
            for name, value in record.items():
                names[name] = names.get(name, False) or isinstance(value, list)
                replaced += _lone_surrogates(value)
        path = folder / f"{len(blocks):06}.parquet"
        columns = {name: [_plain(record.get(name)) for record in block] for name in names}
        _block_frame(columns).write_parquet(path)
        blocks.append(path)
    if not names:
        raise BadInput(f"{file} holds no records; expected one JSON object a line")
    schema: dict[str, pl.DataType] = {}
    for name, listed in names.items():
        schema[name] = pl.List(pl.String) if listed else pl.String()
    frames = [_in_schema(pl.scan_parquet(path), schema) for path in blocks]
    return Table(file.name, pl.concat(frames).with_row_index(ROW), replaced)


def _json_blocks(file: Path, text: Path) -> Iterator[list[dict[str, Any]]]:
    block: list[dict[str, Any]] = []
    with text.open(encoding="utf-8-sig", newline="\n") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line, parse_int=str, parse_float=str)
            except (ValueError, RecursionError):
                raise BadInput(f"{file}, line {number:,}: not a JSON object; expected one object a line") from None
            if not isinstance(record, dict):
                raise BadInput(f"{file}, line {number:,}: expected a JSON object, found {type(record).__name__}")
            block.append(record)
            if len(block) == _LINES_AT_ONCE:
                yield block
                block = []
    if block:
        yield block


def _plain(value: Any) -> str | list[str] | None:
    if value is None:
        return None
    if isinstance(value, list):
        return [part for part in map(_plain, value) if isinstance(part, str)]
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _lone_surrogates(value: Any) -> int:
    if isinstance(value, list):
        return sum(map(_lone_surrogates, value))
    if not isinstance(value, str):
        return 0
    return sum("\ud800" <= character <= "\udfff" for character in value)


def _block_frame(columns: dict[str, list[Any]]) -> pl.DataFrame:
    series = []
    for name, values in columns.items():
        if any(isinstance(value, list) for value in values):
            values = [[value] if isinstance(value, str) else value for value in values]
            series.append(pl.Series(name, values, dtype=pl.List(pl.String)))
        else:
            series.append(pl.Series(name, values, dtype=pl.String))
    return pl.DataFrame(series)


def _in_schema(frame: pl.LazyFrame, schema: dict[str, pl.DataType]) -> pl.LazyFrame:
    """Give a block the columns and list types found anywhere in the file."""
    have = frame.collect_schema()
    columns = []
    for name, dtype in schema.items():
        if name not in have:
            columns.append(pl.lit(None, dtype=dtype).alias(name))
        elif have[name] != dtype:
            columns.append(pl.concat_list(name).alias(name))
        else:
            columns.append(pl.col(name))
    return frame.select(columns)
