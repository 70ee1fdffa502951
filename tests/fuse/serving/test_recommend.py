"""What a run recommends and predicts: nothing seen, the same alone or with everybody, and clear about the unknown."""

from __future__ import annotations

import difflib
import io
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from rich.console import Console

from cinefuse.data.runtime.errors import BadInput, UsageError
from cinefuse.fuse.commands.recommendation_screen import show_recommendations
from cinefuse.fuse.models.factors import Vectors
from cinefuse.fuse.models.heads import OrdinalHead, Scale, SquaredHead
from cinefuse.fuse.models.recommender import Recommender
from cinefuse.fuse.runs.record import RunRecord
from cinefuse.fuse.runs.run import Run
from cinefuse.fuse.serving.predict import predict
from cinefuse.fuse.serving.recommend import recommend, recommend_all
from cinefuse.fuse.settings.config import Config
from cinefuse.tests.support.runs import KINDS, train_factors, write_dataset

LAST_DIGIT = 2e-6  # of a float32 rating: sums of one pair and of many may round differently


@pytest.fixture
def runs(crowd_runs: dict[str, Run]) -> dict[str, Run]:
    return crowd_runs


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose users and films have ids of text."""
    folder = tmp_path_factory.mktemp("named")
    chance = np.random.default_rng(0)
    users, items = ["ann", "Bob", "007", "zoë"], [f"tt{n:03}" for n in range(12)]
    pairs = [(user, item, float(chance.integers(1, 6))) for user in users for item in items[:9]]
    ratings = pl.DataFrame(pairs, schema=["user_id", "item_id", "rating"], orient="row")
    return train_factors(write_dataset(folder / "dataset", ratings, items), folder / "run")


def seen_in_training(dataset: Path, run: Run) -> set[tuple[int, int]]:
    """User and film of each training and validation rating, as the tables on disk have them."""
    ratings = pl.read_parquet(dataset / "ratings.parquet")
    split = run.split
    rows = np.concatenate([split.train, split.validation])
    return set(ratings[rows.tolist()].select("user_id", "item_id").iter_rows())


@pytest.mark.parametrize("kind", KINDS)
def test_a_item_seen_in_training_is_never_recommended_and_every_other_one_can_be(
    kind: str, runs: dict[str, Run], crowd: Path
) -> None:
    run = runs[kind]
    recommended = set(recommend_all(run, 40).select("user_id", "item_id").iter_rows())
    seen = seen_in_training(crowd, run)
    assert seen
    assert not recommended & seen
    assert len(recommended) + len(seen) == 150 * 40


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_table_of_all_users_is_the_tables_of_each(kind: str, runs: dict[str, Run]) -> None:
    run = runs[kind]
    everybody = recommend_all(run, 7)
    for user in run.recommender.user_ids.tolist():
        alone = recommend(run, user, 7).select("rank", "item_id", "score", "prediction")
        assert_frame_equal(everybody.filter(user_id=user).drop("user_id"), alone, abs_tol=LAST_DIGIT)


@pytest.mark.parametrize("kind", KINDS)
def test_the_best_come_first_and_bear_the_prediction_of_their_pair(kind: str, runs: dict[str, Run]) -> None:
    run = runs[kind]
    table = recommend_all(run, 40)
    user = run.recommender.user_numbers(table["user_id"].to_list())
    item = run.recommender.item_numbers(table["item_id"].to_list())
    expected = run.recommender.pair_ratings(user, item)
    np.testing.assert_allclose(table["prediction"].to_numpy(), expected, rtol=0, atol=LAST_DIGIT)
    counts = np.bincount(run.recommender.rated_items, minlength=40)
    table = table.with_columns(rated=pl.Series(counts[item] > 0))
    falls = table.group_by("user_id", "rated").agg((-pl.col("prediction").diff()).min().alias("least"))
    assert falls["least"].drop_nulls().min() >= -1e-5
    # what nobody has rated comes last
    assert table.group_by("user_id").agg(pl.col("rated").cast(int).diff().max().alias("rise"))["rise"].max() <= 0
    assert (table["rank"] == table.select(pl.int_range(1, pl.len() + 1).over("user_id")).to_series()).all()


def test_a_few_recommended_are_the_head_of_many(runs: dict[str, Run]) -> None:
    for run in runs.values():
        assert_frame_equal(recommend(run, 5, 3), recommend(run, 5, 30).head(3), abs_tol=LAST_DIGIT)


def synthetic(user: torch.Tensor, item: torch.Tensor, seen: list[list[int]]) -> Recommender:
    scale = Scale((1.0, 2.0, 3.0, 4.0, 5.0), 3.0, 1.0)
    return Recommender(
        user_ids=np.arange(len(user)) + 1,
        item_ids=np.arange(len(item)) + 1,
        scale=scale,
        vectors=(Vectors(user, item),),
        heads=(SquaredHead(scale),),
        rated_offsets=np.cumsum([0, *(len(items) for items in seen)]),
        rated_items=np.array([item for items in seen for item in items], np.int64),
    )


def run_of(recommender: Recommender, folder: Path) -> Run:
    ids = recommender.item_ids
    items = pl.DataFrame(
        {"item_id": ids, "title": [f"Film {n}" for n in ids], "train_ratings": np.zeros(len(ids), int)}
    )
    items.write_parquet(folder / "items.parquet")
    return Run(folder, RunRecord(Config(), Path("dataset"), {}, {}, "all"), recommender)


def test_items_beyond_the_top_of_the_scale_are_ranked_too(tmp_path: Path) -> None:
    item = torch.tensor([[2.5], [0.1], [9.0], [4.0]])  # ratings 5.5, 3.1, 12 and 7: three of them clamped to 5
    run = run_of(synthetic(torch.zeros(1, 1), item, [[]]), tmp_path)
    best = recommend(run, 1)
    assert best["item_id"].to_list() == [3, 4, 1, 2]
    assert best["prediction"].to_list() == pytest.approx([5, 5, 5, 3.1])


def test_items_beyond_the_top_are_ranked_with_bayesian_factors_too(tmp_path: Path) -> None:
    scores = torch.tensor([[2.5], [0.1], [9.0], [4.0]])
    of_members = synthetic(torch.zeros(1, 1), scores, [[0, 1, 2, 3]])
    # both say beyond the top of films 1, 3 and 4, in another order
    bayesian = Vectors(torch.zeros(1, 1), torch.tensor([[9.0], [0.2], [3.0], [2.5]]))
    with_bayesian = replace(of_members, bayesian=bayesian, bayesian_share=0.5)
    assert with_bayesian.all_ratings(np.array([0]))[0].tolist() == pytest.approx([5, 3.15, 5, 5])
    ranked = with_bayesian.ratings_to_rank(np.array([0]))[0]
    assert ranked.tolist() == pytest.approx([8.75, 3.15, 9.0, 6.25])


def test_several_ordinal_heads_rank_by_expected_rating_though_their_mean_score_says_otherwise(tmp_path: Path) -> None:
    scale = Scale((1.0, 2.0), 1.5, 1.0)
    head = OrdinalHead(scale, torch.tensor([1.0, 2.0]), 1).requires_grad_(False)
    # members' chances of a 2: 0.50 and 0.88 of the first film, 1.00 and 0.04 of the second
    scores = ([0.0, 4.5], [1.5, -2.4])
    vectors = tuple(Vectors(torch.zeros(1, 1), torch.tensor(score)[:, None]) for score in scores)
    of_one = synthetic(vectors[0].user, vectors[0].item, [[]])
    run = run_of(replace(of_one, scale=scale, vectors=vectors, heads=(head, head)), tmp_path)
    best = recommend(run, 1)
    assert best["item_id"].to_list() == [1, 2]
    assert best["prediction"].to_list() == pytest.approx([1.69, 1.52], abs=0.005)


def test_equal_items_come_in_the_catalogues_order(tmp_path: Path) -> None:
    run = run_of(synthetic(torch.zeros(70, 1), torch.zeros(9, 1), [[2]] * 70), tmp_path)
    assert recommend(run, 69, 4)["item_id"].to_list() == [1, 2, 4, 5]


def test_who_has_seen_everything_gets_an_empty_table_of_the_same_columns(tmp_path: Path) -> None:
    run = run_of(synthetic(torch.zeros(2, 1), torch.zeros(3, 1), [[0, 1, 2], []]), tmp_path)
    nothing, something = recommend(run, 1), recommend(run, 2)
    assert len(nothing) == 0
    assert len(something) == 3
    assert nothing.schema == something.schema
    assert recommend_all(run)["user_id"].to_list() == [2, 2, 2]


def test_one_user_and_one_item_are_enough(tmp_path: Path) -> None:
    run = run_of(synthetic(torch.zeros(1, 1), torch.zeros(1, 1), [[]]), tmp_path)
    assert recommend(run, 1, 10).rows() == [(1, 1, "Film 1", 0.0, 3.0, 0, None, None, None)]
    assert recommend_all(run, 10).rows() == [(1, 1, 1, 0.0, 3.0)]
    assert predict(run, pl.DataFrame({"user_id": [1], "item_id": [1]})).rows() == [(1, 1, 3.0, None)]


def test_titles_and_counts_are_those_of_the_item(runs: dict[str, Run], crowd: Path) -> None:
    run = runs["squared"]
    items = dict(pl.read_parquet(crowd / "items.parquet").select("item_id", "title").iter_rows())
    seen = [item for _, item in seen_in_training(crowd, run)]
    best = recommend(run, 3, 40)
    assert best["title"].to_list() == [items[item] for item in best["item_id"]]
    assert best["train_ratings"].to_list() == [seen.count(item) for item in best["item_id"]]
    because = ["because_item_id", "because_title", "because_score"]
    assert best.columns == ["rank", "item_id", "title", "score", "prediction", "train_ratings", *because]


def test_a_user_may_be_given_as_text_where_ids_are_numbers(runs: dict[str, Run]) -> None:
    run = runs["squared"]
    assert recommend(run, "12").equals(recommend(run, 12))
    assert recommend(run, " 12 ").equals(recommend(run, 12))


def test_ids_of_text_work_throughout(named: Run) -> None:
    best = recommend(named, "007", 20)
    assert best.schema["item_id"] == pl.String
    assert {"tt009", "tt010", "tt011"} <= set(best["item_id"])
    everybody = recommend_all(named, 20)
    alone = best.select("rank", "item_id", "score", "prediction")
    assert_frame_equal(everybody.filter(user_id="007").drop("user_id"), alone, abs_tol=LAST_DIGIT)
    pairs = pl.DataFrame({"user_id": ["007", "7", "zoë"], "item_id": ["tt000", "tt000", "tt"]})
    assert predict(named, pairs)["reason"].to_list() == [None, "unknown user", "unknown film"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (151, "user 151: the run knows no such user; the nearest ids are 150, 149, 148"),
        ("-5", "user -5: the run knows no such user; the nearest ids are 1, 2, 3"),
        ("9" * 40, "the nearest ids are 150, 149, 148"),
        ("ann", "user 'ann': the run's user ids are whole numbers (such as 1); give one of them"),
        ("", "user '': the run's user ids are whole numbers"),
        ("1.0", "user '1.0': the run's user ids are whole numbers"),
        (True, "user True: the run's user ids are whole numbers"),
    ],
)
def test_an_unknown_user_is_refused_with_the_nearest_known(given: int | str, says: str, runs: dict[str, Run]) -> None:
    with pytest.raises(BadInput) as refusal:
        recommend(runs["squared"], given)
    assert says in str(refusal.value)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("bob", "user 'bob': the run knows no such user; the nearest ids are 'Bob'"),
        ("zoe", "the nearest ids are 'zoë'"),
        ("?", "the nearest ids are '007' ..."),
        (7, "user 7: the run's user ids are text (such as '007'), found int"),
    ],
)
def test_an_unknown_name_is_refused_with_the_most_alike(given: int | str, says: str, named: Run) -> None:
    with pytest.raises(BadInput) as refusal:
        recommend(named, given)
    assert says in str(refusal.value)


def test_among_very_many_names_the_alike_are_found_near_in_the_alphabet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recommender = synthetic(torch.zeros(5000, 1), torch.zeros(1, 1), [[]] * 5000)
    many = replace(recommender, user_ids=np.array([f"u{n:05}" for n in range(5000)], object))
    compared = []
    look = difflib.get_close_matches

    def watched(word: str, names: dict[str, str], n: int, cutoff: float) -> list[str]:
        compared.append(len(names))
        return look(word, names, n, cutoff)

    monkeypatch.setattr(difflib, "get_close_matches", watched)
    with pytest.raises(BadInput, match="'u04321'"):
        recommend(run_of(many, tmp_path), "u04321x")
    assert 0 < compared[0] < 5000  # each costs a comparison letter by letter


@pytest.mark.parametrize("k", [0, -1])
def test_fewer_than_one_item_is_refused(k: int, runs: dict[str, Run]) -> None:
    for asked in (lambda: recommend(runs["squared"], 1, k), lambda: recommend_all(runs["squared"], k)):
        with pytest.raises(UsageError, match=f"k must be at least 1, found {k}"):
            asked()


def test_a_pair_is_predicted_where_both_are_known_and_told_why_not_elsewhere(runs: dict[str, Run]) -> None:
    for run in runs.values():
        pairs = pl.DataFrame({"user_id": [3, 999, 3, 999, None], "item_id": [40, 40, 41, 41, 1], "more": [1] * 5})
        found = predict(run, pairs)
        expected = run.recommender.pair_ratings(np.array([2]), np.array([39]))
        assert found["prediction"].to_list() == [pytest.approx(expected[0], abs=LAST_DIGIT), None, None, None, None]
        reasons = [None, "unknown user", "unknown film", "unknown user and film", "unknown user"]
        assert found["reason"].to_list() == reasons
        assert found.schema == {
            "user_id": pl.Int64,
            "item_id": pl.Int64,
            "prediction": pl.Float32,
            "reason": pl.String,
        }


def test_pairs_read_as_text_mean_the_same_numbers(runs: dict[str, Run]) -> None:
    pairs = pl.DataFrame({"user_id": ["3", "03", "x", None], "item_id": ["4", "4", "4", "4"]})
    found = predict(runs["squared"], pairs)
    assert found["reason"].to_list() == [None, "unknown user", "unknown user", "unknown user"]
    alone = predict(runs["squared"], pl.DataFrame({"user_id": [3], "item_id": [4]}))
    assert found["prediction"][0] == pytest.approx(alone["prediction"][0], abs=LAST_DIGIT)


def test_no_pairs_give_an_empty_table(runs: dict[str, Run]) -> None:
    pairs = pl.DataFrame(schema={"user_id": pl.Int64, "item_id": pl.Int64})
    assert predict(runs["ordinal"], pairs, distribution=True).shape == (0, 9)


@pytest.mark.parametrize("kind", ["ordinal", "two ordinal"])
def test_a_distribution_sums_to_one_and_has_the_prediction_as_its_mean(kind: str, runs: dict[str, Run]) -> None:
    pairs = pl.DataFrame({"user_id": [1, 2, 999], "item_id": [1, 40, 1]})
    found = predict(runs[kind], pairs, distribution=True)
    chances = found.select("p_1", "p_2", "p_3", "p_4", "p_5")
    assert chances.row(2) == (None,) * 5
    known = chances[:2].to_numpy()
    assert (known >= 0).all()
    np.testing.assert_allclose(known.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(known @ np.arange(1, 6), found["prediction"][:2].to_numpy(), atol=1e-5)


def test_a_distribution_of_a_squared_head_is_refused(runs: dict[str, Run]) -> None:
    with pytest.raises(BadInput, match=r"predicts a rating, no distribution.*--set head=ordinal"):
        predict(runs["squared"], pl.DataFrame({"user_id": [1], "item_id": [1]}), distribution=True)


def test_pairs_without_a_column_or_of_another_type_are_refused(runs: dict[str, Run], named: Run) -> None:
    with pytest.raises(BadInput, match="lack the column 'item_id'; they have user_id, film"):
        predict(runs["squared"], pl.DataFrame({"user_id": [1], "film": [1]}))
    with pytest.raises(BadInput, match=r"column user_id of the pairs: .* whole numbers \(1\), found Float64"):
        predict(runs["squared"], pl.DataFrame({"user_id": [1.5], "item_id": [1]}))
    with pytest.raises(BadInput, match=r"column item_id of the pairs: .* text \('tt000'\), found Int64"):
        predict(named, pl.DataFrame({"user_id": ["ann"], "item_id": [1]}))


def test_a_damaged_table_of_items_is_refused_by_name(runs: dict[str, Run], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(runs["squared"].folder, tmp_path / "run"))
    run, file = Run.open(folder), folder / "items.parquet"
    pl.read_parquet(file).reverse().write_parquet(file)
    with pytest.raises(BadInput, match=r"items\.parquet lists other films than the model"):
        recommend(run, 1)
    file.write_bytes(b"PAR1 and nothing more")
    with pytest.raises(BadInput, match=r"items\.parquet cannot be read"):
        recommend(run, 1)
    pl.DataFrame({"item_id": [1]}).write_parquet(file)
    with pytest.raises(BadInput, match=r"items\.parquet cannot be read"):
        recommend(run, 1)
    file.unlink()
    with pytest.raises(BadInput, match=r"items\.parquet is missing: train the run again"):
        recommend(run, 1)


def shown(items: pl.DataFrame, whose: str, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, markup=False, highlight=False, emoji=False)
    show_recommendations(items, whose, 1, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_reason_without_a_title_is_its_id() -> None:
    row = {"rank": 1, "item_id": 7, "title": "", "score": 0.5, "prediction": 4.25, "train_ratings": 3}
    row |= {"because_item_id": 8642, "because_title": "", "because_score": 0.125}
    assert any("8642" in line for line in shown(pl.DataFrame([row]), "user 1", 80))


@pytest.mark.parametrize("width", [40, 120])
def test_the_screen_keeps_to_its_width_and_obeys_no_title(width: int) -> None:
    title = "[red]No markup[/red] \x1b[31m nor escapes :smile:"
    row = {"rank": 1, "item_id": 7, "title": title, "score": 0.5, "prediction": 4.25, "train_ratings": 1234}
    row |= {"because_item_id": 8, "because_title": title, "because_score": 0.125}
    lines = shown(pl.DataFrame([row]), "user 1", width)
    text = " ".join(line.strip() for line in lines)
    assert max(map(len, lines)) <= width
    assert "\x1b" not in text
    assert "4.25" in text
    if width == 120:
        assert "1,234" in text
        assert "25%" in text
    if width == 120:
        assert "[red]No markup[/red]" in text
        assert "\\x1b[31m" in text
        assert ":smile:" in text


def test_the_screen_says_when_nothing_is_left(tmp_path: Path) -> None:
    run = run_of(synthetic(torch.zeros(1, 1), torch.zeros(1, 1), [[0]]), tmp_path)
    assert shown(recommend(run, 1), "user 1", 80) == ["user 1: no film is left that they have not rated"]
