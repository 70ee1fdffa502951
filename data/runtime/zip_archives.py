"""Zip archives: which files are in one, and one of them unpacked, whatever is wrong with the archive."""

from __future__ import annotations

import lzma
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Final

# RuntimeError: a member is encrypted; its subclass NotImplementedError: a version or compression that is not known
ZIP_FAULTS: Final = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError)


def files_in_zip(source: Path) -> list[zipfile.ZipInfo]:
    """The entries of all files but those that the Finder of macOS adds. Raises ZIP_FAULTS."""
    with zipfile.ZipFile(source) as archive:
        return [
            entry
            for entry in archive.infolist()
            if not entry.filename.endswith(("/", ".DS_Store")) and "__MACOSX/" not in entry.filename
        ]


def unpack_file(source: Path, entry: zipfile.ZipInfo, copy: Path) -> None:
    """Write one file of the zip ``source`` to ``copy``. Raises ZIP_FAULTS, and OSError for the disk alone."""
    with zipfile.ZipFile(source) as archive, archive.open(entry) as member, copy.open("wb") as target:
        try:
            shutil.copyfileobj(member, target, 1 << 20)
        except OSError as fault:
            if fault.errno is not None:
                raise
            raise zipfile.BadZipFile(str(fault)) from None  # damaged data of bzip2
