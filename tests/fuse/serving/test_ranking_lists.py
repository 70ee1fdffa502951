"""Lists by the ranking model: exact reasons, filters, places for what nobody has rated, and vectors for an index."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from cinefuse.data.runtime.errors import BadInput, UsageError
from cinefuse.data.sample.catalogue import write_sample
from cinefuse.data.sources.own_tables import import_table
from cinefuse.fuse.models.ranking_model import RankingModel
from cinefuse.fuse.runs.run import Run
from cinefuse.fuse.runs.train import train
from cinefuse.fuse.serving.diversity import diversified
from cinefuse.fuse.serving.export import export
from cinefuse.fuse.serving.filters import Filters, read_ids, years_of
from cinefuse.fuse.serving.recommend import recommend, recommend_all, recommend_for_likes
from cinefuse.fuse.serving.similar import similar
from cinefuse.fuse.settings.presets import preset
from cinefuse.fuse.training.ranking import RankingState, RankingTraining

NEW = [3, 11, 27, 33, 40]  # in the catalogue, but in no rating
ONE_LIKE = 150  # a user with a single rating


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 users and 40 films, some of which nobody has rated; user 1 has rated all others."""
    folder = tmp_path_factory.mktemp("crowd") / "dataset"
    write_sample(folder, items=40, users=150)
    ratings = pl.read_parquet(folder / "ratings.parquet").filter(~pl.col("item_id").is_in(NEW))
    of_one = ratings.filter(pl.col("user_id") == ONE_LIKE).head(1)
    missing = [n for n in range(1, 41) if n not in NEW]
    everything = pl.DataFrame({"user_id": 1, "item_id": missing}).with_columns(rating=pl.lit(4.0))
    everything = everything.cast({name: ratings.schema[name] for name in everything.columns})
    rest = ratings.filter(~pl.col("user_id").is_in([1, ONE_LIKE]))
    pl.concat([everything, rest, of_one], how="diagonal").write_parquet(folder / "ratings.parquet")
    return folder


