"""Laws of pushing to and pulling from the Hub, against a stand-in on loopback that speaks the routes it takes.

The stand-in was written after what huggingface_hub sends. Uploads go by Git LFS here; Xet, the Hub's newer storage, is
switched off: nothing on loopback speaks it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import numpy as np
import pytest

from cinefuse.data.embeddings.file import EmbeddingFile
from cinefuse.data.embeddings.format.layout import ModalityLayout
from cinefuse.data.embeddings.rows import RowWriter
from cinefuse.data.embeddings.status import Status
from cinefuse.data.embeddings.verification import verify
from cinefuse.data.remote.retry import Retry
from cinefuse.data.runtime.errors import BadInput, DamagedFile, UsageError
from cinefuse.data.sharing.pull import pull
from cinefuse.data.sharing.push import push
from cinefuse.data.sharing.selection import Selection
from cinefuse.tests.support.loopback import Quiet, serving

TOKEN = "hf_opensesameopensesame"
REPO = "films/embeddings"
PUSHED_TO = f"hf://datasets/{REPO}"
RETRY = Retry(2, 0)

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # how huggingface_hub calls httpx2


@dataclass
class Hub:
    """Repositories as {name: {commit: {path: bytes}}}, the newest commit last; what was asked and uploaded."""

    url: str = ""
    storage: str = ""
    repos: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    uploads: int = 0
    spoil: bool = False
    busy: list[int] = field(default_factory=list)
    seen_by_storage: list[str | None] = field(default_factory=list)

    def commit(self, repo: str, revision: str) -> str | None:
        commits = self.repos[repo]
        return next(reversed(list(commits)), None) if revision == "main" else revision if revision in commits else None


def hub_handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(Quiet, BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(content)

        def tell(self, value: object, status: int = 200) -> None:
            self.answer(status, json.dumps(value).encode(), Content_Type="application/json")

        def missing(self, what: str) -> None:
            self.answer(404, b'{"error": "not found"}', X_Error_Code=what)

        def repo(self, name: str) -> bool:
            """Whether there is such a repository that the one who asks may see."""
            return name in hub.repos and self.headers.get("Authorization") == f"Bearer {TOKEN}"

        def do_HEAD(self) -> None:
            self.answer(404)

        def do_GET(self) -> None:
            path = unquote(self.path.partition("?")[0])
            if path.startswith("/api/datasets/") and hub.busy:
                if (status := hub.busy.pop(0)) == 403:
                    return self.answer(403, b"{}", X_Error_Code="GatedRepo")
                return self.answer(status, b"<!DOCTYPE html><html>sorry</html>", Retry_After="0")
            if found := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(?:/revision/(.+))?", path):
                if not self.repo(found[1]):
                    return self.missing("RepoNotFound")
                commit = hub.commit(found[1], found[2] or "main")
                if commit is None and found[2]:
                    return self.missing("RevisionNotFound")
                names = hub.repos[found[1]].get(commit or "", {})
                return self.tell(
                    {"id": found[1], "sha": commit, "siblings": [{"rfilename": n} for n in names], "tags": []}
                )
            if found := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                if not self.repo(found[1]):
                    return self.missing("RepoNotFound")
                content = hub.repos[found[1]].get(found[2], {}).get(found[3])
                if content is None:
                    return self.missing("EntryNotFound")
                digest = hashlib.sha256(content).hexdigest()
                hub.objects[digest] = content
                return self.answer(302, Location=f"{hub.storage}/{digest}?X-Amz-Signature=f00dfeed")
            if path.strip("/") not in hub.objects:
                return self.answer(404)
            hub.seen_by_storage.append(self.headers.get("Authorization"))
            return self.range_of(hub.objects[path.strip("/")])

        def range_of(self, content: bytes) -> None:
            wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            etag = hashlib.md5(content).hexdigest()
            if not wanted:
                return self.answer(200, content, ETag=etag)
            start, last = int(wanted[1]), min(int(wanted[2] or len(content)), len(content) - 1)
            headers = {"ETag": etag, "Content_Range": f"bytes {start}-{last}/{len(content)}"}
            part = content[start : last + 1]
            return self.answer(206, bytes(len(part)) if hub.spoil and start else part, **headers)

        def do_PUT(self) -> None:
            hub.uploads += 1
            hub.objects[self.path.rpartition("/")[2]] = self.body()
            self.answer(200, ETag="x")

        def do_POST(self) -> None:
            body = self.body()
            if self.path == "/api/repos/create":
                asked = json.loads(body)
                name = f"{asked['organization']}/{asked['name']}"
                hub.repos.setdefault(name, {})
                hub.private[name] = asked.get("visibility") == "private" or asked.get("private") is True
                return self.tell({"url": f"{hub.url}/datasets/{name}"})
            if self.path == "/api/validate-yaml":
                return self.tell({"warnings": [], "errors": []})
            if found := re.fullmatch(r"/datasets/([^/]+/[^/]+)\.git/info/lfs/objects/batch", self.path):
                return self.tell({"transfer": "basic", "objects": [self.batch(o) for o in json.loads(body)["objects"]]})
            found = re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/(preupload|commit|paths-info)/(.+)", self.path)
            if not found or not self.repo(found[1]):
                return self.missing("RepoNotFound")
            return getattr(self, found[2].replace("-", "_"))(found[1], unquote(found[3]), body)

        def batch(self, wanted: dict[str, Any]) -> dict[str, Any]:
            if wanted["oid"] in hub.objects:
                return wanted
            return wanted | {"actions": {"upload": {"href": f"{hub.url}/lfs/{wanted['oid']}"}}}

        def preupload(self, repo: str, revision: str, body: bytes) -> None:
            files = [
                {
                    "path": f["path"],
                    "uploadMode": "lfs" if f["path"].endswith(".h5") else "regular",
                    "shouldIgnore": False,
                }
                for f in json.loads(body)["files"]
            ]
            self.tell({"files": files})

        def commit(self, repo: str, revision: str, body: bytes) -> None:
            before = hub.commit(repo, revision)
            files = dict(hub.repos[repo].get(before or "", {}))
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "lfsFile":
                    files[line["value"]["path"]] = hub.objects[line["value"]["oid"]]
                elif line["key"] == "file":
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            oid = hashlib.sha1(body + str(before).encode()).hexdigest()
            hub.repos[repo][oid] = files
            self.tell({"commitUrl": f"{hub.url}/datasets/{repo}/commit/{oid}", "commitOid": oid, "success": True})

        def paths_info(self, repo: str, revision: str, body: bytes) -> None:
            commit = hub.commit(repo, revision)
            files = hub.repos[repo].get(commit or "", {})
            wanted = parse_qs(body.decode()).get("paths", [])
            self.tell([self.described(path, files[path]) for path in wanted if path in files])

        def described(self, path: str, content: bytes) -> dict[str, Any]:
            lfs = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
            entry = {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
            return entry | ({"lfs": lfs} if path.endswith(".h5") else {})

    return Handler


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    state = Hub()
    with serving(hub_handler(state)) as port:
        state.url, state.storage = f"http://127.0.0.1:{port}", f"http://localhost:{port}"
        yield state


@pytest.fixture
def hub(server: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    """The Hub without repositories, and this process signed in to it."""
    from huggingface_hub import constants

    server.__dict__.update(Hub(url=server.url, storage=server.storage).__dict__)
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    return server


def drawn(path: Path, seed: int = 0) -> Path:
    """A finished embedding file of drawn values."""
    rng, rows = np.random.default_rng(seed), 200
    layout = ModalityLayout(
        {"model": "drawn", "fingerprint": {}},
        32,
        "float32",
        np.full(rows, 12),
        rng.integers(0, 256, (rows, 32), np.uint8),
        np.arange(rows, dtype=np.int32),
    )
    with EmbeddingFile.create(path, np.arange(rows), {"image": layout}, {}) as file, RowWriter(file) as to:
        for row in range(rows):
            values = rng.standard_normal((13, 32)).astype(np.float32)
            to.write("image", row, values[0], values[1:], Status.OK)
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn(tmp_path_factory.mktemp("drawn") / "films.h5")


def test_a_file_pushed_to_the_hub_comes_back_whole_and_in_part(hub: Hub, file: Path, tmp_path: Path) -> None:
    (tmp_path / "card.md").write_text("---\nlicense: cc0-1.0\n---\n# Films\n")
    pushed = push(file, PUSHED_TO, card=tmp_path / "card.md")
    assert pushed.address == f"{PUSHED_TO}/films.h5"
    assert "the SHA-256 that the Hub reports" in pushed.proof
    [files] = hub.repos[REPO].values()
    assert sorted(files) == ["README.md", "films.h5", "films.h5.sha256"]
    whole = pull(f"{PUSHED_TO}/films.h5", tmp_path / "whole.h5", retry=RETRY)
    assert (tmp_path / "whole.h5").read_bytes() == file.read_bytes()
    assert "films.h5.sha256 and the store" in whole.proof
    part = pull(PUSHED_TO, tmp_path / "part.h5", Selection(("image",), "cls"), retry=RETRY)
    assert verify(tmp_path / "part.h5").complete
    assert "the SHA-256 of image/cls" in part.proof
    assert part.received < file.stat().st_size / 3


def test_a_repository_without_a_card_gets_one_and_a_card_that_is_there_stays(
    hub: Hub, file: Path, tmp_path: Path
) -> None:
    push(file, REPO)
    [files] = hub.repos[REPO].values()
    assert files["README.md"].startswith(b"---\n")
    assert REPO.encode() in files["README.md"]
    files["README.md"] = b"# Written by hand\n"
    push(drawn(tmp_path / "films.h5", seed=1), REPO, overwrite=True)
    assert list(hub.repos[REPO].values())[-1]["README.md"] == b"# Written by hand\n"


def test_what_is_recorded_names_the_commit_and_no_token_nor_signature(hub: Hub, file: Path, tmp_path: Path) -> None:
    push(file, REPO)
    [commit] = hub.repos[REPO]
    pull(PUSHED_TO, tmp_path / "part.h5", Selection(("image",), "cls"), retry=RETRY)
    with EmbeddingFile.open(tmp_path / "part.h5") as part:
        assert part.header.about["lineage"][-1]["with"]["source"] == f"hf://datasets/{REPO}@{commit}/films.h5"
    content = (tmp_path / "part.h5").read_bytes()
    assert TOKEN.encode() not in content
    assert b"f00dfeed" not in content


def test_the_token_is_not_sent_to_where_the_hub_redirects(hub: Hub, file: Path, tmp_path: Path) -> None:
    push(file, REPO)
    pull(PUSHED_TO, tmp_path / "whole.h5", retry=RETRY)
    assert set(hub.seen_by_storage) == {None}


def test_an_older_revision_is_still_there(hub: Hub, file: Path, tmp_path: Path) -> None:
    push(file, REPO)
    [first] = hub.repos[REPO]
    push(drawn(tmp_path / "films.h5", seed=1), REPO, overwrite=True)
    pull(f"{PUSHED_TO}@{first}/films.h5", tmp_path / "old.h5", retry=RETRY)
    assert (tmp_path / "old.h5").read_bytes() == file.read_bytes()


def test_a_new_repository_is_private_unless_asked_otherwise(hub: Hub, file: Path) -> None:
    push(file, "films/mine")
    push(file, "films/everyones", public=True)
    assert hub.private == {"films/mine": True, "films/everyones": False}


def test_bytes_that_the_hub_has_are_not_sent_again(hub: Hub, file: Path, tmp_path: Path) -> None:
    push(file, REPO)
    assert hub.uploads == 1
    assert push(file, REPO).already
    assert len(hub.repos[REPO]) == 1
    other = drawn(tmp_path / "films.h5", seed=1)
    with pytest.raises(BadInput, match="another file is there already"):
        push(other, REPO)
    push(other, REPO, overwrite=True)
    assert hub.uploads == 2


def test_bytes_that_the_hub_spoils_are_refused(hub: Hub, file: Path, tmp_path: Path) -> None:
    push(file, REPO)
    hub.spoil = True
    (tmp_path / "out").mkdir()
    with pytest.raises(DamagedFile, match="SHA-256"):
        pull(PUSHED_TO, tmp_path / "out" / "out.h5", retry=RETRY)
    assert list((tmp_path / "out").iterdir()) == []


def test_what_is_not_there_is_told_in_one_line_without_the_token(
    hub: Hub, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(file, REPO)
    reasons = {
        "hf://datasets/films/nothing/films.h5": "no such dataset",
        f"{PUSHED_TO}/nothing.h5": "no such file",
        f"{PUSHED_TO}@nothing/films.h5": "no such revision",
    }
    for address, reason in reasons.items():
        with pytest.raises(BadInput, match=reason) as refusal:
            pull(address, tmp_path / "out.h5", retry=RETRY)
        assert "\n" not in str(refusal.value)
        assert TOKEN not in str(refusal.value)
    monkeypatch.setenv("HF_TOKEN", "hf_anotheronesaltogether")
    with pytest.raises(BadInput, match="no such dataset, or your token may not see it"):
        pull(f"{PUSHED_TO}/films.h5", tmp_path / "out.h5", retry=RETRY)


def test_a_busy_hub_is_asked_again_and_one_that_stays_so_ends_in_one_line(hub: Hub, file: Path, tmp_path: Path) -> None:
    push(file, f"{PUSHED_TO}/films.h5")
    hub.busy = [429, 503]
    assert pull(f"{PUSHED_TO}/films.h5", tmp_path / "out.h5", retry=Retry(3, 0)).received
    hub.busy = [503] * 9
    with pytest.raises(BadInput, match=r"3 attempts in a row failed \(last: the hub answers 503\); nothing arrived"):
        pull(f"{PUSHED_TO}/films.h5", tmp_path / "other.h5", retry=Retry(3, 0))
    hub.busy = [403]
    with pytest.raises(
        BadInput, match=f"it is gated: accept its terms at {hub.url}/datasets/{REPO}, then set HF_TOKEN"
    ):
        pull(f"{PUSHED_TO}/films.h5", tmp_path / "other.h5", retry=Retry(3, 0))
    hub.busy = [200]
    with pytest.raises(BadInput, match="a web page came, not the Hub; log in to this network"):
        pull(f"{PUSHED_TO}/films.h5", tmp_path / "other.h5", retry=Retry(3, 0))


def test_a_repository_of_several_files_asks_which(hub: Hub, file: Path, tmp_path: Path) -> None:
    push(file, f"{PUSHED_TO}/one.h5")
    push(file, f"{PUSHED_TO}/two.h5")
    with pytest.raises(UsageError, match="which file"):
        pull(PUSHED_TO, tmp_path / "out.h5", retry=RETRY)


def test_the_commands_speak_to_the_hub(hub: Hub, file: Path, tmp_path: Path) -> None:
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    for command in (["push", str(file), REPO], ["pull", PUSHED_TO, str(tmp_path / "out.h5"), "--only", "image/cls"]):
        done = subprocess.run(
            [sys.executable, "-m", "cinefuse.cli", "cache", *command],
            check=False,
            capture_output=True,
            text=True,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        assert TOKEN not in done.stdout + done.stderr
    assert verify(tmp_path / "out.h5").complete
