"""Which part may know which, read from the import statements themselves."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAY_IMPORT = {"data": {"data"}, "extract": {"extract", "data", "device"}, "fuse": {"fuse", "data", "device"}}


def _files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def _imports(file: Path) -> Iterator[tuple[ast.AST, str]]:
    """Every import of the file, absolute and relative, as a dotted name from the package's top."""
    package = file.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name.removeprefix("cinefuse.")
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - node.level + 1]
                yield node, ".".join([*base, node.module or ""])
            else:
                yield node, (node.module or "").removeprefix("cinefuse.")


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_what_data_flow_allows(package: str) -> None:
    for file in _files(package):
        for _, name in _imports(file):
            top = name.split(".")[0]
            if top in {*MAY_IMPORT, "cli", "device"}:
                assert top in MAY_IMPORT[package], f"{file.relative_to(ROOT)} imports {name}"


def test_data_never_imports_torch() -> None:
    for file in _files("data"):
        for _, name in _imports(file):
            assert name.split(".")[0] not in {"torch", "transformers"}, f"{file.relative_to(ROOT)} imports {name}"


def test_nothing_imports_pickle() -> None:
    for package in MAY_IMPORT:
        for file in _files(package):
            names = {name.split(".")[0] for _, name in _imports(file)}
            assert not names & {"pickle", "dill", "joblib", "shelve"}, file.relative_to(ROOT)


COMMANDS = [
    "cli.py",
    "data/commands/dataset.py",
    "data/commands/dataset_import.py",
    "data/commands/cache.py",
    "data/commands/cache_formats.py",
    "extract/commands/extract.py",
    "extract/commands/encoders.py",
    "data/commands/options.py",
    "fuse/commands/evaluation.py",
    "fuse/commands/options.py",
    "fuse/commands/reports.py",
    "fuse/commands/serving.py",
    "fuse/commands/study.py",
    "fuse/commands/train.py",
    "fuse/commands/tune.py",
]


@pytest.mark.parametrize("file", COMMANDS)
def test_commands_import_heavy_things_only_when_they_run(file: str) -> None:
    modules = {str(Path(name).with_suffix("")).replace("/", ".") for name in COMMANDS}
    packages = {name.rpartition(".")[0] for name in modules}
    tree = ast.parse((ROOT / file).read_text())
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {
        str(name)
        for node in top
        for name in ([a.name for a in node.names] if isinstance(node, ast.Import) else [node.module])
    }
    beyond_python = {name for name in names if name.split(".")[0] not in sys.stdlib_module_names}
    light = {name for name in beyond_python if name.endswith(("runtime.errors", "runtime.untrusted_text"))}
    assert beyond_python - light <= {
        "typer",
        "typer.core",
        *modules,
        *packages,
        *(Path(name).stem for name in COMMANDS),
    }


def test_no_module_of_commands_escapes_the_law_above() -> None:
    found = {
        str(file.relative_to(ROOT))
        for package in MAY_IMPORT
        for file in _files(package)
        if "import typer" in file.read_text()
    }
    assert found == set(COMMANDS) - {"cli.py"}


@pytest.mark.parametrize("part", ["cli", "extract.models.encoders", "fuse.training.loop"])
def test_every_part_asks_mkl_for_one_order_of_sums_and_leaves_another_wish_alone(part: str) -> None:
    """What is trained must not depend on whether an encoder was loaded in the process before."""
    script = f"import os, cinefuse.{part}; print(os.environ['MKL_CBWR'])"
    without = {name: value for name, value in os.environ.items() if name != "MKL_CBWR"}
    for given, expected in ({}, "AUTO,STRICT"), ({"MKL_CBWR": "COMPATIBLE"}, "COMPATIBLE"):
        done = subprocess.run([sys.executable, "-c", script], env=without | given, capture_output=True, text=True)
        assert done.stdout.strip() == expected, done.stderr


def test_threads_that_wait_do_not_hold_cores_of_others_unless_the_user_says_so() -> None:
    script = "import os, cinefuse.cli; print(os.environ.get('GOMP_SPINCOUNT'))"
    without = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    for given, expected in ({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None"):
        done = subprocess.run([sys.executable, "-c", script], env=without | given, capture_output=True, text=True)
        assert done.stdout.strip() == expected, done.stderr
