"""What a run looks at, for the report: a few well-known films, each with its poster and where on it the model looks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...data.dataset.catalog import Catalog
from ...data.pages.page import percent, picture_uri, signed
from ...data.pages.pictures import poster_picture
from ...data.runtime.errors import CinefuseError
from ..evaluation.run_rows import Tested
from ..explaining.explain import Explanation, explain
from ..explaining.heatmap import scale_ends
from ..explaining.png import film_pictures
from ..runs.run import Run

_WIDTH = 176
_FILMS = 4
_WORDS = 6
_TRIED = 40  # films looked through for ones with a poster


@dataclass(frozen=True)
class LookedAt:
    """One film: its pictures as (data URI, what is to be seen), what the colours' ends mean, and lines about it."""

    title: str
    pictures: tuple[tuple[str, str], ...]
    ends: tuple[str, str, str]
    says: tuple[str, ...]


@dataclass(frozen=True)
class Looking:
    """What is said of a run's looking, in a sentence or two, and the films that show it.

    ``refusal`` is why nothing could be shown that should be: for the terminal, as it may name folders.
    """

    says: str
    films: tuple[LookedAt, ...] = ()
    refusal: str | None = None


_NO_TRANSFORMER = "This run has no Transformer that reads tokens, so there is no attention to be shown."
_NO_PATCHES = "This run’s Transformer reads no patches of posters, so there is no attention over them to be shown."
_NO_POSTERS = "Without posters there is nothing to show attention on."
_NOT_AT_HAND = "Attention could not be shown: what it reads was not at hand when this page was made."
_INTRO = (
    "The attention of the [FUSE] query over the patches of a poster, in the last layer: bright patches get more than "
    "uniform attention would give them, dark ones less. Below each pair, what hiding poster or plot does to the "
    "prediction. The films are those tested most."
)


def looking(run: Run, tested: Tested, dataset: Path | None, cache: Path | None = None) -> Looking:
    """Where a run looks on the posters of the films with most test ratings, or the sentence why none is shown.

    ``dataset`` None: nothing is shown without posters. ``cache`` says where the embedding file is now, if it moved.
    """
    if not run.config.fuses:
        return Looking(_NO_TRANSFORMER)
    if run.config.level == "cls" or run.config.modalities == "text":
        return Looking(_NO_PATCHES)
    items = [] if dataset is None else _well_known(run, tested, dataset)
    if not items:
        return Looking(_NO_POSTERS)
    try:
        return Looking(_INTRO, tuple(map(_shown, explain(run, items, dataset=dataset, cache=cache))))
    except CinefuseError as refusal:
        return Looking(_NOT_AT_HAND, refusal=str(refusal))


def _well_known(run: Run, tested: Tested, dataset: Path) -> list[int | str]:
    """The films with most test ratings that have a poster, by id."""
    catalog = Catalog.open(dataset)
    counts = np.bincount(tested.item, minlength=len(run.recommender.item_ids))
    ids, posters = run.recommender.item_ids.tolist(), catalog.posters()
    found: list[int | str] = []
    for film in np.argsort(-counts, kind="stable")[:_TRIED].tolist():
        if len(found) < _FILMS and counts[film] and poster_picture(catalog.poster_root, posters[film]) is not None:
            found.append(ids[film])
    return found


def _shown(e: Explanation) -> LookedAt:
    pictures = film_pictures(e)
    said = {"poster": f"Poster of {e.title}", "attention": f"Attention over the poster of {e.title}"}
    return LookedAt(
        title=e.title,
        pictures=tuple((picture_uri(pictures[name], _WIDTH), says) for name, says in said.items() if name in pictures),
        ends=scale_ends(e.span),
        says=tuple(_told(e)),
    )


def _told(e: Explanation) -> list[str]:
    whole = e.ablation.everything.average
    lines = [f"Predicted {whole:.2f} for all users on average"]
    for kind, hidden in e.ablation.hidden:
        lost = signed(hidden.average - whole, 3)
        lines.append(f"Without its {kind} {lost} on average; a user’s prediction moves by {hidden.change:.3f}")
    if e.attention is not None:
        shares = e.attention.shares
        lines.append(f"Attention: poster {percent(shares['image'])}, plot {percent(shares['text'])}")
    words = [word for word, _ in e.words_by_lift(_WORDS)]
    if words and e.plot is not None and not e.plot.note:
        lines.append(f"Words with the most attention: {', '.join(words)}")
    if "image" in e.agreement:
        verdict = e.agreement["image"].verdict
        lines.append(f"Attention against masking: {verdict[:1].upper()}{verdict[1:]}")
    return lines
