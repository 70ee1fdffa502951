"""Exported vectors: what their inner products say is what the run says, and export.json promises no more than that."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import torch

from cinefuse.data.runtime.errors import BadInput, NoSpace, UsageError
from cinefuse.fuse.models.factors import Vectors
from cinefuse.fuse.runs.run import Run
from cinefuse.fuse.serving.export import Exported, export
from cinefuse.fuse.serving.recommend import recommend_all
from cinefuse.tests.support.runs import train_factors, write_dataset

KINDS = {
    "squared": ["mf"],
    "two members": ["mf", "members=2"],
    "without factors": ["bias"],
    "ordinal": ["mf", "head=ordinal"],
    "two ordinal": ["mf", "head=ordinal", "members=2"],
}
EXACT = [kind for kind in KINDS if kind != "two ordinal"]
RATED = [kind for kind in EXACT if kind != "ordinal"]


def trained(dataset: Path, out: Path, name: str = "mf", *settings: str) -> Run:
    return train_factors(dataset, out, *settings, preset_name=name)


@pytest.fixture(scope="module")
def runs(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("runs")
    return {kind: trained(sample, folder / kind, *asked) for kind, asked in KINDS.items()}


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose users and films have ids of text."""
    folder = tmp_path_factory.mktemp("named")
    ids = ["a", "bb", "ccc", "ß"]
    pairs = [(user, item, 1.0 + (place + len(user)) % 5) for user in ("ann", "zoë") for place, item in enumerate(ids)]
    ratings = pl.DataFrame(pairs, schema=["user_id", "item_id", "rating"], orient="row")
    return trained(write_dataset(folder / "dataset", ratings, ids), folder / "run")


Side = dict[str, npt.NDArray[Any]]


def read_back(done: Exported) -> tuple[Side, Side]:
    """ids, vectors, biases and augmented of users and films, as any reader of the format gets them."""
    if done.format == "npy":
        names = ("ids", "vectors", "biases", "augmented")
        users, items = (
            {name: np.load(done.folder / f"{side}_{name}.npy", allow_pickle=False) for name in names}
            for side in ("users", "films")
        )
        return users, items
    tables = pl.read_parquet(done.folder / "users.parquet"), pl.read_parquet(done.folder / "films.parquet")
    users, items = (
        {
            "ids": table[name].to_numpy(),
            "vectors": table["vector"].to_numpy().reshape(len(table), -1) if done.dim else np.zeros((len(table), 0)),
            "biases": table["bias"].to_numpy(),
            "augmented": table["augmented"].to_numpy(),
        }
        for table, name in zip(tables, ("user_id", "item_id"), strict=True)
    )
    return users, items


def scores(users: Side, items: Side) -> npt.NDArray[np.float64]:
    """(U, I): by vectors and biases."""
    user, item = users["vectors"].astype(np.float64), items["vectors"].astype(np.float64)
    product: npt.NDArray[np.float64] = user @ item.T + users["biases"][:, None] + items["biases"]
    return product


def about(done: Exported) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((done.folder / "export.json").read_text("utf-8"))
    return content


@pytest.mark.parametrize("kept_as", ["parquet", "npy"])
@pytest.mark.parametrize("kind", RATED)
def test_mean_and_unit_times_the_score_is_the_rating_before_clamping(
    kind: str, kept_as: str, runs: dict[str, Run], tmp_path: Path
) -> None:
    recommender = runs[kind].recommender
    done = export(runs[kind], tmp_path / "out", format=kept_as)  # type: ignore[arg-type]
    rating = about(done)["rating"]
    found = rating["mean"] + rating["unit"] * scores(*read_back(done))
    user, item = (numbers.ravel() for numbers in np.indices(found.shape))
    inside = (found > rating["lowest"] + 0.01) & (found < rating["highest"] - 0.01)
    assert inside.mean() > 0.9
    expected = recommender.pair_ratings(user, item).reshape(found.shape)
    np.testing.assert_allclose(found[inside], expected[inside], rtol=0, atol=1e-5)
    if len(recommender.vectors) == 1:
        clamped = found.clip(rating["lowest"], rating["highest"])
        np.testing.assert_allclose(clamped, expected, rtol=0, atol=1e-5)
    assert done.rates_exactly
    assert done.ranks_exactly


