"""Where posters lie: a folder, archives, or a Parquet column; found by path or by id, read from there or copied."""

from __future__ import annotations

import os
import re
import shutil
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from ..runtime.errors import BadInput
from ..runtime.parquet import parquet_schema, scan_parquet
from ..tables.familiar import familiar_column
from ..tables.ids import exact_ids
from .poster_members import ARCHIVES, Member, MemberFault, archive_members

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

POSTER_SUFFIXES = ("jpg", "jpeg", "png", "webp", "gif", "avif")
_ADDRESS = re.compile(r"(?:https?:)?//", re.IGNORECASE)
_IMAGE_COLUMNS = ("image", "poster", "img", "jpg", "png", "webp", "picture", "photo")


@dataclass
class PosterSource:
    """Posters by what they are called: ``root`` is where references start; names are compared in NFC.

    macOS writes file names decomposed (NFD), tables mostly composed: without this "é.jpg" is not "é.jpg".
    """

    root: Path
    named: dict[str, str] = field(default_factory=dict)
    by_id: dict[str, str] = field(default_factory=dict)
    is_folder: bool = False

    @classmethod
    def open(cls, place: Path) -> PosterSource:
        """Look at a folder of images or of archives, at one tar, zip or Parquet file. BadInput where it is neither."""
        if place.is_dir():
            source = cls(place, is_folder=True)
            source._add((name, name) for name in sorted(entry.name for entry in place.iterdir()))
            return source
        source = cls(place.parent)
        if not place.is_file():
            raise BadInput(f"--posters {place}: no such folder or file")
        if place.suffix.lower() in ARCHIVES:
            source._add_archive(place)
        elif place.suffix.lower() == ".parquet":
            source._add_parquet(place)
            if not source.by_id:
                raise BadInput(
                    f"--posters {place}: no column of images (bytes, or a struct with bytes) beside a column of ids"
                )
        else:
            raise BadInput(f"--posters {place}: expected a folder, .tar, .zip or .parquet")
        return source

    def look_into_archives(self) -> None:
        """Take in the archives and Parquet files of a folder that has no image called after an id."""
        for file in sorted(self.root.iterdir()) if self.is_folder and not self.by_id else ():
            if file.suffix.lower() in ARCHIVES:
                self._add_archive(file)
            elif file.suffix.lower() == ".parquet":
                self._add_parquet(file)

    def at(self, poster: str) -> str | None:
        """The reference of the poster at this path; None where there is none.

        Of an address, and of a path of TMDB's ("/abc.jpg"), the last name counts: so are they called once downloaded.
        """
        last = poster.rpartition("/")[2]
        for path in (poster, last) if last and (_ADDRESS.match(poster) or poster == f"/{last}") else (poster,):
            if self.is_folder and poster_inside(self.root, path) is not None:
                return path
            if (found := self.named.get(_nfc(path))) is not None:
                return found
            if self.is_folder and (other := _otherwise_spelt(self.root, path)) is not None:
                return other
        return None

    def _add(self, entries: Iterable[tuple[str, str]]) -> None:
        """``entries``: names, and what refers to them. The usual suffix of an id wins over the others."""
        rank: dict[str, int] = {}
        for name, reference in entries:
            plain = _nfc(name)
            self.named[plain] = reference
            base = plain.rpartition("/")[2]
            stem, _, suffix = base.rpartition(".")
            if suffix.lower() not in POSTER_SUFFIXES:
                continue
            self.named.setdefault(base, reference)
            order = POSTER_SUFFIXES.index(suffix.lower())
            for key in dict.fromkeys((stem, base.partition(".")[0])):  # WebDataset: "862.poster.jpg" is of 862
                if order < rank.get(key, len(POSTER_SUFFIXES)):
                    self.by_id[key], rank[key] = reference, order

    def _add_archive(self, file: Path) -> None:
        self._add((name, str(member)) for name, member in archive_members(file))

    def _add_parquet(self, file: Path) -> None:
        schema = parquet_schema(file)
        column = image_column(schema)
        if column is None:
            return
        key = familiar_column(list(schema), "item_id")
        references = parquet_references(file, column)
        if key is not None:
            ids, _ = exact_ids(scan_parquet(file).select(id=key), ["id"], file.name)
            for item, reference in zip(ids.collect()["id"].to_list(), references, strict=True):
                if item is not None and reference is not None:
                    self.by_id.setdefault(_nfc(item), reference)
        dtype = schema[column]
        if isinstance(dtype, pl.Struct) and any(part.name == "path" for part in dtype.fields):
            paths = scan_parquet(file).select(pl.col(column).struct.field("path")).collect()["path"].to_list()
            found = [(str(path), ref) for path, ref in zip(paths, references, strict=True) if path and ref]
            self._add(found)


