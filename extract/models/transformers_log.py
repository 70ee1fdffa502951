"""What transformers prints while models load, kept from the terminal: what matters of it is raised or reported."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bar, no loading report and no warning."""
    from transformers.utils import logging

    hub: Any = logging
    verbosity, bar = hub.get_verbosity(), hub.is_progress_bar_enabled()
    hub.set_verbosity(hub.CRITICAL)
    hub.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        hub.set_verbosity(verbosity)
        if bar:
            hub.enable_progress_bar()
