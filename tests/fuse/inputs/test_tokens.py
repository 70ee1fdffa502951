"""Laws of the token table: every film has its own tokens and nobody else's, wherever the table lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.modality import Modality
from cinefuse.data.embeddings.number_formats import as_float32
from cinefuse.data.embeddings.rows import RowWriter
from cinefuse.data.runtime.errors import UsageError
from cinefuse.fuse.inputs import tokens as tokens_module
from cinefuse.fuse.inputs.tokens import TokenTable, pooled
from cinefuse.tests.support.embedding_files import MISSING, OK, make_layout

CPU = torch.device("cpu")
WIDTH = 5
LENGTHS = [3, 0, 7, None, 1, 7]  # of the file's rows; None: no embedding
ROWS = np.array([5, 0, -1, 3, 2, 4, 1])  # of the films: the third is not in the file, the fourth has no embedding


def file_of(path: Path, lengths: list[int | None], *, name: str = "text", dtype: str = "float32") -> EmbeddingFile:
    """A file whose row r holds (1 + length, WIDTH) normal values, the CLS first."""
    states = [MISSING if length is None else OK for length in lengths]
    layout = make_layout("toy", dtype, WIDTH, [length or 0 for length in lengths], states, text=name == "text")
    file = EmbeddingFile.create(path, np.arange(len(lengths)), {name: layout}, {})
    with RowWriter(file) as writer:
        for row, length in enumerate(lengths):
            if length is None:
                writer.write_absent(name, row, *MISSING)
                continue
            content = np.random.default_rng(row).standard_normal((1 + length, WIDTH), np.float32)
            bits = (content.view(np.uint32) >> 16).astype(np.uint16)
            stored = bits if dtype == "bfloat16" else content.astype(dtype)
            writer.write(name, row, stored[0], stored[1:], *OK)
    return file


def text_of(folder: Path, **options: Any) -> Modality:
    return file_of(folder / "films.h5", LENGTHS, **options)["text"]


def table(modality: Modality, **options: Any) -> TokenTable:
    return TokenTable(modality, ROWS, **({"level": "tokens", "dtype": torch.float32, "device": CPU} | options))


def content(modality: Modality, item: int) -> np.ndarray:
    """What the film's CLS and tokens are, read row by row."""
    row = ROWS[item]
    whole = np.concatenate([modality.raw_cls[row : row + 1], modality.raw_tokens_of(row)])
    return as_float32(whole, modality.dtype)


def put_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TokenTable, "_choose_place", lambda self: "host")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("computed", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("place", ["file", "host"])
def test_a_batch_holds_each_items_cls_then_its_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, computed: torch.dtype, place: str
) -> None:
    if place == "host":
        put_in_memory(monkeypatch)
    modality = text_of(tmp_path, dtype=dtype)
    items = np.array([4, 2, 0, 3, 6, 1])
    made = table(modality, dtype=computed)
    batch = made.batch(items)
    assert made.place == place
    assert batch.embeddings.shape == (6, 8, WIDTH)
    assert batch.embeddings.dtype == computed
    assert batch.present.sum(1).tolist() == [8, 0, 8, 0, 1, 4]
    for place_in_batch, item in enumerate(items):
        count = int(batch.present[place_in_batch].sum())
        assert batch.present[place_in_batch, :count].all(), "padding stands behind what is there"
        assert not batch.embeddings[place_in_batch, count:].any()
        if count:
            expected = torch.from_numpy(content(modality, item)).to(computed)
            assert torch.equal(batch.embeddings[place_in_batch, :count], expected)


def test_a_table_in_the_file_and_one_in_memory_give_the_same_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_file = table(text_of(tmp_path))
    put_in_memory(monkeypatch)
    monkeypatch.setattr(tokens_module, "_ITEMS_AT_ONCE", 2)  # so that reading takes several turns
    in_memory = table(in_file._modality)
    assert (in_file.place, in_memory.place) == ("file", "host")
    chance = np.random.default_rng(0)
    for _ in range(20):
        items = chance.choice(len(ROWS), chance.integers(1, 8), replace=False)
        ours, theirs = in_file.batch(items), in_memory.batch(items)
        assert torch.equal(ours.embeddings, theirs.embeddings)
        assert torch.equal(ours.present, theirs.present)
        assert ours.lacking == theirs.lacking == (not ours.present.any(1).all())


@pytest.mark.parametrize("items", [[2], [3, 2], []])
def test_items_without_the_modality_have_no_token_at_all(tmp_path: Path, items: list[int]) -> None:
    batch = table(text_of(tmp_path)).batch(np.array(items, np.int64))
    assert batch.embeddings.shape == (len(items), 0, WIDTH)
    assert batch.present.shape == (len(items), 0)
    assert batch.lacking == bool(items)


