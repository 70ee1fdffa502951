"""The files of a known source by their names, wherever they lie in a folder or a zip."""

from __future__ import annotations

import zipfile
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from ..runtime.disk import sha256_of
from ..runtime.errors import BadInput
from ..runtime.zip_archives import ZIP_FAULTS, files_in_zip, unpack_file
from ..tables.opening import open_table

if TYPE_CHECKING:
    from pathlib import Path

    from ..tables.delimited import Layout
    from ..tables.table import Table

_DEEPEST = 3


class SourceFiles:
    """A folder or zip of one source. No name in a zip ever becomes a path on disk: a member gets a name of ours."""

    def __init__(self, source: Path, scratch: Path) -> None:
        if not source.exists():
            raise BadInput(f"{source}: no such file or folder")
        self.source, self.scratch = source, scratch
        self.used: list[Path] = []
        self._entries: list[tuple[str, Path | zipfile.ZipInfo]] = []
        if source.is_dir():
            for file in sorted(source.rglob("*")):
                if file.is_file() and len(file.relative_to(source).parts) <= _DEEPEST:
                    self._entries.append((file.name, file))
        elif zipfile.is_zipfile(source):
            self._entries = [(entry.filename.rpartition("/")[2], entry) for entry in members_of(source)]
        else:
            raise BadInput(f"{source}: expected a folder or a .zip of the source's files, found another file")

    @property
    def name(self) -> str:
        """What messages call the source."""
        return self.source.resolve().stem if self.source.is_file() else self.source.resolve().name

    def all(self, *patterns: str) -> list[Path]:
        """The files that match any of the patterns (in any case), in the order of their names."""
        wanted = [
            (name, entry)
            for name, entry in sorted(self._entries, key=lambda one: one[0])
            if any(fnmatchcase(name.casefold(), pattern.casefold()) for pattern in patterns)
        ]
        return [self._on_disk(name, entry) for name, entry in wanted]

    def find(self, *patterns: str) -> Path | None:
        """The file of the first pattern that any matches; BadInput where several match it."""
        for pattern in patterns:
            found = [name for name, _ in self._entries if fnmatchcase(name.casefold(), pattern.casefold())]
            if len(found) > 1:
                raise BadInput(f"{self.source}: expected one {pattern}, found {', '.join(sorted(found)[:5])}; keep one")
            if found:
                return self.all(pattern)[0]
        return None

    def need(self, *patterns: str) -> Path:
        """The same; BadInput where there is none."""
        found = self.find(*patterns)
        if found is None:
            raise BadInput(
                f"{self.source}: expected a file {' or '.join(patterns)}, found none; unpack the whole source"
            )
        return found

    def table(self, file: Path, encoding: str = "utf-8", layout: Layout | None = None) -> Table:
        """Open one of the files as a table."""
        return open_table(file, self.scratch, encoding, layout)

    def sources(self) -> list[dict[str, str]]:
        """Name and SHA-256 of the zip, or of the folder's files that were read."""
        files = [self.source] if self.source.is_file() else list(dict.fromkeys(self.used))
        return [{"name": file.name, "sha256": sha256_of(file)} for file in files]

    def _on_disk(self, name: str, entry: Path | zipfile.ZipInfo) -> Path:
        if not isinstance(entry, zipfile.ZipInfo):
            self.used.append(entry)
            return entry
        number = next(place for place, (_, other) in enumerate(self._entries) if other is entry)
        suffixes = "".join(part for part in name[name.find(".") :].split(" ")[0] if part.isalnum() or part in "._")
        copy = self.scratch / f"source-{number}{suffixes[-24:]}"
        return member_on_disk(self.source, entry, name, copy)


def members_of(source: Path) -> list[zipfile.ZipInfo]:
    """The files in the zip ``source``; BadInput where its directory is damaged or of a version that is not known."""
    try:
        return files_in_zip(source)
    except ZIP_FAULTS as fault:
        raise BadInput(f"{source} is not a whole zip archive ({fault}): fetch it again") from None


def member_on_disk(source: Path, entry: zipfile.ZipInfo, name: str, copy: Path) -> Path:
    """Unpack one member of the zip ``source`` to ``copy``, unless it is there; messages call it ``name``.

    BadInput where it is damaged, encrypted or compressed in a way that is not known.
    """
    if not copy.exists():
        try:
            unpack_file(source, entry, copy)
        except ZIP_FAULTS as fault:
            raise BadInput(f"{source}, member {name}: {fault}; fetch the archive again") from None
    return copy
