"""The file, the web server and the stores that the tests of push and pull share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cinefuse.tests.support.faulty_file_server import Web, drawn, web_handler
from cinefuse.tests.support.loopback import serving


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished embedding file of half a megabyte."""
    return drawn(tmp_path_factory.mktemp("drawn") / "films.h5")


@pytest.fixture(scope="module")
def server() -> Iterator[Web]:
    state = Web()
    with serving(web_handler(state)) as port:
        state.url = f"http://127.0.0.1:{port}"
        yield state


@pytest.fixture
def web(server: Web) -> Web:
    """The server as a well-behaved one that serves nothing yet."""
    fresh = Web(url=server.url)
    server.__dict__.update(fresh.__dict__)
    return server


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket of moto's S3 server."""
    moto = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "127.0.0.1")
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "reader-key-id")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "reader-secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem(use_listings_cache=False).mkdir("films")
        yield "s3://films"
    running.stop()


@pytest.fixture(params=["s3", "file", "path"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An address to push to, in each kind of store."""
    if request.param == "s3":
        return f"{request.getfixturevalue('bucket')}/{tmp_path.name}/shared.h5"
    return ("file://" if request.param == "file" else "") + str(tmp_path / "elsewhere" / "shared.h5")
