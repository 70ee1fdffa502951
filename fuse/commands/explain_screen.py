"""What `cinefuse explain` shows on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from ...data.runtime.terminal import screen
from ...data.runtime.untrusted_text import printable
from ..explaining.ablation import PredictedRating
from ..explaining.explanation import Explanation


def show_explanations(explanations: Sequence[Explanation], console: Console | None = None) -> None:
    """A line a film: predictions with parts masked, shares of attention, and whether the two agree; then notes."""
    console = console or screen()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("film", overflow="fold")
    names = ["rating", "no poster", "no plot", "neither"]
    attended = any(e.attention is not None for e in explanations)
    names += ["attention plot / poster"] if attended else []
    names += ["agreement plot / poster"] if any(e.agreement for e in explanations) else []
    for name in names:
        table.add_column(name, justify="right")
    for e in explanations:
        cells = [*_predictions(e, of_user=False)]
        if attended:
            cells.append(_shares(e))
        if any(other.agreement for other in explanations):
            cells.append(" / ".join(_correlation(e, name) for name in ("text", "image")))
        table.add_row(f"{printable(e.title)} ({printable(e.item_id)})", *cells)
        if e.user_id is not None:
            table.add_row(f"  for user {printable(e.user_id)}", *_predictions(e, of_user=True))
    console.print(table)
    console.print(
        "rating: the mean of all users' predictions, and its change without poster or plot"
        + ("; agreement: rank correlation of attention and change when masked" if attended else ""),
        style="dim",
        soft_wrap=True,
    )
    for e in explanations:
        words = ", ".join(printable(word) for word, _ in e.words_by_lift(8))
        lines = (
            [f"words by {'attention' if e.shown == 'attention' else 'change when masked'}: {words}"] if words else []
        )
        lines += [f"{kind}: {found.verdict}" for kind, found in e.agreements]
        lines += [f"note: {printable(note)}" for note in e.notes]
        if lines:
            console.print(f"\n{printable(e.title)}", style="bold", markup=False, highlight=False)
        for line in lines:
            console.print(f"  {line}", soft_wrap=True, markup=False, highlight=False)


def _predictions(e: Explanation, *, of_user: bool) -> list[str]:
    def rating(rated: PredictedRating) -> float:
        return rated.user if of_user and rated.user is not None else rated.average

    a = e.ablation
    whole = rating(a.everything)
    return [f"{whole:.3f}", *(f"{rating(r) - whole:+.3f}" for r in (a.without_image, a.without_text, a.without_both))]


def _shares(e: Explanation) -> str:
    if e.attention is None:
        return "–"
    shares = e.attention.shares
    return f"{shares['text']:.0%} / {shares['image']:.0%}"


def _correlation(e: Explanation, name: str) -> str:
    found = e.agreement.get(name)
    return "–" if found is None or found.correlation is None else f"{found.correlation:+.2f}"
