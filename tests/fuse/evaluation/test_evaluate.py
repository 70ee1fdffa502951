"""What an evaluation says, against the same figures worked out plainly; and runs side by side on the same ratings."""

from __future__ import annotations

import io
import json
import math
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from rich.console import Console

from cinefuse.data.dataset.folder import ITEM_COLUMNS, Description
from cinefuse.data.runtime.errors import BadInput, UsageError
from cinefuse.data.sample.catalogue import write_sample
from cinefuse.fuse.commands.evaluation_screen import show_comparison, show_evaluation
from cinefuse.fuse.evaluation.comparison import compare
from cinefuse.fuse.evaluation.evaluate import evaluate
from cinefuse.fuse.evaluation.metrics import bootstrap_interval, paired_difference
from cinefuse.fuse.models.heads import Scale
from cinefuse.fuse.runs.run import Run
from cinefuse.tests.support.runs import KINDS, train_factors

RANKING = "with a ranking model"
ALL_KINDS = (*KINDS, RANKING)


@pytest.fixture(scope="module")
def runs(crowd: Path, crowd_runs: dict[str, Run], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    ranking = train_factors(crowd, tmp_path_factory.mktemp("ranking") / RANKING, "objective=both")
    return crowd_runs | {RANKING: ranking}


@pytest.fixture(scope="module")
def other_split(crowd: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train_factors(crowd, tmp_path_factory.mktemp("other") / "squared", split="random:0.3")


@pytest.fixture
def own_run(runs: dict[str, Run], tmp_path: Path) -> Run:
    """A run that may be changed."""
    return Run.open(Path(shutil.copytree(runs["squared"].folder, tmp_path / "run")))


def rows(dataset: Path, numbers: np.ndarray) -> pl.DataFrame:
    return pl.read_parquet(dataset / "ratings.parquet")[numbers.tolist()]


def plain_ranking(dataset: Path, run: Run, k: int, liked: float) -> dict[int, tuple[float, float]]:
    """NDCG@k and recall@k of each user with a liked test film, film by film from the tables on disk."""
    split, recommender = run.split, run.recommender
    seen: dict[int, set[int]] = {}
    for user, item in (
        rows(dataset, np.concatenate([split.train, split.validation])).select("user_id", "item_id").rows()
    ):
        seen.setdefault(user, set()).add(item)
    rated = {item for of_user in seen.values() for item in of_user}
    relevant: dict[int, set[int]] = {}
    for user, item, rating in rows(dataset, split.test).select("user_id", "item_id", "rating").rows():
        if rating >= liked:
            relevant.setdefault(user, set()).add(item)
    items = recommender.item_ids.tolist()
    found = {}
    for user, wanted in relevant.items():
        number = recommender.user_numbers([user])
        scores = recommender.all_ratings(number) if run.ranking is None else run.ranking.scores()[number].numpy()
        predicted = dict(zip(items, scores[0].tolist(), strict=True))
        order = sorted(
            (f for f in items if f not in seen.get(user, set())), key=lambda f: (f not in rated, -predicted[f])
        )[:k]
        gain = sum(1 / math.log2(place + 2) for place, item in enumerate(order) if item in wanted)
        best = sum(1 / math.log2(place + 2) for place in range(min(k, len(wanted))))
        found[user] = gain / best, len(wanted & set(order)) / len(wanted)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 5, 100])
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_rank_among_all_unseen_items_is_what_a_reader_works_out(
    kind: str, k: int, runs: dict[str, Run], crowd: Path
) -> None:
    # no prediction of these runs is clamped, and no two are equal: by rating and by score is one order
    found, expected = evaluate(runs[kind], k=k, draws=1), plain_ranking(crowd, runs[kind], k, 4)
    assert found.ranked_users == len(expected) > 64
    assert found.ndcg == pytest.approx(np.mean([ndcg for ndcg, _ in expected.values()]))
    assert found.recall == pytest.approx(np.mean([recall for _, recall in expected.values()]))
    assert (found.k, found.liked) == (k, 4)


def test_a_higher_bar_counts_as_liked_only_what_reaches_it(runs: dict[str, Run], crowd: Path) -> None:
    found, expected = evaluate(runs["squared"], liked=5, draws=1), plain_ranking(crowd, runs["squared"], 10, 5)
    assert found.ranked_users == len(expected)
    assert found.ndcg == pytest.approx(np.mean([ndcg for ndcg, _ in expected.values()]))


