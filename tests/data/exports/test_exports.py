"""What other programs get of an embedding file: every item's own vector, never NaN, a list of those that have none."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cinefuse.cli import app
from cinefuse.data.dataset.splits import split_ratings
from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.runtime.errors import BadInput, UsageError
from tests.support.embedding_files import (
    IMAGE_BFLOAT16,
    MISSING,
    OK,
    TEXT_AND_IMAGE,
    TEXT_INT8,
    make_layout,
    write_file,
)

SOURCES = [TEXT_AND_IMAGE, IMAGE_BFLOAT16, TEXT_INT8]


def command(*words: object) -> Any:
    return CliRunner().invoke(app, ["cache", "convert", *map(str, words)])


def exported(source: Path, out: Path, to: str, *words: object) -> str:
    done = command(source, out, "--to", to, *words)
    assert done.exit_code == 0, done.exception
    return done.output


def expected(file: EmbeddingFile, name: str, row: int, kind: str = "cls") -> np.ndarray | None:
    modality = file[name]
    if not modality.has_embedding[row]:
        return None
    tokens = modality.read_tokens(row)
    if kind == "mean":
        return tokens.mean(axis=0) if len(tokens) else None
    return modality.read_cls(row)


def missing_list(out: Path) -> set[tuple[str, str]]:
    with (out / "missing.csv").open(encoding="utf-8") as table:
        return {(row["modality"], row["item_id"]) for row in csv.DictReader(table)}


@pytest.fixture(scope="module")
def rated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A dataset of 40 users and 30 items, three of which nobody rated, and its file: some lack text, some an image."""
    folder = tmp_path_factory.mktemp("rated")
    chance = np.random.default_rng(4)
    pairs = [(user, item) for user in range(1, 41) for item in range(10, 37) if chance.random() < 0.4]
    pairs += [(1, item) for item in range(10, 37) if (1, item) not in pairs]
    with (folder / "ratings.csv").open("w") as out:
        out.write("userId,movieId,rating,timestamp\n")
        out.writelines(f"{user},{item},{1 + (user + item) % 5},{1000 + n}\n" for n, (user, item) in enumerate(pairs))
    with (folder / "movies.csv").open("w") as out:
        out.write("movieId,title\n")
        out.writelines(f"{item},Film {item}\n" for item in range(10, 40))
    words = ["data", "import", "table", str(folder / "my data"), "--items", str(folder / "movies.csv")]
    done = CliRunner().invoke(app, [*words, "--ratings", str(folder / "ratings.csv")])
    assert done.exit_code == 0, done.exception
    ids = list(range(39, 9, -1))  # another order than the catalogue's
    modalities = {}
    for name, width, absent in (("text", 4, {12, 30, 39}), ("image", 6, {11, 12})):
        states = [MISSING if item in absent else OK for item in ids]
        layout = make_layout("m", "float32", width, [2] * len(ids), states, text=name == "text")
        rows = []
        for item, state in zip(ids, states, strict=True):
            content = np.full((3, width), item, np.float32) + np.arange(3, dtype=np.float32)[:, None] * 100
            rows.append((content if state == OK else np.full((3, width), np.nan, np.float32), *state))
        modalities[name] = (layout, rows)
    write_file(folder / "films.h5", ids, modalities).close()
    return folder / "my data", folder / "films.h5"


# ---------------------------------------------------------------- vectors beside ids


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
@pytest.mark.parametrize("kind", ["cls", "mean"])
def test_vectors_are_the_items_own_in_the_order_of_their_ids(tmp_path: Path, source: Path, kind: str) -> None:
    exported(source, tmp_path / "v", "vectors", "--vector", kind)
    with EmbeddingFile.open(source) as file:
        for name in file.modalities:
            values = np.load(tmp_path / "v" / f"{name}.npy")
            ids = (tmp_path / "v" / f"{name}_ids.txt").read_text("utf-8").splitlines()
            own = [(str(file.ids[row]), expected(file, name, row, kind)) for row in range(len(file))]
            kept = [(item, vector) for item, vector in own if vector is not None]
            assert ids == [item for item, _ in kept]
            assert values.dtype == np.float32
            assert values.flags.c_contiguous
            assert np.allclose(values, [vector for _, vector in kept], rtol=1e-6)
            assert {item for item, vector in own if vector is None} == {
                item for modality, item in missing_list(tmp_path / "v") if modality == name
            }
        if len(file.modalities) == 1:
            assert (tmp_path / "v" / "ids.txt").read_text("utf-8").splitlines() == ids


