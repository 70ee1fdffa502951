"""What a user gets from `pip install`: every module, and nothing that is not cinefuse."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOT_MODULES = ("__init__.py", "__main__.py", "api.py", "cli.py", "device.py", "embedding_dataset.py", "torch_files.py")


@pytest.fixture(scope="module")
def wheel_files(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_the_wheel_holds_every_module_of_the_package(wheel_files: set[str]) -> None:
    modules = [
        *(ROOT / name for name in ROOT_MODULES),
        *(ROOT / "data").rglob("*.py"),
        *(ROOT / "extract").rglob("*.py"),
        *(ROOT / "fuse").rglob("*.py"),
    ]
    assert {f"cinefuse/{module.relative_to(ROOT).as_posix()}" for module in modules} <= wheel_files


def test_the_wheel_holds_nothing_but_the_package(wheel_files: set[str]) -> None:
    strangers = {
        name
        for name in wheel_files
        if not name.startswith(
            tuple(f"cinefuse/{name}" for name in (*ROOT_MODULES, "py.typed", "data/", "extract/", "fuse/"))
        )
    }
    assert not strangers


def test_the_wheel_says_that_it_is_typed(wheel_files: set[str]) -> None:
    assert "cinefuse/py.typed" in wheel_files


def test_the_wheel_holds_what_the_modules_read(wheel_files: set[str]) -> None:
    read = [*ROOT.glob("data/mini/*/*"), *ROOT.glob("data/**/templates/*"), *ROOT.glob("fuse/**/templates/*")]
    read += [ROOT / "data/sample/plots.json", ROOT / "extract/commands/families.tsv"]
    assert len(read) > 15
    assert {f"cinefuse/{file.relative_to(ROOT).as_posix()}" for file in read} <= wheel_files
