"""Refuse a file of a run folder that is missing or damaged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
from safetensors import SafetensorError

from ...data.runtime.errors import BadInput


@contextmanager
def readable(file: Path, missing: str | None = None) -> Iterator[None]:
    """BadInput where reading ``file`` inside fails; ``missing`` is the refusal where it does not exist."""
    try:
        yield
    except FileNotFoundError:
        raise BadInput(missing or f"{file} is missing: train the run again") from None
    except (SafetensorError, pl.exceptions.PolarsError, OSError, KeyError, ValueError) as fault:
        raise BadInput(f"{file} cannot be read ({str(fault).splitlines()[0]}): train the run again") from None
