"""Laws of cutting ratings: parts never overlap, the same seed cuts the same, the test part leaks nothing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cinefuse.data.dataset.folder import Description
from cinefuse.data.dataset.splits import PARTS, Split, split_ratings
from cinefuse.data.runtime.errors import BadInput, UsageError
from cinefuse.data.sample.catalogue import write_sample

SHARED_SPECS = [
    "random:0.2",
    "kfold:4/2",
    "temporal:0.2",
    "user-temporal:0.2",
    "cold-items:0.2",
    "cold-users:0.2",
    "leave-one-out",
]
DRAWN_SPECS = ["random:0.2", "kfold:4/2", "cold-items:0.2", "cold-users:0.2"]

Ratings = list[tuple[int, int, int | None]]  # user, film, timestamp


def dataset_of(folder: Path, ratings: Ratings, *, dated: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    Description(name="made").write(folder)
    columns = {"user_id": pl.Int64, "item_id": pl.Int64, "timestamp": pl.Int64}
    table = pl.DataFrame(ratings, schema=columns, orient="row").with_columns(rating=pl.lit(3.0, pl.Float32))
    (table if dated else table.drop("timestamp")).write_parquet(folder / "ratings.parquet")
    return folder


def many(rows: int, users: int = 12, films: int = 9) -> Ratings:
    draw = np.random.default_rng(5)
    return [(int(u), int(f), int(t)) for u, f, t in draw.integers(0, (users, films, 40), (rows, 3))]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return dataset_of(tmp_path / "dataset", many(200))


def with_folds(dataset: Path, **folds: list[str | None]) -> Path:
    (dataset / "splits").mkdir()
    for name, parts in folds.items():
        rows = pl.Series("row", range(len(parts)), dtype=pl.UInt32)
        pl.DataFrame([rows, pl.Series("part", parts, dtype=pl.String)]).write_parquet(
            dataset / "splits" / f"{name}.parquet"
        )
    return dataset


def parts(split: Split) -> list[list[int]]:
    return [getattr(split, part).tolist() for part in PARTS]


def times(dataset: Path) -> npt.NDArray[np.float64]:
    """Timestamps; those not given are older than all."""
    given = pl.read_parquet(dataset / "ratings.parquet")["timestamp"].cast(pl.Float64)
    return given.fill_null(float("-inf")).to_numpy()


def column(dataset: Path, name: str) -> npt.NDArray[np.int64]:
    return pl.read_parquet(dataset / "ratings.parquet")[name].to_numpy()


@pytest.mark.parametrize("validation", [0, 0.1, 0.5, 0.9999999999999999])
@pytest.mark.parametrize("spec", [*SHARED_SPECS, "all", "u1"])
def test_each_row_is_in_exactly_one_part(dataset: Path, spec: str, validation: float) -> None:
    with_folds(dataset, u1=["train", "test"] * 100)
    split = split_ratings(dataset, spec, validation=validation)
    train, held, test = parts(split)
    assert sorted(train + held + test) == list(range(200))
    assert train
    assert validation or not held
    assert bool(test) == (spec != "all")
    assert all(rows == sorted(rows) for rows in (train, held, test))
    assert all(getattr(split, part).dtype == np.int64 for part in PARTS)
    assert split.name == spec


ratings_of_any_shape = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 4), st.none() | st.integers(-3, 3)), min_size=1, max_size=40
)
shares = st.floats(0, 1, exclude_min=True, exclude_max=True)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    ratings=ratings_of_any_shape,
    form=st.sampled_from(["random", "temporal", "user-temporal", "cold-items", "cold-users"]),
    share=shares,
    validation=st.just(0.0) | shares,
    seed=st.integers(0, 2**70),
)
def test_any_ratings_are_cut_by_the_law_of_their_split_or_refused(
    ratings: Ratings, form: str, share: float, validation: float, seed: int
) -> None:
    with tempfile.TemporaryDirectory() as place:
        dataset = dataset_of(Path(place), ratings)
        spec = f"{form}:{share!r}"
        try:
            split = split_ratings(dataset, spec, seed=seed, validation=validation)
        except BadInput:
            with pytest.raises(BadInput, match=r"part is empty|has no timestamps"):
                split_ratings(dataset, spec, seed=seed, validation=validation)
            return
        train, held, test = parts(split)
        assert sorted(train + held + test) == list(range(len(ratings)))
        assert train
        assert test
        for later, earlier in ((test, train + held), (held, train)):
            if form == "temporal" and later and earlier:
                assert times(dataset)[earlier].max() <= times(dataset)[later].min()
            if form == "user-temporal":
                for user in {ratings[row][0] for row in later}:
                    before = [times(dataset)[row] for row in earlier if ratings[row][0] == user]
                    assert max(before) <= min(times(dataset)[row] for row in later if ratings[row][0] == user)
            if form.startswith("cold"):
                key = 1 if form == "cold-items" else 0
                assert not {ratings[row][key] for row in later} & {ratings[row][key] for row in earlier}


@settings(max_examples=50, deadline=None)
@given(count=st.integers(2, 60), folds=st.integers(2, 8), seed=st.integers(0, 99))
def test_the_folds_of_a_kfold_are_disjoint_and_cover_every_row(count: int, folds: int, seed: int) -> None:
    folds = min(folds, count)
    with tempfile.TemporaryDirectory() as place:
        dataset = dataset_of(Path(place), many(count))
        tests = [split_ratings(dataset, f"kfold:{folds}/{fold}", seed=seed).test for fold in range(1, folds + 1)]
    assert sorted(np.concatenate(tests).tolist()) == list(range(count))
    assert max(map(len, tests)) - min(map(len, tests)) <= 1


@pytest.mark.parametrize("spec", DRAWN_SPECS)
def test_a_seed_cuts_the_same_and_another_seed_otherwise(dataset: Path, spec: str) -> None:
    split, again, other = (split_ratings(dataset, spec, seed=seed, validation=0.4) for seed in (7, 7, 8))
    assert parts(split) == parts(again)
    assert split.test.tolist() != other.test.tolist()
    assert split.validation.tolist() != other.validation.tolist()
    assert split.seed == 7


@pytest.mark.parametrize("spec", SHARED_SPECS)
def test_the_share_for_validation_never_touches_the_test_part(dataset: Path, spec: str) -> None:
    tests = [split_ratings(dataset, spec, seed=3, validation=share).test.tolist() for share in (0, 0.05, 0.4)]
    assert tests[0] == tests[1] == tests[2]


def test_validation_is_not_drawn_with_the_numbers_that_drew_the_test_part(dataset: Path) -> None:
    split = split_ratings(dataset, "random:0.2", seed=4, validation=0.25)
    trained_on = np.setdiff1d(np.arange(200), split.test)
    reused = trained_on[np.random.default_rng(4).permutation(trained_on.size)[: split.validation.size]]
    assert split.validation.tolist() != np.sort(reused).tolist()


def test_random_is_the_head_of_numpys_permutation(dataset: Path) -> None:
    expected = np.sort(np.random.default_rng(11).permutation(200)[: int(200 * 0.29)])
    assert split_ratings(dataset, "random:0.29", seed=11).test.tolist() == expected.tolist()


@pytest.mark.real_data
def test_random_tenth_of_movielens_1m_is_the_published_one(tmp_path: Path, shared_data: Path) -> None:
    Description(name="ml-1m").write(tmp_path)
    source = pl.scan_parquet(shared_data / "ratings-ml-1m.parquet").rename({"movie_id": "item_id"})
    source.sink_parquet(tmp_path / "ratings.parquet")
    split = split_ratings(tmp_path, "random:0.1", seed=0)
    assert split.test.tolist() == sorted(np.random.default_rng(0).permutation(1000209)[:100_020].tolist())
    assert split.train.size + split.validation.size == 900_189


def test_a_temporal_test_part_has_the_exact_count_and_of_equally_old_ratings_the_later_rows(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, [(1, 1, t) for t in (5, 5, None, 5, 1, 5, 9, 5, None, 2)])
    split = split_ratings(dataset, "temporal:0.4", validation=0.5)
    assert parts(split) == [[2, 4, 8], [0, 1, 9], [3, 5, 6, 7]]


def test_each_user_keeps_a_rating_to_train_on_and_gives_the_nearest_share_of_the_rest(tmp_path: Path) -> None:
    counts = {1: 1, 2: 2, 3: 4, 4: 10}
    dataset = dataset_of(tmp_path, [(user, film, -film) for user, n in counts.items() for film in range(n)])
    tested = [
        list(column(dataset, "user_id")[split_ratings(dataset, spec, validation=0).test])
        for spec in ("user-temporal:0.25", "user-temporal:0.99")
    ]
    assert [tested[0].count(user) for user in counts] == [0, 1, 1, 3]
    assert [tested[1].count(user) for user in counts] == [0, 1, 3, 9]


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(ratings=ratings_of_any_shape, validation=st.just(0.0) | shares, seed=st.integers(0, 9), dated=st.booleans())
def test_leaving_one_out_takes_the_latest_of_each_user_or_any_where_there_is_no_time(
    ratings: Ratings, validation: float, seed: int, dated: bool
) -> None:
    with tempfile.TemporaryDirectory() as place:
        dataset = dataset_of(Path(place), ratings, dated=dated)
        counts = {user: sum(rating[0] == user for rating in ratings) for user, _, _ in ratings}
        if max(counts.values()) < 2:
            with pytest.raises(BadInput, match="its test part is empty"):
                split_ratings(dataset, "leave-one-out", seed=seed)
            return
        split = split_ratings(dataset, "leave-one-out", seed=seed, validation=validation)
        train, held, test = parts(split)
        assert sorted(train + held + test) == list(range(len(ratings)))
        by_time = dated and any(time is not None for _, _, time in ratings)
        for user, count in counts.items():
            mine = [[row for row in part if ratings[row][0] == user] for part in (train, held, test)]
            assert len(mine[2]) == (count > 1)
            assert len(mine[1]) == (count > 2 and validation > 0)
            assert mine[0]
            if by_time:
                when = {row: (times(dataset)[row], row) for row in range(len(ratings))}
                order = sorted((row for part in mine for row in part), key=when.__getitem__)
                assert order[len(mine[0]) :] == mine[1] + mine[2]


def test_without_time_a_seed_leaves_the_same_one_out_and_another_seed_another(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, many(200), dated=False)
    one, again, other = (split_ratings(dataset, "leave-one-out", seed=seed) for seed in (3, 3, 4))
    assert parts(one) == parts(again)
    assert one.test.tolist() != other.test.tolist()
    assert len(one.test) == len(one.validation) == 12


def test_cold_splits_hold_out_the_share_of_films_or_users_with_all_they_have(dataset: Path) -> None:
    for spec, name, there_are in (("cold-items:0.25", "item_id", 9), ("cold-users:0.25", "user_id", 12)):
        ids, split = column(dataset, name), split_ratings(dataset, spec, seed=1, validation=0.3)
        groups = [set(ids[getattr(split, part)]) for part in PARTS]
        assert len(groups[2]) == there_are // 4
        assert len(groups[1]) == int((there_are - there_are // 4) * 0.3)
        assert sum(map(len, groups)) == there_are


def test_a_cold_split_depends_on_which_films_there_are_not_on_the_order_of_their_ratings(tmp_path: Path) -> None:
    held = []
    for name, ratings in (("one", many(200)), ("other", many(200)[::-1])):
        dataset = dataset_of(tmp_path / name, ratings)
        held.append(set(column(dataset, "item_id")[split_ratings(dataset, "cold-items:0.3").test]))
    assert held[0] == held[1]


def test_text_ids_are_cut_like_numbers(own_sample: Path) -> None:
    file = own_sample / "ratings.parquet"
    pl.read_parquet(file).with_columns(pl.col("user_id", "item_id").cast(pl.String)).write_parquet(file)
    films = column(own_sample, "item_id")
    split = split_ratings(own_sample, "cold-items:0.2")
    assert not set(films[split.test]) & {*films[split.train], *films[split.validation]}


def test_an_official_fold_is_the_file_in_splits(dataset: Path) -> None:
    with_folds(dataset, ua=["train", "test", "train", "train"] * 50, ub=["test", "train"] * 100)
    split = split_ratings(dataset, "ua", validation=0.1)
    assert split.test.tolist() == list(range(1, 200, 4))
    assert split.validation.size == 15
    assert sorted([*split.train, *split.validation]) == [row for row in range(200) if row % 4 != 1]
    assert split_ratings(dataset, "ub", validation=0).test.tolist() == list(range(0, 200, 2))


def test_all_has_no_test_part(dataset: Path) -> None:
    split = split_ratings(dataset, "all", validation=0.1)
    assert [len(rows) for rows in parts(split)] == [180, 20, 0]


def test_one_rating_can_only_be_trained_on(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, [(1, 1, 1)])
    assert parts(split_ratings(dataset, "all", validation=0.9)) == [[0], [], []]
    for spec in (*SHARED_SPECS, "random:0.9999999999999999"):
        with pytest.raises(BadInput, match="of 1 ratings: its test part is empty; ask for"):
            split_ratings(dataset, spec)
    with pytest.raises(BadInput, match="train part is empty; ask for fewer folds"):
        split_ratings(dataset, "kfold:2/1")


def test_no_ratings_make_no_split(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, [])
    for spec in (*SHARED_SPECS, "all"):
        with pytest.raises(BadInput, match="of 0 ratings: its train part is empty"):
            split_ratings(dataset, spec)


def test_only_the_columns_a_spec_needs_are_read(tmp_path: Path) -> None:
    for absent, specs in (
        ("timestamp", ("random:0.2", "kfold:4/2", "cold-items:0.2", "cold-users:0.2", "all")),
        ("user_id", ("random:0.2", "temporal:0.2", "cold-items:0.2")),
        ("item_id", ("random:0.2", "temporal:0.2", "user-temporal:0.2", "cold-users:0.2")),
    ):
        dataset = dataset_of(tmp_path / absent, many(50))
        file = dataset / "ratings.parquet"
        pl.read_parquet(file).drop(absent, "rating").write_parquet(file)
        for spec in specs:
            assert split_ratings(dataset, spec).train.size


# --- the user's own file


def write_rows(file: Path, rows: list[object]) -> Path:
    if file.suffix == ".npy":
        np.save(file, np.array(rows))
    elif file.suffix == ".parquet":
        pl.DataFrame({"row": rows}, strict=False).write_parquet(file)
    else:
        head = "row\n" * (file.suffix == ".csv")
        file.write_text(head + "".join(f"{row}\n" for row in rows))
    return file


@pytest.mark.parametrize("suffix", ["parquet", "csv", "txt", "npy"])
def test_a_file_of_row_numbers_is_the_test_part(dataset: Path, tmp_path: Path, suffix: str) -> None:
    file = write_rows(tmp_path / f"mine.{suffix}", [9, 199, 0])
    split = split_ratings(dataset, f"file:{file}", validation=0.1)
    assert split.test.tolist() == [0, 9, 199]
    assert split.validation.size == 19
    assert sorted(chain(*parts(split))) == list(range(200))


def test_row_numbers_are_read_with_any_spacing_line_end_and_byte_order(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "spaced.csv").write_bytes(b"row\r\n 9\r\n199 \r\n")
    (tmp_path / "ends.txt").write_bytes(b"9\r\n\r\n199")
    for order in "<>":
        np.save(tmp_path / f"{ord(order)}.npy", np.array([9, 199], dtype=f"{order}i4"))
    for name in ("spaced.csv", "ends.txt", f"{ord('<')}.npy", f"{ord('>')}.npy"):
        assert split_ratings(dataset, f"file:{tmp_path / name}").test.tolist() == [9, 199]


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_file_with_parts_gives_all_three_and_leaves_the_rest_out(dataset: Path, tmp_path: Path, suffix: str) -> None:
    table = pl.DataFrame({"part": ["test", "train", "validation", "train"], "row": [7, 5, 6, 1], "note": ["x"] * 4})
    file = tmp_path / f"mine.{suffix}"
    (table.write_csv if suffix == "csv" else table.write_parquet)(file)  # type: ignore[operator]
    assert parts(split_ratings(dataset, f"file:{file}", validation=0.5)) == [[1, 5], [6], [7]]


def test_a_saved_split_is_a_file_to_split_by(dataset: Path, tmp_path: Path) -> None:
    split = split_ratings(dataset, "cold-items:0.3", seed=2)
    split.save(tmp_path / "split.parquet")
    assert parts(split_ratings(dataset, f"file:{tmp_path / 'split.parquet'}")) == parts(split)


@pytest.mark.parametrize("suffix", ["parquet", "csv", "txt", "npy"])
@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([1, -1, 2], "from 0 to 199, found -1;"),
        ([1, 200], "from 0 to 199, found 200;"),
        ([1, 2**63 - 1], f"from 0 to 199, found {2**63 - 1};"),
        ([1, 2.5], "found .*2.5;"),
        ([4, 1, 4, 3, 3], "more than once: 4, 3;"),
        (list(range(300, 307)), "found 300, 301, 302, 303, 304 and 2 more;"),
    ],
)
def test_numbers_that_are_no_rows_are_named(
    dataset: Path, tmp_path: Path, suffix: str, rows: list[object], says: str
) -> None:
    file = write_rows(tmp_path / f"mine.{suffix}", rows)
    with pytest.raises(BadInput, match=says) as refusal:
        split_ratings(dataset, f"file:{file}")
    assert str(file) in str(refusal.value)


def test_text_gaps_and_unsigned_giants_are_no_rows(dataset: Path, tmp_path: Path) -> None:
    for name, table, says in (
        ("text", pl.DataFrame({"row": ["1", "two"]}), "found two;"),
        ("gap", pl.DataFrame({"row": [1, None]}), "found nothing;"),
        ("giant", pl.DataFrame({"row": pl.Series([1, 2**64 - 1], dtype=pl.UInt64)}), f"found {2**64 - 1};"),
        ("flags", pl.DataFrame({"row": [True, False]}), "found true, false;"),
    ):
        file = tmp_path / f"{name}.parquet"
        table.write_parquet(file)
        with pytest.raises(BadInput, match=says):
            split_ratings(dataset, f"file:{file}")


def objects(file: Path) -> None:
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def promising_more_than_it_holds(file: Path) -> None:
    with file.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "<i8", "fortran_order": False, "shape": (10**13,)})


@pytest.mark.parametrize(
    ("name", "make", "says"),
    [
        ("mine.npy", objects, "cannot be read"),
        ("mine.npy", promising_more_than_it_holds, "cannot be read"),
        ("mine.npy", lambda file: np.save(file, np.zeros((2, 2), int)), "one dimension of row numbers"),
        ("mine.npy", lambda file: np.save(file, np.zeros(200, bool)), "one dimension of row numbers"),
        ("mine.npy", lambda file: file.write_bytes(b"PK\x03\x04"), "cannot be read"),
        ("mine.npy", lambda file: file.write_bytes(b""), "cannot be read"),
        ("mine.parquet", lambda file: file.write_bytes(b"PAR1 nonsense"), "cannot be read"),
        ("mine.csv", lambda file: file.write_text(""), "cannot be read"),
        ("mine.csv", lambda file: file.write_bytes(b"row\n\xff\xfe\n"), "cannot be read|found"),
        ("mine.csv", lambda file: file.write_text("rows,part\n1,test\n"), "expected a column row .*, found rows, part"),
        ("mine.csv", lambda file: file.write_text("row,part\n1,tset\n2,train\n"), "a part must be .* found tset;"),
        ("mine.csv", lambda file: file.write_text("row,part\n1,\n2,train\n"), "a part must be .* found nothing;"),
        ("mine.csv", lambda file: file.write_text("row,part\n1,test\n"), "train part is empty; correct the file"),
        ("mine.csv", lambda file: file.write_text("row\n"), "test part is empty; correct the file"),
        ("mine.json", lambda file: file.write_text("[1]"), "expected .parquet, .csv, .txt or .npy, found '.json'"),
        ("mine.csv", lambda file: file.mkdir(), "cannot be read"),
        ("mine.npy", lambda file: file.mkdir(), "cannot be read"),
        ("mine.npy", lambda file: None, "no such file"),
        ("mine.csv", lambda file: None, "no such file"),
    ],
)
def test_a_file_that_is_no_list_of_rows_is_refused(
    dataset: Path, tmp_path: Path, name: str, make: Callable[[Path], object], says: str
) -> None:
    make(tmp_path / name)
    with pytest.raises(BadInput, match=says) as refusal:
        split_ratings(dataset, f"file:{tmp_path / name}")
    assert "\n" not in str(refusal.value)


# --- refusals


@pytest.mark.parametrize("word", ["random", "temporal", "user-temporal", "cold-items", "cold-users"])
@pytest.mark.parametrize("share", ["0", "1", "-0.1", "1.5", "nan", "inf", "ten", ""])
def test_a_share_that_is_none_is_told_with_an_example(dataset: Path, word: str, share: str) -> None:
    with pytest.raises(UsageError, match=f"between 0 and 1, found '{share}'; for instance {word}:0.1"):
        split_ratings(dataset, f"{word}:{share}")


@pytest.mark.parametrize("value", ["5", "5/0", "5/6", "1/1", "0/0", "5/-1", "/", "", "a/b", "5/2/1", "²/1"])
def test_a_fold_that_is_none_is_told_with_an_example(dataset: Path, value: str) -> None:
    with pytest.raises(UsageError, match="for instance kfold:5/2"):
        split_ratings(dataset, f"kfold:{value}")


@pytest.mark.parametrize("spec", ["", ":", "random", "kfold", "file:", "all:1", "u1:2", "0.1", "rondom:0.1"])
def test_a_malformed_split_is_told_all_forms(dataset: Path, spec: str) -> None:
    with pytest.raises(
        UsageError, match=r"expected an official fold .* cold-users:0\.1, column:NAME, file:PATH or all"
    ):
        split_ratings(dataset, spec)


def test_an_unknown_fold_is_told_the_nearest_and_those_there_are(dataset: Path) -> None:
    with pytest.raises(UsageError, match="no such fold; it has no official folds"):
        split_ratings(dataset, "u1")
    with_folds(dataset, u1=["train", "test"], ua=["train", "test"])
    with pytest.raises(UsageError, match=r"no such fold \(did you mean u1\?\); its official folds are u1, ua"):
        split_ratings(dataset, "U1")
    with pytest.raises(UsageError, match=r"did you mean random:…\?"):
        split_ratings(dataset, "rondom:0.1")


def test_a_fold_is_never_looked_for_outside_splits(dataset: Path) -> None:
    with_folds(dataset, u1=["train", "test"])
    pl.read_parquet(dataset / "splits" / "u1.parquet").write_parquet(dataset / "u2.parquet")
    with pytest.raises(UsageError, match="no such fold"):
        split_ratings(dataset, "../u2")


@pytest.mark.parametrize("share", [-0.1, 1, 1.5, float("nan")])
def test_a_share_for_validation_leaves_something_to_train_on(dataset: Path, share: float) -> None:
    with pytest.raises(UsageError, match=r"validation share .*: expected a share from 0 to below 1, for instance 0\.1"):
        split_ratings(dataset, "all", validation=share)


def test_a_negative_seed_is_refused(dataset: Path) -> None:
    with pytest.raises(UsageError, match="seed -1: expected 0 or more"):
        split_ratings(dataset, "all", seed=-1)


@pytest.mark.parametrize("spec", ["temporal:0.2", "user-temporal:0.2"])
def test_a_temporal_split_needs_timestamps(tmp_path: Path, spec: str) -> None:
    word = spec.split(":")[0]
    undated = dataset_of(tmp_path / "undated", many(20), dated=False)
    nulls = dataset_of(tmp_path / "nulls", [(user, film, None) for user, film, _ in many(20)])
    for dataset in (undated, nulls):
        with pytest.raises(BadInput, match=f"has no timestamps, which a {word} split needs"):
            split_ratings(dataset, spec)
    table = pl.read_parquet(undated / "ratings.parquet").with_columns(timestamp=pl.lit(0.5))
    table.write_parquet(undated / "ratings.parquet")
    with pytest.raises(BadInput, match="its timestamp must be Int64, found Float64"):
        split_ratings(undated, spec)


@pytest.mark.parametrize(("name", "spec"), [("item_id", "cold-items:0.2"), ("user_id", "cold-users:0.2")])
def test_ratings_without_an_id_are_not_cut_by_it(dataset: Path, name: str, spec: str) -> None:
    table = pl.read_parquet(dataset / "ratings.parquet")
    gaps = pl.when(pl.col(name) != 3).then(pl.col(name)).alias(name)
    table.with_columns(gaps).write_parquet(dataset / "ratings.parquet")
    with pytest.raises(BadInput, match=f"has ratings without {name}"):
        split_ratings(dataset, spec)


def test_what_is_no_dataset_with_ratings_is_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not a dataset folder"):
        split_ratings(tmp_path, "all")
    (dataset / "ratings.parquet").write_bytes(b"no table")
    with pytest.raises(BadInput, match=r"ratings\.parquet cannot be read"):
        split_ratings(dataset, "all")
    (dataset / "ratings.parquet").unlink()
    with pytest.raises(BadInput, match=r"ratings\.parquet: no such file"):
        split_ratings(dataset, "all")


def test_a_fold_of_other_ratings_is_refused(dataset: Path) -> None:
    with_folds(dataset, u1=["train", "test"] * 101, u2=["train"] * 200, u3=["test"] * 200)
    with pytest.raises(BadInput, match="from 0 to 199, found 200, 201"):
        split_ratings(dataset, "u1")
    with pytest.raises(BadInput, match="split u2 of 200 ratings: its test part is empty; import the dataset again"):
        split_ratings(dataset, "u2")
    with pytest.raises(BadInput, match="split u3 of 200 ratings: its train part is empty"):
        split_ratings(dataset, "u3")


# --- within


def test_a_join_takes_away_its_rows_and_nothing_else(dataset: Path) -> None:
    split = split_ratings(dataset, "random:0.2", seed=6)
    kept = np.arange(200) % 3 != 0
    left = split.within(kept)
    assert parts(left) == [[row for row in rows if row % 3] for rows in parts(split)]
    assert (left.name, left.seed) == (split.name, split.seed)
    assert parts(split.within(np.ones(200, bool))) == parts(split)


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_join_that_leaves_nothing_of_a_part_is_refused(dataset: Path, part: str) -> None:
    split = split_ratings(dataset, "random:0.2")
    kept = np.ones(200, bool)
    kept[getattr(split, part)] = False
    with pytest.raises(BadInput, match=f"split random:0.2: none of the .* ratings of its {part} part is left"):
        split.within(kept)


def test_a_join_may_leave_no_validation_and_asks_all_for_no_test(dataset: Path) -> None:
    split = split_ratings(dataset, "all")
    kept = np.ones(200, bool)
    kept[split.validation] = False
    assert parts(split.within(kept)) == [split.train.tolist(), [], []]


def test_kept_row_numbers_are_not_taken_for_truth_values(dataset: Path) -> None:
    split = split_ratings(dataset, "all")
    with pytest.raises(ValueError, match="one truth value a rating"):
        split.within(np.arange(200))  # type: ignore[arg-type]


# --- on disk


@pytest.mark.parametrize("spec", [*SHARED_SPECS, "all"])
def test_a_split_comes_back_from_disk(dataset: Path, tmp_path: Path, spec: str) -> None:
    split = split_ratings(dataset, spec, seed=2**80)
    split.save(tmp_path / "saved")
    back = Split.load(tmp_path / "saved")
    assert (back.name, back.seed, parts(back)) == (spec, 2**80, parts(split))
    assert all(getattr(back, part).dtype == np.int64 for part in PARTS)
    table = pl.read_parquet(tmp_path / "saved")
    assert table.columns == ["row", "part"]
    assert table["row"].dtype == pl.UInt32
    assert table["row"].to_list() == sorted(chain(*parts(split)))


def test_saving_leaves_the_old_file_or_the_new_one_and_nothing_beside(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    split_ratings(dataset, "all").save(folder / "split.parquet")

    def fails(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as broken:
        broken.setattr("os.fsync", fails)
        with pytest.raises(Exception, match="disk is full"):
            split_ratings(dataset, "random:0.1").save(folder / "split.parquet")
    assert [path.name for path in folder.iterdir()] == ["split.parquet"]
    assert Split.load(folder / "split.parquet").name == "all"
    split_ratings(dataset, "random:0.1").save(folder / "split.parquet")
    assert [path.name for path in folder.iterdir()] == ["split.parquet"]
    assert Split.load(folder / "split.parquet").name == "random:0.1"


def test_a_split_is_not_saved_where_there_is_no_folder(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be written"):
        split_ratings(dataset, "all").save(tmp_path / "absent" / "split.parquet")


def test_what_is_no_saved_split_is_refused(dataset: Path, tmp_path: Path) -> None:
    file = tmp_path / "split.parquet"
    with pytest.raises(BadInput, match="no such file"):
        Split.load(file)
    file.write_bytes(b"text")
    with pytest.raises(BadInput, match="cannot be read"):
        Split.load(file)
    about = {"split": "all", "seed": "1"}
    good = pl.DataFrame({"row": [1, 2], "part": ["train", "test"]})
    for table, metadata, says in (
        (good, {}, "is no saved split"),
        (good, about | {"seed": "one"}, "cannot be read"),
        (good.drop("part"), about, "cannot be read"),
        (good.with_columns(part=pl.lit("tset")), about, "a part must be"),
        (good.with_columns(row=pl.lit(1)), about, "more than once: 1;"),
        (good.with_columns(row=pl.lit(-1)), about, "found -1;"),
    ):
        table.write_parquet(file, metadata=metadata)
        with pytest.raises(BadInput, match=says):
            Split.load(file)


def test_every_form_cuts_the_sample(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample", items=30, users=12)
    for spec in (*SHARED_SPECS, "all"):
        assert split_ratings(tmp_path / "sample", spec).train.size
