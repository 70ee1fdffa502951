"""Each layout that another program writes is read by one command: every vector under its id, ids as they are."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import polars as pl
import pytest
import torch
from safetensors.numpy import save_file
from typer.testing import CliRunner

from cinefuse.cli import app
from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.status import Reason, Status
from cinefuse.data.embeddings.verification import verify
from cinefuse.data.runtime.errors import BadInput, UsageError
from tests.support.embedding_files import GOLDEN, TEXT_AND_IMAGE, TEXT_INT8

VECTORS = np.random.default_rng(3).standard_normal((3, 6)).astype(np.float32)
NUMBERS = [1, 2, 10]


def command(out: Path, *words: object, modality: str = "image") -> Any:
    fixed = ["--modality", modality, "--model", "m", "--overwrite"]
    return CliRunner().invoke(app, ["cache", "import", *map(str, words[:1]), str(out), *fixed, *map(str, words[1:])])


def imported(tmp_path: Path, *words: object, modality: str = "image") -> EmbeddingFile:
    out = tmp_path / "out.h5"
    done = command(out, *words, modality=modality)
    assert done.exit_code == 0, done.exception
    assert verify(out).complete
    return EmbeddingFile.open(out)


def refused(tmp_path: Path, *words: object) -> str:
    done = command(tmp_path / "refused.h5", *words)
    assert isinstance(done.exception, BadInput | UsageError), done.exception
    assert not (tmp_path / "refused.h5").exists()
    return str(done.exception)


def assert_vectors(file: EmbeddingFile, ids: list[Any], values: Any = VECTORS, modality: str = "image") -> None:
    assert file.ids.tolist() == ids
    assert np.array_equal(file[modality].cls, values)


# ---------------------------------------------------------------- ids beside an array


@pytest.mark.parametrize(
    ("name", "content", "ids"),
    [
        ("ids.txt", "\ufeff1\r\n2\r\n3\r\n", [1, 2, 3]),
        ("ids.txt", "1\n\n2\n3\n\n", [1, 2, 3]),
        ("ids.txt", "tt1\ntt2\ntt3", ["tt1", "tt2", "tt3"]),
        ("ids.txt", "item_id\n5\n6\n7\n", [5, 6, 7]),
        ("ids.txt", "Smith, J\nDoe, A\nRoe, B\n", ["Smith, J", "Doe, A", "Roe, B"]),
        ("ids.csv", 'item_id,title\n7,a\n8,"b, c"\n9,d\n', [7, 8, 9]),
        ("ids.csv", ",movieId,title\n0,7,a\n1,8,b\n2,9,c\n", [7, 8, 9]),
        ("ids.csv", "a;item_id\nx;7\ny;8\nz;9\n", [7, 8, 9]),
        ("ids.csv", "7\n8\n9\n", [7, 8, 9]),
        ("ids.csv", "name\n7\n8\n9\n", [7, 8, 9]),
        ("ids.csv", "item_id\n862.0\n2.0\n3.0\n", [862, 2, 3]),
        ("ids.tsv", "row\tid\n0\t07\n1\t08\n2\t09\n", ["07", "08", "09"]),
        ("ids.json", '["a", "b", "c"]', ["a", "b", "c"]),
        ("ids.json", "[3, 1, 2]", [3, 1, 2]),
    ],
)
def test_ids_of_text_are_the_ids_that_a_person_sees(tmp_path: Path, name: str, content: str, ids: list[Any]) -> None:
    np.save(tmp_path / "v.npy", VECTORS)
    (tmp_path / name).write_text(content, "utf-8")
    assert_vectors(imported(tmp_path, tmp_path / "v.npy", "--ids", tmp_path / name), ids)


def test_a_column_of_ids_is_named_by_header_or_number(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", VECTORS)
    (tmp_path / "t.csv").write_text("imdb,tmdb\ntt1,4\ntt2,5\ntt3,6\n")
    for column, ids in (("imdb", ["tt1", "tt2", "tt3"]), ("tmdb", [4, 5, 6]), ("2", [4, 5, 6])):
        file = imported(tmp_path, tmp_path / "v.npy", "--ids", tmp_path / "t.csv", "--id-column", column)
        assert file.ids.tolist() == ids
    (tmp_path / "nohead.csv").write_text("0,a\n1,b\n2,c\n")
    file = imported(tmp_path, tmp_path / "v.npy", "--ids", tmp_path / "nohead.csv", "--id-column", "2")
    assert file.ids.tolist() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("name", "content", "words", "why"),
    [
        ("nohead.csv", "0,a\n1,b\n2,c\n", (), "has 2 columns (its first line: 0, a); name that of the ids"),
        ("two.csv", "id,movie_id\n1,4\n2,5\n3,6\n", (), "name the column of ids with --id-column: id, movie_id"),
        ("other.csv", "a,b\n1,4\n2,5\n3,6\n", ("--id-column", "c"), "expected one of a, b, found c"),
        ("ragged.csv", "id,b\n1,4\n2\n3,6\n", (), "row 3: expected 2 columns as in the first, found 1"),
        ("short.txt", "1\n2\n", (), "found 3 items and 2 ids"),
        ("latin.txt", b"caf\xe9\nb\nc\n", (), "expected a text file of ids in UTF-8"),
        ("mixed.json", '["a", 1, 2]', (), "all whole numbers or all text"),
        ("empty.txt", "\n", (), "expected one id a line, found none"),
    ],
)
def test_a_table_of_ids_that_could_be_read_in_two_ways_is_refused(
    tmp_path: Path, name: str, content: str | bytes, words: tuple[str, ...], why: str
) -> None:
    np.save(tmp_path / "v.npy", VECTORS)
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert why in refused(tmp_path, tmp_path / "v.npy", "--ids", tmp_path / name, *words)


def test_an_array_without_ids_names_what_lies_beside_it(tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", VECTORS)
    assert "an array has no ids; name a file of them with --ids" in refused(tmp_path, tmp_path / "image.npy")
    (tmp_path / "ids.txt").write_text("1\n2\n3\n")
    assert "ids.txt lies beside it" in refused(tmp_path, tmp_path / "image.npy")


# ---------------------------------------------------------------- a file for each item


def npy_files(folder: Path, names: list[Any], values: list[Any]) -> Path:
    folder.mkdir(parents=True)
    for name, value in zip(names, values, strict=True):
        np.save(folder / f"{name}.npy", value)
    return folder


@pytest.mark.parametrize("shape", [(6,), (1, 6)], ids=["D", "1xD"])
def test_a_folder_of_npy_as_ducho_and_elliot_write_it(tmp_path: Path, shape: tuple[int, ...]) -> None:
    folder = npy_files(tmp_path / "avgpool", [10, 1, 2], [vector.reshape(shape) for vector in VECTORS[[2, 0, 1]]])
    assert_vectors(imported(tmp_path, folder), NUMBERS)
    assert_vectors(imported(tmp_path, f"{folder}/*.npy"), NUMBERS)


def test_ids_with_dots_and_leading_zeros_stay_as_the_files_are_called(tmp_path: Path) -> None:
    folder = npy_files(tmp_path / "f", ["0.5", "007", "b.c"], list(VECTORS))
    assert_vectors(imported(tmp_path, folder), ["0.5", "007", "b.c"], VECTORS[[0, 1, 2]])


@pytest.mark.slow
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=["plain", "compressed"])
def test_slide2vec_npz_of_slides_and_of_tiles(tmp_path: Path, save: Callable[..., None]) -> None:
    for kind in ("slide_embeddings", "tile_embeddings"):
        (tmp_path / "run" / kind).mkdir(parents=True)
    tiles = [np.tile(vector, (n + 1, 1)) for n, vector in enumerate(VECTORS)]
    for n, name in enumerate("abc"):
        save(tmp_path / "run" / "slide_embeddings" / f"{name}.npz", features=VECTORS[n])
        (tmp_path / "run" / "slide_embeddings" / f"{name}.meta.json").write_text("{}")
        save(tmp_path / "run" / "tile_embeddings" / f"{name}.npz", features=tiles[n], tile_index=np.arange(n + 1))
    assert "name one of these folders" in refused(tmp_path, tmp_path / "run")
    assert_vectors(imported(tmp_path, tmp_path / "run" / "slide_embeddings"), ["a", "b", "c"])
    file = imported(tmp_path, tmp_path / "run" / "tile_embeddings", "--cls", "mean")
    for row, matrix in enumerate(tiles):
        assert np.array_equal(file.image.tokens_of(row), matrix)
    assert np.allclose(file.image.cls, VECTORS, atol=1e-6)


@pytest.mark.parametrize("lead", [False, True], ids=["TxD", "1xTxD"])
def test_trident_features_of_a_file_for_each_slide(tmp_path: Path, lead: bool) -> None:
    folder = tmp_path / "features_uni"
    folder.mkdir()
    matrices = {name: np.arange(6 * (n + 1), dtype=np.float32).reshape(-1, 6) for n, name in enumerate("ab")}
    for name, matrix in matrices.items():
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file["features"] = matrix[None] if lead else matrix
            file["coords"] = np.zeros((len(matrix), 2), np.int64)
    file = imported(tmp_path, folder, "--cls", "mean")
    assert file.ids.tolist() == ["a", "b"]
    for row, matrix in enumerate(matrices.values()):
        assert np.array_equal(file.image.tokens_of(row), matrix)
    assert "name its folder" in refused(tmp_path, folder / "a.h5", "--cls", "mean")


# ---------------------------------------------------------------- HDF5


def test_hdf5_items_called_by_numbers_are_numbers_in_their_order(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "num.h5", "w") as file:
        for name, vector in zip(NUMBERS, VECTORS, strict=True):
            file[str(name)] = vector
    assert_vectors(imported(tmp_path, tmp_path / "num.h5"), NUMBERS)


def test_bio_embeddings_ids_are_the_attribute_original_id(tmp_path: Path) -> None:
    names = ["sp|P1|A", "sp|P2|B", "sp|P3|C"]
    with h5py.File(tmp_path / "bio.h5", "w") as file:
        for number, (name, vector) in enumerate(zip(names, VECTORS, strict=True)):
            file[str(number)] = vector
            file[str(number)].attrs["original_id"] = name
    done = command(tmp_path / "out.h5", tmp_path / "bio.h5")
    assert "note: the ids are the attribute original_id" in done.output
    assert_vectors(EmbeddingFile.open(tmp_path / "out.h5"), names)
    with h5py.File(tmp_path / "bio.h5", "a") as file:
        del file["1"].attrs["original_id"]
    assert "note: 2 of 3 datasets have the attribute" in command(tmp_path / "out.h5", tmp_path / "bio.h5").output
    assert_vectors(EmbeddingFile.open(tmp_path / "out.h5"), [0, 1, 2])


@pytest.mark.parametrize("kind", ["text", "bytes", "numbers"])
def test_one_hdf5_matrix_beside_its_ids(tmp_path: Path, kind: str) -> None:
    ids: list[Any] = [7, 5, 6] if kind == "numbers" else ["q", "é", "z"]
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["embeddings"] = VECTORS
        if kind == "bytes":
            file["item_id"] = np.array([name.encode() for name in ids])
        else:
            file.create_dataset("item_id", data=ids, dtype=None if kind == "numbers" else h5py.string_dtype())
        file["other"] = np.zeros((3, 2))
    assert_vectors(imported(tmp_path, tmp_path / "m.h5"), ids)
    (tmp_path / "i.txt").write_text("1\n2\n3\n")
    assert_vectors(imported(tmp_path, tmp_path / "m.h5", "--ids", tmp_path / "i.txt"), [1, 2, 3])


def test_the_only_list_as_long_as_the_only_matrix_is_the_ids(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["feats"], file["file_name"], file["n"] = VECTORS, np.array([b"x", b"y", b"z"]), [1, 2]
    assert_vectors(imported(tmp_path, tmp_path / "m.h5"), ["x", "y", "z"])


def test_a_matrix_in_a_group_is_named_by_its_path(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["a/b"], file["ids"] = VECTORS, [1, 2, 3]
    assert_vectors(imported(tmp_path, tmp_path / "m.h5", "--dataset", "a/b"), [1, 2, 3])


def test_an_embedding_file_of_ours_is_not_imported(tmp_path: Path) -> None:
    assert "is an embedding file already" in refused(tmp_path, TEXT_AND_IMAGE)


# ---------------------------------------------------------------- tables


def frame(ids: Any = (1, 2, 10), values: Any = VECTORS) -> pl.DataFrame:
    return pl.DataFrame({"id": list(ids), "title": ["a", "b", "c"][: len(values)], "embedding": values})


@pytest.mark.slow
def test_parquet_shards_in_a_folder_by_a_glob_or_named(tmp_path: Path) -> None:
    folder = tmp_path / "repo" / "data"
    folder.mkdir(parents=True)
    for n in range(3):
        frame([NUMBERS[n]], VECTORS[n : n + 1]).write_parquet(folder / f"train-0000{n}-of-00003.parquet")
    for source in (folder, tmp_path / "repo", f"{folder}/*.parquet", f"{tmp_path}/repo/**/*.parquet"):
        assert_vectors(imported(tmp_path, source), NUMBERS)
    words = [*map(str, sorted(folder.iterdir())), str(tmp_path / "out.h5")]
    done = CliRunner().invoke(app, ["cache", "import", *words, "--modality", "image", "--model", "m", "--overwrite"])
    assert done.exit_code == 0, done.exception
    assert_vectors(EmbeddingFile.open(tmp_path / "out.h5"), NUMBERS)
    pl.DataFrame({"x": [1]}).write_parquet(folder / "train-00003-of-00003.parquet")
    assert "expected the columns of" in refused(tmp_path, folder)


def test_arrow_and_fixed_size_lists_of_half_precision(tmp_path: Path) -> None:
    half = VECTORS.astype(np.float16)
    frame(values=half).write_ipc(tmp_path / "t.arrow")
    frame(values=half).write_parquet(tmp_path / "t.parquet")
    for name in ("t.arrow", "t.parquet"):
        file = imported(tmp_path, tmp_path / name)
        assert_vectors(file, NUMBERS, half)
        assert file.image.dtype == "float16"


def test_ids_that_pandas_made_floats_are_numbers_and_text_stays_text(tmp_path: Path) -> None:
    frame([1.0, 2.0, 10.0]).write_parquet(tmp_path / "t.parquet")
    assert_vectors(imported(tmp_path, tmp_path / "t.parquet"), NUMBERS)
    frame(["1", "2", "10"]).write_parquet(tmp_path / "t.parquet")
    assert_vectors(imported(tmp_path, tmp_path / "t.parquet"), ["1", "2", "10"])


@pytest.mark.parametrize("to", ["parquet", "arrow", "safetensors"])
@pytest.mark.parametrize("modality", ["text", "image"])
def test_what_we_export_comes_back_whole(tmp_path: Path, to: str, modality: str) -> None:
    out = tmp_path / f"export{'.safetensors' if to == 'safetensors' else ''}"
    done = CliRunner().invoke(app, ["cache", "convert", str(TEXT_AND_IMAGE), str(out), "--to", to])
    assert done.exit_code == 0, done.exception
    file = imported(tmp_path, out, modality=modality)
    with EmbeddingFile.open(TEXT_AND_IMAGE) as original:
        ours, theirs = file[modality], original[modality]
        assert file.ids.tolist() == original.ids.tolist()
        for row in range(len(file)):
            assert np.array_equal(ours.cls[row], theirs.cls[row], equal_nan=True)
            if theirs.has_embedding[row]:
                assert np.array_equal(ours.tokens_of(row), theirs.tokens_of(row))
            assert ours.has_embedding[row] == theirs.has_embedding[row]
        if to != "safetensors":
            absent = ~theirs.has_embedding
            assert ours.status[absent].tolist() == theirs.status[absent].tolist()
            assert ours.reason[absent].tolist() == theirs.reason[absent].tolist()


def test_an_export_of_int8_comes_back_as_what_it_means(tmp_path: Path) -> None:
    out = tmp_path / "t.safetensors"
    assert CliRunner().invoke(app, ["cache", "convert", str(TEXT_INT8), str(out), "--to", "safetensors"]).exit_code == 0
    file = imported(tmp_path, out, modality="text")
    with EmbeddingFile.open(TEXT_INT8) as original:
        assert np.array_equal(file.text.cls, original.text.cls, equal_nan=True)
        assert np.array_equal(file.text.tokens_of(1), original.text.tokens_of(1))


@pytest.mark.parametrize("to", ["parquet", "safetensors"])
def test_vectors_of_another_width_than_the_tokens_come_back_alone(tmp_path: Path, to: str) -> None:
    source = next(path for path in sorted((GOLDEN / "version3").glob("*.h5")) if _widths_differ(path))
    out = tmp_path / f"export{'.safetensors' if to == 'safetensors' else ''}"
    assert CliRunner().invoke(app, ["cache", "convert", str(source), str(out), "--to", to]).exit_code == 0
    done = command(tmp_path / "out.h5", out)
    assert "note: the tokens are of another width" in done.output
    with EmbeddingFile.open(source) as original, EmbeddingFile.open(tmp_path / "out.h5") as file:
        assert np.array_equal(file.image.cls, original.image.cls, equal_nan=True)


def _widths_differ(path: Path) -> bool:
    with EmbeddingFile.open(path, pending=True) as file:
        return "image" in file.modalities and file.image.token_width != file.image.width


def test_a_data_frame_of_a_column_for_each_value_whose_index_is_the_id(tmp_path: Path) -> None:
    columns = {str(n): VECTORS[:, n] for n in range(VECTORS.shape[1])}
    pl.DataFrame(columns | {"__index_level_0__": NUMBERS}).write_parquet(tmp_path / "pandas.parquet")
    assert_vectors(imported(tmp_path, tmp_path / "pandas.parquet"), NUMBERS)
    pl.DataFrame({"item_id": NUMBERS, "title": ["a", "b", "c"]} | columns).write_ipc(tmp_path / "wide.feather")
    assert_vectors(imported(tmp_path, tmp_path / "wide.feather"), NUMBERS)


# ---------------------------------------------------------------- arrays under names


@pytest.mark.slow
def test_npz_of_ids_and_embeddings_or_of_an_array_for_each_id(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", ids=np.array(NUMBERS), embeddings=VECTORS)
    np.savez_compressed(tmp_path / "b.npz", ids=np.array(["x", "y", "z"]), vecs=VECTORS)
    np.savez(tmp_path / "c.npz", **{str(name): vector for name, vector in zip([10, 2, 1], VECTORS[::-1], strict=True)})
    assert_vectors(imported(tmp_path, tmp_path / "a.npz"), NUMBERS)
    assert_vectors(imported(tmp_path, tmp_path / "b.npz"), ["x", "y", "z"])
    assert_vectors(imported(tmp_path, tmp_path / "c.npz"), NUMBERS)
    np.savez(tmp_path / "f.npz", names=np.array(["x", "y", "z"]), vecs=VECTORS, about=np.array([1]))
    assert_vectors(imported(tmp_path, tmp_path / "f.npz"), ["x", "y", "z"])
    np.savez(tmp_path / "d.npz", VECTORS)
    assert "arr_0 has no ids" in refused(tmp_path, tmp_path / "d.npz")
    np.savez(tmp_path / "e.npz", allow_pickle=True, ids=np.array(["x", "y", "z"], object), embeddings=VECTORS)
    assert "holds Python objects" in refused(tmp_path, tmp_path / "e.npz")


@pytest.mark.parametrize("start", [80, -900], ids=["in its header", "behind it"])
def test_a_damaged_array_of_a_compressed_npz_is_refused(tmp_path: Path, start: int) -> None:
    vectors = np.random.default_rng(0).random((100, 8), np.float32)
    np.savez_compressed(tmp_path / "a.npz", embeddings=vectors, ids=np.arange(100))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[start : start + 200] = b"\xff" * 200
    (tmp_path / "a.npz").write_bytes(content)
    assert "cannot be read" in refused(tmp_path, tmp_path / "a.npz")


def test_safetensors_of_a_tensor_for_each_id_or_a_matrix(tmp_path: Path) -> None:
    save_file({str(name): vector for name, vector in zip(NUMBERS, VECTORS, strict=True)}, tmp_path / "a.safetensors")
    assert_vectors(imported(tmp_path, tmp_path / "a.safetensors"), NUMBERS)
    save_file({"embeddings": VECTORS, "ids": np.array(NUMBERS)}, tmp_path / "b.safetensors")
    assert_vectors(imported(tmp_path, tmp_path / "b.safetensors"), NUMBERS)
    whole = (tmp_path / "b.safetensors").read_bytes()
    (tmp_path / "c.safetensors").write_bytes(whole[:-4])
    assert "cannot be read as safetensors" in refused(tmp_path, tmp_path / "c.safetensors")


@pytest.mark.slow
def test_pt_of_tensors_is_read_as_weights_alone(tmp_path: Path) -> None:
    tensors = torch.from_numpy(VECTORS)
    torch.save({"ids": NUMBERS, "embeddings": tensors}, tmp_path / "a.pt")  # noqa: TID251
    assert_vectors(imported(tmp_path, tmp_path / "a.pt"), NUMBERS)
    torch.save(dict(zip(NUMBERS, tensors.bfloat16(), strict=True)), tmp_path / "b.pt")  # noqa: TID251
    file = imported(tmp_path, tmp_path / "b.pt")
    assert file.image.dtype == "bfloat16"
    assert_vectors(file, NUMBERS, tensors.bfloat16().float().numpy())
    (tmp_path / "slides").mkdir()
    for name, tensor in zip("abc", tensors, strict=True):
        torch.save(tensor, tmp_path / "slides" / f"{name}.pt")  # noqa: TID251
    assert_vectors(imported(tmp_path, tmp_path / "slides"), ["a", "b", "c"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pt", "b.pt", "out.h5", "slides"]


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("open('ran', 'w')",)


@pytest.mark.slow
def test_a_pt_that_would_run_something_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"a": Hostile()}, tmp_path / "a.pt")  # noqa: TID251
    monkeypatch.chdir(tmp_path)
    assert "cannot be loaded as weights alone" in refused(tmp_path, tmp_path / "a.pt")
    assert not (tmp_path / "ran").exists()


# ---------------------------------------------------------------- JSON lines and CSV


def json_lines(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def batch_line(item: str, embedding: Any, status: int = 200) -> dict[str, Any]:
    data = [{"object": "embedding", "index": 0, "embedding": embedding}]
    body = {"object": "list", "data": data, "model": "text-embedding-3-small"} if status == 200 else {}
    return {
        "id": f"batch_req_{item}",
        "custom_id": item,
        "response": {"status_code": status, "request_id": "r", "body": body},
        "error": None if status == 200 else {"code": "x"},
    }


def test_the_batch_output_of_openai_goes_by_custom_id(tmp_path: Path) -> None:
    lines = [batch_line(str(item), vector.tolist()) for item, vector in zip(NUMBERS, VECTORS, strict=True)]
    assert_vectors(
        imported(tmp_path, json_lines(tmp_path / "b.jsonl", *lines), modality="text"), NUMBERS, modality="text"
    )
    lines[1] = batch_line("2", None, status=400)
    done = command(tmp_path / "out.h5", json_lines(tmp_path / "b.jsonl", *lines))
    assert "2 with a vector, 1 without one" in done.output
    file = EmbeddingFile.open(tmp_path / "out.h5")
    assert (file.image.status[1], file.image.reason[1]) == (Status.MISSING, Reason.NOT_GIVEN)
    encoded = [base64.b64encode(vector.tobytes()).decode() for vector in VECTORS]
    lines = [batch_line(name, text) for name, text in zip(("a-1", "a-2", "a-3"), encoded, strict=True)]
    assert_vectors(imported(tmp_path, json_lines(tmp_path / "b.jsonl", *lines)), ["a-1", "a-2", "a-3"])


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (lambda i, v: {"id": i, "embedding": v}, ()),
        (lambda i, v: {"text": "t", "item_id": i, "vector": v}, ()),
        (lambda i, v: {"key": i, "n": {"deep": [v]}}, ("--id-column", "key", "--column", "n.deep.0")),
    ],
)
def test_plain_json_lines(tmp_path: Path, record: Callable[..., Any], words: tuple[str, ...]) -> None:
    lines = [record(item, vector.tolist()) for item, vector in zip(NUMBERS, VECTORS, strict=True)]
    source = json_lines(tmp_path / "p.jsonl", *lines)
    assert_vectors(imported(tmp_path, source, *words), NUMBERS)
    (tmp_path / "p.jsonl.gz").write_bytes(gzip.compress(source.read_bytes()))
    assert_vectors(imported(tmp_path, tmp_path / "p.jsonl.gz", *words), NUMBERS)


def test_a_json_file_is_a_list_of_objects_or_ids_with_vectors(tmp_path: Path) -> None:
    pairs = list(zip(NUMBERS, VECTORS.tolist(), strict=True))
    (tmp_path / "l.json").write_text(json.dumps([{"id": item, "embedding": vector} for item, vector in pairs]))
    (tmp_path / "o.json").write_text(json.dumps({str(item): vector for item, vector in pairs}))
    for name in ("l.json", "o.json"):
        assert_vectors(imported(tmp_path, tmp_path / name), NUMBERS)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"id": 2, "embedding": [1, 2]}', "expected vectors of 6 values as the first, found 2"),
        ('{"id": 2, "embedding": ["a"]}', "line 2: item 2: expected a list of numbers"),
        ('{"id": 2, "embedding": [1, 2', "line 2: cannot be read as JSON"),
        ('{"embedding": [1, 2]}', "line 2: expected an id in id, found null"),
        ("[1, 2]", "line 2: expected an object"),
        ('{"id": "b", "embedding": [1,2,3,4,5,6]}', "all text or all whole numbers"),
    ],
)
def test_a_line_that_is_not_as_expected_is_named(tmp_path: Path, line: str, why: str) -> None:
    first = json.dumps({"id": 1, "embedding": VECTORS[0].tolist()})
    (tmp_path / "p.jsonl").write_text(f"{first}\n{line}\n")
    assert why in refused(tmp_path, tmp_path / "p.jsonl")


def test_csv_of_a_column_for_each_value_of_lists_as_text_and_of_recbole(tmp_path: Path) -> None:
    wide = [f"{item},{','.join(map(str, vector.tolist()))}" for item, vector in zip(NUMBERS, VECTORS, strict=True)]
    (tmp_path / "w.csv").write_text("\n".join(["item_id,0,1,2,3,4,5", *wide]))
    assert_vectors(imported(tmp_path, tmp_path / "w.csv"), NUMBERS)
    listed = [f'{item},"{vector.tolist()}"' for item, vector in zip(NUMBERS, VECTORS, strict=True)]
    (tmp_path / "l.csv").write_text("\n".join(["id,embedding", *listed]))
    assert_vectors(imported(tmp_path, tmp_path / "l.csv"), NUMBERS)
    blank = [f"{item}\t{' '.join(map(str, vector.tolist()))}" for item, vector in zip(NUMBERS, VECTORS, strict=True)]
    (tmp_path / "ml.textemb").write_text("\n".join(["text_iid:token\ttext_emb:float_seq", *blank]))
    assert_vectors(imported(tmp_path, tmp_path / "ml.textemb"), NUMBERS)


# ---------------------------------------------------------------- clip-retrieval


@pytest.mark.slow
@pytest.mark.parametrize("column", ["image_path", "key"])
def test_the_root_that_clip_retrieval_writes(tmp_path: Path, column: str) -> None:
    root = tmp_path / "embeddings"
    for name in ("img_emb", "text_emb", "metadata"):
        (root / name).mkdir(parents=True)
    ids: dict[str, Any] = {}
    at = 0
    for part in range(11):  # ten parts sort as text in another order
        values = VECTORS[:2] + part
        np.save(root / "img_emb" / f"img_emb_{part}.npy", values.astype(np.float16))
        np.save(root / "text_emb" / f"text_emb_{part}.npy", -values.astype(np.float16))
        names = [f"{at}", f"{at + 1}"]
        paths = [f"/data/posters/{name}.jpg" for name in names]
        table = {"image_path": paths, "caption": ["c", "d"]} | ({"key": names} if column == "key" else {})
        pl.DataFrame(table).write_parquet(root / "metadata" / f"metadata_{part}.parquet")
        ids |= dict(zip(names, values, strict=True))
        at += 2
    for modality, sign in (("image", 1), ("text", -1)):
        file = imported(tmp_path, root, modality=modality)
        assert file.ids.tolist() == list(range(22))
        expected = sign * np.stack(list(ids.values())).astype(np.float16)
        assert np.array_equal(file[modality].cls, expected)
    assert imported(tmp_path, root / "img_emb").ids.tolist() == list(range(22))
    (root / "metadata" / "metadata_3.parquet").unlink()
    assert "expected metadata/metadata_N.parquet for each" in refused(tmp_path, root)


# ---------------------------------------------------------------- what is refused


@pytest.mark.slow
def test_sources_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    folder = npy_files(tmp_path / "mixed", ["a"], [VECTORS[0]])
    with h5py.File(folder / "b.h5", "w") as file:
        file["x"] = VECTORS[0]
    assert "holds .npy and .h5 files; name those that are meant" in refused(tmp_path, folder)
    (tmp_path / "empty").mkdir()
    assert "found none" in refused(tmp_path, tmp_path / "empty")
    assert "matches no file" in refused(tmp_path, tmp_path / "nothing-*.npy")
    assert "no such file or folder" in refused(tmp_path, tmp_path / "nothing.npy")
    (tmp_path / "a.pkl").write_bytes(b"1")
    assert "a pickle runs whatever is in it" in refused(tmp_path, tmp_path / "a.pkl")
    (tmp_path / "a.bin").write_bytes(b"1")
    assert "found '.bin'" in refused(tmp_path, tmp_path / "a.bin")
    assert "is an embedding file already" in refused(tmp_path, GOLDEN / "text_float32.h5")
