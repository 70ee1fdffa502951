"""The programs themselves read what we write, by the examples of docs/other-tools.md, and get the right rows."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from cinefuse.cli import app
from cinefuse.data.embeddings.file import EmbeddingFile
from tests.support.embedding_files import MISSING, OK, make_layout, write_file

PAGE = Path(__file__).parents[3] / "docs" / "other-tools.md"
WIDTH = 8
# warnings of other people's programs are no errors of ours
pytestmark = pytest.mark.filterwarnings("default")


def section(title: str) -> tuple[list[str], str]:
    """The commands and the Python of a section of the page."""
    text = re.split(rf"^## {re.escape(title)}$", PAGE.read_text("utf-8"), flags=re.M)[1].split("\n## ")[0]
    commands = re.findall(r"^    cinefuse (.*)$", text, flags=re.M)
    python = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    return commands, python[0] if python else ""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with films.h5 and the dataset ml, as the page has them: every fifth film has no image."""
    monkeypatch.chdir(tmp_path)
    chance = np.random.default_rng(0)
    ids = chance.permutation(np.arange(101, 161))
    rows = [(user, item) for user in range(1, 31) for item in ids.tolist() if chance.random() < 0.4]
    times = chance.permutation(len(rows))
    table = {
        "userId": [u for u, _ in rows],
        "movieId": [i for _, i in rows],
        "rating": [1 + (u + i) % 5 for u, i in rows],
    }
    pl.DataFrame(table | {"timestamp": times}).write_csv("r.csv")
    pl.DataFrame({"movieId": ids, "title": [f"Film {item}" for item in ids]}).write_csv("m.csv")
    done = CliRunner().invoke(app, ["data", "import", "table", "ml", "--items", "m.csv", "--ratings", "r.csv"])
    assert done.exit_code == 0, done.exception
    modalities = {}
    for name in ("text", "image"):
        states = [MISSING if name == "image" and item % 5 == 0 else OK for item in ids]
        layout = make_layout("m", "bfloat16", WIDTH, [3] * len(ids), states, text=name == "text")
        content = []
        for state in states:
            values = chance.standard_normal((4, WIDTH)).astype(np.float32)
            bits = (values.view(np.uint32) >> 16).astype(np.uint16)
            content.append((bits if state == OK else np.full_like(bits, 0x7FC0), *state))
        modalities[name] = (layout, content)
    write_file(tmp_path / "films.h5", ids.tolist(), modalities).close()
    return tmp_path


def run(
    title: str, client: str, inside: str | None = None, monkeypatch: pytest.MonkeyPatch | None = None
) -> dict[str, Any]:
    """Carry out a section of the page and return the names that its Python defines. Skips without the program."""
    if importlib.util.find_spec(client) is None:
        pytest.skip(f"{client} is not installed")
    commands, python = section(title)
    for words in commands:
        done = CliRunner().invoke(app, words.split("  #")[0].split())
        assert done.exit_code == 0, done.exception
    if inside is not None and monkeypatch is not None:
        monkeypatch.chdir(inside)
    scope: dict[str, Any] = {}
    exec(compile(python, f"{PAGE.name}, {title}", "exec"), scope)
    return scope


def vector_of(folder: Path, item: object, name: str = "image") -> np.ndarray:
    with EmbeddingFile.open(folder / "films.h5") as file:
        return file[name].read_cls(int(file.rows([int(str(item))])[0]))


def nearest(folder: Path, ids: list[str]) -> list[str]:
    """The three nearest of the first of `ids` by cosine, computed from the file itself."""
    vectors = np.stack([vector_of(folder, item) for item in ids])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return [ids[row] for row in np.argsort(-vectors @ vectors[0], kind="stable")[:3]]


@pytest.mark.slow
@pytest.mark.parametrize(("title", "client"), [("FAISS", "faiss"), ("hnswlib", "hnswlib"), ("scikit-learn", "sklearn")])
def test_an_index_finds_the_items_that_are_near(place: Path, title: str, client: str) -> None:
    scope = run(title, client)
    assert scope["neighbours"] == nearest(place, scope["ids"])
    assert len(scope["ids"]) == 48


