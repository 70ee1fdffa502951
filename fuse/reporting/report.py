"""One page that says what a run was trained on, how good it is, where it fails, and what it would recommend.

The first run is the page's subject: its films, its users, its calibration. Further ones, tested on the same ratings,
stand beside it wherever figures can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from ...data.pages.charts import COLOURS, Chart
from ...data.pages.page import counted, render, write_page
from ...data.runtime.errors import UsageError
from ..evaluation.comparison import compare
from ..evaluation.evaluate import Evaluation, evaluate
from ..evaluation.metrics import rmse
from ..evaluation.run_rows import Tested
from ..runs.dataset_of_run import dataset_of
from ..runs.run import Run
from .attention_gallery import attention_gallery
from .calibration import calibration, level_shares, slope
from .example_users import Shelf, shelves
from .item_errors import fair_least, film_errors
from .item_pictures import FilmPictures, ShownFilm
from .learning_curves import Curve, learning_curves
from .popularity import bands
from .provenance import Fact, dataset_name, duration, model_in_words, provenance
from .report_charts import (
    calibration_chart,
    chance_chart,
    difference_chart,
    error_chart,
    learning_chart,
    level_chart,
    popularity_chart,
    rmse_chart,
)

_TEMPLATE = Path(__file__).parent / "templates" / "report.html"

MOST_RUNS = COLOURS
_FILMS = 6
_STEPS_OF_SCALE = 16  # bins of the histogram of errors from the lowest rating to the highest


@dataclass(frozen=True)
class Written:
    """A page that was written: where, its bytes, posters shown, films shown without one, what it had to leave out."""

    file: Path
    bytes: int
    posters: int
    without_poster: int
    left_out: str | None


@dataclass(frozen=True)
class FilmGroup:
    """Films under one heading."""

    title: str
    films: tuple[ShownFilm, ...]


@dataclass(frozen=True)
class Cell:
    """A value of a fact, and the names of the runs it is of."""

    value: str
    runs: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class ShownShelf:
    """A user's shelf with its films ready to be shown."""

    shelf: Shelf
    rated: tuple[ShownFilm, ...]
    best: tuple[ShownFilm, ...]


def write_report(
    runs: Sequence[Run],
    out: Path,
    *,
    dataset: Path | None = None,
    cache: Path | None = None,
    posters: bool = True,
    draws: int = 2000,
    seed: int = 0,
) -> Written:
    """Write the report of the first run, beside further ones, as one HTML file that needs nothing else.

    ``dataset`` and ``cache`` say where the first run's dataset and embedding file are now, if they have moved; without
    ``posters`` no dataset is opened and titles stand for films. The same runs give the same page.

    BadInput where a run has no test part, where runs were not tested on the same ratings, or the dataset is gone;
    FingerprintMismatch where it is another; UsageError for no run or more than six; NoSpace or BadInput where the page
    cannot be written.
    """
    if not 1 <= len(runs) <= MOST_RUNS:
        raise UsageError(f"a report shows 1 to {MOST_RUNS} runs, found {len(runs)}: leave some out")
    comparison = compare(runs, draws=draws, seed=seed)
    names: list[str] = comparison["name"].to_list()
    run, folder = runs[0], dataset_of(runs[0], dataset) if posters else None
    tested = [Tested.of(each) for each in runs]
    found = [evaluate(each, beside=False, draws=draws, seed=seed) for each in runs]
    pictures = FilmPictures(run, folder)
    least = fair_least(tested[0])
    attention = attention_gallery(run, tested[0], folder, cache)
    html = render(
        _TEMPLATE,
        name=names[0],
        names=names,
        run=run,
        dataset=dataset_name(run),
        model=model_in_words(run.config),
        found=found[0],
        evaluations=list(zip(names, found, strict=True)),
        guess=_guess(run, tested[0]),
        duration=duration(run.summary["seconds"]),
        trained_ratings=len(run.recommender.rated_items),
        comparison=comparison.to_dicts(),
        comparison_charts=[rmse_chart(comparison), difference_chart(comparison)] if len(runs) > 1 else [],
        verdicts=[_verdict(row) for row in comparison.to_dicts()],
        popularity_charts=_popularity_charts(runs, names, tested, draws, seed),
        calibration_charts=_calibration_charts(run, tested[0], found[0]),
        least=least,
        film_groups=_film_groups(tested[0], run, pictures, least),
        shelves=[_shown(shelf, pictures) for shelf in shelves(run, tested[0], folder)],
        attention=attention,
        learning_charts=_learning_charts(runs, names),
        facts=_told_once(provenance(runs, cache), names),
        posters=posters,
    )
    write_page(out, html)
    shown = html.count("<img ")
    return Written(out, out.stat().st_size, shown, pictures.missing, attention.refusal)


