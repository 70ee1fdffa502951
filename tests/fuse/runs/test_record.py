"""Laws of the record of a run: what another version wrote, and what is no record, is refused in a line."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cinefuse.data.runtime.errors import BadInput
from cinefuse.fuse.runs.record import RunRecord, read_record
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


def test_a_record_survives_json(bias: Run, tmp_path: Path) -> None:
    assert read_record(bias.folder) == bias.record
    asked = {"split": "all", "absent": ("tags",), "implicit": True, "warm_start": "runs/earlier"}
    record = replace(bias.record, embeddings=tmp_path / "x.h5", embeddings_digest="0a", encoders={"text": {}}, **asked)
    assert RunRecord.from_dict(json.loads(json.dumps(record.as_dict()))) == record


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("split", 3),
        ("dataset", None),
        ("dataset_sha256", {"ratings": 1}),
        ("absent", "tags"),
        ("embeddings", ["x.h5"]),
        ("config", []),
        ("tomorrow", 1),
    ],
)
def test_a_field_of_another_type_or_name_is_refused_by_its_name(
    field: str, value: Any, bias: Run, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=rf"config\.json: '{field}' .*train the run again"):
        Run.open(changed(bias, tmp_path / "run", **{field: value}))


def test_what_may_move_is_no_difference_and_a_setting_is_named_with_both_values(bias: Run, tmp_path: Path) -> None:
    moved = replace(bias.record, dataset=tmp_path, versions={}, embeddings=tmp_path / "x.h5", absent=("tags",))
    assert bias.record.difference(moved) is None
    other = replace(bias.record, config=bias.config.with_values({"l2.user": 3.0}))
    assert bias.record.difference(other) == ("config", "l2.user was 14.0, is 3.0")
    assert bias.record.difference(replace(bias.record, split="all")) == ("split", "was 'random:0.1', is 'all'")