def image_column(schema: Mapping[str, pl.DataType]) -> str | None:
    """The column of a Parquet table that holds images: bytes, or a struct with bytes as the Hub has it."""
    found = [name for name, dtype in schema.items() if holds_images(dtype)]
    named = [name for name in found if name.casefold() in _IMAGE_COLUMNS]
    return next(iter(named or found), None)


def holds_images(dtype: pl.DataType) -> bool:
    """Whether a column of this type holds images as bytes."""
    return dtype == pl.Binary or (isinstance(dtype, pl.Struct) and _has_bytes(dtype))


def _has_bytes(dtype: pl.Struct) -> bool:
    return any(part.name == "bytes" and part.dtype == pl.Binary for part in dtype.fields)


def parquet_references(file: Path, column: str) -> list[str | None]:
    """The reference of every row's image, in the file's order; None where the cell is empty. No image is read."""
    import pyarrow.parquet as pq

    dtype = parquet_schema(file)[column]
    cell = pl.col(column)
    inside = f"{column}.bytes" if isinstance(dtype, pl.Struct) else column
    given = cell.struct.field("bytes").is_not_null() if isinstance(dtype, pl.Struct) else cell.is_not_null()
    there = scan_parquet(file).select(given.alias("there")).collect(engine="streaming")["there"].to_list()
    metadata = pq.read_metadata(file)
    references: list[str | None] = []
    for group in range(metadata.num_row_groups):
        for row in range(metadata.row_group(group).num_rows):
            known = there[len(references)]
            references.append(str(Member(file.name, column=inside, group=group, row=row)) if known else None)
    return references


def images_of_rows(file: Path, column: str, rows: pl.Series) -> pl.Series:
    """The references of images in a Parquet ``column``, for rows (from 0) of the table; a path where there is no image.

    BadInput where the table is not a Parquet file itself.
    """
    if file.suffix.lower() != ".parquet":
        raise BadInput(
            f"{file}, column {column}: images inside a table are read from .parquet alone; name another column"
        )
    references = pl.Series("poster", parquet_references(file, column), dtype=pl.String)
    dtype = parquet_schema(file)[column]
    if isinstance(dtype, pl.Struct) and any(part.name == "path" for part in dtype.fields):
        paths = scan_parquet(file).select(pl.col(column).struct.field("path").cast(pl.String)).collect().to_series()
        references = references.fill_null(paths).alias("poster")
    return references.gather(rows)


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
            reference = source.by_id.get(_nfc(item))
            if poster is not None:
                elsewhere.append(poster)
                by_id += reference is not None
                reference = reference or (None if _ADDRESS.match(poster) else poster)
        found.append(reference)
    notes = []
    if elsewhere and (by_id or _ADDRESS.match(elsewhere[0])):
        notes.append(
            f"{name}: {len(elsewhere):,} of {items.height - items['poster'].null_count():,} values of column "
            f"{column or 'poster'} ({elsewhere[0]!r} first) are no paths inside {source.root}; posters were looked for "
            f"by id, and {by_id:,} of these found"
        )
    if source.by_id and not any(found):
        notes.append(
            f"{name}: none of the {len(source.by_id):,} images in {source.root} ({next(iter(source.by_id))!r} first) "
            f"is called after an id of the films ({items['item_id'][0]!r} first): there are no posters"
        )
    return items.with_columns(pl.Series("poster", found, dtype=pl.String)), notes


