"""Laws of posters: inside an archive they embed as from a folder; a lost folder ends the job before encoding."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cinefuse.data.dataset.catalog import Catalog
from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.runtime.errors import BadInput
from cinefuse.data.sources.own_tables import import_table
from cinefuse.extract.job import feeds
from cinefuse.extract.job.extraction import extract
from cinefuse.extract.job.settings import Settings


@pytest.fixture(scope="module")
def settings(encoders: Any) -> Settings:
    return Settings(text_model=None, image_model=str(encoders.image), device="cpu", precision="fp32", batch_posters=4)


@pytest.fixture
def films(sample: Path, tmp_path: Path) -> Path:
    """A film table of some of the sample, its posters called after ids in the folder "pp"."""
    catalog = Catalog.open(sample)
    given = [(key, poster) for key, poster in zip(catalog.ids.tolist(), catalog.posters(), strict=True) if poster][:12]
    (tmp_path / "pp").mkdir()
    for key, poster in given:
        shutil.copy(catalog.poster_root / poster, tmp_path / "pp" / f"{key}.jpg")
    pl.DataFrame({"id": [key for key, _ in given]}).write_csv(tmp_path / "films.csv")
    return tmp_path / "films.csv"


def test_posters_inside_tar_and_parquet_embed_as_from_a_folder(films: Path, tmp_path: Path, settings: Settings) -> None:
    with tarfile.open(tmp_path / "p.tar", "w") as archive:
        archive.add(tmp_path / "pp", "shard")
    files = sorted((tmp_path / "pp").iterdir(), reverse=True)
    table = pa.table({"id": [file.stem for file in files], "image": [file.read_bytes() for file in files]})
    pq.write_table(table, tmp_path / "p.parquet", row_group_size=5)
    found = []
    for place in ("pp", "p.tar", "p.parquet"):
        import_table(tmp_path / f"d-{place}", films, posters=tmp_path / place)
        extract(tmp_path / f"d-{place}", tmp_path / f"{place}.h5", settings)
        with EmbeddingFile.open(tmp_path / f"{place}.h5") as file:
            assert file.image.has_embedding.all()
            found.append((np.array(file.image.cls), np.array(file.image.digest)))
    for cls, digest in found[1:]:
        assert (digest == found[0][1]).all()
        assert np.array_equal(cls, found[0][0])


@pytest.mark.parametrize("lost", ["folder", "posters", "all but one"])
def test_a_lost_poster_folder_ends_the_job_before_any_encoding(
    films: Path, tmp_path: Path, settings: Settings, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_table(tmp_path / "d", films, posters=tmp_path / "pp")
    extract(tmp_path / "d", tmp_path / "before.h5", settings)
    if lost == "folder":
        (tmp_path / "pp").rename(tmp_path / "elsewhere")
    else:
        for file in sorted((tmp_path / "pp").iterdir())[lost == "all but one" :]:
            file.unlink()
    if lost == "all but one":
        assert extract(tmp_path / "d", tmp_path / "o.h5", settings).failures == 11
        return
    monkeypatch.setattr(feeds, "load_encoder", lambda *_, **__: pytest.fail("an encoder was loaded"))
    says = "is gone: move it back" if lost == "folder" else "none of them is in"
    for out in ("o.h5", "before.h5"):  # a finished file does not hide it either
        with pytest.raises(BadInput, match=f"the dataset names 12 posters .*{says}"):
            extract(tmp_path / "d", tmp_path / out, settings)
    assert not (tmp_path / "o.h5").exists()


@pytest.mark.slow
def test_the_command_exits_with_3_where_the_posters_are_gone(films: Path, tmp_path: Path) -> None:
    import_table(tmp_path / "d", films, posters=tmp_path / "pp")
    (tmp_path / "pp").rename(tmp_path / "elsewhere")
    command = [sys.executable, "-m", "cinefuse.cli", "extract", str(tmp_path / "d"), str(tmp_path / "o.h5")]
    command += ["--text-model", "mini", "--image-model", "mini"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "--no-image" in done.stderr
    assert not (tmp_path / "o.h5").exists()
