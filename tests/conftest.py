"""Fixtures that more than one test file needs: where the real data lies, a small catalogue, small encoders."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("COLUMNS", "120")


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
    """A dataset folder of 40 invented films; read it, never write into it."""
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


@pytest.fixture
def own_sample(sample: Path, tmp_path: Path) -> Path:
    """A dataset folder that may be changed."""
    return Path(shutil.copytree(sample, tmp_path / "dataset"))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "cinefuse-test", folder]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs root and the right to mount")
    yield folder
    subprocess.run(["umount", folder], check=True)


class Browser:
    """A headless chromium, driven over the pipe of its DevTools protocol: nothing but Python is needed for that."""

    def __init__(self, chromium: str, profile: Path) -> None:
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        # the browser speaks on descriptors 3 and 4
        launch = (
            "import fcntl, os, sys\n"
            "ends = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3]]\n"
            "os.dup2(ends[0], 3), os.dup2(ends[1], 4)\n"
            "os.execv(sys.argv[3], sys.argv[3:])"
        )
        switches = (
            "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --disable-sync "
            "--disable-background-networking --disable-component-update --remote-debugging-pipe"
        )
        command = [sys.executable, "-c", launch, str(theirs_in), str(theirs_out), chromium, *switches.split()]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(
            [*command, f"--user-data-dir={profile}", "about:blank"], pass_fds=(theirs_in, theirs_out), **quiet
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._read, self._number, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.do("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.do("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.do(f"{domain}.enable")

    def close(self) -> None:
        self._session = ""
        with contextlib.suppress(AssertionError, OSError):
            self.do("Browser.close")
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def do(self, method: str, **params: Any) -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        os.write(
            self._out, json.dumps(message | ({"sessionId": self._session} if self._session else {})).encode() + b"\0"
        )
        while True:
            answer = self._message()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            assert select.select([self._in], [], [], 60)[0], "the browser has been silent for a minute"
            piece = os.read(self._in, 2**20)
            assert piece, "the browser is gone"
            self._read += piece
        message, self._read = self._read.split(b"\0", 1)
        return dict(json.loads(message))

    def ask(self, script: str) -> Any:
        answer = self.do("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, script: str) -> Any:
        for _ in range(600):
            if found := self.ask(script):
                return found
            time.sleep(0.05)
        raise AssertionError(f"never came true: {script}")

    def open(self, page: Path, hash_: str = "", width: int = 1280, height: int = 860, theme: str = "light") -> None:
        """Show a page in a window of that size, and wait until it is loaded."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.do("Emulation.setDeviceMetricsOverride", **size)
        self.do("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        self.do("Page.navigate", url="about:blank")
        self.events.clear()
        self.do("Page.navigate", url=page.as_uri() + hash_)
        self.until(f"location.href.startsWith({json.dumps(page.as_uri())}) && document.readyState === 'complete'")

    def press(self, *keys: str) -> None:
        for key in keys:
            codes = {"Enter": 13, "Tab": 9, "Escape": 27, "ArrowDown": 40}
            more = {"windowsVirtualKeyCode": codes[key]} if key in codes else {"text": key}
            more |= {"text": "\r"} if key == "Enter" else {}
            self.do("Input.dispatchKeyEvent", type="keyDown", key=key, **more)
            self.do("Input.dispatchKeyEvent", type="keyUp", key=key)

    def click(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            self.do("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def told(self, method: str) -> list[dict[str, Any]]:
        """What the browser said by itself since the page was opened."""
        return [event["params"] for event in self.events if event.get("method") == method]

    @property
    def complaints(self) -> list[Any]:
        kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        return [said for kind in kinds for said in self.told(kind)]

    @property
    def requests(self) -> set[str]:
        """Every address that was asked for, without the data that a page holds itself."""
        sent = [said["request"]["url"] for said in self.told("Network.requestWillBeSent")]
        return {url.split("#")[0] for url in sent if not url.startswith("data:")}


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A real browser, for the tests that look at a page in one; skips where there is none."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium here: the page is looked at in a browser only where there is one")
    opened = Browser(chromium, tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()
