"""Attention over the posters of a few films, for the report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...data.dataset.catalog import Catalog
from ...data.pages.page import percent, picture_uri, signed
from ...data.pages.pictures import poster_picture
from ...data.runtime.errors import CinefuseError
from ..evaluation.run_rows import Tested
from ..explaining.explain import explain
from ..explaining.explanation import Explanation
from ..explaining.heatmap import scale_ends
from ..explaining.png import item_pictures
from ..runs.run import Run

_WIDTH = 176
_FILMS = 4
_WORDS = 6
_MOST_TRIED = 40  # films searched for one with a poster


@dataclass(frozen=True)
class AttentionExample:
    """One film: its pictures as (data URI, description), the labels of the colour scale, and sentences about it."""

    title: str
    pictures: tuple[tuple[str, str], ...]
    scale: tuple[str, str, str]
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class AttentionGallery:
    """An introduction and examples; without examples the introduction says why.

    refusal: the error that prevented them, for the terminal alone, as it may name folders.
    """

    introduction: str
    films: tuple[AttentionExample, ...] = ()
    refusal: str | None = None


_NO_TRANSFORMER = "This run has no Transformer that reads tokens, so there is no attention to show."
_NO_PATCHES = "This run’s Transformer reads no patches of posters, so there is no attention over them to show."
_NO_POSTERS = "Without posters there is nothing to show attention on."
_MISSING = "Attention could not be shown: the dataset or the embedding file was missing when this page was made."
_INTRO = (
    "The attention of the [FUSE] query over the patches of a poster, in the last layer: bright patches get more than "
    "uniform attention would give them, dark ones less. Below each pair, the change of the prediction when poster or "
    "plot is masked. The films are those with the most test ratings."
)


def attention_gallery(run: Run, tested: Tested, dataset: Path | None, cache: Path | None = None) -> AttentionGallery:
    """Attention over the posters of the films with most test ratings, or the reason why none is shown.

    ``dataset`` is None where posters are not to be shown; ``cache`` is where the embedding file is now, if it moved.
    """
    if not run.config.fuses:
        return AttentionGallery(_NO_TRANSFORMER)
    if run.config.level == "cls" or run.config.modalities == "text":
        return AttentionGallery(_NO_PATCHES)
    items = [] if dataset is None else _well_known(run, tested, dataset)
    if not items:
        return AttentionGallery(_NO_POSTERS)
    try:
        return AttentionGallery(_INTRO, tuple(map(_shown, explain(run, items, dataset=dataset, cache=cache))))
    except CinefuseError as refusal:
        return AttentionGallery(_MISSING, refusal=str(refusal))


def _well_known(run: Run, tested: Tested, dataset: Path) -> list[int | str]:
    """The films with most test ratings that have a poster, by id."""
    catalog = Catalog.open(dataset)
    counts = np.bincount(tested.item, minlength=len(run.recommender.item_ids))
    ids, posters = run.recommender.item_ids.tolist(), catalog.posters()
    found: list[int | str] = []
    for film in np.argsort(-counts, kind="stable")[:_MOST_TRIED].tolist():
        if len(found) < _FILMS and counts[film] and poster_picture(catalog.poster_root, posters[film]) is not None:
            found.append(ids[film])
    return found


def _shown(e: Explanation) -> AttentionExample:
    pictures = item_pictures(e)
    descriptions = {"poster": f"Poster of {e.title}", "attention": f"Attention over the poster of {e.title}"}
    return AttentionExample(
        title=e.title,
        pictures=tuple(
            (picture_uri(pictures[name], _WIDTH), text) for name, text in descriptions.items() if name in pictures
        ),
        scale=scale_ends(e.span),
        sentences=tuple(_sentences(e)),
    )


def _sentences(e: Explanation) -> list[str]:
    whole = e.ablation.everything.average
    lines = [f"Predicted {whole:.2f} for all users on average"]
    for kind, masked in e.ablation.masked:
        lost = signed(masked.average - whole, 3)
        lines.append(f"Without its {kind} {lost} on average; a user’s prediction changes by {masked.change:.3f}")
    if e.attention is not None:
        shares = e.attention.shares
        lines.append(f"Attention: poster {percent(shares['image'])}, plot {percent(shares['text'])}")
    words = [word for word, _ in e.words_by_lift(_WORDS)]
    if words and e.plot is not None and not e.plot.note:
        lines.append(f"Words with the most attention: {', '.join(words)}")
    if "image" in e.agreement:
        verdict = e.agreement["image"].verdict
        lines.append(f"{verdict[:1].upper()}{verdict[1:]}")
    return lines
