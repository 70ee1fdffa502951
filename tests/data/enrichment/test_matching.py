"""Titles as MovieLens, IMDb and TMDB write them, and how sure a match is."""

from __future__ import annotations

import pytest

from cinefuse.data.enrichment.services.matching import Candidate, confidence_in_id, ranked
from cinefuse.data.enrichment.services.wikipedia import plot_in


def sure(title: str, year: int | None, *others: Candidate) -> float:
    return ranked(title, year, others)[0].confidence


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("Salt Road, The (1962)", "The Salt Road"),
        ("Route du sel, La (The Salt Road) (1962)", "The Salt Road"),
        ("Route du sel, La (a.k.a. Salt Road) (1962)", "La route du sel"),
        ("Salt Road (Route du sel, La) (1962)", "La Route du Sel"),
        ("Été à Évian, L' (1962)", "L'Ete a Evian"),
        ("Salt & Road: Part II (1962)", "Salt and Road Part 2"),
        ("SALT ROAD", "Salt Road!"),
    ],
)
def test_one_title_written_in_two_ways_is_one(ours: str, theirs: str) -> None:
    assert sure(ours, 1962, Candidate("1", (theirs,), 1962)) >= 0.9


@pytest.mark.parametrize(
    ("ours", "theirs", "year"),
    [
        ("Northern Pier (1971)", "Northern Pier 2", 1971),
        ("Northern Pier II (1971)", "Northern Pier III", 1971),
        ("Northern Pier (1971)", "Northern Pier", 1999),
        ("Northern Pier (1971)", "Southern Cross", 1971),
    ],
)
def test_sequels_remakes_and_others_are_not_taken(ours: str, theirs: str, year: int) -> None:
    assert sure(ours, 1971, Candidate("1", (theirs,), year)) < 0.8


def test_of_two_of_one_name_the_far_better_known_is_taken_else_neither() -> None:
    known, obscure = Candidate("1", ("Twin",), 1980, votes=900), Candidate("2", ("Twin",), 1980, votes=3)
    assert sure("Twin", 1980, obscure, known) == 1.0
    assert ranked("Twin", 1980, [obscure, known])[0].candidate.service_id == "1"
    assert sure("Twin", 1980, known, Candidate("3", ("Twin",), 1980, votes=400)) < 0.8


def test_an_id_is_believed_where_title_or_year_agrees() -> None:
    assert confidence_in_id("Whatever (1980)", 1980, Candidate("1", ("Quelque chose de whatever",), 1980)) >= 0.8
    assert confidence_in_id("Twin (1980)", 1980, Candidate("1", ("Twin",), 1990)) >= 0.9
    assert confidence_in_id("Twin (1980)", 1980, Candidate("1", ("Quarry",), 1930)) < 0.5
    assert confidence_in_id("", None, Candidate("1", ("Quarry",), 1930)) == 0.9


def test_the_plot_is_cut_out_of_an_article_with_its_subsections() -> None:
    article = "Lead.\n\n== Cast ==\nA\n\n== Plot ==\nOne.\n\n=== Act two ===\nTwo.\n\n== Music ==\nThree."
    assert plot_in(article) == "One.\nTwo."
    assert plot_in("Lead.\n\n== Music ==\nThree.") == "Lead."
    assert plot_in("") == ""
