"""Explanations as a PNG, 1200 pixels wide: one item as a card, several as a contact sheet."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ...data.pages.page import counted, signed
from ...data.runtime.disk import write_atomically
from .drawing import FAINT, INK, MUTED, Sheet
from .explanation import Explanation
from .heatmap import Box, grid_picture, overlay, scale_ends, scale_picture

WIDTH = 1200
_MARGIN, _GAP = 48, 24
_TALLEST = 4000
_IMAGE, _TEXT, _USER, _SUNK = "#a3301c", "#1b5e92", "#6d489f", "#f1ede5"

CAPTIONS = {
    "poster": "Poster",
    "attention": "Attention",
    "attention grid": "Patch by patch",
    "masking": "Change when masked",
    "masking grid": "Square by square",
}
"""The captions of `item_pictures`."""


def item_pictures(e: Explanation) -> dict[str, Image.Image]:
    """The pictures of one item, all of the poster's size: those of `CAPTIONS` that there are, in that order."""
    pictures = {"poster": e.poster or _placeholder(e.title)}
    attended, masked = e.patch_lift if e.shown == "attention" else None, e.masking_lift
    for name, lift in (("attention", attended), ("masking", masked)):
        if lift is None:
            continue
        span = e.span if name == e.shown else e.masking_span
        if e.poster is not None and e.box is not None:
            if name == e.shown:
                pictures[name] = overlay(e.poster, lift, e.box, span)
            pictures[f"{name} grid"] = grid_picture(lift, e.box, e.poster.size, span)
        else:
            size = (320 * lift.shape[1] // max(lift.shape), 320 * lift.shape[0] // max(lift.shape))
            pictures[f"{name} grid"] = grid_picture(lift, Box(0, 0, *size), size, span)
    return pictures


def _placeholder(title: str) -> Image.Image:
    page = Sheet(320, 480, _SUNK)
    page.paragraph(24, 190, 272, title, 24, face="serif", colour=MUTED, lines=4)
    page.line(24, 440, "no poster", 16, colour=MUTED)
    return page.image


def caption_of(name: str, e: Explanation) -> str:
    """The caption of a picture; the squares of masking stand for their overlay where attention has the overlay."""
    if name == "masking grid" and e.shown == "attention":
        return CAPTIONS["masking"]
    return CAPTIONS[name]


def write_png(path: Path, explanations: Sequence[Explanation], about: str) -> None:
    """Write the card of one item, or the contact sheet of several; ``about`` names the run. NoSpace on a full disk."""
    picture = card(explanations[0], about) if len(explanations) == 1 else contact_sheet(explanations, about)
    content = io.BytesIO()
    picture.save(content, "PNG", optimize=True)
    write_atomically(path, content.getvalue())


def card(e: Explanation, about: str) -> Image.Image:
    """One item, 1200 pixels wide."""
    page = Sheet(WIDTH, _TALLEST)
    inner = WIDTH - 2 * _MARGIN
    y = page.paragraph(_MARGIN, _MARGIN, inner, e.title, 36, face="serif", lines=2)
    facts = f"item {e.item_id}  ·  {counted(e.train_ratings, 'training rating')}  ·  {about}"
    y = page.paragraph(_MARGIN, y + 8, inner, facts, 16, colour=MUTED, lines=2) + 24
    y = _picture_row(page, e, item_pictures(e), y)
    half = (inner - 2 * _GAP) // 2
    low = max(_predictions(page, e, _MARGIN, y, half), _shares(page, e, _MARGIN + half + 2 * _GAP, y, half))
    y = _plot(page, e, low + 32, inner)
    for kind, found in e.agreements:
        y = page.paragraph(_MARGIN, y + 6, inner, f"{kind.capitalize()}: {found.verdict}", 15, lines=3)
    for note in e.notes:
        y = page.paragraph(_MARGIN, y + 6, inner, "Note: " + note, 15, colour=MUTED, lines=3)
    return page.cut(y + _MARGIN)


def contact_sheet(explanations: Sequence[Explanation], about: str) -> Image.Image:
    """Several items, two in a row, each with its pictures, its prediction and its words with the largest lifts."""
    columns, wide = 2, (WIDTH - 2 * _MARGIN - _GAP) // 2
    page = Sheet(WIDTH, _MARGIN * 4 + 560 * (-(-len(explanations) // columns)))
    top = page.paragraph(_MARGIN, _MARGIN, WIDTH - 2 * _MARGIN, f"{len(explanations)} films, {about}", 22, face="serif")
    top += 24
    for start in range(0, len(explanations), columns):
        ends = []
        for column, e in enumerate(explanations[start : start + columns]):
            ends.append(_small_card(page, e, _MARGIN + column * (wide + _GAP), top, wide))
        top = max(ends) + _GAP + 8
    return page.cut(top + _MARGIN - _GAP)


def _small_card(page: Sheet, e: Explanation, x: int, y: int, wide: int) -> int:
    page.rule(x, y, wide)
    y = page.paragraph(x, y + 14, wide, e.title, 20, face="serif", lines=1) + 4
    y = page.paragraph(x, y, wide, f"item {e.item_id}  ·  {e.in_short}", 14, colour=MUTED, lines=1) + 10
    pictures = item_pictures(e)
    names = [name for name in ("poster", e.shown, f"{e.shown} grid") if name in pictures]
    each, tall = (wide - 2 * 12) // 3, 0
    for place, name in enumerate(names):
        tall = max(tall, page.picture(pictures[name], x + place * (each + 12), y, each, 280))
    y += tall + 12
    if e.attention is not None:
        _stacked(page, x, y, wide, e.attention.shares, 10)
        shares = e.attention.shares
        y = page.paragraph(x, y + 16, wide, f"attention: plot {shares['text']:.0%}, poster {shares['image']:.0%}", 14)
    words = ", ".join(word for word, _ in e.words_by_lift(8))
    if words:
        y = page.paragraph(x, y + 4, wide, f"words: {words}", 14, colour=MUTED, lines=2)
    for kind, found in e.agreements:
        figure = signed(found.correlation, 2)
        label = f"{kind}: rank correlation of attention and change when masked {figure} over {found.parts} parts"
        y = page.paragraph(x, y + 2, wide, label, 13, colour=MUTED, lines=1)
    return y


def _picture_row(page: Sheet, e: Explanation, pictures: dict[str, Image.Image], y: int) -> int:
    inner = WIDTH - 2 * _MARGIN
    each = (inner - 3 * _GAP) // 4
    tall = 0
    for place, (name, picture) in enumerate(pictures.items()):
        x = _MARGIN + place * (each + _GAP)
        page.line(x, y, caption_of(name, e), 15, face="bold")
        tall = max(tall, page.picture(picture, x, y + 26, each, 420))
    y += 26 + tall + 18
    grids = [place for place, name in enumerate(pictures) if name.endswith("grid")]
    for place in grids:
        name = list(pictures)[place]
        _scale(page, _MARGIN + place * (each + _GAP), y, each, e.span if name.startswith(e.shown) else e.masking_span)
    return y + (56 if grids else 0)


def _scale(page: Sheet, x: int, y: int, wide: int, span: float) -> None:
    page.image.paste(scale_picture(wide, 12), (x, y))
    for label, at, anchor in zip(scale_ends(span), (x, x + wide // 2, x + wide), ("la", "ma", "ra"), strict=True):
        page.line(at, y + 18, label, 13, colour=MUTED, anchor=anchor)


def _predictions(page: Sheet, e: Explanation, x: int, y: int, wide: int) -> int:
    page.line(x, y, "Predicted rating", 18, face="bold")
    a = e.ablation
    rows = [("everything", a.everything), ("no poster", a.without_image), ("no plot", a.without_text)]
    rows.append(("neither", a.without_both))
    most = max(max(r.average, r.user or 0.0) for _, r in rows) * 1.02
    y += 34
    for name, rated in rows:
        whole = rated is a.everything
        change = None if whole else rated.average - a.everything.average
        _bar(page, x, y, wide, name, rated.average / most, _with_change(rated.average, change), INK if whole else FAINT)
        if rated.user is not None and a.everything.user is not None:
            y += 22
            change = None if whole else rated.user - a.everything.user
            of_user = f"  user {e.user_id}"[:14]
            _bar(page, x, y, wide, of_user, rated.user / most, _with_change(rated.user, change), _USER, small=True)
        y += 30
    label = f"the mean of all users' predictions; masking the poster changes a user's by {a.without_image.change:.3f}, "
    label += f"masking the plot by {a.without_text.change:.3f} (root mean square)"
    return page.paragraph(x, y + 2, wide, label, 13, colour=MUTED, lines=3)


def _with_change(rating: float, change: float | None) -> str:
    return f"{rating:.3f}" if change is None else f"{rating:.3f}  {signed(change, 3)}"


def _bar(
    page: Sheet, x: int, y: int, wide: int, name: str, share: float, figures: str, colour: str, *, small: bool = False
) -> None:
    """A bar between its name and its figures, as long as ``share`` of the space between them."""
    left, right = 100, 150
    size, tall, ink = (13, 10, MUTED) if small else (15, 14, INK)
    page.line(x, y + 2, name, size, colour=ink)
    page.box(x + left, y + 4, max(int((wide - left - right) * share), 1), tall, colour)
    page.line(x + wide, y + 2, figures, size, colour=ink, anchor="ra")


def _shares(page: Sheet, e: Explanation, x: int, y: int, wide: int) -> int:
    page.line(x, y, "Share of plot and poster", 18, face="bold")
    y += 34
    rows: list[tuple[str, dict[str, float]]] = []
    if e.attention is not None:
        rows += [("attention", e.attention.shares), ("uniform", e.attention.uniform_shares)]
    if e.ablation.shares is not None:
        rows.append(("change when masked", e.ablation.shares))
    for name, shares in rows:
        page.line(x, y, name, 15)
        figures = f"plot {shares['text']:.0%}   poster {shares['image']:.0%}"
        page.line(x + wide, y, figures, 15, anchor="ra")
        _stacked(page, x, y + 24, wide, shares, 14)
        y += 54
    if not rows:
        return page.paragraph(x, y, wide, "neither changes anything", 15, colour=MUTED)
    at = x
    for label, colour in (("plot", _TEXT), ("poster", _IMAGE), ("all else", FAINT)):
        page.box(at, y + 3, 12, 12, colour)
        at = page.line(at + 18, y, label, 13, colour=MUTED) + 18
    return y + 24


def _stacked(page: Sheet, x: int, y: int, wide: int, shares: dict[str, float], tall: int) -> None:
    page.box(x, y, wide, tall, FAINT)
    text = round(wide * shares["text"])
    page.box(x, y, text, tall, _TEXT)
    page.box(x + text, y, round(wide * shares["image"]), tall, _IMAGE)


def _plot(page: Sheet, e: Explanation, y: int, wide: int) -> int:
    if e.plot is None or not e.plot.words:
        return y
    kind = "attention" if e.shown == "attention" else "change when masked"
    page.line(_MARGIN, y, f"Plot, by {kind}", 18, face="bold")
    return page.words(_MARGIN, y + 34, wide, e.marked_plot(), 17) + 18