def test_a_bar_that_no_rating_reaches_leaves_no_rank(runs: dict[str, Run]) -> None:
    found = evaluate(runs["squared"], liked=6, draws=1)
    assert found.ranked_users == 0
    assert math.isnan(found.ndcg)
    assert found.as_dict()["ndcg"] is None
    assert found.as_dict()["recall"] is None


def test_a_bar_between_floats_counts_the_rating_it_names(own_run: Run) -> None:
    file = own_run.folder / "predictions.parquet"
    tenth = pl.read_parquet(file).with_columns(rating=pl.lit(4.2, pl.Float32))  # stored as 4.19999980926...
    tenth.write_parquet(file)
    assert evaluate(own_run, liked=4.2, draws=1).ranked_users == tenth["user_id"].n_unique()


@pytest.mark.parametrize(
    ("levels", "liked"),
    [
        ((1, 2, 3, 4, 5), 4),
        (tuple(n / 2 for n in range(1, 11)), 4),
        (tuple(range(1, 11)), 8),
        ((0, 1), 1),
        ((3,), 3),
        ((-10, -5, 0, 5, 10), 5),  # three quarters up a scale that goes below 0
        ((-1, 1), 1),
        ((-3, -2, -1), -1),
        (tuple(float(np.float32(n / 10)) for n in range(1, 11)), float(np.float32(0.8))),
        (
            tuple(float(np.float32(0.7 * n)) for n in range(1, 6)),
            float(np.float32(2.8)),
        ),  # a little less than 0.8 * 3.5
    ],
)
def test_liked_is_the_lowest_level_of_at_least_four_fifths_of_the_top_or_three_quarters_up_from_below_0(
    levels: tuple[float, ...], liked: float
) -> None:
    assert Scale(levels, 0.0, 1.0).liked == liked


def test_by_mmrec_every_test_film_is_relevant_and_lists_have_twenty(runs: dict[str, Run], crowd: Path) -> None:
    found, expected = evaluate(runs["squared"], protocol="mmrec", draws=1), plain_ranking(crowd, runs["squared"], 20, 0)
    assert (found.protocol, found.k, found.liked) == ("mmrec", 20, None)
    assert found.ranked_users == len(expected)
    assert found.ndcg == pytest.approx(np.mean([ndcg for ndcg, _ in expected.values()]))
    assert found.recall == pytest.approx(np.mean([recall for _, recall in expected.values()]))
    assert found.lists["mean_rating"].null_count() == len(found.lists)
    assert "MMRec protocol: every test interaction is relevant" in found.protocol_says


def test_lists_stand_beside_most_popular_and_ease_at_every_length(runs: dict[str, Run]) -> None:
    found = evaluate(runs["squared"], k=7, draws=20)
    assert [each["name"] for each in found.baselines] == ["most popular", "EASE"]
    rows = found.lists.select("method", "k").rows()
    assert rows == [(method, k) for method in ("this run", "most popular", "EASE") for k in (5, 7, 10, 20)]
    both = evaluate(runs["with a ranking model"], draws=20)
    own = ["this run", "its ratings"]
    assert both.lists["method"].unique(maintain_order=True).to_list() == [*own, "most popular", "EASE"]
    assert not [line for line in both.warnings if "its ratings" in line]
    assert found.lists["users"].unique().to_list() == [found.ranked_users]
    ours = found.lists.filter(method="this run", k=7)
    assert (ours["ndcg"].item(), ours["recall"].item()) == (found.ndcg, found.recall)
    ease = found.lists.filter(method="EASE", k=7)["ndcg"].item()
    gap = found.differences.filter(method="EASE", k=7, metric="ndcg")["difference"].item()
    assert gap == pytest.approx(found.ndcg - ease)


def test_a_baseline_that_is_not_beaten_is_named_in_the_last_lines(runs: dict[str, Run]) -> None:
    found = evaluate(runs["squared"], draws=100)
    gaps = found.differences.filter(k=10, metric="ndcg")
    for method, low, high in gaps.select("method", "low", "high").rows():
        named = [line for line in found.warnings if f" {method}: " in line]
        words = "worse than" if high < 0 else "not measurably better than" if low <= 0 else ""
        assert bool(named) == bool(words)
        assert all(words in line for line in named)
    assert found.warnings
    text = on_screen(lambda console: show_evaluation(found, console)).strip()
    assert text.endswith(f"warning: {found.warnings[-1]}")


