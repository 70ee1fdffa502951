"""Laws of a whole extraction, on a small catalogue with small but real encoders."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from cinefuse.data.dataset.catalog import Catalog
from cinefuse.data.embeddings import rows as rows_module
from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.number_formats import as_float32
from cinefuse.data.embeddings.rows import row_checksum
from cinefuse.data.embeddings.status import Reason, Status
from cinefuse.data.embeddings.verification import verify
from cinefuse.data.runtime.errors import BadInput, CinefuseError, DamagedFile, FingerprintMismatch, NoSpace, UsageError
from cinefuse.extract.job import batch as batch_module
from cinefuse.extract.job import extraction as run
from cinefuse.extract.job import feeds
from cinefuse.extract.job import loop as stream
from cinefuse.extract.job.extraction import extract
from cinefuse.extract.job.settings import Settings
from cinefuse.extract.models import embedded as embedded_module
from cinefuse.extract.models.embedded import Embedded
from cinefuse.tests.support.embedding_files import flip
from cinefuse.tests.support.untrained_encoders import write_untrained_image_encoder, write_untrained_text_encoder


@pytest.fixture
def settings(small_batches: Settings) -> Settings:
    return small_batches


@pytest.fixture
def made(small_batches_file: Path) -> Path:
    return small_batches_file


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """A finished file that may be damaged."""
    return Path(shutil.copy(made, tmp_path / "copy.h5"))


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of every batch that reaches an encoder from now on."""
    sizes: list[int] = []
    store = embedded_module._stored

    def noted(feed: Any, inputs: list[Any], dtype: str) -> Any:
        sizes.append(len(inputs))
        return store(feed, inputs, dtype)

    monkeypatch.setattr(embedded_module, "_stored", noted)
    return sizes


# --- what is in the file ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_text_rows_equal_a_plain_transformers_forward(made: Path, sample: Path, encoders: Any) -> None:
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(encoders.text), AutoTokenizer.from_pretrained(encoders.text)
    model.eval()
    with EmbeddingFile.open(made) as file, torch.inference_mode():
        for row, text in enumerate(Catalog.open(sample).texts()):
            if text is None:
                continue
            hidden = model(**tokenizer(text, return_tensors="pt", truncation=True)).last_hidden_state[0].numpy()
            np.testing.assert_allclose(file.text.cls[row], hidden[0], atol=1e-5)
            np.testing.assert_allclose(file.text.tokens_of(row), hidden[1:], atol=1e-5)


def test_poster_rows_equal_a_plain_transformers_forward(made: Path, sample: Path, encoders: Any) -> None:
    from transformers import AutoModel
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    model, processor = AutoModel.from_pretrained(encoders.image), ViTImageProcessorPil.from_pretrained(encoders.image)
    model.eval()
    catalog = Catalog.open(sample)
    with EmbeddingFile.open(made) as file, torch.inference_mode():
        for row, poster in enumerate(catalog.posters()):
            if poster is None:
                continue
            with Image.open(catalog.poster_root / poster) as image:
                pixels = processor(image.convert("RGB"), return_tensors="pt")
            hidden = model(**pixels).last_hidden_state[0].numpy()
            np.testing.assert_allclose(file.image.cls[row], hidden[0], atol=1e-5)
            np.testing.assert_allclose(file.image.tokens_of(row), hidden[1:], atol=1e-5)


def test_a_finished_file_is_sound_and_covers_the_whole_catalogue(made: Path, sample: Path) -> None:
    catalog, report = Catalog.open(sample), verify(made)
    assert report.complete
    with EmbeddingFile.open(made) as file:
        assert file.ids.tolist() == catalog.ids.tolist()
        assert file.text.has_embedding.tolist() == [text is not None for text in catalog.texts()]
        assert file.image.has_embedding.tolist() == [poster is not None for poster in catalog.posters()]
        for modality in (file.text, file.image):
            assert np.isnan(modality.cls[~modality.has_embedding]).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_storage_rounds_the_same_embeddings(
    made: Path, sample: Path, settings: Settings, tmp_path: Path, dtype: str
) -> None:
    extract(sample, tmp_path / "half.h5", replace(settings, dtype=dtype))
    with EmbeddingFile.open(made) as full, EmbeddingFile.open(tmp_path / "half.h5") as half:
        for name in ("text", "image"):
            expected = torch.from_numpy(np.array(full[name].tokens)).to(getattr(torch, dtype)).float().numpy()
            np.testing.assert_array_equal(as_float32(half[name].raw_tokens, dtype), expected)