@pytest.mark.parametrize("missing", ["mean", "zero"])
def test_what_stands_for_a_missing_vector_is_asked_for_and_never_nan(tmp_path: Path, missing: str) -> None:
    exported(TEXT_AND_IMAGE, tmp_path / "v", "vectors", "--missing", missing)
    with EmbeddingFile.open(TEXT_AND_IMAGE) as file:
        assert (tmp_path / "v" / "ids.txt").read_text().split() == [str(item) for item in file.ids]
        for name in file.modalities:
            values, there = np.load(tmp_path / "v" / f"{name}.npy"), file[name].has_embedding
            assert np.isfinite(values).all()
            assert np.allclose(values[there], file[name].cls[there])
            stands = file[name].cls[there].mean(axis=0, dtype=np.float64) if missing == "mean" else 0
            assert np.allclose(values[~there], stands)


def test_one_modality_alone(tmp_path: Path) -> None:
    exported(TEXT_AND_IMAGE, tmp_path / "v", "vectors", "--modality", "image")
    assert sorted(path.name for path in (tmp_path / "v").iterdir()) == [
        "ids.txt",
        "image.npy",
        "image_ids.txt",
        "missing.csv",
    ]


def test_the_command_says_how_many_items_lack_a_vector(tmp_path: Path, rated: tuple[Path, Path]) -> None:
    found = exported(rated[1], tmp_path / "v", "vectors")
    assert "3 of 30 items have no text vector" in found
    assert "2 of 30 items have no image vector" in found


# ---------------------------------------------------------------- MMRec, by the contract of its source


@pytest.mark.parametrize("missing", ["mean", "zero"])
def test_mmrec_reads_every_items_own_row_as_the_folder_lies_there(
    tmp_path: Path, rated: tuple[Path, Path], missing: str
) -> None:
    dataset, source = rated
    words = () if missing == "mean" else ("--missing", missing)  # mean is what MMRec does
    exported(source, tmp_path / "mmrec", "mmrec", "--dataset", dataset, "--split", "random:0.2", "--seed", 3, *words)
    place = tmp_path / "mmrec" / "my-data"
    config = (tmp_path / "mmrec" / "configs" / "dataset" / "my-data.yaml").read_text()
    assert 'inter_file_name: "my-data.inter"\n' in config
    assert 'field_separator: "\\t"\n' in config
    inter = pl.read_csv(place / "my-data.inter", separator="\t")
    assert inter.columns == ["userID", "itemID", "rating", "timestamp", "x_label"]
    items = pl.read_csv(place / "i_id_mapping.csv", separator="\t")
    users = pl.read_csv(place / "u_id_mapping.csv", separator="\t")
    assert (items.columns, users.columns) == (["item_id", "itemID"], ["user_id", "userID"])
    assert items["itemID"].to_list() == list(range(27)) == sorted(set(inter["itemID"]))
    assert users["userID"].to_list() == sorted(set(inter["userID"]))
    ratings = pl.read_parquet(dataset / "ratings.parquet")
    split = split_ratings(dataset, "random:0.2", seed=3)
    for label, part in enumerate((split.train, split.validation, split.test)):
        theirs = inter.filter(pl.col("x_label") == label).join(items, on="itemID").join(users, on="userID")
        ours = ratings[part]
        key = ["user_id", "item_id", "rating"]
        assert theirs.select(key).sort(key).rows() == ours.select(key).sort(key).rows()
    with EmbeddingFile.open(source) as file:
        for name in ("text", "image"):
            features = np.load(place / f"{name}_feat.npy", allow_pickle=True)
            assert features.shape[0] == int(inter["itemID"].max()) + 1  # type: ignore[arg-type]
            assert np.isfinite(features).all()
            own = [expected(file, name, int(file.rows([item])[0])) for item in items["item_id"]]
            mean = np.mean([vector for vector in own if vector is not None], axis=0)
            for row, vector in enumerate(own):
                stands = mean if missing == "mean" else np.zeros_like(mean)
                assert np.allclose(features[row], stands if vector is None else vector)