def test_nothing_of_a_row_without_embedding_is_ever_shown(tmp_path: Path) -> None:
    modality = text_of(tmp_path)
    assert np.isnan(modality.cls[3]).all()
    assert torch.isfinite(table(modality).batch(np.arange(len(ROWS))).embeddings).all()


def test_at_the_level_of_cls_a_item_is_one_token(tmp_path: Path) -> None:
    modality = text_of(tmp_path)
    made = table(modality, level="cls")
    batch = made.batch(np.array([4, 2, 5]))
    assert made.place == "host"  # small: read once
    assert batch.present.tolist() == [[True], [False], [True]]
    np.testing.assert_array_equal(batch.embeddings[0, 0].numpy(), content(modality, 4)[0])


def test_lengths_and_size_are_those_of_what_a_batch_holds(tmp_path: Path) -> None:
    made = table(text_of(tmp_path), dtype=torch.bfloat16)
    assert made.lengths.tolist() == [8, 4, 0, 0, 8, 2, 1]
    assert made.size == 23 * WIDTH * 2


def test_pooling_is_the_mean_of_each_square_of_patches() -> None:
    grid = torch.arange(6 * 6 * 2, dtype=torch.float32).view(6, 6, 2)
    for side in (1, 2, 3, 6):
        expected = [
            grid[row : row + side, column : column + side].mean((0, 1))
            for row in range(0, 6, side)
            for column in range(0, 6, side)
        ]
        torch.testing.assert_close(pooled(grid.view(36, 2), side), torch.stack(expected))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_pooled_table_holds_the_cls_and_the_pooled_patches(tmp_path: Path, dtype: str) -> None:
    modality = file_of(tmp_path / "films.h5", [16, 36, None, 16, 4, 16], name="image", dtype=dtype)["image"]
    made = table(modality, pool=2)
    batch = made.batch(np.arange(len(ROWS)))
    assert made.lengths.tolist() == [5, 5, 0, 5, 0, 2, 10]
    for item in (0, 1, 3, 5, 6):
        whole = torch.from_numpy(content(modality, item))
        expected = torch.cat([whole[:1], pooled(whole[1:], 2)])
        torch.testing.assert_close(batch.embeddings[item][batch.present[item]], expected)


def test_plots_are_never_pooled(tmp_path: Path) -> None:
    modality = text_of(tmp_path)
    assert table(modality, pool=2).lengths.tolist() == table(modality).lengths.tolist()


def test_a_poster_of_a_cls_alone_has_nothing_to_pool(tmp_path: Path) -> None:
    modality = file_of(tmp_path / "films.h5", [4, 0, None, 4, 4, 4], name="image")["image"]
    assert table(modality, pool=2).batch(np.array([6, 0])).present.tolist() == [[True, False], [True, True]]


@pytest.mark.parametrize("patches", [12, 9])
def test_a_grid_that_the_squares_do_not_fill_is_refused_by_its_size(tmp_path: Path, patches: int) -> None:
    modality = file_of(tmp_path / "films.h5", [4, patches, 4, 4, 4, 4], name="image")["image"]
    with pytest.raises(UsageError, match=f"pool_patches=2 .*found posters of {patches} patches.*pool_patches=1"):
        table(modality, pool=2)


def test_a_row_that_no_item_uses_may_have_any_grid(tmp_path: Path) -> None:
    modality = file_of(tmp_path / "films.h5", [4, 4, 4, 4, 4, 4, 12], name="image")["image"]
    assert table(modality, pool=2).lengths.max() == 2


@pytest.mark.parametrize(("free", "place"), [(1, "file"), (1 << 40, "host")])
def test_what_memory_cannot_hold_stays_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, place: str
) -> None:
    monkeypatch.setattr(tokens_module, "_free_memory", lambda: free)
    modality = text_of(tmp_path)
    made = table(modality, level="cls")
    assert made.place == place
    first: Tensor = made.batch(np.array([0])).embeddings[0, 0]
    np.testing.assert_array_equal(first.numpy(), content(modality, 0)[0])


def test_a_batch_moved_to_a_device_is_the_same_batch(tmp_path: Path) -> None:
    batch = table(text_of(tmp_path)).batch(np.arange(3))
    moved = batch.to(CPU)
    assert torch.equal(moved.embeddings, batch.embeddings)
    assert torch.equal(moved.present, batch.present)
