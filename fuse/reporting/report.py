"""The report: one page about a run, with its errors, films, example users, calibration, training and provenance.

The first run is the subject of the page. Further ones, tested on the same ratings, are compared with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ...data.pages.chart_kinds import COLOURS, Chart
from ...data.pages.page import counted, render, write_page
from ...data.runtime.errors import UsageError
from ..evaluation.comparison import compare
from ..evaluation.evaluate import BY_RATING, Evaluation, evaluate
from ..evaluation.list_tables import headline
from ..evaluation.metrics import rmse
from ..evaluation.run_rows import Tested
from ..runs.dataset_of_run import dataset_of
from ..runs.run import Run
from ..serving.scoring import item_counts
from .attention_gallery import attention_gallery
from .calibration import calibration, level_shares, slope
from .calibration_charts import calibration_chart, error_chart, level_chart, probability_chart
from .example_users import ExampleUser, example_users
from .item_errors import fair_least, item_errors
from .item_pictures import ItemPictures, ShownItem
from .learning_curves import Curve, learning_curves
from .popularity import bands
from .provenance import Fact, dataset_name, duration, provenance
from .report_charts import (
    difference_chart,
    learning_chart,
    popularity_chart,
    rmse_chart,
)

_TEMPLATE = Path(__file__).parent / "templates" / "report.html"

MOST_RUNS = COLOURS
_ITEMS = 6
_STEPS_OF_SCALE = 16  # bins of the histogram of errors from the lowest rating to the highest


@dataclass(frozen=True)
class Written:
    """A page that was written: file, bytes, posters shown, items shown without one, and why attention is left out."""

    file: Path
    bytes: int
    posters: int
    without_poster: int
    left_out: str | None


@dataclass(frozen=True)
class ItemGroup:
    """Items under one heading."""

    title: str
    items: tuple[ShownItem, ...]


@dataclass(frozen=True)
class Cell:
    """A value of a fact, and the names of the runs that have it."""

    value: str
    runs: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class ShownUser:
    """An example user with the items to show."""

    user: ExampleUser
    rated: tuple[ShownItem, ...]
    lists: tuple[ItemGroup, ...]


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
    """Write the report of the first run, compared with further ones, as one self-contained HTML file.

    ``dataset`` and ``cache`` say where the first run's dataset and embedding file are now, if they have moved; without
    ``posters`` no dataset is opened and items are shown by title. The same runs give the same page. A run without a
    rating model has a page of its lists, for which its dataset is opened always.

    BadInput where a run has no test part, runs were not tested on the same ratings, or the dataset is missing;
    FingerprintMismatch where it is not the run's; UsageError for no run or more than six; NoSpace or BadInput where the
    page cannot be written.
    """
    if not 1 <= len(runs) <= MOST_RUNS:
        raise UsageError(f"a report shows 1 to {MOST_RUNS} runs, found {len(runs)}: leave some out")
    run = runs[0]
    if len(runs) == 1 and not run.recommender.predicts:
        return _write_lists(run, out, dataset=dataset, cache=cache, posters=posters, draws=draws, seed=seed)
    comparison = compare(runs, draws=draws, seed=seed)
    names: list[str] = comparison["name"].to_list()
    folder = dataset_of(run, dataset) if posters else None
    tested = [Tested.of(each) for each in runs]
    found = [
        evaluate(each, beside=each is run and folder is not None, dataset=folder, draws=draws, seed=seed)
        for each in runs  # baselines need the dataset, which is the first run's
    ]
    pictures = ItemPictures(run, folder)
    least = fair_least(tested[0])
    attention = attention_gallery(run, tested[0], folder, cache)
    html = render(
        _TEMPLATE,
        rates=True,
        name=names[0],
        names=names,
        run=run,
        dataset=dataset_name(run),
        found=found[0],
        evaluations=list(zip(names, found, strict=True)),
        mean_rmse=_mean_rmse(run, tested[0]),
        duration=duration(run.summary.seconds),
        trained_ratings=len(run.recommender.rated_items),
        comparison=comparison.to_dicts(),
        comparison_charts=[rmse_chart(comparison), difference_chart(comparison)] if len(runs) > 1 else [],
        verdicts=[_verdict(row) for row in comparison.to_dicts()],
        popularity_charts=_popularity_charts(runs, names, tested, draws, seed),
        calibration_charts=_calibration_charts(run, tested[0], found[0]),
        least=least,
        item_groups=_item_groups(tested[0], run, pictures, least),
        lists=_list_rows(found[0]),
        users=[_shown(user, pictures) for user in example_users(run, tested[0], folder)],
        attention=attention,
        learning_charts=_learning_charts(runs, names),
        facts=_shared_cells(provenance(runs, cache), names),
        posters=posters,
    )
    write_page(out, html)
    shown = html.count("<img ")
    return Written(out, out.stat().st_size, shown, pictures.missing, attention.refusal)


def _write_lists(
    run: Run, out: Path, *, dataset: Path | None, cache: Path | None, posters: bool, draws: int, seed: int
) -> Written:
    """The report of a run that makes lists alone: their quality, example users, and what it was trained on."""
    folder = dataset_of(run, dataset)
    name = run.folder.resolve().name
    found = evaluate(run, dataset=folder, draws=draws, seed=seed)
    pictures = ItemPictures(run, folder if posters else None)
    users = example_users(run, Tested.rows_of(run, folder), folder if posters else None)
    html = render(
        _TEMPLATE,
        rates=False,
        name=name,
        names=[name],
        run=run,
        dataset=dataset_name(run),
        found=found,
        duration=duration(run.summary.seconds),
        trained_ratings=len(run.recommender.rated_items),
        comparison_charts=[],
        lists=_list_rows(found),
        users=[_shown(user, pictures, implicit=run.implicit) for user in users],
        facts=_shared_cells(provenance([run], cache), [name]),
        posters=posters,
    )
    write_page(out, html)
    return Written(out, out.stat().st_size, html.count("<img "), pictures.missing, None)


def _mean_rmse(run: Run, tested: Tested) -> float:
    """The RMSE of predicting the mean training rating everywhere."""
    return rmse(tested.rating, np.full_like(tested.rating, run.recommender.scale.mean))


def _verdict(row: dict[str, Any]) -> str:
    """A row of the comparison in words."""
    low, high = row["difference_low"], row["difference_high"]
    if row["difference"] is None:
        return "the reference"
    if low is None:
        return "no interval: a single user"
    return "better" if high < 0 else "worse" if low > 0 else "no significant difference"


def _popularity_charts(
    runs: Sequence[Run], names: list[str], tested: Sequence[Tested], draws: int, seed: int
) -> list[Chart]:
    of_items, of_users = [], []
    for run, each in zip(runs, tested, strict=True):
        items, users = item_counts(run.recommender), np.diff(run.recommender.rated_offsets)
        of_items.append(bands(each, items[each.item], draws=draws, seed=seed))
        of_users.append(bands(each, users[each.user], draws=draws, seed=seed))
    return [popularity_chart("film", names, of_items), popularity_chart("user", names, of_users)]


def _calibration_charts(run: Run, tested: Tested, found: Evaluation) -> list[Chart]:
    scale = run.recommender.scale
    bins = calibration(tested.prediction, tested.rating, tested.user)
    charts: list[Chart] = [calibration_chart(bins, slope(tested.prediction, tested.rating))]
    errors = error_chart(tested, (scale.levels[-1] - scale.levels[0]) / _STEPS_OF_SCALE or 0.25)
    distribution = run.recommender.distribution(tested.user, tested.item)
    if distribution is None:
        return [*charts, errors]
    lowest = scale.levels[0] if found.liked is None else found.liked
    liked = np.float32(lowest)
    probability = distribution[:, np.array(scale.levels) >= liked].sum(1)
    charts.append(probability_chart(calibration(probability, tested.rating >= liked, tested.user), lowest))
    predicted, observed = level_shares(distribution, tested.rating, scale.levels)
    return [*charts, level_chart(scale.levels, predicted.tolist(), observed.tolist()), errors]


def _item_groups(tested: Tested, run: Run, pictures: ItemPictures, least: int) -> list[ItemGroup]:
    table = item_errors(tested, least)
    count = min(_ITEMS, table.height // 2)
    ids = run.recommender.item_ids.tolist()

    def shown(row: dict[str, Any]) -> ShownItem:
        return pictures.item(
            ids[row["item"]],
            f"RMSE {row['rmse']:.2f}",
            f"rated {row['rating']:.2f} ± {row['spread']:.2f}",
            f"predicted {row['prediction']:.2f}",
            counted(row["ratings"], "rating"),
        )

    best, worst = table.head(count), table.reverse().head(count)
    return [
        ItemGroup(title, tuple(map(shown, rows.to_dicts())))
        for title, rows in (("Best predicted", best), ("Worst predicted", worst))
        if rows.height
    ]


def _list_rows(found: Evaluation) -> list[dict[str, Any]]:
    """A row for each method, this run first: its figures, and the run's NDCG minus its own with bounds."""
    rows = headline(found.lists, found.differences, found.k)
    return rows.with_columns(pl.col("method").replace(BY_RATING, "by predicted rating")).to_dicts()