# ---------------------------------------------------------------- RecBole and Elliot, by contract


def test_recbole_has_floats_with_blanks_between_and_no_row_for_an_absent_item(
    tmp_path: Path, rated: tuple[Path, Path]
) -> None:
    dataset, source = rated
    exported(source, tmp_path / "rb", "recbole", "--dataset", dataset, "--split", "random:0.2")
    lines = (tmp_path / "rb" / "my-data" / "my-data.textemb").read_text().splitlines()
    assert lines[0] == "text_iid:token\ttext_emb:float_seq"
    with EmbeddingFile.open(source) as file:
        found = {item: values.split(" ") for item, values in (line.split("\t") for line in lines[1:])}
        for row, item in enumerate(file.ids.tolist()):
            vector = expected(file, "text", row)
            assert (str(item) in found) == (vector is not None)
            if vector is not None:
                assert np.array_equal(np.array(found[str(item)], np.float32), vector)
    split = split_ratings(dataset, "random:0.2")
    for word, part in (("train", split.train), ("valid", split.validation), ("test", split.test)):
        inter = (tmp_path / "rb" / "my-data" / f"my-data.{word}.inter").read_text().splitlines()
        assert inter[0] == "user_id:token\titem_id:token\trating:float\ttimestamp:float"
        assert len(inter) == 1 + len(part)
    assert (
        'preload_weight: {"text_iid": "text_emb", "image_iid": "image_emb"}'
        in (tmp_path / "rb" / "my-data.yaml").read_text()
    )


def test_elliot_has_a_file_for_each_item_and_nothing_else_in_a_modalitys_folder(
    tmp_path: Path, rated: tuple[Path, Path]
) -> None:
    dataset, source = rated
    exported(source, tmp_path / "el", "elliot", "--dataset", dataset)
    with EmbeddingFile.open(source) as file:
        for name in ("text", "image"):
            files = {int(path.name.split(".")[0]): np.load(path) for path in (tmp_path / "el" / name).iterdir()}
            own = {item: expected(file, name, row) for row, item in enumerate(file.ids.tolist())}
            assert files.keys() == {item for item, vector in own.items() if vector is not None}
            for item, vector in files.items():
                assert (vector.shape, vector.dtype) == ((file[name].width,), np.float32)
                assert np.array_equal(vector, own[item])
    train = pl.read_csv(tmp_path / "el" / "train.tsv", separator="\t", has_header=False)
    assert train.shape == (len(split_ratings(dataset, "random:0.1").train), 4)
    assert "dataset: my-data" in (tmp_path / "el" / "my-data.yml").read_text()


def test_elliots_items_of_text_are_numbered_and_listed(tmp_path: Path) -> None:
    exported(IMAGE_BFLOAT16, tmp_path / "el", "elliot")
    mapping = dict(line.split("\t") for line in (tmp_path / "el" / "item_mapping.tsv").read_text("utf-8").splitlines())
    with EmbeddingFile.open(IMAGE_BFLOAT16) as file:
        assert list(mapping) == file.ids.tolist()
        for row in np.flatnonzero(file.image.has_embedding).tolist():
            found = np.load(tmp_path / "el" / "image" / f"{mapping[file.ids[row]]}.npy")
            assert np.array_equal(found, file.image.read_cls(row))


# ---------------------------------------------------------------- datasets, by the Parquet that it reads


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_parquet_shards_have_fixed_size_lists_without_nulls(tmp_path: Path, source: Path) -> None:
    exported(source, tmp_path / "d", "datasets")
    table = pq.read_table(tmp_path / "d" / "data" / "train-00000-of-00001.parquet")
    with EmbeddingFile.open(source) as file:
        kept = np.flatnonzero(np.logical_and.reduce([file[name].has_embedding for name in file.modalities]))
        assert table["item_id"].to_pylist() == file.ids[kept].tolist()
        for name in file.modalities:
            column = table[f"{name}_embedding"]
            assert str(column.type) == f"fixed_size_list<element: float>[{file[name].width}]"
            assert column.null_count == 0
            assert np.array_equal(column.to_pylist(), [file[name].read_cls(row) for row in kept.tolist()])
    card = (tmp_path / "d" / "README.md").read_text("utf-8")
    assert card.startswith("---\npretty_name:")
    assert "path: data/train-*" in card
    assert "hf upload OWNER/NAME . --repo-type dataset" in card