def test_bf16_computation_points_the_same_way_as_fp32(
    made: Path, sample: Path, settings: Settings, tmp_path: Path
) -> None:
    extract(sample, tmp_path / "bf16.h5", replace(settings, precision="bf16"))
    with EmbeddingFile.open(made) as full, EmbeddingFile.open(tmp_path / "bf16.h5") as bf16:
        for name in ("text", "image"):
            a, b = full[name].tokens, bf16[name].tokens
            cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
            assert cosine.min() >= 0.999


def test_equal_inputs_are_encoded_once_and_stored_for_each_item(
    own_sample: Path, settings: Settings, tmp_path: Path, encoded: list[int]
) -> None:
    items = pl.read_parquet(own_sample / "items.parquet")
    first = items["text"].drop_nulls()[0]
    items.with_columns(text=pl.when(pl.col("text").is_null()).then(None).otherwise(pl.lit(first))).write_parquet(
        own_sample / "items.parquet"
    )
    extract(own_sample, tmp_path / "same.h5", replace(settings, image_model=None))
    assert encoded == [1]
    with EmbeddingFile.open(tmp_path / "same.h5") as file:
        rows = np.flatnonzero(file.text.has_embedding)
        assert (file.text.cls[rows] == file.text.cls[rows[0]]).all()
        assert verify(file.path).complete


@pytest.mark.slow
def test_the_cls_level_keeps_the_same_cls_and_no_tokens(
    made: Path, sample: Path, settings: Settings, tmp_path: Path, encoded: list[int]
) -> None:
    extract(sample, tmp_path / "cls.h5", replace(settings, level="cls"))
    assert verify(tmp_path / "cls.h5").complete
    copied = extract(sample, tmp_path / "copied.h5", replace(settings, level="cls", reuse=(made,)))
    assert [outcome.encoded for outcome in copied.outcomes] == [0, 0]
    encoded.clear()
    extract(sample, tmp_path / "whole.h5", replace(settings, reuse=(tmp_path / "cls.h5",)))
    assert encoded, "a file without tokens has none to copy"
    with EmbeddingFile.open(made) as whole:
        for path in (tmp_path / "cls.h5", tmp_path / "copied.h5"):
            with EmbeddingFile.open(path) as alone:
                for name in ("text", "image"):
                    np.testing.assert_array_equal(alone[name].cls, whole[name].cls)
                    assert len(alone[name].tokens) == 0
    with pytest.raises(FingerprintMismatch, match="level: expected 'tokens', found 'cls'"):
        extract(sample, tmp_path / "cls.h5", settings)


def test_a_template_joins_columns_into_the_text(sample: Path, settings: Settings, tmp_path: Path) -> None:
    extract(sample, tmp_path / "t.h5", replace(settings, image_model=None, template="{title}. {text}"))
    titled = Catalog.open(sample).items["title"].to_list()
    with EmbeddingFile.open(tmp_path / "t.h5") as file:
        lengths = np.diff(file.text.offsets)
        with_text = np.flatnonzero(file.text.has_embedding)
        assert all(lengths[row] > len(titled[row].split()) for row in with_text)
        assert file.text.fingerprint["template"] == "{title}. {text}"