def without_addresses(items: pl.DataFrame, column: str, name: str) -> tuple[pl.DataFrame, list[str]]:
    """Leave out posters that are addresses of the web, or TMDB's paths: they are no files; and say how to get them."""
    poster = pl.col("poster")
    addresses = items.filter(poster.str.contains(f"(?i){_ADDRESS.pattern}"))
    slashed = items.filter(poster.str.contains(r"^/[^/]+\.(?:jpg|png|svg|webp)$"))
    if addresses.is_empty() and slashed.is_empty():
        return items, []
    notes = []
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
    gone = pl.concat([addresses, slashed]).select("item_id").unique()
    kept = items.join(gone.with_columns(gone=True), on="item_id", how="left", maintain_order="left")
    return kept.with_columns(poster=pl.when(pl.col("gone").is_null()).then(poster)).drop("gone"), notes


def _nfc(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _otherwise_spelt(root: Path, path: str) -> str | None:
    """The path as the disk spells it, where a name on the way is the same but for its Unicode normalisation."""
    if path.isascii() or Path(path).is_absolute() or os.pardir in Path(path).parts:
        return None
    here, spelt = root, Path()
    for part in Path(path).parts:
        try:
            names = [entry.name for entry in here.iterdir()]
        except OSError:
            return None
        name = next((one for one in names if _nfc(one) == _nfc(part)), None)
        if name is None:
            return None
        here, spelt = here / name, spelt / name
    return spelt.as_posix() if poster_inside(root, spelt.as_posix()) is not None else None


def poster_inside(root: Path, poster: str) -> Path | None:
    """The file a relative poster path leads to, if it is a regular file inside ``root`` (both resolved); else None.

    Of a poster inside an archive or a Parquet file it is that file.
    """
    member = Member.parse(poster)
    path = poster if member is None else member.file
    if Path(path).is_absolute():
        return None
    try:
        file = (root / path).resolve()
        return file if file.is_relative_to(root.resolve()) and file.is_file() else None
    except (OSError, ValueError, RuntimeError):  # the last is a loop of links, until Python 3.13
        return None


def poster_bytes(root: Path, poster: str, most: int = 64 * 2**20) -> bytes | None:
    """The bytes of a poster, wherever it lies inside ``root``; None where there is none, or more than ``most``."""
    file = poster_inside(root, poster)
    if file is None:
        return None
    member = Member.parse(poster)
    try:
        if member is None:
            return file.read_bytes() if file.stat().st_size <= most else None
        with file.open("rb") as stream:
            return member.read(stream.fileno(), most)
    except (OSError, MemberFault):
        return None


def copy_posters(posters: list[str], source: Path, folder: Path) -> tuple[str, int]:
    """Copy poster files into ``folder``/posters under their relative paths; archives and Parquet files as they are.

    Gives where the paths start now (relative to ``folder``) and how many were no regular files inside ``source``.
    """
    # Paths that already start with "posters/" need no second folder of that name.
    root = "." if posters and all(Path(poster).parts[:1] == ("posters",) for poster in posters) else "posters"
    (folder / "posters").mkdir()
    missing = 0
    for poster in dict.fromkeys(posters):
        member = Member.parse(poster)
        path = poster if member is None else member.file
        file = poster_inside(source, poster)
        if file is None or os.pardir in Path(path).parts:
            missing += 1
            continue
        target = folder / root / path
        if member is not None and target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    return root, missing


def file_of(poster: str) -> str:
    """The path of the file that a poster lies in: its own, or that of the archive around it."""
    member = Member.parse(poster)
    return poster if member is None else member.file
