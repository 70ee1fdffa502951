"""A MovieLens release: which files of a zip or folder are it, and their lines.

Members of a zip are read by the names in `_MEMBERS` alone: no name in an archive ever becomes a path on disk.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import polars as pl

from ...dataset.ratings import RatingTable
from ...runtime.disk import sha256_of
from ...runtime.errors import BadInput
from ...tables.delimited import ROW, scan_text
from ..source_files import member_on_disk, members_of

SCALE = (0.5, 5.0)
FOLDS = ("u1", "u2", "u3", "u4", "u5", "ua", "ub")


@dataclass
class Release:
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


def find_release(source: Path, scratch: Path) -> Release:
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
            releases.append(Release(source, generation, wanted, scratch))
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
