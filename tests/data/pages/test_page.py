"""Pages: nothing is asked of a network, nothing of a dataset is ever markup, everything can be read in both themes."""

from __future__ import annotations

import base64
import io
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError
from PIL import Image, ImageChops

from cinefuse.data.pages import page
from cinefuse.data.pages.chart_kinds import COLOURS, Axis, Line, Numbers
from cinefuse.data.pages.charts import Measured, bar_chart, line_chart, whisker_chart
from cinefuse.data.pages.page import counted, decimals, percent, picture_uri, render, signed, write_page
from cinefuse.data.pages.pictures import open_poster, poster_picture
from cinefuse.data.runtime.errors import BadInput

SHARED = Path(page.__file__).parent / "templates" / "page.html"

NONE = Numbers(("x",), ())


def themes() -> dict[str, dict[str, str]]:
    """The colours of the base page by name, as the light and the dark theme have them."""
    css, dark = render(SHARED).split("@media screen and (prefers-color-scheme: dark)")
    light = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6});", css))
    dark = dark.split("box-sizing")[0]
    return {"light": light, "dark": light | dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6});", dark))}


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out_from_every_ground_in_both_themes(theme: str) -> None:
    colours = themes()[theme]
    for ground in ("paper", "card", "sunk"):
        for text in ("ink", "muted", "accent", "good", "bad", *(f"series-{n}" for n in range(1, COLOURS + 1))):
            found = contrast(colours[text], colours[ground])
            assert found >= 4.5, f"{theme}: {text} on {ground} has a contrast of {found:.2f}"
        assert contrast(colours["focus"], colours[ground]) >= 3
    assert contrast(colours["on-accent"], colours["accent"]) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_an_interval_can_be_seen_though_it_is_paler_than_its_dot(theme: str) -> None:
    colours = themes()[theme]
    found = re.search(r"\.whisker \{[^}]* opacity: ([.0-9]+)", render(SHARED))
    assert found is not None
    share = float(found[1])
    for series in (f"series-{n}" for n in range(1, COLOURS + 1)):
        parts = [[int(colours[name][at : at + 2], 16) for at in (1, 3, 5)] for name in (series, "paper")]
        seen = "#" + "".join(f"{round(share * a + (1 - share) * b):02x}" for a, b in zip(*parts, strict=True))
        assert contrast(seen, colours["paper"]) >= 3, f"{theme}: an interval of {series} is {seen}"


def test_the_dark_theme_has_a_colour_of_its_own_for_all_that_the_light_one_has() -> None:
    light, dark = themes().values()
    assert light.keys() == dark.keys()
    assert [name for name in light if light[name] == dark[name]] == []


def test_a_page_forbids_itself_every_request() -> None:
    html = render(SHARED)
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]+)">', html)
    assert policy
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert {"connect-src", "font-src", "frame-src", "media-src", "object-src"}.isdisjoint(rules)
    assert html.index("Content-Security-Policy") < html.index("<style") < html.index("<script")


def test_a_page_refers_to_nothing_outside_itself() -> None:
    html = render(SHARED)
    named = re.findall(r"""(?:src|href)=["']([^"']*)""", html)
    assert named
    assert [name for name in named if not name.startswith(("data:", "#"))] == []
    assert "@import" not in html
    assert "url(" not in html


def test_a_value_that_nobody_gave_is_an_error_and_no_empty_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plain.html").write_text("<p>{{ title }}</p>")
    assert render(tmp_path / "plain.html", title="<b>") == "<p>&lt;b&gt;</p>"
    with pytest.raises(UndefinedError, match="title"):
        render(tmp_path / "plain.html")


@given(st.floats(-1e6, 1e6), st.integers(0, 6))
def test_numbers_are_written_with_a_minus_and_read_back_the_same(value: float, places: int) -> None:
    for written in (decimals(value, places), signed(value, places)):
        assert "-" not in written
        assert float(written.replace("−", "-")) == float(f"{value:.{places}f}")


@pytest.mark.parametrize(("number", "said"), [(0, "0 films"), (1, "1 film"), (2, "2 films"), (1234, "1,234 films")])
def test_one_is_counted_in_the_singular(number: int, said: str) -> None:
    assert counted(number, "film") == said


def test_what_is_not_known_is_written_as_a_dash() -> None:
    assert decimals(None) == signed(None) == percent(None) == "–"


def opened(uri: str) -> Image.Image:
    kind, content = uri.split(",", 1)
    assert kind == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


@pytest.mark.parametrize("size", [(60, 90), (400, 600), (5, 4000), (4000, 5), (1, 1)])
def test_a_picture_keeps_to_its_width_and_is_never_enlarged(size: tuple[int, int]) -> None:
    shown = opened(picture_uri(Image.new("RGB", size, "red"), 120))
    assert shown.width <= min(120, size[0])
    assert shown.height <= min(360, size[1])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK", "1"])
def test_pictures_of_every_kind_can_be_shown(mode: str) -> None:
    assert opened(picture_uri(Image.new(mode, (20, 30)), 10)).size == (10, 15)


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "page.html"
    write_page(out, "<p>Amélie</p>")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(Exception, match="the disk is full"):
        write_page(out, "<p>other</p>")
    monkeypatch.undo()
    assert out.read_text("utf-8") == "<p>Amélie</p>"
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]
    with pytest.raises(BadInput, match="cannot be written"):
        write_page(tmp_path / "absent" / "page.html", "")


