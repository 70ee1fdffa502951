"""The data card: what it says is true, what it shows runs, and it tells of nobody's machine."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cinefuse.cli import app
from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.formats.number_format import convert
from cinefuse.data.runtime.errors import BadInput, DamagedFile, UsageError
from cinefuse.data.sharing.data_card import card, write_card
from cinefuse.data.sharing.selection import Selection
from cinefuse.data.sharing.subset import subset
from cinefuse.tests.support.embedding_files import (
    GOLDEN,
    IMAGE_BFLOAT16,
    OK,
    TEXT_AND_IMAGE,
    TEXT_INT8,
    make_layout,
    write_file,
)

FILES = [TEXT_AND_IMAGE, IMAGE_BFLOAT16, TEXT_INT8]


def snippets(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_both_snippets_of_a_card_run_and_read_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    with_cinefuse, without = snippets(card(Path(path.name)))
    with EmbeddingFile.open(path) as file:
        modality = file[file.modalities[0]]
        ours: dict = {}
        exec(with_cinefuse, ours)
        row = int(ours["row"])
        assert modality.has_embedding[row]
        assert np.array_equal(ours["cls"], modality.read_cls(row))
        assert np.array_equal(ours["tokens"], modality.read_tokens(row))
        plain: dict = {}
        exec(without, plain)
        assert "cinefuse" not in without
        for row in np.flatnonzero(modality.has_embedding).tolist():
            assert np.array_equal(plain["cls"][row], modality.read_cls(row))
        assert np.array_equal(plain["tokens"], modality.read_tokens(0))
        assert len(plain["ids"]) == len(plain["status"]) == len(file)
        assert max(len(code.strip().splitlines()) for code in (with_cinefuse, without)) <= 8


def front(text: str) -> dict[str, object]:
    """The YAML in front of a card, which uses only `key: "text"` and lists of words."""
    block = text.split("---\n")[1]
    told: dict[str, object] = {}
    key = ""
    for line in block.splitlines():
        if line.startswith("- "):
            entries = told[key]
            assert isinstance(entries, list)
            entries.append(line[2:])
        else:
            key, value = line.split(":", 1)
            told[key] = json.loads(value) if value.strip() else []
    return told


def test_the_hubs_metadata_is_complete(tmp_path: Path) -> None:
    told = front(card(FILES[0]))
    assert told["license"] == "cc0-1.0"
    assert told["task_categories"] == ["feature-extraction", "image-feature-extraction"]
    assert told["size_categories"] == ["n<1K"]
    assert {"embeddings", "multimodal"} <= set(told["tags"])  # type: ignore[call-overload]
    assert told["pretty_name"]
    named = front(card(FILES[0], name='Films: "all"', licence="Only for my students"))
    assert named["pretty_name"] == 'Films: "all"'
    assert (named["license"], named["license_name"]) == ("other", "Only for my students")
    assert front(card(_nobodys(tmp_path)))["license"] == "unknown"


def _nobodys(folder: Path, about: dict | None = None, model: str = "toy") -> Path:
    layout = make_layout(model, "float16", 2, [1], [OK], text=False)
    rows = [(np.ones((2, 2), np.float16), *OK)]
    write_file(folder / "films.h5", [7], {"image": (layout, rows)}, about).close()
    return folder / "films.h5"


def test_the_hub_library_reads_the_metadata() -> None:
    hub = pytest.importorskip("huggingface_hub")
    read = hub.DatasetCard(card(FILES[0])).data
    assert read.license == "cc0-1.0"
    assert read.size_categories == ["n<1K"]


def test_digests_coverage_and_lineage_are_the_files(tmp_path: Path) -> None:
    path = tmp_path / "part.h5"
    subset(FILES[0], path, Selection(ids=[1, 31]))
    text = card(path)
    with EmbeddingFile.open(path) as file:
        assert file.content_digest in text
    assert hashlib.sha256(path.read_bytes()).hexdigest() in text
    assert "| with embedding | 1 | 1 |" in text
    assert "1 the image data is truncated or damaged" in text
    assert "subset (items 2) of" in text
    assert "Plots and posters are not part of this file" in text
    assert "No licence is given" in card(_nobodys(tmp_path))


def test_no_card_tells_of_a_machine(tmp_path: Path) -> None:
    about = {
        "catalogue": "/home/ann/films",
        "source": "file:///srv/data/plots and C:\\Users\\ann\\posters\\x, see https://example.org/a/b",
        "licence": "/etc/licences/mine",
        "lineage": [{"operation": "import", "with": {"from": "/home/ann/x.npy"}, "from": [], "made_by": "~/bin/tool"}],
    }
    text = card(_nobodys(tmp_path, about, model="/home/ann/models/vit"), repo="ann/films")
    for secret in ("/home", "ann/models", "/srv", "Users", "/etc", str(tmp_path), "~/bin"):
        assert secret not in text, secret
    assert "https://example.org/a/b" in text
    assert "hf://datasets/ann/films/films.h5" in text


def test_text_of_strangers_cannot_become_markup(tmp_path: Path) -> None:
    about = {"licence": "x\n---\n# Owned <script>alert(1)</script> | [a](b)", "catalogue": '"\nlicense: mit'}
    text = card(_nobodys(tmp_path, about))
    body = text.split("---\n", 2)[2]
    assert "<script" not in body.replace("\\<script", "")
    assert "[a]" not in body.replace("\\[a\\]", "")
    assert "\n# Owned" not in text
    assert front(text)["license"] == "other"


def test_int8_says_what_it_was_rounded_from(tmp_path: Path) -> None:
    convert(FILES[0], tmp_path / "int8.h5", "int8")
    assert "int8 x 4, rounded to float16 before" in card(tmp_path / "int8.h5")


def test_what_no_card_is_written_for(tmp_path: Path) -> None:
    with pytest.raises(DamagedFile, match="still pending"):
        card(GOLDEN / "unfinished.h5")
    with pytest.raises(UsageError, match="OWNER/NAME"):
        card(FILES[0], repo="a b")
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(BadInput, match="is there already"):
        write_card(FILES[0], tmp_path / "README.md")
    assert (tmp_path / "README.md").read_text() == "mine"


def test_the_command_writes_it_beside_the_file(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["cache", "card", str(FILES[0]), "--out", str(tmp_path / "README.md")])
    assert done.exit_code == 0
    assert (tmp_path / "README.md").read_text() == card(FILES[0])
