"""Fixtures that more than one test file needs: where the real data lies, a small catalogue, small encoders."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from cinefuse.extract.job.settings import Settings
    from cinefuse.tests.support.browser import Browser
    from cinefuse.tests.support.commands import Run
    from cinefuse.tests.support.forked import ForkedCommands, ForkServer

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("COLUMNS", "120")
if "PYTEST_XDIST_WORKER" in os.environ:
    # a worker a core already: threads that wait for one another's core spin, which cost ten times the work itself
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# no example fails for its time: machines are shared
hypothesis.settings.register_profile("cinefuse", deadline=None)
hypothesis.settings.load_profile("cinefuse")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts a browser, or the process that others fork from, is slow."""
    for item in items:
        if {"browser", "fork_server"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real MovieLens ratings, plots and posters; skips where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real MovieLens data (../shared/data) is not beside this checkout")
    return folder


@dataclass(frozen=True)
class Encoders:
    """Folders of a small BERT and a small ViT with random weights."""

    text: Path
    image: Path


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset folder of 40 generated films; read it, never write into it."""
    from cinefuse.data.sample.catalogue import write_sample

    folder = tmp_path_factory.mktemp("sample") / "dataset"
    write_sample(folder, items=40, users=20)
    return folder


@pytest.fixture(scope="session")
def encoders(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Encoders:
    """Encoders small enough to run in milliseconds, saved and loaded as any other model is."""
    from cinefuse.data.dataset.catalog import Catalog
    from cinefuse.tests.support.untrained_encoders import write_untrained_image_encoder, write_untrained_text_encoder

    folder = tmp_path_factory.mktemp("encoders")
    write_untrained_text_encoder(folder / "bert", (text for text in Catalog.open(sample).texts() if text), width=32)
    write_untrained_image_encoder(folder / "vit", width=32, size=32)
    return Encoders(folder / "bert", folder / "vit")


@pytest.fixture(scope="session")
def embeddings(tmp_path_factory: pytest.TempPathFactory, sample: Path, encoders: Encoders) -> Path:
    """The finished embedding file of the sample catalogue; read it, never write into it."""
    from cinefuse.extract.job.extraction import extract
    from cinefuse.extract.job.settings import Settings

    out = tmp_path_factory.mktemp("embeddings") / "sample.h5"
    models = {"text_model": str(encoders.text), "image_model": str(encoders.image)}
    extract(sample, out, Settings(**models, device="cpu", precision="fp32", dtype="float32"))
    return out


@pytest.fixture(scope="session")
def default_embeddings(tmp_path_factory: pytest.TempPathFactory, sample: Path, encoders: Encoders) -> Path:
    """The same as the command makes it without options; read it, never write into it."""
    from cinefuse.extract.job.extraction import extract
    from cinefuse.extract.job.settings import Settings

    out = tmp_path_factory.mktemp("default") / "sample.h5"
    extract(sample, out, Settings(str(encoders.text), str(encoders.image), device="cpu"))
    return out


@pytest.fixture(scope="session")
def small_batches(encoders: Encoders) -> Settings:
    """Settings of an extraction in float32 with several batches of each modality."""
    from cinefuse.extract.job.settings import Settings

    exact = {"device": "cpu", "precision": "fp32", "dtype": "float32"}
    return Settings(str(encoders.text), str(encoders.image), batch_tokens=256, batch_posters=4, **exact)


@pytest.fixture(scope="session")
def small_batches_file(tmp_path_factory: pytest.TempPathFactory, sample: Path, small_batches: Settings) -> Path:
    """What these settings make of the sample catalogue; read it, never write into it."""
    from cinefuse.extract.job.extraction import extract

    out = tmp_path_factory.mktemp("small-batches") / "sample.h5"
    extract(sample, out, small_batches)
    return out


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One thread for PyTorch: more of them add in another order, and other bits come out."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def own_sample(sample: Path, tmp_path: Path) -> Path:
    """A dataset folder that may be changed."""
    return Path(shutil.copytree(sample, tmp_path / "dataset"))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `cinefuse` with these words in this process, as the installed command does."""
    from cinefuse import cli
    from cinefuse.tests.support.commands import Ended, command_of

    monkeypatch.setattr("typer.main.get_command", command_of)

    def run(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["cinefuse", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        printed = capsys.readouterr()
        code = end.value.code or 0
        assert isinstance(code, int)
        return Ended(code, printed.out, printed.err)

    return run


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    """Starts processes of both stages, and of commands, that need not import anything."""
    from cinefuse.tests.support.forked import ForkServer
    from cinefuse.tests.support.jobs import MODULES

    server = ForkServer(*MODULES)
    yield server
    server.close()


@pytest.fixture(scope="module")
def forked(fork_server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> ForkedCommands:
    """Runs `cinefuse` with words in processes of their own."""
    from cinefuse.tests.support.forked import ForkedCommands

    return ForkedCommands(fork_server, tmp_path_factory.mktemp("forked"))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "cinefuse-test", folder]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs root and the right to mount")
    yield folder
    # lazily: a failed test may hold a file open, and its disk must not stay behind
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real browser, for the tests that look at a page in one; skips where there is none.

    One a module: while it runs, Playwright's event loop occupies the thread, and no other test could start one.
    """
    chromium = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("Chromium is not installed: pages are opened in a browser only where it is")
    from cinefuse.tests.support.browser import Browser

    opened = Browser(chromium)
    yield opened
    opened.close()