@pytest.mark.slow
def test_without_its_dataset_a_run_is_still_set_beside_the_baselines(tmp_path: Path) -> None:
    dataset = tmp_path / "crowd"
    write_sample(dataset, items=40, users=70)
    run = train_factors(dataset, tmp_path / "run")
    before = evaluate(run, draws=1)
    shutil.rmtree(dataset)
    after = evaluate(run, draws=1)
    assert [each["not_run"] for each in after.baselines] == ["", ""]
    popular = [found.lists.filter(method="most popular") for found in (before, after)]
    assert_frame_equal(*popular)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_errors_are_those_of_the_summary_with_intervals_that_draw_users(kind: str, runs: dict[str, Run]) -> None:
    run = runs[kind]
    found, table = evaluate(run, draws=50, seed=3), run.predictions()
    assert (found.rmse.value, found.mae.value) == pytest.approx((run.summary.rmse, run.summary.mae))
    columns = (table[name].to_numpy() for name in ("rating", "prediction", "user_id"))
    expected = bootstrap_interval(*columns, draws=50, seed=3)
    assert (found.rmse, found.mae) == (expected.rmse, expected.mae)
    assert (found.draws, found.seed) == (50, 3)


def test_errors_by_popularity_count_training_ratings(runs: dict[str, Run], crowd: Path) -> None:
    run = runs["squared"]
    split = run.split
    training, test = rows(crowd, np.concatenate([split.train, split.validation])), rows(crowd, split.test)
    for table, column in ((evaluate(run, draws=1).by_item, "item_id"), (evaluate(run, draws=1).by_user, "user_id")):
        counts = Counter(training[column].to_list())
        bands = Counter(
            "unseen" if n == 0 else "1-4" if n < 5 else "5-19" if n < 20 else "20+"
            for n in (counts[who] for who in test[column])
        )
        assert dict(table.select("band", "ratings").iter_rows()) == {name: bands[name] for name in table["band"]}
        assert table["ratings"].sum() == len(test)


@pytest.mark.parametrize(("split", "side"), [("cold-items:0.2", "films"), ("cold-users:0.2", "users")])
def test_whom_training_never_saw_is_counted(split: str, side: str, crowd: Path, tmp_path: Path) -> None:
    found = evaluate(train_factors(crowd, tmp_path / "run", split=split), draws=1)
    test = found.test_ratings
    listed = pl.read_parquet(crowd / "ratings.parquet")["item_id" if side == "films" else "user_id"].n_unique()
    held_out = int(0.2 * listed)
    if side == "films":
        assert (found.unrated_items, found.of_unseen_items) == (found.test_items, test) == (held_out, test)
        assert (found.unseen_users, found.of_unseen_users) == (0, 0)
    else:
        assert (found.unseen_users, found.of_unseen_users) == (found.test_users, test) == (held_out, test)
        assert (found.unrated_items, found.of_unseen_items) == (0, 0)


def test_a_test_item_that_training_saw_too_is_not_ranked(own_run: Run, crowd: Path) -> None:
    before = evaluate(own_run, draws=1)
    file = own_run.folder / "predictions.parquet"
    twice = rows(crowd, own_run.split.train[:30]).select(
        "user_id", "item_id", rating=pl.lit(5, pl.Float32), prediction=pl.lit(3, pl.Float32)
    )
    pl.concat([pl.read_parquet(file), twice]).write_parquet(file)
    after = evaluate(own_run, draws=1)
    assert (after.ndcg, after.recall, after.ranked_users) == (before.ndcg, before.recall, before.ranked_users)
    assert after.test_ratings == before.test_ratings + 30


def test_evaluating_writes_nothing(runs: dict[str, Run]) -> None:
    folder = runs["squared"].folder
    before = {file: (file.stat().st_mtime_ns, file.stat().st_size) for file in folder.iterdir()}
    evaluate(runs["squared"], draws=1)
    assert {file: (file.stat().st_mtime_ns, file.stat().st_size) for file in folder.iterdir()} == before


def test_an_evaluation_is_json_with_nothing_that_json_lacks(runs: dict[str, Run]) -> None:
    found = evaluate(runs["squared"], liked=6, draws=20)
    shown = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert shown["rmse"] == {"value": found.rmse.value, "low": found.rmse.low, "high": found.rmse.high}
    assert [band["band"] for band in shown["by_item"]] == ["unseen", "1-4", "5-19", "20+"]
    assert (shown["name"], shown["preset"], shown["split"]) == ("squared", "mf", "random:0.2")
    assert set(shown) == set(vars(found))


