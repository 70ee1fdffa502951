"""Every refusal a user can meet, each with the exit code a shell or scheduler sees."""

from __future__ import annotations


class CinefuseError(Exception):
    """A refusal in one line: the thing, what is wrong with it (expected, found), and what to do.

    Subclasses differ in ``exit_code`` alone, so that callers catch by kind and schedulers decide by number.
    """

    exit_code = 1


class UsageError(CinefuseError):
    """Options that contradict each other or name something unknown."""

    exit_code = 2


class BadInput(CinefuseError):
    """A table, model folder or poster folder that cannot be used as it is."""

    exit_code = 3


class DamagedFile(CinefuseError):
    """An embedding file that is truncated, altered, hostile, or not an embedding file at all."""

    exit_code = 4


class FingerprintMismatch(CinefuseError):
    """An embedding file made by another model, revision or preprocessing than the one wanted."""

    exit_code = 5


class Busy(CinefuseError):
    """Another process is writing the same file."""

    exit_code = 6


class NoSpace(CinefuseError):
    """The disk cannot hold what is about to be written."""

    exit_code = 7


class Interrupted(CinefuseError):
    """Stopped by the user; everything finished so far is kept."""

    exit_code = 130


class Terminated(Interrupted):
    """Stopped by SIGTERM, as schedulers send it; everything finished so far is kept."""

    exit_code = 143
