"""What a run looks at, for the report: a few well-known films, each with its poster and where on it the model looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.catalog import Catalog
from ..data.errors import CinefuseError
from ..data.page import picture_uri, signed
from ..data.picture import poster_picture
from .evaluate import Tested
from .explain import Explanation, explain
from .explain_card import film_pictures
from .heatmap import scale_ends
from .run import Run

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
    """What is said of a run's looking, in a sentence or two, and the films that show it."""

    says: str
    films: tuple[LookedAt, ...] = ()


def looking(run: Run, tested: Tested, dataset: Path | None, cache: Path | None = None) -> Looking:
    """Where a run looks on the posters of the films with most test ratings, or the sentence that says why none is shown.

    ``dataset`` None: nothing is shown without posters. ``cache`` says where the embedding file is now, if it moved.
    """
    if not run.config.reads_embeddings:
        return Looking("This run reads neither plots nor posters, so there is nothing that it looks at.")
    if dataset is None:
        return Looking("Left out, as posters are.")
    intro = (
        "The attention of [FUSE] over the patches of the poster, in the last layer: bright patches get more than an even "
        "share of it, dark ones less. Below stands what the prediction loses without the poster or the plot."
    )
    if not run.config.fuses:
        intro = (
            "This run has no Transformer that reads tokens, so there is no attention to be shown. It reads principal "
            "components of posters and plots; bright squares are those whose hiding changes predictions most."
        )
    items = _well_known(run, tested, dataset)
    if not items:
        return Looking("None of the films tested has a poster to look at.")
    try:
        explained = explain(run, items, dataset=dataset, cache=cache)
    except CinefuseError as refusal:
        return Looking(f"What it looks at cannot be shown: {refusal}.")
    return Looking(intro, tuple(map(_shown, explained))) if _tells(explained) else Looking(_untold(run))


def _untold(run: Run) -> str:
    if run.config.fuses:
        return (
            "This run’s Transformer reads one embedding a poster, not its patches: there is no attention to be shown."
        )
    return "This run has no Transformer that reads tokens, so there is no attention to be shown."


def _tells(explained: Sequence[Explanation]) -> bool:
    return any(each.patch_lift is not None for each in explained)


def _well_known(run: Run, tested: Tested, dataset: Path) -> list[int | str]:
    """The films with most test ratings that have a poster, by id."""
    catalog = Catalog.open(dataset)
    counts = np.bincount(tested.film, minlength=len(run.recommender.item_ids))
    ids, posters = run.recommender.item_ids.tolist(), catalog.posters()
    found = []
    for film in np.argsort(-counts, kind="stable")[:_TRIED].tolist():
        if len(found) < _FILMS and counts[film] and poster_picture(catalog.poster_root, posters[film]) is not None:
            found.append(ids[film])
    return found


def _shown(e: Explanation) -> LookedAt:
    pictures = film_pictures(e)
    what = "Attention over the poster" if e.shown == "attention" else "What hiding changes on the poster"
    said = {"poster": f"Poster of {e.title}", "attention": f"{what} of {e.title}", "hiding": f"{what} of {e.title}"}
    return LookedAt(
        title=e.title,
        pictures=tuple((picture_uri(pictures[name], _WIDTH), says) for name, says in said.items() if name in pictures),
        ends=scale_ends(e.span),
        says=tuple(_told(e)),
    )


def _told(e: Explanation) -> list[str]:
    whole = e.ablation.everything.average
    lines = [f"Predicted {whole:.2f} for all users on average"]
    for name, hidden in (("poster", e.ablation.without_image), ("plot", e.ablation.without_text)):
        if {"poster": "image", "plot": "text"}[name] in e.ablation.has:
            lines.append(
                f"Without its {name} {signed(hidden.average - whole, 3)}, typically {hidden.change:.3f} a user"
            )
    if e.attention is not None:
        shares = e.attention.shares
        lines.append(f"Attention: poster {shares['image']:.0%}, plot {shares['text']:.0%}")
    words = [word for word, _ in e.words_by_lift(_WORDS)]
    if words and e.plot is not None and not e.plot.note:
        lines.append(f"Words most {'heard' if e.shown == 'attention' else 'missed'}: {', '.join(words)}")
    if "image" in e.agreement:
        lines.append(f"Does the picture tell what hiding does? {e.agreement['image'].verdict}")
    return lines