def test_an_overflow_of_the_storage_dtype_fails_the_row_and_is_never_stored(
    sample: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = feeds.TextFeed.encode

    def overflowing(self: Any, inputs: list[Any]) -> Embedded:
        embedded = encode(self, inputs)
        hidden = embedded.hidden.clone()
        hidden[0, 1, 0] = 1e6
        return replace(embedded, hidden=hidden)

    monkeypatch.setattr(feeds.TextFeed, "encode", overflowing)
    summary = extract(sample, tmp_path / "o.h5", replace(settings, image_model=None, dtype="float16"))
    (outcome,) = summary.outcomes
    assert outcome.counts[Status.FAILED, Reason.NOT_FINITE] > 0
    assert verify(tmp_path / "o.h5").complete


# --- posters that fail ------------------------------------------------------------------------------------------------


def truncated_jpeg() -> bytes:
    buffer = BytesIO()
    Image.effect_noise((200, 300), 90).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()[: len(buffer.getvalue()) // 2]


def test_a_poster_that_breaks_while_decoding_fails_alone(own_sample: Path, settings: Settings, tmp_path: Path) -> None:
    catalog = Catalog.open(own_sample)
    row = next(row for row, poster in enumerate(catalog.posters()) if poster)
    (catalog.poster_root / str(catalog.posters()[row])).write_bytes(truncated_jpeg())
    summary = extract(own_sample, tmp_path / "out.h5", replace(settings, text_model=None))
    assert summary.failures == 1
    with EmbeddingFile.open(tmp_path / "out.h5") as file:
        assert (file.image.status[row], file.image.reason[row]) == (Status.FAILED, Reason.BROKEN_IMAGE)
        assert np.isnan(file.image.tokens_of(row)).all()
        assert file.image.has_embedding.sum() == sum(p is not None for p in catalog.posters()) - 1
    assert verify(tmp_path / "out.h5").complete


@pytest.mark.parametrize("content", [b"", b"<html>", truncated_jpeg()], ids=["empty", "html", "truncated"])
def test_strict_stops_at_a_poster_that_cannot_be_used_and_names_the_item(
    own_sample: Path, settings: Settings, tmp_path: Path, content: bytes
) -> None:
    catalog = Catalog.open(own_sample)
    row = next(row for row, poster in enumerate(catalog.posters()) if poster)
    (catalog.poster_root / str(catalog.posters()[row])).write_bytes(content)
    with pytest.raises(BadInput, match=f"item {catalog.ids[row]}"):
        extract(own_sample, tmp_path / "out.h5", replace(settings, text_model=None, strict=True))
    assert not (tmp_path / "out.h5").exists()


def test_a_poster_that_changes_while_the_job_runs_is_not_taken_for_the_planned_one(
    own_sample: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = Catalog.open(own_sample)
    row = next(row for row, poster in enumerate(catalog.posters()) if poster)
    path = catalog.poster_root / str(catalog.posters()[row])
    encode_rows = stream.encode_rows

    def changing(*arguments: Any, **options: Any) -> None:
        Image.new("RGB", (50, 50), "red").save(path)
        encode_rows(*arguments, **options)

    monkeypatch.setattr(stream, "encode_rows", changing)
    extract(own_sample, tmp_path / "out.h5", replace(settings, text_model=None))
    with EmbeddingFile.open(tmp_path / "out.h5") as file:
        assert (file.image.status[row], file.image.reason[row]) == (Status.FAILED, Reason.CHANGED)


# --- going on, mending, copying ---------------------------------------------------------------------------------------


def test_a_finished_job_computes_nothing_and_leaves_the_file_alone(
    copy: Path, sample: Path, settings: Settings, encoded: list[int]
) -> None:
    before = copy.read_bytes()
    summary = extract(sample, copy, settings)
    assert encoded == []
    assert copy.read_bytes() == before
    assert [outcome.encoded for outcome in summary.outcomes] == [0, 0]


def test_a_finished_file_is_checked_once(
    copy: Path, sample: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[int] = []

    def counted(*row: Any) -> int:
        checked.append(1)
        return row_checksum(*row)

    monkeypatch.setattr("cinefuse.data.embeddings.row_reader.row_checksum", counted)
    extract(sample, copy, settings)
    assert len(checked) == 2 * 40, "a row of each modality, each once"


def test_exactly_the_damaged_rows_are_computed_again(
    copy: Path, sample: Path, settings: Settings, encoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = copy.read_bytes()
    with EmbeddingFile.open(copy) as file:
        row = int(np.flatnonzero(file.image.has_embedding)[3])
        tokens = file.header.datasets["image/tokens"]
        offset = tokens.offset + int(file.image.offsets[row]) * file.image.width * 4 + 5
    flip(copy, offset)
    assert verify(copy).damaged_rows("image") == [row]
    written: list[tuple[str, int]] = []
    write = rows_module.RowWriter.write

    def noted(self: Any, modality: str, row: int, *rest: Any) -> None:
        written.append((modality, row))
        write(self, modality, row, *rest)

    monkeypatch.setattr(rows_module.RowWriter, "write", noted)
    summary = extract(sample, copy, settings)
    assert written == [("image", row)]
    assert encoded == [4], "the row's own batch, and no other"
    assert [outcome.encoded for outcome in summary.outcomes] == [0, 1]
    assert copy.read_bytes() == before


def test_while_a_finished_file_is_mended_it_does_not_have_its_final_name(
    copy: Path, sample: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EmbeddingFile.open(copy) as file:
        flip(copy, file.header.datasets["text/checksum"].offset)
    seen = []
    encode_rows = stream.encode_rows

    def looking(*arguments: Any, **options: Any) -> None:
        seen.append(sorted(path.name for path in copy.parent.glob("copy.h5*")))
        encode_rows(*arguments, **options)

    monkeypatch.setattr(stream, "encode_rows", looking)
    extract(sample, copy, settings)
    assert seen == [["copy.h5.lock", "copy.h5.partial"]]
    assert verify(copy).complete


def test_damage_that_no_row_can_mend_is_refused_with_advice(copy: Path, sample: Path, settings: Settings) -> None:
    with EmbeddingFile.open(copy) as file:
        flip(copy, file.header.datasets["text/digest"].offset)
    with pytest.raises(DamagedFile, match=r"text/digest is damaged.*--reuse"):
        extract(sample, copy, settings)


def other_text_encoder(tmp_path: Path, _: Any) -> dict[str, Any]:
    write_untrained_text_encoder(tmp_path / "other", ["other words"], width=32)
    return {"text_model": str(tmp_path / "other")}


def other_image_encoder(tmp_path: Path, _: Any) -> dict[str, Any]:
    write_untrained_image_encoder(tmp_path / "other", width=64, size=32)
    return {"image_model": str(tmp_path / "other")}


def other_processor(tmp_path: Path, encoders: Any) -> dict[str, Any]:
    folder = Path(shutil.copytree(encoders.image, tmp_path / "other"))
    config = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(config | {"image_mean": [0.4, 0.5, 0.5]}))
    return {"image_model": str(folder)}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (other_text_encoder, "weights"),
        (other_image_encoder, "weights"),
        (other_processor, "preprocessing"),
        (lambda *_: {"max_length": 16}, "max_length: expected 16, found 128"),
        (lambda *_: {"template": "{title}"}, "template: expected '{title}', found '{text}'"),
        (lambda *_: {"text_layer": 1}, "layer: expected 1, found 'last'"),
        (lambda *_: {"image_layer": -1}, "layer"),
        (lambda *_: {"precision": "bf16"}, "precision: expected 'bf16', found 'fp32'"),
        (lambda *_: {"dtype": "float16"}, "dtype: expected 'float16', found 'float32'"),
        (lambda *_: {"image_model": None}, "expected text, found text and image"),
    ],
)
def test_a_file_made_differently_is_refused_and_the_differing_field_named(
    copy: Path,
    sample: Path,
    settings: Settings,
    encoders: Any,
    tmp_path: Path,
    change: Callable[[Path, Any], dict[str, Any]],
    named: str,
) -> None:
    before = copy.read_bytes()
    with pytest.raises(FingerprintMismatch) as refusal:
        extract(sample, copy, replace(settings, **change(tmp_path, encoders)))
    assert named in str(refusal.value)
    assert refusal.value.exit_code == 5
    assert copy.read_bytes() == before


def test_auto_precision_follows_the_file_that_is_continued(copy: Path, sample: Path, settings: Settings) -> None:
    assert extract(sample, copy, replace(settings, precision="auto")).path == copy


def test_another_state_of_the_catalogue_is_refused_with_what_changed(
    copy: Path, own_sample: Path, settings: Settings
) -> None:
    items = pl.read_parquet(own_sample / "items.parquet")
    items.head(38).write_parquet(own_sample / "items.parquet")
    with pytest.raises(FingerprintMismatch, match="0 items added, 2 removed"):
        extract(own_sample, copy, settings)
    items.with_columns(text=pl.col("text") + " More.").write_parquet(own_sample / "items.parquet")
    with pytest.raises(FingerprintMismatch, match="items with another text"):
        extract(own_sample, copy, settings)
    items.reverse().write_parquet(own_sample / "items.parquet")
    with pytest.raises(FingerprintMismatch, match="another order"):
        extract(own_sample, copy, settings)


def test_reuse_copies_equal_inputs_and_encodes_only_the_rest(
    made: Path, own_sample: Path, settings: Settings, tmp_path: Path, encoded: list[int]
) -> None:
    items = pl.read_parquet(own_sample / "items.parquet")
    changed = (
        items.reverse()
        .with_row_index()
        .with_columns(
            text=pl.when(pl.col("index") < 5).then(pl.col("title") + pl.lit(" anew")).otherwise(pl.col("text"))
        )
    )
    changed.drop("index").write_parquet(own_sample / "items.parquet")
    summary = extract(own_sample, tmp_path / "new.h5", replace(settings, reuse=(made,)))
    text, image = summary.outcomes
    assert text.encoded == 5
    assert image.encoded == 0
    assert sum(encoded) == 5
    with EmbeddingFile.open(made) as old, EmbeddingFile.open(tmp_path / "new.h5") as new:
        rows = old.rows(new.ids)
        for row in range(5, len(new)):
            np.testing.assert_array_equal(new.text.tokens_of(row), old.text.tokens_of(rows[row]))
            np.testing.assert_array_equal(new.image.tokens_of(row), old.image.tokens_of(rows[row]))
    assert verify(tmp_path / "new.h5").complete


def test_reuse_never_copies_a_damaged_row_or_one_made_differently(
    copy: Path, sample: Path, settings: Settings, tmp_path: Path, encoded: list[int]
) -> None:
    with EmbeddingFile.open(copy) as file:
        row = int(np.flatnonzero(file.text.has_embedding)[0])
        flip(copy, file.header.datasets["text/cls"].offset + row * file.text.width * 4)
        alike = (file.text.digest == file.text.digest[row]).all(1)
    other = replace(settings, reuse=(copy,), image_layer=1)
    text, image = extract(sample, tmp_path / "new.h5", other).outcomes
    # an intact row of the same text may serve the damaged one
    assert text.encoded == (1 if alike.sum() == 1 else 0)
    assert image.copied == 0
    assert verify(tmp_path / "new.h5").complete


def test_a_job_started_with_reuse_can_be_finished_without_it(
    made: Path, own_sample: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cinefuse.extract.job import extraction as run

    def interrupted(*_: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "copy_rows", interrupted)
    with pytest.raises(CinefuseError) as stopped:
        extract(own_sample, tmp_path / "new.h5", replace(settings, reuse=(made,)))
    assert stopped.value.exit_code == 130
    monkeypatch.undo()
    extract(own_sample, tmp_path / "new.h5", settings)
    assert verify(tmp_path / "new.h5").complete


def test_restart_keeps_the_old_file_until_the_new_one_is_whole(
    copy: Path, sample: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = copy.read_bytes()

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stream, "encode_rows", interrupted)
    with pytest.raises(CinefuseError):
        extract(sample, copy, replace(settings, restart=True, dtype="float16"))
    assert copy.read_bytes() == before
    monkeypatch.undo()
    extract(sample, copy, replace(settings, dtype="float16"))
    with EmbeddingFile.open(copy) as file:
        assert file.text.dtype == "float16"


# --- faults -----------------------------------------------------------------------------------------------------------


def assert_same_within_rounding(made: Path, found: Path) -> None:
    with EmbeddingFile.open(made) as expected, EmbeddingFile.open(found) as file:
        for name in ("text", "image"):
            np.testing.assert_allclose(file[name].tokens, expected[name].tokens, atol=1e-5)
            np.testing.assert_allclose(file[name].cls, expected[name].cls, atol=1e-5)


@pytest.mark.parametrize("largest", [1, 2, 3])
def test_out_of_memory_halves_the_batch_and_goes_on(
    made: Path, sample: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, largest: int
) -> None:
    for feed in (feeds.TextFeed, feeds.PosterFeed):
        encode = feed.encode

        def small(self: Any, inputs: list[Any], encode: Any = encode) -> torch.Tensor:
            if len(inputs) > largest:
                raise torch.OutOfMemoryError("CUDA out of memory (the test says so)")
            return encode(self, inputs)

        monkeypatch.setattr(feed, "encode", small)
    extract(sample, tmp_path / "small.h5", settings)
    assert_same_within_rounding(made, tmp_path / "small.h5")


def test_out_of_memory_behind_the_encoder_halves_the_batch_too(
    made: Path, sample: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_host = embedded_module._to_host

    def small(values: torch.Tensor, finite: torch.Tensor) -> Any:
        if len(values) > 2:
            raise RuntimeError("CUDA error: out of memory (of pinned memory, the test says)")
        return to_host(values, finite)

    monkeypatch.setattr(embedded_module, "_to_host", small)
    extract(sample, tmp_path / "small.h5", settings)
    assert verify(tmp_path / "small.h5").complete
    assert_same_within_rounding(made, tmp_path / "small.h5")


@pytest.mark.slow
def test_a_batch_that_fits_once_memory_is_freed_gives_the_bytes_of_an_uninterrupted_job(
    made: Path, sample: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, to_host, tries = feeds.TextFeed.encode, embedded_module._to_host, {"encode": 0, "copy": 0}

    def full_at_first(self: Any, inputs: list[Any]) -> Embedded:
        tries["encode"] += 1
        if tries["encode"] % 3 == 1:  # every second batch, since a batch that failed comes again
            raise torch.OutOfMemoryError("CUDA out of memory (the test says so)")
        return encode(self, inputs)

    def copy_full_at_first(values: torch.Tensor, finite: torch.Tensor) -> Any:
        tries["copy"] += 1
        if tries["copy"] % 5 == 1:
            raise RuntimeError("CUDA error: out of memory (the test says so)")
        return to_host(values, finite)

    monkeypatch.setattr(feeds.TextFeed, "encode", full_at_first)
    extract(sample, tmp_path / "encode.h5", settings)
    monkeypatch.setattr(feeds.TextFeed, "encode", encode)
    monkeypatch.setattr(embedded_module, "_to_host", copy_full_at_first)
    extract(sample, tmp_path / "copy.h5", settings)
    assert min(tries.values()) > 3
    for name in ("encode", "copy"):
        assert (tmp_path / f"{name}.h5").read_bytes() == made.read_bytes()


def test_a_file_begun_in_small_batches_goes_on_in_large_ones_where_the_device_wants_them(
    made: Path, sample: Path, settings: Settings, tmp_path: Path, encoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, encode = tmp_path / "begun.h5", batch_module.encode_for_storage
    small = replace(settings, batch_tokens=64, batch_posters=1)

    def stopping(feed: Any, inputs: list[Any], dtype: str) -> Any:
        if len(encoded) == 3:
            raise KeyboardInterrupt
        return encode(feed, inputs, dtype)

    monkeypatch.setattr(batch_module, "encode_for_storage", stopping)
    with pytest.raises(CinefuseError, match="run the same command again"):
        extract(sample, out, small)
    monkeypatch.setattr(batch_module, "encode_for_storage", encode)
    monkeypatch.setattr(run, "wants_large_batches", lambda kind: True)  # as on a GPU
    del encoded[:]
    extract(sample, out, settings)
    assert verify(out).complete
    with EmbeddingFile.open(made) as whole:
        posters = len(np.unique(whole.image.digest[whole.image.has_embedding], axis=0))
    assert encoded.count(4) >= posters // 4, "posters went through the encoder one by one"
    assert_same_within_rounding(made, out)


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (torch.OutOfMemoryError("CUDA out of memory (the test says so)"), "max length, or --device cpu$"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory (the test says so)"), "max length$"),
    ],
)
def test_one_input_that_does_not_fit_the_memory_is_told_in_one_line(
    sample: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, advice: str
) -> None:
    def never(self: Any, inputs: list[Any]) -> torch.Tensor:
        raise error

    monkeypatch.setattr(feeds.TextFeed, "encode", never)
    with pytest.raises(BadInput, match=f"does not fit the device's memory; use a smaller model or {advice}"):
        extract(sample, tmp_path / "out.h5", settings)


def test_memory_is_freed_on_the_devices_that_copy_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(embedded_module, "_copy_streams", {torch.device("cuda:1"): None})
    monkeypatch.setattr(torch.cuda, "synchronize", calls.append)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append("emptied"))
    embedded_module._free_memory()
    assert calls == []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    embedded_module._free_memory()
    assert calls == [torch.device("cuda:1"), "emptied"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "kind"), [(errno.ENOSPC, NoSpace), (errno.EDQUOT, NoSpace), (errno.EIO, BadInput), (errno.EROFS, BadInput)]
)
def test_a_disk_that_fails_at_any_write_ends_the_job_in_one_line_and_it_can_go_on(
    made: Path,
    sample: Path,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    kind: type[CinefuseError],
) -> None:
    pwrite, count = os.pwrite, 0
    expected = made.read_bytes()
    for failing in (0, 1, 5, 20, 60, 150, 290):
        count = 0

        def faulty(descriptor: int, data: Any, offset: int, failing: int = failing) -> int:
            nonlocal count
            count += 1
            if count > failing:
                raise OSError(code, os.strerror(code))
            return pwrite(descriptor, data, offset)

        out = tmp_path / f"{failing}.h5"
        monkeypatch.setattr(os, "pwrite", faulty)
        with pytest.raises(kind, match=os.strerror(code)):
            extract(sample, out, settings)
        monkeypatch.setattr(os, "pwrite", pwrite)
        assert not out.exists()
        extract(sample, out, settings)
        assert out.read_bytes() == expected


def test_where_no_item_has_a_poster_no_image_model_is_wanted_unless_it_is_named_or_the_file_has_images(
    own_sample: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = own_sample / "items.parquet"
    pl.read_parquet(items).with_columns(poster=pl.lit(None, dtype=pl.String)).write_parquet(items)
    named, default = tmp_path / "named.h5", tmp_path / "default.h5"
    extract(own_sample, named, settings)
    for _ in range(2):  # the second time goes on with a file without images
        extract(own_sample, default, replace(settings, image_model=Settings.image_model))
    monkeypatch.setattr(Settings, "image_model", settings.image_model)
    extract(own_sample, named, settings)
    with EmbeddingFile.open(named) as both, EmbeddingFile.open(default) as text:
        assert list(both.modalities) == ["text", "image"]
        assert list(text.modalities) == ["text"]


def test_nothing_to_encode_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="expected a text model, an image model, or both"):
        Settings(text_model=None, image_model=None)


@pytest.mark.parametrize(
    "wrong", [{"level": "words"}, {"dtype": "int8"}, {"precision": "fp8"}, {"batch_tokens": 0}, {"max_length": 2}]
)
def test_a_setting_out_of_its_range_is_a_usage_error_that_names_the_option(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')}: expected"):
        Settings(**wrong)


def test_a_missing_output_folder_is_refused_before_anything_is_planned(
    sample: Path, settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="its folder does not exist"):
        extract(sample, tmp_path / "nowhere" / "out.h5", settings)


def test_a_folder_in_place_of_the_file_is_refused(sample: Path, settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="found a folder"):
        extract(sample, tmp_path, settings)


def test_a_max_length_beyond_the_models_is_refused(sample: Path, settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="reads at most 128 tokens, found 999"):
        extract(sample, tmp_path / "out.h5", replace(settings, max_length=999))