def _guess(run: Run, tested: Tested) -> float:
    """The RMSE of always saying the mean training rating."""
    return rmse(tested.rating, np.full_like(tested.rating, run.recommender.scale.mean))


def _verdict(row: dict[str, Any]) -> str:
    """What a row of the comparison says of its run, in words."""
    low, high = row["difference_low"], row["difference_high"]
    if row["difference"] is None:
        return "what the others are measured by"
    if low is None:
        return "one user only: no interval"
    return "better" if high < 0 else "worse" if low > 0 else "cannot be told apart"


def _popularity_charts(
    runs: Sequence[Run], names: list[str], tested: Sequence[Tested], draws: int, seed: int
) -> list[Chart]:
    of_films, of_users = [], []
    for run, each in zip(runs, tested, strict=True):
        recommender = run.recommender
        films = np.bincount(recommender.rated_items, minlength=len(recommender.item_ids))
        users = np.diff(recommender.rated_offsets)
        of_films.append(bands(each, films[each.item], draws=draws, seed=seed))
        of_users.append(bands(each, users[each.user], draws=draws, seed=seed))
    return [popularity_chart("film", names, of_films), popularity_chart("user", names, of_users)]


def _calibration_charts(run: Run, tested: Tested, found: Evaluation) -> list[Chart]:
    scale = run.recommender.scale
    bins = calibration(tested.prediction, tested.rating, tested.user)
    charts: list[Chart] = [calibration_chart(bins, slope(tested.prediction, tested.rating))]
    errors = error_chart(tested, (scale.levels[-1] - scale.levels[0]) / _STEPS_OF_SCALE or 0.25)
    distribution = run.recommender.distribution(tested.user, tested.item)
    if distribution is None:
        return [*charts, errors]
    bar = scale.levels[0] if found.liked is None else found.liked
    liked = np.float32(bar)
    chance = distribution[:, np.array(scale.levels) >= liked].sum(1)
    charts.append(chance_chart(calibration(chance, tested.rating >= liked, tested.user), bar))
    said, came = level_shares(distribution, tested.rating, scale.levels)
    return [*charts, level_chart(scale.levels, said.tolist(), came.tolist()), errors]


def _film_groups(tested: Tested, run: Run, pictures: FilmPictures, least: int) -> list[FilmGroup]:
    table = film_errors(tested, least)
    count = min(_FILMS, table.height // 2)
    ids = run.recommender.item_ids.tolist()

    def shown(row: dict[str, Any]) -> ShownFilm:
        rated, said = f"{row['rating']:.2f} ± {row['spread']:.2f}", f"{row['prediction']:.2f}"
        return pictures.film(
            ids[row["film"]],
            f"RMSE {row['rmse']:.2f}",
            f"rated {rated}",
            f"predicted {said}",
            counted(row["ratings"], "rating"),
        )

    best, worst = table.head(count), table.reverse().head(count)
    return [
        FilmGroup(title, tuple(map(shown, rows.to_dicts())))
        for title, rows in (("Best predicted", best), ("Worst predicted", worst))
        if rows.height
    ]


def _shown(shelf: Shelf, pictures: FilmPictures) -> ShownShelf:
    rated = () if shelf.rated is None else shelf.rated.to_dicts()
    return ShownShelf(
        shelf,
        tuple(pictures.film(film["item_id"], f"rated {film['rating']:g}") for film in rated),
        tuple(
            pictures.film(film["item_id"], f"{film['prediction']:.2f}", *_came(shelf, film["item_id"]))
            for film in shelf.best.to_dicts()
        ),
    )


def _came(shelf: Shelf, item_id: Any) -> tuple[str, ...]:
    return (f"test rating {shelf.tested[item_id]:g}",) if item_id in shelf.tested else ()


def _learning_charts(runs: Sequence[Run], names: list[str]) -> list[Chart]:
    curves = [learning_curves(run) for run in runs]
    shown = [(name, run, each) for name, run, each in zip(names, runs, curves, strict=True) if each]
    reach = [value for _, _, each in shown for value in _seen(each)]
    charts: list[Chart] = []
    for number, (name, run, each) in enumerate(shown, 1):
        chosen = run.summary["chosen_epochs"] if run.config.patience else None
        charts.append(learning_chart(number, name if len(runs) > 1 else "RMSE by epoch", each, chosen, reach))
    return charts


def _seen(curves: Sequence[Curve]) -> list[float]:
    return [*curves[0].train, *(curves[0].validation or ())]


def _told_once(facts: list[Fact], names: list[str]) -> list[tuple[Fact, list[Cell]]]:
    """Each fact with its cells: runs that stand side by side and share a value share a cell."""
    told = []
    for fact in facts:
        runs = groupby(zip(fact.values, names, strict=True), key=lambda pair: pair[0])
        told.append((fact, [Cell(value, tuple(name for _, name in pairs)) for value, pairs in runs]))
    return told
