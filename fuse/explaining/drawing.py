"""A sheet to draw pictures, bars and wrapped text on."""

from __future__ import annotations

from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from ...data.runtime.untrusted_text import printable
from .explanation import Marked

INK, MUTED, FAINT = "#1e1a15", "#665d51", "#b9b1a4"
_PAPER, _RULE, _HIGHLIGHT = "#faf8f4", "#ddd5c7", (236, 116, 48)
_MOST_LINES = 16
_FACES = {
    "sans": ("DejaVuSans.ttf", "Arial.ttf", "Helvetica.ttc"),
    "bold": ("DejaVuSans-Bold.ttf", "Arial Bold.ttf", "Helvetica.ttc"),
    "serif": ("DejaVuSerif-Bold.ttf", "Georgia Bold.ttf", "Times.ttc"),
}


class Sheet:
    """A sheet of paper to draw on, with text that wraps. Coordinates and sizes in pixels."""

    def __init__(self, width: int, height: int, colour: str = _PAPER) -> None:
        self.image = Image.new("RGB", (width, height), colour)
        self._draw = ImageDraw.Draw(self.image)

    def cut(self, height: int) -> Image.Image:
        """The picture, cut off at that height."""
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
        self, x: int, y: int, text: str, size: int, *, face: str = "sans", colour: str = INK, anchor: str = "la"
    ) -> int:
        """One line of text; gives where it ends."""
        shown = printable(text)
        self._draw.text((x, y), shown, fill=colour, font=_font(face, size), anchor=anchor)
        return x + round(self._draw.textlength(shown, font=_font(face, size)))

    def paragraph(
        self, x: int, y: int, wide: int, text: str, size: int, *, face: str = "sans", colour: str = INK, lines: int = 4
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
        for shortened in done:
            self._draw.text((x, y), self._shortened(shortened, wide, font), fill=colour, font=font)
            y += round(size * 1.4)
        return y

    def words(self, x: int, y: int, wide: int, pieces: list[Marked], size: int) -> int:
        """Wrapped text in pieces, each highlighted by its mark, faint where it was not read; gives its end."""
        font, at, line = _font("sans", size), float(x), 0
        for piece in pieces:
            for word in _with_spaces(printable(piece.text)):
                length = self._draw.textlength(word, font=font)
                if at + self._draw.textlength(word.rstrip(), font=font) > x + wide and at > x:
                    at, line = float(x), line + 1
                    if line == _MOST_LINES:
                        self._draw.text((x, y + line * 29), "…", fill=MUTED, font=font)
                        return y + (line + 1) * 29
                top = y + line * 29
                if piece.mark > 0.08 and word.strip():
                    self._mark(at, top, self._draw.textlength(word.rstrip(), font=font), size, piece.mark)
                self._draw.text((round(at), top), word, fill=INK if piece.read else FAINT, font=font)
                at += length
        return y + (line + 1) * 29

    def _mark(self, x: float, y: int, wide: float, size: int, mark: float) -> None:
        red, green, blue = (int(255 - (255 - part) * 0.75 * min(mark, 1)) for part in _HIGHLIGHT)
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