def small(folder: Path, pairs: list[tuple[int, int, float]]) -> Path:
    folder.mkdir()
    Description("made by a test").write(folder)
    ids = pl.Series("item_id", sorted({item for _, item, _ in pairs}))
    nothing = {name: pl.Series([None] * len(ids), dtype=kind) for name, kind in ITEM_COLUMNS.items()}
    items = pl.DataFrame({**nothing, "item_id": ids, "title": [""] * len(ids)})
    items.write_parquet(folder / "items.parquet")
    schema = {"user_id": pl.Int64, "item_id": pl.Int64, "rating": pl.Float32}
    pl.DataFrame(pairs, schema=schema, orient="row").write_parquet(folder / "ratings.parquet")
    return folder


def test_one_user_has_errors_without_an_interval(tmp_path: Path) -> None:
    dataset = small(tmp_path / "one", [(7, item, float(1 + item % 5)) for item in range(20)])
    run = train_factors(dataset, tmp_path / "run")
    found = evaluate(run)
    assert math.isnan(found.rmse.low)
    assert found.as_dict()["rmse"] == {"value": found.rmse.value, "low": None, "high": None}
    assert found.test_users == 1
    table = compare([run, run])
    assert table["rmse_low"].to_list() == table["difference_high"].to_list() == [None, None]
    assert table["difference"].to_list() == [None, 0.0]
    assert "no interval: one user only" in on_screen(lambda console: show_evaluation(found, console))


@pytest.mark.slow
def test_one_item_can_be_evaluated(tmp_path: Path) -> None:
    dataset = small(tmp_path / "one", [(user, 3, float(1 + user % 5)) for user in range(20)])
    found = evaluate(train_factors(dataset, tmp_path / "run"), k=10)
    assert (found.test_items, found.test_users) == (1, 4)
    assert (found.ndcg, found.recall) == (1, 1)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"protocol": "netflix"}, "protocol 'netflix': expected auto, movielens or mmrec"),
        (
            {"protocol": "mmrec", "liked": 4},
            "protocol mmrec: every test row is relevant, so it takes no lowest rating; leave --liked out",
        ),
        ({"k": 0}, "k must be at least 1, found 0"),
        ({"draws": 0}, "draws must be at least 1, found 0"),
        ({"seed": -1}, "seed must be at least 0, found -1"),
        ({"liked": math.nan}, "liked must be a rating, such as 4, found nan"),
        ({"liked": math.inf}, "liked must be a rating, such as 4, found inf"),
    ],
)
def test_what_cannot_be_asked_is_refused(asked: dict[str, float], says: str, runs: dict[str, Run]) -> None:
    with pytest.raises(UsageError) as refusal:
        evaluate(runs["squared"], **asked)  # type: ignore[arg-type]
    assert str(refusal.value) == says


def test_a_run_without_a_test_part_is_refused(crowd: Path, tmp_path: Path) -> None:
    run = train_factors(crowd, tmp_path / "run", split="all")
    for asked in (lambda: evaluate(run), lambda: compare([run])):
        with pytest.raises(BadInput, match="split 'all' has no test part to evaluate on"):
            asked()


def test_damaged_predictions_are_refused_by_name(own_run: Run) -> None:
    file = own_run.folder / "predictions.parquet"
    table = pl.read_parquet(file)
    table.with_columns(pl.col("user_id") + 1000).write_parquet(file)
    with pytest.raises(BadInput, match=r"predictions\.parquet names users or films that the run's model doesn't know"):
        evaluate(own_run)
    table.drop("rating").write_parquet(file)
    with pytest.raises(BadInput, match=r"predictions\.parquet cannot be read .*: train the run again"):
        evaluate(own_run)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(BadInput, match=r"predictions\.parquet cannot be read .*: train the run again"):
        compare([own_run])


def test_each_run_is_compared_with_the_first_over_the_same_draws(runs: dict[str, Run]) -> None:
    table = compare(list(runs.values()), draws=50, seed=1)
    assert table["name"].to_list() == list(ALL_KINDS)
    assert table["preset"].to_list() == ["mf"] * 5
    assert table["split"].to_list() == ["random:0.2"] * 5
    assert table.row(0)[6:] == (None, None, None)
    first = runs["squared"].predictions()
    for row, run in zip(table.to_dicts(), runs.values(), strict=True):
        its = run.predictions()
        columns = (its["rating"], its["prediction"], first["prediction"], first["user_id"])
        expected = paired_difference(*(column.to_numpy() for column in columns), draws=50, seed=1)
        alone = evaluate(run, draws=50, seed=1).rmse
        assert (row["rmse"], row["rmse_low"], row["rmse_high"]) == pytest.approx((alone.value, alone.low, alone.high))
        if run is not runs["squared"]:
            found = row["difference"], row["difference_low"], row["difference_high"]
            assert found == pytest.approx((expected.value, expected.low, expected.high), abs=1e-12)


