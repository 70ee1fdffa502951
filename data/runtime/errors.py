"""Every refusal a user can meet, each with the exit code a shell or scheduler sees."""

from __future__ import annotations


class CinefuseError(Exception):
    """A refusal in one line: the thing, what is wrong with it (expected, found), and what to do.

    Subclasses differ in ``exit_code`` alone, so that callers catch by kind and schedulers decide by number.
    """

    exit_code = 1

    def __init_subclass__(cls, exit_code: int) -> None:
        """Declare the number that a kind of refusal ends the process with."""
        cls.exit_code = exit_code


class UsageError(CinefuseError, exit_code=2):
    """Options that contradict each other or name something unknown."""


class BadInput(CinefuseError, exit_code=3):
    """A table, model folder or poster folder that cannot be used as it is."""


class DamagedFile(CinefuseError, exit_code=4):
    """An embedding file that is truncated, altered, hostile, or not an embedding file at all."""


class FingerprintMismatch(CinefuseError, exit_code=5):
    """An embedding file made by another model, revision or preprocessing than the one wanted."""


class Busy(CinefuseError, exit_code=6):
    """Another process is writing the same file."""


class NoSpace(CinefuseError, exit_code=7):
    """The disk cannot hold what is about to be written."""


class Interrupted(CinefuseError, exit_code=130):
    """Stopped by the user; everything finished so far is kept."""


class Terminated(Interrupted, exit_code=143):
    """Stopped by SIGTERM, as schedulers send it; everything finished so far is kept."""
