"""The examples of docs/jobs.md: their commands exist with these options, and the Slurm script's body runs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from cinefuse.cli import app
from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.runtime import errors

DOCS = Path(__file__).resolve().parents[2] / "docs"
SLURM, KUBERNETES, RAY = (DOCS / "examples" / n for n in ("slurm-array.sh", "kubernetes-job.yaml", "ray-job.yaml"))


def commands(text: str) -> list[list[str]]:
    """Every `cinefuse ...` in a text, as words, without what surrounds it."""
    joined = re.sub(r"\\\n\s*", " ", text)
    found = re.findall(r"\bcinefuse (?:extract|cache merge) [^`\n|;#]+", joined)
    return [shlex.split(line.split(" ${")[0], comments=True) for line in found]


def options_of(words: list[str]) -> set[str]:
    """The options that the command of `words` knows."""
    found: Any = typer.main.get_command(app)
    for word in words[1:]:
        if word not in getattr(found, "commands", {}):
            break
        found = found.commands[word]
    return {option for parameter in found.params for option in parameter.opts}


@pytest.mark.parametrize("file", [SLURM, KUBERNETES, RAY, DOCS / "jobs.md"], ids=lambda file: file.name)
def test_every_command_of_the_examples_exists_with_its_options(file: Path) -> None:
    text = re.sub(r"\n\s{10,}", " ", file.read_text()) if file == KUBERNETES else file.read_text()
    found = commands(text)
    assert found
    for words in found:
        assert {word for word in words if word.startswith("--")} <= options_of(words), words


@pytest.mark.parametrize("file", [KUBERNETES, RAY], ids=lambda file: file.name)
def test_the_manifests_are_yaml_with_a_grace_period_and_a_command(file: Path) -> None:
    yaml = pytest.importorskip("yaml", reason="reading the manifests needs PyYAML")
    manifest = yaml.safe_load(file.read_text())
    if file == RAY:
        assert manifest["spec"]["entrypoint"].startswith("cinefuse extract")
        return
    job = manifest["spec"]
    (container,) = job["template"]["spec"]["containers"]
    assert f"/{job['completions']}" in container["args"][0]
    assert job["template"]["spec"]["terminationGracePeriodSeconds"] > 10
    final = job["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"]
    assert final == [kind.exit_code for kind in (errors.UsageError, errors.BadInput, errors.DamagedFile)] + [5]


def test_the_slurm_script_makes_the_part_of_its_task(sample: Path, encoders: Any, tmp_path: Path) -> None:
    program = Path(sys.executable).parent
    models = f"--text-model {encoders.text} --no-image --device cpu"
    task = {"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_COUNT": "3", "CINEFUSE_OPTIONS": models}
    done = subprocess.run(
        ["bash", SLURM, sample, tmp_path / "parts"],
        env=os.environ | task | {"PATH": f"{program}:{os.environ['PATH']}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == ["2.h5", "2.jsonl"]
    with EmbeddingFile.open(tmp_path / "parts" / "2.h5", pending=True) as part:
        assert 0 < part.pending["text"] < len(part)


def test_every_exit_code_is_in_the_table() -> None:
    table = DOCS / "jobs.md"
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", table.read_text(), re.MULTILINE)}
    kinds: list[type[errors.CinefuseError]] = [
        errors.CinefuseError,
        *errors.CinefuseError.__subclasses__(),
        errors.Terminated,
    ]
    assert {kind.exit_code for kind in kinds} | {0, 137} == listed
