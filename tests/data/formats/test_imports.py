"""Importing what other programs wrote: every vector under its id, nothing followed that leads elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from cinefuse.cli import app
from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.status import Reason, Status
from cinefuse.data.embeddings.verification import verify
from cinefuse.data.formats.imports import Claim, import_embeddings
from cinefuse.data.formats.vectors import Where
from cinefuse.data.runtime.errors import BadInput, CinefuseError, UsageError
from cinefuse.data.sharing.merge import merge

CHANCE = np.random.default_rng(5)
VECTORS = CHANCE.standard_normal((4, 6)).astype(np.float32)
MATRICES = {
    name: CHANCE.standard_normal((length, 6)).astype(np.float16)
    for name, length in {"d": 3, "b": 1, "c": 5, "a": 2}.items()
}
IMAGE = Claim("image", "somebody's encoder")


def imported(folder: Path, source: Path, claim: Claim = IMAGE, **where: Any) -> EmbeddingFile:
    out = folder / "out.h5"
    import_embeddings(source, out, claim, Where(**where), overwrite=True)
    assert verify(out).complete
    return EmbeddingFile.open(out)


def array(folder: Path, values: Any, name: str = "vectors.npy") -> Path:
    np.save(folder / name, values)
    return folder / name


def lines(folder: Path, *ids: object) -> Path:
    (folder / "ids.txt").write_text("".join(f"{item}\n" for item in ids))
    return folder / "ids.txt"


def test_an_array_of_vectors_becomes_the_cls_of_each_id(tmp_path: Path) -> None:
    file = imported(tmp_path, array(tmp_path, VECTORS), ids=lines(tmp_path, 7, 3, 5, 1))
    assert file.ids.tolist() == [7, 3, 5, 1]
    assert np.array_equal(file.image.cls, VECTORS)
    assert len(file.image.tokens) == 0
    assert file.image.fingerprint == {"model": "somebody's encoder", "imported_as": "vector", "dtype": "float32"}
    assert file.header.about["lineage"][0]["operation"] == "import"
    assert not file.image.digest.any()


def test_ids_that_are_not_all_plain_numbers_stay_text(tmp_path: Path) -> None:
    file = imported(tmp_path, array(tmp_path, VECTORS), ids=lines(tmp_path, "07", 3, 5, 1))
    assert file.ids.tolist() == ["07", "3", "5", "1"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_dtypes_are_kept_or_chosen(tmp_path: Path, dtype: str) -> None:
    if dtype == "bfloat16":
        file = imported(
            tmp_path, array(tmp_path, VECTORS), Claim("text", "m", dtype=dtype), ids=lines(tmp_path, *"abcd")
        )
        assert np.abs(file.text.read_cls(1) - VECTORS[1]).max() < 0.02
    else:
        file = imported(tmp_path, array(tmp_path, VECTORS.astype(dtype)), ids=lines(tmp_path, *"abcd"))
        assert file.image.dtype == {"float16": "float16", "float64": "float32"}[dtype]
        assert np.array_equal(file.image.read_cls(2), VECTORS.astype(dtype)[2].astype(np.float32))


@pytest.mark.parametrize("cls", ["first", "mean"])
def test_all_tokens_and_their_offsets_or_equal_matrices(tmp_path: Path, cls: str) -> None:
    flat = np.concatenate([MATRICES[name] for name in "abcd"])
    offsets = array(tmp_path, np.array([0, 2, 3, 8, 11]), "offsets.npy")
    claim = Claim("text", "m", cls=cls)
    file = imported(tmp_path, array(tmp_path, flat), claim, ids=lines(tmp_path, *"abcd"), offsets=offsets)
    for row, name in enumerate("abcd"):
        _check(file, row, MATRICES[name], cls)
    assert set(file.text.input_ids.tolist()) == {-1}
    cube = CHANCE.standard_normal((4, 3, 6)).astype(np.float32)
    file = imported(tmp_path, array(tmp_path, cube), Claim("image", "m", cls=cls), ids=lines(tmp_path, *"abcd"))
    for row in range(4):
        _check(file, row, cube[row], cls)


def _check(file: EmbeddingFile, row: int, matrix: np.ndarray, cls: str) -> None:
    modality = file[file.modalities[0]]
    if cls == "first":
        assert np.array_equal(modality.read_cls(row), matrix[0].astype(np.float32))
        assert np.array_equal(modality.tokens_of(row), matrix[1:])
    else:
        assert np.allclose(modality.read_cls(row), matrix.astype(np.float64).mean(0), atol=2e-3)
        assert np.array_equal(modality.tokens_of(row), matrix)


def test_a_parquet_column_of_lists_with_nulls_and_nan(tmp_path: Path) -> None:
    vectors = [[1.0, 2.0], None, [float("nan"), 1.0], [3.0, 4.0]]
    pl.DataFrame({"id": ["a", "b", "c", "d"], "vector": vectors, "other": [1, 2, 3, 4]}).write_parquet(
        tmp_path / "v.parquet"
    )
    file = imported(tmp_path, tmp_path / "v.parquet")
    assert file.ids.tolist() == ["a", "b", "c", "d"]
    states = list(zip(file.image.status.tolist(), file.image.reason.tolist(), strict=True))
    assert states[1:3] == [(Status.MISSING, Reason.NOT_GIVEN), (Status.FAILED, Reason.NOT_FINITE)]
    assert file.image.read_cls(3).tolist() == [3.0, 4.0]


def test_a_parquet_column_of_matrices_and_of_arrays(tmp_path: Path) -> None:
    frame = pl.DataFrame({"n": [5, 6], "m": [MATRICES["a"].tolist(), MATRICES["c"].tolist()]})
    frame.write_parquet(tmp_path / "m.parquet")
    file = imported(tmp_path, tmp_path / "m.parquet", Claim("image", "m", cls="first", dtype="float16"), id_column="n")
    _check(file, 1, MATRICES["c"], "first")
    pl.DataFrame({"id": [1, 2, 3, 4], "v": VECTORS}).write_parquet(tmp_path / "a.parquet")
    assert np.array_equal(imported(tmp_path, tmp_path / "a.parquet").image.cls, VECTORS)


def test_what_convert_writes_as_parquet_comes_back(tmp_path: Path) -> None:
    golden = Path(__file__).parents[2] / "golden" / "text_image_float16.h5"
    done = CliRunner().invoke(app, ["cache", "convert", str(golden), str(tmp_path / "t"), "--to", "parquet"])
    assert done.exit_code == 0
    file = imported(tmp_path, tmp_path / "t" / "part-00000.parquet", column="image_cls")
    with EmbeddingFile.open(golden) as original:
        assert file.ids.tolist() == original.ids.tolist()
        assert np.array_equal(file.image.cls, original.image.cls, equal_nan=True)


# ---------------------------------------------------------------- HDF5


def test_per_protein_a_vector_for_each_id(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "per-protein.h5", "w") as file:
        for name, vector in zip(("P2", "P1", "P3"), VECTORS, strict=False):
            file.create_dataset(name, data=vector, compression="gzip", chunks=True)
    made = imported(tmp_path, tmp_path / "per-protein.h5")
    assert made.ids.tolist() == ["P1", "P2", "P3"]
    assert np.array_equal(made.image.cls, VECTORS[[1, 0, 2]])


def test_per_residue_a_matrix_for_each_id(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "per-residue.h5", "w") as file:
        for name, matrix in MATRICES.items():
            file[name] = matrix
    made = imported(tmp_path, tmp_path / "per-residue.h5", Claim("text", "m", cls="mean"))
    for row, name in enumerate("abcd"):
        _check(made, row, MATRICES[name], "mean")


def test_a_folder_of_files_or_groups_with_features_beside_coordinates(tmp_path: Path) -> None:
    folder = tmp_path / "slides"
    folder.mkdir()
    with h5py.File(tmp_path / "groups.h5", "w") as whole:
        for name, matrix in MATRICES.items():
            with h5py.File(folder / f"{name}.h5", "w") as file:
                for place in (file, whole.create_group(name)):
                    place["features"], place["coords"] = matrix, np.zeros((len(matrix), 2), np.int64)
    for source in (folder, tmp_path / "groups.h5"):
        made = imported(tmp_path, source, Claim("image", "m", cls="mean"))
        assert made.ids.tolist() == list("abcd")
        for row, name in enumerate("abcd"):
            _check(made, row, MATRICES[name], "mean")


def hostile(folder: Path, kind: str) -> Path:
    path = folder / "hostile.h5"
    np.save(folder / "secret.npy", VECTORS)
    with h5py.File(folder / "other.h5", "w") as other:
        other["secret"] = VECTORS[0]
    with h5py.File(path, "w") as file:
        file["a"] = VECTORS[0]
        if kind == "external link":
            file["b"] = h5py.ExternalLink("other.h5", "secret")
        elif kind == "soft link":
            file["b"] = h5py.SoftLink("/a")
        elif kind == "external storage":
            file.create_dataset("b", (6,), "f4", external=[(str(folder / "secret.npy"), 0, 24)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout((6,), "f4")
            layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "secret", (6,))
            file.create_virtual_dataset("b", layout)
        elif kind == "another width":
            file["b"] = np.ones(5, np.float32)
        elif kind == "integers":
            file["b"] = np.ones(6, np.int64)
        elif kind == "text":
            file["b"] = "text"
        elif kind == "huge":
            file.create_dataset("b", (2**40, 6), "f4", chunks=(1024, 6), compression="gzip")
    return path


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("external link", "a link to elsewhere"),
        ("soft link", "a link to elsewhere"),
        ("external storage", "lie in other files"),
        ("virtual", "lie in other files"),
        ("another width", r"with D = 6, found \[5\]"),
        ("integers", "of int64"),
        ("text", "expected floating-point"),
        ("huge", "expected at most"),
    ],
)
def test_hdf5_of_a_stranger_is_refused_where_it_is_no_array_of_its_own(tmp_path: Path, kind: str, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        import_embeddings(hostile(tmp_path, kind), tmp_path / "out.h5", IMAGE)
    assert not (tmp_path / "out.h5").exists()


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("values", "ids", "kind", "told"),
    [
        (VECTORS, None, UsageError, "an array has no ids"),
        (VECTORS, (1, 2, 3), BadInput, "found 4 items and 3 ids"),
        (VECTORS, (1, 2, 3, 1), BadInput, "each id once"),
        (VECTORS.astype(np.int32), (1, 2, 3, 4), BadInput, "floating-point numbers, found int32"),
        (VECTORS[0], (1,), BadInput, r"found \[6\]"),
        (np.empty((4, 0), np.float32), (1, 2, 3, 4), BadInput, "1 to 1,048,576 values, found 0"),
        (np.array([{}], object), (1,), BadInput, "cannot be read as .npy"),
    ],
)
def test_arrays_that_are_not_as_expected(tmp_path: Path, values: Any, ids: Any, kind: type, told: str) -> None:
    where = Where(ids=None if ids is None else lines(tmp_path, *ids))
    with pytest.raises(kind, match=told):
        import_embeddings(array(tmp_path, values), tmp_path / "out.h5", IMAGE, where)
    assert not (tmp_path / "out.h5").exists()


def test_a_matrix_needs_to_be_told_where_its_cls_is(tmp_path: Path) -> None:
    source = array(tmp_path, np.ones((2, 3, 4), np.float32))
    with pytest.raises(UsageError, match=r"--cls first .* or --cls mean"):
        import_embeddings(source, tmp_path / "out.h5", IMAGE, Where(ids=lines(tmp_path, 1, 2)))
    for claim in (Claim("image", "m", cls="mean"),):
        with pytest.raises(UsageError, match="one vector for each item"):
            import_embeddings(
                array(tmp_path, VECTORS), tmp_path / "o.h5", claim, Where(ids=lines(tmp_path, 1, 2, 3, 4))
            )
    for wrong in ({"modality": "audio"}, {"cls": "last"}, {"dtype": "int4"}):
        with pytest.raises(UsageError):
            Claim(**({"modality": "image", "model": "m"} | wrong))


def test_two_imports_of_one_model_can_be_merged(tmp_path: Path) -> None:
    for name, ids in (("a", (1, 2, 3, 4)), ("b", (5, 6, 7, 8))):
        source = array(tmp_path, VECTORS + len(ids))
        import_embeddings(source, tmp_path / f"{name}.h5", IMAGE, Where(ids=lines(tmp_path, *ids)))
    merge([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "c.h5")
    assert len(EmbeddingFile.open(tmp_path / "c.h5")) == 8


def test_the_command_imports_and_refuses_in_one_line(tmp_path: Path) -> None:
    source, ids = array(tmp_path, VECTORS), lines(tmp_path, 1, 2, 3, 4)
    words = ["cache", "import", str(source), str(tmp_path / "out.h5"), "--modality", "image", "--model", "m"]
    done = CliRunner().invoke(app, [*words, "--ids", str(ids), "--licence", "CC0-1.0"])
    assert done.exit_code == 0
    assert "4 items, image float32" in done.output
    refused = CliRunner().invoke(app, [*words, "--ids", str(ids)]).exception
    assert isinstance(refused, CinefuseError)
    assert "is there already" in str(refused)
    info = CliRunner().invoke(app, ["cache", "info", str(tmp_path / "out.h5")])
    assert "lineage     import" in info.output