def test_filled_in_rows_say_that_they_are(tmp_path: Path) -> None:
    exported(TEXT_AND_IMAGE, tmp_path / "d", "datasets", "--missing", "zero")
    table = pl.read_parquet(tmp_path / "d" / "data" / "*.parquet")
    with EmbeddingFile.open(TEXT_AND_IMAGE) as file:
        assert table["item_id"].to_list() == file.ids.tolist()
        assert table["text_present"].to_list() == file.text.has_embedding.tolist()
        assert not np.array(table["text_embedding"].to_list())[~file.text.has_embedding].any()


# ---------------------------------------------------------------- HDF5 with filters


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_chunked_hdf5_has_the_same_names_and_values_behind_filters(tmp_path: Path, source: Path) -> None:
    exported(source, tmp_path / "c.h5", "hdf5-chunked")
    with EmbeddingFile.open(source) as file, h5py.File(tmp_path / "c.h5") as made:
        ids = made["items/id"]
        found = ids[()] if file.ids.dtype.kind == "i" else ids.asstr()[()]
        assert found.tolist() == file.ids.tolist()
        for name in file.modalities:
            for part, ours in (("cls", file[name].cls), ("tokens", file[name].tokens)):
                theirs = made[f"{name}/{part}"]
                assert (theirs.compression, theirs.shuffle) == ("gzip", True)
                assert np.array_equal(theirs[()], np.asarray(ours), equal_nan=True)
            assert np.array_equal(made[f"{name}/offsets"], file[name].offsets)
            assert np.array_equal(made[f"{name}/status"], file[name].status)
        assert made.attrs["content_digest"] == file.content_digest


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("to", "words", "why"),
    [
        ("vectors", ("--vector", "last"), "--vector: expected cls or mean, found last"),
        ("vectors", ("--missing", "nan"), "--missing: expected drop, mean, zero, found nan"),
        ("vectors", ("--modality", "audio"), "--modality: expected text or image"),
        ("vectors", ("--split", "u1"), "which is not given"),
        ("vectors", ("--dataset", "."), "ratings go along to mmrec, recbole, elliot"),
        ("parquet", ("--vector", "mean"), "holds all of the file"),
        ("mmrec", (), "name the ratings with --dataset"),
        ("mmrec", ("--dataset", ".", "--missing", "drop"), "MMRec needs a row for every item"),
        ("faiss", (), "--to: expected one of parquet"),
    ],
)
def test_what_a_format_cannot_do_is_refused_before_anything_is_written(
    tmp_path: Path, to: str, words: tuple[str, ...], why: str
) -> None:
    done = command(TEXT_AND_IMAGE, tmp_path / "out", "--to", to, *words)
    assert isinstance(done.exception, UsageError)
    assert why in str(done.exception)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_dataset_is_refused_with_both_kinds_of_ids(tmp_path: Path, rated: tuple[Path, Path]) -> None:
    done = command(IMAGE_BFLOAT16, tmp_path / "out", "--to", "mmrec", "--dataset", rated[0])
    assert isinstance(done.exception, BadInput)
    assert "is it the file of this dataset?" in str(done.exception)
    assert list(tmp_path.iterdir()) == []
    assert isinstance(command(rated[1], tmp_path, "--to", "vectors").exception, BadInput)


def test_ids_that_would_be_two_lines_are_refused(tmp_path: Path) -> None:
    layout = make_layout("m", "float32", 2, [0, 0], [OK, OK], text=False)
    content = [(np.ones((1, 2), np.float32), *OK)] * 2
    write_file(tmp_path / "f.h5", ["a\nb", "c"], {"image": (layout, content)}).close()
    done = command(tmp_path / "f.h5", tmp_path / "out", "--to", "vectors")
    assert "cannot stand on a line of text" in str(done.exception)
    assert exported(tmp_path / "f.h5", tmp_path / "d", "datasets") is not None
