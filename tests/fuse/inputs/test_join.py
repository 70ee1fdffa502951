"""Laws of the join: no rating is multiplied, lost or given another film's row, and whatever is left out is told."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cinefuse.data.dataset.folder import Description
from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.rows import RowWriter, nan
from cinefuse.data.embeddings.status import Reason, Status
from cinefuse.data.runtime.errors import BadInput, UsageError
from cinefuse.fuse.inputs.join import Joined, join
from cinefuse.tests.support.embedding_files import UNFINISHED, make_layout

HAS = {
    Status.OK: True,
    Status.TRUNCATED: True,
    Status.MISSING: False,
    Status.FAILED: False,
}


def catalogue(folder: Path, ids: list[Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    Description("test").write(folder)
    pl.DataFrame(
        {
            "item_id": pl.Series(ids, dtype=pl.Int64 if isinstance(ids[0], int) else pl.String),
            "title": pl.Series([f"Film {item}" for item in ids]),
            "year": pl.Series([1990] * len(ids), dtype=pl.Int32),
            "genres": pl.Series([["Drama"]] * len(ids), dtype=pl.List(pl.String)),
            "text": ["A plot."] * len(ids),
            "poster": ["a.png"] * len(ids),
        }
    ).write_parquet(folder / "items.parquet")
    return folder


def rated(folder: Path, **columns: Any) -> Path:
    """The dataset with these ratings; three good ones where a column is not given."""
    good: dict[str, Any] = {"user_id": [5, 5, 6], "item_id": [1, 2, 1], "rating": [3.0, 4.0, 5.0]}
    pl.DataFrame({name: values for name, values in (good | columns).items() if values is not None}).write_parquet(
        folder / "ratings.parquet"
    )
    return folder


def embedded(path: Path, ids: list[Any], states: dict[str, list[Status]]) -> EmbeddingFile:
    """An embedding file of these films, each in the given state."""
    layouts = {}
    for name, of_items in states.items():
        lengths = [2 * HAS[state] for state in of_items]
        layouts[name] = make_layout(
            "toy", "float16", 2, lengths, [(s, Reason.NONE) for s in of_items], text=name == "text"
        )
    with EmbeddingFile.create(path, np.array(ids), layouts, {}) as file, RowWriter(file) as writer:
        for name, of_items in states.items():
            for row, state in enumerate(of_items):
                content = np.ones((3, 2), np.float16) if HAS[state] else nan((1, 2), "float16")
                writer.write(name, row, content[0], content[1:], state, Reason.NONE)
    return EmbeddingFile.open(path)


@pytest.fixture
def items(tmp_path: Path) -> Path:
    """A dataset of the films 1, 2 and 3, without ratings."""
    return catalogue(tmp_path / "dataset", [1, 2, 3])


@dataclass
class Case:
    """A dataset and an embedding file, as plain lists."""

    items: list[Any]
    ratings: list[tuple[Any, Any, float, int | None]]
    dated: bool
    users: list[Any] | None
    in_file: list[Any]
    states: dict[str, list[Status]] | None


@st.composite
def cases(draw: st.DrawFn) -> Case:
    identify: Callable[[int], Any] = draw(st.sampled_from([lambda n: n * 7 - 30, lambda n: f"tt{n}é"]))
    items = [identify(n) for n in draw(st.permutations(range(8)))][: draw(st.integers(1, 8))]
    rating = st.tuples(
        st.integers(0, 3).map(identify),
        st.integers(0, 8).map(identify),
        st.sampled_from([0.5, 1.0, 4.5]),
        st.one_of(st.none(), st.integers(-1, 1)),
    )
    ratings = draw(st.lists(rating, min_size=1, max_size=30))
    in_file = [identify(n) for n in draw(st.permutations(range(9)))][: draw(st.integers(1, 9))]
    modalities = draw(st.sampled_from([None, ("text",), ("image",), ("text", "image")]))
    states = modalities and {name: [draw(st.sampled_from(sorted(HAS))) for _ in in_file] for name in modalities}
    users = draw(st.one_of(st.none(), st.lists(st.integers(2, 6).map(identify), unique=True)))
    return Case(items, ratings, draw(st.booleans()), users, in_file, states or None)


@dataclass
class Expected:
    """What a reader of the rules would work out by hand."""

    kept: list[int]
    unknown: list[int]
    unembedded: list[int]
    repeated: list[int]
    has: dict[str, dict[Any, bool]]


def worked_out(case: Case, missing: str, duplicates: str) -> Expected:
    has = {name: dict.fromkeys(case.items, False) for name in ("text", "image")}
    for name, states in (case.states or {}).items():
        for item, state in zip(case.in_file, states, strict=True):
            if item in case.items:
                has[name][item] = HAS[state]
    expected = Expected([], [], [], [], has)
    groups: dict[tuple[Any, Any], list[int]] = {}
    for row, (user, item, _, _) in enumerate(case.ratings):
        if item not in case.items:
            expected.unknown.append(row)
        elif missing == "drop" and not all(has[name][item] for name in case.states or {}):
            expected.unembedded.append(row)
        else:
            groups.setdefault((user, item), []).append(row)

    def age(row: int) -> tuple[float, int]:
        when = case.ratings[row][3] if case.dated else None
        return (-float("inf") if when is None else when, row)

    for rows in groups.values():
        counts = max(rows, key=age) if duplicates == "last" else min(rows, key=age)
        expected.kept.append(counts)
        expected.repeated += [row for row in rows if row != counts]
    expected.kept.sort()
    expected.repeated.sort()
    return expected


def joined(case: Case, folder: Path, missing: str, duplicates: str) -> Joined:
    catalogue(folder, case.items)
    users, items, ratings, when = (list(column) for column in zip(*case.ratings, strict=True))
    stamps = pl.Series(when, dtype=pl.Int64) if case.dated else None
    rated(folder, user_id=users, item_id=items, rating=ratings, timestamp=stamps)
    if case.users is not None:
        pl.DataFrame({"user_id": case.users}, schema={"user_id": pl.Series(users).dtype}).write_parquet(
            folder / "users.parquet"
        )
    file = embedded(folder / "file.h5", case.in_file, case.states) if case.states else None
    return join(folder, file, missing=missing, duplicates=duplicates)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(cases(), st.sampled_from(["mask", "drop"]), st.sampled_from(["last", "first"]))
def test_every_rating_is_kept_once_or_dropped_for_one_reason_as_worked_out_by_hand(
    case: Case, missing: str, duplicates: str
) -> None:
    expected = worked_out(case, missing, duplicates)
    with tempfile.TemporaryDirectory() as folder:
        strangers = case.states and not set(case.in_file) & set(case.items)
        if strangers or not expected.kept:
            with pytest.raises(BadInput):
                joined(case, Path(folder), missing, duplicates)
            return
        result = joined(case, Path(folder), missing, duplicates)

    assert result.row.tolist() == expected.kept
    found = zip(result.user_ids[result.user], result.item_ids[result.item], result.rating, strict=True)
    assert list(found) == [case.ratings[row][:3] for row in expected.kept]
    assert result.item_ids.tolist() == case.items
    assert result.user_ids.tolist() == sorted({user for user, *_ in case.ratings} | set(case.users or []))

    if case.states:
        rows = [case.in_file.index(item) if item in case.in_file else -1 for item in case.items]
        assert result.embedding_row is not None
        assert result.embedding_row.tolist() == rows
    else:
        assert result.embedding_row is None
    assert result.text.tolist() == list(expected.has["text"].values())
    assert result.image.tolist() == list(expected.has["image"].values())

    shown = result.coverage
    assert shown.ratings == shown.kept + shown.dropped == len(case.ratings)
    for dropped, rows in (
        (shown.unknown_item, expected.unknown),
        (shown.missing_embedding, expected.unembedded),
        (shown.duplicate, expected.repeated),
    ):
        assert dropped.ratings == len(rows)
        assert list(dropped.first_rows) == rows[:5]
    kept_items = [case.ratings[row][1] for row in expected.kept]
    assert (shown.users, shown.items) == (len(result.user_ids), len(case.items))
    assert shown.users_with_ratings == len({case.ratings[row][0] for row in expected.kept})
    assert shown.rated_items == len(set(kept_items))
    assert shown.items_outside_file == (len(set(case.items) - set(case.in_file)) if case.states else 0)
    for presence, of in ((shown.items_with, case.items), (shown.ratings_with, kept_items)):
        kinds = Counter((expected.has["text"][item], expected.has["image"][item]) for item in of)
        assert presence.text == kinds[True, True] + kinds[True, False]
        assert presence.image == kinds[True, True] + kinds[False, True]
        assert (presence.both, presence.neither) == (kinds[True, True], kinds[False, False])


def test_the_arrays_have_the_types_that_batches_are_made_of(items: Path, tmp_path: Path) -> None:
    result = join(rated(items), embedded(tmp_path / "f.h5", [3, 1], {"text": [Status.OK, Status.MISSING]}))
    dtypes = [result.user.dtype, result.item.dtype, result.rating.dtype, result.row.dtype]
    assert dtypes == [np.int32, np.int32, np.float32, np.int64]
    assert result.user_ids.dtype == result.item_ids.dtype == np.int64
    assert result.embedding_row is not None
    assert result.embedding_row.dtype == np.int64
    assert result.text.dtype == result.image.dtype == np.bool_


def test_ids_in_narrower_columns_are_the_same_ids(items: Path) -> None:
    rated(
        items,
        user_id=pl.Series(["b", "a", "b"], dtype=pl.Categorical),
        item_id=pl.Series([1, 2, 3], dtype=pl.UInt16),
        rating=pl.Series([1, 2, 3], dtype=pl.UInt8),
    )
    result = join(items, None)
    assert result.user_ids.tolist() == ["a", "b"]
    assert result.user_ids.dtype == object
    assert result.item.tolist() == [0, 1, 2]


def test_a_row_still_pending_counts_as_no_embedding(tmp_path: Path) -> None:
    folder = rated(catalogue(tmp_path / "dataset", [2**62, -5, 1]), item_id=[1, -5, 2**62])
    with EmbeddingFile.open(UNFINISHED, pending=True) as file:
        assert join(folder, file).image.tolist() == [False, False, True]


def test_points_in_time_order_repeated_ratings_as_seconds_do(items: Path) -> None:
    stamps = pl.Series([30, 20, 10]).cast(pl.Datetime("ms"))
    rated(items, user_id=[5, 5, 5], item_id=[1, 1, 1], timestamp=stamps)
    assert join(items, None).row.tolist() == [0]
    assert join(items, None, duplicates="first").row.tolist() == [2]


def test_users_times_items_beyond_32_bits_are_still_different_pairs(tmp_path: Path) -> None:
    folder = catalogue(tmp_path / "dataset", list(range(2**16)))
    pl.DataFrame({"user_id": range(2**16 + 1)}).write_parquet(folder / "users.parquet")
    rated(folder, user_id=[0, 2**16, 1], item_id=[0, 0, 2**16 - 1])
    assert join(folder, None, duplicates="error").coverage.kept == 3


def test_refusing_choices_let_a_clean_dataset_pass(items: Path, tmp_path: Path) -> None:
    file = embedded(tmp_path / "f.h5", [1, 2, 3], {"text": [Status.OK] * 3, "image": [Status.TRUNCATED] * 3})
    result = join(rated(items), file, missing="error", duplicates="error")
    assert result.coverage.kept == 3


def refusal(kind: type[Exception], *arguments: Any, **choices: Any) -> str:
    with pytest.raises(kind) as raised:
        join(*arguments, **choices)
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_items_without_embeddings_are_refused_by_count_and_name_where_asked(items: Path, tmp_path: Path) -> None:
    states = {"text": [Status.OK, Status.FAILED], "image": [Status.OK, Status.OK]}
    file = embedded(tmp_path / "f.h5", [1, 2], states)
    message = refusal(BadInput, rated(items), file, missing="error")
    assert f"{file.path}: 2 of 3 films, with 1 ratings, lack a text or image embedding (item_id 2, 3)" in message


def test_repeated_ratings_are_refused_by_row_where_asked(items: Path) -> None:
    rated(items, user_id=[5, 6, 5], item_id=[1, 1, 1])
    assert "rows 1, 3 rate a film that the same user rates in another row" in refusal(
        BadInput, items, None, duplicates="error"
    )


@pytest.mark.parametrize("choice", ["missing", "duplicates"])
def test_an_unknown_choice_is_refused_with_those_there_are(items: Path, choice: str) -> None:
    message = refusal(UsageError, rated(items), None, **{choice: "keep"})
    assert message.startswith(f"{choice}: expected ")
    assert message.endswith(" or error, found 'keep'")


@pytest.mark.parametrize(
    ("ids", "words"),
    [([7, 8, 9], ["7 (Int64)", "1 (Int64)"]), (["1", "2", "3"], ["'1' (String)", "1 (Int64)"])],
)
def test_ratings_of_another_catalogue_are_refused_with_an_id_of_each_side(
    items: Path, ids: list[Any], words: list[str]
) -> None:
    message = refusal(BadInput, rated(items, item_id=ids), None)
    for word in words:
        assert word in message


@pytest.mark.parametrize(("ids", "word"), [([7, 8], "7, Int64"), (["1", "2"], "'1', String")])
def test_an_embedding_file_of_another_catalogue_is_refused_with_an_id_of_each_side(
    items: Path, tmp_path: Path, ids: list[Any], word: str
) -> None:
    file = embedded(tmp_path / "f.h5", ids, {"text": [Status.OK, Status.OK]})
    message = refusal(BadInput, rated(items), file)
    assert f"({word})" in message
    assert "of another catalogue" in message
    assert "(1, Int64)" in message


def test_a_file_of_other_texts_under_the_same_ids_is_said(sample: Path, embeddings: Path, tmp_path: Path) -> None:
    with EmbeddingFile.open(embeddings) as file:
        own = join(sample, file).coverage
        assert own.texts_compared > 30
        assert own.other_texts == 0
        assert not any("another text" in line for line in own.lines())
        shutil.copytree(sample, tmp_path / "other")
        films = pl.read_parquet(sample / "items.parquet")
        films.with_columns(text=pl.lit("Another film. ") + pl.col("text")).write_parquet(
            tmp_path / "other" / "items.parquet"
        )
        other = join(tmp_path / "other", file).coverage
        assert other.other_texts == other.texts_compared == own.texts_compared
        assert any(line.endswith("is it of another catalogue?") for line in other.lines())


def test_a_dataset_whose_every_rating_would_be_dropped_is_refused(items: Path, tmp_path: Path) -> None:
    file = embedded(tmp_path / "f.h5", [1, 2, 3], {"text": [Status.MISSING] * 3})
    assert "no rating is of a film with text embeddings" in refusal(BadInput, rated(items), file, missing="drop")
    assert join(items, file).coverage.kept == 3


@pytest.mark.parametrize(
    ("ratings", "named"),
    [
        ([1.0, float("nan"), 2.0], "row 2 with a rating"),
        ([float("inf"), 1.0, float("-inf")], "rows 1, 3 with a rating"),
        ([1.0, 2.0, None], "row 3 with a rating"),
        ([1.0, 2.0, 1e300], "row 3 with a rating"),
    ],
)
def test_a_rating_that_is_no_number_is_refused_by_row(items: Path, ratings: list[Any], named: str) -> None:
    assert named in refusal(BadInput, rated(items, rating=ratings), None)


@pytest.mark.parametrize("column", ["user_id", "item_id"])
def test_a_rating_without_an_id_is_refused_by_row(items: Path, column: str) -> None:
    assert f"row 2 without a {column}" in refusal(BadInput, rated(items, **{column: [1, None, 2]}), None)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"user_id": None}, "lacks the column 'user_id'"),
        ({"item_id": None}, "lacks the column 'item_id'"),
        ({"rating": None}, "lacks the column 'rating'"),
        ({"rating": ["3", "4", "5"]}, "column rating: expected numbers, found String"),
        ({"item_id": [1.0, 2.0, 3.0]}, "column item_id: expected Int64 or String, found Float64"),
        ({"user_id": pl.Series([1, 2, 3], dtype=pl.UInt64)}, "column user_id: expected Int64 or String, found UInt64"),
        ({"timestamp": ["a", "b", "c"]}, "column timestamp: expected whole seconds"),
        (
            {name: pl.Series([], dtype=pl.Int64) for name in ("user_id", "item_id", "rating")},
            "holds no rating",
        ),
    ],
)
def test_a_table_of_another_shape_is_refused_by_column(items: Path, columns: dict[str, Any], says: str) -> None:
    assert f"{rated(items, **columns) / 'ratings.parquet'}" in refusal(BadInput, items, None)
    assert says in refusal(BadInput, items, None)


def test_tables_that_cannot_be_read_are_refused_by_name(items: Path) -> None:
    assert "ratings.parquet is missing" in refusal(BadInput, items, None)
    (items / "ratings.parquet").write_bytes(b"not a table")
    assert "ratings.parquet cannot be read as Parquet" in refusal(BadInput, items, None)
    (rated(items) / "users.parquet").write_bytes(b"not a table")
    assert "users.parquet cannot be read as Parquet" in refusal(BadInput, items, None)


@pytest.mark.parametrize(
    ("users", "says"),
    [
        ({"user_id": ["5", "6"]}, "expected user_id as in ratings.parquet (5, Int64), found String"),
        ({"age": [5, 6]}, "lacks the column 'user_id'"),
        ({"user_id": [5, None]}, "row 2 without a user_id"),
    ],
)
def test_users_that_are_not_those_of_the_ratings_are_refused(items: Path, users: dict[str, Any], says: str) -> None:
    pl.DataFrame(users).write_parquet(rated(items) / "users.parquet")
    message = refusal(BadInput, items, None)
    assert says in message
    assert "users.parquet" in message


def test_the_report_counts_everything_and_names_rows_from_one(items: Path, tmp_path: Path) -> None:
    rated(items, user_id=[5, 5, 6, 6, 7], item_id=[1, 99, 1, 1, 2], rating=[1, 2, 3, 4, 5])
    file = embedded(tmp_path / "f.h5", [1, 2], {"text": [Status.OK] * 2, "image": [Status.OK, Status.FAILED]})
    coverage = join(items, file).coverage
    assert coverage.lines() == [
        "ratings: 5 read, 3 kept",
        "  dropped of films that are not in the catalogue: 1 (row 2)",
        "  dropped of a film the same user rated more than once: 1 (row 3)",
        "users: 3, of them 3 with ratings",
        "films: 3, of them 2 with ratings",
        "  not in the embedding file: 1",
        "  of another text than the one that was embedded: 2 of 2 compared; is it of another catalogue?",
        "text embeddings: 2 films (66.7 %), 3 ratings (100.0 %)",
        "image embeddings: 1 films (33.3 %), 2 ratings (66.7 %)",
        "both: 1 films, 2 ratings",
        "neither: 1 films, 0 ratings",
    ]
    found = json.loads(json.dumps(coverage.as_dict()))
    assert found["unknown_item"] == {"ratings": 1, "first_rows": [1]}
    assert found["items_with"] == {"text": 2, "image": 1, "both": 1, "neither": 1}
    assert found["kept"] == 3
    assert "  dropped of films without an embedding: 1 (row 5)" in join(items, file, missing="drop").coverage.lines()


@pytest.mark.real_data
def test_movielens_joins_whole(shared_data: Path, tmp_path: Path) -> None:
    real = pl.read_parquet(shared_data / "ratings-ml-1m.parquet").rename({"movie_id": "item_id"})
    folder = catalogue(tmp_path / "dataset", real["item_id"].unique().to_list())
    real.write_parquet(folder / "ratings.parquet")
    result = join(folder, None)
    assert result.coverage.kept == real.height == 1_000_209
    assert np.array_equal(result.user_ids[result.user], real["user_id"].to_numpy())
    assert np.array_equal(result.item_ids[result.item], real["item_id"].to_numpy())
    assert np.array_equal(result.rating, real["rating"].to_numpy())


MANY = 25_000_000
MEASURE = """
import resource, sys
from pathlib import Path
from cinefuse.fuse.inputs.join import join
result = join(Path(sys.argv[1]), None)
assert result.coverage.ratings == result.coverage.kept + result.coverage.dropped
print(result.coverage.ratings, result.coverage.duplicate.ratings, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.torture
@pytest.mark.parametrize("rated_twice", [False, True], ids=["rated once", "everything rated twice"])
def test_twenty_five_million_ratings_join_in_two_gigabytes(tmp_path: Path, rated_twice: bool) -> None:
    folder = catalogue(tmp_path / "dataset", list(range(1000, 62_000)))
    chance = np.random.default_rng(0)
    chunks = tmp_path / "chunks"
    chunks.mkdir()
    for chunk in range(25):
        # 1 of 62 films is unknown; the odd chunks may repeat the even ones
        user = np.sort(chance.integers(chunk * 6400, (chunk + 1) * 6400, MANY // 25))
        item = chance.integers(1, 62_000, MANY // 25)
        columns = {"user_id": user, "item_id": item, "rating": item % 10 / np.float32(2), "timestamp": user + chunk}
        if not (rated_twice and chunk % 2):
            table = pl.DataFrame(columns)
        table.write_parquet(chunks / f"{chunk:02}.parquet")
    pl.scan_parquet(chunks / "*.parquet").sink_parquet(folder / "ratings.parquet", row_group_size=500_000)

    command = [sys.executable, "-c", MEASURE, str(folder)]
    environment = {**os.environ, "POLARS_MAX_THREADS": "2", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    ratings, duplicates, peak_kib = map(int, done.stdout.split())
    assert ratings == MANY
    assert duplicates > (11_000_000 if rated_twice else 0)
    assert peak_kib * 1024 < 2_000_000_000