@pytest.mark.slow
def test_cornac_trains_on_our_features_and_each_item_has_its_own(place: Path) -> None:
    scope = run("Cornac", "cornac")
    train = scope["method"].train_set
    assert len(train.iid_map) > 40
    for item, number in train.iid_map.items():
        assert np.allclose(train.item_image.features[number], vector_of(place, item)), item
    assert np.isfinite(scope["model"].score(0)).all()


def test_recbole_loads_our_features_under_its_own_numbers(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, kind in (("float_", np.float64), ("complex_", np.complex128), ("unicode_", np.str_), ("bool8", np.bool_)):
        monkeypatch.setattr(np, name, kind, raising=False)  # RecBole 1.2 uses names that numpy 2 dropped
    scope = run("RecBole", "recbole", "recbole", monkeypatch)
    dataset, features = scope["dataset"], scope["features"]
    assert features.shape == (dataset.item_num, WIDTH)
    with EmbeddingFile.open(place / "films.h5") as file:
        there = dict(zip(file.ids.tolist(), file.image.has_embedding.tolist(), strict=True))
    for number in range(1, dataset.item_num):
        item = dataset.id2token("item_id", number)
        expected = vector_of(place, item) if there[int(item)] else np.zeros(WIDTH)
        assert np.allclose(features[number], expected), item
    counts = [len(part.dataset) for part in (scope["train"], scope["valid"], scope["test"])]
    ratings = pl.read_parquet(place / "ml" / "ratings.parquet").height
    assert sum(counts) == ratings

    from recbole.model.general_recommender import BPR
    from recbole.trainer import Trainer

    model = BPR(scope["config"], scope["train"].dataset)
    score, _ = Trainer(scope["config"], model).fit(scope["train"], scope["valid"], saved=False, show_progress=False)
    assert np.isfinite(score)


def test_datasets_loads_fixed_size_lists_of_the_right_items(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(place / "cache"))
    scope = run("datasets", "datasets")
    dataset = scope["dataset"]
    assert dataset.features["image_embedding"].length == WIDTH
    assert scope["vectors"].shape == (48, WIDTH)
    for item, vector in zip(dataset["item_id"], scope["vectors"], strict=True):
        assert np.array_equal(vector, vector_of(place, item))


def test_pandas_has_a_row_for_each_item(place: Path) -> None:
    scope = run("pandas", "pandas")
    assert len(scope["table"]) == 60
    assert len(scope["vectors"]) == 48
    for item, vector in scope["vectors"].items():
        assert np.array_equal(vector, vector_of(place, item))


def test_a_data_loader_with_workers_gives_every_item_its_own(place: Path) -> None:
    scope = run("PyTorch", "torch")
    found = {}
    for batch in scope["batches"]:
        for item, present, vector in zip(batch["item_id"], batch["image_present"], batch["image_cls"], strict=True):
            found[item] = vector.numpy() if present else None
    assert len(found) == 60
    for item, vector in found.items():
        assert (vector is None) == (item % 5 == 0)
        if vector is not None:
            assert np.array_equal(vector, vector_of(place, item))


def test_h5py_reads_the_chunked_copy(place: Path) -> None:
    scope = run("h5py", "h5py")
    kept = scope["ids"][(scope["status"] == 1) | (scope["status"] == 2)]
    assert len(kept) == 48
    for item, vector in zip(kept, scope["vectors"], strict=True):
        assert np.array_equal(vector, vector_of(place, item))


@pytest.mark.parametrize("title", ["MMRec", "Elliot"])
def test_the_commands_for_tools_that_do_not_install_here_run_as_written(place: Path, title: str) -> None:
    (words,), _ = section(title)
    done = CliRunner().invoke(app, words.split())
    assert done.exit_code == 0, done.exception
    assert (place / title.lower()).is_dir()
