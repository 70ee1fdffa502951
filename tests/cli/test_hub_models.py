"""The README's command as it stands, with the default ids, against an imitation of the Hub on loopback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.tests.conftest import Encoders
from cinefuse.tests.support.model_hub import ModelHub, model_hub

TEXT, IMAGE = "google-bert/bert-base-uncased", "google/vit-base-patch16-224-in21k"


@pytest.fixture
def hub(tmp_path: Path, encoders: Encoders) -> Iterator[ModelHub]:
    """The default ids with the files their repositories really have, around small weights."""
    text = Path(shutil.copytree(encoders.text, tmp_path / "hub" / "text"))
    image = Path(shutil.copytree(encoders.image, tmp_path / "hub" / "image"))
    config = json.loads((text / "config.json").read_text())
    (text / "config.json").write_text(json.dumps(config | {"architectures": ["BertForMaskedLM"]}))
    for name in ("pytorch_model.bin", "tf_model.h5", "rust_model.ot", "model.onnx", "coreml/fill-mask/weights.bin"):
        (text / name).parent.mkdir(parents=True, exist_ok=True)
        (text / name).write_bytes(b"never fetched")
    for name in ("pytorch_model.bin", "tf_model.h5", "flax_model.msgpack"):
        (image / name).write_bytes(b"never fetched")
    for folder in (text, image):
        (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
        (folder / ".gitattributes").write_text("*.bin filter=lfs\n")
    with model_hub({TEXT: text, IMAGE: image}) as running:
        yield running


def start(hub: ModelHub, folder: Path, *words: object, **environment: str) -> subprocess.Popen[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    given = clean | {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hf"), "HF_HUB_DISABLE_XET": "1"}
    given["OMP_NUM_THREADS"] = "1"
    command = [sys.executable, "-m", "cinefuse", *map(str, words)]
    return subprocess.Popen(
        command, cwd=folder, env=given | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(hub: ModelHub, folder: Path, *words: object, **environment: str) -> tuple[int, str, str]:
    process = start(hub, folder, *words, **environment)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


@pytest.mark.slow
def test_plan_then_extract_then_both_again_without_network(hub: ModelHub, sample: Path, tmp_path: Path) -> None:
    code, _, err = run(hub, tmp_path, "extract", sample, "films.h5", "--plan")
    assert code == 0, err
    assert not any(request.endswith("model.safetensors") for request in hub.requests)
    before = len(hub.requests)
    code, _, err = run(hub, tmp_path, "extract", sample, "films.h5", "--plan", HF_HUB_OFFLINE="1")
    assert code == 0, err
    code, _, err = run(hub, tmp_path, "extract", sample, "films.h5", HF_HUB_OFFLINE="1")
    assert code == 3
    assert "`--plan` fetches no weights" in err
    assert len(hub.requests) == before
    hub.meet("/api/models", 503, ("limited", 1))
    code, _, err = run(hub, tmp_path, "extract", sample, "films.h5")
    assert code == 0, err
    for name in ("pytorch_model.bin", "tf_model.h5", "README.md", "weights.bin", "model.onnx"):
        assert not any(request.endswith(name) for request in hub.requests), name
    with EmbeddingFile.open(tmp_path / "films.h5") as file:
        about = file.header.modalities
        assert [about[name]["model"] for name in ("text", "image")] == [TEXT, IMAGE]
        assert [about[name]["revision"] for name in ("text", "image")] == [hub.commit(TEXT), hub.commit(IMAGE)]
    before = len(hub.requests)
    code, _, err = run(hub, tmp_path, "extract", sample, "again.h5", HF_HUB_OFFLINE="1")
    assert code == 0, err
    assert (tmp_path / "again.h5").read_bytes() == (tmp_path / "films.h5").read_bytes()
    assert len(hub.requests) == before


@pytest.mark.slow
def test_a_hub_that_sends_nothing_is_reported_after_ten_seconds(hub: ModelHub, sample: Path, tmp_path: Path) -> None:
    hub.meet("/api/models", *["stall"] * 9)
    process = start(hub, tmp_path, "extract", sample, "films.h5", "--plan")
    assert process.stderr is not None
    began = time.monotonic()
    line = process.stderr.readline()
    seconds = time.monotonic() - began
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert "the hub has sent nothing for 10 s; attempt 2 of 5 in 1 s" in line
    assert 9 < seconds < 40  # ten, and what Python takes to start on a busy machine


@pytest.mark.slow
def test_a_start_that_is_stopped_while_it_waits_for_the_hub_promises_nothing(
    hub: ModelHub, sample: Path, tmp_path: Path
) -> None:
    hub.meet("/api/models", *[("limited", 60)] * 9)
    process = start(hub, tmp_path, "extract", sample, "films.h5")
    assert process.stderr is not None
    assert "the hub answers 429; attempt 2 of 5 in 60 s" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert err.strip() == "cinefuse: stopped by SIGTERM; run the same command again to start"
    assert {path.name for path in tmp_path.iterdir()} <= {"hf", "hub"}
