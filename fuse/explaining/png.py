"""Explanations as a PNG: one film as a card of 1200 pixels' width, several as a contact sheet."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ...data.pages.page import counted, signed
from ...data.runtime.disk import write_atomically
from ...data.runtime.untrusted_text import printable
from .explain import Explanation, Marked
from .heatmap import Box, grid_picture, overlay, scale_ends, scale_picture

WIDTH = 1200
_MARGIN, _GAP = 48, 24
_TALLEST = 4000
_PAPER, _CARD, _INK, _MUTED, _RULE = "#faf8f4", "#ffffff", "#1e1a15", "#665d51", "#ddd5c7"
_IMAGE, _TEXT, _USER, _REST, _SUNK = "#a3301c", "#1b5e92", "#6d489f", "#b9b1a4", "#f1ede5"
_LINES_OF_PLOT = 16
_FACES = {
    "sans": ("DejaVuSans.ttf", "Arial.ttf", "Helvetica.ttc"),
    "bold": ("DejaVuSans-Bold.ttf", "Arial Bold.ttf", "Helvetica.ttc"),
    "serif": ("DejaVuSerif-Bold.ttf", "Georgia Bold.ttf", "Times.ttc"),
}

CAPTIONS = {
    "poster": "Poster",
    "attention": "Attention of [FUSE] query",
    "attention grid": "Patch by patch",
    "hiding": "Change when masked",
    "hiding grid": "Square by square",
}
"""What stands over each of `film_pictures`."""


def film_pictures(e: Explanation) -> dict[str, Image.Image]:
    """The pictures of one film, all of the poster's size: those of `CAPTIONS` that there are, in that order."""
    pictures = {"poster": e.poster or _placeholder(e.title)}
    attended, hidden = e.patch_lift if e.shown == "attention" else None, e.hiding_lift
    for name, lift in (("attention", attended), ("hiding", hidden)):
        if lift is None:
            continue
        span = e.span if name == e.shown else e.hiding_span
        if e.poster is not None and e.box is not None:
            if name == e.shown:
                pictures[name] = overlay(e.poster, lift, e.box, span)
            pictures[f"{name} grid"] = grid_picture(lift, e.box, e.poster.size, span)
        else:
            size = (320 * lift.shape[1] // max(lift.shape), 320 * lift.shape[0] // max(lift.shape))
            pictures[f"{name} grid"] = grid_picture(lift, Box(0, 0, *size), size, span)
    return pictures


def _placeholder(title: str) -> Image.Image:
    page = _Page(320, 480, _SUNK)
    page.paragraph(24, 190, 272, title, 24, face="serif", colour=_MUTED, lines=4)
    page.line(24, 440, "no poster", 16, colour=_MUTED)
    return page.image


def caption_of(name: str, e: Explanation) -> str:
    """What stands over a picture; the squares that hiding is shown in are named where attention has the overlay."""
    if name == "hiding grid" and e.shown == "attention":
        return CAPTIONS["hiding"]
    return CAPTIONS[name]


def write_png(path: Path, explanations: Sequence[Explanation], about: str) -> None:
    """Write the card of one film, or the contact sheet of several; ``about`` says which run. NoSpace on a full disk."""
    picture = card(explanations[0], about) if len(explanations) == 1 else contact_sheet(explanations, about)
    content = io.BytesIO()
    picture.save(content, "PNG", optimize=True)
    write_atomically(path, content.getvalue())


def card(e: Explanation, about: str) -> Image.Image:
    """One film on 1200 pixels' width."""
    page = _Page(WIDTH, _TALLEST)
    inner = WIDTH - 2 * _MARGIN
    y = page.paragraph(_MARGIN, _MARGIN, inner, e.title, 36, face="serif", lines=2)
    facts = f"item {e.item_id}  ·  {counted(e.train_ratings, 'training rating')}  ·  {about}"
    y = page.paragraph(_MARGIN, y + 8, inner, facts, 16, colour=_MUTED, lines=2) + 24
    y = _picture_row(page, e, film_pictures(e), y)
    half = (inner - 2 * _GAP) // 2
    low = max(_predictions(page, e, _MARGIN, y, half), _shares(page, e, _MARGIN + half + 2 * _GAP, y, half))
    y = _plot(page, e, low + 32, inner)
    for kind, found in e.agreements:
        y = page.paragraph(_MARGIN, y + 6, inner, f"{kind.capitalize()}: {found.verdict}", 15, lines=3)
    for note in e.notes:
        y = page.paragraph(_MARGIN, y + 6, inner, "Note: " + note, 15, colour=_MUTED, lines=3)
    return page.cut(y + _MARGIN)


def contact_sheet(explanations: Sequence[Explanation], about: str) -> Image.Image:
    """Several films, two in a row, each with its pictures, its prediction and its foremost words."""
    columns, wide = 2, (WIDTH - 2 * _MARGIN - _GAP) // 2
    page = _Page(WIDTH, _MARGIN * 4 + 560 * (-(-len(explanations) // columns)))
    top = page.paragraph(_MARGIN, _MARGIN, WIDTH - 2 * _MARGIN, f"{len(explanations)} films, {about}", 22, face="serif")
    top += 24
    for start in range(0, len(explanations), columns):
        ends = []
        for column, e in enumerate(explanations[start : start + columns]):
            ends.append(_small_card(page, e, _MARGIN + column * (wide + _GAP), top, wide))
        top = max(ends) + _GAP + 8
    return page.cut(top + _MARGIN - _GAP)


def _small_card(page: _Page, e: Explanation, x: int, y: int, wide: int) -> int:
    page.rule(x, y, wide)
    y = page.paragraph(x, y + 14, wide, e.title, 20, face="serif", lines=1) + 4
    y = page.paragraph(x, y, wide, f"item {e.item_id}  ·  {e.in_short}", 14, colour=_MUTED, lines=1) + 10
    pictures = film_pictures(e)
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
        y = page.paragraph(x, y + 4, wide, f"words: {words}", 14, colour=_MUTED, lines=2)
    for kind, found in e.agreements:
        figure = signed(found.correlation, 2)
        says = f"{kind}: rank correlation of attention and hiding {figure} over {found.parts} parts"
        y = page.paragraph(x, y + 2, wide, says, 13, colour=_MUTED, lines=1)
    return y


def _picture_row(page: _Page, e: Explanation, pictures: dict[str, Image.Image], y: int) -> int:
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
        _scale(page, _MARGIN + place * (each + _GAP), y, each, e.span if name.startswith(e.shown) else e.hiding_span)
    return y + (56 if grids else 0)


def _scale(page: _Page, x: int, y: int, wide: int, span: float) -> None:
    page.image.paste(scale_picture(wide, 12), (x, y))
    for says, at, anchor in zip(scale_ends(span), (x, x + wide // 2, x + wide), ("la", "ma", "ra"), strict=True):
        page.line(at, y + 18, says, 13, colour=_MUTED, anchor=anchor)


def _predictions(page: _Page, e: Explanation, x: int, y: int, wide: int) -> int:
    page.line(x, y, "Predicted rating", 18, face="bold")
    a = e.ablation
    rows = [("everything", a.everything), ("no poster", a.without_image), ("no plot", a.without_text)]
    rows.append(("neither", a.without_both))
    most = max(max(r.average, r.user or 0.0) for _, r in rows) * 1.02
    y += 34
    for name, rated in rows:
        whole = rated is a.everything
        change = None if whole else rated.average - a.everything.average
        _bar(page, x, y, wide, name, rated.average / most, _rated(rated.average, change), _INK if whole else _REST)
        if rated.user is not None and a.everything.user is not None:
            y += 22
            change = None if whole else rated.user - a.everything.user
            of_user = f"  user {e.user_id}"[:14]
            _bar(page, x, y, wide, of_user, rated.user / most, _rated(rated.user, change), _USER, small=True)
        y += 30
    says = f"the mean of all users' predictions; hiding the poster moves a user's by {a.without_image.change:.3f}, "
    says += f"the plot by {a.without_text.change:.3f} (root mean square)"
    return page.paragraph(x, y + 2, wide, says, 13, colour=_MUTED, lines=3)


def _rated(rating: float, change: float | None) -> str:
    return f"{rating:.3f}" if change is None else f"{rating:.3f}  {signed(change, 3)}"


def _bar(
    page: _Page, x: int, y: int, wide: int, name: str, share: float, told: str, colour: str, *, small: bool = False
) -> None:
    """A bar between its name and its figures, which takes that share of the room between them."""
    label, figures = 100, 150
    size, tall, ink = (13, 10, _MUTED) if small else (15, 14, _INK)
    page.line(x, y + 2, name, size, colour=ink)
    page.box(x + label, y + 4, max(int((wide - label - figures) * share), 1), tall, colour)
    page.line(x + wide, y + 2, told, size, colour=ink, anchor="ra")


def _shares(page: _Page, e: Explanation, x: int, y: int, wide: int) -> int:
    page.line(x, y, "Share of plot and poster", 18, face="bold")
    y += 34
    rows: list[tuple[str, dict[str, float]]] = []
    if e.attention is not None:
        rows += [("attention", e.attention.shares), ("uniform", e.attention.even_shares)]
    if e.ablation.shares is not None:
        rows.append(("change when hidden", e.ablation.shares))
    for name, shares in rows:
        page.line(x, y, name, 15)
        told = f"plot {shares['text']:.0%}   poster {shares['image']:.0%}"
        page.line(x + wide, y, told, 15, anchor="ra")
        _stacked(page, x, y + 24, wide, shares, 14)
        y += 54
    if not rows:
        return page.paragraph(x, y, wide, "neither changes anything", 15, colour=_MUTED)
    at = x
    for says, colour in (("plot", _TEXT), ("poster", _IMAGE), ("all else", _REST)):
        page.box(at, y + 3, 12, 12, colour)
        at = page.line(at + 18, y, says, 13, colour=_MUTED) + 18
    return y + 24


def _stacked(page: _Page, x: int, y: int, wide: int, shares: dict[str, float], tall: int) -> None:
    page.box(x, y, wide, tall, _REST)
    text = round(wide * shares["text"])
    page.box(x, y, text, tall, _TEXT)
    page.box(x + text, y, round(wide * shares["image"]), tall, _IMAGE)


def _plot(page: _Page, e: Explanation, y: int, wide: int) -> int:
    if e.plot is None or not e.plot.words:
        return y
    kind = "attention" if e.shown == "attention" else "what hiding changes"
    page.line(_MARGIN, y, f"Plot, by {kind}", 18, face="bold")
    return page.words(_MARGIN, y + 34, wide, e.marked_plot(), 17) + 18


class _Page:
    """A sheet of paper to draw on, with text that wraps. Coordinates and sizes in pixels."""

    def __init__(self, width: int, height: int, colour: str = _PAPER) -> None:
        self.image = Image.new("RGB", (width, height), colour)
        self._draw = ImageDraw.Draw(self.image)

    def cut(self, height: int) -> Image.Image:
        """The paper down to that height."""
        return self.image.crop((0, 0, self.image.width, min(height, self.image.height)))

    def box(self, x: int, y: int, wide: int, tall: int, colour: str) -> None:
        """A filled rectangle, or nothing where it has no width."""
        if wide > 0:
            self._draw.rectangle((x, y, x + wide - 1, y + tall - 1), fill=colour)

    def rule(self, x: int, y: int, wide: int) -> None:
        """A fine line."""
        self.box(x, y, wide, 1, _RULE)

    def picture(self, picture: Image.Image, x: int, y: int, wide: int, tall: int) -> int:
        """Draw a picture as large as fits; gives its height."""
        scale = min(wide / picture.width, tall / picture.height)
        size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        smaller = picture.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)
        self.image.paste(smaller, (x, y))
        return size[1]

    def line(
        self, x: int, y: int, text: str, size: int, *, face: str = "sans", colour: str = _INK, anchor: str = "la"
    ) -> int:
        """One line of text; gives where it ends."""
        shown = printable(text)
        self._draw.text((x, y), shown, fill=colour, font=_font(face, size), anchor=anchor)
        return x + round(self._draw.textlength(shown, font=_font(face, size)))

    def paragraph(
        self, x: int, y: int, wide: int, text: str, size: int, *, face: str = "sans", colour: str = _INK, lines: int = 4
    ) -> int:
        """Text wrapped to at most so many lines, the last with an ellipsis where more would follow; gives its end."""
        font = _font(face, size)
        done: list[str] = [""]
        for word in printable(text).split(" "):
            longer = f"{done[-1]} {word}" if done[-1] else word
            if self._draw.textlength(longer, font=font) <= wide:
                done[-1] = longer
            else:
                done.append(word)
        if len(done) > lines:
            done = [*done[: lines - 1], self._shortened(done[lines - 1] + " …", wide, font)]
        for told in done:
            self._draw.text((x, y), self._shortened(told, wide, font), fill=colour, font=font)
            y += round(size * 1.4)
        return y

    def words(self, x: int, y: int, wide: int, pieces: list[Marked], size: int) -> int:
        """Text in pieces, each marked as strongly as it says, faint where it was not read, wrapped; gives its end."""
        font, at, line = _font("sans", size), float(x), 0
        for piece in pieces:
            for word in _with_spaces(printable(piece.text)):
                length = self._draw.textlength(word, font=font)
                if at + self._draw.textlength(word.rstrip(), font=font) > x + wide and at > x:
                    at, line = float(x), line + 1
                    if line == _LINES_OF_PLOT:
                        self._draw.text((x, y + line * 29), "…", fill=_MUTED, font=font)
                        return y + (line + 1) * 29
                top = y + line * 29
                if piece.mark > 0.08 and word.strip():
                    self._mark(at, top, self._draw.textlength(word.rstrip(), font=font), size, piece.mark)
                self._draw.text((round(at), top), word, fill=_INK if piece.read else _REST, font=font)
                at += length
        return y + (line + 1) * 29

    def _mark(self, x: float, y: int, wide: float, size: int, mark: float) -> None:
        red, green, blue = (int(255 - (255 - part) * 0.75 * min(mark, 1)) for part in (236, 116, 48))
        box = (round(x) - 1, y - 2, round(x + wide) + 1, y + round(size * 1.25))
        self._draw.rectangle(box, fill=(red, green, blue))

    def _shortened(self, text: str, wide: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
        if self._draw.textlength(text, font=font) <= wide:
            return text
        text = text.removesuffix(" …")
        while text and self._draw.textlength(text + "…", font=font) > wide:
            text = text[:-1]
        return text + "…"


def _with_spaces(text: str) -> list[str]:
    """Words, each with the spaces behind it; spaces at the front stand alone."""
    parts, word = [], ""
    for c in text:
        if word and word[-1] == " " and c != " ":
            parts.append(word)
            word = ""
        word += c
    return [*parts, word] if word else parts


@lru_cache(maxsize=32)
def _font(face: str, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    for name in _FACES[face]:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)