_LIST_TITLES = {"ranking": "Most likely to be liked next, by the ranking model", "rating": "By predicted rating"}


def _shown(user: ExampleUser, pictures: ItemPictures, *, implicit: bool = False) -> ShownUser:
    rated = () if user.rated is None else user.rated.to_dicts()

    def listed(row: dict[str, Any]) -> ShownItem:
        return pictures.item(row["item_id"], *_lines(user, row, implicit=implicit))

    def taken(row: dict[str, Any]) -> ShownItem:
        return pictures.item(row["item_id"], *(() if implicit else (f"rated {row['rating']:g}",)))

    lists = (ItemGroup(_LIST_TITLES[by], tuple(map(listed, rows.to_dicts()))) for by, rows in user.lists.items())
    return ShownUser(user, tuple(map(taken, rated)), tuple(lists))


def _lines(user: ExampleUser, row: dict[str, Any], *, implicit: bool) -> tuple[str, ...]:
    """What stands under a recommended item: the expected rating, the test rating, the item that adds most to it."""
    predicted = () if row["prediction"] is None else (f"{row['prediction']:.2f}",)
    known = row["because_title"] or row["because_item_id"]
    reason = () if known is None else (f"because of {known}",)
    tested = _test_rating(user, row["item_id"])
    return (*predicted, *(("in the test part",) if tested and implicit else tested), *reason)


