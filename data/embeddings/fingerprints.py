"""How two fingerprints of embeddings differ, field by field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """The fields in which two fingerprints differ, each as "field: expected ..., found ..."."""
    return [
        f"{field}: expected {_short(wanted.get(field))}, found {_short(found.get(field))}"
        for field in sorted({*wanted, *found})
        if wanted.get(field) != found.get(field)
    ]


def _short(value: Any) -> str:
    text = repr(value)
    return f"{text[:13]}...'" if len(text) == 66 else text
