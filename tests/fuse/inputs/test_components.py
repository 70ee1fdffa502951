"""Laws of principal components: centred, told apart, the catalogue's own, and kept with a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.modality import Modality
from cinefuse.data.embeddings.rows import RowWriter
from cinefuse.data.runtime.errors import BadInput
from cinefuse.fuse.inputs.components import Components, load_components, mean_tokens, save_components
from cinefuse.fuse.settings.presets import preset
from cinefuse.tests.support.embedding_files import MISSING, OK, make_layout


def modality_of(path: Path, contents: list[np.ndarray | None], dtype: str = "float32") -> Modality:
    """The text modality of a real file; a film's content is its CLS and its tokens, one below the other."""
    states = [MISSING if content is None else OK for content in contents]
    lengths = [0 if content is None else len(content) - 1 for content in contents]
    width = next(content.shape[1] for content in contents if content is not None)
    layout = make_layout("toy", dtype, width, lengths, states, text=True)
    file = EmbeddingFile.create(path, np.arange(len(contents)), {"text": layout}, {})
    with RowWriter(file) as writer:
        for row, content in enumerate(contents):
            if content is None:
                writer.write_absent("text", row, *MISSING)
            else:
                writer.write("text", row, content[0].astype(dtype), content[1:].astype(dtype), *OK)
    return file["text"]


def drawn(count: int, seed: int = 0, width: int = 6) -> list[np.ndarray | None]:
    chance = np.random.default_rng(seed)
    return [chance.standard_normal((2 + row % 3, width), np.float32) for row in range(count)]


def principal_components(modality: Modality, rows: np.ndarray, count: int) -> np.ndarray:
    means = mean_tokens(modality, rows)
    return Components.of(means, count, deviation=0.25).of_items(means)


def test_items_without_an_embedding_have_no_components(tmp_path: Path) -> None:
    contents = drawn(8)
    contents[3] = None
    rows = np.array([0, 1, 2, 3, -1, 4, 5, 6, 7])
    found = principal_components(modality_of(tmp_path / "films.h5", contents), rows, 4)
    assert found.shape == (9, 4)
    assert not found[[3, 4]].any()
    assert found[[0, 1, 2, 5, 6, 7, 8]].any(1).all()


def test_components_are_centred_uncorrelated_and_of_deviation_one_quarter(tmp_path: Path) -> None:
    found = principal_components(modality_of(tmp_path / "films.h5", drawn(30)), np.arange(30), 4)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(found.T @ found / 30, np.eye(4) / 16, atol=1e-5)


def test_items_of_like_content_have_like_components(tmp_path: Path) -> None:
    contents = drawn(20)
    contents[7] = contents[2]
    found = principal_components(modality_of(tmp_path / "films.h5", contents), np.arange(20), 5)
    np.testing.assert_allclose(found[7], found[2], atol=1e-6)


def test_a_item_of_a_cls_alone_is_read_by_it(tmp_path: Path) -> None:
    contents = [content[:1] for content in drawn(10) if content is not None]
    assert principal_components(modality_of(tmp_path / "films.h5", list(contents)), np.arange(10), 3).any(1).all()


def test_directions_without_variance_give_nothing_instead_of_scaled_up_rounding(tmp_path: Path) -> None:
    line = np.linspace(0.1, 1, 12)
    contents: list[np.ndarray | None] = [
        np.tile(np.array([np.cos(t), np.sin(t), 0, 0], np.float32), (3, 1)) for t in line
    ]
    found = principal_components(modality_of(tmp_path / "films.h5", contents), np.arange(12), 4)
    assert found[:, 0].any()
    assert not found[:, 2:].any()


@pytest.mark.parametrize("present", [0, 1])
def test_fewer_than_two_items_have_no_components(tmp_path: Path, present: int) -> None:
    modality = modality_of(tmp_path / "films.h5", drawn(3))
    rows = np.array([0, -1, -1]) if present else np.array([-1, -1, -1])
    assert not principal_components(modality, rows, 2).any()


def test_more_components_than_items_can_have_are_filled_with_nothing(tmp_path: Path) -> None:
    found = principal_components(modality_of(tmp_path / "films.h5", drawn(4)), np.arange(4), 10)
    assert found.shape == (4, 10)
    assert not found[:, 3:].any()


def test_the_sign_of_a_component_does_not_depend_on_the_order_of_the_items(tmp_path: Path) -> None:
    modality = modality_of(tmp_path / "films.h5", drawn(30))
    order = np.random.default_rng(1).permutation(30)
    found = principal_components(modality, np.arange(30), 5)
    np.testing.assert_allclose(principal_components(modality, order, 5), found[order], atol=1e-4)


def test_one_more_item_does_not_turn_the_components_of_the_others_around(tmp_path: Path) -> None:
    chance = np.random.default_rng(3)
    contents: list[np.ndarray | None] = [  # variances far apart, as those of embeddings are
        chance.standard_normal((3, 6), np.float32) * np.float32([9, 5, 3, 1.5, 0.7, 0.3]) for _ in range(60)
    ]
    modality = modality_of(tmp_path / "films.h5", contents)
    for items_before in range(40, 60):
        before = principal_components(modality, np.arange(items_before), 3)
        after = principal_components(modality, np.arange(items_before + 1), 3)[:-1]
        assert ((before * after).sum(0) > 0).all(), items_before


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_components_of_any_storage_dtype_agree(tmp_path: Path, dtype: str) -> None:
    contents = drawn(20)
    found = principal_components(modality_of(tmp_path / "films.h5", contents, dtype), np.arange(20), 3)
    full = principal_components(modality_of(tmp_path / "full.h5", contents), np.arange(20), 3)
    np.testing.assert_allclose(found, full, atol=5e-3)


def test_components_are_those_of_the_singular_value_decomposition(tmp_path: Path) -> None:
    modality = modality_of(tmp_path / "films.h5", drawn(50))
    means = mean_tokens(modality, np.arange(50))
    u, _, _ = np.linalg.svd(means - means.mean(0), full_matrices=False)
    found = principal_components(modality, np.arange(50), 5)
    np.testing.assert_allclose(np.abs(found), np.abs(u[:, :5]) * np.sqrt(50) / 4, atol=1e-5)


def test_a_run_gets_back_the_components_it_kept_of_what_it_reads(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    kept = {
        name: Components(chance.random(6, np.float32), chance.random((6, 3), np.float32)) for name in ("image", "text")
    }
    file = tmp_path / "components.safetensors"
    save_components(file, kept)
    config = replace(preset("best"), text_components=3, image_components=3)
    found = load_components(file, config)
    assert list(found) == ["text", "image"]  # the order of the columns of side information
    for name, one in found.items():
        assert np.array_equal(one.middle, kept[name].middle)
        assert np.array_equal(one.directions, kept[name].directions)
    assert list(load_components(file, replace(config, image_components=0))) == ["text"]
    assert list(load_components(file, replace(config, modalities="image"))) == ["image"]
    assert load_components(tmp_path / "nowhere", replace(config, modalities="none")) == {}


def test_components_that_are_missing_or_damaged_are_refused_in_a_line(tmp_path: Path) -> None:
    file = tmp_path / "components.safetensors"
    with pytest.raises(BadInput, match=r"components\.safetensors is missing: train the run again"):
        load_components(file, preset("best"))
    for content in (b"", b"nothing of the kind", b"\x08" + bytes(7) + b'{"a": 1}'):
        file.write_bytes(content)
        with pytest.raises(BadInput, match=r"components\.safetensors cannot be read .*train the run again"):
            load_components(file, preset("best"))