def _test_rating(user: ExampleUser, item_id: Any) -> tuple[str, ...]:
    return (f"test rating {user.tested[item_id]:g}",) if item_id in user.tested else ()


def _learning_charts(runs: Sequence[Run], names: list[str]) -> list[Chart]:
    curves = [learning_curves(run) for run in runs]
    shown = [(name, run, each) for name, run, each in zip(names, runs, curves, strict=True) if each]
    reach = [value for _, _, each in shown for value in _shown_rmse(each)]
    charts: list[Chart] = []
    for number, (name, run, each) in enumerate(shown, 1):
        chosen = run.summary.chosen_epochs if run.config.patience else None
        charts.append(learning_chart(number, name if len(runs) > 1 else "RMSE by epoch", each, chosen, reach))
    return charts


def _shown_rmse(curves: Sequence[Curve]) -> list[float]:
    return [*curves[0].train, *(curves[0].validation or ())]


def _shared_cells(facts: list[Fact], names: list[str]) -> list[tuple[Fact, list[Cell]]]:
    """Each fact with its cells: neighbouring runs with the same value share a cell."""
    rows = []
    for fact in facts:
        runs = groupby(zip(fact.values, names, strict=True), key=lambda pair: pair[0])
        rows.append((fact, [Cell(value, tuple(name for _, name in pairs)) for value, pairs in runs]))
    return rows
