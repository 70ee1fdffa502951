"""Explanations as a page: an overview of the films, then each with its pictures, predictions and plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...data.pages.page import picture_uri, render, write_page
from .ablation import PredictedRating
from .explanation import Explanation
from .heatmap import scale_ends, scale_picture
from .png import caption_of, item_pictures

_TEMPLATE = Path(__file__).parent / "templates" / "explain.html"

_POSTER_WIDTH = 360


@dataclass(frozen=True)
class ShownPicture:
    """A picture of the page: its caption, its description for screen readers, its data URI, the labels of its scale."""

    caption: str
    description: str
    uri: str
    scale: tuple[str, str, str] | None


@dataclass(frozen=True)
class PredictionRow:
    """A prediction with something masked, and its change on average and for one user; None where nothing is masked."""

    name: str
    prediction: PredictedRating
    change: float | None
    of_user: float | None


@dataclass(frozen=True)
class ShareBar:
    """The shares of plot and poster in something, from 0 to 1."""

    name: str
    text: float
    image: float


def write_explanations(path: Path, explanations: Sequence[Explanation], about: str) -> None:
    """Write the page of one item or several; ``about`` names the run. NoSpace or BadInput where the disk refuses."""
    write_page(path, explanations_page(explanations, about))


def explanations_page(explanations: Sequence[Explanation], about: str) -> str:
    """The page as HTML."""
    return render(
        _TEMPLATE,
        about=about,
        user_id=explanations[0].user_id,
        films=[
            {
                "e": e,
                "pictures": _pictures(e),
                "predictions": _predictions(e),
                "shares": _shares(e),
                "plot": e.marked_plot(),
                "words": e.words_by_lift(),
            }
            for e in explanations
        ],
        ramp=picture_uri(scale_picture(240, 8), 240, 90),
    )


def where_most(lift: npt.NDArray[np.float32]) -> str:
    """The ninth of an image with the largest mean lift: "top left", "middle", "bottom right", ..."""
    rows, columns = lift.shape
    down = np.array_split(np.arange(rows), min(3, rows))
    across = np.array_split(np.arange(columns), min(3, columns))
    means = np.array([[lift[np.ix_(r, c)].mean() for c in across] for r in down])
    row, column = np.unravel_index(int(means.argmax()), means.shape)
    vertical = ("top", "", "bottom")[row] if means.shape[0] == 3 else ""
    horizontal = ("left", "", "right")[column] if means.shape[1] == 3 else ""
    return f"{vertical} {horizontal}".strip() or "middle"


def _pictures(e: Explanation) -> list[ShownPicture]:
    shown = []
    for name, picture in item_pictures(e).items():
        if name == "poster":
            description = f"The poster of {e.title}" if e.poster is not None else f"No poster of {e.title} is here"
            shown.append(ShownPicture(caption_of(name, e), description, picture_uri(picture, _POSTER_WIDTH), None))
            continue
        masking = name.startswith("masking")
        lift = e.masking_lift if masking else e.patch_lift
        what = (
            "Change of predictions when each part of the poster is masked"
            if masking
            else "The attention over the poster"
        )
        description = what
        if lift is not None:
            description += f": most at the {where_most(lift)}, at most {float(lift.max()):.2f} times uniform"
        span = e.span if name.startswith(e.shown) else e.masking_span
        scale = scale_ends(span) if name.endswith("grid") else None
        shown.append(ShownPicture(caption_of(name, e), description, picture_uri(picture, _POSTER_WIDTH, 85), scale))
    return shown


def _predictions(e: Explanation) -> list[PredictionRow]:
    a = e.ablation
    rows = []
    modalities = (("Nothing", a.everything), ("Poster", a.without_image), ("Plot", a.without_text))
    for name, rated in (*modalities, ("Both", a.without_both)):
        whole = rated is a.everything
        of_user = None if rated.user is None or a.everything.user is None or whole else rated.user - a.everything.user
        rows.append(PredictionRow(name, rated, None if whole else rated.average - a.everything.average, of_user))
    return rows


def _shares(e: Explanation) -> list[ShareBar]:
    bars = []
    if e.attention is not None:
        for name, shares in (
            ("Attention", e.attention.shares),
            ("Uniform attention", e.attention.uniform_shares),
        ):
            bars.append(ShareBar(name, shares["text"], shares["image"]))
    if e.ablation.shares is not None:
        bars.append(ShareBar("Change when masked", e.ablation.shares["text"], e.ablation.shares["image"]))
    return bars
