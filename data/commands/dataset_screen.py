"""The screens of `cinefuse data`: what a dataset holds and what an import made."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from ..dataset.assembly import ImportReport

_BAR = 28


def show_info(info: dict[str, Any], console: Console | None = None) -> None:
    """Print what `dataset_info` counted."""
    console = console or Console()
    console.print(Text(info["name"], "bold"))
    console.print(_facts(info))
    if info["ratings"] and not info["implicit"]:
        console.print(_histogram(info["ratings"]["histogram"], info["ratings"]["ratings"]))


def _facts(info: dict[str, Any]) -> Table:
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="cyan", justify="right", no_wrap=True)
    facts.add_column()

    def fact(name: str, *lines: str) -> None:
        facts.add_row(name, Group(*(Text(line) for line in lines if line)))

    genres = list(info["genres"].items())
    some = ", ".join(f"{name} {films:,}" for name, films in genres[:6])
    more = f" and {len(genres) - 6} more" if len(genres) > 6 else ""
    fact("items", f"{info['items']:,}", some + more)
    if tags := info["tags"]:
        fact("tags", f"{sum(tags.values()):,}", ", ".join(f"{kind} {count:,}" for kind, count in tags.items()))
    texts = info["texts"]
    fact(
        "plots", f"{texts['given']:,}  {texts['coverage']:.1%}", _words(texts["words"]), _repeats(texts["repeated"], "")
    )
    posters = info["posters"]
    missing = f"{posters['missing']:,} given paths lead to no file inside the folder" if posters["missing"] else ""
    where = f"in {posters['root']}" if posters["given"] else ""
    fact(
        "posters",
        f"{posters['present']:,}  {posters['coverage']:.1%}",
        where,
        missing,
        _repeats(posters["repeated"], " file"),
    )
    if ratings := info["ratings"]:
        fact("users", f"{ratings['users']:,}" + (f"  {info['users']:,} described" if info["users"] else ""))
        mean = "" if info["implicit"] else f"mean {ratings['mean'] or 0:.4f}  "
        fact(
            "interactions" if info["implicit"] else "ratings",
            f"{ratings['ratings']:,}  {mean}density {ratings['density']:.3%}",
            _dates(ratings["first"], ratings["last"]),
            f"{ratings['rated_items']:,} films rated",
            f"{ratings['repeated_pairs']:,} repeat a user and film already rated" if ratings["repeated_pairs"] else "",
            f"{ratings['unknown_item_ratings']:,} name {ratings['unknown_items']:,} films that the items lack"
            if ratings["unknown_items"]
            else "",
        )
    else:
        fact("ratings", "none")
    for fold, parts in info["splits"].items():
        fact(f"split {fold}", "  ".join(f"{part} {rows:,}" for part, rows in parts.items()))
    return facts


def _words(words: dict[str, float]) -> str:
    if not words:
        return ""
    return "words  " + "  ".join(f"{float(q):.0%} {count:,.0f}" for q, count in words.items())


def _repeats(count: int, what: str) -> str:
    return f"{count:,} the same{what} as an earlier one" if count else ""


def _dates(first: int | None, last: int | None) -> str:
    if first is None or last is None:
        return "no timestamps"
    try:
        return f"{datetime.fromtimestamp(first, UTC):%Y-%m-%d} to {datetime.fromtimestamp(last, UTC):%Y-%m-%d}"
    except (ValueError, OverflowError, OSError):
        return f"timestamps {first} to {last}"


def _histogram(histogram: dict[str, int], total: int) -> Table:
    bars = Table.grid(padding=(0, 2))
    bars.add_column(style="cyan", justify="right", min_width=8)
    bars.add_column(width=_BAR, no_wrap=True)
    bars.add_column(justify="right")
    bars.add_column(justify="right", style="dim")
    shown = dict(list(histogram.items())[:20])
    tallest = max(shown.values(), default=1)
    for rating, rows in shown.items():
        bars.add_row(
            rating, Text("█" * max(1, round(_BAR * rows / tallest)), "blue"), f"{rows:,}", f"{rows / total:.1%}"
        )
    if len(histogram) > len(shown):
        bars.add_row("...", f"{len(histogram) - len(shown):,} other values", "", "")
    return bars


def show_import(report: ImportReport, out: Console | None = None, err: Console | None = None) -> None:
    """Print what an import made; warnings, at most ten one by one, go to standard error."""
    err = err or Console(stderr=True)
    for warning in report.warnings[:10]:
        err.print(Text.assemble(("warning: ", "yellow"), warning), soft_wrap=True)
    if len(report.warnings) > 10:
        err.print(Text(f"... and {len(report.warnings) - 10:,} more warnings"))
    counts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in report.counts.items())
    (out or Console()).print(Text(f"{report.folder}: {counts}"), soft_wrap=True)