@pytest.fixture(scope="module", params=[0.0, 0.5], ids=["ranking alone", "with the rating model"])
def run(dataset: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Run:
    """A run whose ranking model takes the rating model in with some weight, or none."""
    small = ["factor_steps=60", "epochs=2", "members=2", "dim=8", "modalities=none", "ranking_item_item=16"]
    config = preset("best").with_settings([*small, "adapt=false", "validation=0"])
    with pytest.MonkeyPatch.context() as patched:
        training = partial(RankingTraining, state=RankingState(rating=request.param))
        patched.setattr("cinefuse.fuse.runs.train.RankingTraining", training)
        run = train(dataset, None, tmp_path_factory.mktemp("run") / "run", config, split="all")
    assert model_of(run).settings["rating"] == request.param
    assert (model_of(run).width > model_of(run).own_width) == (request.param > 0)
    return run


def model_of(run: Run) -> RankingModel:
    assert run.ranking is not None
    return run.ranking


@pytest.mark.slow
def test_the_shares_of_a_users_items_and_the_rest_sum_to_the_score(run: Run) -> None:
    model, factors = model_of(run), model_of(run).width
    for user in (0, 5, ONE_LIKE - 1):
        items = torch.arange(40)
        added = model.shares(user, items)
        mine = model.items_of(user)
        history = model.implicit[mine] + model.residual[model._of_user(user)][:, None] * model.explicit[mine]
        own = model.vectors.user[user].clone()
        own[:factors] -= history[:, :-1].sum(0) / len(mine) ** 0.5
        own[factors:-1] -= model.item_item[mine].sum(0)
        own[-1] -= history[:, -1].sum() / len(mine) ** 0.5
        rest = model.vectors.item[:, :-1] @ own[:-1] + own[-1] + model.vectors.item[:, -1]
        whole = model.vectors.scores(slice(user, user + 1))[0]
        torch.testing.assert_close(added.sum(0) + rest, whole, rtol=0, atol=1e-5)
        assert own[factors:-1].abs().max() < 1e-5  # the item-item part is its items' alone


def test_the_rating_model_adds_its_members_mean_score_times_the_weight(run: Run) -> None:
    model, recommender = model_of(run), run.recommender
    own, width = model.own_width, model.width
    user, item = model.vectors
    added = user[:, own:width] @ item[:, own:width].T
    expected = torch.zeros_like(added)
    for vectors in recommender.vectors:
        scores = vectors.scores()
        pairs = scores - vectors.user[:, -1:]
        mine = torch.repeat_interleave(torch.arange(len(user)), model.offsets.diff())
        expected += scores / pairs[mine, model.items].std(correction=0) / len(recommender.vectors)
    expected *= model.settings["rating"]
    rated = model.counts > 0  # the others' vectors are predicted from content
    difference = (added - expected)[:, rated]
    # but for what is the same for all items of a user
    torch.testing.assert_close(difference, difference.mean(1, keepdim=True).expand_as(difference), rtol=0, atol=1e-4)


def test_the_reason_is_the_rated_item_that_adds_most(run: Run) -> None:
    table = recommend(run, 7, 5)
    model, ids = model_of(run), run.recommender.item_ids
    added = model.shares(6, torch.from_numpy(run.recommender.item_numbers(table["item_id"].to_list())))
    best = model.items_of(6)[added.argmax(0)]
    assert table["because_item_id"].to_list() == ids[best.numpy()].tolist()
    np.testing.assert_allclose(table["because_score"].to_numpy(), added.max(0).values.numpy(), atol=1e-6)


def test_everybodys_table_is_the_tables_of_each_and_scores_fall(run: Run) -> None:
    everybody = recommend_all(run, 6)
    assert everybody["score"].is_not_nan().all()
    for user in (1, 2, 64, 65, 149, 150):
        alone = recommend(run, user, 6)
        of_all = everybody.filter(user_id=user)
        assert of_all["item_id"].to_list() == alone["item_id"].to_list()
        assert (np.diff(alone["score"].to_numpy()) <= 0).all()


def test_what_nobody_has_rated_stands_in_no_common_list_while_anything_else_is_left(run: Run) -> None:
    table = recommend_all(run, 3).filter(pl.col("user_id") != 1)
    assert not set(table["item_id"]) & set(NEW)
    longest = recommend(run, 2, 100)
    news = longest["train_ratings"].to_numpy() == 0
    assert set(longest["item_id"].to_numpy()[news]) == set(NEW)
    assert (np.diff(news.astype(int)) >= 0).all()


def test_new_items_get_the_places_kept_for_them_and_no_others(run: Run) -> None:
    table = recommend(run, 4, 6, new=2)
    assert [item in NEW for item in table["item_id"]] == [False] * 4 + [True] * 2
    assert table.head(4)["item_id"].to_list() == recommend(run, 4, 4)["item_id"].to_list()
    only = recommend(run, 4, 10, only_new=True)
    assert set(only["item_id"]) == set(NEW)
    assert only["item_id"].head(2).to_list() == table["item_id"].tail(2).to_list()


def test_who_rated_everything_is_left_with_what_nobody_has_rated(run: Run) -> None:
    assert set(recommend(run, 1, 50)["item_id"]) == set(NEW)
    assert recommend(run, 1, 50, filters=Filters(exclude=tuple(NEW))).is_empty()
    assert recommend(run, 1, 4, new=1).height == 1


def test_a_user_with_one_rating_gets_a_list(run: Run) -> None:
    table = recommend(run, ONE_LIKE, 39)
    assert table.height == 39
    assert table["score"].is_finite().all()


def test_filters_keep_genres_years_candidates_and_leave_out_what_is_excluded(run: Run, dataset: Path) -> None:
    items = pl.read_parquet(dataset / "items.parquet")
    genre = items["genres"].explode().drop_nulls().mode()[0]
    of_genre = items.filter(pl.col("genres").list.contains(genre))["item_id"].to_list()
    found = recommend(run, 2, 40, filters=Filters(genres=(genre.upper(),)))["item_id"].to_list()
    assert found
    assert set(found) <= set(of_genre)
    middle = int(items["year"].median())
    recent = recommend(run, 2, 40, filters=Filters(years=f"{middle}:"))["item_id"].to_list()
    assert set(recent) <= set(items.filter(pl.col("year") >= middle)["item_id"])
    some = recommend(run, 2, 40)["item_id"].head(4).to_list()
    kept = recommend(run, 2, 40, filters=Filters(candidates=tuple(some), exclude=(some[1],)))
    assert kept["item_id"].to_list() == [some[0], *some[2:]]


@pytest.mark.parametrize(
    ("filters", "error", "says"),
    [
        (Filters(genres=("Horor",)), UsageError, "--genre Horor: no film of the run has this genre; there are"),
        (Filters(years="1890:1891"), BadInput, "no film is left of the 40 of the run: --years 1890:1891 keeps 0"),
        (Filters(years="1999:1990"), UsageError, "the first year comes after the last; expected 1990:1999"),
        (Filters(years="soon"), UsageError, "expected a span such as 1990:1999"),
        (Filters(exclude=(999,)), BadInput, "--exclude: the run knows no film 999; the nearest ids are 40, 39, 38"),
        (Filters(candidates=("x",)), BadInput, "film 'x': the run's film ids are whole numbers"),
    ],
)
def test_a_filter_that_means_nothing_is_refused_in_a_line(
    filters: Filters, error: type[Exception], says: str, run: Run
) -> None:
    with pytest.raises(error) as refusal:
        recommend(run, 2, filters=filters)
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_one_year_is_a_span() -> None:
    assert years_of("1994") == (1994, 1994)
    assert years_of(":1950") == (-np.inf, 1950)


def test_ids_are_read_from_lines_and_tables(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("4\n\n 7 \n")
    pl.DataFrame({"item_id": [4, 7], "title": ["a", "b"]}).write_csv(tmp_path / "ids.csv")
    assert read_ids(tmp_path / "ids.txt") == ("4", "7")
    assert [str(one) for one in read_ids(tmp_path / "ids.csv")] == ["4", "7"]
    (tmp_path / "none.txt").write_text("\n")
    with pytest.raises(BadInput, match="holds no id of a film"):
        read_ids(tmp_path / "none.txt")


def test_likes_of_somebody_new_give_the_vector_of_least_loss(run: Run) -> None:
    model, likes = model_of(run), torch.tensor([0, 5, 20])
    about, kept = model.settings["own_row"], 1 - model.settings["share"]
    rated, width = model.counts > 0, model.own_width
    own = [*range(width), -1]  # of the factors: the rating model has no part in the loss
    history = model._history_of_likes(likes)[:, own].double()
    prior = (model.base[own].double() + history.sum(0)) / kept
    row = ((model.user_of_likes(likes)[own].double() / kept) - prior).requires_grad_()
    item = torch.cat([model.vectors.item[:, :width], torch.ones(40, 1)], 1).double()
    loss = torch.zeros((), dtype=torch.float64)
    for number in torch.arange(40)[rated].tolist():
        user = prior + row
        if number in likes:
            user = user - history[likes.tolist().index(number)] / kept
        score = item[number] @ user + model.vectors.item[number, -1].double() / kept
        loss = loss + ((1 - score) ** 2 if number in likes else about["others"] * score**2) / 2
    l2 = about["l2"] * (3 / about["mean_count"]) ** about["power"]
    loss = loss + (l2 * row[:-1].square().sum() + about["l2_bias"] * row[-1] ** 2) / 2
    loss.backward()  # type: ignore[no-untyped-call]
    assert row.grad is not None
    assert float(row.grad.abs().max()) < 1e-4 * max(1.0, float(row.detach().abs().max()) * l2)


def test_what_likes_add_to_a_score_and_the_rest_sum_to_it(run: Run) -> None:
    model, likes, items = model_of(run), torch.tensor([0, 5, 20]), torch.arange(40)
    user, none = model.user_of_likes(likes), model.vectors.item
    whole = none[:, :-1] @ user[:-1] + user[-1] + none[:, -1]
    added = model.shares_of_likes(likes, items)
    prior = model.base + model._history_of_likes(likes).sum(0)
    _, rest = model._own_row(likes, prior)
    other = model.base + rest
    left = none[:, : model.width] @ other[:-1] + other[-1] + none[:, -1]
    torch.testing.assert_close(added.sum(0) + left, whole, rtol=0, atol=1e-5)
    assert added.max() > 0


def test_likes_are_never_listed_and_unknown_ones_are_refused(run: Run) -> None:
    table = recommend_for_likes(run, ["1", "5", "5"], 40)
    assert not {1, 5} & set(table["item_id"])
    assert table["prediction"].null_count() == table.height
    assert set(table["because_item_id"].drop_nulls()) <= {1, 5}
    with pytest.raises(BadInput, match="--likes: the run knows no film 99"):
        recommend_for_likes(run, [1, 99])
    with pytest.raises(UsageError, match="--likes: expected ids of films"):
        recommend_for_likes(run, [])


def test_diversity_takes_the_unlike_and_none_of_it_changes_nothing() -> None:
    scores = np.array([[1.0, 0.9, 0.5, 0.4]], np.float32)
    content = np.array([[1, 0], [1, 0], [0, 1], [1, 0]], np.float32)
    pool = np.array([[0, 1, 2, 3]])
    assert diversified(pool, scores, content, 3, 0.0).tolist() == [[0, 1, 2]]
    assert diversified(pool, scores, content, 3, 0.5).tolist() == [[0, 2, 1]]
    assert diversified(np.array([[2, -1]]), scores, content, 2, 1.0).tolist() == [[2, -1]]


def test_a_diverse_list_starts_with_the_best(run: Run) -> None:
    plain, diverse = recommend(run, 9, 8), recommend(run, 9, 8, diversity=0.7)
    assert plain["item_id"][0] == diverse["item_id"][0]
    assert plain["item_id"].to_list() != diverse["item_id"].to_list()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"diversity": 1.5}, "--diversity must lie from 0 to 1, found 1.5"),
        ({"new": 11}, "--new must lie from 0 to the length of the list, 10, found 11"),
        ({"by": "taste"}, "--by taste: expected ranking or rating"),
        ({"k": 0}, "k must be at least 1, found 0"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, Any], says: str, run: Run) -> None:
    with pytest.raises(UsageError) as refusal:
        recommend(run, 2, **options)
    assert says in str(refusal.value)