@pytest.mark.parametrize("kept_as", ["parquet", "npy"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_inner_product_of_augmented_vectors_is_the_score(
    kind: str, kept_as: str, runs: dict[str, Run], tmp_path: Path
) -> None:
    users, items = read_back(export(runs[kind], tmp_path / "out", format=kept_as, approximate=True))  # type: ignore[arg-type]
    product = users["augmented"].astype(np.float64) @ items["augmented"].astype(np.float64).T
    np.testing.assert_allclose(product, scores(users, items), rtol=0, atol=1e-6)
    width = users["vectors"].shape[1]
    assert users["augmented"].shape == (20, width + 2)
    assert (users["augmented"][:, width] == 1).all()
    assert (items["augmented"][:, width + 1] == 1).all()


@pytest.mark.parametrize("kind", EXACT)
def test_the_largest_inner_products_are_the_items_recommended(kind: str, runs: dict[str, Run], tmp_path: Path) -> None:
    run = runs[kind]
    done = export(run, tmp_path / "out")
    assert about(done)["ranks_exactly"] is True
    users, items = read_back(done)
    product = users["augmented"].astype(np.float64) @ items["augmented"].astype(np.float64).T
    table = recommend_all(run, 40)
    recommender = run.recommender
    user = recommender.user_numbers(table["user_id"].to_list())
    item = recommender.item_numbers(table["item_id"].to_list())
    seen = np.diff(recommender.rated_offsets)
    counts = pl.read_parquet(done.folder / "films.parquet")["train_ratings"].to_numpy()
    for number in range(20):
        mine = item[user == number]
        assert len(mine) == len(items["ids"]) - seen[number]
        rated = counts[mine] > 0
        assert (np.diff(rated.astype(int)) <= 0).all()  # what nobody has rated comes last, in its own order
        for part in (mine[rated], mine[~rated]):
            assert (np.diff(product[number, part]) < 1e-6).all()


def test_files_of_both_formats_hold_the_same_in_the_order_of_the_ids(runs: dict[str, Run], tmp_path: Path) -> None:
    run = runs["two members"]
    as_tables, as_arrays = export(run, tmp_path / "a"), export(run, tmp_path / "b", format="npy")
    for one, other in zip(read_back(as_tables), read_back(as_arrays), strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in one)
        assert other["vectors"].dtype == other["biases"].dtype == other["augmented"].dtype == np.float32
    users, items = read_back(as_arrays)
    assert users["ids"].tolist() == run.recommender.user_ids.tolist()
    assert items["ids"].tolist() == run.recommender.item_ids.tolist()
    assert items["ids"].dtype == np.int64


@pytest.mark.parametrize("kept_as", ["parquet", "npy"])
def test_ids_of_text_are_written_without_pickle(kept_as: str, named: Run, tmp_path: Path) -> None:
    users, items = read_back(export(named, tmp_path / "out", format=kept_as))  # type: ignore[arg-type]
    assert users["ids"].tolist() == ["ann", "zoë"]
    assert items["ids"].tolist() == ["a", "bb", "ccc", "ß"]


def test_an_ordinal_score_is_told_to_be_no_rating(runs: dict[str, Run], tmp_path: Path) -> None:
    done = export(runs["ordinal"], tmp_path / "out")
    found = about(done)
    assert (found["ranks_exactly"], found["rates_exactly"], found["rating"]) == (True, False, None)
    assert "no rating" in found["exactness"]
    assert (done.ranks_exactly, done.rates_exactly) == (True, False)


def test_several_ordinal_heads_are_refused_unless_approximate(runs: dict[str, Run], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(BadInput) as refusal:
        export(runs["two ordinal"], out)
    assert "the mean of 2 ordinal heads is no function of one inner product" in str(refusal.value)
    assert "--approximate" in str(refusal.value)
    assert not out.exists()
    done = export(runs["two ordinal"], out, approximate=True)
    found = about(done)
    assert (found["ranks_exactly"], found["rates_exactly"], found["rating"]) == (False, False, None)
    assert found["exactness"].startswith("approximate:")


def test_bayesian_factors_are_named_where_they_make_the_vectors_inexact(runs: dict[str, Run], tmp_path: Path) -> None:
    recommender = runs["squared"].recommender
    chance = torch.Generator().manual_seed(0)
    user, item = (torch.randn(len(ids), 3, generator=chance) for ids in (recommender.user_ids, recommender.item_ids))
    mixed = replace(recommender, bayesian=Vectors(user, item), bayesian_share=0.5)
    run = replace(runs["squared"], recommender=mixed)
    with pytest.raises(BadInput, match=r"a mean with Bayesian factors is no function .*--set bayesian=false"):
        export(run, tmp_path / "out")
    found = about(export(run, tmp_path / "out", approximate=True))
    assert (found["ranks_exactly"], found["rates_exactly"], found["rating"]) == (False, False, None)
    assert "Bayesian factors" in found["exactness"]
    assert "ordinal" not in found["exactness"]


def test_the_agreement_told_is_that_of_the_files_with_the_recommendations(runs: dict[str, Run], tmp_path: Path) -> None:
    done = export(runs["two ordinal"], tmp_path / "out", approximate=True)
    users, items = read_back(done)
    by_user = recommend_all(runs["two ordinal"], 10).group_by("user_id", maintain_order=True).agg("item_id")
    recommender, shares = runs["two ordinal"].recommender, []
    unrated = np.bincount(recommender.rated_items, minlength=40) == 0
    for row, (user, best) in zip(scores(users, items), by_user.iter_rows(), strict=True):
        number = recommender.user_numbers([user])[0]
        row[recommender.rated_items[slice(*recommender.rated_offsets[number : number + 2])]] = -np.inf
        row[unrated] -= 1e6  # as in the run's lists
        found = items["ids"][np.argsort(-row, kind="stable")[: len(best)]]
        shares.append(np.isin(best, found).mean())
    assert done.agreement == pytest.approx(np.mean(shares))
    assert about(done)["agreement"] == {"best": 10, "share": done.agreement}
    with pytest.raises(BadInput, match=f"would find {done.agreement:.1%} of each user's 10 best films"):
        export(runs["two ordinal"], tmp_path / "other")


@pytest.mark.parametrize("kind", EXACT)
def test_allowing_approximation_makes_no_exact_export_less(kind: str, runs: dict[str, Run], tmp_path: Path) -> None:
    strict, lenient = export(runs[kind], tmp_path / "a"), export(runs[kind], tmp_path / "b", approximate=True)
    assert about(strict) == about(lenient)


def test_the_report_of_an_export_agrees_with_its_files(runs: dict[str, Run], tmp_path: Path) -> None:
    done = export(runs["two members"], tmp_path / "new" / "out")
    found = about(done)
    assert (done.users, done.items, done.dim) == (found["users"], found["films"], found["dim"]) == (20, 40, 64)
    assert (found["format"], found["version"], found["members"], found["files"]) == (
        "cinefuse-vectors",
        1,
        2,
        "parquet",
    )
    assert {file.name for file in done.folder.iterdir()} == {"users.parquet", "films.parquet", "export.json"}
    assert json.loads(json.dumps(done.as_dict()))["folder"] == str(tmp_path / "new" / "out")


def test_an_empty_folder_is_filled_and_any_other_is_left_alone(runs: dict[str, Run], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    export(runs["squared"], empty)
    assert (empty / "export.json").exists()
    before = (empty / "films.parquet").read_bytes()
    with pytest.raises(BadInput, match="exists and is not an empty folder: choose another name, or remove it"):
        export(runs["two members"], empty)
    assert (empty / "films.parquet").read_bytes() == before
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(BadInput, match="exists and is not an empty folder"):
        export(runs["squared"], file)
    assert file.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file"]


def test_an_unknown_format_is_refused(runs: dict[str, Run], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="format 'csv': expected parquet or npy"):
        export(runs["squared"], tmp_path / "out", format="csv")  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_nothing_behind(runs: dict[str, Run], disk: Path) -> None:
    (disk / "ballast").write_bytes(b"x" * ((1 << 20) - (12 << 10)))
    with pytest.raises(NoSpace, match="the disk is full"):
        export(runs["two members"], disk / "out", format="npy")
    assert [path.name for path in disk.iterdir()] == ["ballast"]


def test_a_folder_that_cannot_be_made_is_refused_by_name(runs: dict[str, Run], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BadInput, match="cannot be written"):
        export(runs["squared"], tmp_path / "file" / "out")
