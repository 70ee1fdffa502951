"""Laws of the record of a run: what another version wrote, and what is no record, is refused in a line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cinefuse.data.runtime.errors import BadInput
from cinefuse.fuse.runs.run import Run
from cinefuse.fuse.runs.train import train
from cinefuse.fuse.settings.presets import preset


@pytest.fixture(scope="module")
def bias(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = preset("bias").with_settings(["factor_steps=4", "epochs=1", "objective=rating"])
    return train(sample, None, tmp_path_factory.mktemp("run") / "bias", config, device="cpu")


def changed(run: Run, folder: Path, **changes: Any) -> Path:
    copy = Path(shutil.copytree(run.folder, folder))
    record = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(record | changes))
    return copy


@pytest.mark.parametrize("version", [1, 3, None])
@pytest.mark.parametrize("resume", [False, True])
def test_a_run_of_another_record_version_is_refused_in_a_line_that_says_to_train_again(
    version: int | None, resume: bool, bias: Run, sample: Path, tmp_path: Path
) -> None:
    old = changed(bias, tmp_path / "old", version=version)
    with pytest.raises(BadInput, match=f"record version {version}, .*reads 2: train it again") as refusal:
        train(sample, None, old, bias.config, device="cpu", resume=True) if resume else Run.open(old)
    assert "\n" not in str(refusal.value)
    assert refusal.value.exit_code == 3