def test_a_poster_outside_its_folder_is_never_shown(tmp_path: Path) -> None:
    Image.new("RGB", (2, 3)).save(tmp_path / "secret.png")
    inside = tmp_path / "posters"
    inside.mkdir()
    Image.new("RGB", (2, 3)).save(inside / "own.png")
    (inside / "link.png").symlink_to(tmp_path / "secret.png")
    assert poster_picture(inside, "own.png") is not None
    for outside in ("../secret.png", str(tmp_path / "secret.png"), "link.png"):
        assert poster_picture(inside, outside) is None


def test_what_is_no_poster_is_none_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "half.png").write_bytes(picture(Image.new("RGB", (300, 300), "red"))[:90])
    (tmp_path / "icon.bmp").write_bytes(picture(Image.new("RGB", (3, 3)), "BMP"))
    for name in ("text.jpg", "half.png", "icon.bmp", "absent.png", ".", "nul\0.png", None, ""):
        assert poster_picture(tmp_path, name) is None, name


def picture(image: Image.Image, kind: str = "PNG") -> bytes:
    content = io.BytesIO()
    image.save(content, kind)
    return content.getvalue()


def test_a_poster_of_too_many_pixels_is_not_decoded(tmp_path: Path) -> None:
    Image.new("1", (8000, 8000)).save(tmp_path / "bomb.png")
    assert poster_picture(tmp_path, "bomb.png") is None


def test_a_large_poster_is_decoded_no_larger_than_need_be(tmp_path: Path) -> None:
    Image.linear_gradient("L").resize((1600, 2400)).convert("RGB").save(tmp_path / "large.jpg")
    whole, small = open_poster(tmp_path, "large.jpg"), open_poster(tmp_path, "large.jpg", (240, 360))
    assert whole is not None
    assert small is not None
    assert (whole.size, small.size) == ((1600, 2400), (400, 600))
    difference = ImageChops.difference(small, whole.resize(small.size, Image.Resampling.BOX))
    assert np.asarray(difference).max() <= 8


def test_a_poster_is_shown_upright_and_its_transparency_on_white(tmp_path: Path) -> None:
    turned = Image.new("RGB", (4, 2))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    upright, clear = poster_picture(tmp_path, "turned.jpg"), poster_picture(tmp_path, "clear.png")
    assert upright is not None
    assert clear is not None
    assert upright.size == (2, 4)
    assert clear.getpixel((0, 0)) == (255, 255, 255)


numbers = st.lists(st.floats(-1e5, 1e5), max_size=8)


@given(numbers, st.integers(3, 8), st.booleans(), st.booleans())
def test_ticks_are_round_and_inside_and_every_value_stands_in_the_drawing(
    values: list[float], about: int, whole: bool, pad: bool
) -> None:
    axis = Axis.over(values, 10, 90, about=about, whole=whole, pad=pad)
    assert axis.low < axis.high
    slack = 1e-6 * (axis.high - axis.low)
    assert all(axis.low - slack <= tick <= axis.high + slack for tick in axis.ticks)
    assert len({axis.label(tick) for tick in axis.ticks}) == len(axis.ticks) <= 2 * about + 2
    assert all(10 <= axis.at(value) <= 90 for value in values)
    assert axis.at(axis.low) == 10
    assert axis.at(axis.high) == 90
    if whole:
        assert all(tick == round(tick) for tick in axis.ticks)


def test_more_stands_higher_and_further_right() -> None:
    drawn = line_chart("a", "A", "", [Line(1, ((0.0, 1.0), (1.0, 2.0)))], NONE, x_name="x", y_name="y")
    assert drawn.x.at(0) < drawn.x.at(1)
    assert drawn.y.at(1) > drawn.y.at(2)  # down is positive in a drawing


def test_marks_of_one_chart_never_stand_on_each_other() -> None:
    values = [Measured(n, f"run {n}", 0.9, 0.8, 1.0) for n in range(1, 7)]
    drawn = whisker_chart("a", "A", "", [("one", "", False, values), ("two", "", False, values)], NONE, x_name="x")
    at = [mark.y for mark in drawn.marks] + [row.y for row in drawn.rows]
    assert len(set(at)) == len(at)
    assert max(at) < drawn.height - 40


def test_the_line_at_zero_never_runs_through_the_label_of_a_row() -> None:
    rows = [
        (name, "remark", False, [Measured(1, "", -0.1, -0.2, 0.1)] * count)
        for name, count in (("a", 1), ("b", 3), ("c", 2))
    ]
    drawn = whisker_chart("a", "A", "", rows, NONE, x_name="x", zero=0.0)
    assert len(drawn.zero_spans) == len(rows)
    for row in drawn.rows:  # letters reach some 10 units above and 4 below the baseline
        assert all(bottom <= row.y - 10 or top >= row.y + 4 for top, bottom in drawn.zero_spans)
    for mark in drawn.marks:
        assert any(top < mark.y < bottom for top, bottom in drawn.zero_spans)


def test_an_interval_that_is_not_known_is_not_drawn() -> None:
    nan = float("nan")
    drawn = whisker_chart("a", "A", "", [("one", "", False, [Measured(1, "", 0.9, nan, nan)])], NONE, x_name="x")
    assert not drawn.marks[0].is_bounded
    assert "nan" not in drawn.marks[0].label


def test_bars_stand_side_by_side_on_the_ground() -> None:
    drawn = bar_chart(
        "a", "A", "", [("1", [(1, 0.2, ""), (2, 0.3, "")]), ("", [(1, 0.5, "")])], NONE, x_name="", y_name=""
    )
    assert drawn.y.low == 0
    edges = [(bar.left, bar.right) for bar in drawn.bars]
    assert all(left < right for left, right in edges)
    assert all(one[1] <= other[0] for one, other in pairwise(edges))
    assert [label for _, label in drawn.labels] == ["1"]
