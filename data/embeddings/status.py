"""What became of one item's plot or poster: a status, and a reason where it is not plainly ok."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """State of one row of one modality, stored as uint8. The numbers are part of the file format."""

    PENDING = 0
    OK = 1
    TRUNCATED = 2
    MISSING = 3
    FAILED = 4

    @property
    def has_embedding(self) -> bool:
        """Whether the row holds a real embedding (otherwise its cls and tokens are NaN)."""
        return self in (Status.OK, Status.TRUNCATED)


class Reason(IntEnum):
    """Why a row has its status, stored as uint8. The numbers are part of the file format; never reuse one."""

    NONE = 0
    NOT_GIVEN = 1
    EMPTY = 2
    TOO_LONG = 3
    NOT_FOUND = 4
    OUTSIDE_FOLDER = 5
    NOT_A_FILE = 6
    UNREADABLE = 7
    FILE_TOO_LARGE = 8
    NOT_AN_IMAGE = 9
    FORMAT_NOT_ALLOWED = 10
    TOO_MANY_PIXELS = 11
    BROKEN_IMAGE = 12
    NOT_FINITE = 13
    CHANGED = 14

    @property
    def sentence(self) -> str:
        """The reason as a person reads it."""
        return _SENTENCES[self]


_SENTENCES = {
    Reason.NONE: "",
    Reason.NOT_GIVEN: "the catalogue gives none",
    Reason.EMPTY: "empty, or nothing but white space",
    Reason.TOO_LONG: "longer than the model reads; the rest was cut off",
    Reason.NOT_FOUND: "no such file",
    Reason.OUTSIDE_FOLDER: "the path leads out of the poster folder",
    Reason.NOT_A_FILE: "not a regular file",
    Reason.UNREADABLE: "the file could not be read",
    Reason.FILE_TOO_LARGE: "more bytes than a poster may have",
    Reason.NOT_AN_IMAGE: "not an image",
    Reason.FORMAT_NOT_ALLOWED: "an image format other than JPEG, PNG, WebP, GIF and AVIF",
    Reason.TOO_MANY_PIXELS: "more pixels than a poster may have",
    Reason.BROKEN_IMAGE: "the image data is truncated or damaged",
    Reason.NOT_FINITE: "the embedding does not fit the storage dtype (NaN or Inf)",
    Reason.CHANGED: "the file changed while the job ran",
}
