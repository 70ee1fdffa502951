"""No password, token or signature is shown, recorded or sent to another server."""

from __future__ import annotations

import io
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from cinefuse.data.remote.address import redacted
from cinefuse.data.remote.retry import Retry
from cinefuse.data.remote.web_file import Redirects, WebFile
from cinefuse.data.runtime.errors import BadInput, CinefuseError
from cinefuse.tests.support.embedding_files import names
from cinefuse.tests.support.faulty_file_server import LOGIN, SIGNATURE, TEXT, Web, bring, unavailable


def test_no_secret_of_an_address_is_written_or_told(file: Path, web: Web, tmp_path: Path) -> None:
    url = web.serve(file.read_bytes()).replace("//", f"//{LOGIN}@") + f"?{SIGNATURE}"
    pulled = bring(url, tmp_path / "part.h5", TEXT)
    assert web.authorizations[0] == "Basic cmVhZGVyOm9wZW5zZXNhbWU="
    web.spoil = unavailable
    with pytest.raises(CinefuseError) as refusal:
        bring(url, tmp_path / "whole.h5", tries=1)
    shown = [str(refusal.value), repr(pulled)]
    shown += [path.read_bytes().decode("latin-1") for path in tmp_path.iterdir()]
    assert {"part.h5", "whole.h5.part.json"} <= set(names(tmp_path))
    for text in shown:
        assert "opensesame" not in text
        assert "f00dfeed" not in text


def test_a_command_that_fails_shows_no_secret(web: Web, tmp_path: Path) -> None:
    url = web.url.replace("//", f"//{LOGIN}@") + f"/gone.h5?{SIGNATURE}"
    for command, code in ((["pull", url, "out.h5"], 3), (["push", "films.h5", url], 2)):
        done = subprocess.run(
            [sys.executable, "-m", "cinefuse.cli", "cache", *command],
            cwd=tmp_path,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code
        assert len(done.stderr.splitlines()) == 1
        assert "opensesame" not in done.stderr
        assert "f00dfeed" not in done.stderr


@pytest.mark.parametrize(
    "text",
    [
        "https://me:SECRET@host/f.h5",
        "https://SECRET@host/f.h5",
        "https://me:SECRET/with/slash@host/f.h5",
        "https://host/f.h5?sig=SECRET",
        "https://host/f.h5#SECRET",
        "gone: 'https://host/f.h5?X-Goog-Signature=SECRET' (403)",
        "Authorization: Bearer SECRET",
        "hf_SECRETSECRETSECRET",
        "sftp://me:SECRET@host:22/f.h5",
        "the key AKIASECRETSECRET99 is unknown",
        "wrong ThisIsMyOwnSecret",
    ],
)
def test_what_is_shown_holds_no_secret(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "ThisIsMyOwnSecret")
    shown = redacted(text)
    assert "SECRET" not in shown
    assert "ThisIsMyOwnSecret" not in shown
    assert redacted(shown) == shown


@pytest.mark.parametrize(
    "text", ["https://host:8080/a@b/f.h5", "s3://bucket/key.h5", "hf://datasets/o/n@main/f.h5", "12:30 a@b"]
)
def test_what_is_no_secret_is_shown(text: str) -> None:
    assert redacted(text) == text


def test_a_login_stays_with_its_server(file: Path, web: Web, tmp_path: Path) -> None:
    web.serve(file.read_bytes(), "redirected.h5")
    elsewhere = web.url.replace("127.0.0.1", "localhost") + "/redirected.h5"
    for target, allowed in ((elsewhere, None), ("/redirected.h5", "Basic cmVhZGVyOm9wZW5zZXNhbWU=")):
        web.redirect, web.authorizations = target, []
        WebFile(web.url.replace("//", f"//{LOGIN}@") + "/films.h5", Retry(1, 0))
        assert web.authorizations == ["Basic cmVhZGVyOm9wZW5zZXNhbWU=", allowed]


@pytest.mark.parametrize(
    ("target", "shown"),
    [("file:///etc/passwd", "302"), ("data:,CINEFUSE", "302"), ("ftp://127.0.0.1/films.h5", "not followed")],
)
def test_a_redirect_out_of_the_web_is_not_followed(web: Web, target: str, shown: str) -> None:
    web.redirect = target
    with pytest.raises(BadInput, match=shown):
        WebFile(web.url + "/films.h5", Retry(1, 0))


def test_a_redirect_from_https_to_http_is_not_followed() -> None:
    request = urllib.request.Request("https://127.0.0.1/films.h5?sig=f00dfeed")
    target = "http://127.0.0.1/films.h5?sig=f00dfeed"
    with pytest.raises(BadInput, match="not followed") as refusal:
        Redirects().redirect_request(request, io.BytesIO(), 302, "Found", {}, target)
    assert "f00dfeed" not in str(refusal.value)