def test_new_places_are_refused_where_every_item_has_ratings(run: Run) -> None:
    rated = tuple(n for n in range(1, 41) if n not in NEW)
    with pytest.raises(BadInput, match="--new: no film without a training rating passes the filters"):
        recommend(run, 2, new=1, filters=Filters(candidates=rated))


def test_similar_items_are_alike_and_never_the_item_itself(run: Run) -> None:
    for by in ("both", "content", "taste"):
        table = similar(run, "5", 7, by=by)
        assert 5 not in table["item_id"].to_list()
        assert (np.diff(table["likeness"].to_numpy()) <= 0).all()
        assert table["likeness"].is_between(-1.00001, 1.00001).all()
    assert not set(similar(run, 5, 40, by="taste")["item_id"]) & set(NEW)
    with pytest.raises(BadInput, match="it has no ratings, so there is no taste to compare; use --by content"):
        similar(run, NEW[0], by="taste")
    assert similar(run, NEW[0])["taste"].null_count() == 10


@pytest.fixture(scope="module")
def one_user(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of one user's ratings of films without years or genres."""
    folder = tmp_path_factory.mktemp("one-user")
    ratings = pl.DataFrame({"user_id": [1] * 30, "item_id": range(30), "rating": [n % 5 + 1.0 for n in range(30)]})
    ratings.write_csv(folder / "ratings.csv")
    dataset = import_table(folder / "dataset", ratings=folder / "ratings.csv").folder
    config = preset("best").with_settings(["adapt=false", "dim=4", "factor_steps=8", "epochs=1", "members=1"])
    return train(dataset, None, folder / "run", config, device="cpu")


def test_where_nothing_tells_items_apart_similar_refuses_and_lists_no_items_at_random(one_user: Run) -> None:
    for by in ("both", "taste"):
        with pytest.raises(BadInput, match="nothing to compare it by"):
            similar(one_user, int(one_user.recommender.rated_items[0]), by=by)


def test_years_are_refused_by_the_reason_where_no_item_has_one(one_user: Run) -> None:
    with pytest.raises(UsageError, match="no film of the run has a year"):
        recommend(one_user, 1, filters=Filters(years="1990:"))


@pytest.mark.parametrize("kept_as", ["parquet", "npy"])
def test_an_index_of_inner_products_finds_the_lists_of_the_run(kept_as: str, run: Run, tmp_path: Path) -> None:
    faiss = pytest.importorskip("faiss", reason="faiss-cpu is not installed")
    done = export(run, tmp_path / "out", format=kept_as)  # type: ignore[arg-type]
    about = json.loads((done.folder / "export.json").read_text())
    assert (done.by, about["by"], done.ranks_exactly, done.rates_exactly) == ("ranking", "ranking", True, False)
    if kept_as == "npy":
        users, films = (np.load(done.folder / f"{side}_augmented.npy") for side in ("users", "films"))
        counts = np.load(done.folder / "films_train_ratings.npy")
    else:
        tables = [pl.read_parquet(done.folder / f"{side}.parquet") for side in ("users", "films")]
        users, films = (table["augmented"].to_numpy().astype(np.float32) for table in tables)
        counts = tables[1]["train_ratings"].to_numpy()
    rated = np.flatnonzero(counts > 0)
    index = faiss.IndexFlatIP(films.shape[1])
    index.add(np.ascontiguousarray(films[rated]))
    _, found = index.search(np.ascontiguousarray(users), len(rated))
    ids = run.recommender.item_ids[rated]
    for user in (2, 50, 149):
        seen = set(model_of(run).items_of(user - 1).tolist())
        unseen = [int(ids[place]) for place in found[user - 1] if int(rated[place]) not in seen]
        assert unseen[:8] == recommend(run, user, 8)["item_id"].to_list()


def test_a_run_without_a_ranking_model_says_so(run: Run, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run.folder, tmp_path / "run"))
    about = json.loads((folder / "config.json").read_text())
    about["config"]["objective"] = "rating"
    (folder / "config.json").write_text(json.dumps(about))
    opened = Run.open(folder)
    assert recommend(opened, 2).height == 10
    with pytest.raises(BadInput, match="has no ranking model \\(objective rating\\)"):
        recommend(opened, 2, by="ranking")
