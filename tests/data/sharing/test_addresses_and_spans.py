"""Addresses, options and byte spans."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cinefuse.data.remote.address import hub_place
from cinefuse.data.remote.remote_file import Span, coalesced
from cinefuse.data.runtime.errors import BadInput, UsageError
from cinefuse.data.sharing.selection import selection_from_only
from cinefuse.tests.support.faulty_file_server import TEXT, Web, bring, unavailable


@pytest.mark.parametrize("only", [["plots"], ["text/tokens"], ["text", "image/cls"], [""], ["/cls"]])
def test_what_only_does_not_know_is_refused(only: list[str]) -> None:
    with pytest.raises(UsageError, match="--only"):
        selection_from_only(only, None)


def test_an_address_of_the_hub_is_distinguished_from_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "backup").mkdir()
    place = hub_place("hf://datasets/owner/films@refs%2Fpr%2F1/v2/films.h5")
    assert place is not None
    assert (place.repo, place.revision, place.path) == ("owner/films", "refs/pr/1", "v2/films.h5")
    assert place.shown == "hf://datasets/owner/films@refs%2Fpr%2F1/v2/films.h5"
    assert hub_place("owner/films") is not None
    for path in ("backup/films", "owner/films.h5", "./owner/films", "/owner/films", "s3://owner/films"):
        assert hub_place(path) is None


def test_coalesced_spans_hold_all_that_is_wanted_and_little_else() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        starts = np.sort(rng.integers(0, 10**6, 40))
        spans = [Span(start, start + length) for start, length in zip(starts, rng.integers(0, 9000, 40), strict=True)]
        wanted = set().union(*(range(span.start, span.stop) for span in spans))
        joined = coalesced(spans, widest_gap=5000, waste=0.05, least=0)
        held = [byte for span in joined for byte in range(span.start, span.stop)]
        assert held == sorted(set(held))
        assert wanted <= set(held)
        assert len(held) <= 1.05 * len(wanted)


def test_the_label_of_a_part_file_is_plain_json(file: Path, web: Web, tmp_path: Path) -> None:
    web.spoil = unavailable
    with pytest.raises(BadInput):
        bring(web.serve(file.read_bytes()), tmp_path / "out.h5", TEXT, tries=1)
    label = json.loads((tmp_path / "out.h5.part.json").read_text())
    assert set(label) == {"source", "size", "version", "wanted"}
