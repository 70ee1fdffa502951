"""Posters by what they are called: images of a folder, of archives, of a Parquet column, found by path or by id."""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from ...runtime.errors import BadInput
from ...runtime.parquet import parquet_schema, scan_parquet
from ...tables.familiar import familiar_column
from ...tables.ids import exact_ids
from .files import poster_inside
from .members import ARCHIVES, archive_members
from .parquet_images import image_column, parquet_references

if TYPE_CHECKING:
    from collections.abc import Iterable

POSTER_SUFFIXES = ("jpg", "jpeg", "png", "webp", "gif", "avif")
_DRIVE = re.compile("[A-Za-z]:/")
ADDRESS = re.compile(r"(?:https?:)?//", re.IGNORECASE)


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

        Of an address, a path of TMDB's ("/abc.jpg") and a path on another computer ("C:\\posters\\abc.jpg") the last
        name counts: so are they called here. Windows's backslashes are slashes.
        """
        slashed = poster.replace("\\", "/")
        last = slashed.rpartition("/")[2]
        elsewhere = ADDRESS.match(slashed) or slashed.startswith("/") or _DRIVE.match(slashed)
        for path in dict.fromkeys((poster, slashed, last) if last and elsewhere else (poster, slashed)):
            if self.is_folder and poster_inside(self.root, path) is not None:
                return path
            if (found := self.named.get(nfc(path))) is not None:
                return found
            if self.is_folder and (other := _otherwise_spelt(self.root, path)) is not None:
                return other
        return None

    def _add(self, entries: Iterable[tuple[str, str]]) -> None:
        """``entries``: names, and what refers to them. The usual suffix of an id wins over the others."""
        rank: dict[str, int] = {}
        for name, reference in entries:
            plain = nfc(name)
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
                    self.by_id.setdefault(nfc(item), reference)
        dtype = schema[column]
        if isinstance(dtype, pl.Struct) and any(part.name == "path" for part in dtype.fields):
            paths = scan_parquet(file).select(pl.col(column).struct.field("path")).collect()["path"].to_list()
            found = [(str(path), ref) for path, ref in zip(paths, references, strict=True) if path and ref]
            self._add(found)


def nfc(name: str) -> str:
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
        name = next((one for one in names if nfc(one) == nfc(part)), None)
        if name is None:
            return None
        here, spelt = here / name, spelt / name
    return spelt.as_posix() if poster_inside(root, spelt.as_posix()) is not None else None