def test_a_run_that_errs_more_lies_above_the_first(own_run: Run, runs: dict[str, Run]) -> None:
    file = own_run.folder / "predictions.parquet"
    pl.read_parquet(file).with_columns(prediction=6 - pl.col("rating")).write_parquet(file)
    worse = compare([runs["squared"], own_run]).row(1, named=True)
    assert 0 < worse["difference_low"] <= worse["difference"] <= worse["difference_high"]


def test_the_order_of_predictions_does_not_matter(own_run: Run, runs: dict[str, Run]) -> None:
    file = own_run.folder / "predictions.parquet"
    pair = [runs["two members"], own_run]
    before = compare(pair, draws=20)
    pl.read_parquet(file).sample(fraction=1, shuffle=True, seed=0).write_parquet(file)
    assert_frame_equal(compare(pair, draws=20), before)


def test_runs_tested_on_other_ratings_are_refused_by_name(runs: dict[str, Run], other_split: Run, own_run: Run) -> None:
    first, third = runs["squared"], other_split
    with pytest.raises(BadInput) as refusal:
        compare([first, runs["ordinal"], third])
    said = str(refusal.value)
    assert str(first.folder) in said
    assert str(third.folder) in said
    assert str(runs["ordinal"].folder) not in said
    assert "were not tested on the same ratings" in said
    assert "split random:0.2" in said
    assert "split random:0.3" in said
    file = own_run.folder / "predictions.parquet"
    table = pl.read_parquet(file)
    for other in (
        table.with_columns(rating=6 - pl.col("rating")),
        table.with_columns(pl.col("item_id") + 1),
        table.head(-1),
        table.with_columns(pl.col("user_id").cast(pl.String)),
    ):
        other.write_parquet(file)
        with pytest.raises(BadInput, match="were not tested on the same ratings"):
            compare([first, own_run])


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (("a",), ["a"]),
        (("a", "b"), ["a", "b"]),
        (("a", "x/run", "y/run"), ["a", "x/run", "y/run"]),
        (("study/text/u1/seed-0", "study/poster/u1/seed-0"), ["text", "poster"]),
        (("study/text/u1/seed-0", "study/text/u1/seed-1"), ["seed-0", "seed-1"]),
        (("x/run", "x/y/run"), ["x", "y"]),
        (("run", "run/run"), ["top", "run"]),
        (("run", "run"), ["run", "run"]),
    ],
)
def test_runs_are_called_by_what_tells_their_paths_apart(
    folders: tuple[str, ...], names: list[str], runs: dict[str, Run], tmp_path: Path
) -> None:
    opened = []
    for folder in folders:
        place = tmp_path / "top" / folder
        shutil.copytree(runs["squared"].folder, place, dirs_exist_ok=True)
        opened.append(Run.open(place))
    assert compare(opened, draws=1)["name"].to_list() == names


def test_comparing_nothing_or_without_draws_is_refused(runs: dict[str, Run]) -> None:
    with pytest.raises(UsageError, match="nothing to compare: name at least one run folder"):
        compare([])
    with pytest.raises(UsageError, match="draws must be at least 1 and seed at least 0, found 0 and 0"):
        compare([runs["squared"]], draws=0)


def on_screen(show: Callable[[Console], None], width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width, markup=False, highlight=False, emoji=False)
    show(console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_screen_shows_every_figure(runs: dict[str, Run]) -> None:
    found = evaluate(runs["squared"], draws=20)
    text = on_screen(lambda console: show_evaluation(found, console))
    for figure in (found.rmse.value, found.rmse.low, found.rmse.high, found.mae.value, found.ndcg, found.recall):
        assert f"{figure:.4f}" in text
    for word in (
        "squared",
        "preset mf",
        "split random:0.2",
        "NDCG@10",
        "rating of 4 or more",
        "films with 5-19 training ratings",
    ):
        assert word in text
    table = compare(list(runs.values()), draws=20)
    text = on_screen(lambda console: show_comparison(table, console))
    assert f"{table['difference'][2]:+.4f}" in text
    assert f"{table['rmse_low'][3]:.4f} to {table['rmse_high'][3]:.4f}" in text


def test_the_screen_of_a_narrow_terminal_is_narrow(runs: dict[str, Run]) -> None:
    table = compare(list(runs.values()), draws=20)
    text = on_screen(lambda console: show_comparison(table, console), 60)
    assert max(len(line) for line in text.splitlines()) <= 60
    for name, figure in table.select("name", "rmse").iter_rows():
        assert name.split()[0] in text
        assert f"{figure:.4f}" in text
